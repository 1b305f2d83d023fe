//! Enrolment: the profile that makes a device managed, and what gives it out.

pub mod account;
pub mod automated;
pub(super) mod begun;
pub mod machine_info;
pub mod over_the_air;
mod profile;

use std::net::IpAddr;

use serde_json::json;

use crate::app::App;
use crate::clock::{DAY, MINUTE, Time};
use crate::config::Config;
use crate::domain::Refusal;
use crate::domain::audit::Entry;
use crate::domain::device::{Device, Platform};
use crate::domain::enrollment::Enrollment;
use crate::domain::scep::Challenge;
use crate::domain::user::User;
use crate::ids::EnrollmentId;
use crate::secret::Secret;
use crate::service::apple::push_certificate::topic;
use crate::service::directory::By;
use crate::service::identity::token;
use crate::service::{Error, Result};
use crate::store::apple::sessions::{self, Session};
use crate::store::{self, Tx, audit, enrollment_tokens, scep, users};
use crate::wire::apple::enroll::Mode;

pub use profile::{Renewal, renewal_profile, sign};

/// Path of the check-in service; never another once a device is enrolled.
pub const CHECK_IN_PATH: &str = "/apple/checkin";
/// Path of the command channel; never another once a device is enrolled.
pub const COMMANDS_PATH: &str = "/apple/mdm";
/// Path of the sign-in page; links have their token after it.
pub const ENROLL_PATH: &str = "/enroll/apple";
/// The platforms that enrol here.
pub const PLATFORMS: [Platform; 2] = [Platform::MacOs, Platform::Ios];

/// Below which URL devices speak to the server once they are enrolled.
pub(super) fn base(config: &Config) -> String {
    // A proxy that passes no certificate on ends TLS in front of the web face.
    if config.apple.sign_messages { config.web_url() } else { config.device_url() }
}

/// Who enrols, and what is known of the device before it has said a word.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// Who signed in.
    pub user: Option<User>,
    /// What was asked for.
    pub platform: Platform,
    /// The device's identifier, when it is proven.
    pub udid: Option<String>,
    /// The serial number, when it is proven.
    pub serial: Option<String>,
    /// The mode of an enrolment by account; there is a user then.
    pub mode: Option<Mode>,
    /// How the person or device was known.
    pub method: String,
    /// The one-time token to use up.
    pub token: Option<String>,
}

/// Begins an enrolment: the signed profile for one device.
///
/// # Errors
/// [`Refusal::TokenInvalid`] when the token was used meanwhile; [`Error::Unavailable`] without authority.
pub async fn begin(app: &App, beginning: Beginning, origin: &str) -> Result<Vec<u8>> {
    begin_in(app, beginning, origin, |_| Ok(())).await
}

