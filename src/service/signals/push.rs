//! Push delivery (RFC 8935).
