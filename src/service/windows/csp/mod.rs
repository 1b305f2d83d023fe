//! Configuration service providers with behaviour of their own.
