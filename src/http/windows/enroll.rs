//! Windows enrolment: discovery, policy and token services, the terms-of-use page, and the page that explains how to enrol a PC.

use actix_web::http::header::{AUTHORIZATION, LOCATION};
use actix_web::web::{Data, Query};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use serde::Deserialize;

use crate::app::App;
use crate::http::error::{Problem, trace_id};
use crate::http::limits::{Anonymous, Body};
use crate::http::page::Page;
use crate::http::peer::Peer;
use crate::service::windows::enroll::{self, Caller, DISCOVERY_PATH, LARGEST_REQUEST};
use crate::service::windows::terms::{self, Answer, Visit};
use crate::wire::mde::soap::Operation;

/// A body of the enrolment services.
type Envelope = Body<LARGEST_REQUEST>;
/// Largest form.
const LARGEST_FORM: usize = 16 * 1024;

/// The probe before discovery: 200 with nothing in it.
pub async fn probe() -> HttpResponse {
    HttpResponse::Ok().content_type("text/html").body("")
}

/// Discovery.
pub async fn discover(app: Data<App>, peer: Peer, body: Envelope, _: Anonymous) -> HttpResponse {
    soap(&app, Operation::Discover, &peer, &body).await
}

/// Policy.
pub async fn get_policies(app: Data<App>, peer: Peer, body: Envelope, _: Anonymous) -> HttpResponse {
    soap(&app, Operation::GetPolicies, &peer, &body).await
}

/// Request token: enrolment and renewal.
pub async fn request_token(app: Data<App>, peer: Peer, body: Envelope, _: Anonymous) -> HttpResponse {
    soap(&app, Operation::RequestToken, &peer, &body).await
}

/// Every answer is one message with its length, and faults travel with status 200.
async fn soap(app: &App, operation: Operation, peer: &Peer, body: &[u8]) -> HttpResponse {
    let caller = Caller {
        address: peer.address,
        certificate: peer.certificate.as_ref().map(|certificate| certificate.der.clone()),
        signs: peer.certificate.is_none() && peer.via_proxy && app.config.windows.sign_messages,
        trace_id: trace_id(),
    };
    let answer = enroll::answer(app, operation, body, &caller).await;
    HttpResponse::Ok().content_type("application/soap+xml; charset=utf-8").body(answer)
}

/// What Windows opens the terms-of-use page with.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct TermsQuery {
    redirect_uri: String,
    #[serde(rename = "client-request-id")]
    client_request_id: String,
    #[serde(rename = "api-version")]
    api_version: String,
    mode: String,
}

#[derive(Template)]
#[template(path = "windows_terms.html")]
struct TermsPage<'a> {
    nonce: &'a str,
    organisation: &'a str,
    state: &'a str,
    may_decline: bool,
}

/// The terms-of-use page.
pub async fn show_terms(
    app: Data<App>,
    peer: Peer,
    request: HttpRequest,
    query: Query<TermsQuery>,
    _: Anonymous,
) -> Result<HttpResponse, Problem> {
    let query = query.into_inner();
    let bearer = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = bearer.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let visit = Visit {
        redirect_uri: query.redirect_uri,
        client_request_id: query.client_request_id,
        api_version: query.api_version,
        mode: query.mode,
        token: token.map(|(_, token)| token.trim().to_owned()).unwrap_or_default(),
    };
    match terms::open(&app, &visit, &peer.origin()).await.map_err(bad_request)? {
        Answer::Redirect(target) => Ok(redirect(&target)),
        Answer::Page { state, may_decline } => Page::new()?.forms_to("ms-appx-web:").show(|nonce| TermsPage {
            nonce,
            organisation: &app.config.organisation,
            state: &state,
            may_decline,
        }),
    }
}

#[derive(Deserialize)]
struct Decision {
    state: String,
    decision: String,
}

/// The decision.
pub async fn decide_terms(app: Data<App>, peer: Peer, body: Body<LARGEST_FORM>, _: Anonymous) -> Result<HttpResponse, Problem> {
    let form: Decision = crate::http::page::form(&body)?;
    let target = terms::decide(&app, &form.state, form.decision == "accept", &peer.origin()).await.map_err(bad_request)?;
    Ok(redirect(&target))
}

fn redirect(target: &str) -> HttpResponse {
    HttpResponse::Found().insert_header((LOCATION, target)).finish()
}

/// A refusal of what the query says is the caller's mistake, not a lack of rights.
fn bad_request(error: crate::service::Error) -> Problem {
    match error {
        crate::service::Error::Refused(refusal) => Problem::new(actix_web::http::StatusCode::BAD_REQUEST, refusal.code(), refusal.text()),
        other => other.into(),
    }
}

/// Whom the page is for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct GuideQuery {
    username: String,
}

#[derive(Template)]
#[template(path = "windows_enroll.html")]
struct GuidePage<'a> {
    nonce: &'a str,
    organisation: &'a str,
    discovery_url: &'a str,
    deep_link: &'a str,
    username: &'a str,
}

/// How to enrol a PC.
pub async fn show_guide(app: Data<App>, query: Query<GuideQuery>, _: Anonymous) -> Result<HttpResponse, Problem> {
    let username: String = query.username.chars().take(256).collect();
    let discovery_url = format!("{}{DISCOVERY_PATH}", app.config.web_url());
    let deep_link = enroll::deep_link(&app.config, &username);
    Page::new()?.show(|nonce| GuidePage {
        nonce,
        organisation: &app.config.organisation,
        discovery_url: &discovery_url,
        deep_link: &deep_link,
        username: &username,
    })
}
