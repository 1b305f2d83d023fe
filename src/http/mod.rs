//! Thin faces: extract, decode, call, encode.

pub mod api;
pub mod apple;
mod bearer;
mod drain;
pub mod echo;
pub mod error;
pub mod graph;
pub mod health;
pub mod identity;
pub mod limits;
mod observe;
pub mod orders;
pub mod page;
pub mod peer;
pub mod pki;
mod range;
pub mod routes;
pub mod scep;
pub mod scim;
pub mod server;
pub mod signals;
pub mod signin;
pub mod table;
pub mod tls;
pub mod welcome;
pub mod windows;
