//! Renewal (ROBO, MS-MDE2 3.4.4.1.1.2): the device proves itself with the certificate that it renews, on the connection and in the
//! request; where a proxy passes no certificates on, in the request alone, if the configuration says so. The old certificate stays good
//! until the new one is used for the first time: the answer may have been lost.

use openssl::sha::sha256;

use super::issue::{certificate_store, identity_grant, trust};
use super::{Caller, csr};
use crate::app::App;
use crate::clock::{DAY, Time};
use crate::domain::Refusal;
use crate::domain::audit::Entry;
use crate::domain::device::Platform;
use crate::domain::enrollment::{Enrollment, State};
use crate::ids::CertificateId;
use crate::service::pki::{authority, issue as pki};
use crate::service::{Error, Result};
use crate::store::enrollments::Identity;
use crate::store::{self, Tx, audit, certificates, enrollments, users};
use crate::wire::Malformed;
use crate::wire::cms::SignedData;
use crate::wire::mde::wstep::{Csr, RequestToken};
use crate::wire::provisioning::Document;

/// The enrolment that the connection's certificate belongs to, when both are good.
///
/// # Errors
/// [`Refusal::TokenInvalid`] without a certificate; [`Refusal::CertificateNotOurs`], [`Refusal::CertificateRevoked`],
/// [`Refusal::RenewalCertificateExpired`], [`Refusal::EnrollmentEnded`], [`Refusal::AccountDisabled`].
pub(super) async fn identify(app: &App, caller: &Caller) -> Result<Identity> {
    let der = caller.certificate.as_ref().ok_or(Refusal::TokenInvalid)?;
    let sha256 = hex::encode(sha256(der));
    let found = app.store.read(move |conn| {
        let Some(identity) = enrollments::find_identity(conn, &sha256)? else { return Ok(None) };
        let user = identity.enrollment.user_id.clone().map(|id| users::load_user(conn, &id)).transpose()?;
        Ok(Some((identity, user)))
    });
    let (identity, user) = found.await?.unzip();
    let identity = identity.filter(|identity| identity.enrollment.platform == Platform::Windows).ok_or(Refusal::CertificateNotOurs)?;
    let now = app.now();
    if identity.certificate.is_revoked() {
        return Err(Refusal::CertificateRevoked.into());
    }
    if now < identity.certificate.not_before || now > identity.certificate.not_after {
        return Err(Refusal::RenewalCertificateExpired.into());
    }
    if !may_renew(&identity.enrollment) {
        return Err(Refusal::EnrollmentEnded.into());
    }
    if user.flatten().is_some_and(|user| !user.enabled) {
        return Err(Refusal::AccountDisabled.into());
    }
    Ok(identity)
}

/// Whether the enrolment goes on: one that is leaving gets no new certificate.
fn may_renew(enrollment: &Enrollment) -> bool {
    matches!(enrollment.state, State::Provisioned | State::Active)
}

/// What [`identify`] saw may have changed while the new certificate was made: looks again, and lets nobody change it before the commit.
fn check_again(tx: &mut Tx<'_>, old: &CertificateId, enrollment: &Enrollment, now: Time) -> store::Result<()> {
    enrollments::lock_enrollment(tx, &enrollment.id)?;
    let enrollment = enrollments::load_enrollment(tx.conn(), &enrollment.id)?;
    if !may_renew(&enrollment) {
        return Err(Refusal::EnrollmentEnded.into());
    }
    if let Some(user) = &enrollment.user_id
        && !users::lock_user(tx, user)?.enabled
    {
        return Err(Refusal::AccountDisabled.into());
    }
    certificates::claim_renewal(tx, old, now)?.map(drop).ok_or_else(|| Refusal::CertificateRevoked.into())
}

/// Renews a certificate.
pub(super) async fn renew(app: &App, request: &RequestToken, caller: &Caller) -> Result<Vec<u8>> {
    let Csr::Pkcs7(signed) = &request.csr else {
        return Err(Malformed::new("a renewal is PKCS7", "BinarySecurityToken/@ValueType").into());
    };
    let certificate = if caller.signs { signer_certificate(signed) } else { caller.certificate.clone() };
    let caller = &Caller { certificate, ..caller.clone() };
    let identity = identify(app, caller).await?;
    let csr = inner_request(signed.clone(), caller.certificate.clone().unwrap_or_default()).await?;
    let window = i64::from(app.config.windows.renewal_days) * DAY;
    let now = app.now();
    if identity.certificate.not_after.since(now) > window {
        return Err(Refusal::RenewalTooEarly.into());
    }
    let key = csr::public_key(csr).await?;
    let windows = &app.config.windows;
    let enrollment = &identity.enrollment;
    let old = identity.certificate.id.clone();
    // It stands in the certificate's name, too.
    let provider_id = enrollment.provider(&windows.provider_id).to_owned();
    let grant = identity_grant(&enrollment.device_id, &provider_id, windows.identity_days, enrollment);
    let authority = authority::issuing(app).await?;
    let issued = pki::prepare(app, &authority.id, &grant, &key).await?;
    let (root, intermediate) = trust(&authority);
    let document =
        Document { root, intermediate, certificate: issued.der, store: certificate_store(enrollment.kind), provider_id, management: None };
    let actor = format!("device:{}", enrollment.device_id);
    let issued_entry = pki::audit(&issued.certificate, &actor, &caller.origin());
    let state = serde_json::json!({ "old": identity.certificate.id, "new": issued.certificate.id });
    let entry = Entry::new(actor, "enrollment.renew", format!("enrollment:{}", enrollment.id), caller.origin()).after(&state);
    let certificate = issued.certificate;
    let (enrollment, most) = (enrollment.clone(), usize::try_from(app.config.scep.live_certificates).unwrap_or(usize::MAX));
    app.store
        .write(move |tx| {
            check_again(tx, &old, &enrollment, now)?;
            if certificates::has_held(tx.conn(), &certificate.grant, now)? {
                return Err(Refusal::CertificateHeld.into());
            }
            if certificates::list_alike(tx.conn(), &certificate, now)?.len() >= most {
                return Err(Refusal::RenewalTooMany.into());
            }
            certificates::insert_certificate(tx, &certificate, now)?;
            audit::append(tx, &issued_entry, now)?;
            audit::append(tx, &entry, now)
        })
        .await?;
    Ok(document.encode())
}

/// The certificate that the signer names, unchecked.
fn signer_certificate(signed: &[u8]) -> Option<Vec<u8>> {
    let signed = SignedData::parse(signed).ok()?;
    let [signer] = signed.signers.as_slice() else { return None };
    signed.signer_certificate(signer).map(|certificate| certificate.raw.to_vec())
}

/// The PKCS#10 request inside, once the signature is right and is the connection's certificate's.
async fn inner_request(signed: Vec<u8>, connection: Vec<u8>) -> Result<Vec<u8>> {
    let judge = move || -> Result<Vec<u8>> {
        let signed = SignedData::parse(&signed)?;
        let [signer] = signed.signers.as_slice() else {
            return Err(Malformed::new("not exactly one signer", "PKCS7").into());
        };
        let certificate = signed.signer_certificate(signer).ok_or(Refusal::RenewalSignerForeign)?;
        if certificate.raw != connection {
            return Err(Refusal::RenewalSignerMismatch.into());
        }
        signed.verify(signer).map_err(|_| Refusal::RenewalSignerForeign)?;
        let content = signed.content.ok_or_else(|| Malformed::new("no content", "PKCS7"))?;
        Ok(content.to_vec())
    };
    tokio::task::spawn_blocking(judge).await.map_err(Error::internal)?
}
