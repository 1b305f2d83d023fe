//! `/users/{id}/authentication`: the ways in which a person signs in.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{me, users};
use crate::clock::{MINUTE, Time};
use crate::domain::Refusal;
use crate::domain::access::{Action, Need, Reach, Scope};
use crate::domain::passkey::Passkey;
use crate::domain::session::FRESH;
use crate::domain::tap::{Policy, Tap};
use crate::domain::user::User;
use crate::http::graph::answer::{Answer, base, object};
use crate::http::graph::error::{GraphProblem, Result};
use crate::http::graph::list;
use crate::http::graph::route::{Call, routes};
use crate::ids::{PasskeyId, TapId};
use crate::service::identity::{passkey, policy, session, tap};
use crate::service::{directory, role};
use crate::wire::odata::edm;
use crate::wire::odata::filter::moment;
use crate::wire::odata::shape::Shape;

const READ: Need = Need { scopes: &[Scope::MethodReadAll, Scope::MethodReadWriteAll], action: Some(Action::MethodsRead) };
const WRITE: Need = Need { scopes: &[Scope::MethodReadWriteAll], action: Some(Action::MethodsUpdate) };

/// Methods of the person who signed in.
const READ_OWN: Need =
    Need { scopes: &[Scope::MethodRead, Scope::MethodReadWrite, Scope::MethodReadAll, Scope::MethodReadWriteAll], action: None };
const WRITE_OWN: Need = Need { scopes: &[Scope::MethodReadWrite, Scope::MethodReadWriteAll], action: None };

/// The type of a pass.
const TAP: &str = "#microsoft.graph.temporaryAccessPassAuthenticationMethod";
/// The type of a passkey.
const FIDO2: &str = "#microsoft.graph.fido2AuthenticationMethod";

/// The properties of a pass.
const PASS: Shape = Shape {
    usual: &[
        "createdDateTime",
        "isUsable",
        "isUsableOnce",
        "lifetimeInMinutes",
        "methodUsabilityReason",
        "startDateTime",
        "temporaryAccessPass",
    ],
    more: &[],
    beta: &[],
};

/// The properties of a passkey.
const PASSKEY: Shape = Shape {
    usual: &[
        "aaGuid",
        "attestationCertificates",
        "attestationLevel",
        "createdDateTime",
        "displayName",
        "lastUsedDateTime",
        "model",
        "passkeyType",
    ],
    more: &[],
    beta: &["lastUsedDateTime", "passkeyType"],
};

/// The properties of either.
const METHOD: Shape = Shape {
    usual: &[
        "aaGuid",
        "attestationCertificates",
        "attestationLevel",
        "createdDateTime",
        "displayName",
        "isUsable",
        "isUsableOnce",
        "lastUsedDateTime",
        "lifetimeInMinutes",
        "methodUsabilityReason",
        "model",
        "passkeyType",
        "startDateTime",
        "temporaryAccessPass",
    ],
    more: &[],
    beta: &["lastUsedDateTime", "passkeyType"],
};

/// Ending what a person is signed in to takes less than changing how they sign in.
const REVOKE: Need = Need {
    scopes: &[Scope::UserRevokeSessionsAll, Scope::UserReadWriteAll, Scope::DirectoryReadWriteAll],
    action: Some(Action::MethodsUpdate),
};

routes! {
    Get "users/{id}/authentication/methods", READ => methods;
    Get "users/{id}/authentication/fido2Methods", READ => passkeys;
    Get "users/{id}/authentication/fido2Methods/{passkey}", READ => show_passkey;
    Delete "users/{id}/authentication/fido2Methods/{passkey}", WRITE => delete_passkey;
    Get "users/{id}/authentication/temporaryAccessPassMethods", READ => passes;
    Post "users/{id}/authentication/temporaryAccessPassMethods", WRITE => create_pass;
    Get "users/{id}/authentication/temporaryAccessPassMethods/{pass}", READ => show_pass;
    Delete "users/{id}/authentication/temporaryAccessPassMethods/{pass}", WRITE => delete_pass;
    Get "me/authentication/methods", READ_OWN => methods;
    Get "me/authentication/fido2Methods", READ_OWN => passkeys;
    Get "me/authentication/fido2Methods/{passkey}", READ_OWN => show_passkey;
    Delete "me/authentication/fido2Methods/{passkey}", WRITE_OWN => delete_own_passkey;
    Get "me/authentication/temporaryAccessPassMethods", READ_OWN => passes;
    Get "me/authentication/temporaryAccessPassMethods/{pass}", READ_OWN => show_pass;
    Post "users/{id}/revokeSignInSessions", REVOKE => revoke_sessions, urgent;
}

