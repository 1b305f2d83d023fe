//! Revoking certificates.
