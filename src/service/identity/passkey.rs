//! Passkeys: registering them, and signing in with them. What a ceremony needs to end is a row that is taken once, so that any node may
//! end what another began.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use webauthn_rs::prelude::{
    AttestationCaList, AttestationCaListBuilder, AttestedPasskeyRegistration, DiscoverableAuthentication, Passkey as Credential,
    PasskeyRegistration, PublicKeyCredential, RegisterPublicKeyCredential, Webauthn, WebauthnBuilder,
};

use super::policy;
use super::session::{self, Beginning, Signed};
use super::sign_in::{PAGES, SignedIn, Visit, end_before};
use crate::app::App;
use crate::clock::{MINUTE, Time};
use crate::domain::Refusal;
use crate::domain::audit::Entry;
use crate::domain::oauth::Failure;
use crate::domain::passkey::{LONGEST_NAME, MOST, Passkey, Policy, model};
use crate::domain::session::Method;
use crate::domain::throttle;
use crate::domain::user::User;
use crate::ids::{PasskeyId, UserId};
use crate::secret::Secret;
use crate::service::directory::By;
use crate::service::{Error, Result};
use crate::store::ceremonies::{Kind, insert_ceremony, take_ceremony};
use crate::store::{self, Tx, audit, break_glass, method_policies, passkeys, sign_ins, throttles, users, web_sessions};
use crate::wire::webauthn::authenticator;

/// How long a ceremony may take.
pub const LIFETIME: i64 = 5 * MINUTE;
/// Longest answer of a browser.
const LONGEST_ANSWER: usize = 48 * 1024;

/// A ceremony that has begun.
#[derive(Debug)]
pub struct Begun {
    /// What the page gives back.
    pub token: Secret,
    /// What the browser is asked (`publicKey`), JSON.
    pub options: String,
}

impl Begun {
    /// The token as text.
    #[must_use]
    pub fn token(&self) -> &str {
        std::str::from_utf8(self.token.expose()).unwrap_or_default()
    }
}

/// The server as authenticators know it: by the host of its pages. Passkeys of another name are of no use here, so the name stays.
fn relying_party(app: &App) -> Result<Webauthn> {
    let url = reqwest::Url::parse(&app.config.web_url()).map_err(Error::internal)?;
    let host = url.domain().ok_or(Refusal::PasskeyNeedsName)?.to_owned();
    let builder = WebauthnBuilder::new(&host, &url).map_err(|_| Refusal::PasskeyNeedsName)?;
    builder.rp_name(&app.config.organisation).build().map_err(Error::internal)
}

/// Whether people can sign in with passkeys here at all.
///
/// # Errors
/// Only the database's own.
pub async fn is_offered(app: &App) -> Result<bool> {
    if relying_party(app).is_err() {
        return Ok(false);
    }
    // No policy stands in the way of accounts for emergencies, which nobody has named before they sign in.
    Ok(policy::load_passkey(app).await?.enabled || !super::break_glass::list(app).await?.is_empty())
}

/// Whether a person should be asked to register a passkey: there is none yet, and they may.
///
/// # Errors
/// Only the database's own.
pub async fn is_to_register(app: &App, user: &UserId) -> Result<bool> {
    let policy = policy::load_passkey(app).await?;
    let may = policy.enabled && policy.is_self_service_registration_allowed && relying_party(app).is_ok();
    Ok(may && list(app, user).await?.is_empty())
}

/// The passkeys of a user, oldest first.
///
/// # Errors
/// Only the database's own.
pub async fn list(app: &App, user: &UserId) -> Result<Vec<Passkey>> {
    let user = user.clone();
    Ok(app.store.read(move |conn| passkeys::list_passkeys(conn, &user)).await?)
}

/// Whether a passkey may be synchronised between devices, as its authenticator said when it was made.
#[must_use]
pub fn is_synced(passkey: &Passkey) -> bool {
    let kept: Value = serde_json::from_str(&passkey.credential).unwrap_or_default();
    kept.pointer("/cred/backup_eligible").and_then(Value::as_bool).unwrap_or_default()
}

/// The makers whose word counts, each for the models that are allowed.
fn makers(policy: &Policy) -> Result<AttestationCaList> {
    let mut list = AttestationCaListBuilder::new();
    for pem in &policy.attestation_authorities {
        for aaguid in &policy.key_restrictions.aa_guids {
            let aaguid = uuid::Uuid::try_parse(aaguid).map_err(|_| Refusal::PasskeyPolicyInvalid)?;
            let added = list.insert_device_pem(pem.as_bytes(), aaguid, String::new(), std::collections::BTreeMap::new());
            added.map_err(|_| Refusal::PasskeyPolicyInvalid)?;
        }
    }
    Ok(list.build())
}

