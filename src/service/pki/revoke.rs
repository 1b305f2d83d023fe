//! Revoking, holding, releasing and finding certificates.
//!
//! Locks are taken in one order: enrolments by their ids, what waits to be asked for, authorities, certificates by their ids, the head of the
//! audit log.

mod items;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::{authority, service_key};
use crate::app::App;
use crate::clock::{DAY, Time};
use crate::domain::Refusal;
use crate::domain::audit::Entry;
use crate::domain::certificate::{Certificate, Purpose, RevocationReason};
use crate::domain::compliance::Rules;
use crate::domain::signal::Initiator;
use crate::ids::{AuthorityId, CertificateId, DeviceId, UserId};
use crate::service::{Error, Result, compliance};
use crate::store::certificates::{self, Live};
use crate::store::{self, Conn, Tx, audit, authorities, enrollments};

pub use crate::store::certificates::Search;

/// How many certificates a page has, or a job looks at, at most.
const MANY: i64 = 1_000;
/// How many certificates of one device or user are revoked at once.
const BATCH: i64 = 200;
/// How long a superseded certificate lives on, in case its holder did not get the new one.
const SUPERSEDED_DELAY: i64 = 7 * DAY;

/// Revokes a certificate, or puts it on hold. The certificate of an authority goes with the authority; one of our own service
/// certificates is not used any more from then on, and another one is made at once.
///
/// # Errors
/// [`Error::NotFound`]; [`Refusal::CertificateRevokedBefore`]; for an authority what [`authority::revoke`] says.
pub async fn revoke(app: &App, id: &CertificateId, reason: RevocationReason, actor: &str, origin: &str) -> Result<()> {
    let wanted = id.clone();
    let certificate = app.store.read(move |c| certificates::load_certificate(c, &wanted)).await?;
    let purpose = certificate.grant.purpose;
    if purpose == Purpose::Authority
        && let Some(authority) = authority::list(app).await?.iter().find(|a| a.certificate == certificate.der)
    {
        return authority::revoke(app, &authority.name, reason, actor, origin).await;
    }
    let (id, actor, origin, now, rules) = (id.clone(), actor.to_owned(), origin.to_owned(), app.now(), compliance::rules(&app.config));
    let (revoked, flipped) = app.store.write(move |tx| revoke_with_line(tx, &id, reason, rules, &actor, &origin, now)).await?;
    if flipped {
        app.outbox.notify_waiters();
    }
    if purpose.is_ours() {
        app.keys.invalidate();
        service_key::renew(app).await?;
    }
    for (authority, serial) in &revoked {
        super::ocsp::sign_anew(app, authority, serial).await;
    }
    Ok(())
}

/// What else of its line goes when a certificate is revoked, and why. Those that it took the place of, which were to be revoked anyway:
/// should it have been stolen with its key, or its holder not deserve it, they are no better. Of those that took its place only when the key
/// is compromised: whoever has the key may have renewed with it. One that is put on hold leaves all as they are.
fn list_falling(
    conn: &mut Conn,
    id: &CertificateId,
    reason: RevocationReason,
    now: Time,
) -> store::Result<BTreeMap<CertificateId, RevocationReason>> {
    let mut falling = BTreeMap::new();
    if reason != RevocationReason::CertificateHold {
        let older = certificates::list_predecessors(conn, id, now)?;
        falling.extend(older.into_iter().map(|older| (older, RevocationReason::Superseded)));
    }
    if reason == RevocationReason::KeyCompromise {
        falling.extend(certificates::list_successors(conn, id, now)?.into_iter().map(|newer| (newer, reason)));
    }
    Ok(falling)
}

