//! Roles and who has them. Nobody gives away more than they have themselves, and somebody who may do everything always stays.

pub(in crate::service) mod rising;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use self::rising::Rising;
use super::directory::{self, By, check_name};
use super::{Error, LONGEST_LIST, Result};
use crate::app::App;
use crate::domain::Refusal;
use crate::domain::access::{self, ADMINISTRATOR, Action, Assignment, BUILT_IN, Caller, MOST_ROLES, Principal, Reach, Role, may_give};
use crate::domain::user::User;
use crate::ids::{ApplicationId, GroupId, RoleAssignmentId, RoleId, UserId};
use crate::store::{self, Conn, Tx, applications, audit, groups, roles, users};

/// How many members and groups an assignment names at most.
const MOST_NAMED: usize = 500;

/// The roles, those that come with the product first.
///
/// # Errors
/// When the database fails.
pub async fn list(app: &App) -> Result<Vec<Role>> {
    let mut all: Vec<Role> = BUILT_IN.iter().filter_map(|role| Role::built_in(role.id)).collect();
    all.extend(app.store.read(roles::list_roles).await?);
    Ok(all)
}

/// Reads resource actions by their names.
///
/// # Errors
/// `ACC0004`, with the name.
pub fn read_actions<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<BTreeSet<Action>> {
    let unknown = |name: &str| Error::Invalid(Refusal::RoleActionUnknown, name.chars().take(100).collect());
    names.into_iter().map(|name| Action::parse(name).ok_or_else(|| unknown(name))).collect()
}

fn shown(role: &Role) -> Value {
    json!({ "name": role.display_name, "description": role.description, "actions": role.actions().map(Action::as_str).collect::<Vec<_>>() })
}

/// Makes a role.
///
/// # Errors
/// `PRF0004`, `ACC0001`, `ACC0003`, `ACC0010`; `ACC0008` when the caller may not do all of it.
pub async fn create(
    app: &App,
    display_name: &str,
    description: &str,
    actions: BTreeSet<Action>,
    giver: Option<&Caller>,
    by: &By,
) -> Result<Role> {
    check_name(display_name)?;
    let role = Role::custom(RoleId::new(), display_name.to_owned(), description.to_owned(), actions)?;
    check_giver(giver, &role)?;
    let (row, by, now) = (role.clone(), by.clone(), app.now());
    app.store
        .write(move |tx| {
            if roles::list_roles(tx.conn())?.len() >= MOST_ROLES {
                return Err(Refusal::RoleTooMany.into());
            }
            roles::insert_role(tx, &row, now)?;
            audit::append(tx, &by.entry("role.create", format!("role:{}", row.id)).after(&shown(&row)), now)
        })
        .await?;
    Ok(role)
}

/// Changes a role of the organisation's. Whoever has it loses what is taken out, so the caller must be able to do all that it allowed, too.
///
/// # Errors
/// As [`create`]; `ACC0002` for one that comes with the product; [`Error::NotFound`].
pub async fn update(app: &App, role: Role, giver: Option<&Caller>, by: &By) -> Result<()> {
    check_name(&role.display_name)?;
    if role.built_in {
        return Err(Refusal::RoleBuiltIn.into());
    }
    check_giver(giver, &role)?;
    let (giver, by, now) = (giver.cloned(), by.clone(), app.now());
    app.store
        .write(move |tx| {
            let before = roles::load_role(tx.conn(), &role.id)?;
            may(giver.as_ref(), &before)?;
            let held = roles::list_assignments(tx.conn(), Some(&role.id), "", i64::MAX)?;
            let rising = Rising::of_principals(tx, held.iter().flat_map(|assignment| &assignment.members), now)?;
            roles::update_role(tx, &role, now)?;
            let ended = rising.end(tx, now)?;
            audit::append(tx, &by.entry("role.update", format!("role:{}", role.id)).before(&shown(&before)).after(&shown(&role)), now)?;
            rising::note(tx, &ended, &by, now)
        })
        .await?;
    Ok(())
}

