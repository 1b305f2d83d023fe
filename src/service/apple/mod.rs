//! Apple devices: macOS, iOS and iPadOS.

pub mod ade;
mod apps;
pub mod assets;
pub mod attestation;
pub mod checkin;
pub mod commands;
pub mod connect;
pub mod declarations;
pub mod enroll;
mod escrow;
mod ground;
pub(in crate::service) mod identities;
pub mod identity;
pub mod licences;
pub mod packages;
mod plan;
pub mod push_certificate;
pub mod single_sign_on;
pub(in crate::service) mod turn;

pub use turn::receive;

use crate::app::App;
use crate::domain::apple::profile::Names;
use crate::domain::command::{Operation, Request};

/// How this organisation's profiles are named.
#[must_use]
pub fn names(app: &App) -> Names {
    Names::new(app.tenant.clone(), Names::prefix_of(&app.config.device_host()))
}

/// The order to leave: the enrolment profile is taken away, and everything that came with it.
#[must_use]
pub fn leave(app: &App) -> Operation {
    let keys = [("Identifier".to_owned(), names(app).enrollment().into())].into_iter().collect();
    Operation::Request(Request { request: "RemoveProfile".into(), keys, once: false })
}
