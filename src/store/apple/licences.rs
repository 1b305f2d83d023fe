//! Licences of the App Store, and the content token that they come by.

use diesel::prelude::*;

use crate::clock::Time;
use crate::domain::apple::licence::{Connection, Licence, State};
use crate::store::dialect::each_backend;
use crate::store::schema::{apple_content, apple_licences as licences, devices, enrollments};
use crate::store::{Conn, Error, Result, Tx};

/// The only row of the connection.
const CURRENT: &str = "current";

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = apple_content, treat_none_as_null = true)]
struct ConnectionRow {
    slot: String,
    sealed_token: Vec<u8>,
    location_id: String,
    location: String,
    organisation: String,
    ends_at: i64,
    warned_days: Option<i64>,
    wait_until: Option<i64>,
    alarm: Option<String>,
    alarm_at: Option<i64>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = licences)]
struct Row {
    serial: String,
    store_id: i64,
    state: String,
    event: Option<String>,
    error: Option<String>,
}

impl Row {
    fn read(self) -> Result<Licence> {
        let state = State::parse(&self.state).ok_or_else(|| Error::corrupt("apple_licences.state"))?;
        Ok(Licence { serial: self.serial, store_id: self.store_id, state, event: self.event, error: self.error })
    }
}

/// The connection with the store.
///
/// # Errors
/// Only the database's own.
pub fn find_connection(conn: &mut Conn) -> Result<Option<Connection>> {
    let row: Option<ConnectionRow> = apple_content::table.find(CURRENT).select(ConnectionRow::as_select()).first(conn).optional()?;
    Ok(row.map(|row| Connection {
        sealed_token: row.sealed_token,
        location_id: row.location_id,
        location: row.location,
        organisation: row.organisation,
        ends_at: Time(row.ends_at),
        warned_days: row.warned_days,
        wait_until: row.wait_until.map(Time),
        alarm: row.alarm.zip(row.alarm_at.map(Time)),
    }))
}

/// Puts a connection in force, over what was there.
///
/// # Errors
/// Only the database's own.
pub fn upsert_connection(tx: &mut Tx<'_>, connection: &Connection) -> Result<()> {
    let row = ConnectionRow {
        slot: CURRENT.into(),
        sealed_token: connection.sealed_token.clone(),
        location_id: connection.location_id.clone(),
        location: connection.location.clone(),
        organisation: connection.organisation.clone(),
        ends_at: connection.ends_at.0,
        warned_days: connection.warned_days,
        wait_until: connection.wait_until.map(|at| at.0),
        alarm: connection.alarm.as_ref().map(|(why, _)| why.clone()),
        alarm_at: connection.alarm.as_ref().map(|(_, since)| since.0),
    };
    each_backend!(tx.conn(), c => diesel::insert_into(apple_content::table)
        .values(&row)
        .on_conflict(apple_content::slot)
        .do_update()
        .set(&row)
        .execute(c))?;
    Ok(())
}

/// Notes until when the store wants to be left alone.
///
/// # Errors
/// Only the database's own.
pub fn update_wait(tx: &mut Tx<'_>, until: Time) -> Result<()> {
    diesel::update(apple_content::table.find(CURRENT)).set(apple_content::wait_until.eq(until.0)).execute(tx.conn())?;
    Ok(())
}

/// Notes what an administrator has to see to; whether that is news.
///
/// # Errors
/// Only the database's own.
pub fn claim_alarm(tx: &mut Tx<'_>, alarm: &str, now: Time) -> Result<bool> {
    let row = apple_content::table.filter(apple_content::slot.eq(CURRENT)).filter(apple_content::alarm.is_null());
    let set = (apple_content::alarm.eq(alarm), apple_content::alarm_at.eq(now.0));
    Ok(diesel::update(row).set(set).execute(tx.conn())? > 0)
}

/// Forgets what was to be seen to.
///
/// # Errors
/// Only the database's own.
pub fn clear_alarm(tx: &mut Tx<'_>) -> Result<()> {
    let none = (apple_content::alarm.eq(None::<String>), apple_content::alarm_at.eq(None::<i64>));
    diesel::update(apple_content::table.find(CURRENT)).set(none).execute(tx.conn())?;
    Ok(())
}

