//! Enrolment from Setup Assistant: the device describes itself in a message that Apple's key signed, and gets the profile for the serial
//! number and identifier in it, at once or after a person signed in.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::{Beginning, PLATFORMS, begin, machine_info};
use crate::app::App;
use crate::clock::{MINUTE, Time};
use crate::domain::Refusal;
use crate::domain::apple::enrollment::platform;
use crate::domain::audit::Entry;
use crate::domain::device::Platform;
use crate::domain::restriction::is_older;
use crate::service::identity::token::{self, Proof};
use crate::service::{Error, Result, restriction};
use crate::store::audit;
use crate::wire::apple::enroll::{Mode, OUTCOME, Stop};
use crate::wire::apple::machine_info::MachineInfo;

/// Path where a device asks for its profile.
pub const DEVICE_PATH: &str = "/enroll/apple/device";
/// Path of the page that Setup Assistant shows.
pub const SETUP_PATH: &str = "/enroll/apple/setup";
/// Path of the page where a person signs in before Platform SSO is set up.
pub const SIGN_IN_PATH: &str = "/enroll/apple/sign-in";
/// What the description in a page is sealed for.
const PURPOSE: &str = "page.apple_setup";
/// Longest serial number or identifier.
const LONGEST: usize = 256;

/// What a device is answered.
#[derive(Debug)]
pub enum Answer {
    /// Its profile.
    Profile(Vec<u8>),
    /// What it has to do first.
    First(Stop),
}

/// A device that described itself, on its way through the sign-in page.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    udid: String,
    serial: String,
    platform: Platform,
    until: Time,
}

impl Known {
    /// Judges what a device says; the inner error is what it has to do first. A person who signs in on a page does not need Platform SSO for
    /// it.
    async fn judge(app: &App, info: MachineInfo, signs_in: bool) -> Result<std::result::Result<Self, Stop>> {
        let platform = platform(&info.product)?.ok_or(Refusal::PlatformRefused)?;
        let short = |text: Option<String>| text.filter(|text| (1..=LONGEST).contains(&text.len())).ok_or(Refusal::MachineInfoIncomplete);
        let (udid, serial) = (short(info.udid)?, short(info.serial)?);
        let automated = &app.config.apple.automated;
        let os_version = info.os_version.as_deref();
        let first = if platform == Platform::MacOs { &automated.macos_version } else { &automated.ios_version };
        if info.mdm_can_request_software_update && is_older(os_version.unwrap_or_default(), first) {
            return Ok(Err(Stop::SoftwareUpdateRequired { version: first.clone(), build: None }));
        }
        restriction::check(app, platform, os_version, Some(&serial)).await?;
        let sso = &automated.platform_sso_profile_url;
        if info.mdm_can_request_psso_config && !signs_in && !sso.is_empty() {
            return Ok(Err(Stop::PlatformSsoRequired {
                profile_url: sso.clone(),
                manifest_url: automated.platform_sso_manifest_url.clone(),
                pins: Vec::new(),
                auth_url: format!("{}{SIGN_IN_PATH}", app.config.web_url()),
            }));
        }
        let until = app.now().plus(i64::from(app.config.apple.session_minutes).saturating_mul(MINUTE));
        Ok(Ok(Self { udid, serial, platform, until }))
    }

    fn begin(self, who: Option<Proof>) -> Beginning {
        let (user, method, token) = match who {
            Some(proof) => (Some(proof.user), format!("automated-{}", proof.method), Some(proof.hash)),
            None => (None, "automated".to_owned(), None),
        };
        Beginning { user, platform: self.platform, udid: Some(self.udid), serial: Some(self.serial), mode: None, method, token }
    }
}

/// Answers a device that asks for its profile with a signed description of itself, and with the token of a sign-in when a person signed in.
///
/// # Errors
/// Those of [`machine_info::open`] and `restriction::check`; [`Refusal::MachineInfoIncomplete`], [`Refusal::DeviceKindUnsupported`],
/// [`Refusal::EnrollmentNeedsSignIn`], [`Refusal::PersonalDeviceRefused`], [`Refusal::TokenInvalid`], and those of [`begin`].
pub async fn enroll(app: &App, message: &[u8], token: Option<&str>, origin: &str) -> Result<Answer> {
    recorded(app, origin, "automated", enroll_unrecorded(app, message, token, origin).await).await
}

