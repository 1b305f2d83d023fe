//! Body sizes, rates and panics.
