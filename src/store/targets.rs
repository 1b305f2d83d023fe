//! Taking turns between transactions that change who should have what.
//!
//! A recomputation reads what its transaction did not write: assignments, groups, devices. On PostgreSQL two transactions that each see
//! only their own half (a profile is assigned while a device enrols) would both miss the pair. So each takes its turn *before* its first
//! read or change. On SQLite there is one writer, and nothing has to be done.
//!
//! What a transaction needs it takes in this order, so that no two wait for each other: its turn, the enrolments' rows by their ids, the
//! session's, the items, facts and orders, the device's row, the verdict, challenges, certificates by their ids, their authorities, and the head of the
//! audit log last. One that judges many devices takes all their verdicts before it judges the first
//! ([`super::compliance::lock_verdicts`]). Who only notes when devices were heard of waits for nobody
//! ([`super::enrollments::update_last_seen`]).

use diesel::prelude::*;

use super::{Conn, Result, Tx};

/// The advisory lock's number; the migrations use the one before it.
const LOCK: i64 = 7_709_512_301;

/// What a transaction changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// One device: it enrols, leaves, or is judged for the first time. Devices do not wait for each other.
    Device,
    /// What devices are given: profiles, assignments, groups, users, settings. Waits for everybody, and everybody waits for it.
    Shared,
}

/// Waits for the transaction's turn, which lasts until its end. Call it first: what was read before may be outdated.
///
/// # Errors
/// Only the database's own.
pub fn take_turn(tx: &mut Tx<'_>, turn: Turn) -> Result<()> {
    let Conn::Postgres(conn) = tx.conn() else { return Ok(()) };
    let query = match turn {
        Turn::Device => "SELECT pg_advisory_xact_lock_shared($1)",
        Turn::Shared => "SELECT pg_advisory_xact_lock($1)",
    };
    diesel::sql_query(query).bind::<diesel::sql_types::BigInt, _>(LOCK).execute(conn)?;
    Ok(())
}
