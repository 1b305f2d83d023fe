//! Keys that sign tokens, and their rotation.
