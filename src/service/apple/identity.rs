//! Who sent a message: the client certificate of the connection, or, where a proxy ends TLS and passes none on, the signature in the
//! header `Mdm-Signature` over the exact bytes of the body. Such a signature is good for a time only: headers are written into logs.

use crate::app::App;
use crate::clock::{DAY, MINUTE, Time};
use crate::domain::Refusal;
use crate::domain::apple::enrollment::speaks_for;
use crate::domain::authority::Status as AuthorityStatus;
use crate::domain::certificate::{Certificate, CertificateStatus, Purpose};
use crate::domain::device::Platform;
use crate::domain::enrollment::State;
use crate::service::device::confirm_renewal;
use crate::service::pki::authority;
use crate::service::signature::{Manner, verify};
use crate::service::strangers::{Caller, turn_away};
use crate::service::{Error, Result};
use crate::store::enrollments::Identity;
use crate::store::{Conn, certificates, devices, enrollments};
use crate::wire::apple::DeviceKey;

/// How far the signing time of a message without a body may be from our clock: what is signed then is the same for every such message.
const WINDOW: i64 = 15 * MINUTE;
/// The same of a message with a body. A clock that was set for another time zone is hours away, and what is signed says what it is for.
const WIDE_WINDOW: i64 = DAY;

/// What came with a message.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// The client certificate of the connection: DER, and its SHA-256 in lower-case hex.
    pub certificate: Option<(&'a [u8], &'a str)>,
    /// The signature's header.
    pub signature: Option<&'a [u8]>,
    /// The address, for the audit log.
    pub origin: &'a str,
}

/// Who speaks.
#[derive(Clone, Debug)]
pub(super) enum Speaker {
    /// A device that is enrolled.
    Enrolled(Box<Identity>),
    /// The holder of an identity whose device has not enrolled yet.
    Begun(Box<Certificate>),
    /// A device that is enrolled and whose identity has run out: it can be given another one, and nothing else.
    Expired(Box<Identity>),
}

/// The certificate that speaks, and whether a signature that stands for it may be too old to count.
async fn certificate(app: &App, presented: &Presented<'_>, body: &[u8]) -> Result<(String, Freshness)> {
    let Some(header) = presented.signature else {
        return Ok((presented.certificate.ok_or(Refusal::CertificateNotOurs)?.1.to_owned(), Ok(())));
    };
    let (header, message, connection) = (header.to_vec(), body.to_vec(), presented.certificate.map(|(der, _)| der.to_vec()));
    let signed = tokio::task::spawn_blocking(move || verify(&header, &message, connection.as_deref(), Manner::Apple));
    let signed = signed.await.map_err(Error::internal)??;
    match presented.certificate {
        Some((_, connection)) if connection != signed.certificate => Err(Refusal::MessageSignatureForeign.into()),
        // The connection proves that the message is fresh.
        Some(_) => Ok((signed.certificate, Ok(()))),
        None if app.config.apple.sign_messages => Ok((signed.certificate, fresh(signed.at, body.is_empty(), app.now()))),
        None => Err(Refusal::CertificateNotOurs.into()),
    }
}

/// Why a signature does not count although it is one: said to nobody but who holds a certificate of ours.
type Freshness = std::result::Result<(), Refusal>;

/// Whether a signature is of these days. Old systems leave the time out, which counts where the body says what is meant.
fn fresh(at: Option<Time>, bare: bool, now: Time) -> Freshness {
    let window = if bare { WINDOW } else { WIDE_WINDOW };
    match at {
        Some(at) if now.since(at).abs() <= window => Ok(()),
        None if !bare => Ok(()),
        Some(_) | None => Err(Refusal::MessageSignatureOld),
    }
}

/// Whether the certificate is the one that the enrolment has, and the enrolment is in force.
fn is_current(identity: &Identity) -> bool {
    identity.enrollment.certificate_id.as_ref() == Some(&identity.certificate.id) && identity.enrollment.state == State::Active
}

/// The first versions that leave when they are told so in an answer; older ones do nothing by it.
const LEAVES_MACOS: u32 = 14;
/// The same of iOS and iPadOS.
const LEAVES_IOS: u32 = 17;

/// Why a device of ours is refused: as it was judged, or, when an administrator ended its enrolment and it never heard of it, so that it
/// leaves. Nothing else ends there what somebody manages: no certificate that ran out, no other enrolment in its place.
async fn farewell(app: &App, identity: &Identity, refusal: Refusal) -> Result<Refusal> {
    if identity.enrollment.state != State::Ended {
        return Ok(refusal);
    }
    let (id, of) = (identity.enrollment.id.clone(), identity.enrollment.device_id.clone());
    let read = move |conn: &mut Conn| Ok((enrollments::is_dismissed(conn, &id)?, devices::load_device(conn, &of)?));
    let (dismissed, device) = app.store.read(read).await?;
    let major = device.os_version.as_deref().and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    let from = if device.platform == Platform::MacOs { LEAVES_MACOS } else { LEAVES_IOS };
    Ok(if dismissed && major.is_some_and(|major| major >= from) { Refusal::DeviceRetired } else { refusal })
}

