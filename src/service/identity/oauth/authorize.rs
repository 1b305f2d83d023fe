//! The authorization endpoint (RFC 6749, section 4.1; OpenID Connect Core, section 3.1.2): a person at a browser lets an application have a
//! code.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Error, Result, asked};
use crate::app::App;
use crate::clock::{MINUTE, SECOND, Time};
use crate::domain::access::Scope;
use crate::domain::application::{Application, Client, Redirect};
use crate::domain::grant::{Asked, CODE, Grant};
use crate::domain::oauth::Failure;
use crate::domain::session::Method;
use crate::ids::GrantId;
use crate::secret::{hmac_sha256, same};
use crate::service;
use crate::service::identity::instance_key;
use crate::service::identity::session::{self, Signed};
use crate::service::identity::sign_in::Visit;
use crate::store::sealed::REFRESH_KEY;
use crate::store::{Tx, applications, audit, grants, sign_ins};
use crate::wire::form::Form;

/// The field that our own pages add to a request: the person has to sign in after that moment, in milliseconds since 1970, with a proof that
/// this browser was told so ([`since`]).
pub const SINCE: &str = "muster_since";
/// How long after that moment it does: then the request is one of its own again.
const SINCE_GOOD: i64 = 15 * MINUTE;
/// The field that our own pages add to a request: the person has chosen the account.
pub const CHOSEN: &str = "muster_chosen";
/// Longest `state`, `nonce` and other text that comes back as it was.
const LONGEST: usize = 2048;

/// How the answer reaches the application (OAuth 2.0 Multiple Response Type Encoding Practices, section 2.1; Form Post Response Mode).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the query.
    Query,
    /// Behind the `#`.
    Fragment,
    /// By a form.
    FormPost,
}

/// Where the answer goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Return {
    /// The redirect URI, which is one of the application's.
    pub uri: String,
    /// In which way.
    pub mode: Mode,
    /// What the application wants back with it.
    pub state: Option<String>,
}

/// A request that may be answered to the application.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who asks.
    pub application: Application,
    /// Where the answer goes.
    pub to: Return,
    /// What for.
    pub asked: Asked,
    client: Client,
    challenge: Option<String>,
    nonce: Option<String>,
    prompt: BTreeSet<String>,
    max_age: Option<i64>,
    since: Option<Time>,
    chosen: bool,
    /// Who signs in, as the application thinks.
    pub login_hint: Option<String>,
}

/// Why a request is refused, and whether the application may hear of it: not before it is known that the redirect URI is its own.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub error: Error,
    /// Where to say so; `None` for the person only.
    pub to: Option<Return>,
}

impl<E: Into<Error>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self { error: error.into(), to: None }
    }
}

/// Reads a request.
///
/// # Errors
/// [`Refused`].
pub async fn read(app: &App, form: &Form) -> std::result::Result<Request, Refused> {
    let field = |name: &str| match form.get(name) {
        Some(value) if value.len() > LONGEST => Err(Error::of(Failure::Malformed, name)),
        other => Ok(other.map(str::to_owned)),
    };
    let client_id = field("client_id")?.ok_or_else(|| Error::of(Failure::ParameterMissing, "client_id"))?.to_lowercase();
    let found = app.store.look_up(move |conn| applications::find_by_client_id(conn, &client_id)).await.map_err(Error::from)?;
    let application = found.filter(|application| application.enabled).ok_or(Failure::ClientUnauthorized)?;
    let uri = field("redirect_uri")?.ok_or_else(|| Error::of(Failure::ParameterMissing, "redirect_uri"))?;
    // RFC 9700, section 2.1: compared letter by letter. What is wrong up to here is told to nobody but the person.
    let registered = application.redirects.iter().find(|known| known.admits(&uri)).cloned();
    let Redirect { client, .. } = registered.ok_or(Failure::RedirectMismatch)?;
    let state = field("state")?;
    let mode = match form.get("response_mode") {
        None | Some("query") => Some(Mode::Query),
        Some("fragment") => Some(Mode::Fragment),
        Some("form_post") => Some(Mode::FormPost),
        Some(_) => None,
    };
    let to = Return { uri, mode: mode.unwrap_or(Mode::Query), state };
    let tell = |error: Error| Refused { error, to: Some(to.clone()) };
    if form.get("response_type") != Some("code") || mode.is_none() {
        return Err(tell(Failure::ResponseUnsupported.into()));
    }
    let asked = asked::read(app, form.get("scope"), form.get("resource")).map_err(tell)?;
    let challenge = challenge(form, if application.public { Client::Native } else { client }).map_err(tell)?;
    let prompt: BTreeSet<String> = form.get("prompt").unwrap_or_default().split(' ').filter(|w| !w.is_empty()).map(str::to_owned).collect();
    if prompt.contains("none") && prompt.len() > 1 {
        return Err(tell(Error::of(Failure::Malformed, "prompt")));
    }
    let number = |name: &'static str| match form.get(name).map(str::parse::<i64>) {
        None => Ok(None),
        Some(Ok(number)) if number >= 0 => Ok(Some(number)),
        Some(_) => Err(tell(Error::of(Failure::Malformed, name))),
    };
    let max_age = number("max_age")?;
    let nonce = field("nonce").map_err(tell)?;
    let login_hint = field("login_hint").map_err(tell)?;
    let chosen = form.get(CHOSEN).is_some();
    Ok(Request { application, to, asked, client, challenge, nonce, prompt, max_age, since: None, chosen, login_hint })
}

