//! Signals to consumers.

pub mod caep;
pub mod keys;
pub mod push;
pub mod receiver;
