//! ACME: what a device may have certified, known by the one-time identifier that its profile gave it.

use super::certificate::Grant;
use crate::clock::Time;

/// A client identifier that was given to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// SHA-256 of the identifier, lower-case hex: whoever reads the database cannot use it.
    pub hash: String,
    /// What it may have certified, once.
    pub grant: Grant,
    /// The key has to be in hardware.
    pub hardware_bound: bool,
    /// Key and device have to be attested.
    pub attest: bool,
    /// When it ends.
    pub expires_at: Time,
}

impl Client {
    /// The hash that an identifier is kept under.
    #[must_use]
    pub fn hash_of(identifier: &str) -> String {
        hex::encode(openssl::sha::sha256(identifier.as_bytes()))
    }
}
