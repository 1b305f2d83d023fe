//! Keys that sign tokens.

use diesel::prelude::*;

use super::schema::signing_keys;
use super::{Conn, Error, Result, Tx};
use crate::clock::Time;

/// A signing key. The public half is published from the moment it is stored until some time after `retired_at`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    /// Names the key in tokens.
    pub kid: String,
    /// JOSE algorithm.
    pub algorithm: String,
    /// The public half, as JWK.
    pub jwk: String,
    /// The private half (PKCS#8 DER), sealed for [`super::sealed`]'s purpose `signing_keys.key`.
    pub sealed_key: Vec<u8>,
    /// Since when it is published.
    pub created_at: Time,
    /// From when on it signs.
    pub active_from: Time,
    /// When a newer key took over.
    pub retired_at: Option<Time>,
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = signing_keys)]
struct Row {
    kid: String,
    algorithm: String,
    jwk: String,
    sealed_key: Vec<u8>,
    created_at: i64,
    active_from: i64,
    retired_at: Option<i64>,
}

/// Inserts a key.
///
/// # Errors
/// [`Error::Conflict`] when the kid is taken.
pub fn insert_signing_key(tx: &mut Tx<'_>, key: &SigningKey) -> Result<()> {
    let row = Row {
        kid: key.kid.clone(),
        algorithm: key.algorithm.clone(),
        jwk: key.jwk.clone(),
        sealed_key: key.sealed_key.clone(),
        created_at: key.created_at.0,
        active_from: key.active_from.0,
        retired_at: key.retired_at.map(|t| t.0),
    };
    diesel::insert_into(signing_keys::table).values(row).execute(tx.conn())?;
    Ok(())
}

/// All keys, oldest first. There are few.
///
/// # Errors
/// Only the database's own.
pub fn list_signing_keys(conn: &mut Conn) -> Result<Vec<SigningKey>> {
    let rows: Vec<Row> = signing_keys::table
        .order((signing_keys::active_from, signing_keys::kid))
        .select(Row::as_select())
        .load(conn)
        .map_err(Error::from)?;
    Ok(rows
        .into_iter()
        .map(|row| SigningKey {
            kid: row.kid,
            algorithm: row.algorithm,
            jwk: row.jwk,
            sealed_key: row.sealed_key,
            created_at: Time(row.created_at),
            active_from: Time(row.active_from),
            retired_at: row.retired_at.map(Time),
        })
        .collect())
}

/// Notes that a newer key took over.
///
/// # Errors
/// Only the database's own.
pub fn update_retired(tx: &mut Tx<'_>, kid: &str, at: Time) -> Result<()> {
    diesel::update(signing_keys::table.find(kid)).set(signing_keys::retired_at.eq(Some(at.0))).execute(tx.conn())?;
    Ok(())
}

/// Deletes a key.
///
/// # Errors
/// Only the database's own.
pub fn delete_signing_key(tx: &mut Tx<'_>, kid: &str) -> Result<()> {
    diesel::delete(signing_keys::table.find(kid)).execute(tx.conn())?;
    Ok(())
}
