//! Certificates as we build them: to-be-signed structures over the issuer's raw name bytes (RFC 5280).
