//! Provisioning by identity providers (SCIM 2.0, RFC 7644) below `/scim/v2`: they keep users and groups as they are on their side.

mod discovery;
mod error;
mod groups;
pub mod route;
mod search;
mod users;

use actix_web::http::Method;
use actix_web::http::header::{AUTHORIZATION, CACHE_CONTROL};
use actix_web::web::{Data, Path, Payload, ServiceConfig, resource};
use actix_web::{HttpRequest, HttpResponse};
use percent_encoding::percent_decode_str;

use self::error::{Result, ScimProblem};
use self::route::{Answer, Request};
use super::error::Problem;
use super::peer::Peer;
use super::table;
use crate::app::App;
use crate::domain::access::Caller;
use crate::service::application;
use crate::service::identity::oauth::access_token::{self, Denied, Verdict};
use crate::wire::scim::MEDIA_TYPE;

/// Where it is: what identity providers call the tenant's URL.
pub const ROOT: &str = "/scim/v2";

/// Largest body: about 40,000 members.
const LARGEST: usize = 4 * 1024 * 1024;
/// How many segments an address has at most.
const MOST_SEGMENTS: usize = 8;

/// Everything below the root.
pub fn routes(all: &mut ServiceConfig) {
    all.service(resource(r"/{root:(?i:scim/v2)}").route(actix_web::web::route().to(answer_root)))
        .service(resource(r"/{root:(?i:scim/v2)}/{path:.*}").route(actix_web::web::route().to(answer)));
}

async fn answer_root(app: Data<App>, request: HttpRequest, peer: std::result::Result<Peer, Problem>, payload: Payload) -> HttpResponse {
    reply(&app, "", &request, peer, payload).await
}

async fn answer(
    app: Data<App>,
    path: Path<(String, String)>,
    request: HttpRequest,
    peer: std::result::Result<Peer, Problem>,
    payload: Payload,
) -> HttpResponse {
    reply(&app, &path.1, &request, peer, payload).await
}

/// Answers a call, whatever comes of it in the form that clients of SCIM read.
async fn reply(app: &App, path: &str, request: &HttpRequest, peer: std::result::Result<Peer, Problem>, payload: Payload) -> HttpResponse {
    let work = call(app, path, request, peer, payload);
    let answer = table::caught(work).await.unwrap_or_else(ScimProblem::answer);
    let mut response = HttpResponse::build(answer.status);
    response.insert_header((CACHE_CONTROL, "no-store"));
    for header in answer.headers {
        response.insert_header(header);
    }
    match answer.body {
        None => response.finish(),
        Some(body) => response.content_type(MEDIA_TYPE).body(body.to_string()),
    }
}

async fn call(app: &App, path: &str, request: &HttpRequest, peer: std::result::Result<Peer, Problem>, payload: Payload) -> Result<Answer> {
    let (caller, origin, body) = table::open::<LARGEST, _>(request, peer, payload, caller(app, request)).await?;
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let call = Request {
        method: if request.method() == Method::HEAD { Method::GET } else { request.method().clone() },
        segments: segments(path)?,
        query: request.query_string().to_owned(),
        if_match: header("if-match"),
        if_none_match: header("if-none-match"),
        body,
    };
    route::dispatch(app, &caller, &origin, &call).await
}

fn segments(path: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let decoded = percent_decode_str(part).decode_utf8().map_err(|_| ScimProblem::not_found())?;
        found.push(decoded.into_owned());
        if found.len() > MOST_SEGMENTS {
            return Err(ScimProblem::not_found());
        }
    }
    Ok(found)
}

/// Who shows the token of the request: one that was made for provisioning, or an access token.
async fn caller(app: &App, request: &HttpRequest) -> Result<Caller> {
    let Some(header) = request.headers().get(AUTHORIZATION) else {
        return Err(ScimProblem::unauthorized("The request has no Authorization header.", ""));
    };
    let invalid = |text: &'static str| ScimProblem::unauthorized(text, ", error=\"invalid_token\"");
    let token = header.to_str().ok().and_then(|text| text.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let Some((_, token)) = token else { return Err(invalid("The Authorization header is not \"Bearer\" and a token.")) };
    let token = token.trim();
    if token.starts_with(application::SCIM_TOKEN) {
        let found = application::find_by_scim_token(app, token).await?;
        return found.ok_or_else(|| invalid("The token is none of this server's, has expired, or was taken back."));
    }
    match access_token::verify(app, token).await? {
        Verdict::Good(caller) => Ok(caller),
        Verdict::Denied(Denied::Invalid, _) => Err(invalid("The token is none of this server's.")),
        Verdict::Denied(Denied::Expired, _) => Err(invalid("The access token has expired.")),
        Verdict::Denied(Denied::Revoked, _) => Err(invalid("What the access token stands for was taken back.")),
    }
}
