//! One-time enrolment tokens: what the sign-in page hands to a device, which shows it twice (policy, then certificate) and can use it
//! once.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::sha::sha256;

use super::sign_in::Visit;
use super::tap::{Attempt, Verdict};
use crate::app::App;
use crate::clock::{DAY, MINUTE};
use crate::domain::Refusal;
use crate::domain::audit::Entry;
use crate::domain::device::Platform;
use crate::domain::user::User;
use crate::secret::{Secret, random};
use crate::service::directory::By;
use crate::service::{Error, Result};
use crate::store::enrollment_tokens::{self, EnrollmentToken};
use crate::store::{audit, users};
use crate::wire::apple::enroll::Mode;

/// How long a token is good.
pub const LIFETIME: i64 = 10 * MINUTE;

/// Signs a person in with user name and pass, and makes a token for enrolling one device: with a `mode`, by account in that mode and in no
/// other way. A one-time pass is used up by it.
///
/// # Errors
/// [`Refusal::SignInFailed`], [`Error::Throttled`].
pub async fn create_with_tap(
    app: &App,
    user_name: &str,
    typed: &str,
    address: IpAddr,
    platform: Platform,
    mode: Option<Mode>,
) -> Result<Secret> {
    let visit = Visit::new(address, &format!("{platform} enrolment"));
    let attempt = Attempt::prepare(app, user_name, typed, &visit).await?;
    let text = URL_SAFE_NO_PAD.encode(random::<32>()?);
    let hash = hash(text.as_bytes());
    let now = app.now();
    let origin = address.to_string();
    let verdict = app
        .store
        .write(move |tx| {
            let verdict = attempt.claim(tx, now)?;
            let Verdict::Good(checked) = verdict else { return Ok(verdict) };
            let token = EnrollmentToken {
                hash: hash.clone(),
                user_id: checked.user.id.clone(),
                platform,
                mode,
                method: "tap".into(),
                tap_id: Some(checked.tap_id.clone()),
                expires_at: now.plus(LIFETIME),
                used_at: None,
            };
            enrollment_tokens::insert_token(tx, &token, now)?;
            let way =
                mode.map_or_else(|| format!("{platform} enrolment"), |mode| format!("{platform} enrolment by account ({})", mode.as_str()));
            let state = serde_json::json!({ "method": "tap", "tap": checked.tap_id, "for": way });
            let actor = format!("user:{}", checked.user.id);
            audit::append(tx, &Entry::new(&actor, "signin.success", &actor, &origin).after(&state), now)?;
            Ok(Verdict::Good(checked))
        })
        .await?;
    verdict.into_result(now)?;
    Ok(Secret::new(text.into_bytes()))
}

/// Makes a token for a user who did not sign in: whoever shows it enrols one device for that user.
///
/// # Errors
/// Only our own.
pub async fn create_link(app: &App, user: &User, platform: Platform, lifetime: i64, by: &By) -> Result<Secret> {
    let lifetime = lifetime.clamp(MINUTE, 30 * DAY);
    let text = URL_SAFE_NO_PAD.encode(random::<32>()?);
    let now = app.now();
    let token = EnrollmentToken {
        hash: hash(text.as_bytes()),
        user_id: user.id.clone(),
        platform,
        mode: None,
        method: "link".into(),
        tap_id: None,
        expires_at: now.plus(lifetime),
        used_at: None,
    };
    let state = serde_json::json!({ "for": format!("{platform} enrolment"), "expires_at": token.expires_at.to_string() });
    let entry = by.entry("enrollment.invite", format!("user:{}", user.id)).after(&state);
    app.store
        .write(move |tx| {
            enrollment_tokens::insert_token(tx, &token, now)?;
            audit::append(tx, &entry, now)
        })
        .await?;
    Ok(Secret::new(text.into_bytes()))
}

/// A token that is good.
#[derive(Clone, Debug)]
pub struct Proof {
    /// Who signed in.
    pub user: User,
    /// What the token is for.
    pub platform: Platform,
    /// Names the token when it is used up.
    pub hash: String,
    /// How the person signed in.
    pub method: String,
}

/// Looks a token up without using it; one for an enrolment by account is none here.
///
/// # Errors
/// [`Refusal::TokenInvalid`] when it is unknown, used, expired or for something else; [`Refusal::AccountDisabled`].
pub async fn check(app: &App, text: &[u8], platforms: &[Platform]) -> Result<Proof> {
    match look(app, text, platforms, None).await {
        Err(Error::Refused(Refusal::TokenExpired)) => Err(Refusal::TokenInvalid.into()),
        other => other,
    }
}

/// Looks a token for an enrolment by account in that mode up without using it.
///
/// # Errors
/// [`Refusal::TokenExpired`] when it was never used and is too old; [`Refusal::TokenInvalid`] when it is unknown, used or for something
/// else; [`Refusal::AccountDisabled`].
pub async fn check_account(app: &App, text: &[u8], platforms: &[Platform], mode: Mode) -> Result<Proof> {
    look(app, text, platforms, Some(mode)).await
}

async fn look(app: &App, text: &[u8], platforms: &[Platform], mode: Option<Mode>) -> Result<Proof> {
    let hash = hash(text.trim_ascii());
    let now = app.now();
    let found = app
        .store
        .read(move |c| match enrollment_tokens::find_token(c, &hash)? {
            Some(token) => Ok(Some((users::load_user(c, &token.user_id)?, token))),
            None => Ok(None),
        })
        .await?;
    let (user, token) = found.ok_or(Refusal::TokenInvalid)?;
    if token.used_at.is_some() || token.mode != mode || !platforms.contains(&token.platform) {
        return Err(Error::Refused(Refusal::TokenInvalid));
    }
    if token.expires_at <= now {
        return Err(Error::Refused(Refusal::TokenExpired));
    }
    if !user.enabled {
        return Err(Error::Refused(Refusal::AccountDisabled));
    }
    Ok(Proof { user, platform: token.platform, hash: token.hash, method: token.method })
}

/// The key of the row: a token has 256 random bits, so a plain hash is enough, and looking it up tells nothing by its time.
fn hash(text: &[u8]) -> String {
    hex::encode(sha256(text))
}
