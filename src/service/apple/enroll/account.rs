//! Enrolment by account: a person types a Managed Apple Account in the settings of the device. The device asks the domain of the account
//! where to enrol, describes itself there, is sent to a page where the person signs in, and comes back with a token that gives it its
//! profile, once.
//!
//! The token counts for that one request. Devices go on to show it with every message of management, where nobody looks at it: there the
//! certificate says who speaks.

use std::net::IpAddr;

use super::automated::{outcome, recorded};
use super::{Beginning, PLATFORMS, begin, machine_info};
use crate::app::App;
use crate::config::Config;
use crate::domain::Refusal;
use crate::domain::apple::enrollment::platform;
use crate::domain::device::Platform;
use crate::domain::tap::Policy;
use crate::domain::user::User;
use crate::service::apple::push_certificate::topic;
use crate::service::directory::By;
use crate::service::identity::{tap, token};
use crate::service::{Error, Result, restriction};
use crate::wire::apple::enroll::{Discovery, Mode, sign_in_at};
use crate::wire::apple::machine_info::MachineInfo;

/// Path of the document that says where the accounts of a domain enrol.
pub const DISCOVERY_PATH: &str = "/.well-known/com.apple.remotemanagement";
/// Longest identifier or serial number.
const LONGEST: usize = 256;
/// Longest account that a device may ask for.
const LONGEST_ACCOUNT: usize = 320;

/// Where devices ask for their profile.
#[must_use]
pub fn path(mode: Mode) -> &'static str {
    match mode {
        Mode::User => "/enroll/apple/account/user",
        Mode::Device => "/enroll/apple/account/device",
    }
}

/// The page where a person signs in for that.
#[must_use]
pub fn sign_in_path(mode: Mode) -> &'static str {
    match mode {
        Mode::User => "/enroll/apple/account/user/sign-in",
        Mode::Device => "/enroll/apple/account/device/sign-in",
    }
}

/// The Managed Apple Account of a user.
#[must_use]
pub fn name(app: &App, user: &User) -> String {
    let domain = &app.config.apple.account.apple_domain;
    match user.upn.rsplit_once('@') {
        Some((local, _)) if !domain.is_empty() => format!("{local}@{domain}"),
        _ => user.upn.clone(),
    }
}

/// The user name to begin with on the page: the account that was typed into the device, where users are called as their accounts.
#[must_use]
pub fn hint(app: &App, identifier: &str) -> String {
    let as_user = app.config.apple.account.apple_domain.is_empty() && identifier.len() <= LONGEST;
    if as_user { identifier.to_owned() } else { String::new() }
}

/// Whether the accounts of a domain enrol here.
fn is_known(config: &Config, domain: &str) -> bool {
    config.apple.account.domains.iter().any(|known| known.eq_ignore_ascii_case(domain))
}

/// Where the account `identifier` enrols a device of that family (`iPhone`, `Mac`); `None`: not here.
///
/// The domain and the configuration decide, and never whether there is such a person: anybody may ask this, and must not learn from it who
/// works here. Whoever asks without an account, as after a redirect that lost it or by way of Apple's directory, learns what is configured.
#[must_use]
pub fn discover(app: &App, identifier: Option<&str>, family: Option<&str>) -> Option<Discovery> {
    let account = &app.config.apple.account;
    if let Some(identifier) = identifier {
        let (_, domain) = identifier.rsplit_once('@').filter(|_| identifier.len() <= LONGEST_ACCOUNT)?;
        if !is_known(&app.config, domain) {
            return None;
        }
    }
    let mode = match family {
        Some(family) => account.mode(platform(family).ok().flatten()?)?,
        // Those that say nothing of themselves are sent on when it makes no difference what they are.
        None => match (account.mode(Platform::MacOs), account.mode(Platform::Ios)) {
            (Some(macs), Some(phones)) => Some(macs).filter(|_| macs == phones)?,
            (one, other) => one.or(other)?,
        },
    };
    Some(Discovery::one(mode, format!("{}{}", app.config.web_url(), path(mode))))
}

/// What a device is answered.
#[derive(Debug)]
pub enum Answer {
    /// Its profile.
    Profile(Vec<u8>),
    /// Its user has to sign in: the value of `WWW-Authenticate`.
    SignIn(String),
}