/// The value of [`SINCE`] for a browser that signs in anew from now on. Whoever could write it themselves would skip the sign-in that the
/// application asks for.
///
/// # Errors
/// Only the database's own.
pub async fn since(app: &App, browser: &str) -> service::Result<String> {
    let now = app.now();
    Ok(format!("{}.{}", now.0, URL_SAFE_NO_PAD.encode(mac(app, now, browser).await?)))
}

async fn mac(app: &App, at: Time, browser: &str) -> service::Result<[u8; 32]> {
    let key = instance_key(app, REFRESH_KEY).await?;
    Ok(hmac_sha256(key.expose(), format!("{SINCE}\n{}\n{browser}", at.0).as_bytes())?)
}

/// The request, which goes on after a sign-in that this browser was asked for. What proves none is read over: the person is asked again.
///
/// # Errors
/// Only the database's own.
pub async fn go_on(app: &App, request: Request, form: &Form, browser: &str) -> service::Result<Request> {
    let shown = form.get(SINCE).and_then(|text| text.split_once('.'));
    let Some((at, shown)) = shown.and_then(|(at, mac)| Some((Time(at.parse().ok()?), URL_SAFE_NO_PAD.decode(mac).ok()?))) else {
        return Ok(request);
    };
    let now = app.now();
    let good = at <= now && now.since(at) < SINCE_GOOD && same(&mac(app, at, browser).await?, &shown);
    Ok(Request { since: good.then_some(at), ..request })
}

/// RFC 7636, section 4.3: of programs that keep no secret it is demanded, and only in the form that does not show the verifier.
fn challenge(form: &Form, client: Client) -> Result<Option<String>> {
    match (form.get("code_challenge"), form.get("code_challenge_method")) {
        // Where there is none, the identity token's nonce shows whether the code is somebody else's (RFC 9700, section 2.1.1).
        (None, None) if client == Client::Web && form.get("nonce").is_some() => Ok(None),
        (None, _) => Err(Failure::ChallengeMissing.into()),
        (Some(challenge), Some("S256")) if is_challenge(challenge) => Ok(Some(challenge.to_owned())),
        (Some(_), Some("S256")) => Err(Error::of(Failure::Malformed, "code_challenge")),
        // Without a method it would be the verifier itself.
        (Some(_), _) => Err(Failure::ChallengeMissing.into()),
    }
}

