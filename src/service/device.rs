//! Devices: listing, retiring.
