//! One-time enrolment tokens.
