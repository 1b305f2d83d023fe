//! The token endpoint (RFC 6749, section 3.2) and that of devices (RFC 8628, section 3.1). Bodies are read whatever media type they claim: some
//! clients claim none. The older form of the protocol has the same paths without `v2.0`.

use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, AUTHORIZATION,
    CACHE_CONTROL, PRAGMA,
};
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::error::OAuthProblem;
use crate::app::App;
use crate::domain::oauth::Failure;
use crate::http::error::Problem;
use crate::http::limits::{Anonymous, Body};
use crate::http::peer::Peer;
use crate::service::identity::oauth::client::{self, Shown};
use crate::service::identity::oauth::redeem::{self, Asker};
use crate::service::identity::oauth::{Error, Result, access_token, client_credentials, device_code, is_tenant};
use crate::wire::form::Form;

/// Largest request.
const LARGEST: usize = 64 * 1024;

/// What was sent to a tenant of ours.
fn read(app: &App, tenant: &str, body: &[u8]) -> Result<Form> {
    let form = Form::parse(body).map_err(|malformed| Error::of(Failure::Malformed, malformed.to_string()))?;
    if is_tenant(app, tenant) { Ok(form) } else { Err(Failure::TenantUnknown.into()) }
}

/// Gives out a token.
///
/// # Errors
/// As the protocol has it, by [`OAuthProblem`].
pub async fn issue(
    app: Data<App>,
    path: Path<(String, String)>,
    request: HttpRequest,
    peer: Peer,
    anonymous: std::result::Result<Anonymous, Problem>,
    body: std::result::Result<Body<LARGEST>, Problem>,
) -> std::result::Result<HttpResponse, OAuthProblem> {
    anonymous?;
    let body = body?;
    let answer = async {
        let form = read(&app, &path.0, &body)?;
        grant(&app, &request, &form, (&peer.address.to_string(), is_old(&path.1))).await
    };
    finish(&app, &request, answer.await)
}

/// Ends what a refresh or access token is of (RFC 7009).
///
/// # Errors
/// As the protocol has it, by [`OAuthProblem`].
pub async fn revoke(
    app: Data<App>,
    path: Path<(String, String)>,
    request: HttpRequest,
    peer: Peer,
    anonymous: std::result::Result<Anonymous, Problem>,
    body: std::result::Result<Body<LARGEST>, Problem>,
) -> std::result::Result<HttpResponse, OAuthProblem> {
    anonymous?;
    let body = body?;
    let answer = async {
        let form = read(&app, &path.0, &body)?;
        let basic = basic(&request)?;
        let (application, proved) = client::authenticate(&app, shown(&form, basic.as_ref())).await?;
        redeem::revoke(&app, Asker { application: &application, proved, origin: &peer.address.to_string() }, &form).await?;
        Ok(Value::Object(serde_json::Map::new()))
    };
    finish(&app, &request, answer.await)
}

/// What a request shows of its client, in its form or by HTTP's Basic scheme.
fn shown<'a>(form: &'a Form, basic: Option<&'a (String, String)>) -> Shown<'a> {
    Shown {
        client_id: basic.map(|(id, _)| id.as_str()).or_else(|| form.get("client_id")),
        secret: basic.map(|(_, secret)| secret.as_str()).or_else(|| form.get("client_secret")),
        assertion_type: form.get("client_assertion_type"),
        assertion: form.get("client_assertion"),
    }
}

fn finish(app: &App, request: &HttpRequest, answer: Result<Value>) -> std::result::Result<HttpResponse, OAuthProblem> {
    match answer {
        // RFC 6749, section 5.1. Programs in a browser call from pages of their own; they show what they have, and the browser adds nothing.
        Ok(value) => Ok(HttpResponse::Ok()
            .insert_header((CACHE_CONTROL, "no-store"))
            .insert_header((PRAGMA, "no-cache"))
            .insert_header((ACCESS_CONTROL_ALLOW_ORIGIN, "*"))
            .json(value)),
        Err(error) => Err(OAuthProblem::new(&error, &correlation_id(request), app.now().to_utc())),
    }
}