/// SHA-256 in base64url.
fn is_challenge(text: &str) -> bool {
    text.len() == 43 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// What comes next.
#[derive(Debug)]
pub enum Step {
    /// The person signs in, anew when `true`.
    SignIn(bool),
    /// The person says whether it is this account that they mean.
    Choose,
    /// The person, who may, consents for everybody.
    Consent(BTreeSet<Scope>),
    /// The application gets a code.
    Code(String),
}

/// Decides what comes next, and makes the code when nothing is missing.
///
/// # Errors
/// [`Refused`].
pub async fn decide(app: &App, request: &Request, signed: Option<&Signed>, visit: &Visit) -> std::result::Result<Step, Refused> {
    let tell = |error: Error| Refused { error, to: Some(request.to.clone()) };
    let wants = |word: &str| request.prompt.contains(word);
    let quiet = wants("none");
    let now = app.now();
    let Some(signed) = signed else { return if quiet { Err(tell(Failure::SignInNeeded.into())) } else { Ok(Step::SignIn(false)) } };
    let at = signed.session.authenticated_at;
    let too_old = request.max_age.is_some_and(|age| at.plus(age.saturating_mul(SECOND)) < now);
    let before = request.since.is_some_and(|since| at < since);
    // A sign-in that was asked for is one after the request, which `SINCE` remembers.
    if before || (request.since.is_none() && (wants("login") || too_old)) {
        return if quiet { Err(tell(Failure::SignInNeeded.into())) } else { Ok(Step::SignIn(true)) };
    }
    if wants("select_account") && !request.chosen && request.since.is_none() {
        return Ok(Step::Choose);
    }
    let consented = asked::consented(app, &request.application.id).await.map_err(tell)?;
    let missing = request.asked.missing(&consented);
    if !missing.is_empty() {
        let user = signed.user.id.clone();
        let may = app.store.read(move |conn| asked::may_consent(conn, &user)).await.map_err(|error| tell(error.into()))?;
        return match (quiet, may) {
            (false, true) => Ok(Step::Consent(missing)),
            // The person is told whom to ask; the application is not there to help.
            (false, false) => Err(missing_consent(&missing).into()),
            (true, _) => Err(tell(missing_consent(&missing))),
        };
    }
    // The session may have ended since it was looked at.
    Ok(give(app, request, signed, visit, now).await.map_err(tell)?.map_or(Step::SignIn(false), Step::Code))
}

fn missing_consent(missing: &BTreeSet<Scope>) -> Error {
    let words: Vec<_> = missing.iter().map(|scope| scope.as_str()).collect();
    Error::of(Failure::ConsentMissing, words.join(", "))
}

/// A grant of a person who is signed in, before its code was exchanged.
pub(super) fn new_grant(application: &Application, signed: &Signed, asked: Asked, code_ends_at: Time, now: Time) -> Grant {
    Grant {
        id: GrantId::new(),
        application: application.id.clone(),
        user: signed.user.id.clone(),
        client: Client::Native,
        redirect_uri: None,
        asked,
        challenge: None,
        nonce: None,
        method: signed.session.method,
        method_id: signed.session.method_id.clone(),
        signed_in_at: signed.session.authenticated_at,
        // A session ends with its pass; one that began with a passkey ends for reasons of its own.
        method_ends_at: (signed.session.method == Method::Tap).then_some(signed.session.ends_at),
        generation: 0,
        rotated_at: now,
        created_at: now,
        code_ends_at: code_ends_at.min(signed.session.ends_at),
        ends_at: code_ends_at,
    }
}

/// Stores a grant with what the logs say of it; false when the person is not signed in any more.
pub(super) fn insert(
    tx: &mut Tx<'_>,
    (grant, hash): (&Grant, &str),
    (application, signed): (&Application, &Signed),
    visit: &Visit,
    now: Time,
) -> crate::store::Result<bool> {
    if !session::holds(tx, signed, now)? {
        return Ok(false);
    }
    grants::insert_grant(tx, grant, hash)?;
    let mut row = visit.row(signed.session.method.as_str(), now).of(Some(&signed.user));
    row.app_id.clone_from(&application.client_id);
    row.app_display_name.clone_from(&application.display_name);
    sign_ins::insert_sign_in(tx, &row)?;
    let actor = format!("user:{}", signed.user.id);
    let state = serde_json::json!({ "grant": grant.id, "application": application.client_id, "scopes": grant.asked.words() });
    let entry = crate::domain::audit::Entry::new(&actor, "grant.create", &actor, visit.address.to_string()).after(&state);
    audit::append(tx, &entry, now)?;
    Ok(true)
}

async fn give(app: &App, request: &Request, signed: &Signed, visit: &Visit, now: Time) -> Result<Option<String>> {
    let (token, hash) = session::new_token()?;
    let grant = Grant {
        client: request.client,
        redirect_uri: Some(request.to.uri.clone()),
        challenge: request.challenge.clone(),
        nonce: request.nonce.clone(),
        ..new_grant(&request.application, signed, request.asked.clone(), now.plus(CODE), now)
    };
    let (application, signed, visit) = (request.application.clone(), signed.clone(), visit.clone());
    let given = app.store.write(move |tx| insert(tx, (&grant, &hash), (&application, &signed), &visit, now)).await?;
    Ok(given.then(|| std::str::from_utf8(token.expose()).unwrap_or_default().to_owned()))
}

/// The answer for the application, as the fields that it gets: with who issues it (RFC 9207).
#[must_use]
pub fn answer<'a>(to: &'a Return, issuer: &'a str, fields: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut all = fields.to_vec();
    if let Some(state) = &to.state {
        all.push(("state", state));
    }
    all.push(("iss", issuer));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_with_a_secret_may_do_without_a_challenge() {
        let sha = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        let read = |query: &str, client| {
            let form = Form::parse(query.as_bytes()).unwrap();
            challenge(&form, client).map_err(|error| matches!(error, Error::Refused(Failure::ChallengeMissing, _)))
        };
        for client in [Client::Native, Client::SinglePage, Client::Web] {
            assert_eq!(read(&format!("code_challenge={sha}&code_challenge_method=S256"), client), Ok(Some(sha.into())));
            assert_eq!(read(&format!("code_challenge={sha}&code_challenge_method=plain"), client), Err(true), "the verifier itself");
            assert_eq!(read(&format!("code_challenge={sha}"), client), Err(true), "that is plain, too");
            assert_eq!(read("code_challenge=short&code_challenge_method=S256", client), Err(false));
            assert_eq!(read("code_challenge_method=S256", client), Err(true));
        }
        assert_eq!((read("nonce=1", Client::Web), read("", Client::Web)), (Ok(None), Err(true)));
        assert_eq!((read("nonce=1", Client::Native), read("nonce=1", Client::SinglePage)), (Err(true), Err(true)));
    }
}