fn check_fresh(app: &App, signed: &Signed) -> Result<()> {
    if signed.session.is_fresh(app.now()) { Ok(()) } else { Err(Refusal::SignInStale.into()) }
}

/// Begins the registration of a passkey of the person who is signed in.
///
/// # Errors
/// [`Refusal::SignInStale`], [`Refusal::PasskeyNotOffered`], [`Refusal::PasskeyNeedsName`], [`Refusal::PasskeyTooMany`].
pub async fn begin_registration(app: &App, signed: &Signed) -> Result<Begun> {
    check_fresh(app, signed)?;
    let policy = policy::load_passkey(app).await?;
    if !(policy.enabled && policy.is_self_service_registration_allowed) {
        return Err(Refusal::PasskeyNotOffered.into());
    }
    let party = relying_party(app)?;
    let known = list(app, &signed.user.id).await?;
    if known.len() >= MOST {
        return Err(Refusal::PasskeyTooMany.into());
    }
    let exclude = known.iter().filter_map(|key| URL_SAFE_NO_PAD.decode(&key.credential_id).ok()).collect();
    let id = uuid::Uuid::try_parse(signed.user.id.as_str()).map_err(Error::internal)?;
    let (name, display_name) = (&signed.user.upn, &signed.user.display_name);
    let (options, kind, state) = if policy.is_attestation_enforced {
        let begun = party.start_attested_passkey_registration(id, name, display_name, Some(exclude), makers(&policy)?, None);
        let (options, state) = begun.map_err(Error::internal)?;
        (options, Kind::AttestedRegistration, serde_json::to_string(&state))
    } else {
        let begun = party.start_passkey_registration(id, name, display_name, Some(exclude));
        let (options, state) = begun.map_err(Error::internal)?;
        (options, Kind::Registration, serde_json::to_string(&state))
    };
    let mut options = serde_json::to_value(options).map_err(Error::internal)?;
    // People sign in without naming themselves: the authenticator has to keep the passkey.
    if let Some(selection) = options.pointer_mut("/publicKey/authenticatorSelection").and_then(Value::as_object_mut) {
        selection.insert("residentKey".into(), "required".into());
        selection.insert("requireResidentKey".into(), true.into());
    }
    begin(app, kind, Some(&signed.user.id), state.map_err(Error::internal)?, &options).await
}

/// Begins a sign-in of somebody who has not said who they are.
///
/// # Errors
/// [`Refusal::PasskeyNotOffered`], [`Refusal::PasskeyNeedsName`].
pub async fn begin_sign_in(app: &App) -> Result<Begun> {
    let party = relying_party(app)?;
    if !is_offered(app).await? {
        return Err(Refusal::PasskeyNotOffered.into());
    }
    let (options, state) = party.start_discoverable_authentication().map_err(Error::internal)?;
    let options = serde_json::to_value(options).map_err(Error::internal)?;
    begin(app, Kind::SignIn, None, serde_json::to_string(&state).map_err(Error::internal)?, &options).await
}

async fn begin(app: &App, kind: Kind, user: Option<&UserId>, state: String, options: &Value) -> Result<Begun> {
    let (token, hash) = session::new_token()?;
    let (user, ends) = (user.cloned(), app.now().plus(LIFETIME));
    // Only the inner part: a button asks, and not the browser's list of suggestions (`mediation`).
    let options = options.get("publicKey").map(Value::to_string).unwrap_or_default();
    app.store.write(move |tx| insert_ceremony(tx, &hash, kind, user.as_ref(), &state, ends)).await?;
    Ok(Begun { token, options })
}

/// A registration whose answer was read and whose ceremony is used up.
struct Registered {
    credential: Credential,
    attested: bool,
}

