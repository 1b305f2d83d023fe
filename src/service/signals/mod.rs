//! Signals to consumers.

pub mod caep;
pub mod lanes;
pub mod push;
pub mod receiver;
pub mod subject;

use serde_json::{Value, json};

use crate::config::Config;

/// Path of the published keys, below the issuer.
pub const JWKS_PATH: &str = "/signals/jwks.json";

/// Who signs: the web face's URL. Receivers compare it byte by byte.
#[must_use]
pub fn issuer(config: &Config) -> String {
    config.web_url().trim_end_matches('/').to_owned()
}

/// The transmitter's metadata (SSF 1.0 section 7.1): what is true now. Streams are configured by an administrator; the endpoints with
/// which receivers manage streams themselves belong here once they exist.
#[must_use]
pub fn metadata(config: &Config) -> Value {
    let issuer = issuer(config);
    json!({
        "spec_version": "1_0",
        "jwks_uri": format!("{issuer}{JWKS_PATH}"),
        "issuer": issuer,
        "delivery_methods_supported": ["urn:ietf:rfc:8935"],
        "default_subjects": "ALL",
    })
}
