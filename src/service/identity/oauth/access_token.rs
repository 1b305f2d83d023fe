//! Access tokens to our own API: signed, so that any node can judge them; and each call looks up whether who they name may still do what
//! they say, so that what was taken away is gone at once.

use serde_json::{Map, Value, json};

use super::{Result, issuer, keys};
use crate::app::App;
use crate::clock::{MINUTE, SECOND, Time};
use crate::domain::access::{Caller, Identity, Scope};
use crate::domain::application::Application;
use crate::domain::grant::Grant;
use crate::ids::{ApplicationId, GrantId, UserId};
use crate::service;
use crate::store::{Conn, applications, grants, roles, users};
use crate::wire::jwt::{self, Compact};

/// How long an access token is good.
pub const LIFETIME: i64 = 60 * MINUTE;
/// How far clocks of nodes may differ.
const SKEW: i64 = 60 * SECOND;
/// The header's `typ`: a security event token has another one and is none of these.
const TYPE: &str = "JWT";
/// What the claim `idtyp` says of an application in its own name.
const APPLICATION: &str = "app";

/// How an application proved itself, as `azpacr` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proved {
    /// It is public and did not.
    Not,
    /// By a secret.
    Secret,
    /// By a certificate.
    Certificate,
}

impl Proved {
    fn word(self) -> &'static str {
        match self {
            Self::Not => "0",
            Self::Secret => "1",
            Self::Certificate => "2",
        }
    }
}

/// A person for whom a token is made, and how they signed in.
#[derive(Clone, Debug)]
pub struct Person {
    /// Who.
    pub id: UserId,
    /// User principal name.
    pub upn: String,
    /// Name for people.
    pub display_name: String,
    /// Methods, as in RFC 8176 and Entra's own words.
    pub amr: Vec<String>,
    /// When they signed in.
    pub signed_in_at: Time,
    /// What they gave the application: taken back, it ends the token.
    pub grant: GrantId,
    /// When what they signed in with ends, if it does: no token outlives it.
    pub ends_at: Option<Time>,
}

/// What a token shall be.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    /// The application that gets it.
    pub application: &'a Application,
    /// How it proved itself.
    pub proved: Proved,
    /// The person in whose name; `None` for its own.
    pub person: Option<&'a Person>,
    /// What it allows, in words.
    pub scopes: &'a [&'a str],
    /// Capabilities that the client declared (`xms_cc`).
    pub capabilities: &'a [String],
}

/// A token that was made.
#[derive(Clone, Debug)]
pub struct Issued {
    /// Its text.
    pub text: String,
    /// How long it is good, in seconds.
    pub expires_in: i64,
}

/// Makes an access token.
///
/// # Errors
/// When the database or OpenSSL fails.
pub async fn issue(app: &App, order: &Order<'_>) -> service::Result<Issued> {
    let now = app.now();
    let key = keys::active(app).await?;
    let mut ends = now.plus(LIFETIME);
    if let Some(end) = order.person.and_then(|person| person.ends_at) {
        ends = ends.min(end);
    }
    let mut claims = json!({
        "aud": app.config.web_url(),
        "iss": issuer(app),
        "iat": now.seconds(),
        "nbf": now.seconds(),
        "exp": ends.seconds(),
        "app_displayname": order.application.display_name,
        "appid": order.application.client_id,
        "appidacr": order.proved.word(),
        "azp": order.application.client_id,
        "azpacr": order.proved.word(),
        "tid": app.tenant,
        "uti": uuid::Uuid::new_v4(),
        "ver": "2.0",
    });
    if let Some(claims) = claims.as_object_mut() {
        match order.person {
            None => {
                claims.insert("idtyp".into(), APPLICATION.into());
                claims.insert("oid".into(), json!(order.application.id));
                claims.insert("sub".into(), json!(order.application.id));
                claims.insert("roles".into(), json!(order.scopes));
            }
            Some(person) => {
                claims.insert("oid".into(), json!(person.id));
                claims.insert("sub".into(), json!(person.id));
                claims.insert("upn".into(), person.upn.as_str().into());
                claims.insert("preferred_username".into(), person.upn.as_str().into());
                claims.insert("name".into(), person.display_name.as_str().into());
                claims.insert("amr".into(), json!(person.amr));
                claims.insert("auth_time".into(), person.signed_in_at.seconds().into());
                claims.insert("scp".into(), order.scopes.join(" ").into());
                claims.insert("sid".into(), json!(person.grant));
            }
        }
        if !order.capabilities.is_empty() {
            claims.insert("xms_cc".into(), json!(order.capabilities));
        }
    }
    let header = json!({ "typ": TYPE, "alg": "RS256", "kid": key.kid });
    let input = jwt::signing_input(&header, &claims);
    let signature = key.sign(input.clone()).await?;
    Ok(Issued { text: jwt::join(input, &signature), expires_in: ends.since(now) / SECOND })
}

