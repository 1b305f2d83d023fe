//! Escrow: what a device entrusts to the server, one row of each kind. Reading one is the caller's to put into the audit log.

use diesel::prelude::*;

use super::super::dialect::each_backend;
use super::super::schema::apple_secrets;
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

/// Keeps a secret in the place of the one before.
///
/// # Errors
/// Only the database's own.
pub fn upsert_secret(tx: &mut Tx<'_>, enrollment: &EnrollmentId, kind: Kind, sealed: &[u8], now: Time) -> Result<()> {
    let row = (
        apple_secrets::id.eq(key(enrollment, kind)),
        apple_secrets::enrollment_id.eq(enrollment.as_str()),
        apple_secrets::kind.eq(kind.as_str()),
        apple_secrets::sealed_value.eq(sealed),
        apple_secrets::escrowed_at.eq(now.0),
    );
    let change = (apple_secrets::sealed_value.eq(sealed), apple_secrets::escrowed_at.eq(now.0));
    each_backend!(tx.conn(), c => diesel::insert_into(apple_secrets::table)
        .values(row)
        .on_conflict(apple_secrets::id)
        .do_update()
        .set(change)
        .execute(c))?;
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

/// Forgets a secret.
///
/// # Errors
/// Only the database's own.
pub fn delete_secret(tx: &mut Tx<'_>, enrollment: &EnrollmentId, kind: Kind) -> Result<()> {
    diesel::delete(apple_secrets::table.find(key(enrollment, kind))).execute(tx.conn())?;
    Ok(())
}