/// Revokes a certificate and what falls with it ([`list_falling`]). The device's profiles hear of it, and a device whose identity it was is
/// judged anew: it cannot come any more, and what it said last is not what it is. Says which, and whether consumers see something else.
fn revoke_with_line(
    tx: &mut Tx<'_>,
    id: &CertificateId,
    reason: RevocationReason,
    rules: Rules,
    actor: &str,
    origin: &str,
    now: Time,
) -> store::Result<(Vec<(AuthorityId, String)>, bool)> {
    let device = certificates::load_certificate(tx.conn(), id)?.grant.device_id;
    if let Some(device) = &device {
        enrollments::hold_current(tx, device)?;
    }
    let (mut revoked, mut tried, mut next) = (Vec::new(), BTreeSet::new(), BTreeMap::from([(id.clone(), reason)]));
    // Somebody may have renewed one of them until they were taken: looked at again until there is none left.
    loop {
        next.extend(list_falling(tx.conn(), id, reason, now)?);
        next.retain(|one, _| !tried.contains(one));
        if next.is_empty() {
            break;
        }
        for (one, reason) in std::mem::take(&mut next) {
            match certificates::update_revoked(tx, &one, reason, now) {
                Ok(()) => revoked.push((certificates::load_certificate(tx.conn(), &one)?, reason)),
                // Somebody else revoked it since it was looked for.
                Err(store::Error::Refused(Refusal::CertificateRevokedBefore)) if one != *id => {}
                Err(error) => return Err(error),
            }
            tried.insert(one);
        }
    }
    let mut flipped = false;
    if let Some(device) = device {
        if reason != RevocationReason::CertificateHold {
            let certificates: Vec<&Certificate> = revoked.iter().map(|(certificate, _)| certificate).collect();
            items::tell(tx, &device, &certificates, now)?;
        }
        if revoked.iter().any(|(certificate, _)| certificate.grant.purpose == Purpose::MdmIdentity) {
            flipped = compliance::reevaluate_in(tx, &device, rules, Initiator::Admin, now)?.flipped;
        }
    }
    for (certificate, reason) in &revoked {
        audit::append(tx, &entry(certificate, *reason, actor, origin), now)?;
    }
    Ok((revoked.into_iter().map(|(certificate, _)| (certificate.authority_id, certificate.serial)).collect(), flipped))
}

/// A serial number as it is recorded, of what programs print: hexadecimal in any case, with or without colons or blanks, `0x` or `serial=`
/// before it.
#[must_use]
pub fn read_serial(text: &str) -> Option<String> {
    let text: String = text.chars().filter(|c| *c != ':' && !c.is_whitespace()).map(|c| c.to_ascii_lowercase()).collect();
    let digits = text.strip_prefix("serial=").unwrap_or(&text);
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    let hexadecimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    hexadecimal.then(|| digits.to_owned())
}

/// Revokes the certificate of a serial number (hex) of an authority.
///
/// # Errors
/// As [`revoke`].
pub async fn revoke_by_serial(
    app: &App,
    authority: &AuthorityId,
    serial: &str,
    reason: RevocationReason,
    actor: &str,
    origin: &str,
) -> Result<()> {
    let (authority, serial) = (authority.clone(), read_serial(serial).ok_or(Error::NotFound("certificate"))?);
    let found = app.store.read(move |c| certificates::find_certificate_by_serial(c, &authority, &serial)).await?;
    revoke(app, &found.ok_or(Error::NotFound("certificate"))?.id, reason, actor, origin).await
}

/// The certificates that took the place of one, directly or later, and are good or on hold.
///
/// # Errors
/// When the store fails.
pub async fn list_successors(app: &App, id: &CertificateId) -> Result<Vec<Certificate>> {
    let (id, now) = (id.clone(), app.now());
    let read = app.store.read(move |c| {
        let newer = certificates::list_successors(c, &id, now)?;
        newer.iter().map(|newer| certificates::load_certificate(c, newer)).collect::<store::Result<Vec<_>>>()
    });
    Ok(read.await?)
}

/// Revokes all certificates of a device but its identity, without which it could not be told of it; says how many. Who wants a device to be
/// managed no longer retires it.
///
/// # Errors
/// When the store fails.
pub async fn revoke_of_device(app: &App, device: &DeviceId, reason: RevocationReason, actor: &str, origin: &str) -> Result<usize> {
    revoke_live(app, Live { device: Some(device.clone()), identity: Some(false), ..Live::default() }, reason, actor, origin).await
}

/// Revokes all certificates of a user but the identities of their devices, as [`revoke_of_device`]; says how many.
///
/// # Errors
/// When the store fails.
pub async fn revoke_of_user(app: &App, user: &UserId, reason: RevocationReason, actor: &str, origin: &str) -> Result<usize> {
    revoke_live(app, Live { user: Some(user.clone()), identity: Some(false), ..Live::default() }, reason, actor, origin).await
}

