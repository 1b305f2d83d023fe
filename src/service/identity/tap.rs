//! Temporary Access Passes: making and checking.