/// Why a token opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It is none of ours, is for somebody else, or was changed.
    Invalid,
    /// It was one.
    Expired,
    /// What it says was taken back since: the person or application is gone or disabled, or the sign-in is void.
    Revoked,
}

/// What a token was found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Who calls.
    Good(Caller),
    /// Nobody; and whether the client knows how to get another one (`xms_cc` with `cp1`).
    Denied(Denied, bool),
}

/// Of what a person gave an access token came: `None` for a text that is no access token of ours, expired or not, and `Some(None)` for one
/// that an application got in its own name.
///
/// # Errors
/// When the database or OpenSSL fails.
pub(super) async fn find_grant(app: &App, text: &str) -> service::Result<Option<Option<GrantId>>> {
    let Ok(token) = Compact::parse(text) else { return Ok(None) };
    let (Some("RS256"), Some(TYPE), Some(kid)) = (token.head("alg"), token.head("typ"), token.head("kid")) else { return Ok(None) };
    let ours = token.text("iss") == Some(issuer(app).as_str()) && token.is_for(|audience| audience == app.config.web_url());
    if !ours || !keys::is_signed(app, kid, token.input, &token.signature).await? {
        return Ok(None);
    }
    Ok(Shown::of(&token).map(|shown| shown.grant))
}

/// Judges an access token.
///
/// # Errors
/// When the database or OpenSSL fails.
pub async fn verify(app: &App, text: &str) -> service::Result<Verdict> {
    let invalid = Verdict::Denied(Denied::Invalid, false);
    let Ok(token) = Compact::parse(text) else { return Ok(invalid) };
    // RFC 8725, sections 3.1 and 3.11: one algorithm and one kind of token, whatever the header would have us do.
    let (Some("RS256"), Some(TYPE), Some(kid)) = (token.head("alg"), token.head("typ"), token.head("kid")) else { return Ok(invalid) };
    if !keys::is_signed(app, kid, token.input, &token.signature).await? {
        return Ok(invalid);
    }
    // RFC 8725, section 3.9: ours, for us, of this organisation.
    let ours = token.text("iss") == Some(issuer(app).as_str()) && token.text("tid") == Some(app.tenant.as_str());
    let Some(expires) = token.number("exp") else { return Ok(invalid) };
    if !ours || !token.is_for(|audience| audience == app.config.web_url()) {
        return Ok(invalid);
    }
    let (now, at) = (app.now(), |seconds: i64| Time(seconds.saturating_mul(SECOND)));
    let capable = is_capable(&token.claims);
    if token.number("nbf").is_some_and(|start| at(start) > now.plus(SKEW)) {
        return Ok(invalid);
    }
    if at(expires).plus(SKEW) <= now {
        return Ok(Verdict::Denied(Denied::Expired, capable));
    }
    let Some(shown) = Shown::of(&token) else { return Ok(invalid) };
    let caller = app.store.look_up(move |conn| shown.caller(conn)).await?;
    Ok(caller.map_or(Verdict::Denied(Denied::Revoked, capable), Verdict::Good))
}

fn is_capable(claims: &Map<String, Value>) -> bool {
    claims
        .get("xms_cc")
        .and_then(Value::as_array)
        .is_some_and(|all| all.iter().any(|one| one.as_str().is_some_and(|c| c.eq_ignore_ascii_case("cp1"))))
}

/// What a token says that the store has to confirm.
#[derive(Clone)]
struct Shown {
    client_id: String,
    subject: String,
    is_application: bool,
    grant: Option<GrantId>,
    scopes: Vec<Scope>,
}

impl Shown {
    fn of(token: &Compact<'_>) -> Option<Self> {
        let is_application = token.text("idtyp") == Some(APPLICATION);
        let scopes = if is_application {
            let roles = token.claims.get("roles").and_then(Value::as_array)?;
            roles.iter().filter_map(Value::as_str).filter_map(Scope::parse).collect()
        } else {
            token.text("scp")?.split(' ').filter_map(Scope::parse).collect()
        };
        let subject = token.text("oid")?.to_owned();
        let grant = token.text("sid").map(|id| GrantId::from_store(id.to_owned()));
        Some(Self { client_id: token.text("azp")?.to_owned(), subject, is_application, grant, scopes })
    }

