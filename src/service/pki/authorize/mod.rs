//! Authorisers: each turns a proof into a grant.

pub mod scep_challenge;
