//! Cryptographic Message Syntax as SCEP uses it (RFC 5652), read tolerantly.
