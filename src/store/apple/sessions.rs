//! Enrolments that have begun: somebody signed in and was given a profile, and the device has not been heard of yet.

use diesel::prelude::*;

use super::super::dialect::delete_some;
use super::super::schema::apple_sessions;
use super::super::{Conn, Error, Result, Tx};
use super::management;
use crate::clock::Time;
use crate::domain::device::Platform;
use crate::ids::{EnrollmentId, UserId};
use crate::wire::apple::enroll::Mdm;

/// An enrolment that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The id of the enrolment that it becomes; the identity's certificate names it.
    pub id: EnrollmentId,
    /// Who signed in; `None` for a device without a user.
    pub user_id: Option<UserId>,
    /// What was asked for.
    pub platform: Platform,
    /// The device's identifier, when it was proven before the profile was given out.
    pub udid: Option<String>,
    /// The serial number, when it was proven before the profile was given out.
    pub serial: Option<String>,
    /// What the profile says of the management; `None`: the device got none yet.
    pub management: Option<Mdm>,
    /// How the person or device was known: the word for audit rows.
    pub method: String,
    /// When it began.
    pub created_at: Time,
    /// Until when the device may enrol.
    pub expires_at: Time,
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = apple_sessions)]
struct Row {
    id: String,
    user_id: Option<String>,
    platform: String,
    udid: Option<String>,
    serial: Option<String>,
    mode: Option<String>,
    account: Option<String>,
    payload: Option<String>,
    method: String,
    created_at: i64,
    expires_at: i64,
}

impl TryFrom<Row> for Session {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            id: EnrollmentId::from_store(row.id),
            user_id: row.user_id.map(UserId::from_store),
            platform: Platform::parse(&row.platform).ok_or_else(|| Error::corrupt("apple_sessions.platform"))?,
            udid: row.udid,
            serial: row.serial,
            management: row.payload.map(|payload| management::payload((row.mode, row.account, payload))).transpose()?,
            method: row.method,
            created_at: Time(row.created_at),
            expires_at: Time(row.expires_at),
        })
    }
}

/// Keeps a session.
///
/// # Errors
/// Only the database's own.
pub fn insert_session(tx: &mut Tx<'_>, session: &Session) -> Result<()> {
    let (mode, account, payload) = match session.management.as_ref().map(management::columns).transpose()? {
        Some((mode, account, payload)) => (mode, account, Some(payload)),
        None => (None, None, None),
    };
    let row = Row {
        id: session.id.to_string(),
        user_id: session.user_id.as_ref().map(UserId::to_string),
        platform: session.platform.to_string(),
        udid: session.udid.clone(),
        serial: session.serial.clone(),
        mode,
        account,
        payload,
        method: session.method.clone(),
        created_at: session.created_at.0,
        expires_at: session.expires_at.0,
    };
    diesel::insert_into(apple_sessions::table).values(row).execute(tx.conn())?;
    Ok(())
}

/// The session.
///
/// # Errors
/// Only the database's own.
pub fn find_session(conn: &mut Conn, id: &EnrollmentId) -> Result<Option<Session>> {
    let row: Option<Row> = apple_sessions::table.find(id.as_str()).select(Row::as_select()).first(conn).optional()?;
    row.map(Session::try_from).transpose()
}

/// Uses a session up, in the transaction that makes an enrolment of it; `false` when it is over or somebody else did.
///
/// # Errors
/// Only the database's own.
pub fn claim_session(tx: &mut Tx<'_>, id: &EnrollmentId, now: Time) -> Result<bool> {
    let session = apple_sessions::table.find(id.as_str()).filter(apple_sessions::expires_at.gt(now.0));
    Ok(diesel::delete(session).execute(tx.conn())? == 1)
}

/// Forgets sessions that ended before `before`, at most `limit`. Returns how many.
///
/// # Errors
/// Only the database's own.
pub fn purge_sessions(tx: &mut Tx<'_>, before: Time, limit: i64) -> Result<usize> {
    Ok(delete_some!(tx, apple_sessions, id: String, apple_sessions::expires_at.lt(before.0), limit))
}
