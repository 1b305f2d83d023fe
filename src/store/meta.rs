//! Single values of the instance, such as the tenant's id.

use diesel::prelude::*;

use super::dialect::each_backend;
use super::schema::meta;
use super::{Conn, Result, Tx};

/// The value under `key`.
///
/// # Errors
/// Only the database's own.
pub fn find_value(conn: &mut Conn, key: &str) -> Result<Option<String>> {
    Ok(meta::table.find(key).select(meta::value).first(conn).optional()?)
}

/// Puts a value under `key`, over what was there.
///
/// # Errors
/// Only the database's own.
pub fn upsert_value(tx: &mut Tx<'_>, key: &str, value: &str) -> Result<()> {
    each_backend!(tx.conn(), c => diesel::insert_into(meta::table)
        .values((meta::key.eq(key), meta::value.eq(value)))
        .on_conflict(meta::key)
        .do_update()
        .set(meta::value.eq(value))
        .execute(c))?;
    Ok(())
}

/// Puts a value under `key` unless there is one, and returns what is there now.
///
/// # Errors
/// Only the database's own.
pub fn insert_value_once(tx: &mut Tx<'_>, key: &str, value: &str) -> Result<String> {
    each_backend!(tx.conn(), c => diesel::insert_into(meta::table)
        .values((meta::key.eq(key), meta::value.eq(value)))
        .on_conflict(meta::key)
        .do_nothing()
        .execute(c))?;
    Ok(meta::table.find(key).select(meta::value).first(tx.conn())?)
}

/// Puts a value in the place of another, if that one is still there.
///
/// # Errors
/// Only the database's own.
pub fn claim_value(tx: &mut Tx<'_>, key: &str, old: &str, new: &str) -> Result<bool> {
    let changed = diesel::update(meta::table.find(key).filter(meta::value.eq(old))).set(meta::value.eq(new)).execute(tx.conn())?;
    Ok(changed > 0)
}

/// Takes the value under `key` away; `None` when there is none (any more).
///
/// # Errors
/// Only the database's own.
pub fn take_value(tx: &mut Tx<'_>, key: &str) -> Result<Option<String>> {
    let value = find_value(tx.conn(), key)?;
    let taken = diesel::delete(meta::table.find(key)).execute(tx.conn())?;
    Ok(value.filter(|_| taken > 0))
}
