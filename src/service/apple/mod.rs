//! Apple devices: macOS, iOS and iPadOS.

pub mod ade;
pub(in crate::service) mod approval;
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
mod returning;
pub mod single_sign_on;
pub(in crate::service) mod turn;

pub use turn::receive;

use crate::app::App;
use crate::domain::apple::profile::Names;
use crate::domain::command::{Operation, Request};
use crate::service::Result;
use crate::store::meta;

/// Where the prefix of all names is kept.
const PREFIX: &str = "apple-prefix";

/// How this organisation's profiles are named: below the host that the server had when it was first asked, whatever it is called since. A
/// device that is told another name installs beside what it has, and does not know what it shall remove.
///
/// # Errors
/// Only the database's own.
pub async fn names(app: &App) -> Result<Names> {
    if let Some(names) = app.apple_names.get() {
        return Ok(names.clone());
    }
    let prefix = match app.store.read(|conn| meta::find_value(conn, PREFIX)).await? {
        Some(prefix) => prefix,
        None => {
            // Of nodes that ask side by side the first one's stays.
            let fresh = Names::prefix_of(&app.config.device_host());
            app.store.write(move |tx| meta::insert_value_once(tx, PREFIX, &fresh)).await?
        }
    };
    Ok(app.apple_names.get_or_init(|| Names::new(app.tenant.clone(), prefix)).clone())
}

/// The order to leave: the enrolment profile is taken away, and everything that came with it.
///
/// # Errors
/// Only the database's own.
pub async fn leave(app: &App) -> Result<Operation> {
    let keys = [("Identifier".to_owned(), names(app).await?.enrollment().into())].into_iter().collect();
    Ok(Operation::Request(Request { request: "RemoveProfile".into(), keys, large: Vec::new(), once: false, user: None }))
}
