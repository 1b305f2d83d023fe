//! Recomputing what devices should have.
