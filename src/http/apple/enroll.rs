//! The pages that give out enrolment profiles: a sign-in, and one-time links.

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, USER_AGENT};
use actix_web::web::{Data, Path, Query};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use serde::Deserialize;

use crate::app::App;
use crate::domain::Refusal;
use crate::domain::device::Platform;
use crate::http::error::Problem;
use crate::http::limits::{Anonymous, Body};
use crate::http::page::{Page, form};
use crate::http::peer::Peer;
use crate::service::Error;
use crate::service::apple::enroll;
use crate::wire::apple::PROFILE;

/// Largest form.
const LARGEST_FORM: usize = 16 * 1024;

/// Whom the page is for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Visit {
    username: String,
}

#[derive(Deserialize)]
struct SignIn {
    user_name: String,
    pass: String,
}

#[derive(Template)]
#[template(path = "apple_enroll.html")]
struct EnrollPage<'a> {
    nonce: &'a str,
    organisation: &'a str,
    user_name: &'a str,
    error: &'a str,
}

#[derive(Template)]
#[template(path = "apple_link.html")]
struct LinkPage<'a> {
    nonce: &'a str,
    organisation: &'a str,
    user_name: &'a str,
    error: &'a str,
}

/// The sign-in page.
pub async fn show(app: Data<App>, query: Query<Visit>, _: Anonymous) -> Result<HttpResponse, Problem> {
    let hint: String = query.username.chars().take(256).collect();
    ask(&app, StatusCode::OK, &hint, "")
}

/// Signs in: the answer is the profile.
pub async fn sign_in(
    app: Data<App>,
    peer: Peer,
    request: HttpRequest,
    body: Body<LARGEST_FORM>,
    _: Anonymous,
) -> Result<HttpResponse, Problem> {
    let form: SignIn = form(&body)?;
    match enroll::sign_in(&app, &form.user_name, &form.pass, platform(&request), peer.address).await {
        Ok(profile) => Ok(download(profile)),
        Err(Error::Refused(Refusal::SignInFailed)) => {
            let text = "That did not work. Check your user name and pass. A pass expires, and most work only once: ask for a new one.";
            ask(&app, StatusCode::FORBIDDEN, &form.user_name, text)
        }
        Err(Error::Throttled(seconds)) => {
            let text = format!("Too many attempts. Wait about {} min and try again.", seconds.div_ceil(60));
            ask(&app, StatusCode::TOO_MANY_REQUESTS, &form.user_name, &text)
        }
        Err(other) => Err(other.into()),
    }
}

/// What a one-time link opens. Looking at it does not use it up: programs that preview links look, too.
pub async fn show_link(app: Data<App>, token: Path<String>, _: Anonymous) -> Result<HttpResponse, Problem> {
    match enroll::check_link(&app, token.as_bytes()).await {
        Ok(user) => link(&app, StatusCode::OK, &user.upn, ""),
        Err(error) => spent(&app, error),
    }
}

/// Uses a one-time link: the answer is the profile.
pub async fn use_link(app: Data<App>, peer: Peer, token: Path<String>, _: Anonymous) -> Result<HttpResponse, Problem> {
    match enroll::redeem(&app, token.as_bytes(), &peer.origin()).await {
        Ok(profile) => Ok(download(profile)),
        Err(error) => spent(&app, error),
    }
}

fn spent(app: &App, error: Error) -> Result<HttpResponse, Problem> {
    match error {
        Error::Refused(Refusal::TokenInvalid | Refusal::AccountDisabled) => {
            link(app, StatusCode::GONE, "", "This link was used or is too old. Ask your administrator for a new one.")
        }
        other => Err(other.into()),
    }
}

fn ask(app: &App, status: StatusCode, user_name: &str, error: &str) -> Result<HttpResponse, Problem> {
    let organisation = app.config.organisation.as_str();
    Page::new()?.show_as(status, |nonce| EnrollPage { nonce, organisation, user_name, error })
}

fn link(app: &App, status: StatusCode, user_name: &str, error: &str) -> Result<HttpResponse, Problem> {
    let organisation = app.config.organisation.as_str();
    Page::new()?.show_as(status, |nonce| LinkPage { nonce, organisation, user_name, error })
}

fn download(profile: Vec<u8>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(PROFILE)
        .insert_header((CONTENT_DISPOSITION, "attachment; filename=\"management.mobileconfig\""))
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(profile)
}

/// A first guess, until the device says what it is.
fn platform(request: &HttpRequest) -> Platform {
    let agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if agent.contains("iPhone") || agent.contains("iPad") { Platform::Ios } else { Platform::MacOs }
}
