//! JWKS and transmitter metadata.
