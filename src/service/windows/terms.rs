//! The terms-of-use page of the Entra flow (MS-MDE2 3.2.5, Microsoft's "Azure AD integration with MDM"): who comes, where the answer
//! goes, and the blob that proves later that the terms were accepted.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::entra::{self, Claims, Use};
use crate::app::App;
use crate::clock::{HOUR, MINUTE, Time};
use crate::domain::Refusal;
use crate::domain::audit::Entry;
use crate::secret::{Secret, hmac_sha256, same};
use crate::service::identity::instance_key;
use crate::service::{Error, Result};
use crate::store::audit;
use crate::store::sealed::TERMS_KEY;

/// How long somebody may read.
const READING: i64 = 30 * MINUTE;
/// How long after the answer the device may enrol.
const ANSWER: i64 = HOUR;
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What Windows asks the page for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visit {
    /// Where the answer goes: `ms-appx-web:` only.
    pub redirect_uri: String,
    /// Echoed in the answer.
    pub client_request_id: String,
    /// `1.0`.
    pub api_version: String,
    /// `azureadjoin` when the organisation owns the device.
    pub mode: String,
    /// The JWT.
    pub token: String,
}

/// What to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Show the terms.
    Page {
        /// Comes back with the decision.
        state: String,
        /// Whether somebody may decline: not on a device that the organisation owns.
        may_decline: bool,
    },
    /// Send the browser there.
    Redirect(String),
}

#[derive(Serialize, Deserialize)]
struct State {
    redirect_uri: String,
    client_request_id: String,
    tenant_id: String,
    object_id: String,
    expires: Time,
}

#[derive(Serialize, Deserialize)]
struct Accepted {
    tenant_id: String,
    object_id: String,
    expires: Time,
}

/// Opens the page.
///
/// # Errors
/// [`Refusal::RedirectRefused`] for another kind of `redirect_uri`: nothing is sent there.
pub async fn open(app: &App, visit: &Visit, origin: &str) -> Result<Answer> {
    if !is_allowed(&visit.redirect_uri) || visit.client_request_id.len() > 256 {
        record(app, Refusal::RedirectRefused.code(), origin).await;
        return Err(Error::Refused(Refusal::RedirectRefused));
    }
    let refuse = |error: &str, description: &str| {
        let parameters = [("error", error), ("error_description", description)];
        Answer::Redirect(redirect(&visit.redirect_uri, &visit.client_request_id, &parameters))
    };
    if visit.api_version != "1.0" {
        record(app, "invalid_request", origin).await;
        return Ok(refuse("invalid_request", "api-version is not supported"));
    }
    let claims = match entra::verify(app, &visit.token, Use::Terms).await {
        Ok(claims) => claims,
        Err(Error::Refused(refusal)) => {
            record(app, refusal.code(), origin).await;
            return Ok(refuse("unauthorized_client", "the token is not accepted"));
        }
        Err(error) => {
            tracing::warn!(%error, "the token of a terms-of-use visit could not be judged");
            return Ok(refuse("server_error", "try again later"));
        }
    };
    let state = State {
        redirect_uri: visit.redirect_uri.clone(),
        client_request_id: visit.client_request_id.clone(),
        tenant_id: claims.tenant_id,
        object_id: claims.object_id,
        expires: app.now().plus(READING),
    };
    let may_decline = !visit.mode.eq_ignore_ascii_case("azureadjoin");
    Ok(Answer::Page { state: sign(&instance_key(app, TERMS_KEY).await?, "state", &state)?, may_decline })
}

/// Takes the decision and says where to send the browser.
///
/// # Errors
/// [`Refusal::EnrollmentDataInvalid`] when `state` is not ours or too old.
pub async fn decide(app: &App, state: &str, accepted: bool, origin: &str) -> Result<String> {
    let key = instance_key(app, TERMS_KEY).await?;
    let now = app.now();
    let Some(state) = verified(&key, "state", state).filter(|s: &State| s.expires > now) else {
        record(app, Refusal::EnrollmentDataInvalid.code(), origin).await;
        return Err(Refusal::EnrollmentDataInvalid.into());
    };
    let target = if accepted {
        let blob = Accepted { tenant_id: state.tenant_id.clone(), object_id: state.object_id.clone(), expires: now.plus(ANSWER) };
        let blob = sign(&key, "accepted", &blob)?;
        redirect(&state.redirect_uri, &state.client_request_id, &[("IsAccepted", "true"), ("OpaqueBlob", &blob)])
    } else {
        redirect(&state.redirect_uri, &state.client_request_id, &[("IsAccepted", "false")])
    };
    let actor = format!("entra:{}/{}", state.tenant_id, state.object_id);
    let action = if accepted { "terms.accept" } else { "terms.decline" };
    let entry = Entry::new(&actor, action, &actor, origin);
    app.store.write(move |tx| audit::append(tx, &entry, now)).await?;
    Ok(target)
}

