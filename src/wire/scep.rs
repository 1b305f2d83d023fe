//! SCEP messages (RFC 8894).
