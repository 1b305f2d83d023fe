//! What is kept of Apple devices beside their enrolments: channels with their queues, enrolments that have begun, escrow, and the push
//! certificate.

pub mod channels;
pub mod push;
pub mod secrets;
pub mod sessions;
