//! Escrow: what a device entrusts to the server, one row of each kind. Reading one is the caller's to put into the audit log.

use diesel::prelude::*;

use super::super::dialect::each_backend;
use super::super::schema::{apple_secrets, enrollments};
use super::super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::domain::apple::escrow::Kind;
use crate::ids::EnrollmentId;

/// A sealed secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Escrowed {
    /// What.
    pub kind: Kind,
    /// The sealed bytes (column `apple_secrets.sealed_value`).
    pub sealed: Vec<u8>,
    /// Since when.
    pub at: Time,
}

fn key(enrollment: &EnrollmentId, kind: Kind) -> String {
    format!("{enrollment}/{kind}")
}

/// Keeps a secret in the place of the one before. `source` is the hash of the message that it came in, where the device sends it again and
/// again; `false` when that message is known.
///
/// # Errors
/// Only the database's own.
pub fn upsert_secret(
    tx: &mut Tx<'_>,
    enrollment: &EnrollmentId,
    kind: Kind,
    sealed: &[u8],
    source: Option<&str>,
    now: Time,
) -> Result<bool> {
    if let Some(source) = source {
        let known = apple_secrets::table.find(key(enrollment, kind)).filter(apple_secrets::source.eq(source));
        if known.count().get_result::<i64>(tx.conn())? > 0 {
            return Ok(false);
        }
    }
    let row = (
        apple_secrets::id.eq(key(enrollment, kind)),
        apple_secrets::enrollment_id.eq(enrollment.as_str()),
        apple_secrets::kind.eq(kind.as_str()),
        apple_secrets::sealed_value.eq(sealed),
        apple_secrets::source.eq(source),
        apple_secrets::escrowed_at.eq(now.0),
    );
    let change = (apple_secrets::sealed_value.eq(sealed), apple_secrets::source.eq(source), apple_secrets::escrowed_at.eq(now.0));
    each_backend!(tx.conn(), c => diesel::insert_into(apple_secrets::table)
        .values(row)
        .on_conflict(apple_secrets::id)
        .do_update()
        .set(change)
        .execute(c))?;
    Ok(true)
}

/// Puts a secret in the place of another kind; without one, the other is forgotten.
///
/// # Errors
/// Only the database's own.
pub fn promote_secret(tx: &mut Tx<'_>, enrollment: &EnrollmentId, from: Kind, to: Kind, now: Time) -> Result<()> {
    let found = find_secret(tx.conn(), enrollment, from)?;
    delete_secret(tx, enrollment, to)?;
    if let Some(found) = found {
        upsert_secret(tx, enrollment, to, &found.sealed, None, now)?;
        delete_secret(tx, enrollment, from)?;
    }
    Ok(())
}

/// A secret.
///
/// # Errors
/// Only the database's own.
pub fn find_secret(conn: &mut Conn, enrollment: &EnrollmentId, kind: Kind) -> Result<Option<Escrowed>> {
    let row: Option<(Vec<u8>, i64)> = apple_secrets::table
        .find(key(enrollment, kind))
        .select((apple_secrets::sealed_value, apple_secrets::escrowed_at))
        .first(conn)
        .optional()?;
    Ok(row.map(|(sealed, at)| Escrowed { kind, sealed, at: Time(at) }))
}

/// Which secrets there are, and since when.
///
/// # Errors
/// Only the database's own.
pub fn list_kinds(conn: &mut Conn, enrollment: &EnrollmentId) -> Result<Vec<(Kind, Time)>> {
    let of = apple_secrets::table.filter(apple_secrets::enrollment_id.eq(enrollment.as_str()));
    let rows: Vec<(String, i64)> = of.order(apple_secrets::kind).select((apple_secrets::kind, apple_secrets::escrowed_at)).load(conn)?;
    let kind = |(kind, at): (String, i64)| Ok((Kind::parse(&kind).ok_or_else(|| Error::corrupt("apple_secrets.kind"))?, Time(at)));
    rows.into_iter().map(kind).collect()
}

/// Since when secrets of a kind are kept of these devices.
///
/// # Errors
/// Only the database's own.
pub fn list_of_devices(conn: &mut Conn, kind: Kind, devices: &[String]) -> Result<Vec<(String, Time)>> {
    let of = apple_secrets::table.inner_join(enrollments::table).filter(apple_secrets::kind.eq(kind.as_str()));
    let of = of.filter(enrollments::device_id.eq_any(devices)).select((enrollments::device_id, apple_secrets::escrowed_at));
    let rows: Vec<(String, i64)> = of.load(conn)?;
    Ok(rows.into_iter().map(|(device, at)| (device, Time(at))).collect())
}

/// Forgets a secret.
///
/// # Errors
/// Only the database's own.
pub fn delete_secret(tx: &mut Tx<'_>, enrollment: &EnrollmentId, kind: Kind) -> Result<()> {
    diesel::delete(apple_secrets::table.find(key(enrollment, kind))).execute(tx.conn())?;
    Ok(())
}
