//! Which devices the organisation lets enrol: the configured rules, asked on every way of enrolling.

use super::Result;
use crate::app::App;
use crate::config::Config;
use crate::domain::Refusal;
use crate::domain::device::Platform;
use crate::domain::restriction::Restriction;
use crate::store::apple::ade;
use crate::store::{self, Conn, autopilot};

/// Whether the organisation lists the serial number as one of its own devices: in the configuration, of an Apple device in
/// Apple Business Manager, or of a PC for Windows Autopilot. A PC states its serial number itself, and those of Apple devices are no secret.
///
/// # Errors
/// Only the database's own.
pub(in crate::service) fn is_listed(conn: &mut Conn, config: &Config, platform: Platform, serial: &str) -> store::Result<bool> {
    let configured = config.enrollment.serial_numbers.iter().any(|listed| listed.eq_ignore_ascii_case(serial));
    Ok(configured
        || match platform {
            Platform::Windows => autopilot::is_listed(conn, serial)?,
            Platform::MacOs | Platform::Ios => ade::is_listed(conn, serial)?,
            Platform::Android => false,
        })
}

/// Judges a device by what it says of itself.
///
/// # Errors
/// Those of [`Restriction::judge`].
pub(in crate::service) fn check_in(
    conn: &mut Conn,
    config: &Config,
    platform: Platform,
    os_version: Option<&str>,
    serial: Option<&str>,
) -> store::Result<()> {
    let rules = match platform {
        Platform::Windows => &config.enrollment.windows,
        Platform::MacOs => &config.enrollment.macos,
        Platform::Ios => &config.enrollment.ios,
        Platform::Android => return Err(Refusal::PlatformRefused.into()),
    };
    let restriction = Restriction {
        allowed: rules.allowed,
        minimum: &rules.minimum_os_version,
        maximum: &rules.maximum_os_version,
        personal: rules.personal,
    };
    // The list is looked at only where it matters.
    let listed = match serial {
        Some(serial) if !rules.personal => is_listed(conn, config, platform, serial)?,
        _ => false,
    };
    Ok(restriction.judge(os_version, listed)?)
}

/// The same, outside of a transaction.
///
/// # Errors
/// Those of [`Restriction::judge`].
pub(in crate::service) async fn check(app: &App, platform: Platform, os_version: Option<&str>, serial: Option<&str>) -> Result<()> {
    let (config, os_version, serial) = (app.config.clone(), os_version.map(str::to_owned), serial.map(str::to_owned));
    let judging = app.store.read(move |c| check_in(c, &config, platform, os_version.as_deref(), serial.as_deref()));
    Ok(judging.await?)
}
