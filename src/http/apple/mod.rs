//! Apple devices.

pub mod enroll;
pub mod manage;
