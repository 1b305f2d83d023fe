//! Users, groups and who belongs to them. A change of membership recomputes what the devices concerned should have, in the same transaction.

use serde_json::json;

use super::desired::{Changed, recompute_in};
use super::{Error, Result, push};
use crate::app::App;
use crate::domain::Refusal;
use crate::domain::audit::Entry;
use crate::domain::group::{Group, Member};
use crate::domain::user::User;
use crate::ids::{GroupId, UserId};
use crate::store::targets::{Turn, take_turn};
use crate::store::{self, assignments, audit, compliance, devices, groups, users};

/// On whose behalf something is done, for the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    /// As in [`Entry::actor`].
    pub actor: String,
    /// As in [`Entry::origin`].
    pub origin: String,
}

impl By {
    /// Somebody at the command line of the server's own machine.
    #[must_use]
    pub fn local(actor: &str) -> Self {
        Self { actor: actor.to_owned(), origin: "local".into() }
    }

    /// An audit entry in their name.
    #[must_use]
    pub fn entry(&self, action: &'static str, target: String) -> Entry {
        Entry::new(self.actor.clone(), action, target, self.origin.clone())
    }
}

/// Checks a name for people.
pub(super) fn check_name(name: &str) -> Result<()> {
    let length = name.chars().count();
    let formed = (1..=128).contains(&length) && name.trim() == name && !name.chars().any(char::is_control);
    if formed { Ok(()) } else { Err(Error::Invalid(Refusal::NameInvalid, name.chars().take(64).collect())) }
}

/// Checks what a person is called.
pub(super) fn check_user(user: &User) -> Result<()> {
    check_name(&user.display_name)?;
    let formed = user.upn.len() <= 256
        && !user.upn.chars().any(|c| c.is_control() || c.is_whitespace())
        && user.upn.split_once('@').is_some_and(|(name, domain)| !name.is_empty() && !domain.is_empty() && !domain.contains('@'));
    if formed { Ok(()) } else { Err(Error::Invalid(Refusal::UserNameInvalid, user.upn.chars().take(64).collect())) }
}

fn shown(user: &User) -> serde_json::Value {
    serde_json::to_value(user).unwrap_or_default()
}

/// Creates a user.
///
/// # Errors
/// `USR0012`, `PRF0004`, `USR0013`.
pub async fn create_user(app: &App, user: User, by: &By) -> Result<User> {
    check_user(&user)?;
    let (by, now, row) = (by.clone(), app.now(), user.clone());
    app.store
        .write(move |tx| {
            users::insert_user(tx, &row, now)?;
            audit::append(tx, &by.entry("user.create", format!("user:{}", row.id)).after(&shown(&row)), now)
        })
        .await?;
    Ok(User { upn: user.upn.to_lowercase(), ..user })
}

/// Changes a user. Sign-ins and enrolments read the row and go by it at once, on every node. The user's devices are judged anew before this
/// returns: a disabled user fails the built-in rule "enrolled user exists".
///
/// # Errors
/// `USR0012`, `PRF0004`, `USR0013`; [`Error::NotFound`].
pub async fn update_user(app: &App, user: User, by: &By) -> Result<()> {
    check_user(&user)?;
    let (by, now, id) = (by.clone(), app.now(), user.id.clone());
    let switched = app
        .store
        .write(move |tx| {
            take_turn(tx, Turn::Shared)?;
            let before = users::load_user(tx.conn(), &user.id)?;
            users::update_user(tx, &user, now)?;
            if before.enabled != user.enabled {
                compliance::update_due_of_user(tx, &user.id, now)?;
            }
            let entry = by.entry("user.update", format!("user:{}", user.id)).before(&shown(&before)).after(&shown(&user));
            audit::append(tx, &entry, now)?;
            Ok(before.enabled != user.enabled)
        })
        .await?;
    if switched && let Err(error) = super::compliance::run_due_of_user(app, &id).await {
        // It is done all the same: the job judges them.
        tracing::warn!(%error, user = %id, "the user's devices are judged later");
    }
    Ok(())
}

/// Lets a user sign in, or not any more.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn enable_user(app: &App, id: &UserId, enabled: bool, by: &By) -> Result<()> {
    let id = id.clone();
    let user = app.store.read(move |conn| users::load_user(conn, &id)).await?;
    update_user(app, User { enabled, ..user }, by).await
}

/// Deletes a user who has neither devices nor certificates.
///
/// # Errors
/// `USR0010` when devices, enrolments or certificates name the user; [`Error::NotFound`].
pub async fn delete_user(app: &App, id: &UserId, by: &By) -> Result<()> {
    let (id, by, now) = (id.clone(), by.clone(), app.now());
    let done = app
        .store
        .write(move |tx| {
            take_turn(tx, Turn::Shared)?;
            let before = users::load_user(tx.conn(), &id)?;
            groups::delete_memberships(tx, &Member::User(id.clone()))?;
            users::delete_user(tx, &id)?;
            audit::append(tx, &by.entry("user.delete", format!("user:{id}")).before(&shown(&before)), now)
        })
        .await;
    match done {
        Err(store::Error::Conflict(_)) => Err(Error::Refused(Refusal::UserInUse)),
        other => Ok(other?),
    }
}

