//! Putting an answer together. Runs on a blocking thread.

use super::open::Echo;
use crate::secret;
use crate::service::pki::keys::ServiceKey;
use crate::service::{Error, Result};
use crate::wire::cms::{CertificateView, RSA_KEY_BITS, Signer, degenerate, seal_by};
use crate::wire::scep::{CertRep, FailInfo, Status};

/// What an answer carries.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Certificate(Vec<u8>),
    Crl(Vec<u8>),
    Failure(FailInfo),
    Pending,
}

/// Seals the content for the signer, with the cipher that the client used, and signs the answer with the digest that it used.
pub(super) fn answer(echo: &Echo, key: &ServiceKey, content: &Content) -> Result<Vec<u8>> {
    let status = match content {
        Content::Certificate(der) => Status::Success(envelope(echo, &degenerate(&[der], &[]))?),
        Content::Crl(der) => Status::Success(envelope(echo, &degenerate(&[], &[der]))?),
        Content::Failure(info) => Status::Failure(*info, None),
        Content::Pending => Status::Pending,
    };
    // Step 10: a nonce of our own, the client's in the other field.
    let nonce = secret::random::<16>()?;
    let answer =
        CertRep { transaction_id_raw: &echo.transaction_id_raw, recipient_nonce: &echo.nonce, sender_nonce: &nonce, status: &status };
    let signer = Signer { certificate: &key.certificate, key: key.key.pkey(), digest: echo.digest };
    answer.sign(&signer).map_err(Error::internal)
}

fn envelope(echo: &Echo, content: &[u8]) -> Result<Vec<u8>> {
    let random = secret::Secret::new(secret::random::<48>()?.to_vec());
    let (key, iv) = random.expose().split_at(32);
    let key = key.get(..echo.cipher.key_length()).unwrap_or_default();
    let iv = iv.get(..echo.cipher.block()).unwrap_or_default();
    let recipient = CertificateView::parse(&echo.signer)?;
    let public = echo.signer_key.as_ref().ok_or_else(|| Error::internal(anyhow::anyhow!("nobody to seal for")))?;
    // A signer whose key cannot take an envelope (not RSA, or absurd) never gets this far: `decide` refuses it.
    seal_by(content, &recipient, public, echo.cipher, key, iv).map_err(Error::internal)
}

/// Whether an answer can be sealed for the signer.
pub(super) fn can_seal(echo: &Echo) -> bool {
    let bits = CertificateView::parse(&echo.signer).ok().and_then(|view| view.rsa_bits());
    bits.is_some_and(|bits| RSA_KEY_BITS.contains(&bits))
}
