//! The certification authority: authorities, issuing, revocation, SCEP.

pub mod authority;
pub mod authorize;
pub mod cloud;
pub mod crl;
pub mod external;
pub mod fallen;
pub mod issue;
pub mod keys;
pub mod leaf;
pub mod names;
mod namesake;
pub mod ocsp;
pub mod pkcs12;
pub mod revoke;
pub mod scep;
pub mod service_key;
pub mod wanted;