/// A pass as JSON: without its text, which only its making shows.
fn json(pass: &Tap, now: Time, enabled: bool) -> Map<String, Value> {
    let usable = enabled && pass.is_usable(now);
    let reason = if usable {
        "EnabledByPolicy"
    } else if !enabled {
        "DisabledByPolicy"
    } else if now < pass.starts_at {
        "NotYetValid"
    } else if now >= pass.expires_at {
        "Expired"
    } else {
        "OneTimeUsed"
    };
    object! {
        "id": pass.id,
        "createdDateTime": edm::time(pass.starts_at.0),
        "isUsable": usable,
        "isUsableOnce": pass.one_time,
        "lifetimeInMinutes": pass.expires_at.since(pass.starts_at) / MINUTE,
        "methodUsabilityReason": reason,
        "startDateTime": edm::time(pass.starts_at.0),
        "temporaryAccessPass": Value::Null,
    }
}

fn typed(pass: &Tap, now: Time, enabled: bool) -> Map<String, Value> {
    let mut whole = Map::from_iter([("@odata.type".to_owned(), Value::from(TAP))]);
    whole.extend(json(pass, now, enabled));
    whole
}

/// A passkey as JSON.
fn passkey_json(passkey: &Passkey, beta: bool) -> Map<String, Value> {
    let mut whole = object! {
        "id": passkey.id,
        "displayName": passkey.display_name,
        "createdDateTime": edm::time(passkey.created_at.0),
        "aaGuid": passkey.aa_guid,
        "model": passkey.model,
        "attestationCertificates": passkey.attestation_certificates,
        "attestationLevel": if passkey.attested { "attested" } else { "notAttested" },
    };
    if beta {
        whole.insert("lastUsedDateTime".into(), json!(passkey.last_used_at.map(|at| edm::time(at.0))));
        whole.insert("passkeyType".into(), if passkey::is_synced(passkey) { "synced" } else { "deviceBound" }.into());
    }
    whole
}

fn typed_passkey(passkey: &Passkey, beta: bool) -> Map<String, Value> {
    let mut whole = Map::from_iter([("@odata.type".to_owned(), Value::from(FIDO2))]);
    whole.extend(passkey_json(passkey, beta));
    whole
}

/// The person whom the address names: somebody, or whoever calls.
pub(super) async fn person(call: &Call<'_>) -> Result<User> {
    let own = call.request.segments.first().is_some_and(|segment| segment.eq_ignore_ascii_case("me"));
    Ok(if own { directory::find_user(call.app, me::person(call)?, &Reach::All).await?.0 } else { users::named(call).await?.0 })
}

/// The method that the address names.
fn last_key<'a>(call: &'a Call<'_>) -> Result<&'a str> {
    call.keys.last().copied().ok_or_else(GraphProblem::not_found)
}

async fn methods(call: Call<'_>) -> Result<Answer> {
    let user = person(&call).await?;
    let (all, now, enabled) = (tap::list(call.app, &user.id).await?, call.app.now(), policy::load_tap(call.app).await?.enabled);
    let mut shown: Vec<Map<String, Value>> = all.iter().map(|pass| typed(pass, now, enabled)).collect();
    let passkeys = passkey::list(call.app, &user.id).await?;
    shown.extend(passkeys.iter().map(|passkey| typed_passkey(passkey, call.is_beta())));
    list::few(&call, &METHOD, &context(&user, "methods"), shown)
}

async fn passes(call: Call<'_>) -> Result<Answer> {
    let user = person(&call).await?;
    let (all, now, enabled) = (tap::list(call.app, &user.id).await?, call.app.now(), policy::load_tap(call.app).await?.enabled);
    let shown = all.iter().map(|pass| json(pass, now, enabled)).collect();
    list::few(&call, &PASS, &context(&user, "temporaryAccessPassMethods"), shown)
}

async fn passkeys(call: Call<'_>) -> Result<Answer> {
    let user = person(&call).await?;
    let all = passkey::list(call.app, &user.id).await?;
    let shown = all.iter().map(|passkey| passkey_json(passkey, call.is_beta())).collect();
    list::few(&call, &PASSKEY, &context(&user, "fido2Methods"), shown)
}

async fn show_passkey(call: Call<'_>) -> Result<Answer> {
    let user = person(&call).await?;
    let id = PasskeyId::parse(last_key(&call)?).ok_or_else(GraphProblem::not_found)?;
    let all = passkey::list(call.app, &user.id).await?;
    let found = all.iter().find(|passkey| passkey.id == id).ok_or_else(GraphProblem::not_found)?;
    let shown = typed_passkey(found, call.is_beta());
    Ok(Answer::ok(list::single(&call, &PASSKEY, &context(&user, "fido2Methods"), shown)?))
}

