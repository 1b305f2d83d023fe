//! Tokens with which devices register at the identity service. Their texts are nowhere in the database.

use diesel::prelude::*;

use super::dialect::delete_some;
use super::schema::registration_tokens;
use super::{Conn, Result, Tx};
use crate::clock::Time;
use crate::domain::registration::Token;
use crate::ids::{DeviceId, EnrollmentId, ProfileId};

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = registration_tokens)]
struct Row {
    id: String,
    device_id: String,
    enrollment_id: String,
    profile_id: String,
    payload: String,
    expires_at: i64,
    used_at: Option<i64>,
    used_for: Option<String>,
    created_at: i64,
}

impl From<Row> for Token {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            device_id: DeviceId::from_store(row.device_id),
            enrollment_id: EnrollmentId::from_store(row.enrollment_id),
            profile_id: ProfileId::from_store(row.profile_id),
            payload: row.payload,
            created_at: Time(row.created_at),
            expires_at: Time(row.expires_at),
            used_at: row.used_at.map(Time),
            used_for: row.used_for,
        }
    }
}

/// Inserts a token.
///
/// # Errors
/// Only the database's own.
pub fn insert_token(tx: &mut Tx<'_>, token: &Token) -> Result<()> {
    let row = Row {
        id: token.id.clone(),
        device_id: token.device_id.to_string(),
        enrollment_id: token.enrollment_id.to_string(),
        profile_id: token.profile_id.to_string(),
        payload: token.payload.clone(),
        expires_at: token.expires_at.0,
        used_at: token.used_at.map(|at| at.0),
        used_for: token.used_for.clone(),
        created_at: token.created_at.0,
    };
    diesel::insert_into(registration_tokens::table).values(row).execute(tx.conn())?;
    Ok(())
}

/// The token of that id, good or not.
///
/// # Errors
/// Only the database's own.
pub fn find_token(conn: &mut Conn, id: &str) -> Result<Option<Token>> {
    let row: Option<Row> = registration_tokens::table.find(id).select(Row::as_select()).first(conn).optional()?;
    Ok(row.map(Token::from))
}

/// The tokens of an enrolment of the device that are good still, the newest first.
///
/// # Errors
/// Only the database's own.
pub fn list_good(conn: &mut Conn, device: &DeviceId, enrollment: &EnrollmentId, now: Time) -> Result<Vec<Token>> {
    let rows: Vec<Row> = registration_tokens::table
        .filter(registration_tokens::device_id.eq(device.as_str()))
        .filter(registration_tokens::enrollment_id.eq(enrollment.as_str()))
        .filter(registration_tokens::used_at.is_null())
        .filter(registration_tokens::expires_at.gt(now.0))
        .order(registration_tokens::created_at.desc())
        .select(Row::as_select())
        .load(conn)?;
    Ok(rows.into_iter().map(Token::from).collect())
}

/// Uses a token up for a key; `false` when it is not good (any more) or somebody was faster.
///
/// # Errors
/// Only the database's own.
pub fn claim_token(tx: &mut Tx<'_>, id: &str, key: &str, now: Time) -> Result<bool> {
    let good = registration_tokens::table
        .find(id)
        .filter(registration_tokens::used_at.is_null())
        .filter(registration_tokens::expires_at.gt(now.0));
    let used = (registration_tokens::used_at.eq(Some(now.0)), registration_tokens::used_for.eq(Some(key)));
    Ok(diesel::update(good).set(used).execute(tx.conn())? == 1)
}

/// Takes back the tokens that a device was given with a profile and did not use, but for those of some payloads.
///
/// # Errors
/// Only the database's own.
pub fn delete_unused(tx: &mut Tx<'_>, device: &DeviceId, profile: &ProfileId, keep: &[String]) -> Result<()> {
    let unused = registration_tokens::table
        .filter(registration_tokens::device_id.eq(device.as_str()))
        .filter(registration_tokens::profile_id.eq(profile.as_str()))
        .filter(registration_tokens::payload.ne_all(keep))
        .filter(registration_tokens::used_at.is_null());
    diesel::delete(unused).execute(tx.conn())?;
    Ok(())
}

/// Removes tokens that ended before `before`, at most `limit`; says how many.
///
/// # Errors
/// Only the database's own.
pub fn purge_tokens(tx: &mut Tx<'_>, before: Time, limit: i64) -> Result<usize> {
    Ok(delete_some!(tx, registration_tokens, id: String, registration_tokens::expires_at.lt(before.0), limit))
}

/// Removes all tokens; says how many there were. For a database that was restored.
///
/// # Errors
/// Only the database's own.
pub fn delete_all(tx: &mut Tx<'_>) -> Result<usize> {
    Ok(diesel::delete(registration_tokens::table).execute(tx.conn())?)
}
