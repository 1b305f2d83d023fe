//! Temporary Access Passes.
