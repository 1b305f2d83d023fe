//! Profiles and assignments.
