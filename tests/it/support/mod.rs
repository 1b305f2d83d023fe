//! What the integration tests share.

#![allow(dead_code, reason = "each test module uses its part")]

pub mod db;
pub mod tools;
