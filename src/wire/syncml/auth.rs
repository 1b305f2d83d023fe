//! Digest authentication (`syncml:auth-md5`) of OMA-DM 1.2: both sides compute the same. MD5 is the protocol's choice; the digest
//! travels inside TLS only.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::error::ErrorStack;
use openssl::hash::{MessageDigest, hash};

use super::types::{Cred, Format, Meta};

/// The authentication type.
pub const AUTH_MD5: &str = "syncml:auth-md5";

/// `B64(MD5(user ":" secret))`: all that a server keeps of the secret.
///
/// # Errors
/// When OpenSSL has no MD5 (FIPS).
pub fn md5_ha1(user: &str, secret: &str) -> Result<String, ErrorStack> {
    Ok(STANDARD.encode(hash(MessageDigest::md5(), format!("{user}:{secret}").as_bytes())?))
}

/// `B64(MD5(ha1 ":" nonce))`, where the nonce is the decoded bytes of what was sent in base64.
///
/// # Errors
/// When OpenSSL has no MD5 (FIPS).
pub fn md5_digest(ha1: &str, nonce: &[u8]) -> Result<String, ErrorStack> {
    let bytes = [ha1.as_bytes(), b":", nonce].concat();
    Ok(STANDARD.encode(hash(MessageDigest::md5(), &bytes)?))
}

/// Credentials as a client sends them.
///
/// # Errors
/// When OpenSSL has no MD5 (FIPS).
pub fn md5_cred(ha1: &str, nonce: &[u8]) -> Result<Cred, ErrorStack> {
    let meta = Meta { format: Some(Format::B64), kind: Some(AUTH_MD5.to_owned()), ..Meta::default() };
    Ok(Cred { meta, data: md5_digest(ha1, nonce)? })
}

/// A challenge as a server sends it.
#[must_use]
pub fn challenge(nonce: &[u8]) -> Meta {
    Meta { format: Some(Format::B64), kind: Some(AUTH_MD5.to_owned()), next_nonce: Some(STANDARD.encode(nonce)), ..Meta::default() }
}

/// The nonce of a challenge; `None` when it is no challenge for this kind of authentication.
#[must_use]
pub fn nonce(challenge: &Meta) -> Option<Vec<u8>> {
    if challenge.kind.as_deref() != Some(AUTH_MD5) {
        return None;
    }
    STANDARD.decode(challenge.next_nonce.as_deref()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_follow_the_formula() {
        // Computed with `printf '%s' 'Bruce2:OhBehave' | openssl md5 -binary | base64`, and the same over "<that>:Nonce".
        let ha1 = md5_ha1("Bruce2", "OhBehave").unwrap();
        assert_eq!(ha1, "PtEdr8lBQ45IbT1bZIkrOQ==");
        assert_eq!(md5_cred(&ha1, b"Nonce").unwrap().data, "Zz6EivR3yeaaENcRN6lpAQ==");
        assert_eq!(nonce(&challenge(b"Nonce")).as_deref(), Some(&b"Nonce"[..]));
        assert!(nonce(&Meta::default()).is_none());
    }
}
