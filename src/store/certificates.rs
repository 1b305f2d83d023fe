//! Issued certificates.
