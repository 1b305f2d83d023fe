//! Delivering what the outbox holds.
