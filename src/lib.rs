//! Muster: device management, passwordless sign-in and a certification authority in one program.
//!
//! The map, lowest floor first. A floor imports only what stands below it (a test holds this):
//!
//! | Module | Holds |
//! | --- | --- |
//! | [`wire`] | bytes to types and back, one folder or file per protocol; no I/O, clock or randomness |
//! | [`catalogue`] | the settings, facts and compliance rules that `profiles/` describes as rows |
//! | [`domain`] | types, rules and state machines as pure functions; `now` is a parameter |
//! | [`store`] | all SQL; the writer; both databases |
//! | [`service`] | use cases: one public function per operation; owns transactions and effects |
//! | [`http`] | thin faces: extract, decode, call, encode |
//! | [`sim`] | simulated devices and receivers: they know the wire and the catalogue, nothing else of ours |
//! | [`cli`] | one file per subcommand |
//!
//! A feature has the same name on every floor. [`app`] is the only place that wires them together.

pub mod app;
pub mod catalogue;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod http;
pub mod ids;
pub mod manual;
pub mod secret;
pub mod service;
pub mod sim;
pub mod store;
pub mod telemetry;
pub mod wire;
