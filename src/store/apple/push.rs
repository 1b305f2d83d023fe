//! The push certificate, and the key that waits for the next one.

use diesel::prelude::*;

use crate::clock::Time;
use crate::domain::apple::push::{Alarm, Certificate, Request};
use crate::store::dialect::each_backend;
use crate::store::outbox::QUEUED;
use crate::store::schema::{apple_push, outbox};
use crate::store::{Conn, Error, Result, Tx};

const CURRENT: &str = "current";
const NEXT: &str = "next";

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = apple_push, treat_none_as_null = true)]
struct Row {
    slot: String,
    sealed_key: Vec<u8>,
    request: Option<Vec<u8>>,
    certificate: Option<Vec<u8>>,
    topic: Option<String>,
    not_before: Option<i64>,
    not_after: Option<i64>,
    alarm: Option<String>,
    alarm_at: Option<i64>,
    warned_days: Option<i64>,
    created_at: i64,
    account: Option<String>,
}

fn find(conn: &mut Conn, slot: &str) -> Result<Option<Row>> {
    Ok(apple_push::table.find(slot).select(Row::as_select()).first(conn).optional()?)
}

fn upsert(tx: &mut Tx<'_>, row: &Row) -> Result<()> {
    each_backend!(tx.conn(), c => diesel::insert_into(apple_push::table)
        .values(row)
        .on_conflict(apple_push::slot)
        .do_update()
        .set(row)
        .execute(c))?;
    Ok(())
}

/// The push certificate in force.
///
/// # Errors
/// Only the database's own.
pub fn find_certificate(conn: &mut Conn) -> Result<Option<Certificate>> {
    let missing = || Error::corrupt("apple_push");
    find(conn, CURRENT)?
        .map(|row| {
            Ok(Certificate {
                sealed_key: row.sealed_key,
                der: row.certificate.ok_or_else(missing)?,
                topic: row.topic.ok_or_else(missing)?,
                not_before: Time(row.not_before.ok_or_else(missing)?),
                not_after: Time(row.not_after.ok_or_else(missing)?),
                alarm: row.alarm.zip(row.alarm_at).map(|(reason, at)| Alarm { reason, since: Time(at) }),
                warned_days: row.warned_days,
                created_at: Time(row.created_at),
                account: row.account,
            })
        })
        .transpose()
}

/// Whether there is a push certificate.
///
/// # Errors
/// Only the database's own.
pub fn has_certificate(conn: &mut Conn) -> Result<bool> {
    let count: i64 = apple_push::table.find(CURRENT).count().get_result(conn)?;
    Ok(count > 0)
}

/// The key that waits for its certificate.
///
/// # Errors
/// Only the database's own.
pub fn find_request(conn: &mut Conn) -> Result<Option<Request>> {
    find(conn, NEXT)?
        .map(|row| {
            let der = row.request.ok_or_else(|| Error::corrupt("apple_push.request"))?;
            Ok(Request { sealed_key: row.sealed_key, der, created_at: Time(row.created_at) })
        })
        .transpose()
}

/// Puts a certificate in force, over what was there.
///
/// # Errors
/// Only the database's own.
pub fn upsert_certificate(tx: &mut Tx<'_>, certificate: &Certificate) -> Result<()> {
    upsert(
        tx,
        &Row {
            slot: CURRENT.into(),
            sealed_key: certificate.sealed_key.clone(),
            request: None,
            certificate: Some(certificate.der.clone()),
            topic: Some(certificate.topic.clone()),
            not_before: Some(certificate.not_before.0),
            not_after: Some(certificate.not_after.0),
            alarm: certificate.alarm.as_ref().map(|alarm| alarm.reason.clone()),
            alarm_at: certificate.alarm.as_ref().map(|alarm| alarm.since.0),
            warned_days: certificate.warned_days,
            created_at: certificate.created_at.0,
            account: certificate.account.clone(),
        },
    )
}

/// Has a key wait for its certificate, in the place of one that did.
///
/// # Errors
/// Only the database's own.
pub fn upsert_request(tx: &mut Tx<'_>, request: &Request) -> Result<()> {
    upsert(
        tx,
        &Row {
            slot: NEXT.into(),
            sealed_key: request.sealed_key.clone(),
            request: Some(request.der.clone()),
            certificate: None,
            topic: None,
            not_before: None,
            not_after: None,
            alarm: None,
            alarm_at: None,
            warned_days: None,
            created_at: request.created_at.0,
            account: None,
        },
    )
}

/// Forgets the key that waits.
///
/// # Errors
/// Only the database's own.
pub fn purge_request(tx: &mut Tx<'_>) -> Result<()> {
    diesel::delete(apple_push::table.find(NEXT)).execute(tx.conn())?;
    Ok(())
}

/// Since when the oldest message of a topic waits that was tried, and how the last try failed.
///
/// # Errors
/// Only the database's own.
pub fn find_stuck(conn: &mut Conn, topic: &str) -> Result<Option<(Time, String)>> {
    let row: Option<(i64, Option<String>)> = outbox::table
        .filter(outbox::state.eq(QUEUED))
        .filter(outbox::topic.eq(topic))
        .filter(outbox::attempts.gt(0))
        .order(outbox::queued_at)
        .select((outbox::queued_at, outbox::last_error))
        .first(conn)
        .optional()?;
    Ok(row.map(|(since, why)| (Time(since), why.unwrap_or_default())))
}

/// Notes that the push service refuses the certificate `der`, or takes it again; `false` when that is known, or another certificate is
/// in force.
///
/// # Errors
/// Only the database's own.
pub fn claim_alarm(tx: &mut Tx<'_>, der: &[u8], alarm: Option<&Alarm>) -> Result<bool> {
    let row = apple_push::table.find(CURRENT).filter(apple_push::certificate.eq(Some(der)));
    let change =
        (apple_push::alarm.eq(alarm.map(|alarm| alarm.reason.as_str())), apple_push::alarm_at.eq(alarm.map(|alarm| alarm.since.0)));
    let changed = match alarm {
        Some(_) => diesel::update(row.filter(apple_push::alarm.is_null())).set(change).execute(tx.conn())?,
        None => diesel::update(row.filter(apple_push::alarm.is_not_null())).set(change).execute(tx.conn())?,
    };
    Ok(changed > 0)
}

/// Notes that a warning of the end of the certificate `der` is given; `false` when another node gave it.
///
/// # Errors
/// Only the database's own.
pub fn claim_warning(tx: &mut Tx<'_>, der: &[u8], days: i64) -> Result<bool> {
    let row = apple_push::table
        .find(CURRENT)
        .filter(apple_push::certificate.eq(Some(der)))
        .filter(apple_push::warned_days.is_null().or(apple_push::warned_days.gt(days)));
    let changed = diesel::update(row).set(apple_push::warned_days.eq(Some(days))).execute(tx.conn())?;
    Ok(changed > 0)
}
