//! Sign-in: who is it.

mod instance_key;
pub mod oauth;
pub mod registration;
pub mod tap;
pub mod token;

pub(crate) use instance_key::instance_key;
