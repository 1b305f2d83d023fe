//! Configured receivers.
