//! What devices reported.
