//! Windows enrolment and management.
