//! Freshness codes of attestations, by the enrolment that was given them.

use diesel::prelude::*;

use super::super::dialect::delete_some;
use super::super::schema::attestation_nonces;
use super::super::{Conn, Result, Tx};
use crate::clock::Time;
use crate::domain::apple::attestation::Nonce;
use crate::ids::EnrollmentId;

/// Codes of one enrolment that are looked at, the newest first.
const MOST: i64 = 50;

/// Keeps a code.
///
/// # Errors
/// Only the database's own.
pub fn insert_nonce(tx: &mut Tx<'_>, enrollment: &EnrollmentId, nonce: &Nonce) -> Result<()> {
    let row = (
        attestation_nonces::nonce.eq(&nonce.nonce),
        attestation_nonces::enrollment_id.eq(enrollment.as_str()),
        attestation_nonces::issued_at.eq(nonce.issued_at.0),
    );
    diesel::insert_into(attestation_nonces::table).values(row).execute(tx.conn())?;
    Ok(())
}

/// The codes of an enrolment, the newest first.
///
/// # Errors
/// Only the database's own.
pub fn list_nonces(conn: &mut Conn, enrollment: &EnrollmentId) -> Result<Vec<Nonce>> {
    let rows: Vec<(Vec<u8>, i64)> = attestation_nonces::table
        .filter(attestation_nonces::enrollment_id.eq(enrollment.as_str()))
        .order(attestation_nonces::issued_at.desc())
        .limit(MOST)
        .select((attestation_nonces::nonce, attestation_nonces::issued_at))
        .load(conn)?;
    Ok(rows.into_iter().map(|(nonce, at)| Nonce { nonce, issued_at: Time(at) }).collect())
}

/// Forgets codes that are too old to be accepted, at most `limit`; returns how many.
///
/// # Errors
/// Only the database's own.
pub fn purge_nonces(tx: &mut Tx<'_>, before: Time, limit: i64) -> Result<usize> {
    Ok(delete_some!(tx, attestation_nonces, nonce: Vec<u8>, attestation_nonces::issued_at.lt(before.0), limit))
}
