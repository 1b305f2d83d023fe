//! Sign-in: who is it.

pub mod break_glass;
mod instance_key;
pub mod oauth;
pub mod passkey;
pub mod policy;
pub mod registration;
pub mod session;
pub mod sign_in;
pub mod tap;
pub mod token;

pub(crate) use instance_key::{instance_key, instance_secret};
