//! The one function that issues certificates.
