//! Sign-in: who is it.

pub mod tap;
pub mod token;
