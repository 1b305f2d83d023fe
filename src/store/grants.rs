//! What people gave applications.

use diesel::prelude::*;

use super::dialect::delete_some;
use super::schema::oauth_grants;
use super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::domain::application::Client;
use crate::domain::grant::{Asked, Grant};
use crate::domain::session::Method;
use crate::ids::{ApplicationId, GrantId, UserId};

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = oauth_grants)]
struct Row {
    id: String,
    application_id: String,
    user_id: String,
    client: String,
    redirect_uri: Option<String>,
    scopes: String,
    challenge: Option<String>,
    nonce: Option<String>,
    code_hash: String,
    method: String,
    method_id: String,
    signed_in_at: i64,
    method_ends_at: Option<i64>,
    generation: i64,
    rotated_at: i64,
    created_at: i64,
    code_ends_at: i64,
    ends_at: i64,
}

impl TryFrom<Row> for Grant {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        // A permission that an older version knew is not given any more.
        let words = row.scopes.split(' ').filter(|word| Asked::read(std::iter::once(*word)).is_ok());
        Ok(Self {
            id: GrantId::from_store(row.id),
            application: ApplicationId::from_store(row.application_id),
            user: UserId::from_store(row.user_id),
            client: Client::parse(&row.client).ok_or_else(|| Error::corrupt("oauth_grants.client"))?,
            redirect_uri: row.redirect_uri,
            asked: Asked::read(words).unwrap_or_default(),
            challenge: row.challenge,
            nonce: row.nonce,
            method: Method::parse(&row.method).ok_or_else(|| Error::corrupt("oauth_grants.method"))?,
            method_id: row.method_id,
            signed_in_at: Time(row.signed_in_at),
            method_ends_at: row.method_ends_at.map(Time),
            generation: row.generation,
            rotated_at: Time(row.rotated_at),
            created_at: Time(row.created_at),
            code_ends_at: Time(row.code_ends_at),
            ends_at: Time(row.ends_at),
        })
    }
}

/// Inserts a grant with the hash of its code.
///
/// # Errors
/// [`Error::Conflict`] when there is one of that code.
pub fn insert_grant(tx: &mut Tx<'_>, grant: &Grant, code_hash: &str) -> Result<()> {
    let row = Row {
        id: grant.id.to_string(),
        application_id: grant.application.to_string(),
        user_id: grant.user.to_string(),
        client: grant.client.to_string(),
        redirect_uri: grant.redirect_uri.clone(),
        scopes: grant.asked.words(),
        challenge: grant.challenge.clone(),
        nonce: grant.nonce.clone(),
        code_hash: code_hash.to_owned(),
        method: grant.method.to_string(),
        method_id: grant.method_id.clone(),
        signed_in_at: grant.signed_in_at.0,
        method_ends_at: grant.method_ends_at.map(|t| t.0),
        generation: grant.generation,
        rotated_at: grant.rotated_at.0,
        created_at: grant.created_at.0,
        code_ends_at: grant.code_ends_at.0,
        ends_at: grant.ends_at.0,
    };
    diesel::insert_into(oauth_grants::table).values(row).execute(tx.conn())?;
    Ok(())
}

/// The grant of that code, exchanged or not.
///
/// # Errors
/// Only the database's own.
pub fn find_by_code(conn: &mut Conn, code_hash: &str) -> Result<Option<Grant>> {
    let rows = oauth_grants::table.filter(oauth_grants::code_hash.eq(code_hash));
    rows.select(Row::as_select()).first(conn).optional()?.map(Grant::try_from).transpose()
}

/// The grant.
///
/// # Errors
/// Only the database's own.
pub fn find_grant(conn: &mut Conn, id: &GrantId) -> Result<Option<Grant>> {
    let row: Option<Row> = oauth_grants::table.find(id.as_str()).select(Row::as_select()).first(conn).optional()?;
    row.map(Grant::try_from).transpose()
}

/// Makes the next refresh token the newest one; false when somebody else did in the meantime, or the grant is gone.
///
/// # Errors
/// Only the database's own.
pub fn claim_next(tx: &mut Tx<'_>, grant: &Grant, now: Time) -> Result<bool> {
    let current = oauth_grants::table.find(grant.id.as_str()).filter(oauth_grants::generation.eq(grant.generation));
    let changed = diesel::update(current)
        .set((
            oauth_grants::generation.eq(grant.generation + 1),
            oauth_grants::rotated_at.eq(now.0),
            oauth_grants::ends_at.eq(grant.end_after(now).0),
        ))
        .execute(tx.conn())?;
    Ok(changed == 1)
}

/// Takes a grant back; whether there was one.
///
/// # Errors
/// Only the database's own.
pub fn delete_grant(tx: &mut Tx<'_>, id: &GrantId) -> Result<bool> {
    Ok(diesel::delete(oauth_grants::table.find(id.as_str())).execute(tx.conn())? == 1)
}

/// What a user gave that programs use and that is good at `now`, newest first.
///
/// # Errors
/// Only the database's own.
pub fn list_of_user(conn: &mut Conn, user: &UserId, now: Time, limit: i64) -> Result<Vec<Grant>> {
    let rows: Vec<Row> = oauth_grants::table
        .filter(oauth_grants::user_id.eq(user.as_str()))
        .filter(oauth_grants::ends_at.gt(now.0))
        .filter(oauth_grants::generation.gt(0))
        .order((oauth_grants::created_at.desc(), oauth_grants::id.desc()))
        .limit(limit)
        .select(Row::as_select())
        .load(conn)?;
    rows.into_iter().map(Grant::try_from).collect()
}

/// Takes back what began with that pass or passkey.
///
/// # Errors
/// Only the database's own.
pub fn delete_of_method(tx: &mut Tx<'_>, method: &str) -> Result<usize> {
    Ok(diesel::delete(oauth_grants::table.filter(oauth_grants::method_id.eq(method))).execute(tx.conn())?)
}

/// Takes back what a user gave.
///
/// # Errors
/// Only the database's own.
pub fn delete_of_user(tx: &mut Tx<'_>, user: &UserId) -> Result<usize> {
    Ok(diesel::delete(oauth_grants::table.filter(oauth_grants::user_id.eq(user.as_str()))).execute(tx.conn())?)
}

/// Removes grants that ended before `before`, at most `limit`, and says how many.
///
/// # Errors
/// Only the database's own.
pub fn purge_grants(tx: &mut Tx<'_>, before: Time, limit: i64) -> Result<usize> {
    Ok(delete_some!(tx, oauth_grants, id: String, oauth_grants::ends_at.lt(before.0), limit))
}

/// Removes all grants; says how many there were. For a database that was restored: newer refresh tokens than it knows are out there.
///
/// # Errors
/// Only the database's own.
pub fn delete_all(tx: &mut Tx<'_>) -> Result<usize> {
    Ok(diesel::delete(oauth_grants::table).execute(tx.conn())?)
}
