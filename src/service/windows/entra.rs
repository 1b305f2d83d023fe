//! Enrolment tokens of organisations whose identity stays at Microsoft: a JWT of a configured tenant, verified against the keys that
//! the tenant publishes. Nothing in a token is believed before its signature, issuer, audience, tenant and times are right.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use josekit::jwk::Jwk;
use josekit::jws::{JwsHeader, RS256, deserialize_compact};
use serde_json::{Map, Value};

use crate::app::App;
use crate::clock::{DAY, MINUTE, SECOND, Time};
use crate::config::EntraTenant;
use crate::domain::Refusal;
use crate::service::{Error, Result};

/// Longest token.
const LONGEST: usize = 16 * 1024;
/// Largest key set.
const LARGEST_KEY_SET: usize = 256 * 1024;
/// How long published keys are used without asking again.
const FRESH: i64 = DAY;
/// How long published keys are used while the tenant does not answer.
const STALEST: i64 = 7 * DAY;
/// How soon after a failure we ask again.
const RETRY_AFTER: i64 = 2 * MINUTE;
/// How soon an unknown key makes us ask again.
const REFRESH_AFTER: i64 = 5 * MINUTE;
/// How far clocks may differ.
const SKEW: i64 = 5 * MINUTE;
/// The scope that a token for enrolment has.
const SCOPE: &str = "mdm_delegation";

/// The published keys of each tenant, as they were last fetched.
#[derive(Debug, Default)]
pub struct KeyCache(Mutex<HashMap<String, Arc<Slot>>>);

/// What is known of a tenant. Whoever asks the tenant holds the lock, so that many tokens at once make one question.
type Slot = tokio::sync::Mutex<Known>;

#[derive(Debug, Default)]
struct Known {
    keys: Vec<Jwk>,
    fetched_at: Option<Time>,
    failed_at: Option<Time>,
}

impl Known {
    fn key(&self, kid: &str) -> Option<Jwk> {
        self.keys.iter().find(|key| key.key_id() == Some(kid)).cloned()
    }

    /// Whether to ask the tenant: the keys are old, or the key is new and the last question is some minutes ago, so that invented key
    /// names cannot make us ask all the time; and never soon after a failure.
    fn is_due(&self, kid: &str, now: Time) -> bool {
        let within = |at: Option<Time>, span: i64| at.is_some_and(|at| now.since(at) < span);
        let fresh = if self.key(kid).is_some() { FRESH } else { REFRESH_AFTER };
        !within(self.fetched_at, fresh) && !within(self.failed_at, RETRY_AFTER)
    }

    /// The key, unless everything that is known is too old.
    fn usable(&self, kid: &str, now: Time) -> Option<Jwk> {
        self.fetched_at.filter(|at| now.since(*at) < STALEST).and_then(|_| self.key(kid))
    }
}

/// What a verified token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The tenant (`tid`).
    pub tenant_id: String,
    /// The user's object id (`oid`).
    pub object_id: String,
    /// The user principal name (`upn`).
    pub upn: String,
    /// The device's id at Microsoft (`deviceid`); not yet there on the terms-of-use page.
    pub device_id: Option<String>,
}

/// Which token it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// For the terms-of-use page.
    Terms,
    /// For enrolment: it must carry the scope `mdm_delegation`.
    Enrollment,
}