    /// Who that is now; `None` when nobody any more.
    fn caller(self, conn: &mut Conn) -> crate::store::Result<Option<Caller>> {
        let Some(application) = applications::find_by_client_id(conn, &self.client_id)?.filter(|application| application.enabled) else {
            return Ok(None);
        };
        let grants = applications::load_grants(conn, &application.id)?;
        let caller = |identity, roles, granted: &std::collections::BTreeSet<Scope>, signed_in_at, grant| Caller {
            application: application.id.clone(),
            client_id: application.client_id.clone(),
            identity,
            scopes: self.scopes.iter().copied().filter(|scope| granted.contains(scope) || scope.needs_no_consent()).collect(),
            roles,
            signed_in_at,
            grant,
        };
        if self.is_application {
            let same = application.id.as_str() == self.subject;
            return Ok(same.then(|| caller(Identity::Application, Vec::new(), &grants.own, None, None)));
        }
        let user = match users::load_user(conn, &UserId::from_store(self.subject.clone())) {
            Ok(user) => user,
            Err(crate::store::Error::NotFound) => return Ok(None),
            Err(other) => return Err(other),
        };
        // What was taken back ends its tokens, too: by signing out everywhere, with the pass, or because a refresh token was stolen.
        let Some(grant) = self.grant.as_ref().map(|id| grants::find_grant(conn, id)).transpose()?.flatten() else { return Ok(None) };
        if !user.enabled || grant.user != user.id || grant.application != application.id {
            return Ok(None);
        }
        let held = roles::list_roles_of_user(conn, &user.id)?;
        Ok(Some(caller(Identity::Person(user.id), held, &grants.delegated, Some(grant.signed_in_at), Some(grant.id))))
    }
}

/// Who calls when an application does, in its own name or by what a person gave it, with all that it may do now; `None` when nobody does any
/// more. For what goes on without a token.
///
/// # Errors
/// Only the database's own.
pub fn caller_now(
    conn: &mut Conn,
    application: &ApplicationId,
    person: Option<(&UserId, &GrantId)>,
    now: Time,
) -> crate::store::Result<Option<Caller>> {
    let application = match applications::load_application(conn, application) {
        Ok(application) if application.enabled => application,
        Ok(_) | Err(crate::store::Error::NotFound) => return Ok(None),
        Err(other) => return Err(other),
    };
    let given = applications::load_grants(conn, &application.id)?;
    let live = |grant: Grant, id: &UserId| grant.user == *id && grant.application == application.id && grant.ends_at > now;
    let (identity, roles, scopes) = match person {
        None => (Identity::Application, Vec::new(), given.own),
        Some((id, grant)) => match users::load_user(conn, id) {
            // Whoever signed out, or lost the pass, takes nothing by what they gave before, whatever else they gave the application.
            Ok(user) if user.enabled && grants::find_grant(conn, grant)?.is_some_and(|grant| live(grant, id)) => {
                (Identity::Person(user.id.clone()), roles::list_roles_of_user(conn, &user.id)?, given.delegated)
            }
            Ok(_) | Err(crate::store::Error::NotFound) => return Ok(None),
            Err(other) => return Err(other),
        },
    };
    Ok(Some(Caller {
        application: application.id,
        client_id: application.client_id,
        identity,
        scopes: scopes.into_iter().collect(),
        roles,
        signed_in_at: None,
        grant: person.map(|(_, grant)| grant.clone()),
    }))
}

/// The answer to a request for a token, as the protocol has it.
#[must_use]
pub fn answer(issued: &Issued) -> Value {
    json!({
        "token_type": "Bearer",
        "expires_in": issued.expires_in,
        "ext_expires_in": issued.expires_in,
        "access_token": issued.text,
    })
}

/// Capabilities that a request declares (`claims`, member `access_token.xms_cc.values`): at most a few words.
///
/// # Errors
/// [`Failure::Malformed`](crate::domain::oauth::Failure::Malformed) when it is no JSON object.
pub fn capabilities(claims: Option<&str>) -> Result<Vec<String>> {
    let Some(claims) = claims else { return Ok(Vec::new()) };
    let wrong = || super::Error::of(crate::domain::oauth::Failure::Malformed, "claims");
    let value: Value = serde_json::from_str(claims).map_err(|_| wrong())?;
    if !value.is_object() {
        return Err(wrong());
    }
    let words = value.pointer("/access_token/xms_cc/values").and_then(Value::as_array).into_iter().flatten();
    Ok(words.filter_map(Value::as_str).filter(|word| word.len() <= 16).take(4).map(str::to_owned).collect())
}