/// Creates a group.
///
/// # Errors
/// `PRF0004`, `USR0014`.
pub async fn create_group(app: &App, display_name: &str, description: &str, by: &By) -> Result<Group> {
    check_name(display_name)?;
    let group = Group { id: GroupId::new(), display_name: display_name.to_owned(), description: description.to_owned() };
    let (by, now, row) = (by.clone(), app.now(), group.clone());
    app.store
        .write(move |tx| {
            groups::insert_group(tx, &row, now)?;
            audit::append(tx, &by.entry("group.create", format!("group:{}", row.id)).after(&json!(row)), now)
        })
        .await?;
    Ok(group)
}

/// Changes a group's name and description.
///
/// # Errors
/// `PRF0004`, `USR0014`; [`Error::NotFound`].
pub async fn update_group(app: &App, group: Group, by: &By) -> Result<()> {
    check_name(&group.display_name)?;
    let (by, now) = (by.clone(), app.now());
    app.store
        .write(move |tx| {
            let before = groups::load_group(tx.conn(), &group.id)?;
            groups::update_group(tx, &group)?;
            let entry = by.entry("group.update", format!("group:{}", group.id)).before(&json!(before)).after(&json!(group));
            audit::append(tx, &entry, now)
        })
        .await?;
    Ok(())
}

/// Deletes a group and the assignments to it.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn delete_group(app: &App, id: &GroupId, by: &By) -> Result<()> {
    let (id, by, now, push) = (id.clone(), by.clone(), app.now(), push::wns::enabled(&app.config));
    app.store
        .write(move |tx| {
            take_turn(tx, Turn::Shared)?;
            let before = groups::load_group(tx.conn(), &id)?;
            let profiles = assignments::list_profiles_of_group(tx.conn(), &id)?;
            groups::delete_group(tx, &id)?;
            for profile in &profiles {
                recompute_in(tx, Changed::Profile(profile), push, now)?;
            }
            audit::append(tx, &by.entry("group.delete", format!("group:{id}")).before(&json!(before)), now)
        })
        .await?;
    app.outbox.notify_waiters();
    Ok(())
}

/// Adds members to a group. Those that belong to it already stay.
///
/// # Errors
/// `USR0011` when a member does not exist; [`Error::NotFound`] when the group does not.
pub async fn add_members(app: &App, group: &GroupId, members: Vec<Member>, by: &By) -> Result<usize> {
    change_members(app, group, members, by, true).await
}

/// Takes members out of a group.
///
/// # Errors
/// [`Error::NotFound`] when the group does not exist.
pub async fn remove_members(app: &App, group: &GroupId, members: Vec<Member>, by: &By) -> Result<usize> {
    change_members(app, group, members, by, false).await
}

/// From how many members on the group's profiles are recomputed for all devices at once instead of device by device.
const MANY: usize = 20;

async fn change_members(app: &App, group: &GroupId, members: Vec<Member>, by: &By, add: bool) -> Result<usize> {
    let (group, by, now, push) = (group.clone(), by.clone(), app.now(), push::wns::enabled(&app.config));
    let changed = app
        .store
        .write(move |tx| {
            take_turn(tx, Turn::Shared)?;
            groups::load_group(tx.conn(), &group)?;
            let mut changed = Vec::new();
            for member in &members {
                let moved = if add {
                    let known = match member {
                        Member::User(id) => users::load_user(tx.conn(), id).map(|_| ()),
                        Member::Device(id) => devices::load_device(tx.conn(), id).map(|_| ()),
                    };
                    known.map_err(|error| match error {
                        store::Error::NotFound => Refusal::GroupMemberUnknown.into(),
                        other => other,
                    })?;
                    groups::insert_member(tx, &group, member, now)?
                } else {
                    groups::delete_member(tx, &group, member)?
                };
                if moved {
                    changed.push(member);
                }
            }
            if changed.is_empty() {
                return Ok(0);
            }
            if changed.len() > MANY {
                recompute_in(tx, Changed::Group(&group), push, now)?;
            } else {
                for member in &changed {
                    let member = match member {
                        Member::User(id) => Changed::User(id),
                        Member::Device(id) => Changed::Device(id),
                    };
                    recompute_in(tx, member, push, now)?;
                }
            }
            let action = if add { "group.add-members" } else { "group.remove-members" };
            audit::append(tx, &by.entry(action, format!("group:{group}")).after(&json!(changed)), now)?;
            Ok(changed.len())
        })
        .await?;
    app.outbox.notify_waiters();
    Ok(changed)
}