/// One transaction for each batch: others get their turn between them.
async fn revoke_live(app: &App, live: Live, reason: RevocationReason, actor: &str, origin: &str) -> Result<usize> {
    let live = Live { held: reason != RevocationReason::CertificateHold, ..live };
    let (mut after, mut count) = (None, 0);
    loop {
        let (live, from, actor, origin, now) = (live.clone(), after.clone(), actor.to_owned(), origin.to_owned(), app.now());
        let batch = app.store.write(move |tx| {
            let found = certificates::list_live(tx.conn(), &live, from.as_ref(), now, BATCH)?;
            // Sorted, as all take them.
            let devices: BTreeSet<DeviceId> = found.iter().filter_map(|certificate| certificate.grant.device_id.clone()).collect();
            for device in &devices {
                enrollments::hold_current(tx, device)?;
            }
            let batch = revoke_batch(tx, &live, from.as_ref(), |_| true, reason, now)?;
            for device in devices.iter().filter(|_| reason != RevocationReason::CertificateHold) {
                let of_device = |certificate: &&Certificate| certificate.grant.device_id.as_ref() == Some(device);
                items::tell(tx, device, &batch.revoked.iter().filter(of_device).collect::<Vec<_>>(), now)?;
            }
            for certificate in &batch.revoked {
                audit::append(tx, &entry(certificate, reason, &actor, &origin), now)?;
            }
            Ok(batch)
        });
        let batch = batch.await?;
        for certificate in &batch.revoked {
            super::ocsp::sign_anew(app, &certificate.authority_id, &certificate.serial).await;
        }
        count += batch.revoked.len();
        match batch.last {
            Some(last) => after = Some(last),
            None => return Ok(count),
        }
    }
}

/// Revokes, in the caller's transaction, the live certificates that are meant, batch by batch until none is left; says how many. The caller
/// holds the device's enrolment.
///
/// # Errors
/// Only the database's own.
pub fn revoke_live_in(
    tx: &mut Tx<'_>,
    live: &Live,
    which: impl Fn(&Certificate) -> bool,
    reason: RevocationReason,
    actor: &str,
    origin: &str,
    now: Time,
) -> store::Result<usize> {
    let live = Live { held: reason != RevocationReason::CertificateHold, ..live.clone() };
    let (mut after, mut count) = (None, 0);
    loop {
        let batch = revoke_batch(tx, &live, after.as_ref(), &which, reason, now)?;
        for certificate in &batch.revoked {
            audit::append(tx, &entry(certificate, reason, actor, origin), now)?;
        }
        count += batch.revoked.len();
        match batch.last {
            Some(last) => after = Some(last),
            None => return Ok(count),
        }
    }
}

/// What a batch did.
struct Batch {
    /// The certificates that were revoked.
    revoked: Vec<Certificate>,
    /// The last one that was looked at; `None`: there were none.
    last: Option<CertificateId>,
}