/// Ends the registration of a passkey: the browser's `answer` is that of `navigator.credentials.create`.
///
/// # Errors
/// [`Refusal::SignInStale`], [`Refusal::PasskeyCeremonyOver`], [`Refusal::PasskeyRefused`], [`Refusal::PasskeyModelForbidden`],
/// [`Refusal::PasskeyTooMany`], [`Refusal::PasskeyNotOffered`].
pub async fn finish_registration(app: &App, signed: &Signed, token: &str, answer: &str, name: &str, origin: &str) -> Result<Passkey> {
    check_fresh(app, signed)?;
    let (policy, hash, user, now) = (policy::load_passkey(app).await?, session::hash(token), signed.user.id.clone(), app.now());
    if !(policy.enabled && policy.is_self_service_registration_allowed) {
        return Err(Refusal::PasskeyNotOffered.into());
    }
    // Taken before anything is looked at: an answer that is wrong ends the ceremony, too.
    let kind = if policy.is_attestation_enforced { Kind::AttestedRegistration } else { Kind::Registration };
    let owner = user.clone();
    let state = app.store.write(move |tx| take_ceremony(tx, &hash, kind, Some(&owner), now)).await?.ok_or(Refusal::PasskeyCeremonyOver)?;
    let answer = answer_of::<RegisterPublicKeyCredential>(answer)?;
    let maker = authenticator(&answer.response.attestation_object).map_err(|_| Refusal::PasskeyRefused)?;
    let aa_guid = uuid::Uuid::from_bytes(maker.aaguid).to_string();
    let registered = match verify_registration(&relying_party(app)?, kind, &state, &answer) {
        Ok(registered) => registered,
        Err(reason) => return refuse_registration(app, &user, origin, Refusal::PasskeyRefused, &reason).await,
    };
    if answer.extensions.cred_props.as_ref().is_some_and(|props| props.rk == Some(false)) {
        return refuse_registration(app, &user, origin, Refusal::PasskeyRefused, "the authenticator does not keep the passkey").await;
    }
    if !policy.takes(&aa_guid) {
        return refuse_registration(app, &user, origin, Refusal::PasskeyModelForbidden, &aa_guid).await;
    }
    let name = shown_name(name, &aa_guid);
    let passkey = Passkey {
        id: PasskeyId::new(),
        user_id: user,
        credential_id: URL_SAFE_NO_PAD.encode(registered.credential.cred_id()),
        credential: serde_json::to_string(&registered.credential).map_err(Error::internal)?,
        display_name: name,
        model: model(&aa_guid).to_owned(),
        aa_guid,
        attested: registered.attested,
        attestation_certificates: maker.certificates.iter().map(|der| STANDARD.encode(der)).collect(),
        created_at: now,
        last_used_at: None,
    };
    let (made, actor, origin) = (passkey.clone(), format!("user:{}", passkey.user_id), origin.to_owned());
    let held = signed.clone();
    let write = move |tx: &mut Tx<'_>| {
        // Locked, so that several registrations at once are counted one after the other.
        if !session::holds(tx, &held, now)? {
            return Err(Refusal::SignInStale.into());
        }
        if passkeys::list_passkeys(tx.conn(), &made.user_id)?.len() >= MOST {
            return Err(Refusal::PasskeyTooMany.into());
        }
        passkeys::insert_passkey(tx, &made)?;
        audit::append(tx, &Entry::new(&actor, "passkey.create", &actor, &origin).after(&shown(&made)), now)
    };
    match app.store.write(write).await {
        Err(store::Error::Conflict(_)) => Err(Refusal::PasskeyRefused.into()),
        other => other.map(|_| passkey).map_err(Error::from),
    }
}

fn answer_of<A: serde::de::DeserializeOwned>(answer: &str) -> Result<A> {
    if answer.len() > LONGEST_ANSWER {
        return Err(Refusal::PasskeyRefused.into());
    }
    serde_json::from_str(answer).map_err(|_| Refusal::PasskeyRefused.into())
}

fn verify_registration(party: &Webauthn, kind: Kind, state: &str, answer: &RegisterPublicKeyCredential) -> Result<Registered, String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    match kind {
        Kind::AttestedRegistration => {
            let state: AttestedPasskeyRegistration = serde_json::from_str(state).map_err(|e| said(&e))?;
            let made = party.finish_attested_passkey_registration(answer, &state).map_err(|e| said(&e))?;
            Ok(Registered { credential: made.into(), attested: true })
        }
        Kind::Registration | Kind::SignIn => {
            let state: PasskeyRegistration = serde_json::from_str(state).map_err(|e| said(&e))?;
            let made = party.finish_passkey_registration(answer, &state).map_err(|e| said(&e))?;
            Ok(Registered { credential: made, attested: false })
        }
    }
}

async fn refuse_registration<T>(app: &App, user: &UserId, origin: &str, refusal: Refusal, reason: &str) -> Result<T> {
    let actor = format!("user:{user}");
    let entry = Entry::new(&actor, "passkey.refused", &actor, origin).after(&json!({ "code": refusal.code(), "reason": reason }));
    let now = app.now();
    app.store.write(move |tx| audit::append(tx, &entry, now)).await?;
    Err(refusal.into())
}

