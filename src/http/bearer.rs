//! Who calls an API, by the access token.

use actix_web::HttpRequest;
use actix_web::http::header::AUTHORIZATION;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::app::App;
use crate::domain::access::Caller;
use crate::service;
use crate::service::identity::oauth::access_token::{self, Denied, Verdict};

/// Why nobody is recognised.
pub(super) enum Unknown {
    /// The token is missing or not good.
    Denied {
        /// What is wrong.
        text: &'static str,
        /// The header that says how to get a token (RFC 6750, section 3).
        challenge: String,
    },
    /// Something failed.
    Failed(service::Error),
}

/// Who shows the token of the request's `Authorization` header.
///
/// # Errors
/// [`Unknown`].
pub(super) async fn caller(app: &App, request: &HttpRequest) -> Result<Caller, Unknown> {
    let challenge = |more: &str| format!("Bearer realm=\"\", authorization_uri=\"{}/common/oauth2/authorize\"{more}", app.config.web_url());
    let Some(header) = request.headers().get(AUTHORIZATION) else {
        let text = "The request has no Authorization header. A client library sends it only to hosts that it was told to trust: \
                    allowed_hosts in Python, customHosts in JavaScript.";
        return Err(Unknown::Denied { text, challenge: challenge("") });
    };
    let invalid = |text: &'static str| Unknown::Denied { text, challenge: challenge(", error=\"invalid_token\"") };
    let token = header.to_str().ok().and_then(|text| text.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let Some((_, token)) = token else { return Err(invalid("The Authorization header is not \"Bearer\" and a token.")) };
    match access_token::verify(app, token.trim()).await.map_err(Unknown::Failed)? {
        Verdict::Good(caller) => Ok(caller),
        Verdict::Denied(Denied::Invalid, _) => Err(invalid("The access token is none of this server's for this API.")),
        Verdict::Denied(Denied::Expired, _) => Err(invalid("The access token has expired.")),
        // A client that said it knows how gets another token with what is asked here (continuous access evaluation).
        Verdict::Denied(Denied::Revoked, true) => {
            let claims = json!({ "access_token": { "nbf": { "essential": true, "value": app.now().seconds().to_string() } } });
            let encoded = STANDARD.encode(claims.to_string());
            let more = format!(", error=\"insufficient_claims\", claims=\"{encoded}\"");
            Err(Unknown::Denied { text: REVOKED, challenge: challenge(&more) })
        }
        Verdict::Denied(Denied::Revoked, false) => Err(invalid(REVOKED)),
    }
}

const REVOKED: &str = "What the access token stands for was taken back; get another one.";
