//! Waking devices.

pub mod due;
pub mod wns;
