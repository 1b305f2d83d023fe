//! Re-sealing secrets under a new master key.