/// Deletes a role of the organisation's that nobody has.
///
/// # Errors
/// `ACC0002`, `ACC0005`; `ACC0008` when the caller may not do all that it allows; [`Error::NotFound`].
pub async fn delete(app: &App, id: &RoleId, giver: Option<&Caller>, by: &By) -> Result<()> {
    if Role::built_in(id.as_str()).is_some() {
        return Err(Refusal::RoleBuiltIn.into());
    }
    let (id, giver, by, now) = (id.clone(), giver.cloned(), by.clone(), app.now());
    app.store
        .write(move |tx| {
            let before = roles::load_role(tx.conn(), &id)?;
            may(giver.as_ref(), &before)?;
            if !roles::list_assignments(tx.conn(), Some(&id), "", 1)?.is_empty() {
                return Err(Refusal::RoleInUse.into());
            }
            roles::delete_role(tx, &id)?;
            audit::append(tx, &by.entry("role.delete", format!("role:{id}")).before(&shown(&before)), now)
        })
        .await?;
    Ok(())
}

/// Whether somebody may give a role away or take it; `None` is somebody on the server's own machine.
///
/// # Errors
/// `ACC0008`.
pub fn check_giver(giver: Option<&Caller>, role: &Role) -> Result<()> {
    Ok(may(giver, role)?)
}

fn may(giver: Option<&Caller>, role: &Role) -> Result<(), Refusal> {
    match giver {
        Some(caller) if !may_give(caller, role) => Err(Refusal::RoleBeyondGiver),
        _ => Ok(()),
    }
}

fn shown_assignment(assignment: &Assignment) -> Value {
    let member = |principal: &Principal| match principal {
        Principal::User(id) => format!("user:{id}"),
        Principal::Group(id) => format!("group:{id}"),
        Principal::Application(id) => format!("application:{id}"),
    };
    let reach = match &assignment.reach {
        Reach::All => json!("all"),
        Reach::Groups(groups) => json!(groups),
    };
    json!({
        "role": assignment.role,
        "name": assignment.display_name,
        "members": assignment.members.iter().map(member).collect::<Vec<_>>(),
        "reach": reach,
    })
}

/// Gives a role to somebody, or changes such an assignment as a whole. Passes of those who may do more by it end.
///
/// # Errors
/// `PRF0004`, `ACC0006`, `ACC0007`, `ACC0009`; `ACC0008` when the caller may not do all that the role allows, and that which the assignment
/// was of, everywhere; [`Error::NotFound`] without such a role.
pub async fn assign(app: &App, assignment: Assignment, giver: Option<&Caller>, by: &By) -> Result<Assignment> {
    check_name(&assignment.display_name)?;
    let named = match &assignment.reach {
        Reach::All => 0,
        Reach::Groups(groups) => groups.len(),
    };
    if assignment.members.len().max(named) > MOST_NAMED {
        return Err(Refusal::RoleMemberUnknown.into());
    }
    let wanted = assignment.role.clone();
    let role = app.store.read(move |conn| roles::load_role(conn, &wanted)).await?;
    check_giver(giver, &role)?;
    let (row, giver, by, now) = (assignment.clone(), giver.cloned(), by.clone(), app.now());
    app.store
        .write(move |tx| {
            for member in &row.members {
                let known = match member {
                    Principal::User(id) => users::load_present_user(tx.conn(), id).map(drop),
                    // Whoever changes the group looks at its roles while they hold it.
                    Principal::Group(id) => match groups::lock_group(tx, id) {
                        Ok(group) if group.rule.is_some() => return Err(Refusal::GroupRuleWithRole.into()),
                        other => other.map(drop),
                    },
                    Principal::Application(id) => applications::load_application(tx.conn(), id).map(drop),
                };
                known.map_err(|error| missing(error, Refusal::RoleMemberUnknown))?;
            }
            if let Reach::Groups(reached) = &row.reach {
                for group in reached {
                    groups::load_group(tx.conn(), group).map_err(|error| missing(error, Refusal::RoleGroupUnknown))?;
                }
            }
            let before = match roles::load_assignment(tx.conn(), &row.id) {
                Ok(before) => Some(before),
                Err(store::Error::NotFound) => None,
                Err(other) => return Err(other),
            };
            if let Some(before) = &before {
                may(giver.as_ref(), &roles::load_role(tx.conn(), &before.role)?)?;
            }
            let rising = Rising::of_principals(tx, row.members.iter(), now)?;
            roles::replace_assignment(tx, &row, now)?;
            let ended = rising.end(tx, now)?;
            if before.as_ref().is_some_and(|before| before.role == access::administrator()) {
                check_administrators(tx)?;
            }
            let entry = by.entry("role.assign", format!("role-assignment:{}", row.id)).after(&shown_assignment(&row));
            let entry = before.iter().fold(entry, |entry, before| entry.before(&shown_assignment(before)));
            audit::append(tx, &entry, now)?;
            rising::note(tx, &ended, &by, now)
        })
        .await?;
    Ok(assignment)
}

