//! Directory devices.
