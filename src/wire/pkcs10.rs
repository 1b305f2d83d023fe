//! Certification requests (PKCS#10, RFC 2986), read tolerantly.
