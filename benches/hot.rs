//! What a server does most, in isolation: `cargo bench` prints the time of each, and its throughput where bytes are read.
//!
//! Whole operations over the network are measured by `muster simulate --report`; these show which part of one became slower.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub, reason = "a bench that cannot run stops")]

#[path = "hot/authority.rs"]
mod authority;
#[path = "hot/identity.rs"]
mod identity;
#[path = "hot/management.rs"]
mod management;

fn main() {
    divan::main();
}
