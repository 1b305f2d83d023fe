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
use crate::service::apple::enroll::{self, over_the_air};
use crate::wire::apple::PROFILE;

/// Largest form.
pub(super) const LARGEST_FORM: usize = 16 * 1024;
/// Largest description that a device gives of itself.
const LARGEST_MESSAGE: usize = 64 * 1024;

/// Whom the page is for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Visit {
    username: String,
}

impl Visit {
    /// The user name to begin with.
    pub(super) fn hint(&self) -> String {
        self.username.chars().take(256).collect()
    }
}

#[derive(Deserialize)]
struct SignIn {
    user_name: String,
    pass: String,
}

/// What is special about a sign-in page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking<'a> {
    /// Where its form goes.
    pub(super) action: &'a str,
    /// What comes back with the form about the device.
    pub(super) device: &'a str,
    /// What has the form sent somewhere else, too: a scheme.
    pub(super) forms_to: &'static str,
}

/// The page for those who install the profile by hand.
const BY_HAND: Asking<'_> = Asking { action: enroll::ENROLL_PATH, device: "", forms_to: "" };

/// The page for those whose devices prove what they are.
const OVER_THE_AIR: Asking<'_> = Asking { action: over_the_air::PAGE_PATH, device: "", forms_to: "" };

#[derive(Template)]
#[template(path = "apple_enroll.html")]
struct EnrollPage<'a> {
    nonce: &'a str,
    organisation: &'a str,
    action: &'a str,
    device: &'a str,
    by_hand: bool,
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
    ask(&app, BY_HAND, StatusCode::OK, &query.hint(), "")
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
        Err(error) => ask_again(&app, BY_HAND, &form.user_name, error),
    }
}

/// The sign-in page once more, when the sign-in failed.
pub(super) fn ask_again(app: &App, asking: Asking<'_>, user_name: &str, error: Error) -> Result<HttpResponse, Problem> {
    match error {
        Error::Refused(refusal @ Refusal::SignInFailed) => {
            let text = format!(
                "That did not work. Check your user name and pass. A pass expires, and most work only once: ask for a new one ({}).",
                refusal.code()
            );
            ask(app, asking, StatusCode::FORBIDDEN, user_name, &text)
        }
        Error::Throttled(seconds) => {
            let text = format!("Too many attempts. Wait about {} min and try again.", seconds.div_ceil(60));
            ask(app, asking, StatusCode::TOO_MANY_REQUESTS, user_name, &text)
        }
        other => Err(other.into()),
    }
}

/// The page where a person signs in to enrol over the air.
pub async fn show_over_the_air(app: Data<App>, query: Query<Visit>, _: Anonymous) -> Result<HttpResponse, Problem> {
    ask(&app, OVER_THE_AIR, StatusCode::OK, &query.hint(), "")
}

/// Signs in there: the answer is the document that has the device describe itself.
pub async fn sign_in_over_the_air(app: Data<App>, peer: Peer, body: Body<LARGEST_FORM>, _: Anonymous) -> Result<HttpResponse, Problem> {
    let form: SignIn = form(&body)?;
    match over_the_air::sign_in(&app, &form.user_name, &form.pass, peer.address).await {
        Ok(document) => Ok(download(document)),
        Err(error) => ask_again(&app, OVER_THE_AIR, &form.user_name, error),
    }
}

/// What a one-time link to enrol over the air is good for; it is used up once the device has described itself.
pub async fn use_link_over_the_air(app: Data<App>, token: Path<String>, _: Anonymous) -> Result<HttpResponse, Problem> {
    match over_the_air::invite(&app, token.as_bytes()).await {
        Ok(document) => Ok(download(document)),
        Err(error) => spent(&app, error),
    }
}

/// A device describes itself, or shows itself with the identity that it got for that.
pub async fn answer(app: Data<App>, peer: Peer, body: Body<LARGEST_MESSAGE>, _: Anonymous) -> Result<HttpResponse, Problem> {
    Ok(download(over_the_air::answer(&app, &body, &peer.origin()).await?))
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

/// The sign-in page.
pub(super) fn ask(app: &App, asking: Asking<'_>, status: StatusCode, user_name: &str, error: &str) -> Result<HttpResponse, Problem> {
    let (organisation, by_hand) =
        (app.config.organisation.as_str(), [enroll::ENROLL_PATH, over_the_air::PAGE_PATH].contains(&asking.action));
    let Asking { action, device, forms_to } = asking;
    let page = Page::new()?.forms_to(forms_to);
    page.show_as(status, |nonce| EnrollPage { nonce, organisation, action, device, by_hand, user_name, error })
}

fn link(app: &App, status: StatusCode, user_name: &str, error: &str) -> Result<HttpResponse, Problem> {
    let organisation = app.config.organisation.as_str();
    Page::new()?.show_as(status, |nonce| LinkPage { nonce, organisation, user_name, error })
}

/// A profile to be installed.
pub(super) fn download(profile: Vec<u8>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(PROFILE)
        .insert_header((CONTENT_DISPOSITION, "attachment; filename=\"management.mobileconfig\""))
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(profile)
}

/// A first guess, until the device says what it is.
pub(super) fn platform(request: &HttpRequest) -> Platform {
    let agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if agent.contains("iPhone") || agent.contains("iPad") { Platform::Ios } else { Platform::MacOs }
}
