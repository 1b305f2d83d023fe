//! Revoking, holding, releasing and finding certificates.

use serde_json::json;

use super::{authority, service_key};
use crate::app::App;
use crate::clock::{DAY, Time};
use crate::domain::Refusal;
use crate::domain::audit::Entry;
use crate::domain::certificate::{Certificate, Purpose, RevocationReason};
use crate::ids::{AuthorityId, CertificateId, DeviceId, UserId};
use crate::service::{Error, Result};
use crate::store::certificates::{self, Live, Search};
use crate::store::{Tx, audit};

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
    let (id, actor, origin, now) = (id.clone(), actor.to_owned(), origin.to_owned(), app.now());
    let revoked = app.store.write(move |tx| revoke_in(tx, &id, reason, &actor, &origin, now)).await?;
    if purpose.is_ours() {
        app.keys.invalidate();
        service_key::renew(app).await?;
    }
    super::ocsp::sign_anew(app, &revoked.0, &revoked.1).await;
    Ok(())
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
    let (authority, serial) = (authority.clone(), serial.trim().to_ascii_lowercase().replace(':', ""));
    let found = app.store.read(move |c| certificates::find_certificate_by_serial(c, &authority, &serial)).await?;
    revoke(app, &found.ok_or(Error::NotFound("certificate"))?.id, reason, actor, origin).await
}

/// Revokes all certificates of a device; says how many.
///
/// # Errors
/// When the store fails.
pub async fn revoke_of_device(app: &App, device: &DeviceId, reason: RevocationReason, actor: &str, origin: &str) -> Result<usize> {
    revoke_live(app, Live { device: Some(device.clone()), ..Live::default() }, reason, actor, origin).await
}

/// Revokes all certificates of a user; says how many.
///
/// # Errors
/// When the store fails.
pub async fn revoke_of_user(app: &App, user: &UserId, reason: RevocationReason, actor: &str, origin: &str) -> Result<usize> {
    revoke_live(app, Live { user: Some(user.clone()), ..Live::default() }, reason, actor, origin).await
}

/// One transaction for each batch: others get their turn between them.
async fn revoke_live(app: &App, live: Live, reason: RevocationReason, actor: &str, origin: &str) -> Result<usize> {
    let live = Live { held: reason != RevocationReason::CertificateHold, ..live };
    let (mut after, mut count) = (None, 0);
    loop {
        let (live, from, actor, origin, now) = (live.clone(), after.clone(), actor.to_owned(), origin.to_owned(), app.now());
        let revoked = app.store.write(move |tx| revoke_batch(tx, &live, from.as_ref(), |_| true, reason, &actor, &origin, now)).await?;
        for (authority, serial) in &revoked.revoked {
            super::ocsp::sign_anew(app, authority, serial).await;
        }
        count += revoked.revoked.len();
        match revoked.last {
            Some(last) => after = Some(last),
            None => return Ok(count),
        }
    }
}

/// Revokes, in the caller's transaction, the live certificates that are meant, batch by batch until none is left; says how many.
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
) -> crate::store::Result<usize> {
    let live = Live { held: reason != RevocationReason::CertificateHold, ..live.clone() };
    let (mut after, mut count) = (None, 0);
    loop {
        let batch = revoke_batch(tx, &live, after.as_ref(), &which, reason, actor, origin, now)?;
        count += batch.revoked.len();
        match batch.last {
            Some(last) => after = Some(last),
            None => return Ok(count),
        }
    }
}

/// What a batch did.
struct Batch {
    /// Authority and serial number of each certificate that was revoked.
    revoked: Vec<(AuthorityId, String)>,
    /// The last one that was looked at; `None`: there were none.
    last: Option<CertificateId>,
}

#[allow(clippy::too_many_arguments, reason = "whom, why, and the five things that every write needs")]
fn revoke_batch(
    tx: &mut Tx<'_>,
    live: &Live,
    after: Option<&CertificateId>,
    which: impl Fn(&Certificate) -> bool,
    reason: RevocationReason,
    actor: &str,
    origin: &str,
    now: Time,
) -> crate::store::Result<Batch> {
    let found = certificates::list_live(tx.conn(), live, after, now, BATCH)?;
    let mut revoked = Vec::new();
    for certificate in found.iter().filter(|certificate| which(certificate)) {
        match revoke_in(tx, &certificate.id, reason, actor, origin, now) {
            Ok(one) => revoked.push(one),
            // Somebody else was faster.
            Err(crate::store::Error::Refused(Refusal::CertificateRevokedBefore)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Batch { revoked, last: found.last().map(|certificate| certificate.id.clone()) })
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
) -> crate::store::Result<(AuthorityId, String)> {
    certificates::update_revoked(tx, id, reason, now)?;
    let certificate = certificates::load_certificate(tx.conn(), id)?;
    let action = if reason == RevocationReason::CertificateHold { "certificate.hold" } else { "certificate.revoke" };
    let entry = Entry::new(actor, action, format!("certificate:{id}"), origin)
        .after(&json!({ "serial": certificate.serial, "subject": certificate.subject, "reason": reason }));
    audit::append(tx, &entry, now)?;
    Ok((certificate.authority_id, certificate.serial))
}

/// Releases a certificate from hold.
///
/// # Errors
/// [`Error::NotFound`]; [`Refusal::CertificateNotHeld`].
pub async fn release(app: &App, id: &CertificateId, actor: &str, origin: &str) -> Result<()> {
    let (id, now) = (id.clone(), app.now());
    let entry = Entry::new(actor, "certificate.release", format!("certificate:{id}"), origin);
    let released = app
        .store
        .write(move |tx| {
            certificates::update_released(tx, &id, now)?;
            audit::append(tx, &entry, now)?;
            certificates::load_certificate(tx.conn(), &id)
        })
        .await?;
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
    for id in &ids {
        revoke(app, id, RevocationReason::Superseded, "job:superseded-certificates", "local").await?;
    }
    Ok(ids.len())
}

/// A page of certificates.
///
/// # Errors
/// When the store fails.
pub async fn search(app: &App, search: Search, limit: i64) -> Result<Vec<Certificate>> {
    Ok(app.store.read(move |c| certificates::list_certificates(c, &search, limit.clamp(1, MANY))).await?)
}
