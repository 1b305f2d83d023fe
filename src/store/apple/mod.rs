//! What is kept of Apple devices beside their enrolments: channels with their queues, enrolments that have begun, what the profile said of
//! the management, escrow, the push certificate, packages of applications, licences, and the list of the organisation's own devices.

pub mod ade;
pub mod channels;
pub mod licences;
pub mod management;
pub mod nonces;
pub mod packages;
pub mod push;
pub mod secrets;
pub mod sessions;
