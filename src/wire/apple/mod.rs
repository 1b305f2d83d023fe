//! Apple's device management protocol: check-in, commands, profiles and declarations, in both directions (server and device).
//!
//! Device messages are read tolerantly: keys that are not known are passed over, as the protocol demands; identifiers are opaque.

pub mod ade;
pub mod app;
pub mod attestation;
pub mod books;
pub mod checkin;
pub mod command;
pub mod ddm;
pub mod enroll;
pub mod machine_info;
pub mod predicate;
pub mod profile;
pub mod push;
mod who;

pub use who::{Channel, DeviceKey, UserKey, Who};

/// Content type of a check-in message, before parameters.
pub const CHECKIN: &str = "application/x-apple-aspen-mdm-checkin";
/// Content type of a command's result.
pub const COMMAND: &str = "application/x-apple-aspen-mdm";
/// Content type of a configuration profile.
pub const PROFILE: &str = "application/x-apple-aspen-config";
/// Content type of a property list that the server answers.
pub const PLIST: &str = "application/xml; charset=UTF-8";

#[cfg(test)]
mod tests;
