//! Users, groups and who belongs to them. A change of membership recomputes what the devices concerned should have, in the same transaction.

use std::convert::Infallible;

use serde_json::json;

pub mod deleted;
pub mod follow;
pub mod import;
pub mod members;
pub mod provision;
pub mod rules;

use self::members::Change;
use super::desired::{Changed, recompute_in};
use super::identity::break_glass;
use super::page::{self, Found, find};
use super::{Error, Result, push, role};
use crate::app::App;
use crate::clock::Time;
use crate::domain::Refusal;
use crate::domain::access::{Principal, Reach};
use crate::domain::audit::Entry;
use crate::domain::device::Device;
use crate::domain::group::rule::Subject;
use crate::domain::group::{Group, Member};
use crate::domain::user::{LONGEST_DETAIL, User};
use crate::ids::{DeviceId, GroupId, UserId};
use crate::store::odata::Within;
use crate::store::targets::{Turn, take_turn};
use crate::store::{
    self, Conn, Tx, audit, autopilot, compliance, deleted_members, devices, enrollment_tokens, group_rules, groups, roles, taps, users,
    web_sessions,
};
use crate::wire::odata::query::Query;

/// On whose behalf something is done, for the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    /// As in [`Entry::actor`].
    pub actor: String,
    /// As in [`Entry::origin`].
    pub origin: String,
}

impl From<&Self> for By {
    fn from(by: &Self) -> Self {
        by.clone()
    }
}

/// Somebody on the server's own machine, by the audit log's name for them.
impl From<&str> for By {
    fn from(actor: &str) -> Self {
        Self::local(actor)
    }
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
    if !formed {
        return Err(Error::Invalid(Refusal::UserNameInvalid, user.upn.chars().take(64).collect()));
    }
    let long = |text: &&str| text.chars().count() > LONGEST_DETAIL || text.chars().any(char::is_control);
    match user.details.values().find(long) {
        Some(text) => Err(Error::Invalid(Refusal::NameInvalid, text.chars().take(64).collect())),
        None => Ok(()),
    }
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
    app.store.write(move |tx| insert_user_in(tx, &row, &by, now)).await?;
    Ok(User { upn: user.upn.to_lowercase(), ..user })
}

/// Changes a user as they are when it is their turn: `change` says what becomes of them, or why nothing does; it may look at what else the
/// database has. What stays the same writes nothing. Sign-ins and enrolments read the row and go by it at once, on every node. The user's
/// devices are judged anew before this returns: a disabled user fails the built-in rule "enrolled user exists".
///
/// # Errors
/// `USR0012`, `PRF0004`, `USR0013`, `USR0015`; `ACC0009` when nobody would be left who may do everything; [`Error::NotFound`]; what `change`
/// says, inside.
pub async fn change_user<E, F>(app: &App, id: &UserId, by: &By, change: F) -> Result<std::result::Result<(), E>>
where
    E: Send + 'static,
    F: Fn(&mut Conn, &User) -> store::Result<std::result::Result<User, E>> + Send + 'static,
{
    let (user, by, now, push) = (id.clone(), by.clone(), app.now(), push::wns::enabled(&app.config));
    let outcome = app
        .store
        .write(move |tx| {
            take_turn(tx, Turn::Shared)?;
            users::lock_user(tx, &user)?;
            let before = users::load_present_user(tx.conn(), &user)?;
            let mut after = match change(tx.conn(), &before)? {
                Ok(after) => after,
                Err(error) => return Ok(Err(Stop::Change(error))),
            };
            after.upn = after.upn.to_lowercase();
            if after == before {
                return Ok(Ok(false));
            }
            if let Err(error) = check_user(&after) {
                return Ok(Err(Stop::Refused(error)));
            }
            update_user_in(tx, &before, &after, &by, push, now).map(Ok)
        })
        .await?;
    match outcome {
        Ok(switched) => {
            app.outbox.notify_waiters();
            if switched {
                judge(app, id).await;
            }
            Ok(Ok(()))
        }
        Err(Stop::Change(error)) => Ok(Err(error)),
        Err(Stop::Refused(error)) => Err(error),
    }
}

/// Why a transaction wrote nothing.
enum Stop<E> {
    /// The caller says so.
    Change(E),
    /// What would come of it is not taken.
    Refused(Error),
}