/// Takes an assignment away.
///
/// # Errors
/// `ACC0009`; `ACC0008` as for [`assign`]; [`Error::NotFound`].
pub async fn unassign(app: &App, id: &RoleAssignmentId, giver: Option<&Caller>, by: &By) -> Result<()> {
    let wanted = id.clone();
    let role = app.store.read(move |conn| {
        let role = roles::load_assignment(conn, &wanted)?.role;
        roles::load_role(conn, &role)
    });
    check_giver(giver, &role.await?)?;
    let (id, by, now) = (id.clone(), by.clone(), app.now());
    app.store
        .write(move |tx| {
            let before = roles::load_assignment(tx.conn(), &id)?;
            roles::delete_assignment(tx, &id)?;
            if before.role == access::administrator() {
                check_administrators(tx)?;
            }
            audit::append(tx, &by.entry("role.unassign", format!("role-assignment:{id}")).before(&shown_assignment(&before)), now)
        })
        .await?;
    Ok(())
}

/// The assignments, at most a thousand; those of one role when it is named.
///
/// # Errors
/// When the database fails.
pub async fn list_assignments(app: &App, role: Option<&RoleId>) -> Result<Vec<Assignment>> {
    let role = role.cloned();
    Ok(app.store.read(move |conn| roles::list_assignments(conn, role.as_ref(), "", LONGEST_LIST)).await?)
}

/// The assignment of that id.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn load_assignment(app: &App, id: &RoleAssignmentId) -> Result<Assignment> {
    let id = id.clone();
    Ok(app.store.look_up(move |conn| roles::load_assignment(conn, &id)).await?)
}

/// Who has that id: a person, a group or an application.
///
/// # Errors
/// `ACC0006`.
pub async fn find_principal(app: &App, id: &str) -> Result<Principal> {
    let (user, group, application) = (UserId::parse(id), GroupId::parse(id), ApplicationId::parse(id));
    let found = app.store.look_up(move |conn| {
        if let Some(user) = user
            && !users::list_by_ids(conn, &[user.to_string()])?.is_empty()
        {
            return Ok(Some(Principal::User(user)));
        }
        if let Some(group) = group
            && !groups::list_by_ids(conn, &[group.to_string()])?.is_empty()
        {
            return Ok(Some(Principal::Group(group)));
        }
        let Some(application) = application else { return Ok(None) };
        match applications::load_application(conn, &application) {
            Ok(_) => Ok(Some(Principal::Application(application))),
            Err(store::Error::NotFound) => Ok(None),
            Err(other) => Err(other),
        }
    });
    found.await?.ok_or_else(|| Refusal::RoleMemberUnknown.into())
}

fn missing(error: store::Error, refusal: Refusal) -> store::Error {
    match error {
        store::Error::NotFound => refusal.into(),
        other => other,
    }
}

/// Whether the caller may change how somebody signs in: whoever has a role gets a way in only from those who may do all that it allows, or
/// helping people back in would be a way to become an administrator.
///
/// # Errors
/// `ACC0013`.
pub async fn check_helper(app: &App, caller: &Caller, user: &UserId) -> Result<()> {
    let (caller, user) = (caller.clone(), user.clone());
    Ok(app.store.read(move |conn| check_helper_in(conn, &caller, &user)).await?)
}

