//! A simulated Windows device: real keys, real TLS, real messages, and a management tree that says no as Windows does.

pub mod enroll;
pub mod session;
pub mod tree;
