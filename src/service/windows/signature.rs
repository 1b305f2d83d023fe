//! Who sent a management message. The client certificate of the connection says it (MS-MDM 2.1). A message may be signed, too: the header
//! `MDM-Signature` (DMClient CSP, `RequireMessageSigning`) is a CMS signature over the exact bytes of the body, by the same certificate.
//! Where a configured proxy ends TLS and passes no certificate on, and the configuration says so, the signature stands for it: then it is
//! good for a few minutes and once.

use openssl::sha::{Sha256, sha256};

use crate::app::App;
use crate::clock::{MINUTE, Time};
use crate::domain::Refusal;
use crate::domain::device::Platform;
use crate::service::signature::{Manner, verify};
use crate::service::strangers::{Caller, turn_away};
use crate::service::{Error, Result};
use crate::store::{enrollments, message_signatures};

/// How far the signing time may be from our clock.
const WINDOW: i64 = 5 * MINUTE;

/// What came with a message.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// The client certificate of the connection: DER, and its SHA-256 in lower-case hex.
    pub certificate: Option<(&'a [u8], &'a str)>,
    /// Whether a configured proxy stands in between.
    pub via_proxy: bool,
    /// The signature's header.
    pub signature: Option<&'a [u8]>,
}

/// The SHA-256 (lower-case hex) of the certificate that speaks in a message. Whether it is that of a live enrolment is the session's to say.
///
/// # Errors
/// [`Refusal::CertificateNotOurs`] when there is neither certificate nor signature that counts; [`Refusal::MessageSignatureInvalid`],
/// [`Refusal::MessageSignatureForeign`], [`Refusal::MessageSignatureOld`], [`Refusal::MessageSignatureUsed`]; [`Error::Throttled`] for an address
/// that was refused too often.
pub async fn identify(app: &App, presented: &Presented<'_>, body: &[u8], origin: &str) -> Result<String> {
    match judge(app, presented, body).await {
        Err(Error::Refused(refusal)) => {
            let certificate = presented.certificate.map(|(_, sha256)| sha256);
            Err(turn_away(app, refusal, &Caller { certificate, origin, ..Caller::default() }).await)
        }
        judged => judged,
    }
}

/// Whether a signature may stand for a certificate that is not there.
fn stands_in(app: &App, presented: &Presented<'_>) -> bool {
    presented.via_proxy && app.config.windows.sign_messages
}

async fn judge(app: &App, presented: &Presented<'_>, body: &[u8]) -> Result<String> {
    let Some(header) = presented.signature else {
        let (_, sha256) = presented.certificate.ok_or(Refusal::CertificateNotOurs)?;
        return Ok(sha256.to_owned());
    };
    if presented.certificate.is_none() && !stands_in(app, presented) {
        return Err(Refusal::CertificateNotOurs.into());
    }
    let (header, message, connection) = (header.to_vec(), body.to_vec(), presented.certificate.map(|(der, _)| der.to_vec()));
    let signed = tokio::task::spawn_blocking(move || verify(&header, &message, connection.as_deref(), Manner::Windows));
    let signed = signed.await.map_err(Error::internal)??;
    let (now, at) = (app.now(), signed.at.ok_or(Refusal::MessageSignatureInvalid)?);
    if now.since(at).abs() > WINDOW {
        return Err(Refusal::MessageSignatureOld.into());
    }
    match presented.certificate {
        Some((_, connection)) if connection != signed.certificate => Err(Refusal::MessageSignatureForeign.into()),
        // The connection proves that the message is fresh.
        Some(_) => Ok(signed.certificate),
        None => {
            claim(app, &signed.certificate, at, body).await?;
            Ok(signed.certificate)
        }
    }
}

/// Takes a signature that stands for a connection's certificate, once.
async fn claim(app: &App, certificate: &str, at: Time, body: &[u8]) -> Result<()> {
    let fingerprint = certificate.to_owned();
    // Strangers leave nothing in the table.
    let identity = app.store.read(move |conn| enrollments::find_identity(conn, &fingerprint)).await?;
    identity.filter(|identity| identity.enrollment.platform == Platform::Windows).ok_or(Refusal::CertificateNotOurs)?;
    let mut hash = Sha256::new();
    hash.update(certificate.as_bytes());
    hash.update(&at.0.to_be_bytes());
    hash.update(&sha256(body));
    let (hash, expires) = (hash.finish(), at.plus(2 * WINDOW));
    match app.store.write(move |tx| message_signatures::claim_signature(tx, &hash, expires)).await? {
        true => Ok(()),
        false => Err(Refusal::MessageSignatureUsed.into()),
    }
}
