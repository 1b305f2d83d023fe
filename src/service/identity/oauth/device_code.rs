//! The device authorization grant (RFC 8628): a program without a browser shows a code, and a person types it at one.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::authorize::{self, new_grant};
use super::redeem::{self, Asker};
use super::{Error, Result, asked};
use crate::app::App;
use crate::clock::{SECOND, Time};
use crate::domain::Refusal;
use crate::domain::access::Scope;
use crate::domain::application::Application;
use crate::domain::audit::Entry;
use crate::domain::grant::{Asked, DEVICE_CODE, INTERVAL, read_user_code, spell_user_code};
use crate::domain::oauth::Failure;
use crate::domain::throttle;
use crate::secret::random;
use crate::service;
use crate::service::identity::session::{self, Signed};
use crate::service::identity::sign_in::Visit;
use crate::store::device_codes::{self, Waiting};
use crate::store::{Tx, applications, audit, grants, throttles};
use crate::wire::form::Form;

/// Where people type the code.
pub const PAGE: &str = "/devicelogin";
/// How the protocol names the grant.
pub const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// How many of one program may wait at one address at once. With one more the oldest is dropped, so that nobody keeps others behind the same
/// address from signing in.
const MOST_OPEN: i64 = 50;
/// Longest wait between two questions, in seconds.
const LONGEST_WAIT: i64 = 60;

/// Begins (RFC 8628, section 3.1): the codes, and where to type the one for people. `old` names it as the older form of the protocol does.
///
/// # Errors
/// [`Failure::SecretMissing`] for an application that is not public; [`Failure::ScopeInvalid`].
pub async fn begin(app: &App, application: &Application, form: &Form, origin: &str, old: bool) -> Result<Value> {
    if !application.public {
        return Err(Error::of(Failure::SecretMissing, "the application is not marked as a public client"));
    }
    let asked = asked::read(app, form.get("scope"), form.get("resource"))?;
    let (token, hash) = session::new_token()?;
    let user_code = loop {
        if let Some(code) = spell_user_code(&random::<32>()?) {
            break code;
        }
    };
    let now = app.now();
    let waiting = Waiting {
        code_hash: hash,
        user_code: user_code.clone(),
        application: application.id.clone(),
        scopes: asked.words(),
        origin: origin.to_owned(),
        created_at: now,
        ends_at: now.plus(DEVICE_CODE),
        asked_at: now,
        wait_seconds: INTERVAL,
        declined: false,
    };
    let insert = move |tx: &mut Tx<'_>| {
        device_codes::delete_oldest(tx, &waiting.origin, &waiting.application, MOST_OPEN - 1, now)?;
        device_codes::insert_waiting(tx, &waiting)
    };
    app.store.write(insert).await?;
    let page = format!("{}{PAGE}", app.config.web_url());
    Ok(json!({
        "user_code": user_code,
        "device_code": std::str::from_utf8(token.expose()).unwrap_or_default(),
        (if old { "verification_url" } else { "verification_uri" }): page,
        "expires_in": DEVICE_CODE / SECOND,
        "interval": INTERVAL,
        "message": format!("To sign in, open the page {page} and enter the code {user_code}."),
    }))
}

/// The program asks whether the person has finished (RFC 8628, section 3.4).
///
/// # Errors
/// [`Failure::DevicePending`], [`Failure::PollTooFast`], [`Failure::DeviceDeclined`], [`Failure::DeviceCodeExpired`],
/// [`Failure::DeviceCodeInvalid`]; as [`redeem::code`].
pub async fn poll(app: &App, asker: Asker<'_>, form: &Form) -> Result<Value> {
    // The older form of the protocol calls it `code`.
    let code = form.get("device_code").or_else(|| form.get("code")).ok_or_else(|| Error::of(Failure::ParameterMissing, "device_code"))?;
    let hash = session::hash(code);
    let look = hash.clone();
    let (waiting, grant) =
        app.store.read(move |conn| Ok((device_codes::find_by_code(conn, &look)?, grants::find_by_code(conn, &look)?))).await?;
    if let Some(grant) = grant {
        if grant.application != asker.application.id || grant.redirect_uri.is_some() {
            return Err(Failure::DeviceCodeInvalid.into());
        }
        return redeem::exchange(app, asker, grant, form).await;
    }
    let waiting = waiting.filter(|waiting| waiting.application == asker.application.id).ok_or(Failure::DeviceCodeInvalid)?;
    let now = app.now();
    if waiting.declined {
        return Err(Failure::DeviceDeclined.into());
    }
    if now >= waiting.ends_at {
        return Err(Failure::DeviceCodeExpired.into());
    }
    // Section 3.5: who asks too soon waits five seconds longer from then on.
    let too_fast = now.since(waiting.asked_at) < waiting.wait_seconds * SECOND && waiting.asked_at != waiting.created_at;
    let wait = if too_fast { (waiting.wait_seconds + INTERVAL).min(LONGEST_WAIT) } else { waiting.wait_seconds };
    app.store.write(move |tx| device_codes::update_asked(tx, &hash, wait, now)).await?;
    Err(if too_fast { Failure::PollTooFast } else { Failure::DevicePending }.into())
}