/// Writes a user over what was, in the caller's transaction, and says whether the user was enabled or disabled: then their devices are to be
/// judged.
fn update_user_in(tx: &mut Tx<'_>, before: &User, user: &User, by: &By, push: bool, now: Time) -> store::Result<bool> {
    users::update_user(tx, user, now)?;
    if group_rules::follow(tx, Subject::User, user.id.as_str(), now)? > 0 {
        recompute_in(tx, Changed::User(&user.id), push, now)?;
    }
    if before.enabled && !user.enabled && role::is_administrator(tx, &user.id)? {
        role::check_administrators(tx)?;
    }
    if before.enabled && !user.enabled {
        break_glass::check_not_named(tx, &user.id)?;
        web_sessions::delete_of_user(tx, &user.id)?;
    }
    if before.enabled != user.enabled {
        compliance::update_due_of_user(tx, &user.id, now)?;
    }
    let entry = by.entry("user.update", format!("user:{}", user.id)).before(&shown(before)).after(&shown(user));
    audit::append(tx, &entry, now)?;
    Ok(before.enabled != user.enabled)
}

fn insert_user_in(tx: &mut Tx<'_>, user: &User, by: &By, now: Time) -> store::Result<()> {
    users::insert_user(tx, user, now)?;
    group_rules::follow(tx, Subject::User, user.id.as_str(), now)?;
    audit::append(tx, &by.entry("user.create", format!("user:{}", user.id)).after(&shown(user)), now)
}

/// Judges a user's devices anew.
async fn judge(app: &App, id: &UserId) {
    if let Err(error) = super::compliance::run_due_of_user(app, id).await {
        // What was changed is changed all the same: the job judges them.
        tracing::warn!(%error, user = %id, "the user's devices are judged later");
    }
}

/// Lets a user sign in, or not any more.
///
/// # Errors
/// As [`change_user`].
pub async fn enable_user(app: &App, id: &UserId, enabled: bool, by: &By) -> Result<()> {
    let outcome = change_user(app, id, by, move |_, before| Ok(Ok::<_, Infallible>(User { enabled, ..before.clone() }))).await?;
    outcome.map_err(|never| match never {})
}

/// Deletes a user, who can be restored for a while ([`deleted`]). Sessions, passes and tokens end, and roles, which do not come back; devices
/// stay, and are judged anew before this returns.
///
/// # Errors
/// `ACC0009`, `USR0015`; [`Error::NotFound`].
pub async fn delete_user(app: &App, id: &UserId, by: &By) -> Result<()> {
    let (user, by, now, push) = (id.clone(), by.clone(), app.now(), push::wns::enabled(&app.config));
    app.store
        .write(move |tx| {
            take_turn(tx, Turn::Shared)?;
            let before = users::load_present_user(tx.conn(), &user)?;
            break_glass::check_not_named(tx, &user)?;
            let administrator = role::is_administrator(tx, &user)?;
            web_sessions::delete_of_user(tx, &user)?;
            taps::delete_taps(tx, &user, now)?;
            enrollment_tokens::delete_of_user(tx, &user)?;
            deleted_members::set_aside_of_user(tx, &user)?;
            roles::delete_memberships(tx, &Principal::User(user.clone()))?;
            users::delete_user(tx, &user, now)?;
            if administrator {
                role::check_administrators(tx)?;
            }
            recompute_in(tx, Changed::User(&user), push, now)?;
            compliance::update_due_of_user(tx, &user, now)?;
            audit::append(tx, &by.entry("user.delete", format!("user:{user}")).before(&shown(&before)), now)
        })
        .await?;
    app.outbox.notify_waiters();
    judge(app, id).await;
    Ok(())
}

/// Creates a group.
///
/// # Errors
/// `PRF0004`, `USR0014`.
pub async fn create_group(app: &App, display_name: &str, description: &str, by: &By) -> Result<Group> {
    create_group_by_rule(app, display_name, description, None, by).await
}

/// Creates a group; with a rule, those belong to it from the start of whom the rule is true.
///
/// # Errors
/// `PRF0004`, `USR0014`; `DIR0002` when the rule is none.
pub async fn create_group_by_rule(app: &App, display_name: &str, description: &str, rule: Option<String>, by: &By) -> Result<Group> {
    let (display_name, description) = (display_name.to_owned(), description.to_owned());
    let group = Group { id: GroupId::new(), display_name, description, rule, external_id: None, mail_nickname: None };
    insert_group(app, group, by).await
}

/// Makes that group.
///
/// # Errors
/// As [`create_group_by_rule`].
pub async fn insert_group(app: &App, group: Group, by: &By) -> Result<Group> {
    check_name(&group.display_name)?;
    rules::check(&group)?;
    let (by, now, row) = (by.clone(), app.now(), group.clone());
    app.store.write(move |tx| create_group_in(tx, &row, &by, now)).await?;
    Ok(group)
}

