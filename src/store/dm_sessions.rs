//! Open OMA-DM sessions: any node may answer the next message. They hold what is on its way to the device, secrets included, and are
//! sealed.

use diesel::prelude::*;

use super::dialect::{delete_some, each_backend};
use super::schema::{dm_pieces, dm_sessions};
use super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::ids::EnrollmentId;

/// A session between two messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Whose.
    pub enrollment_id: EnrollmentId,
    /// The protocol's session id.
    pub session_id: String,
    /// Number of the device's last message.
    pub msg_id: i64,
    /// SHA-256 of that message.
    pub body_hash: Vec<u8>,
    /// What was answered, sealed: a device that asks again gets these bytes.
    pub sealed_response: Vec<u8>,
    /// The machine, sealed; `None` once the session has ended.
    pub sealed_state: Option<Vec<u8>>,
    /// Compare-and-set counter; 0 before the first write.
    pub version: i64,
    /// When the session began.
    pub started_at: Time,
    /// When that message was answered; whoever stores it says when.
    pub answered_at: Time,
}

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = dm_sessions, treat_none_as_null = true)]
struct Row {
    enrollment_id: String,
    session_id: String,
    msg_id: i64,
    body_hash: Vec<u8>,
    sealed_response: Vec<u8>,
    sealed_state: Option<Vec<u8>>,
    version: i64,
    started_at: i64,
    updated_at: i64,
}

/// The enrolment's session, open or ended.
///
/// # Errors
/// Only the database's own.
pub fn find_session(conn: &mut Conn, enrollment: &EnrollmentId) -> Result<Option<Stored>> {
    let row: Option<Row> = dm_sessions::table.find(enrollment.as_str()).select(Row::as_select()).first(conn).optional()?;
    Ok(row.map(|row| Stored {
        enrollment_id: EnrollmentId::from_store(row.enrollment_id),
        session_id: row.session_id,
        msg_id: row.msg_id,
        body_hash: row.body_hash,
        sealed_response: row.sealed_response,
        sealed_state: row.sealed_state,
        version: row.version,
        started_at: Time(row.started_at),
        answered_at: Time(row.updated_at),
    }))
}

/// Stores the session after a message, if no other node has answered since it was read.
///
/// # Errors
/// [`Error::Busy`] when one has: read again, the stored answer may serve.
pub fn upsert_session(tx: &mut Tx<'_>, session: &Stored) -> Result<()> {
    let row = Row {
        enrollment_id: session.enrollment_id.to_string(),
        session_id: session.session_id.clone(),
        msg_id: session.msg_id,
        body_hash: session.body_hash.clone(),
        sealed_response: session.sealed_response.clone(),
        sealed_state: session.sealed_state.clone(),
        version: session.version + 1,
        started_at: session.started_at.0,
        updated_at: session.answered_at.0,
    };
    let changed = if session.version == 0 {
        each_backend!(tx.conn(), c => diesel::insert_into(dm_sessions::table)
            .values(&row)
            .on_conflict_do_nothing()
            .execute(c))?
    } else {
        diesel::update(dm_sessions::table.find(row.enrollment_id.as_str()))
            .filter(dm_sessions::version.eq(session.version))
            .set(&row)
            .execute(tx.conn())?
    };
    if changed == 1 { Ok(()) } else { Err(Error::Busy) }
}

/// Forgets the enrolment's session and what a device has sent of a large object.
///
/// # Errors
/// Only the database's own.
pub fn purge_session(tx: &mut Tx<'_>, enrollment: &EnrollmentId) -> Result<()> {
    diesel::delete(dm_sessions::table.find(enrollment.as_str())).execute(tx.conn())?;
    Ok(())
}

/// Forgets sessions that nobody has touched since `before`, at most `limit`. Returns how many.
///
/// # Errors
/// Only the database's own.
pub fn purge_sessions(tx: &mut Tx<'_>, before: Time, limit: i64) -> Result<usize> {
    Ok(delete_some!(tx, dm_sessions, enrollment_id: String, dm_sessions::updated_at.lt(before.0), limit))
}

/// The pieces of the large object that the enrolment's session is receiving, sealed, in their order.
///
/// # Errors
/// Only the database's own.
pub fn list_pieces(conn: &mut Conn, enrollment: &EnrollmentId) -> Result<Vec<Vec<u8>>> {
    let of = dm_pieces::table.filter(dm_pieces::enrollment_id.eq(enrollment.as_str()));
    Ok(of.order(dm_pieces::number).select(dm_pieces::sealed_text).load(conn)?)
}

/// Keeps a piece of a large object, after [`upsert_session`].
///
/// # Errors
/// [`Error::Conflict`] without a session, or when it has this piece.
pub fn insert_piece(tx: &mut Tx<'_>, enrollment: &EnrollmentId, number: u32, sealed_text: &[u8]) -> Result<()> {
    let row = (
        dm_pieces::id.eq(format!("{enrollment}/{number:010}")),
        dm_pieces::enrollment_id.eq(enrollment.as_str()),
        dm_pieces::number.eq(i64::from(number)),
        dm_pieces::sealed_text.eq(sealed_text),
    );
    diesel::insert_into(dm_pieces::table).values(row).execute(tx.conn())?;
    Ok(())
}

/// Forgets what has come of a large object.
///
/// # Errors
/// Only the database's own.
pub fn purge_pieces(tx: &mut Tx<'_>, enrollment: &EnrollmentId) -> Result<()> {
    diesel::delete(dm_pieces::table.filter(dm_pieces::enrollment_id.eq(enrollment.as_str()))).execute(tx.conn())?;
    Ok(())
}
