//! One-time proofs of a sign-in that a device shows while it enrols. Kept as the SHA-256 of the token.

use diesel::prelude::*;

use super::apple::management::mode_of;
use super::dialect::delete_some;
use super::schema::enrollment_tokens;
use super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::domain::device::Platform;
use crate::ids::{TapId, UserId};
use crate::wire::apple::enroll::Mode;

/// A token as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrollmentToken {
    /// SHA-256 of the token's text, lower-case hex.
    pub hash: String,
    /// Who signed in.
    pub user_id: UserId,
    /// What kind of device it is for.
    pub platform: Platform,
    /// The way of enrolling by account that it is for alone; `None`: for the others.
    pub mode: Option<Mode>,
    /// How the person signed in, such as `tap`.
    pub method: String,
    /// The pass that was used, when it was one.
    pub tap_id: Option<TapId>,
    /// Until when it is good.
    pub expires_at: Time,
    /// When an enrolment succeeded with it.
    pub used_at: Option<Time>,
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = enrollment_tokens)]
struct Row {
    token_hash: String,
    user_id: String,
    platform: String,
    mode: Option<String>,
    method: String,
    tap_id: Option<String>,
    expires_at: i64,
    used_at: Option<i64>,
}

/// Inserts a token.
///
/// # Errors
/// Only the database's own.
pub fn insert_token(tx: &mut Tx<'_>, token: &EnrollmentToken, now: Time) -> Result<()> {
    let row = Row {
        token_hash: token.hash.clone(),
        user_id: token.user_id.to_string(),
        platform: token.platform.to_string(),
        mode: token.mode.map(|mode| mode.as_str().to_owned()),
        method: token.method.clone(),
        tap_id: token.tap_id.as_ref().map(TapId::to_string),
        expires_at: token.expires_at.0,
        used_at: token.used_at.map(|t| t.0),
    };
    diesel::insert_into(enrollment_tokens::table).values((row, enrollment_tokens::created_at.eq(now.0))).execute(tx.conn())?;
    Ok(())
}

/// The token with that hash, used or not.
///
/// # Errors
/// Only the database's own.
pub fn find_token(conn: &mut Conn, hash: &str) -> Result<Option<EnrollmentToken>> {
    let row: Option<Row> = enrollment_tokens::table.find(hash).select(Row::as_select()).first(conn).optional()?;
    row.map(|row| {
        Ok(EnrollmentToken {
            hash: row.token_hash,
            user_id: UserId::from_store(row.user_id),
            platform: Platform::parse(&row.platform).ok_or_else(|| Error::corrupt("enrollment_tokens.platform"))?,
            mode: mode_of(row.mode)?,
            method: row.method,
            tap_id: row.tap_id.map(TapId::from_store),
            expires_at: Time(row.expires_at),
            used_at: row.used_at.map(Time),
        })
    })
    .transpose()
}

/// Uses the token up; `false` when it is used, expired or unknown.
///
/// # Errors
/// Only the database's own.
pub fn claim_token(tx: &mut Tx<'_>, hash: &str, now: Time) -> Result<bool> {
    let fresh =
        enrollment_tokens::table.find(hash).filter(enrollment_tokens::used_at.is_null()).filter(enrollment_tokens::expires_at.gt(now.0));
    Ok(diesel::update(fresh).set(enrollment_tokens::used_at.eq(Some(now.0))).execute(tx.conn())? == 1)
}

/// Removes the tokens of a user.
///
/// # Errors
/// Only the database's own.
pub fn delete_of_user(tx: &mut Tx<'_>, user: &UserId) -> Result<usize> {
    Ok(diesel::delete(enrollment_tokens::table.filter(enrollment_tokens::user_id.eq(user.as_str()))).execute(tx.conn())?)
}

/// Removes tokens that expired before `before`, at most `limit`, and says how many.
///
/// # Errors
/// Only the database's own.
pub fn purge_tokens(tx: &mut Tx<'_>, before: Time, limit: i64) -> Result<usize> {
    Ok(delete_some!(tx, enrollment_tokens, token_hash: String, enrollment_tokens::expires_at.lt(before.0), limit))
}

/// Removes all tokens; says how many there were. For a database that was restored.
///
/// # Errors
/// Only the database's own.
pub fn delete_all(tx: &mut Tx<'_>) -> Result<usize> {
    Ok(diesel::delete(enrollment_tokens::table).execute(tx.conn())?)
}