/// The same within a transaction, of a group that was checked.
pub(super) fn create_group_in(tx: &mut Tx<'_>, group: &Group, by: &By, now: Time) -> store::Result<()> {
    take_turn(tx, Turn::Shared)?;
    groups::insert_group(tx, group, now)?;
    audit::append(tx, &by.entry("group.create", format!("group:{}", group.id)).after(&json!(group)), now)?;
    // It is assigned nothing yet.
    group_rules::follow_all(tx, group, now).map(drop)
}

/// Changes a group's name, description and rule. Another rule makes other members at once, whoever belonged to the group before; without
/// one, those stay who belong to it.
///
/// # Errors
/// `PRF0004`, `USR0014`; `DIR0002` when the rule is none, `DIR0003` when the group gives a role; [`Error::NotFound`].
pub async fn update_group(app: &App, group: Group, by: &By) -> Result<()> {
    update_seen_group(app, None, group, by).await
}

/// The same, of a group that was seen as `seen`.
///
/// # Errors
/// As [`update_group`]; [`Error::Conflict`] when somebody else was faster.
pub async fn update_seen_group(app: &App, seen: Option<Group>, group: Group, by: &By) -> Result<()> {
    check_name(&group.display_name)?;
    rules::check(&group)?;
    let (by, now, push) = (by.clone(), app.now(), push::wns::enabled(&app.config));
    app.store
        .write(move |tx| {
            take_turn(tx, Turn::Shared)?;
            if let Some(seen) = &seen
                && groups::load_group(tx.conn(), &group.id)? != *seen
            {
                return Err(store::Error::Conflict("the group was changed meanwhile; read it again".into()));
            }
            update_group_in(tx, &group, &by, push, now)
        })
        .await?;
    app.outbox.notify_waiters();
    Ok(())
}

/// The same within a transaction, of a group that was checked.
pub(super) fn update_group_in(tx: &mut Tx<'_>, group: &Group, by: &By, push: bool, now: Time) -> store::Result<()> {
    take_turn(tx, Turn::Shared)?;
    let before = groups::load_group(tx.conn(), &group.id)?;
    groups::update_group(tx, group)?;
    if before.rule != group.rule && group.rule.is_some() {
        if !roles::list_roles_of_group(tx.conn(), &group.id)?.is_empty() {
            return Err(Refusal::GroupRuleWithRole.into());
        }
        if group_rules::follow_all(tx, group, now)? > 0 {
            recompute_in(tx, Changed::Group(&group.id), push, now)?;
        }
    }
    let entry = by.entry("group.update", format!("group:{}", group.id)).before(&json!(before)).after(&json!(group));
    audit::append(tx, &entry, now)
}

/// Deletes a group, which can be restored for a while ([`deleted`]). The assignments to it stay, and reach nobody; the roles that it gives end,
/// and do not come back.
///
/// # Errors
/// `ACC0009` when nobody would be left who may do everything; [`Error::NotFound`].
pub async fn delete_group(app: &App, id: &GroupId, by: &By) -> Result<()> {
    let (id, by, now, push) = (id.clone(), by.clone(), app.now(), push::wns::enabled(&app.config));
    app.store.write(move |tx| delete_group_in(tx, &id, &by, push, now)).await?;
    app.outbox.notify_waiters();
    Ok(())
}

/// The same within a transaction.
pub(super) fn delete_group_in(tx: &mut Tx<'_>, id: &GroupId, by: &By, push: bool, now: Time) -> store::Result<()> {
    take_turn(tx, Turn::Shared)?;
    let before = groups::load_group(tx.conn(), id)?;
    let administrators = role::is_of_administrators(tx, id)?;
    groups::delete_group(tx, id, now)?;
    deleted_members::set_aside_of_group(tx, id)?;
    roles::delete_memberships(tx, &Principal::Group(id.clone()))?;
    if administrators {
        role::check_administrators(tx)?;
    }
    recompute_in(tx, Changed::Group(id), push, now)?;
    audit::append(tx, &by.entry("group.delete", format!("group:{id}")).before(&json!(before)), now)
}

/// Adds members to a group. Those that belong to it already stay.
///
/// # Errors
/// `USR0011` when a member does not exist; `DIR0001` when the group goes by a rule; [`Error::NotFound`] when the group does not exist.
pub async fn add_members(app: &App, group: &GroupId, members: Vec<Member>, by: &By) -> Result<usize> {
    change_members(app, group, Change::Add(members), by).await
}

