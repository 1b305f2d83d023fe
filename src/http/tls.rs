//! TLS of the faces.