async fn delete_passkey(call: Call<'_>) -> Result<Answer> {
    let (user, _) = users::named(&call).await?;
    role::check_helper(call.app, call.caller, &user.id).await?;
    let id = PasskeyId::parse(call.key(1)?).ok_or_else(GraphProblem::not_found)?;
    passkey::remove(call.app, &user.id, &id, &call.by()).await?;
    Ok(Answer::done())
}

/// Takes a passkey of one's own away, as on one's own page: after a sign-in that is not long ago.
async fn delete_own_passkey(call: Call<'_>) -> Result<Answer> {
    let user = person(&call).await?;
    let id = PasskeyId::parse(last_key(&call)?).ok_or_else(GraphProblem::not_found)?;
    if call.caller.signed_in_at.is_none_or(|at| call.app.now() >= at.plus(FRESH)) {
        return Err(Refusal::SignInStale.into());
    }
    passkey::remove(call.app, &user.id, &id, &call.by()).await?;
    Ok(Answer::done())
}

fn context(user: &User, set: &str) -> String {
    format!("users('{}')/authentication/{set}", user.id)
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Given {
    lifetime_in_minutes: Option<i64>,
    is_usable_once: Option<bool>,
    start_date_time: Option<String>,
}

async fn create_pass(call: Call<'_>) -> Result<Answer> {
    let (user, _) = users::named(&call).await?;
    role::check_giver_of_pass(call.app, call.caller, &user.id).await?;
    let given: Given = call.request.json()?;
    let rules = policy::load_tap(call.app).await?;
    let usual = rules.usual();
    let policy = Policy {
        lifetime: given.lifetime_in_minutes.map_or(usual.lifetime, |minutes| minutes.saturating_mul(MINUTE)),
        one_time: given.is_usable_once.unwrap_or(usual.one_time),
        ..usual
    };
    let starts = match given.start_date_time.as_deref() {
        None => None,
        Some(text) => Some(Time(moment(text).ok_or_else(|| GraphProblem::invalid("startDateTime is no moment."))?)),
    };
    if starts.is_some_and(|at| at < call.app.now().plus(-5 * MINUTE)) {
        return Err(GraphProblem::invalid("startDateTime is in the past."));
    }
    let made = tap::create(call.app, &user.id, policy, starts, &call.by().actor, &call.by().origin).await?;
    let pass = tap::list(call.app, &user.id).await?.into_iter().find(|pass| pass.id == made.id).ok_or_else(GraphProblem::not_found)?;
    let mut whole = Map::from_iter([
        (
            "@odata.context".to_owned(),
            json!(format!(
                "{}/$metadata#{}/$entity",
                base(&call.app.config, call.request.version),
                context(&user, "temporaryAccessPassMethods")
            )),
        ),
        ("@odata.type".to_owned(), TAP.into()),
    ]);
    whole.extend(json(&pass, call.app.now(), rules.enabled));
    whole.insert("temporaryAccessPass".into(), made.show().into());
    let location =
        format!("{}/users/{}/authentication/temporaryAccessPassMethods/{}", base(&call.app.config, call.request.version), user.id, pass.id);
    Ok(Answer::created(location, Value::Object(whole)))
}

fn pass_id(call: &Call<'_>) -> Result<TapId> {
    TapId::parse(last_key(call)?).ok_or_else(GraphProblem::not_found)
}

/// Ends the sessions of a person at browsers and what they gave applications: access tokens and refresh tokens with them.
async fn revoke_sessions(call: Call<'_>) -> Result<Answer> {
    let (user, _) = users::named(&call).await?;
    role::check_helper(call.app, call.caller, &user.id).await?;
    session::end_all(call.app, &user.id, &call.by()).await?;
    Ok(revoked(&call))
}

/// The answer to those who ended somebody's sessions.
pub(super) fn revoked(call: &Call<'_>) -> Answer {
    let context = format!("{}/$metadata#Edm.Boolean", base(&call.app.config, call.request.version));
    Answer::ok(json!({ "@odata.context": context, "value": true }))
}

async fn show_pass(call: Call<'_>) -> Result<Answer> {
    let user = person(&call).await?;
    let id = pass_id(&call)?;
    let pass = tap::list(call.app, &user.id).await?.into_iter().find(|pass| pass.id == id).ok_or_else(GraphProblem::not_found)?;
    let shown = typed(&pass, call.app.now(), policy::load_tap(call.app).await?.enabled);
    Ok(Answer::ok(list::single(&call, &PASS, &context(&user, "temporaryAccessPassMethods"), shown)?))
}

async fn delete_pass(call: Call<'_>) -> Result<Answer> {
    let (user, _) = users::named(&call).await?;
    role::check_helper(call.app, call.caller, &user.id).await?;
    tap::end(call.app, &user.id, &pass_id(&call)?, &call.by()).await?;
    Ok(Answer::done())
}
