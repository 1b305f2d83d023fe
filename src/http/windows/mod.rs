//! Windows enrolment and management.

pub mod enroll;