/// What the audit log says of a passkey.
fn shown(passkey: &Passkey) -> Value {
    json!({ "passkey": passkey.id, "name": passkey.display_name, "aaguid": passkey.aa_guid, "attested": passkey.attested })
}

fn shown_name(asked: &str, aa_guid: &str) -> String {
    let name: String = asked.trim().chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect();
    if name.is_empty() { model(aa_guid).to_owned() } else { name }
}

/// Gives a passkey of the person who is signed in another name.
///
/// # Errors
/// [`Refusal::SignInStale`]; [`Error::NotFound`].
pub async fn rename(app: &App, signed: &Signed, id: &PasskeyId, name: &str, origin: &str) -> Result<()> {
    check_fresh(app, signed)?;
    let (user, id, asked, now) = (signed.user.id.clone(), id.clone(), name.to_owned(), app.now());
    let by = By { actor: format!("user:{user}"), origin: origin.to_owned() };
    app.store
        .write(move |tx| {
            let before = passkeys::load_passkey(tx.conn(), &user, &id)?;
            let after = Passkey { display_name: shown_name(&asked, &before.aa_guid), ..before.clone() };
            passkeys::update_name(tx, &id, &after.display_name)?;
            audit::append(tx, &by.entry("passkey.update", format!("user:{user}")).before(&shown(&before)).after(&shown(&after)), now)
        })
        .await?;
    Ok(())
}

/// Removes a passkey of the person who is signed in, and what began with it.
///
/// # Errors
/// [`Refusal::SignInStale`]; [`Error::NotFound`].
pub async fn remove_own(app: &App, signed: &Signed, id: &PasskeyId, origin: &str) -> Result<()> {
    check_fresh(app, signed)?;
    let by = By { actor: format!("user:{}", signed.user.id), origin: origin.to_owned() };
    remove(app, &signed.user.id, id, &by).await
}

/// Removes a passkey of a user. The sessions that began with it end.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn remove(app: &App, user: &UserId, id: &PasskeyId, by: &By) -> Result<()> {
    let (user, id, by, now) = (user.clone(), id.clone(), by.clone(), app.now());
    app.store
        .write(move |tx| {
            users::lock_user(tx, &user)?;
            let before = passkeys::load_passkey(tx.conn(), &user, &id)?;
            passkeys::delete_passkey(tx, &id)?;
            let ended = web_sessions::delete_of_method(tx, id.as_str())?;
            let entry =
                by.entry("passkey.delete", format!("user:{user}")).before(&shown(&before)).after(&json!({ "sessionsEnded": ended }));
            audit::append(tx, &entry, now)
        })
        .await?;
    Ok(())
}

/// Why a passkey did not sign in: one answer for the outside, the reason for the log.
struct Refused {
    user: Option<User>,
    reason: String,
}

/// Signs a person in with a passkey: the browser's `answer` is that of `navigator.credentials.get`. The session that the browser had before
/// ends.
///
/// # Errors
/// [`Refusal::PasskeyRefused`] for whatever does not fit; [`Refusal::PasskeyCeremonyOver`], [`Error::Throttled`].
pub async fn finish_sign_in(app: &App, token: &str, answer: &str, visit: &Visit, before: Option<&str>) -> Result<SignedIn> {
    let now = app.now();
    let key = format!("passkey-address:{}", throttle::subscriber(visit.address));
    let hash = session::hash(token);
    let state = app.store.write(move |tx| take_ceremony(tx, &hash, Kind::SignIn, None, now)).await?.ok_or(Refusal::PasskeyCeremonyOver)?;
    // Nobody guesses a signature: failures are counted to keep them out of the logs, and lock out nobody who shares the address.
    match verify_sign_in(app, &state, answer).await? {
        Ok((user, passkey, credential)) => sign_in(app, (user, passkey, credential), visit, before, now).await,
        Err(refused) => {
            let row = visit.row("passkey", now).of(refused.user.as_ref()).failed(Failure::SignInWrong.number(), &refused.reason);
            let target = refused.user.map_or_else(|| "user:unknown".to_owned(), |user| format!("user:{}", user.id));
            let state = json!({ "code": Refusal::PasskeyRefused.code(), "method": "passkey", "reason": refused.reason });
            let entry = Entry::new("anonymous", "signin.refused", target, visit.address.to_string()).after(&state);
            let write = move |tx: &mut Tx<'_>| {
                if let Some(state) = throttles::find_throttle(tx.conn(), &key)?.filter(|state| state.wait(now).is_some()) {
                    return Ok(Some(state.blocked_until));
                }
                throttles::update_after_failure(tx, &key, &throttle::ADDRESS, now)?;
                sign_ins::insert_sign_in(tx, &row)?;
                audit::append(tx, &entry, now)?;
                Ok(None)
            };
            match app.store.write(write).await? {
                Some(until) => Err(Error::Throttled(u64::try_from(until.since(now) / 1000 + 1).unwrap_or(1))),
                None => Err(Refusal::PasskeyRefused.into()),
            }
        }
    }
}

