//! What is kept of Apple devices beside their enrolments: channels with their queues, enrolments that have begun, and escrow.

pub mod channels;
pub mod secrets;
pub mod sessions;