/// Notes a warning of the token's end; whether it was not given yet.
///
/// # Errors
/// Only the database's own.
pub fn claim_warning(tx: &mut Tx<'_>, days: i64) -> Result<bool> {
    let row = apple_content::table
        .filter(apple_content::slot.eq(CURRENT))
        .filter(apple_content::warned_days.is_null().or(apple_content::warned_days.gt(days)));
    Ok(diesel::update(row).set(apple_content::warned_days.eq(days)).execute(tx.conn())? > 0)
}

/// A device's licence.
///
/// # Errors
/// Only the database's own.
pub fn find_licence(conn: &mut Conn, serial: &str, store_id: i64) -> Result<Option<Licence>> {
    let row: Option<Row> = licences::table.find((serial, store_id)).select(Row::as_select()).first(conn).optional()?;
    row.map(Row::read).transpose()
}

/// Licences in a state, at most `limit`, those of one application beside each other.
///
/// # Errors
/// Only the database's own.
pub fn list_licences(conn: &mut Conn, state: State, limit: i64) -> Result<Vec<Licence>> {
    let rows: Vec<Row> = licences::table
        .filter(licences::state.eq(state.as_str()))
        .order((licences::store_id.asc(), licences::serial.asc()))
        .limit(limit)
        .select(Row::as_select())
        .load(conn)?;
    rows.into_iter().map(Row::read).collect()
}

/// How many licences are in a state.
///
/// # Errors
/// Only the database's own.
pub fn count_licences(conn: &mut Conn, state: State) -> Result<i64> {
    Ok(licences::table.filter(licences::state.eq(state.as_str())).count().get_result(conn)?)
}

/// Has a device want a licence, or not want it any more.
///
/// # Errors
/// Only the database's own.
pub fn upsert_licence(tx: &mut Tx<'_>, serial: &str, store_id: i64, state: State, now: Time) -> Result<()> {
    let set = (
        licences::state.eq(state.as_str()),
        licences::event.eq(None::<String>),
        licences::error.eq(None::<String>),
        licences::changed_at.eq(now.0),
    );
    if diesel::update(licences::table.find((serial, store_id))).set(set.clone()).execute(tx.conn())? == 0 && state != State::Unwanted {
        let key = (licences::serial.eq(serial), licences::store_id.eq(store_id));
        diesel::insert_into(licences::table).values((key, set)).execute(tx.conn())?;
    }
    Ok(())
}

/// Moves a licence if nobody moved it meanwhile; whether it did.
///
/// # Errors
/// Only the database's own.
pub fn claim_licence(tx: &mut Tx<'_>, before: &Licence, state: State, event: Option<&str>, error: Option<&str>, now: Time) -> Result<bool> {
    let row = licences::table.find((&before.serial, before.store_id)).filter(licences::state.eq(before.state.as_str()));
    let set = (licences::state.eq(state.as_str()), licences::event.eq(event), licences::error.eq(error), licences::changed_at.eq(now.0));
    Ok(diesel::update(row).set(set).execute(tx.conn())? > 0)
}

/// Forgets a licence that was taken back.
///
/// # Errors
/// Only the database's own.
pub fn delete_licence(tx: &mut Tx<'_>, licence: &Licence) -> Result<()> {
    let row = licences::table.find((&licence.serial, licence.store_id)).filter(licences::state.eq(licence.state.as_str()));
    diesel::delete(row).execute(tx.conn())?;
    Ok(())
}

/// Takes licences back from devices that are not managed any more, at most `limit`; how many.
///
/// # Errors
/// Only the database's own.
pub fn release_departed(tx: &mut Tx<'_>, limit: i64, now: Time) -> Result<usize> {
    let live = devices::table
        .inner_join(enrollments::table.on(enrollments::device_id.eq(devices::id)))
        .filter(devices::serial_number.eq(licences::serial.nullable()))
        .filter(enrollments::state.ne("ended"))
        .select(devices::id);
    let gone: Vec<(String, i64)> = licences::table
        .filter(licences::state.eq_any([State::Wanted.as_str(), State::Held.as_str(), State::Failed.as_str()]))
        .filter(diesel::dsl::not(diesel::dsl::exists(live)))
        .limit(limit)
        .select((licences::serial, licences::store_id))
        .load(tx.conn())?;
    for (serial, store_id) in &gone {
        upsert_licence(tx, serial, *store_id, State::Unwanted, now)?;
    }
    Ok(gone.len())
}
