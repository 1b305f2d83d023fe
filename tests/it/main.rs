//! The one integration test binary: modules mirror the faces; each test has its own database and its own CA.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, unreachable_pub)]

mod apple_captures;
mod apple_enroll;
mod apple_manage;
mod apple_payloads;
mod apple_push;
mod apple_schema;
mod apple_sim;
mod catalogue_baselines;
mod cli;
mod cli_orders;
mod cli_simulate;
mod compliance;
mod desired;
mod faces;
mod fuzz;
mod golden;
mod identity_tap;
mod kill;
mod layers;
mod nodes;
mod pages;
mod pki;
mod refusals;
mod scep;
mod signals;
mod store_apple;
mod store_audit;
mod store_certificates;
mod store_enrollment;
mod store_jobs;
mod store_outbox;
mod store_scep;
mod store_sealed;
mod store_writer;
mod support;
mod windows_ddf;
mod windows_enroll;
mod windows_leaving;
mod windows_scep;
mod windows_session;
mod windows_session_limits;
mod windows_session_store;
mod windows_signature;
