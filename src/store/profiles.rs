//! Profiles and their versions.
