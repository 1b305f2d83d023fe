//! Certification authorities and the keys that serve them.
