//! Management sessions, as the device sees them.
