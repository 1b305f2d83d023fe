//! Orders to devices.
