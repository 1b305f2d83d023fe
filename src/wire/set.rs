//! Security event tokens and CAEP events (RFC 8417, CAEP 1.0).
