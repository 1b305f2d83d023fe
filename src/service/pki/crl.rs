//! Publishing CRLs.
