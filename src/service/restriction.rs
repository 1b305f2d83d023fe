//! Which devices the organisation lets enrol: the configured rules, asked on every way of enrolling.

use crate::config::Config;
use crate::domain::Refusal;
use crate::domain::device::Platform;
use crate::domain::restriction::Restriction;

/// Whether the organisation lists the serial number as one of its own devices.
#[must_use]
pub(in crate::service) fn is_listed(config: &Config, serial: Option<&str>) -> bool {
    serial.is_some_and(|serial| config.enrollment.serial_numbers.iter().any(|listed| listed.eq_ignore_ascii_case(serial)))
}

/// Judges a device by what it says of itself.
///
/// # Errors
/// Those of [`Restriction::judge`].
pub(in crate::service) fn check(
    config: &Config,
    platform: Platform,
    os_version: Option<&str>,
    serial: Option<&str>,
) -> Result<(), Refusal> {
    let rules = match platform {
        Platform::Windows => &config.enrollment.windows,
        Platform::MacOs => &config.enrollment.macos,
        Platform::Ios => &config.enrollment.ios,
        Platform::Android => return Err(Refusal::PlatformRefused),
    };
    let restriction = Restriction {
        allowed: rules.allowed,
        minimum: &rules.minimum_os_version,
        maximum: &rules.maximum_os_version,
        personal: rules.personal,
    };
    restriction.judge(os_version, is_listed(config, serial))
}
