//! Apple devices: the rules that profiles, declarations and the command channel follow, as pure functions.

pub mod account;
pub mod ade;
pub mod app;
pub mod attestation;
pub mod content;
pub mod declarations;
pub mod declared;
pub mod enrollment;
pub mod escrow;
pub mod licence;
pub mod package;
pub mod privacy;
pub mod profile;
pub mod push;
pub mod queue;
pub mod sso;
pub mod vpn;
pub mod way;
