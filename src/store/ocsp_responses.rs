//! OCSP answers signed in advance.

use diesel::prelude::*;

use super::dialect::each_backend;
use super::schema::{certificates as issued, ocsp_responses};
use super::{Conn, Result, Tx, certificates};
use crate::clock::Time;
use crate::ids::AuthorityId;

/// A signed answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Serial number, lower-case hex.
    pub serial: String,
    /// The request's digest: `sha1` or `sha256`.
    pub hash: String,
    /// The response, DER.
    pub der: Vec<u8>,
    /// When it was made.
    pub this_update: Time,
    /// Until when it may be relied upon.
    pub next_update: Time,
}

type Row = (String, String, Vec<u8>, i64, i64);

fn answer((serial, hash, der, this_update, next_update): Row) -> Answer {
    Answer { serial, hash, der, this_update: Time(this_update), next_update: Time(next_update) }
}

/// Keeps an answer, over an older one, if the certificate still stands as it did when the answer was signed; says whether.
///
/// The certificate's row is held against revocation until the end of the transaction: another node that revokes it either came before, and
/// the answer is not kept, or waits, and drops the answer.
///
/// # Errors
/// Only the database's own.
pub fn claim_answer(tx: &mut Tx<'_>, authority: &AuthorityId, answer: &Answer, signed: certificates::Standing) -> Result<bool> {
    let stands = certificates::lock_standing(tx, authority, &answer.serial)? == Some(signed);
    if stands {
        upsert_answer(tx, authority, answer)?;
    }
    Ok(stands)
}

fn upsert_answer(tx: &mut Tx<'_>, authority: &AuthorityId, answer: &Answer) -> Result<()> {
    let values = (
        ocsp_responses::der.eq(&answer.der),
        ocsp_responses::this_update.eq(answer.this_update.0),
        ocsp_responses::next_update.eq(answer.next_update.0),
    );
    each_backend!(tx.conn(), c => diesel::insert_into(ocsp_responses::table)
        .values((
            ocsp_responses::authority_id.eq(authority.as_str()),
            ocsp_responses::serial.eq(&answer.serial),
            ocsp_responses::hash_algorithm.eq(&answer.hash),
            values,
        ))
        .on_conflict((ocsp_responses::authority_id, ocsp_responses::serial, ocsp_responses::hash_algorithm))
        .do_update()
        .set(values)
        .execute(c))?;
    Ok(())
}

/// The answer about one certificate.
///
/// # Errors
/// Only the database's own.
pub fn find_answer(conn: &mut Conn, authority: &AuthorityId, serial: &str, hash: &str) -> Result<Option<Answer>> {
    let row: Option<Row> = ocsp_responses::table
        .find((authority.as_str(), serial, hash))
        .select((
            ocsp_responses::serial,
            ocsp_responses::hash_algorithm,
            ocsp_responses::der,
            ocsp_responses::this_update,
            ocsp_responses::next_update,
        ))
        .first(conn)
        .optional()?;
    Ok(row.map(answer))
}

/// Answers of an authority that end before `before`, soonest first: those to sign again.
///
/// # Errors
/// Only the database's own.
pub fn list_ending(conn: &mut Conn, authority: &AuthorityId, before: Time, limit: i64) -> Result<Vec<(String, String)>> {
    Ok(ocsp_responses::table
        .filter(ocsp_responses::authority_id.eq(authority.as_str()))
        .filter(ocsp_responses::next_update.lt(before.0))
        .order(ocsp_responses::next_update)
        .limit(limit)
        .select((ocsp_responses::serial, ocsp_responses::hash_algorithm))
        .load(conn)?)
}

/// Drops the answers about certificates that ended before `before`, at most `limit` of them; says how many.
///
/// # Errors
/// Only the database's own.
pub fn purge_ended(tx: &mut Tx<'_>, authority: &AuthorityId, before: Time, limit: i64) -> Result<usize> {
    let ended: Vec<String> = ocsp_responses::table
        .inner_join(issued::table.on(issued::authority_id.eq(ocsp_responses::authority_id).and(issued::serial.eq(ocsp_responses::serial))))
        .filter(ocsp_responses::authority_id.eq(authority.as_str()))
        .filter(issued::not_after.lt(before.0))
        .limit(limit)
        .select(ocsp_responses::serial)
        .load(tx.conn())?;
    let of_ended = ocsp_responses::authority_id.eq(authority.as_str()).and(ocsp_responses::serial.eq_any(ended));
    Ok(diesel::delete(ocsp_responses::table.filter(of_ended)).execute(tx.conn())?)
}

/// Drops what was signed about a certificate: its state changed.
///
/// # Errors
/// Only the database's own.
pub fn purge_answers(tx: &mut Tx<'_>, authority: &AuthorityId, serial: &str) -> Result<usize> {
    let of_certificate = ocsp_responses::authority_id.eq(authority.as_str()).and(ocsp_responses::serial.eq(serial));
    Ok(diesel::delete(ocsp_responses::table.filter(of_certificate)).execute(tx.conn())?)
}
