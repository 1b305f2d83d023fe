//! Lines of certificates: each took the place of the one before it, the last one is in use. Whoever renews once more because an answer was
//! lost adds to the end of the line, so that none is forgotten.

use std::collections::BTreeSet;

use diesel::prelude::*;

use super::names_hash;
use crate::clock::Time;
use crate::domain::certificate::{Certificate, CertificateStatus, Grant, Purpose, show_name};
use crate::ids::CertificateId;
use crate::store::schema::certificates;
use crate::store::{Conn, Result, Tx};

/// Most identifiers in one statement.
const IDS: usize = 500;

/// What is relied upon, or may be again.
fn good() -> [&'static str; 2] {
    [CertificateStatus::Active.as_str(), CertificateStatus::Held.as_str()]
}

/// All before one in its line, whatever became of them.
fn list_before(conn: &mut Conn, id: &CertificateId) -> Result<BTreeSet<String>> {
    let (mut found, mut newest) = (BTreeSet::new(), vec![id.to_string()]);
    while !newest.is_empty() {
        let older: Vec<String> =
            certificates::table.filter(certificates::superseded_by.eq_any(&newest)).select(certificates::id).load(conn)?;
        newest = older.into_iter().filter(|id| found.insert(id.clone())).collect();
    }
    Ok(found)
}

/// All after one in its line, in their order, whatever became of them.
fn list_after(conn: &mut Conn, id: &CertificateId) -> Result<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    loop {
        let last = found.last().map_or(id.as_str(), String::as_str);
        let next: Option<Option<String>> = certificates::table.find(last).select(certificates::superseded_by).first(conn).optional()?;
        match next.flatten() {
            Some(next) if !found.contains(&next) => found.push(next),
            _ => return Ok(found),
        }
    }
}

/// Those that are still relied upon or on hold, in the order of their ids.
fn list_good(conn: &mut Conn, of: &[String], now: Time) -> Result<Vec<CertificateId>> {
    let mut ids = Vec::new();
    for of in of.chunks(IDS) {
        let rows = certificates::table
            .filter(certificates::id.eq_any(of))
            .filter(certificates::status.eq_any(good()))
            .filter(certificates::not_after.gt(now.0));
        ids.extend(rows.select(certificates::id).load::<String>(conn)?);
    }
    ids.sort_unstable();
    Ok(ids.into_iter().map(CertificateId::from_store).collect())
}

/// The certificates that one took the place of, and those that these took the place of, that are still relied upon or on hold, in the order
/// of their ids.
///
/// # Errors
/// Only the database's own.
pub fn list_predecessors(conn: &mut Conn, id: &CertificateId, now: Time) -> Result<Vec<CertificateId>> {
    let before: Vec<String> = list_before(conn, id)?.into_iter().collect();
    list_good(conn, &before, now)
}

/// The certificates that took the place of one, directly or later, that are still relied upon or on hold, in the order of their ids.
///
/// # Errors
/// Only the database's own.
pub fn list_successors(conn: &mut Conn, id: &CertificateId, now: Time) -> Result<Vec<CertificateId>> {
    let after = list_after(conn, id)?;
    list_good(conn, &after, now)
}

