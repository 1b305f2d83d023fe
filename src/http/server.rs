//! The three faces: binding, starting, stopping.