/// Revokes a page of certificates; the audit rows are the caller's.
fn revoke_batch(
    tx: &mut Tx<'_>,
    live: &Live,
    after: Option<&CertificateId>,
    which: impl Fn(&Certificate) -> bool,
    reason: RevocationReason,
    now: Time,
) -> store::Result<Batch> {
    let found = certificates::list_live(tx.conn(), live, after, now, BATCH)?;
    let last = found.last().map(|certificate| certificate.id.clone());
    // A device may have changed its authority: they are taken in one order, too.
    let authorities: BTreeSet<AuthorityId> = found.iter().map(|certificate| certificate.authority_id.clone()).collect();
    if authorities.len() > 1 {
        for authority in &authorities {
            authorities::update_crl_due(tx, authority, now)?;
        }
    }
    let mut revoked = Vec::new();
    for certificate in found.into_iter().filter(|certificate| which(certificate)) {
        match certificates::update_revoked(tx, &certificate.id, reason, now) {
            Ok(()) => revoked.push(certificate),
            // Somebody else was faster.
            Err(store::Error::Refused(Refusal::CertificateRevokedBefore)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Batch { revoked, last })
}

/// Revokes a certificate in the caller's transaction, with its audit row; gives back whose it is and its serial number.
///
/// # Errors
/// As [`certificates::update_revoked`].
pub fn revoke_in(
    tx: &mut Tx<'_>,
    id: &CertificateId,
    reason: RevocationReason,
    actor: &str,
    origin: &str,
    now: Time,
) -> store::Result<(AuthorityId, String)> {
    certificates::update_revoked(tx, id, reason, now)?;
    let certificate = certificates::load_certificate(tx.conn(), id)?;
    audit::append(tx, &entry(&certificate, reason, actor, origin), now)?;
    Ok((certificate.authority_id, certificate.serial))
}

/// The audit row of a revocation.
fn entry(certificate: &Certificate, reason: RevocationReason, actor: &str, origin: &str) -> Entry {
    let action = if reason == RevocationReason::CertificateHold { "certificate.hold" } else { "certificate.revoke" };
    Entry::new(actor, action, format!("certificate:{}", certificate.id), origin)
        .after(&json!({ "serial": certificate.serial, "subject": certificate.subject, "reason": reason }))
}

/// Releases a certificate from hold.
///
/// # Errors
/// [`Error::NotFound`]; [`Refusal::CertificateNotHeld`].
pub async fn release(app: &App, id: &CertificateId, actor: &str, origin: &str) -> Result<()> {
    let (id, now, rules) = (id.clone(), app.now(), compliance::rules(&app.config));
    let entry = Entry::new(actor, "certificate.release", format!("certificate:{id}"), origin);
    let (released, flipped) = app
        .store
        .write(move |tx| {
            let device = certificates::load_certificate(tx.conn(), &id)?.grant.device_id;
            if let Some(device) = &device {
                enrollments::hold_current(tx, device)?;
            }
            certificates::update_released(tx, &id, now)?;
            let released = certificates::load_certificate(tx.conn(), &id)?;
            let flipped = match device.filter(|_| released.grant.purpose == Purpose::MdmIdentity) {
                Some(device) => compliance::reevaluate_in(tx, &device, rules, Initiator::Admin, now)?.flipped,
                None => false,
            };
            audit::append(tx, &entry, now)?;
            Ok((released, flipped))
        })
        .await?;
    if flipped {
        app.outbox.notify_waiters();
    }
    super::ocsp::sign_anew(app, &released.authority_id, &released.serial).await;
    Ok(())
}

/// Revokes certificates that a newer one took the place of more than a week ago; says how many. For a job.
///
/// # Errors
/// When the store fails.
pub async fn revoke_superseded(app: &App) -> Result<usize> {
    let now = app.now();
    let ids = app.store.read(move |c| certificates::list_superseded(c, now.plus(-SUPERSEDED_DELAY), now, MANY)).await?;
    let mut count = 0;
    for id in &ids {
        match revoke(app, id, RevocationReason::Superseded, "job:superseded-certificates", "local").await {
            Ok(()) => count += 1,
            // It went with one that had taken its place.
            Err(Error::Refused(Refusal::CertificateRevokedBefore)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// The certificate of that id.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn load(app: &App, id: &CertificateId) -> Result<Certificate> {
    let id = id.clone();
    match app.store.read(move |c| certificates::load_certificate(c, &id)).await {
        Err(store::Error::NotFound) => Err(Error::NotFound("certificate")),
        found => Ok(found?),
    }
}

/// A page of certificates.
///
/// # Errors
/// When the store fails.
pub async fn search(app: &App, search: Search, limit: i64) -> Result<Vec<Certificate>> {
    Ok(search_more(app, search, limit).await?.0)
}

/// A page of certificates, and whether there are more.
///
/// # Errors
/// When the store fails.
pub async fn search_more(app: &App, search: Search, limit: i64) -> Result<(Vec<Certificate>, bool)> {
    let limit = usize::try_from(limit.clamp(1, MANY)).unwrap_or(1);
    let one_more = i64::try_from(limit + 1).unwrap_or(i64::MAX);
    let mut found = app.store.read(move |c| certificates::list_certificates(c, &search, one_more)).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    Ok((found, more))
}
