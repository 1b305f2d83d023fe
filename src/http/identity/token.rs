//! The token endpoint (RFC 6749, section 3.2). Bodies are read whatever media type they claim: some clients claim none.

use actix_web::http::header::{AUTHORIZATION, CACHE_CONTROL, PRAGMA};
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;

use super::error::OAuthProblem;
use crate::app::App;
use crate::domain::oauth::Failure;
use crate::http::error::Problem;
use crate::http::limits::{Anonymous, Body};
use crate::service::identity::oauth::client::{self, Shown};
use crate::service::identity::oauth::{Error, Result, access_token, client_credentials, is_tenant};
use crate::wire::form::Form;

/// Largest request.
const LARGEST: usize = 64 * 1024;

/// Gives out a token.
///
/// # Errors
/// As the protocol has it, by [`OAuthProblem`].
pub async fn issue(
    app: Data<App>,
    path: Path<(String, String)>,
    request: HttpRequest,
    anonymous: std::result::Result<Anonymous, Problem>,
    body: std::result::Result<Body<LARGEST>, Problem>,
) -> std::result::Result<HttpResponse, OAuthProblem> {
    anonymous?;
    let body = body?;
    let form = Form::parse(&body).map_err(|malformed| Error::of(Failure::Malformed, malformed.to_string()));
    let answer = async {
        let form = form?;
        if !is_tenant(&app, &path.0) {
            return Err(Failure::TenantUnknown.into());
        }
        grant(&app, &request, &form).await
    };
    match answer.await {
        Ok(value) => {
            // RFC 6749, section 5.1.
            Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).insert_header((PRAGMA, "no-cache")).json(value))
        }
        Err(error) => Err(OAuthProblem::new(&error, &correlation_id(&request), app.now().to_utc())),
    }
}

/// How the client names the request: a UUID, or nothing that we repeat.
pub(in crate::http) fn correlation_id(request: &HttpRequest) -> String {
    let header = request.headers().get("client-request-id").and_then(|value| value.to_str().ok());
    header.and_then(|text| uuid::Uuid::try_parse(text).ok()).map(|id| id.to_string()).unwrap_or_default()
}

async fn grant(app: &App, request: &HttpRequest, form: &Form) -> Result<serde_json::Value> {
    let kind = form.get("grant_type").ok_or_else(|| Error::of(Failure::ParameterMissing, "grant_type"))?;
    let basic = basic(request)?;
    let shown = Shown {
        client_id: basic.as_ref().map(|(id, _)| id.as_str()).or_else(|| form.get("client_id")),
        secret: basic.as_ref().map(|(_, secret)| secret.as_str()).or_else(|| form.get("client_secret")),
        assertion_type: form.get("client_assertion_type"),
        assertion: form.get("client_assertion"),
    };
    match kind {
        "client_credentials" => {
            let (application, proved) = client::authenticate(app, shown).await?;
            let issued = client_credentials::grant(app, (&application, proved), form.get("scope"), form.get("claims")).await?;
            Ok(access_token::answer(&issued))
        }
        _ => Err(Failure::GrantUnsupported.into()),
    }
}

/// Client id and secret in HTTP's Basic scheme, each form-encoded (RFC 6749, section 2.3.1).
fn basic(request: &HttpRequest) -> Result<Option<(String, String)>> {
    let wrong = || Error::of(Failure::Malformed, "Authorization");
    let Some(header) = request.headers().get(AUTHORIZATION) else { return Ok(None) };
    let text = header.to_str().map_err(|_| wrong())?;
    let Some((scheme, rest)) = text.split_once(' ') else { return Err(wrong()) };
    if !scheme.eq_ignore_ascii_case("basic") {
        return Ok(None);
    }
    let decoded = String::from_utf8(STANDARD.decode(rest.trim()).map_err(|_| wrong())?).map_err(|_| wrong())?;
    let (id, secret) = decoded.split_once(':').ok_or_else(wrong)?;
    let plain = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8().map(|text| text.into_owned()).map_err(|_| wrong());
    Ok(Some((plain(id)?, plain(secret)?)))
}
