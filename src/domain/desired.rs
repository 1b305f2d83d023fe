//! The desired-state engine's rules: effective settings, conflicts, item states.
