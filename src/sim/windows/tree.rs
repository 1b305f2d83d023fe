//! The device's management tree.