/// Whether the path is the older form's.
fn is_old(path: &str) -> bool {
    !path.to_ascii_lowercase().contains("/v2.0/")
}

/// What browsers ask before a page of another origin calls (Fetch, CORS-preflight).
pub async fn allow() -> HttpResponse {
    HttpResponse::NoContent()
        .insert_header((ACCESS_CONTROL_ALLOW_ORIGIN, "*"))
        .insert_header((ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"))
        .insert_header((ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, client-request-id, x-client-sku, x-client-ver"))
        .insert_header((ACCESS_CONTROL_MAX_AGE, "86400"))
        .finish()
}

/// Gives out the codes of the device authorization grant.
///
/// # Errors
/// As the protocol has it, by [`OAuthProblem`].
pub async fn begin_device(
    app: Data<App>,
    path: Path<(String, String)>,
    request: HttpRequest,
    peer: Peer,
    anonymous: std::result::Result<Anonymous, Problem>,
    body: std::result::Result<Body<LARGEST>, Problem>,
) -> std::result::Result<HttpResponse, OAuthProblem> {
    anonymous?;
    let body = body?;
    let answer = async {
        let form = read(&app, &path.0, &body)?;
        let (application, _) = client::authenticate(&app, Shown { client_id: form.get("client_id"), ..Shown::default() }).await?;
        device_code::begin(&app, &application, &form, &peer.address.to_string(), is_old(&path.1)).await
    };
    finish(&app, &request, answer.await)
}

/// How the client names the request: a UUID, or nothing that we repeat.
pub(in crate::http) fn correlation_id(request: &HttpRequest) -> String {
    let header = request.headers().get("client-request-id").and_then(|value| value.to_str().ok());
    header.and_then(|text| uuid::Uuid::try_parse(text).ok()).map(|id| id.to_string()).unwrap_or_default()
}

async fn grant(app: &App, request: &HttpRequest, form: &Form, (origin, old): (&str, bool)) -> Result<Value> {
    let kind = form.get("grant_type").ok_or_else(|| Error::of(Failure::ParameterMissing, "grant_type"))?;
    let basic = basic(request)?;
    let shown = shown(form, basic.as_ref());
    if !["authorization_code", "client_credentials", "device_code", "refresh_token", device_code::GRANT_TYPE].contains(&kind) {
        return Err(Failure::GrantUnsupported.into());
    }
    let (application, proved) = client::authenticate(app, shown).await?;
    let asker = Asker { application: &application, proved, origin };
    let mut answer = match kind {
        "authorization_code" => redeem::code(app, asker, form).await?,
        "client_credentials" => {
            let of_resource = form.get("resource").map(|resource| format!("{resource}/.default"));
            let scope = form.get("scope").or(of_resource.as_deref());
            let issued = client_credentials::grant(app, (&application, proved), scope, form.get("claims")).await?;
            access_token::answer(&issued)
        }
        "refresh_token" => redeem::refresh(app, asker, form).await?,
        _ => device_code::poll(app, asker, form).await?,
    };
    if old {
        add_old(app, form, &mut answer);
    }
    Ok(answer)
}

/// What answers of the older form have beside: moments in seconds since 1970, and the resource; all numbers are texts.
fn add_old(app: &App, form: &Form, answer: &mut Value) {
    let now = app.now().seconds();
    let resource = form.get("resource").map_or_else(|| app.config.web_url(), str::to_owned);
    if let Some(fields) = answer.as_object_mut() {
        let seconds = fields.get("expires_in").and_then(Value::as_i64).unwrap_or_default();
        fields.insert("expires_in".into(), seconds.to_string().into());
        fields.insert("ext_expires_in".into(), seconds.to_string().into());
        fields.insert("expires_on".into(), (now + seconds).to_string().into());
        fields.insert("not_before".into(), now.to_string().into());
        fields.insert("resource".into(), resource.into());
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
