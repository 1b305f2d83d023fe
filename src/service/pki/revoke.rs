//! Revoking, holding, releasing and finding certificates.

use serde_json::json;

use crate::app::App;
use crate::clock::{DAY, Time};
use crate::domain::audit::Entry;
use crate::domain::certificate::{Certificate, CertificateStatus, RevocationReason};
use crate::ids::{AuthorityId, CertificateId, DeviceId, UserId};
use crate::service::{Error, Result};
use crate::store::certificates::{self, Search};
use crate::store::{Tx, audit};

/// How many certificates of one device or user are revoked at once at most.
const MANY: i64 = 1_000;
/// How long a superseded certificate lives on, in case its holder did not get the new one.
const SUPERSEDED_DELAY: i64 = 7 * DAY;

/// Revokes a certificate, or puts it on hold.
///
/// # Errors
/// [`Error::NotFound`]; [`Refusal::CertificateRevokedBefore`](crate::domain::Refusal::CertificateRevokedBefore).
pub async fn revoke(app: &App, id: &CertificateId, reason: RevocationReason, actor: &str, origin: &str) -> Result<()> {
    let (id, actor, origin, now) = (id.clone(), actor.to_owned(), origin.to_owned(), app.now());
    let revoked = app.store.write(move |tx| revoke_in(tx, &id, reason, &actor, &origin, now)).await?;
    super::ocsp::sign_anew(app, &revoked.0, &revoked.1).await
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
    let search = Search { device: Some(device.clone()), ..Search::default() };
    revoke_found(app, search, reason, actor, origin).await
}

/// Revokes all certificates of a user; says how many.
///
/// # Errors
/// When the store fails.
pub async fn revoke_of_user(app: &App, user: &UserId, reason: RevocationReason, actor: &str, origin: &str) -> Result<usize> {
    let search = Search { user: Some(user.clone()), ..Search::default() };
    revoke_found(app, search, reason, actor, origin).await
}

async fn revoke_found(app: &App, search: Search, reason: RevocationReason, actor: &str, origin: &str) -> Result<usize> {
    let (actor, origin, now) = (actor.to_owned(), origin.to_owned(), app.now());
    let revoked = app.store.write(move |tx| revoke_found_in(tx, &search, reason, &actor, &origin, now)).await?;
    for (authority, serial) in &revoked {
        super::ocsp::sign_anew(app, authority, serial).await?;
    }
    Ok(revoked.len())
}

/// Revokes, in the caller's transaction, all certificates of a device that are not revoked yet; says how many.
///
/// # Errors
/// Only the database's own.
pub fn revoke_of_device_in(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    reason: RevocationReason,
    actor: &str,
    origin: &str,
    now: Time,
) -> crate::store::Result<usize> {
    let search = Search { device: Some(device.clone()), ..Search::default() };
    Ok(revoke_found_in(tx, &search, reason, actor, origin, now)?.len())
}

fn revoke_found_in(
    tx: &mut Tx<'_>,
    search: &Search,
    reason: RevocationReason,
    actor: &str,
    origin: &str,
    now: Time,
) -> crate::store::Result<Vec<(AuthorityId, String)>> {
    let mut revoked = Vec::new();
    for certificate in certificates::list_certificates(tx.conn(), search, MANY)? {
        let held = certificate.status == CertificateStatus::Held && reason != RevocationReason::CertificateHold;
        if now < certificate.not_after && (held || certificate.status == CertificateStatus::Active) {
            revoked.push(revoke_in(tx, &certificate.id, reason, actor, origin, now)?);
        }
    }
    Ok(revoked)
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
/// [`Error::NotFound`]; [`Refusal::CertificateNotHeld`](crate::domain::Refusal::CertificateNotHeld).
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
    super::ocsp::sign_anew(app, &released.authority_id, &released.serial).await
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