async fn find(app: &App, presented: &Presented<'_>, body: &[u8]) -> Result<Speaker> {
    let (fingerprint, freshness) = certificate(app, presented, body).await?;
    let now = app.now();
    let key = fingerprint.clone();
    if let Some(identity) = app.store.look_up(move |conn| enrollments::find_identity(conn, &key)).await? {
        if !identity.enrollment.platform.is_apple() {
            return Err(Refusal::CertificateNotOurs.into());
        }
        return match identity.may_speak(now) {
            Ok(()) => freshness.map(|()| Speaker::Enrolled(Box::new(identity))).map_err(Error::from),
            // One that was replaced is good for nothing any more.
            Err(Refusal::CertificateExpired) if now >= identity.certificate.not_after && is_current(&identity) => {
                freshness.map(|()| Speaker::Expired(Box::new(identity))).map_err(Error::from)
            }
            Err(refusal) => Err(farewell(app, &identity, refusal).await?.into()),
        };
    }
    let found = app.store.read(move |conn| certificates::find_certificate_by_sha256(conn, &fingerprint)).await?;
    let certificate = found.filter(|c| c.grant.purpose == Purpose::MdmIdentity).ok_or(Refusal::CertificateNotOurs)?;
    let issued_by = authority::by_id(app, &certificate.authority_id).await?;
    if certificate.status != CertificateStatus::Active || issued_by.status == AuthorityStatus::Revoked {
        return Err(Refusal::CertificateRevoked.into());
    }
    if now < certificate.not_before || now >= certificate.not_after {
        return Err(Refusal::CertificateExpired.into());
    }
    freshness?;
    Ok(Speaker::Begun(Box::new(certificate)))
}

/// Refuses with an audit row.
pub(super) async fn refuse(app: &App, error: Error, presented: &Presented<'_>, source: &str) -> Error {
    match error {
        Error::Refused(refusal) => {
            let certificate = presented.certificate.map(|(_, sha256)| sha256);
            turn_away(app, refusal, &Caller { certificate, known: certificate.is_some(), source, origin: presented.origin }).await
        }
        other => other,
    }
}

/// Who holds the certificate or the key of the signature. Comes before the message is taken apart, so that strangers have nothing
/// decoded.
///
/// # Errors
/// [`Refusal::CertificateNotOurs`], [`Refusal::CertificateRevoked`], [`Refusal::CertificateExpired`], [`Refusal::EnrollmentEnded`],
/// [`Refusal::DeviceRetired`] for a device that shall leave,
/// [`Refusal::MessageSignatureInvalid`], [`Refusal::MessageSignatureForeign`], [`Refusal::MessageSignatureOld`]; [`Error::Throttled`] for an
/// address that was refused too often.
pub(super) async fn speaker(app: &App, presented: &Presented<'_>, body: &[u8]) -> Result<Speaker> {
    match find(app, presented, body).await {
        Ok(speaker) => Ok(speaker),
        Err(error) => Err(refuse(app, error, presented, "").await),
    }
}

/// The enrolment that speaks, pinned to its certificate. A renewed certificate is in force from its first use on.
///
/// # Errors
/// [`Refusal::ManagementSourceMismatch`] for another device's identifier, [`Refusal::CertificateExpired`].
pub(super) async fn pinned(app: &App, presented: &Presented<'_>, speaker: Speaker, device: &DeviceKey) -> Result<Identity> {
    bound(app, presented, speaker, Some(device)).await
}

/// The same for what names no device.
///
/// # Errors
/// [`Refusal::ManagementSourceMismatch`] for an identity that no device is enrolled with, [`Refusal::CertificateExpired`].
pub(super) async fn enrolled(app: &App, presented: &Presented<'_>, speaker: Speaker) -> Result<Identity> {
    bound(app, presented, speaker, None).await
}

async fn bound(app: &App, presented: &Presented<'_>, speaker: Speaker, device: Option<&DeviceKey>) -> Result<Identity> {
    let found = match speaker {
        Speaker::Enrolled(identity) => match device.map_or(Ok(()), |device| speaks_for(&identity.enrollment, device)) {
            Ok(()) => Ok(identity),
            Err(refusal) => Err(Error::from(refusal)),
        },
        // An identity that no device is bound to speaks for none.
        Speaker::Begun(_) => Err(Refusal::ManagementSourceMismatch.into()),
        Speaker::Expired(_) => Err(Refusal::CertificateExpired.into()),
    };
    match found {
        Ok(identity) => {
            confirm_renewal(app, &identity, presented.origin).await?;
            Ok(*identity)
        }
        Err(error) => Err(refuse(app, error, presented, device.map_or("", DeviceKey::as_str)).await),
    }
}