/// A program that waits for the person's word.
#[derive(Clone, Debug)]
pub struct Pending {
    /// The program.
    pub application: Application,
    /// The code that the person typed.
    pub user_code: String,
    /// The address from which it asked.
    pub origin: String,
    /// What it asks for.
    pub asked: Asked,
    /// What nobody has consented to yet.
    pub missing: BTreeSet<Scope>,
    code_hash: String,
}

impl Pending {
    /// Whether the person has to sign in anew first, as to change how they sign in: the command line may do all that their roles allow, for
    /// a long time.
    #[must_use]
    pub fn needs_fresh(&self, signed: &Signed, now: Time) -> bool {
        self.application.is_built_in() && !signed.session.is_fresh(now)
    }
}

/// Finds the program whose code a person typed. Wrong codes are counted by person.
///
/// # Errors
/// [`Failure::DeviceCodeInvalid`] for one that is unknown, over or was used; [`service::Error::Throttled`].
pub async fn find(app: &App, typed: &str, signed: &Signed) -> Result<Pending> {
    let (now, code, user) = (app.now(), read_user_code(typed), signed.user.id.clone());
    let key = format!("device-code:{user}");
    let found = app
        .store
        .write(move |tx| {
            let state = throttles::claim_throttle(tx, &key, now)?;
            if state.wait(now).is_some() {
                return Ok(Err(state.blocked_until));
            }
            let waiting = code.as_ref().map(|code| device_codes::find_by_user_code(tx.conn(), code)).transpose()?.flatten();
            let waiting = waiting.filter(|waiting| now < waiting.ends_at && !waiting.declined);
            let Some(waiting) = waiting else {
                throttles::update_after_failure(tx, &key, &throttle::PAIR, now)?;
                return Ok(Ok(None));
            };
            let application = applications::load_application(tx.conn(), &waiting.application)?;
            let consented = applications::load_grants(tx.conn(), &application.id)?.delegated;
            Ok(Ok(Some((waiting, application, consented))))
        })
        .await?;
    let found = found.map_err(|until| service::Error::Throttled(u64::try_from(until.since(now) / SECOND + 1).unwrap_or(1)))?;
    let (waiting, application, consented) = found.filter(|(_, application, _)| application.enabled).ok_or(Failure::DeviceCodeInvalid)?;
    let asked = Asked::read(waiting.scopes.split(' ')).map_err(|word| Error::of(Failure::ScopeInvalid, word))?;
    let missing = asked.missing(&consented);
    let Waiting { code_hash, user_code, origin, .. } = waiting;
    Ok(Pending { application, user_code, origin, asked, missing, code_hash })
}

/// The person says yes: the program gets its tokens when it asks next.
///
/// # Errors
/// [`Failure::ConsentMissing`]; [`Refusal::SignInStale`]; [`Failure::DeviceCodeInvalid`] when it was decided before.
pub async fn approve(app: &App, pending: Pending, signed: &Signed, visit: &Visit) -> Result<()> {
    // Whoever is talked into typing a code decides for nobody else: consent has a page of its own.
    if !pending.missing.is_empty() {
        return Err(Failure::ConsentMissing.into());
    }
    let now = app.now();
    if pending.needs_fresh(signed, now) {
        return Err(service::Error::from(Refusal::SignInStale).into());
    }
    let grant = new_grant(&pending.application, signed, pending.asked, now.plus(DEVICE_CODE), now);
    let (signed, visit) = (signed.clone(), visit.clone());
    let taken = app
        .store
        .write(move |tx| {
            if !device_codes::delete_waiting(tx, &pending.code_hash)? {
                return Ok(false);
            }
            authorize::insert(tx, (&grant, &pending.code_hash), (&pending.application, &signed), &visit, now)
        })
        .await?;
    if taken { Ok(()) } else { Err(Failure::DeviceCodeInvalid.into()) }
}

/// The person says no.
///
/// # Errors
/// Only the database's own.
pub async fn decline(app: &App, pending: Pending, signed: &Signed, origin: &str) -> Result<()> {
    let (now, actor) = (app.now(), format!("user:{}", signed.user.id));
    let state = json!({ "application": pending.application.client_id, "askedFrom": pending.origin });
    let entry = Entry::new(&actor, "grant.decline", &actor, origin).after(&state);
    app.store
        .write(move |tx| {
            device_codes::update_declined(tx, &pending.code_hash)?;
            audit::append(tx, &entry, now)
        })
        .await?;
    Ok(())
}