/// Takes members out of a group.
///
/// # Errors
/// `ACC0009` when nobody would be left who may do everything; `DIR0001` when the group goes by a rule; [`Error::NotFound`] when the
/// group does not exist.
pub async fn remove_members(app: &App, group: &GroupId, members: Vec<Member>, by: &By) -> Result<usize> {
    change_members(app, group, Change::Remove(members), by).await
}

async fn change_members(app: &App, group: &GroupId, change: Change, by: &By) -> Result<usize> {
    let (group, by, now, push) = (group.clone(), by.clone(), app.now(), push::wns::enabled(&app.config));
    let changed = app.store.write(move |tx| change_members_in(tx, &group, std::slice::from_ref(&change), &by, push, now)).await?;
    app.outbox.notify_waiters();
    Ok(changed)
}

/// The same within a transaction; how many were moved.
pub(super) fn change_members_in(
    tx: &mut Tx<'_>,
    group: &GroupId,
    changes: &[Change],
    by: &By,
    push: bool,
    now: Time,
) -> store::Result<usize> {
    take_turn(tx, Turn::Shared)?;
    let group = groups::load_group(tx.conn(), group)?;
    let moved = members::change_in(tx, &group, changes, push, now)?;
    moved.note(tx, &group.id, by, now)?;
    Ok(moved.count())
}

/// A page of users, each with when they came.
///
/// # Errors
/// [`page::Error::Wrong`] when the query asks for what users have not.
pub async fn page_users(app: &App, query: &Query, reach: &Reach, limit: u32) -> std::result::Result<Found<(User, Time)>, page::Error> {
    let load = |conn: &mut Conn, ids: &[String]| {
        Ok(users::list_by_ids(conn, ids)?.into_iter().map(|found| (found.0.id.to_string(), found)).collect())
    };
    find(app, &users::SET, query, page::within(reach), limit, load).await
}

/// The user of that id or user principal name, whom the caller may see.
///
/// # Errors
/// [`Error::NotFound`] also for those beyond the caller's reach.
pub async fn find_user(app: &App, name: &str, reach: &Reach) -> Result<(User, Time)> {
    let wanted = name.to_owned();
    let found = app.store.look_up(move |conn| {
        let id = match UserId::parse(&wanted) {
            Some(id) => Some(id),
            None => users::find_user_by_upn(conn, &wanted)?.map(|user| user.id),
        };
        let id = id.ok_or(store::Error::NotFound)?;
        users::list_by_ids(conn, &[id.to_string()])?.pop().ok_or(store::Error::NotFound)
    });
    let (user, created) = found.await.map_err(|_| Error::NotFound("user"))?;
    if reach.is_all() || page::has(app, &users::SET, user.id.as_str(), page::within(reach)).await? {
        return Ok((user, created));
    }
    Err(Error::NotFound("user"))
}

/// A page of groups, each with when it was made.
///
/// # Errors
/// [`page::Error::Wrong`] when the query asks for what groups have not.
pub async fn page_groups(app: &App, query: &Query, reach: &Reach, limit: u32) -> std::result::Result<Found<(Group, Time)>, page::Error> {
    let load = |conn: &mut Conn, ids: &[String]| {
        Ok(groups::list_by_ids(conn, ids)?.into_iter().map(|found| (found.0.id.to_string(), found)).collect())
    };
    find(app, &groups::SET, query, page::within(reach), limit, load).await
}

/// The group of that id, which the caller may see.
///
/// # Errors
/// [`Error::NotFound`] also for those beyond the caller's reach.
pub async fn find_group(app: &App, id: &str, reach: &Reach) -> Result<(Group, Time)> {
    let id = GroupId::parse(id).ok_or(Error::NotFound("group"))?;
    if let Reach::Groups(groups) = reach
        && !groups.contains(&id)
    {
        return Err(Error::NotFound("group"));
    }
    let found = app.store.look_up(move |conn| groups::list_by_ids(conn, &[id.to_string()])).await?.pop();
    found.ok_or(Error::NotFound("group"))
}

/// Somebody or something in a group.
#[derive(Clone, Debug)]
pub enum Belonging {
    /// A person.
    User(Box<User>, Time),
    /// A device.
    Device(Box<Listed>),
}

