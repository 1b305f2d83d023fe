//! CMS signatures of management messages, over the exact bytes of the body: what Windows and Apple devices have in common.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::sha::sha256;

use crate::clock::Time;
use crate::domain::Refusal;
use crate::wire::asn1;
use crate::wire::cms::{Digest, SIGNING_TIME, SignedData, ber};

/// Longest header, in letters of base64.
const LONGEST: usize = 32 * 1024;

/// Which signatures count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// SHA-2, with the signing time.
    Windows,
    /// Also SHA-1, also without attributes: what devices of every age send.
    Apple,
}

/// Who signed, and when.
pub(super) struct Signed {
    /// SHA-256 of the certificate in lower-case hex. Whether it is one of ours is the caller's to say.
    pub(super) certificate: String,
    /// When, if it says so.
    pub(super) at: Option<Time>,
}

/// One signature over the body, by a certificate in the message or the connection's.
///
/// # Errors
/// [`Refusal::MessageSignatureInvalid`].
pub(super) fn verify(header: &[u8], body: &[u8], connection: Option<&[u8]>, manner: Manner) -> Result<Signed, Refusal> {
    let invalid = Refusal::MessageSignatureInvalid;
    if header.len() > LONGEST {
        return Err(invalid);
    }
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
    let certificate = match (manner, signer.digest) {
        (Manner::Windows, Some(Digest::Sha256 | Digest::Sha384 | Digest::Sha512)) => signed.verify(signer),
        (Manner::Apple, Some(Digest::Sha1 | Digest::Sha256 | Digest::Sha384 | Digest::Sha512)) => signed.verify_bare(signer),
        _ => return Err(invalid),
    };
    let certificate = certificate.map_err(|_| invalid)?;
    let at = match signer.attribute(SIGNING_TIME) {
        Some(at) => Some(asn1::Reader::new(at.raw).element().and_then(|at| at.time()).map_err(|_| invalid)?),
        None => None,
    };
    Ok(Signed { certificate: hex::encode(sha256(certificate.raw)), at: at.map(|at| Time(at.saturating_mul(1000))) })
}
