//! What changed, in order: written by triggers, so that no writer can forget it; read by those who follow changes.
//!
//! A number is below the horizon once every transaction that could have it is over. Whoever has read all that is below a horizon, and goes on
//! from there the next time, misses nothing: on SQLite there is one writer, and on PostgreSQL a change has the number of its transaction.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use serde::{Deserialize, Serialize};

use super::dialect::each_backend;
use super::schema::{changes, group_members, member_changes};
use super::{Conn, Result, Tx};
use crate::domain::subscription::Kind;

/// An object that changed.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Serialize, Deserialize)]
pub struct Change {
    /// Its last change.
    pub seq: i64,
    /// Its id.
    pub id: String,
    /// The change that made it; 0 when that was long ago.
    pub made_seq: i64,
}

/// Somebody or something that came into a group or left it.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Serialize, Deserialize)]
pub struct MemberChange {
    /// The last change.
    pub seq: i64,
    /// The group.
    pub group: String,
    /// `user` or `device`.
    pub kind: String,
    /// Who.
    pub member: String,
}

#[derive(QueryableByName)]
struct Horizon {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

/// All changes below this number are visible, and no other one will have such a number.
///
/// # Errors
/// Only the database's own.
pub fn horizon(conn: &mut Conn) -> Result<i64> {
    let found: Horizon = match conn {
        Conn::Postgres(c) => diesel::sql_query("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS n").get_result(c)?,
        Conn::Sqlite(c) => diesel::sql_query("SELECT seq + 1 AS n FROM change_clock").get_result(c)?,
    };
    Ok(found.n)
}

/// A page of the objects whose last change is from `from` on and below `to`, after `after`.
///
/// # Errors
/// Only the database's own.
pub fn list_changes(conn: &mut Conn, kind: Kind, from: i64, to: i64, after: Option<&(i64, String)>, limit: i64) -> Result<Vec<Change>> {
    let (seq, id) = after.map_or((from, ""), |(seq, id)| (*seq, id.as_str()));
    let rows = changes::table
        .filter(changes::kind.eq(kind.as_str()))
        .filter(changes::seq.ge(seq.max(from)))
        .filter(changes::seq.lt(to))
        .filter(changes::seq.gt(seq).or(changes::id.gt(id)))
        .order((changes::seq, changes::id))
        .limit(limit)
        .select((changes::seq, changes::id, changes::made_seq))
        .load(conn)?;
    Ok(rows)
}

/// A page of the objects that were made from `from` on and below `to`, and changed again from `to` on, after `after` (the change that made it,
/// and its id).
///
/// # Errors
/// Only the database's own.
pub fn list_made(conn: &mut Conn, kind: Kind, from: i64, to: i64, after: Option<&(i64, String)>, limit: i64) -> Result<Vec<Change>> {
    let (made, id) = after.map_or((from, ""), |(made, id)| (*made, id.as_str()));
    let rows = changes::table
        .filter(changes::kind.eq(kind.as_str()))
        .filter(changes::made_seq.ge(made.max(from)))
        .filter(changes::made_seq.lt(to))
        .filter(changes::made_seq.gt(made).or(changes::id.gt(id)))
        .filter(changes::seq.ge(to))
        .order((changes::made_seq, changes::id))
        .limit(limit)
        .select((changes::seq, changes::id, changes::made_seq))
        .load(conn)?;
    Ok(rows)
}

/// A page of the changes of who belongs to groups, as [`list_changes`].
///
/// # Errors
/// Only the database's own.
pub fn list_member_changes(conn: &mut Conn, from: i64, to: i64, after: Option<&MemberChange>, limit: i64) -> Result<Vec<MemberChange>> {
    use member_changes as m;
    let begin = after.map_or(from, |after| after.seq.max(from));
    let mut query = m::table
        .filter(m::seq.ge(begin))
        .filter(m::seq.lt(to))
        .order((m::seq, m::group_id, m::member_kind, m::member_id))
        .limit(limit)
        .select((m::seq, m::group_id, m::member_kind, m::member_id))
        .into_boxed();
    if let Some(after) = after {
        let (group, kind, member) = (&after.group, &after.kind, &after.member);
        let beyond = m::group_id
            .gt(group)
            .or(m::group_id.eq(group).and(m::member_kind.gt(kind)))
            .or(m::group_id.eq(group).and(m::member_kind.eq(kind)).and(m::member_id.gt(member)));
        query = query.filter(m::seq.gt(after.seq).or(beyond));
    }
    Ok(query.load(conn)?)
}

/// A page of all who belong to groups, or to some of them, after `after` in the order of groups.
///
/// # Errors
/// Only the database's own.
pub fn list_members(conn: &mut Conn, of: Option<&[String]>, after: Option<&MemberChange>, limit: i64) -> Result<Vec<MemberChange>> {
    use group_members as m;
    let mut query = m::table.order((m::group_id, m::member_kind, m::member_id)).limit(limit).into_boxed();
    if let Some(after) = after {
        let (group, kind, member) = (&after.group, &after.kind, &after.member);
        let beyond = m::group_id.gt(group).or(m::member_kind.gt(kind)).or(m::member_kind.eq(kind).and(m::member_id.gt(member)));
        query = query.filter(m::group_id.ge(group)).filter(beyond);
    }
    if let Some(groups) = of {
        query = query.filter(m::group_id.eq_any(groups));
    }
    let rows: Vec<(String, String, String)> = query.select((m::group_id, m::member_kind, m::member_id)).load(conn)?;
    Ok(rows.into_iter().map(|(group, kind, member)| MemberChange { seq: 0, group, kind, member }).collect())
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    id: String,
}

/// Of some changes, those whose member belongs to the group now.
///
/// # Errors
/// Only the database's own.
pub fn list_present(conn: &mut Conn, changed: &[MemberChange]) -> Result<Vec<MemberChange>> {
    let mut present = Vec::new();
    for one in changed {
        let found: i64 = group_members::table.find((&one.group, &one.kind, &one.member)).count().get_result(conn)?;
        if found > 0 {
            present.push(one.clone());
        }
    }
    Ok(present)
}

/// The ids of a kind that are in its table at all, also when they are deleted and can be restored.
///
/// # Errors
/// Only the database's own.
pub fn list_kept(conn: &mut Conn, kind: Kind, ids: &[String]) -> Result<Vec<String>> {
    let table = match kind {
        Kind::User => "users",
        Kind::Group => "groups",
        Kind::Device | Kind::ManagedDevice => return Ok(Vec::new()),
    };
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let places: Vec<String> = (1..=ids.len()).map(|number| format!("${number}")).collect();
    let text = format!("SELECT id FROM {table} WHERE id IN ({})", places.join(", "));
    let rows: Vec<Row> = each_backend!(conn, c => {
        let mut query = diesel::sql_query(text).into_boxed();
        for id in ids {
            query = query.bind::<Text, _>(id);
        }
        query.load(c)
    })?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// Forgets all changes: for a database that was restored.
///
/// # Errors
/// Only the database's own.
pub fn delete_all(tx: &mut Tx<'_>) -> Result<()> {
    diesel::delete(changes::table).execute(tx.conn())?;
    diesel::delete(member_changes::table).execute(tx.conn())?;
    Ok(())
}

/// Forgets at most `limit` changes of each kind below `before`; says how many.
///
/// # Errors
/// Only the database's own.
pub fn purge_changes(tx: &mut Tx<'_>, before: i64, limit: i64) -> Result<usize> {
    let mut gone = 0;
    for kind in [Kind::User, Kind::Group, Kind::Device, Kind::ManagedDevice] {
        let old = changes::kind.eq(kind.as_str()).and(changes::seq.lt(before));
        let ids: Vec<String> = changes::table.filter(old).limit(limit).select(changes::id).load(tx.conn())?;
        gone += diesel::delete(changes::table.filter(old).filter(changes::id.eq_any(ids))).execute(tx.conn())?;
    }
    let old: Vec<MemberChange> = list_member_changes(tx.conn(), i64::MIN, before, None, limit)?;
    for one in old {
        let row = member_changes::table.find((&one.group, &one.kind, &one.member)).filter(member_changes::seq.eq(one.seq));
        gone += diesel::delete(row).execute(tx.conn())?;
    }
    Ok(gone)
}