/// Checks the blob that comes back as the context item `EnrollmentData`.
///
/// # Errors
/// [`Refusal::EnrollmentDataInvalid`] when it is not ours, not this user's, or too old.
pub(super) async fn check(app: &App, blob: &str, claims: &Claims) -> Result<()> {
    let key = instance_key(app, TERMS_KEY).await?;
    let now = app.now();
    verified(&key, "accepted", blob)
        .filter(|a: &Accepted| a.expires > now && a.tenant_id == claims.tenant_id && a.object_id == claims.object_id)
        .map(|_| ())
        .ok_or(Error::Refused(Refusal::EnrollmentDataInvalid))
}

/// Records a visit that was refused, unless the same was recorded often enough.
async fn record(app: &App, code: &'static str, origin: &str) {
    let now = app.now();
    if !app.strangers.note(origin, code, now) {
        return;
    }
    let entry = Entry::new("anonymous", "terms.refused", "enrollment:new", origin).after(&serde_json::json!({ "code": code }));
    if let Err(error) = app.store.write(move |tx| audit::append(tx, &entry, now)).await {
        tracing::error!(%error, "the audit row of a refused terms-of-use visit was not written");
    }
}

fn is_allowed(uri: &str) -> bool {
    let scheme = uri.get(..12).is_some_and(|scheme| scheme.eq_ignore_ascii_case("ms-appx-web:"));
    scheme && uri.len() <= 1024 && uri.bytes().all(|b| b.is_ascii_graphic() && !b"\"'<>\\`".contains(&b))
}

fn redirect(uri: &str, client_request_id: &str, parameters: &[(&str, &str)]) -> String {
    let (base, fragment) = uri.split_once('#').map_or((uri, None), |(base, fragment)| (base, Some(fragment)));
    let mut out = base.to_owned();
    for (name, value) in parameters.iter().copied().chain([("client-request-id", client_request_id)]) {
        out.push(if out.contains('?') { '&' } else { '?' });
        out.push_str(name);
        out.push('=');
        out.extend(utf8_percent_encode(value, QUERY));
    }
    if let Some(fragment) = fragment {
        out.push('#');
        out.push_str(fragment);
    }
    out
}

fn sign(key: &Secret, purpose: &str, value: &impl Serialize) -> Result<String> {
    let text = URL_SAFE_NO_PAD.encode(serde_json::to_vec(value).map_err(Error::internal)?);
    let mac = hmac_sha256(key.expose(), format!("{purpose}.{text}").as_bytes())?;
    Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac)))
}

fn verified<T: serde::de::DeserializeOwned>(key: &Secret, purpose: &str, signed: &str) -> Option<T> {
    let (text, mac) = signed.split_once('.').filter(|_| signed.len() <= 8192)?;
    let ours = hmac_sha256(key.expose(), format!("{purpose}.{text}").as_bytes()).ok()?;
    same(&URL_SAFE_NO_PAD.decode(mac).ok()?, &ours).then_some(())?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_go_to_app_pages_only() {
        assert!(is_allowed("ms-appx-web://Microsoft.AAD.BrokerPlugin"));
        for uri in
            ["https://x", "javascript:alert(1)", "ms-appx-web", "", "ms-appx-web://x\"onload=", "ms-appx-web://x y", "ms-appx-web:\r\nX: y"]
        {
            assert!(!is_allowed(uri), "{uri}");
        }
    }

    #[test]
    fn parameters_join_what_is_there() {
        assert_eq!(
            redirect("ms-appx-web://a", "i d", &[("IsAccepted", "true")]),
            "ms-appx-web://a?IsAccepted=true&client-request-id=i%20d"
        );
        assert_eq!(redirect("ms-appx-web://a?b=c#d", "1", &[]), "ms-appx-web://a?b=c&client-request-id=1#d");
    }

    #[test]
    fn a_blob_is_good_for_its_purpose_only() {
        let key = Secret::new(vec![7; 32]);
        let signed = sign(&key, "state", &serde_json::json!({ "a": 1 })).unwrap();
        assert!(verified::<serde_json::Value>(&key, "state", &signed).is_some());
        assert!(verified::<serde_json::Value>(&key, "accepted", &signed).is_none());
        assert!(verified::<serde_json::Value>(&Secret::new(vec![8; 32]), "state", &signed).is_none());
    }
}