/// Who it is, with the passkey as it was and as it is now.
type Verified = (User, Passkey, String);

async fn verify_sign_in(app: &App, state: &str, answer: &str) -> Result<Result<Verified, Refused>> {
    let refused = |user: Option<User>, reason: &dyn std::fmt::Display| Ok(Err(Refused { user, reason: reason.to_string() }));
    let Ok(answer) = answer_of::<PublicKeyCredential>(answer) else { return refused(None, &"the answer cannot be read") };
    let party = relying_party(app)?;
    let owner = match party.identify_discoverable_authentication(&answer) {
        Ok((owner, _)) => owner.to_string(),
        Err(error) => return refused(None, &error),
    };
    let id = URL_SAFE_NO_PAD.encode(&answer.raw_id);
    let found = app
        .store
        .read(move |conn| {
            let policy: Policy = method_policies::load_policy(conn, policy::PASSKEY)?;
            let Some(passkey) = passkeys::find_by_credential(conn, &id)? else { return Ok(None) };
            let user = users::load_user(conn, &passkey.user_id)?;
            let free = break_glass::is_named(conn, &user.id)?;
            Ok(Some((policy, user, passkey, free)))
        })
        .await?;
    let Some((policy, user, passkey, free)) = found else { return refused(None, &"nobody has this passkey") };
    if passkey.user_id.as_str() != owner {
        return refused(Some(user), &"the passkey names another person");
    }
    if !user.enabled {
        return refused(Some(user), &Refusal::AccountDisabled.text());
    }
    if !(free || policy.enabled && policy.takes(&passkey.aa_guid)) {
        return refused(Some(user), &"the organisation does not take this passkey any more");
    }
    let state: DiscoverableAuthentication = serde_json::from_str(state).map_err(Error::internal)?;
    let mut credential: Credential = serde_json::from_str(&passkey.credential).map_err(Error::internal)?;
    // Wrong origins, missing verification of the person and counters that run backwards (a copied authenticator) are refused in here.
    match party.finish_discoverable_authentication_v2(&answer, state, &credential) {
        Ok(result) => {
            credential.update_credential(&result);
            let credential = serde_json::to_string(&credential).map_err(Error::internal)?;
            Ok(Ok((user, passkey, credential)))
        }
        Err(error) => refused(Some(user), &error),
    }
}

async fn sign_in(app: &App, verified: Verified, visit: &Visit, before: Option<&str>, now: Time) -> Result<SignedIn> {
    let (user, passkey, credential) = verified;
    let (token, hash) = session::new_token()?;
    let (before, row) = (before.map(session::hash), visit.row("passkey", now).of(Some(&user)));
    let (origin, id) = (visit.address.to_string(), user.id.clone());
    let write = move |tx: &mut Tx<'_>| {
        if !passkeys::update_used(tx, &passkey.id, (&passkey.credential, &credential), now)? {
            // It was removed, or used at the same moment.
            return Err(Refusal::PasskeyRefused.into());
        }
        end_before(tx, before.as_deref())?;
        let beginning = Beginning { user: &id, method: Method::Passkey, method_id: passkey.id.as_str(), one_time: false, until: None };
        let session = session::begin(tx, &hash, &beginning, now)?;
        sign_ins::insert_sign_in(tx, &row)?;
        super::break_glass::note_use(tx, &id, "passkey", &origin, now)?;
        let actor = format!("user:{id}");
        let state = json!({ "method": "passkey", "passkey": passkey.id, "for": PAGES });
        audit::append(tx, &Entry::new(&actor, "signin.success", &actor, &origin).after(&state), now)?;
        Ok(session)
    };
    let session = app.store.write(write).await?;
    Ok(SignedIn { token, signed: Signed { user, session } })
}
