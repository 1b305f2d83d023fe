//! One reported value with its source and time.
