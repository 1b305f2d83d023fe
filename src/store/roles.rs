//! Roles that an organisation made, and who has which role where.

use std::collections::{BTreeMap, BTreeSet};

use diesel::prelude::*;

use super::schema::{group_members, role_assignments, role_members, role_reaches, roles, users};
use super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::domain::access::{Action, Assignment, Principal, Reach, Role};
use crate::ids::{ApplicationId, GroupId, RoleAssignmentId, RoleId, UserId};

const USER: &str = "user";
const GROUP: &str = "group";
const APPLICATION: &str = "application";

#[derive(Queryable, Selectable)]
#[diesel(table_name = roles)]
struct Row {
    id: String,
    display_name: String,
    description: String,
    actions: String,
}

impl TryFrom<Row> for Role {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let words: Vec<String> = serde_json::from_str(&row.actions).map_err(|_| Error::corrupt("roles.actions"))?;
        // What a newer version knows is not allowed by this one.
        let allowed: BTreeSet<Action> = words.iter().filter_map(|word| Action::parse(word)).collect();
        Self::custom(RoleId::from_store(row.id), row.display_name, row.description, allowed).map_err(|_| Error::corrupt("roles.actions"))
    }
}

fn actions(role: &Role) -> String {
    let words: Vec<&str> = role.actions().map(Action::as_str).collect();
    serde_json::to_string(&words).unwrap_or_default()
}

/// Inserts a role.
///
/// # Errors
/// [`Error::Conflict`] when the name is taken.
pub fn insert_role(tx: &mut Tx<'_>, role: &Role, now: Time) -> Result<()> {
    diesel::insert_into(roles::table)
        .values((
            roles::id.eq(role.id.as_str()),
            roles::display_name.eq(&role.display_name),
            roles::description.eq(&role.description),
            roles::actions.eq(actions(role)),
            roles::created_at.eq(now.0),
            roles::updated_at.eq(now.0),
        ))
        .execute(tx.conn())?;
    Ok(())
}

