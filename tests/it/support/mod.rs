//! What the integration tests share.

#![allow(dead_code, reason = "each test module uses its part")]

pub mod ade;
pub mod apple;
pub mod apple_schema;
pub mod books;
pub mod browser;
pub mod ca;
pub mod child;
pub mod db;
pub mod ddf;
pub mod factory;
pub mod passkey;
pub mod server;
pub mod tools;
pub mod windows;
pub mod wire;