/// Answers a device that asks for its profile with a signed description of itself, and with the token of a sign-in (`bearer`) once its user
/// has signed in.
///
/// # Errors
/// Those of [`machine_info::open`] and `restriction::check`; [`Refusal::AccountEnrollmentOff`], [`Refusal::DeviceKindUnsupported`],
/// [`Refusal::MachineInfoIncomplete`] in the mode of the organisation's devices; [`Refusal::TokenInvalid`] for a token that is wrong, used or
/// for something else (one that has only expired leads to another sign-in), [`Refusal::AccountDisabled`], and those of [`begin`].
pub async fn enroll(app: &App, mode: Mode, message: &[u8], bearer: Option<&[u8]>, origin: &str) -> Result<Answer> {
    let way = match mode {
        Mode::User => "account-user",
        Mode::Device => "account-device",
    };
    recorded(app, origin, way, enroll_unrecorded(app, (mode, way), message, bearer, origin).await).await
}

async fn enroll_unrecorded(app: &App, (mode, way): (Mode, &str), message: &[u8], bearer: Option<&[u8]>, origin: &str) -> Result<Answer> {
    let info = machine_info::read(app, message.to_vec()).await?;
    let platform = platform(&info.product)?.ok_or(Refusal::PlatformRefused)?;
    if app.config.apple.account.mode(platform) != Some(mode) {
        return Err(Refusal::AccountEnrollmentOff.into());
    }
    let os_version = info.os_version.clone();
    let (udid, serial) = hardware(info, mode)?;
    restriction::check(app, platform, os_version.as_deref(), serial.as_deref()).await?;
    let sign_in = || Answer::SignIn(sign_in_at(&format!("{}{}", app.config.web_url(), sign_in_path(mode))));
    let Some(text) = bearer else { return Ok(sign_in()) };
    let proof = match token::check_account(app, text, &PLATFORMS, mode).await {
        Err(Error::Refused(Refusal::TokenExpired)) => return Ok(sign_in()),
        other => other?,
    };
    let method = format!("{way}-{}", proof.method);
    let beginning = Beginning { user: Some(proof.user), platform, udid, serial, mode: Some(mode), method, token: Some(proof.hash) };
    Ok(Answer::Profile(begin(app, beginning, origin).await?))
}

/// Identifier and serial number to which the profile is bound. A user's own device has none for us, whatever it says.
fn hardware(info: MachineInfo, mode: Mode) -> Result<(Option<String>, Option<String>)> {
    let short = |text: Option<String>| text.filter(|text| (1..=LONGEST).contains(&text.len())).ok_or(Refusal::MachineInfoIncomplete);
    match mode {
        Mode::User => Ok((None, None)),
        Mode::Device => Ok((Some(short(info.udid)?), Some(short(info.serial)?))),
    }
}

/// Signs a person in on the page: where the device has to be sent with the token that it then shows, once.
///
/// # Errors
/// [`Refusal::SignInFailed`], [`Error::Throttled`].
pub async fn authenticate(app: &App, mode: Mode, user_name: &str, pass: &str, platform: Platform, address: IpAddr) -> Result<String> {
    outcome(app, user_name, pass, address, platform, Some(mode)).await
}

/// What enrolling a device by account takes.
#[derive(Debug)]
pub struct Invitation {
    /// For whom.
    pub user: User,
    /// What is typed into the device.
    pub account: String,
    /// How devices of the platform enrol.
    pub mode: Mode,
    /// The pass for the sign-in.
    pub tap: tap::NewTap,
    /// What the device asks first.
    pub asked_at: String,
    /// What that has to answer.
    pub document: Discovery,
    /// Where it may redirect to instead.
    pub answered_at: String,
}

/// Makes a pass for a user, and says what has to be so that the device finds this server.
///
/// # Errors
/// [`Refusal::AccountDisabled`]; [`Refusal::AccountEnrollmentOff`] when devices of the platform do not enrol by account, or the
/// domain of the user's account is not among those that do; those of [`tap::create`].
pub async fn invite(app: &App, user: User, platform: Platform, policy: Policy, by: impl Into<By>) -> Result<Invitation> {
    if !user.enabled {
        return Err(Refusal::AccountDisabled.into());
    }
    topic(app).await?;
    let account = name(app, &user);
    let family = if platform == Platform::MacOs { "Mac" } else { "iPhone" };
    let document = discover(app, Some(&account), Some(family)).ok_or(Refusal::AccountEnrollmentOff)?;
    let mode = app.config.apple.account.mode(platform).ok_or(Refusal::AccountEnrollmentOff)?;
    let by = by.into();
    let tap = tap::create(app, &user.id, policy, None, &by.actor, &by.origin).await?;
    let domain = account.rsplit_once('@').map_or("", |(_, domain)| domain);
    Ok(Invitation {
        mode,
        tap,
        asked_at: format!("https://{domain}{DISCOVERY_PATH}"),
        answered_at: format!("{}{DISCOVERY_PATH}", app.config.web_url()),
        document,
        account,
        user,
    })
}