/// The same, with something else to be done in the transaction, before anything is kept.
async fn begin_in(
    app: &App,
    beginning: Beginning,
    origin: &str,
    first: impl Fn(&mut Tx<'_>) -> store::Result<()> + Send + 'static,
) -> Result<Vec<u8>> {
    let now = app.now();
    let id = EnrollmentId::new();
    let expires_at = now.plus(i64::from(app.config.apple.session_minutes).saturating_mul(MINUTE));
    let user = beginning.user.as_ref().map(|user| user.id.clone());
    let account = beginning.mode.zip(beginning.user.as_ref()).map(|(mode, user)| (mode, account::name(app, user)));
    let first_profile = profile::first(app, &id, user.clone(), beginning.platform, account, expires_at).await?;
    let (signed, challenge) = (sign(app, first_profile.document).await?, first_profile.challenge);
    let session = Session {
        id,
        user_id: user,
        platform: beginning.platform,
        udid: beginning.udid,
        serial: beginning.serial,
        management: Some(first_profile.management),
        method: beginning.method,
        created_at: now,
        expires_at,
    };
    let actor = session.user_id.as_ref().map_or_else(|| "anonymous".to_owned(), |user| format!("user:{user}"));
    let state = json!({ "user": session.user_id, "method": session.method, "expires_at": expires_at.to_string() });
    let entry = Entry::new(actor, "enrollment.begin", format!("enrollment:{}", session.id), origin).after(&state);
    let token = beginning.token;
    app.store
        .write(move |tx| {
            first(tx)?;
            if let Some(token) = &token
                && !enrollment_tokens::claim_token(tx, token, now)?
            {
                return Err(Refusal::TokenInvalid.into());
            }
            sessions::insert_session(tx, &session)?;
            scep::insert_challenge(tx, &challenge, now)?;
            audit::append(tx, &entry, now)
        })
        .await?;
    Ok(signed)
}

/// An enrolment that begins when a device has been erased, with the profile that it takes along.
#[derive(Clone, Debug)]
pub struct Returning {
    /// The signed profile.
    pub document: Vec<u8>,
    /// The row of the challenge in it.
    pub challenge: Challenge,
    /// The enrolment that begins.
    pub session: Session,
}

/// How long a device may take to erase itself and come back.
const RETURN: i64 = DAY;

/// Makes the profile with which a device enrols again for the same user when it has been erased: for this hardware and no other.
///
/// # Errors
/// [`Error::Unavailable`] without authority; [`Refusal::PushCertificateMissing`].
pub async fn returning(app: &App, enrollment: &Enrollment, device: &Device, method: &str) -> Result<Returning> {
    let (now, id) = (app.now(), EnrollmentId::new());
    let expires_at = now.plus(RETURN);
    let first = profile::first(app, &id, enrollment.user_id.clone(), enrollment.platform, None, expires_at).await?;
    let session = Session {
        id,
        user_id: enrollment.user_id.clone(),
        platform: enrollment.platform,
        udid: Some(enrollment.mdm_id.clone()),
        serial: device.serial_number.clone(),
        management: Some(first.management),
        method: method.to_owned(),
        created_at: now,
        expires_at,
    };
    Ok(Returning { document: sign(app, first.document).await?, challenge: first.challenge, session })
}

/// Signs a person in with user name and pass, which is used up, and begins the enrolment.
///
/// # Errors
/// [`Refusal::SignInFailed`], [`Error::Throttled`], and those of [`begin`].
pub async fn sign_in(app: &App, user_name: &str, pass: &str, platform: Platform, address: IpAddr) -> Result<Vec<u8>> {
    if app.config.apple.over_the_air {
        return over_the_air::sign_in(app, user_name, pass, address).await;
    }
    // Before the pass is used up.
    topic(app).await?;
    let token = token::create_with_tap(app, user_name, pass, address, platform, None).await?;
    redeem(app, token.expose(), &address.to_string()).await
}

/// Begins the enrolment that a one-time link is good for; over the air when the configuration asks for it.
///
/// # Errors
/// [`Refusal::TokenInvalid`], [`Refusal::AccountDisabled`], and those of [`begin`].
pub async fn redeem(app: &App, token: &[u8], origin: &str) -> Result<Vec<u8>> {
    if app.config.apple.over_the_air {
        return over_the_air::invite(app, token).await;
    }
    let proof = token::check(app, token, &PLATFORMS).await?;
    let beginning = Beginning {
        user: Some(proof.user),
        platform: proof.platform,
        udid: None,
        serial: None,
        mode: None,
        method: proof.method,
        token: Some(proof.hash),
    };
    begin(app, beginning, origin).await
}

/// Whether a link is still good.
///
/// # Errors
/// As for [`redeem`].
pub async fn check_link(app: &App, token: &[u8]) -> Result<User> {
    Ok(token::check(app, token, &PLATFORMS).await?.user)
}

/// What enrolling an Apple device takes.
#[derive(Debug)]
pub struct Invitation {
    /// For whom.
    pub user: User,
    /// What is to be opened on the device, once.
    pub link: Secret,
    /// Until when.
    pub expires_at: Time,
    /// The page where a user signs in with a pass instead.
    pub page_url: String,
}

/// Makes a one-time link for a user; `proven`: over the air, where the device proves what it is before it gets its profile.
///
/// # Errors
/// [`Error::NotFound`] without such a user; [`Refusal::AccountDisabled`], [`Refusal::PushCertificateMissing`].
pub async fn invite(app: &App, upn: &str, platform: Platform, proven: bool, lifetime: i64, by: impl Into<By>) -> Result<Invitation> {
    let name = upn.to_owned();
    let user = app.store.read(move |c| users::find_user_by_upn(c, &name)).await?.ok_or(Error::NotFound("user"))?;
    if !user.enabled {
        return Err(Refusal::AccountDisabled.into());
    }
    topic(app).await?;
    let expires_at = app.now().plus(lifetime);
    let token = token::create_link(app, &user, platform, lifetime, &by.into()).await?;
    let page_url = format!("{}{}", app.config.web_url(), if proven { over_the_air::PAGE_PATH } else { ENROLL_PATH });
    let text = std::str::from_utf8(token.expose()).map_err(Error::internal)?;
    let link = Secret::new(format!("{page_url}/{text}").into_bytes());
    Ok(Invitation { user, link, expires_at, page_url })
}
