//! Many simulated devices at once, and what they measured.
