//! Who a profile is for.
