//! `/api/devices`: what is in place on a device, what is missing, and why.

use crate::domain::access::{Action, Need, Scope};
use crate::domain::device::Platform;
use crate::domain::readiness::{Method, Missing, Report, Standing, is_passwordless};
use crate::http::api::problem::Result;
use crate::http::api::route::{Call, Reply, routes};
use crate::http::api::schema::{Nothing, shown};
use crate::service::{device, directory};

const READ: Need =
    Need { scopes: &[Scope::ManagedDevicesReadAll, Scope::ManagedDevicesReadWriteAll], action: Some(Action::ManagedDevicesRead) };

routes! {
    /// Shows whether the user of a device can sign in without a password there: each method, and what is missing for it. The id is that of
    /// the device, or the one by which Entra ID knows it.
    Get "devices/{id}/readiness", READ, Nothing, Nothing => 200 Readiness, [], show_readiness;
}

shown! {
    /// Whether the user of a device can sign in without a password there.
    Readiness {
        /// The device.
        device: String,
        /// Its name.
        name: String,
        /// Its platform.
        platform: Platform,
        /// Whether a method that nobody can phish is registered or ready, so that its user can do without a password.
        passwordless: bool,
        /// The methods.
        methods: Vec<MethodReadiness>,
    }
}

shown! {
    /// How a method to sign in stands.
    MethodReadiness {
        /// Which.
        method: Method,
        /// How.
        standing: Standing,
        /// What is missing.
        missing: Vec<Missing>,
        /// The names of the profiles that turn it on for the device.
        profiles: Vec<String>,
    }
}

async fn show_readiness(call: Call<'_>, _: Nothing, _: Nothing) -> Result<Reply<Readiness>> {
    let found = directory::find_device(call.app, call.key(0)?, &call.reach).await?.device;
    let report = device::readiness(call.app, &found.id).await?;
    let passwordless = is_passwordless(&report);
    let show = |one: Report| MethodReadiness { method: one.method, standing: one.standing, missing: one.missing, profiles: one.profiles };
    let methods = report.into_iter().map(show).collect();
    Ok(Readiness { device: found.id.to_string(), name: found.display_name, platform: found.platform, passwordless, methods }.into())
}
