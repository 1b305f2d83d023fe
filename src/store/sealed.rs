//! All sealed columns, for re-sealing under a new master key.
