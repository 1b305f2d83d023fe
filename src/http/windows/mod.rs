//! Windows enrolment and management.

pub mod enroll;
pub mod manage;