/// Verifies a JWT in compact form.
///
/// # Errors
/// [`Refusal::TokenInvalid`] whatever is wrong with it; [`Error::Unavailable`] when the tenant's keys cannot be had.
pub async fn verify(app: &App, jwt: &str, purpose: Use) -> Result<Claims> {
    let jwt = jwt.trim();
    let invalid = || Error::Refused(Refusal::TokenInvalid);
    if jwt.len() > LONGEST || app.config.windows.entra.is_empty() {
        return Err(invalid());
    }
    // The unverified claims only choose whose keys to try.
    let unverified = peek(jwt).ok_or_else(invalid)?;
    let tenant = unverified.get("tid").and_then(Value::as_str).and_then(|tid| tenant(app, tid)).ok_or_else(invalid)?;
    let header = josekit::jwt::decode_header(jwt).map_err(|_| invalid())?;
    if header.claim("alg").and_then(Value::as_str) != Some("RS256") || header.claim("crit").is_some() {
        return Err(invalid());
    }
    let kid = header.claim("kid").and_then(Value::as_str).ok_or_else(invalid)?;
    let key = find_key(app, tenant, kid).await?.ok_or_else(invalid)?;
    let payload = verify_signature(jwt, &key).ok_or_else(invalid)?;
    judge(&payload, tenant, purpose, app.now()).ok_or_else(invalid)
}

fn tenant<'a>(app: &'a App, id: &str) -> Option<&'a EntraTenant> {
    app.config.windows.entra.iter().find(|tenant| tenant.tenant_id.eq_ignore_ascii_case(id))
}

fn peek(jwt: &str) -> Option<Map<String, Value>> {
    use base64::Engine as _;
    let mut parts = jwt.split('.');
    let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else { return None };
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

fn verify_signature(jwt: &str, key: &Jwk) -> Option<Map<String, Value>> {
    let verifier = RS256.verifier_from_jwk(key).ok()?;
    let (payload, header): (Vec<u8>, JwsHeader) = deserialize_compact(jwt, &verifier).ok()?;
    (header.algorithm() == Some("RS256")).then_some(())?;
    serde_json::from_slice(&payload).ok()
}

fn judge(claims: &Map<String, Value>, tenant: &EntraTenant, purpose: Use, now: Time) -> Option<Claims> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let time = |name: &str| claims.get(name).and_then(Value::as_i64).map(|seconds| Time(seconds.saturating_mul(SECOND)));
    let audience = match claims.get("aud")? {
        Value::String(one) => *one == tenant.audience,
        Value::Array(many) => many.iter().any(|one| one.as_str() == Some(tenant.audience.as_str())),
        _ => false,
    };
    let in_time = time("exp")?.plus(SKEW) > now && time("nbf").is_none_or(|start| start <= now.plus(SKEW));
    let scope = purpose == Use::Terms || text("scp").is_some_and(|scopes| scopes.split(' ').any(|scope| scope == SCOPE));
    let tenant_id = text("tid").filter(|tid| tid.eq_ignore_ascii_case(&tenant.tenant_id))?;
    if text("iss")? != tenant.issuer || !(audience && in_time && scope) {
        return None;
    }
    Some(Claims {
        tenant_id: tenant_id.to_owned(),
        object_id: text("oid")?.to_owned(),
        upn: text("upn")?.to_lowercase(),
        device_id: text("deviceid").map(str::to_owned),
    })
}

/// The key called `kid`, from the cache or from the tenant.
async fn find_key(app: &App, tenant: &EntraTenant, kid: &str) -> Result<Option<Jwk>> {
    let slot = {
        let mut slots = app.entra_keys.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(tenant.tenant_id.clone()).or_default())
    };
    let mut known = slot.lock().await;
    let now = app.now();
    if known.is_due(kid, now) {
        match fetch(app, tenant).await {
            Ok(keys) => *known = Known { keys, fetched_at: Some(now), failed_at: None },
            // Old keys are better than none while the publisher is away, for a while.
            Err(error) => {
                tracing::warn!(%error, "the keys of a tenant could not be fetched");
                known.failed_at = Some(now);
            }
        }
    }
    match known.usable(kid, now) {
        Some(key) => Ok(Some(key)),
        // Whether the key exists is unknown.
        None if known.failed_at.is_some() => Err(Error::Unavailable(format!("{}: no answer lately", tenant.jwks_uri))),
        None => Ok(None),
    }
}

