//! Pure codecs: bytes to types and back. Nothing here reads a clock, a socket or a random number.

use std::borrow::Cow;

/// A message that does not follow its protocol: what is wrong and where, never the secret bytes themselves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at {at}")]
pub struct Malformed {
    /// What is wrong.
    pub what: Cow<'static, str>,
    /// Where: an element path, an offset or a field name.
    pub at: String,
}

impl Malformed {
    /// Names what is wrong and where.
    pub fn new(what: impl Into<Cow<'static, str>>, at: impl Into<String>) -> Self {
        Self { what: what.into(), at: at.into() }
    }
}

pub mod apple;
pub mod asn1;
pub mod cbor;
pub mod cms;
pub mod constraints;
pub mod crl;
pub mod csv;
pub mod form;
pub mod jwk;
pub mod jwt;
pub mod locuri;
pub mod mde;
pub mod nul;
pub mod ocsp;
pub mod odata;
pub mod pkcs10;
pub mod plist;
pub mod provisioning;
pub mod public_key;
pub mod scep;
pub mod scim;
pub mod set;
pub mod syncml;
pub mod webauthn;
pub mod x509;
pub mod xml;

/// The `openssl` program, or `None` after saying that it is missing; fails when `REQUIRE_ALL=1`, as all tests with outside programs do.
#[cfg(test)]
pub(crate) fn openssl_program() -> Option<std::process::Command> {
    use std::io::Write as _;
    if std::process::Command::new("openssl").arg("version").output().is_ok() {
        return Some(std::process::Command::new("openssl"));
    }
    assert!(std::env::var_os("REQUIRE_ALL").is_none_or(|v| v != "1"), "missing: openssl");
    let _ = writeln!(std::io::stderr(), "skipped: openssl is not installed");
    None
}
