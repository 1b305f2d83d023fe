//! Published revocation lists: the newest of each authority.

use diesel::prelude::*;

use super::dialect::each_backend;
use super::schema::crls;
use super::{Conn, Result, Tx};
use crate::clock::Time;
use crate::ids::AuthorityId;

/// A published list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crl {
    /// Its number.
    pub number: i64,
    /// The list, DER.
    pub der: Vec<u8>,
    /// When it was made.
    pub this_update: Time,
    /// Until when it may be relied upon.
    pub next_update: Time,
}

/// Publishes a list over an older one; says whether it was newer than what was there.
///
/// # Errors
/// Only the database's own.
pub fn upsert_crl(tx: &mut Tx<'_>, authority: &AuthorityId, crl: &Crl) -> Result<bool> {
    let values = (
        crls::number.eq(crl.number),
        crls::der.eq(&crl.der),
        crls::this_update.eq(crl.this_update.0),
        crls::next_update.eq(crl.next_update.0),
    );
    // The number is compared by the statement that writes: what was read before may have been overtaken by another node.
    let older = || crls::table.find(authority.as_str()).filter(crls::number.lt(crl.number));
    if diesel::update(older()).set(values).execute(tx.conn())? == 1 {
        return Ok(true);
    }
    let first = each_backend!(tx.conn(), c => diesel::insert_into(crls::table)
        .values((crls::authority_id.eq(authority.as_str()), values))
        .on_conflict_do_nothing()
        .execute(c))?;
    // Another node's first list may have come between.
    Ok(first == 1 || diesel::update(older()).set(values).execute(tx.conn())? == 1)
}

/// The newest list of an authority.
///
/// # Errors
/// Only the database's own.
pub fn find_crl(conn: &mut Conn, authority: &AuthorityId) -> Result<Option<Crl>> {
    let row: Option<(i64, Vec<u8>, i64, i64)> = crls::table
        .find(authority.as_str())
        .select((crls::number, crls::der, crls::this_update, crls::next_update))
        .first(conn)
        .optional()?;
    Ok(row.map(|(number, der, this_update, next_update)| Crl {
        number,
        der,
        this_update: Time(this_update),
        next_update: Time(next_update),
    }))
}
