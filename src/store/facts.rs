//! Facts.

use diesel::prelude::*;

use super::dialect::each_backend;
use super::schema::facts;
use super::{Conn, Result, Tx};
use crate::clock::Time;
use crate::domain::fact::{Fact, Facts};
use crate::ids::DeviceId;

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = facts, treat_none_as_null = true)]
struct Row {
    device_id: String,
    name: String,
    value: Option<String>,
    status: i64,
    source: String,
    observed_at: i64,
    next_at: Option<i64>,
}

impl From<Row> for Fact {
    fn from(row: Row) -> Self {
        Self {
            name: row.name,
            value: row.value,
            status: row.status,
            source: row.source,
            observed_at: Time(row.observed_at),
            next_at: row.next_at.map(Time),
        }
    }
}

/// Stores a session's facts over the known ones, writing only the rows that need it; returns the names of those that now say something
/// else.
///
/// # Errors
/// Only the database's own.
pub fn upsert_facts(tx: &mut Tx<'_>, device: &DeviceId, reported: &[Fact]) -> Result<Vec<String>> {
    if reported.is_empty() {
        return Ok(Vec::new());
    }
    let mut known = list_for_device(tx.conn(), device)?;
    let mut changed = Vec::new();
    for fact in reported {
        let before = known.get(&fact.name);
        if before.is_some_and(|old| !old.needs_update(fact)) {
            continue;
        }
        if before.is_none_or(|old| !old.says_same(fact)) {
            changed.push(fact.name.clone());
        }
        let row = Row {
            device_id: device.to_string(),
            name: fact.name.clone(),
            value: fact.value.clone(),
            status: fact.status,
            source: fact.source.clone(),
            observed_at: fact.observed_at.0,
            next_at: fact.next_at.map(|at| at.0),
        };
        each_backend!(tx.conn(), c => diesel::insert_into(facts::table)
            .values(&row)
            .on_conflict((facts::device_id, facts::name))
            .do_update()
            .set(&row)
            .execute(c))?;
        known.insert(fact.name.clone(), fact.clone());
    }
    Ok(changed)
}

/// Makes all facts of a device due now, as after a re-enrolment.
///
/// # Errors
/// Only the database's own.
pub fn update_all_due(tx: &mut Tx<'_>, device: &DeviceId, now: Time) -> Result<()> {
    diesel::update(facts::table.filter(facts::device_id.eq(device.as_str()))).set(facts::next_at.eq(now.0)).execute(tx.conn())?;
    Ok(())
}

/// The device's facts by name.
///
/// # Errors
/// Only the database's own.
pub fn list_for_device(conn: &mut Conn, device: &DeviceId) -> Result<Facts> {
    let rows: Vec<Row> = facts::table.filter(facts::device_id.eq(device.as_str())).select(Row::as_select()).load(conn)?;
    Ok(rows.into_iter().map(|row| (row.name.clone(), row.into())).collect())
}

/// When the next known fact is due, of those due later than `after`; `None` when none is scheduled.
///
/// # Errors
/// Only the database's own.
pub fn find_next_due(conn: &mut Conn, device: &DeviceId, after: Time) -> Result<Option<Time>> {
    let at: Option<i64> = facts::table
        .filter(facts::device_id.eq(device.as_str()))
        .filter(facts::next_at.gt(after.0))
        .select(diesel::dsl::min(facts::next_at))
        .first(conn)?;
    Ok(at.map(Time))
}