async fn enroll_unrecorded(app: &App, message: &[u8], token: Option<&str>, origin: &str) -> Result<Answer> {
    let info = machine_info::read(app, message.to_vec()).await?;
    let who = match token {
        Some(text) => Some(token::check(app, text.as_bytes(), &PLATFORMS).await?),
        None => None,
    };
    let known = match Known::judge(app, info, who.is_some()).await? {
        Ok(known) => known,
        Err(first) => return Ok(Answer::First(first)),
    };
    if who.is_none() {
        if app.config.apple.automated.require_sign_in {
            return Err(Refusal::EnrollmentNeedsSignIn.into());
        }
        // Nobody vouches for the device but the list.
        let (config, platform, serial) = (app.config.clone(), known.platform, known.serial.clone());
        if !app.store.read(move |c| restriction::is_listed(c, &config, platform, &serial)).await? {
            return Err(Refusal::PersonalDeviceRefused.into());
        }
    }
    Ok(Answer::Profile(begin(app, known.begin(who), origin).await?))
}

/// A page for a device.
#[derive(Debug)]
pub enum Setup {
    /// A person may sign in; the text comes back with the form.
    Page(String),
    /// What the device has to do first.
    First(Stop),
}

/// Takes the description in the header `x-apple-aspen-deviceinfo` with which Setup Assistant opens the page.
///
/// # Errors
/// [`Refusal::MachineInfoMissing`], and those of [`enroll`] about the device.
pub async fn open_setup(app: &App, header: Option<&[u8]>, origin: &str) -> Result<Setup> {
    recorded(app, origin, "automated", open_unrecorded(app, header).await).await
}

async fn open_unrecorded(app: &App, header: Option<&[u8]>) -> Result<Setup> {
    let header = header.ok_or_else(|| Error::Invalid(Refusal::MachineInfoMissing, "x-apple-aspen-deviceinfo".into()))?;
    let text: Vec<u8> = header.iter().copied().filter(|b| !b.is_ascii_whitespace() && *b != b'=').collect();
    let message = URL_SAFE_NO_PAD.decode(&text).or_else(|_| STANDARD_NO_PAD.decode(&text));
    let info = machine_info::read(app, message.map_err(|_| Refusal::MachineInfoInvalid)?).await?;
    let known = match Known::judge(app, info, true).await? {
        Ok(known) => known,
        Err(first) => return Ok(Setup::First(first)),
    };
    let sealed = app.sealer().seal(PURPOSE, &serde_json::to_vec(&known).map_err(Error::internal)?)?;
    Ok(Setup::Page(STANDARD.encode(sealed)))
}

/// Signs a person in on the page of a device: the profile is for that device alone.
///
/// # Errors
/// [`Refusal::EnrollmentSessionOver`] when the page is too old or was changed, [`Refusal::SignInFailed`], [`Error::Throttled`], and those of
/// [`begin`].
pub async fn sign_in(app: &App, device: &str, user_name: &str, pass: &str, address: IpAddr) -> Result<Vec<u8>> {
    let over = || Error::from(Refusal::EnrollmentSessionOver);
    let sealed = STANDARD.decode(device).map_err(|_| over())?;
    let opened = app.sealer().open(PURPOSE, &sealed).map_err(|_| over())?;
    let known: Known = serde_json::from_slice(opened.expose()).map_err(|_| over())?;
    if known.until <= app.now() {
        return Err(over());
    }
    let token = token::create_with_tap(app, user_name, pass, address, known.platform, None).await?;
    let proof = token::check(app, token.expose(), &PLATFORMS).await?;
    begin(app, known.begin(Some(proof)), &address.to_string()).await
}

/// Signs a person in before Platform SSO is set up: where the Mac has to be sent with the token that it then shows, once.
///
/// # Errors
/// [`Refusal::SignInFailed`], [`Error::Throttled`].
pub async fn authenticate(app: &App, user_name: &str, pass: &str, address: IpAddr) -> Result<String> {
    outcome(app, user_name, pass, address, Platform::MacOs, None).await
}

/// Signs a person in with a pass: the address at which a device takes the token out.
pub(super) async fn outcome(
    app: &App,
    user_name: &str,
    pass: &str,
    address: IpAddr,
    platform: Platform,
    mode: Option<Mode>,
) -> Result<String> {
    let token = token::create_with_tap(app, user_name, pass, address, platform, mode).await?;
    let text = std::str::from_utf8(token.expose()).map_err(Error::internal)?;
    Ok(format!("{OUTCOME}{text}"))
}

/// Writes a refusal into the audit log, a few times an hour for each caller.
pub(super) async fn recorded<T>(app: &App, origin: &str, way: &str, outcome: Result<T>) -> Result<T> {
    if let Err(Error::Refused(refusal)) = &outcome {
        let now = app.now();
        if app.strangers.note(origin, refusal.code(), now) {
            let entry = Entry::new("anonymous", "enrollment.refused", "enrollment:new", origin);
            let entry = entry.after(&serde_json::json!({ "code": refusal.code(), "way": way }));
            app.store.write(move |tx| audit::append(tx, &entry, now)).await?;
        }
    }
    outcome
}
