//! Assignments.

use diesel::prelude::*;

use super::schema::assignments;
use super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::domain::assignment::{Assignment, Mode, Target};
use crate::ids::{AssignmentId, GroupId, ProfileId};

const ALL_DEVICES: &str = "all-devices";
const ALL_USERS: &str = "all-users";
const GROUP: &str = "group";

#[derive(Queryable, Selectable)]
#[diesel(table_name = assignments)]
struct Row {
    id: String,
    profile_id: String,
    mode: String,
    target: String,
    group_id: Option<String>,
}

impl TryFrom<Row> for Assignment {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let target = match (row.target.as_str(), row.group_id) {
            (ALL_DEVICES, None) => Target::AllDevices,
            (ALL_USERS, None) => Target::AllUsers,
            (GROUP, Some(group)) => Target::Group(GroupId::from_store(group)),
            _ => return Err(Error::corrupt("assignments.target")),
        };
        Ok(Self {
            id: AssignmentId::from_store(row.id),
            profile_id: ProfileId::from_store(row.profile_id),
            mode: Mode::parse(&row.mode).ok_or_else(|| Error::corrupt("assignments.mode"))?,
            target,
        })
    }
}

/// Inserts an assignment.
///
/// # Errors
/// [`Error::Conflict`] when profile or group do not exist.
pub fn insert_assignment(tx: &mut Tx<'_>, assignment: &Assignment, now: Time) -> Result<()> {
    let (target, group) = match &assignment.target {
        Target::AllDevices => (ALL_DEVICES, None),
        Target::AllUsers => (ALL_USERS, None),
        Target::Group(id) => (GROUP, Some(id.as_str())),
    };
    diesel::insert_into(assignments::table)
        .values((
            assignments::id.eq(assignment.id.as_str()),
            assignments::profile_id.eq(assignment.profile_id.as_str()),
            assignments::mode.eq(assignment.mode.as_str()),
            assignments::target.eq(target),
            assignments::group_id.eq(group),
            assignments::created_at.eq(now.0),
        ))
        .execute(tx.conn())?;
    Ok(())
}

/// Deletes an assignment.
///
/// # Errors
/// [`Error::NotFound`].
pub fn delete_assignment(tx: &mut Tx<'_>, id: &AssignmentId) -> Result<()> {
    let gone = diesel::delete(assignments::table.find(id.as_str())).execute(tx.conn())?;
    if gone == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// The assignments of profiles, of each the oldest first.
///
/// # Errors
/// Only the database's own.
pub fn list_of_profiles(conn: &mut Conn, profiles: &[String]) -> Result<Vec<Assignment>> {
    let of = assignments::table.filter(assignments::profile_id.eq_any(profiles));
    let rows: Vec<Row> = of.order((assignments::profile_id, assignments::id)).select(Row::as_select()).load(conn)?;
    rows.into_iter().map(Assignment::try_from).collect()
}

/// A profile's assignments, oldest first.
///
/// # Errors
/// Only the database's own.
pub fn list_assignments(conn: &mut Conn, profile: &ProfileId) -> Result<Vec<Assignment>> {
    let rows: Vec<Row> = assignments::table
        .filter(assignments::profile_id.eq(profile.as_str()))
        .order(assignments::id)
        .select(Row::as_select())
        .load(conn)?;
    rows.into_iter().map(Assignment::try_from).collect()
}
