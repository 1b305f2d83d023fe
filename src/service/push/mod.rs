//! Waking devices.

pub mod wns;
