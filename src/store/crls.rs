//! Published CRLs.