/// The same within a transaction.
pub(super) fn check_helper_in(conn: &mut Conn, caller: &Caller, user: &UserId) -> store::Result<()> {
    let held = roles::list_roles_of_user(conn, user)?;
    if held.iter().all(|(role, _)| may_give(caller, role)) { Ok(()) } else { Err(Refusal::MethodsOfSuperior.into()) }
}

/// Changes a person, as whoever may help them: `change` says what becomes of who they are when it is their turn.
///
/// # Errors
/// `ACC0013`, and those of [`directory::change_user`].
pub async fn change_person<E, F>(app: &App, caller: &Caller, user: &UserId, by: &By, change: F) -> Result<std::result::Result<(), E>>
where
    E: Send + 'static,
    F: Fn(&User) -> std::result::Result<User, E> + Send + 'static,
{
    let caller = caller.clone();
    let change = move |conn: &mut Conn, before: &User| {
        check_helper_in(conn, &caller, &before.id)?;
        Ok(change(before))
    };
    directory::change_user(app, user, by, change).await
}

/// Whether the caller may give a person a way in: nobody does so for themselves, and the rest is as [`check_helper`] says.
///
/// # Errors
/// `AUT0009`, `ACC0013`.
pub async fn check_giver_of_pass(app: &App, caller: &Caller, user: &UserId) -> Result<()> {
    if caller.person() == Some(user) {
        return Err(Refusal::TapForOneself.into());
    }
    check_helper(app, caller, user).await
}

/// Whether the caller may say who belongs to a group, or delete it: whoever is in a group has its roles, and is within reach of those who
/// have a role for the group.
///
/// # Errors
/// `ACC0008`.
pub async fn check_group(app: &App, caller: &Caller, group: &GroupId) -> Result<()> {
    let wanted = group.clone();
    let held = app.store.read(move |conn| roles::list_roles_about_group(conn, &wanted)).await?;
    if held.iter().all(|role| may_give(caller, role)) { Ok(()) } else { Err(Refusal::RoleBeyondGiver.into()) }
}

/// Whether whoever is in a group may do everything everywhere.
pub(super) fn is_of_administrators(tx: &mut Tx<'_>, group: &GroupId) -> store::Result<bool> {
    Ok(roles::list_roles_of_group(tx.conn(), group)?.iter().any(|role| role.id == access::administrator()))
}

/// Somebody who may do everything everywhere has to be left: a person who can sign in.
pub(super) fn check_administrators(tx: &mut Tx<'_>) -> store::Result<()> {
    let left = roles::find_holder(tx.conn(), &access::administrator())?;
    if left.is_some() { Ok(()) } else { Err(Refusal::RoleLastAdministrator.into()) }
}

/// Whether a person may do everything everywhere.
pub(super) fn is_administrator(tx: &mut Tx<'_>, user: &UserId) -> store::Result<bool> {
    let held = roles::list_assignments_of_user(tx.conn(), user)?;
    Ok(held.iter().any(|assignment| assignment.role == access::administrator() && assignment.reach.is_all()))
}

/// Makes a person an administrator, or takes that away: by an assignment of their own, whose id follows from theirs. Whether the caller may
/// do so is asked before ([`check_giver`]).
///
/// # Errors
/// `ACC0009`; [`Error::NotFound`].
pub async fn set_administrator(app: &App, user: &UserId, administrator: bool, by: &By) -> Result<()> {
    let id = own_assignment(user);
    if !administrator {
        return match unassign(app, &id, None, by).await {
            Err(Error::NotFound(_)) => Ok(()),
            other => other,
        };
    }
    assign(app, administrator_assignment(user), None, by).await.map(drop)
}

/// The assignment by which a person is an administrator on their own.
#[must_use]
pub fn administrator_assignment(user: &UserId) -> Assignment {
    Assignment {
        id: own_assignment(user),
        role: RoleId::from_store(ADMINISTRATOR.into()),
        display_name: "Administrator".into(),
        description: String::new(),
        members: [Principal::User(user.clone())].into(),
        reach: Reach::All,
    }
}

fn own_assignment(user: &UserId) -> RoleAssignmentId {
    RoleAssignmentId::from_store(user.to_string())
}
