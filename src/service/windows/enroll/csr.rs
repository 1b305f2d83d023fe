//! Certificate requests: only the key is taken from them. Windows writes subjects that strict parsers refuse (a `!` and a NUL in a
//! PrintableString), so OpenSSL reads them, and nothing of the subject is used.

use openssl::pkey::Id;
use openssl::x509::X509Req;

use crate::domain::Refusal;
use crate::service::{Error, Result};

/// Shortest RSA key.
pub(super) const LEAST_BITS: u32 = 2048;

/// The public key (SubjectPublicKeyInfo, DER) of a request that is signed with it.
///
/// # Errors
/// [`Refusal::CsrInvalid`], [`Refusal::CsrWeakKey`].
pub(super) async fn public_key(der: Vec<u8>) -> Result<Vec<u8>> {
    tokio::task::spawn_blocking(move || read(&der)).await.map_err(Error::internal)?
}

fn read(der: &[u8]) -> Result<Vec<u8>> {
    let invalid = |_| Error::Refused(Refusal::CsrInvalid);
    let request = X509Req::from_der(der).map_err(invalid)?;
    let key = request.public_key().map_err(invalid)?;
    if key.id() != Id::RSA || key.bits() < LEAST_BITS {
        return Err(Refusal::CsrWeakKey.into());
    }
    if !request.verify(&key).map_err(invalid)? {
        return Err(Refusal::CsrInvalid.into());
    }
    Ok(key.public_key_to_der()?)
}
