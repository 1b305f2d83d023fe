//! Who sent a management message. The client certificate of the connection says it (MS-MDM 2.1). A message may be signed, too: the header
//! `MDM-Signature` (DMClient CSP, `RequireMessageSigning`) is a CMS signature over the exact bytes of the body, by the same certificate.
//! Where a configured proxy ends TLS and passes no certificate on, and the configuration says so, the signature stands for it: then it is
//! good for a few minutes and once.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::sha::{Sha256, sha256};

use super::strangers::{Caller, turn_away};
use crate::app::App;
use crate::clock::{MINUTE, Time};
use crate::domain::Refusal;
use crate::service::{Error, Result};
use crate::store::{enrollments, message_signatures};
use crate::wire::asn1;
use crate::wire::cms::{Digest, SIGNING_TIME, SignedData, ber};

/// How far the signing time may be from our clock.
const WINDOW: i64 = 5 * MINUTE;
/// Longest header, in letters of base64.
const LONGEST: usize = 32 * 1024;

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

/// Who signed, and when.
struct Signed {
    certificate: String,
    at: Time,
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
    if header.len() > LONGEST {
        return Err(Refusal::MessageSignatureInvalid.into());
    }
    let (header, message, connection) = (header.to_vec(), body.to_vec(), presented.certificate.map(|(der, _)| der.to_vec()));
    let signed = tokio::task::spawn_blocking(move || verify(&header, &message, connection.as_deref())).await.map_err(Error::internal)??;
    let now = app.now();
    if now.since(signed.at).abs() > WINDOW {
        return Err(Refusal::MessageSignatureOld.into());
    }
    match presented.certificate {
        Some((_, connection)) if connection != signed.certificate => Err(Refusal::MessageSignatureForeign.into()),
        // The connection proves that the message is fresh.
        Some(_) => Ok(signed.certificate),
        None => {
            claim(app, &signed, body).await?;
            Ok(signed.certificate)
        }
    }
}

/// Takes a signature that stands for a connection's certificate, once.
async fn claim(app: &App, signed: &Signed, body: &[u8]) -> Result<()> {
    let fingerprint = signed.certificate.clone();
    // Strangers leave nothing in the table.
    app.store.read(move |conn| enrollments::find_identity(conn, &fingerprint)).await?.ok_or(Refusal::CertificateNotOurs)?;
    let mut hash = Sha256::new();
    hash.update(signed.certificate.as_bytes());
    hash.update(&signed.at.0.to_be_bytes());
    hash.update(&sha256(body));
    let (hash, expires) = (hash.finish(), signed.at.plus(2 * WINDOW));
    match app.store.write(move |tx| message_signatures::claim_signature(tx, &hash, expires)).await? {
        true => Ok(()),
        false => Err(Refusal::MessageSignatureUsed.into()),
    }
}

/// One signature with SHA-2 over the body, with its time, by a certificate in the message or the connection's.
fn verify(header: &[u8], body: &[u8], connection: Option<&[u8]>) -> std::result::Result<Signed, Refusal> {
    let invalid = Refusal::MessageSignatureInvalid;
    let text: Vec<u8> = header.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
    let bytes = STANDARD.decode(text).map_err(|_| invalid)?;
    let der = ber::to_der(&bytes).map_err(|_| invalid)?;
    let mut signed = SignedData::parse(&der).map_err(|_| invalid)?;
    if signed.content.is_some_and(|content| content != body) {
        return Err(invalid);
    }
    signed.content = Some(body);
    signed.certificates.extend(connection);
    let signers = std::mem::take(&mut signed.signers);
    let [signer] = signers.as_slice() else { return Err(invalid) };
    if !matches!(signer.digest, Some(Digest::Sha256 | Digest::Sha384 | Digest::Sha512)) {
        return Err(invalid);
    }
    let certificate = signed.verify(signer).map_err(|_| invalid)?;
    let at = signer.attribute(SIGNING_TIME).ok_or(invalid)?;
    let at = asn1::Reader::new(at.raw).element().and_then(|at| at.time()).map_err(|_| invalid)?;
    Ok(Signed { certificate: hex::encode(sha256(certificate.raw)), at: Time(at.saturating_mul(1000)) })
}
