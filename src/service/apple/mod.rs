//! Apple devices.

pub mod push_certificate;
