//! Design pages and decision records, shown beside the types they are about.

#[doc = include_str!("architecture.md")]
pub mod architecture {}
