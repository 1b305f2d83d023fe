//! What each device should have and what it has.