/// A page of a group's members.
///
/// # Errors
/// [`page::Error::Wrong`] when the query asks for what members have not.
pub async fn page_members(app: &App, group: &GroupId, query: &Query, limit: u32) -> std::result::Result<Found<Belonging>, page::Error> {
    let load = |conn: &mut Conn, keys: &[String]| {
        let of = |kind: &str| -> Vec<String> { keys.iter().filter_map(|key| key.strip_prefix(kind)).map(str::to_owned).collect() };
        let people = users::list_by_ids(conn, &of("user:"))?.into_iter();
        let things = listed(conn, &of("device:"))?.into_iter();
        let people = people.map(|(user, at)| (format!("user:{}", user.id), Belonging::User(Box::new(user), at)));
        let things = things.map(|found| (format!("device:{}", found.device.id), Belonging::Device(Box::new(found))));
        Ok(people.chain(things).collect())
    };
    find(app, &groups::MEMBERS, query, vec![Within::Equal("t.group_id", group.to_string())], limit, load).await
}

/// What a directory object of that id is, as a member of groups: a user or a device.
///
/// # Errors
/// `USR0011` when there is neither.
pub async fn find_member(app: &App, id: &str) -> Result<Member> {
    let id = id.to_owned();
    let found = app.store.look_up(move |conn| {
        if let Some(user) = UserId::parse(&id)
            && !users::list_by_ids(conn, &[user.to_string()])?.is_empty()
        {
            return Ok(Some(Member::User(user)));
        }
        let device = DeviceId::parse(&id);
        Ok(match device {
            Some(device) if devices::find_device(conn, &device)?.is_some() => Some(Member::Device(device)),
            _ => None,
        })
    });
    found.await?.ok_or_else(|| Refusal::GroupMemberUnknown.into())
}

/// The groups that a user belongs to.
///
/// # Errors
/// When the database fails.
pub async fn groups_of_user(app: &App, user: &UserId) -> Result<Vec<Group>> {
    let user = user.clone();
    Ok(app.store.read(move |conn| groups::list_groups_of_user(conn, &user)).await?)
}

/// The groups that a device belongs to, by itself or by its user.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn groups_of_device(app: &App, device: &DeviceId) -> Result<Vec<Group>> {
    let device = device.clone();
    Ok(app.store.read(move |conn| groups::list_groups_of_device(conn, &device)).await?)
}

/// A page of the directory's devices, each with when it was first known.
///
/// # Errors
/// [`page::Error::Wrong`] when the query asks for what devices have not.
pub async fn page_devices(app: &App, query: &Query, reach: &Reach, limit: u32) -> std::result::Result<Found<Listed>, page::Error> {
    find(app, &devices::SET, query, page::within(reach), limit, |conn: &mut Conn, ids: &[String]| {
        Ok(listed(conn, ids)?.into_iter().map(|found| (found.device.id.to_string(), found)).collect())
    })
    .await
}

/// A device of the directory with its verdict.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The device.
    pub device: Device,
    /// When it was first known.
    pub created_at: Time,
    /// How it is judged; `None`: never.
    pub verdict: Option<crate::domain::compliance::Verdict>,
    /// What it is known by as a PC that is registered for Autopilot.
    pub physical_ids: Vec<String>,
}

fn listed(conn: &mut Conn, ids: &[String]) -> store::Result<Vec<Listed>> {
    let mut verdicts = compliance::list_verdicts(conn, ids)?;
    let all = devices::list_by_ids(conn, ids)?;
    let mut known = autopilot::list_physical_ids(conn, all.iter().map(|(device, _)| device))?;
    let with = |(device, created_at): (Device, Time)| Listed {
        verdict: verdicts.remove(&device.id),
        physical_ids: known.remove(&device.id).unwrap_or_default(),
        device,
        created_at,
    };
    Ok(all.into_iter().map(with).collect())
}

/// The device of that id, or that its identity provider knows by that id, which the caller may see.
///
/// # Errors
/// [`Error::NotFound`] also for those beyond the caller's reach.
pub async fn find_device(app: &App, id: &str, reach: &Reach) -> Result<Listed> {
    let wanted = DeviceId::parse(id).ok_or(Error::NotFound("device"))?;
    let found = app.store.look_up(move |conn| {
        if let Some(found) = listed(conn, &[wanted.to_string()])?.pop() {
            return Ok(Some(found));
        }
        match devices::find_by_entra_id(conn, wanted.as_str())? {
            Some(other) => Ok(listed(conn, &[other.to_string()])?.pop()),
            None => Ok(None),
        }
    });
    let found = found.await?.ok_or(Error::NotFound("device"))?;
    if reach.is_all() || page::has(app, &devices::SET, found.device.id.as_str(), page::within(reach)).await? {
        return Ok(found);
    }
    Err(Error::NotFound("device"))
}
