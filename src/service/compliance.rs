//! Judging devices.
