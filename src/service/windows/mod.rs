//! Windows: enrolment and management sessions.

pub mod csp;
pub mod enroll;
pub mod entra;
mod plan;
pub mod session;
pub mod signature;
pub mod terms;