/// Changes a role.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] when the name is taken.
pub fn update_role(tx: &mut Tx<'_>, role: &Role, now: Time) -> Result<()> {
    let changed = diesel::update(roles::table.find(role.id.as_str()))
        .set((
            roles::display_name.eq(&role.display_name),
            roles::description.eq(&role.description),
            roles::actions.eq(actions(role)),
            roles::updated_at.eq(now.0),
        ))
        .execute(tx.conn())?;
    if changed == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// Deletes a role.
///
/// # Errors
/// [`Error::NotFound`].
pub fn delete_role(tx: &mut Tx<'_>, id: &RoleId) -> Result<()> {
    if diesel::delete(roles::table.find(id.as_str())).execute(tx.conn())? == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// The role, built in or not.
///
/// # Errors
/// [`Error::NotFound`].
pub fn load_role(conn: &mut Conn, id: &RoleId) -> Result<Role> {
    match Role::built_in(id.as_str()) {
        Some(role) => Ok(role),
        None => roles::table.find(id.as_str()).select(Row::as_select()).first(conn)?.try_into(),
    }
}

/// The roles that the organisation made, by name. There are few ([`crate::domain::access::MOST_ROLES`]).
///
/// # Errors
/// Only the database's own.
pub fn list_roles(conn: &mut Conn) -> Result<Vec<Role>> {
    let rows: Vec<Row> = roles::table.order(roles::display_name).select(Row::as_select()).load(conn)?;
    rows.into_iter().map(Role::try_from).collect()
}

fn parts(principal: &Principal) -> (&'static str, &str) {
    match principal {
        Principal::User(id) => (USER, id.as_str()),
        Principal::Group(id) => (GROUP, id.as_str()),
        Principal::Application(id) => (APPLICATION, id.as_str()),
    }
}

/// Inserts an assignment, or puts it in the place of the one with its id.
///
/// # Errors
/// [`Error::Conflict`] when a group to which it shall reach does not exist.
pub fn replace_assignment(tx: &mut Tx<'_>, assignment: &Assignment, now: Time) -> Result<()> {
    let id = assignment.id.as_str();
    let created: Option<i64> = role_assignments::table.find(id).select(role_assignments::created_at).first(tx.conn()).optional()?;
    diesel::delete(role_assignments::table.find(id)).execute(tx.conn())?;
    diesel::insert_into(role_assignments::table)
        .values((
            role_assignments::id.eq(id),
            role_assignments::role_id.eq(assignment.role.as_str()),
            role_assignments::display_name.eq(&assignment.display_name),
            role_assignments::description.eq(&assignment.description),
            role_assignments::everywhere.eq(assignment.reach.is_all()),
            role_assignments::created_at.eq(created.unwrap_or(now.0)),
        ))
        .execute(tx.conn())?;
    for member in &assignment.members {
        let (kind, principal) = parts(member);
        diesel::insert_into(role_members::table)
            .values((role_members::assignment_id.eq(id), role_members::kind.eq(kind), role_members::principal_id.eq(principal)))
            .execute(tx.conn())?;
    }
    if let Reach::Groups(groups) = &assignment.reach {
        for group in groups {
            diesel::insert_into(role_reaches::table)
                .values((role_reaches::assignment_id.eq(id), role_reaches::group_id.eq(group.as_str())))
                .execute(tx.conn())?;
        }
    }
    Ok(())
}

/// Deletes an assignment.
///
/// # Errors
/// [`Error::NotFound`].
pub fn delete_assignment(tx: &mut Tx<'_>, id: &RoleAssignmentId) -> Result<()> {
    if diesel::delete(role_assignments::table.find(id.as_str())).execute(tx.conn())? == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// Takes a role away from somebody everywhere, when they are deleted. Assignments stay, though nobody may be left in them.
///
/// # Errors
/// Only the database's own.
pub fn delete_memberships(tx: &mut Tx<'_>, principal: &Principal) -> Result<()> {
    let (kind, id) = parts(principal);
    diesel::delete(role_members::table.filter(role_members::kind.eq(kind)).filter(role_members::principal_id.eq(id))).execute(tx.conn())?;
    Ok(())
}

type AssignmentColumns = (String, String, String, String, bool);

fn complete(conn: &mut Conn, rows: Vec<AssignmentColumns>) -> Result<Vec<Assignment>> {
    let ids: Vec<&str> = rows.iter().map(|row| row.0.as_str()).collect();
    let mut members: BTreeMap<String, BTreeSet<Principal>> = BTreeMap::new();
    let found: Vec<(String, String, String)> = role_members::table
        .filter(role_members::assignment_id.eq_any(&ids))
        .select((role_members::assignment_id, role_members::kind, role_members::principal_id))
        .load(conn)?;
    for (assignment, kind, id) in found {
        let principal = match kind.as_str() {
            USER => Principal::User(UserId::from_store(id)),
            GROUP => Principal::Group(GroupId::from_store(id)),
            APPLICATION => Principal::Application(ApplicationId::from_store(id)),
            _ => return Err(Error::corrupt("role_members.kind")),
        };
        members.entry(assignment).or_default().insert(principal);
    }
    let mut reaches: BTreeMap<String, BTreeSet<GroupId>> = BTreeMap::new();
    let found: Vec<(String, String)> = role_reaches::table
        .filter(role_reaches::assignment_id.eq_any(&ids))
        .select((role_reaches::assignment_id, role_reaches::group_id))
        .load(conn)?;
    for (assignment, group) in found {
        reaches.entry(assignment).or_default().insert(GroupId::from_store(group));
    }
    let made = rows.into_iter().map(|(id, role, display_name, description, everywhere)| Assignment {
        role: RoleId::from_store(role),
        display_name,
        description,
        members: members.remove(&id).unwrap_or_default(),
        // One whose groups are all deleted reaches nothing, and not everything.
        reach: if everywhere { Reach::All } else { Reach::Groups(reaches.remove(&id).unwrap_or_default()) },
        id: RoleAssignmentId::from_store(id),
    });
    Ok(made.collect())
}

/// The assignment, which must exist.
///
/// # Errors
/// [`Error::NotFound`].
pub fn load_assignment(conn: &mut Conn, id: &RoleAssignmentId) -> Result<Assignment> {
    let row: AssignmentColumns = role_assignments::table
        .find(id.as_str())
        .select((
            role_assignments::id,
            role_assignments::role_id,
            role_assignments::display_name,
            role_assignments::description,
            role_assignments::everywhere,
        ))
        .first(conn)?;
    complete(conn, vec![row])?.pop().ok_or(Error::NotFound)
}

/// A page of assignments by id, after `after`; those of one role when it is named.
///
/// # Errors
/// Only the database's own.
pub fn list_assignments(conn: &mut Conn, role: Option<&RoleId>, after: &str, limit: i64) -> Result<Vec<Assignment>> {
    let page = role_assignments::table.filter(role_assignments::id.gt(after)).order(role_assignments::id).limit(limit).select((
        role_assignments::id,
        role_assignments::role_id,
        role_assignments::display_name,
        role_assignments::description,
        role_assignments::everywhere,
    ));
    let rows: Vec<AssignmentColumns> = match role {
        Some(role) => page.filter(role_assignments::role_id.eq(role.as_str())).load(conn)?,
        None => page.load(conn)?,
    };
    complete(conn, rows)
}

/// The assignments that a person has, directly or by a group.
///
/// # Errors
/// Only the database's own.
pub fn list_assignments_of_user(conn: &mut Conn, user: &UserId) -> Result<Vec<Assignment>> {
    let groups = group_members::table
        .filter(group_members::member_kind.eq(USER))
        .filter(group_members::member_id.eq(user.as_str()))
        .select(group_members::group_id);
    let theirs = role_members::kind
        .eq(USER)
        .and(role_members::principal_id.eq(user.as_str()))
        .or(role_members::kind.eq(GROUP).and(role_members::principal_id.eq_any(groups)));
    let ids: Vec<String> = role_members::table.filter(theirs).select(role_members::assignment_id).distinct().load(conn)?;
    let rows: Vec<AssignmentColumns> = role_assignments::table
        .filter(role_assignments::id.eq_any(ids))
        .order(role_assignments::id)
        .select((
            role_assignments::id,
            role_assignments::role_id,
            role_assignments::display_name,
            role_assignments::description,
            role_assignments::everywhere,
        ))
        .load(conn)?;
    complete(conn, rows)
}

/// The roles that a person has, each with where it reaches.
///
/// # Errors
/// Only the database's own.
pub fn list_roles_of_user(conn: &mut Conn, user: &UserId) -> Result<Vec<(Role, Reach)>> {
    let mut held = Vec::new();
    for assignment in list_assignments_of_user(conn, user)? {
        match load_role(conn, &assignment.role) {
            Ok(role) => held.push((role, assignment.reach)),
            Err(Error::NotFound) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(held)
}

/// The roles that whoever is in a group has by it, somewhere.
///
/// # Errors
/// Only the database's own.
pub fn list_roles_of_group(conn: &mut Conn, group: &GroupId) -> Result<Vec<Role>> {
    let ids: Vec<String> = role_assignments::table
        .inner_join(role_members::table.on(role_members::assignment_id.eq(role_assignments::id)))
        .filter(role_members::kind.eq(GROUP))
        .filter(role_members::principal_id.eq(group.as_str()))
        .select(role_assignments::role_id)
        .distinct()
        .load(conn)?;
    let mut held = Vec::new();
    for id in ids {
        match load_role(conn, &RoleId::from_store(id)) {
            Ok(role) => held.push(role),
            Err(Error::NotFound) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(held)
}

/// The roles for which it matters who is in a group: those that it gives ([`list_roles_of_group`]), and those that somebody has for it.
///
/// # Errors
/// Only the database's own.
pub fn list_roles_about_group(conn: &mut Conn, group: &GroupId) -> Result<Vec<Role>> {
    let mut held = list_roles_of_group(conn, group)?;
    let ids: Vec<String> = role_assignments::table
        .inner_join(role_reaches::table.on(role_reaches::assignment_id.eq(role_assignments::id)))
        .filter(role_reaches::group_id.eq(group.as_str()))
        .select(role_assignments::role_id)
        .distinct()
        .load(conn)?;
    for id in ids {
        match load_role(conn, &RoleId::from_store(id)) {
            Ok(role) if !held.contains(&role) => held.push(role),
            Ok(_) | Err(Error::NotFound) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(held)
}

/// A person who has the role everywhere, directly or by a group, and may sign in.
///
/// # Errors
/// Only the database's own.
pub fn find_holder(conn: &mut Conn, role: &RoleId) -> Result<Option<UserId>> {
    let everywhere = role_assignments::table
        .filter(role_assignments::role_id.eq(role.as_str()))
        .filter(role_assignments::everywhere.eq(true))
        .select(role_assignments::id);
    let groups = role_members::table
        .filter(role_members::assignment_id.eq_any(everywhere))
        .filter(role_members::kind.eq(GROUP))
        .select(role_members::principal_id);
    let people = role_members::table
        .filter(role_members::assignment_id.eq_any(everywhere))
        .filter(role_members::kind.eq(USER))
        .select(role_members::principal_id);
    let grouped = group_members::table
        .filter(group_members::group_id.eq_any(groups))
        .filter(group_members::member_kind.eq(USER))
        .select(group_members::member_id);
    let found: Option<String> = users::table
        .filter(users::enabled.eq(true))
        .filter(users::deleted_at.is_null())
        .filter(users::id.eq_any(people).or(users::id.eq_any(grouped)))
        .select(users::id)
        .order(users::id)
        .first(conn)
        .optional()?;
    Ok(found.map(UserId::from_store))
}

/// The first person who was given the role on their own account, everywhere, whether they may sign in or not.
///
/// # Errors
/// Only the database's own.
pub fn find_member(conn: &mut Conn, role: &RoleId) -> Result<Option<UserId>> {
    let everywhere = role_assignments::table
        .filter(role_assignments::role_id.eq(role.as_str()))
        .filter(role_assignments::everywhere.eq(true))
        .select(role_assignments::id);
    let found: Option<String> = role_members::table
        .filter(role_members::assignment_id.eq_any(everywhere))
        .filter(role_members::kind.eq(USER))
        .order(role_members::principal_id)
        .select(role_members::principal_id)
        .first(conn)
        .optional()?;
    Ok(found.map(UserId::from_store))
}