async fn fetch(app: &App, tenant: &EntraTenant) -> Result<Vec<Jwk>> {
    let away = |why: String| Error::Unavailable(format!("{}: {why}", tenant.jwks_uri));
    let mut answer = app.http.get(&tenant.jwks_uri).send().await.map_err(|e| away(e.to_string()))?;
    if !answer.status().is_success() {
        return Err(away(format!("HTTP {}", answer.status().as_u16())));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|e| away(e.to_string()))? {
        if body.len() + chunk.len() > LARGEST_KEY_SET {
            return Err(away("the key set is too large".into()));
        }
        body.extend_from_slice(&chunk);
    }
    let set: Map<String, Value> = serde_json::from_slice(&body).map_err(|e| away(e.to_string()))?;
    let keys = set.get("keys").and_then(Value::as_array).ok_or_else(|| away("no keys in it".into()))?;
    let keys = keys.iter().filter_map(Value::as_object).cloned().filter_map(|key| Jwk::from_map(key).ok());
    Ok(keys.filter(|key| key.key_type() == "RSA" && key.key_use().is_none_or(|purpose| purpose == "sig")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant() -> EntraTenant {
        EntraTenant { tenant_id: "T".into(), issuer: "https://sts/T/".into(), audience: "api://muster".into(), jwks_uri: String::new() }
    }

    fn claims() -> Value {
        serde_json::json!({
            "tid": "t", "iss": "https://sts/T/", "aud": "api://muster", "exp": 2000, "nbf": 1000, "scp": "a mdm_delegation",
            "oid": "o", "upn": "Ana@Example.org", "deviceid": "d",
        })
    }

    fn verdict(change: impl FnOnce(&mut Value), purpose: Use) -> Option<Claims> {
        let mut claims = claims();
        change(&mut claims);
        judge(claims.as_object().unwrap(), &tenant(), purpose, Time(1_500_000))
    }

    #[test]
    fn a_tenant_is_asked_rarely_and_its_keys_do_not_live_for_ever() {
        let mut key = Jwk::new("RSA");
        key.set_key_id("k1");
        let known = Known { keys: vec![key], fetched_at: Some(Time(0)), failed_at: None };
        assert!(Known::default().is_due("k1", Time(0)));
        assert!(!known.is_due("k1", Time(FRESH - 1)) && known.is_due("k1", Time(FRESH)));
        assert!(!known.is_due("k2", Time(REFRESH_AFTER - 1)) && known.is_due("k2", Time(REFRESH_AFTER)));
        assert!(known.usable("k1", Time(STALEST - 1)).is_some() && known.usable("k1", Time(STALEST)).is_none());
        let failed = Known { failed_at: Some(Time(FRESH)), ..known };
        assert!(!failed.is_due("k1", Time(FRESH + RETRY_AFTER - 1)) && failed.is_due("k1", Time(FRESH + RETRY_AFTER)));
        let never = Known { failed_at: Some(Time(0)), ..Known::default() };
        assert!(!never.is_due("k1", Time(1)) && never.usable("k1", Time(1)).is_none());
    }

    #[test]
    fn only_a_token_for_us_from_the_tenant_in_its_time_is_good() {
        let good = verdict(|_| (), Use::Enrollment).unwrap();
        assert_eq!((good.upn.as_str(), good.device_id.as_deref()), ("ana@example.org", Some("d")));
        assert!(verdict(|c| c["aud"] = serde_json::json!(["x", "api://muster"]), Use::Enrollment).is_some());
        for (name, value) in [
            ("aud", serde_json::json!("api://other")),
            ("iss", serde_json::json!("https://sts/U/")),
            ("tid", serde_json::json!("u")),
            ("exp", serde_json::json!(1000)),
            ("exp", Value::Null),
            ("nbf", serde_json::json!(1900)),
            ("scp", serde_json::json!("user_impersonation")),
            ("upn", Value::Null),
            ("oid", serde_json::json!("")),
        ] {
            assert!(verdict(|c| c[name] = value.clone(), Use::Enrollment).is_none(), "{name} {value}");
        }
        assert!(verdict(|c| c["scp"] = Value::Null, Use::Terms).is_some());
    }
}
