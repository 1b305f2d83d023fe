//! What the organisation says about the ways to sign in.

use diesel::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::dialect::each_backend;
use super::schema::method_policies;
use super::{Conn, Result, Tx};
use crate::clock::Time;

/// The policy of `method`; its defaults when nobody said anything.
///
/// # Errors
/// Only the database's own.
pub fn load_policy<P: DeserializeOwned + Default>(conn: &mut Conn, method: &str) -> Result<P> {
    let row: Option<String> = method_policies::table.find(method).select(method_policies::policy).first(conn).optional()?;
    Ok(row.map(|policy| serde_json::from_str(&policy)).transpose()?.unwrap_or_default())
}

/// When any policy was last changed.
///
/// # Errors
/// Only the database's own.
pub fn find_updated(conn: &mut Conn) -> Result<Option<Time>> {
    let at: Option<i64> = method_policies::table.select(diesel::dsl::max(method_policies::updated_at)).first(conn)?;
    Ok(at.map(Time))
}

/// Has other changes of policies wait until the transaction ends. The table is locked and no row of it: at first there is none.
///
/// # Errors
/// Only the database's own.
pub fn lock_policies(tx: &mut Tx<'_>) -> Result<()> {
    match tx.conn() {
        Conn::Postgres(c) => diesel::sql_query("LOCK TABLE method_policies IN SHARE ROW EXCLUSIVE MODE").execute(c)?,
        // On SQLite there is one transaction that writes at a time.
        Conn::Sqlite(_) => 0,
    };
    Ok(())
}

/// Puts the policy of `method` in the place of the one before.
///
/// # Errors
/// Only the database's own.
pub fn upsert_policy<P: Serialize>(tx: &mut Tx<'_>, method: &str, policy: &P, now: Time) -> Result<()> {
    let policy = serde_json::to_string(policy)?;
    each_backend!(tx.conn(), c => diesel::insert_into(method_policies::table)
        .values((method_policies::method.eq(method), method_policies::policy.eq(&policy), method_policies::updated_at.eq(now.0)))
        .on_conflict(method_policies::method)
        .do_update()
        .set((method_policies::policy.eq(&policy), method_policies::updated_at.eq(now.0)))
        .execute(c))?;
    Ok(())
}
