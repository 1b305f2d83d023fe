//! Apple devices.

pub mod account;
pub mod apps;
pub mod automated;
pub mod enroll;
pub mod manage;
pub mod site;
