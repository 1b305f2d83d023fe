//! Keys that sign tokens.
