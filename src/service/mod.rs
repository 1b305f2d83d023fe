//! Use cases: one public function per operation. A use case reads and writes through the store, moves the state machines of the domain,
//! and leaves effects in the outbox; it knows nothing of HTTP.

pub mod apple;
pub mod application;
pub mod audit;
pub mod autopilot;
pub mod background;
pub mod backup;
pub mod callers;
pub mod changes;
pub mod compliance;
pub mod desired;
pub mod device;
pub mod directory;
pub mod effect;
mod error;
pub mod files;
pub mod health;
pub mod identity;
pub mod jobs;
pub mod outbound;
pub mod outbox;
pub mod page;
pub mod pfx;
pub mod pfx_password;
pub mod pki;
pub mod presence;
pub mod profile;
pub mod profile_sets;
pub mod push;
pub mod repeats;
pub mod reseal;
mod restriction;
pub mod role;
mod round;
pub mod setup;
pub mod signals;
mod signature;
pub mod signing_keys;
pub mod standing;
pub mod status;
pub mod strangers;
pub mod subscription;
pub mod windows;

/// Longest list that is read at once: a page of 1000, and one more that tells whether that was all.
const LONGEST_LIST: i64 = 1001;

pub use error::{Error, Result};
