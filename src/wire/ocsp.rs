//! OCSP requests and responses (RFC 6960, RFC 9654).