/// Whether one that took the place of this certificate, directly or later, is or was on hold, or is revoked. The older one is good for the
/// case that an answer was lost: when somebody had reason to doubt the newer one, it renews nothing any more.
///
/// # Errors
/// Only the database's own.
pub fn is_barred(conn: &mut Conn, id: &CertificateId) -> Result<bool> {
    for after in list_after(conn, id)?.chunks(IDS) {
        let doubtful = certificates::table
            .filter(certificates::id.eq_any(after))
            .filter(certificates::status.ne(CertificateStatus::Active.as_str()).or(certificates::last_held_at.is_not_null()));
        if doubtful.count().get_result::<i64>(conn)? > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a certificate on hold, which nothing took the place of, has the place that this grant is for: the same payload of a profile on the
/// same device for the same user, the identity of the same enrolment, or, where no profile gives it, the same names for the same device and
/// user.
///
/// # Errors
/// Only the database's own.
pub fn has_held(conn: &mut Conn, grant: &Grant, now: Time) -> Result<bool> {
    let mut query = certificates::table
        .filter(certificates::status.eq(CertificateStatus::Held.as_str()))
        .filter(certificates::not_after.gt(now.0))
        .filter(certificates::purpose.eq(grant.purpose.as_str()))
        .filter(certificates::superseded_by.is_null())
        .into_boxed();
    let names = || names_hash(&show_name(&grant.subject), &grant.sans);
    match &grant.device_id {
        Some(device) => query = query.filter(certificates::device_id.eq(device.as_str())),
        None => query = query.filter(certificates::device_id.is_null()).filter(certificates::names_hash.eq(names())),
    }
    match &grant.profile_id {
        Some(profile) => query = query.filter(certificates::profile_id.eq(profile.as_str())),
        None => query = query.filter(certificates::profile_id.is_null()),
    }
    for (document, hash) in query.select((certificates::grant_document, certificates::names_hash)).load::<(String, String)>(conn)? {
        let held: Grant = serde_json::from_str(&document)?;
        let same = match (grant.purpose, &grant.profile_id) {
            (Purpose::MdmIdentity, _) => held.enrollment_id == grant.enrollment_id,
            (_, Some(_)) => true,
            (_, None) => hash == names(),
        };
        if same && (&held.payload, &held.user_id) == (&grant.payload, &grant.user_id) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Certificates that another one, which is not revoked, took the place of before `before`, and that are still relied upon. (Who revokes the
/// other one revokes these: [`list_predecessors`].)
///
/// # Errors
/// Only the database's own.
pub fn list_superseded(conn: &mut Conn, before: Time, now: Time, limit: i64) -> Result<Vec<CertificateId>> {
    let newer = diesel::alias!(certificates as newer);
    let ids: Vec<String> = certificates::table
        .inner_join(newer.on(newer.field(certificates::id).nullable().eq(certificates::superseded_by)))
        // Said although the join implies it: the index is of these alone.
        .filter(certificates::superseded_by.is_not_null())
        .filter(certificates::status.eq(CertificateStatus::Active.as_str()))
        .filter(certificates::not_after.gt(now.0))
        .filter(newer.field(certificates::created_at).lt(before.0))
        .filter(newer.field(certificates::status).ne(CertificateStatus::Revoked.as_str()))
        .order(certificates::id)
        .limit(limit)
        .select(certificates::id)
        .load(conn)?;
    Ok(ids.into_iter().map(CertificateId::from_store).collect())
}

/// Records that a new certificate takes the place of those that the same payload of the same profile gave the same device and user, with
/// those on hold: released, they are good for the rest of their week only. Says how many there were. Those that no profile gave stay as they
/// are.
///
/// # Errors
/// Only the database's own.
pub fn update_superseded_alike(tx: &mut Tx<'_>, newer: &Certificate, now: Time) -> Result<usize> {
    let grant = &newer.grant;
    let (Some(device), Some(profile)) = (&grant.device_id, &grant.profile_id) else { return Ok(0) };
    let rows: Vec<(String, String)> = certificates::table
        .filter(certificates::device_id.eq(device.as_str()))
        .filter(certificates::status.eq_any(good()))
        .filter(certificates::profile_id.eq(profile.as_str()))
        .filter(certificates::purpose.eq(grant.purpose.as_str()))
        .filter(certificates::not_after.gt(now.0))
        .filter(certificates::id.ne(newer.id.as_str()))
        .order(certificates::id)
        .select((certificates::id, certificates::grant_document))
        .load(tx.conn())?;
    let mut older = Vec::new();
    for (id, document) in rows {
        let other: Grant = serde_json::from_str(&document)?;
        if (&other.payload, &other.user_id) == (&grant.payload, &grant.user_id) {
            older.push(CertificateId::from_store(id));
        }
    }
    supersede(tx, &older, &newer.id)?;
    Ok(older.len())
}

/// Records that `newer` takes the place of `older`, at the end of its line: what took its place before stays in it.
///
/// # Errors
/// Only the database's own.
pub fn update_superseded(tx: &mut Tx<'_>, older: &CertificateId, newer: &CertificateId) -> Result<()> {
    supersede(tx, std::slice::from_ref(older), newer)
}

fn supersede(tx: &mut Tx<'_>, older: &[CertificateId], newer: &CertificateId) -> Result<()> {
    let mut last = BTreeSet::new();
    for older in older {
        last.insert(list_after(tx.conn(), older)?.pop().unwrap_or_else(|| older.to_string()));
    }
    // One by one, in the order of their ids, as all take them.
    for last in last.iter().filter(|last| *last != newer.as_str()) {
        diesel::update(certificates::table.find(last)).set(certificates::superseded_by.eq(Some(newer.as_str()))).execute(tx.conn())?;
    }
    Ok(())
}
