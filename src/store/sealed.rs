//! All sealed columns, for re-sealing under a new master key.

/// Purpose of sealed private keys that sign tokens.
pub const SIGNING_KEY: &str = "signing_keys.key";
/// Purpose of sealed `Authorization` values of receivers.
pub const RECEIVER_AUTHORIZATION: &str = "receivers.authorization";
