//! What Setup Assistant asks for: the profile of a device, and the pages where a person signs in first.

use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, CACHE_CONTROL, HeaderValue, LOCATION};
use actix_web::web::{Data, Query};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;

use super::enroll::{Asking, LARGEST_FORM, Visit, ask, ask_again, download};
use crate::app::App;
use crate::http::error::Problem;
use crate::http::limits::{Anonymous, Body};
use crate::http::page::form;
use crate::http::peer::Peer;
use crate::service::apple::enroll::automated::{self, Answer, Setup};
use crate::wire::apple::enroll::Stop;

/// Where a device asks for its profile.
pub const DEVICE: &str = automated::DEVICE_PATH;
/// The page that Setup Assistant shows.
pub const SETUP: &str = automated::SETUP_PATH;
/// The page where a person signs in before Platform SSO is set up.
pub const SIGN_IN: &str = automated::SIGN_IN_PATH;
/// Largest description that a device gives of itself.
pub(super) const LARGEST: usize = 64 * 1024;
/// The header with that description, and its longest value.
const DEVICE_INFO: (&str, usize) = ("x-apple-aspen-deviceinfo", 32 * 1024);
/// The scheme by which a device takes a sign-in back.
pub(super) const LOGIN: &str = "apple-remotemanagement-user-login:";
/// Where a Mac signs in before it sets Platform SSO up.
const MAC: Asking<'_> = Asking { action: SIGN_IN, device: "", forms_to: LOGIN };

#[derive(Deserialize)]
struct SignIn {
    user_name: String,
    pass: String,
    #[serde(default)]
    device: String,
}

/// A device asks for its profile.
pub async fn enroll(app: Data<App>, peer: Peer, request: HttpRequest, body: Body<LARGEST>, _: Anonymous) -> Result<HttpResponse, Problem> {
    let token = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    match automated::enroll(&app, &body, token, &peer.origin()).await? {
        Answer::Profile(profile) => Ok(download(profile)),
        Answer::First(first) => Ok(stop(&app, &first)),
    }
}

/// The page that Setup Assistant shows.
pub async fn show_setup(app: Data<App>, peer: Peer, request: HttpRequest, _: Anonymous) -> Result<HttpResponse, Problem> {
    let header = request.headers().get(DEVICE_INFO.0).map(HeaderValue::as_bytes);
    if header.is_some_and(|value| value.len() > DEVICE_INFO.1) {
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the description of the device is too long"));
    }
    match automated::open_setup(&app, header, &peer.origin()).await? {
        Setup::Page(device) => ask(&app, Asking { action: SETUP, device: &device, forms_to: "" }, StatusCode::OK, "", ""),
        Setup::First(first) => Ok(stop(&app, &first)),
    }
}

/// Signs in on that page: the answer is the profile, which ends the page.
pub async fn sign_in(app: Data<App>, peer: Peer, body: Body<LARGEST_FORM>, _: Anonymous) -> Result<HttpResponse, Problem> {
    let form: SignIn = form(&body)?;
    match automated::sign_in(&app, &form.device, &form.user_name, &form.pass, peer.address).await {
        Ok(profile) => Ok(download(profile)),
        Err(error) => ask_again(&app, Asking { action: SETUP, device: &form.device, forms_to: "" }, &form.user_name, error),
    }
}

/// The page where a person signs in before Platform SSO is set up.
pub async fn show_sign_in(app: Data<App>, query: Query<Visit>, _: Anonymous) -> Result<HttpResponse, Problem> {
    ask(&app, MAC, StatusCode::OK, &query.hint(), "")
}

/// Signs in there: the Mac takes the token out of the address that the answer leads to.
pub async fn authenticate(app: Data<App>, peer: Peer, body: Body<LARGEST_FORM>, _: Anonymous) -> Result<HttpResponse, Problem> {
    let form: SignIn = form(&body)?;
    match automated::authenticate(&app, &form.user_name, &form.pass, peer.address).await {
        Ok(location) => {
            let mut answer = HttpResponse::PermanentRedirect();
            Ok(answer.insert_header((LOCATION, location)).insert_header((CACHE_CONTROL, "no-store")).finish())
        }
        Err(error) => ask_again(&app, MAC, &form.user_name, error),
    }
}

/// What the device has to do before it enrols.
fn stop(app: &App, first: &Stop) -> HttpResponse {
    let message = match first {
        Stop::SoftwareUpdateRequired { .. } => {
            format!("{} asks for a newer version before it manages this device.", app.config.organisation)
        }
        _ => format!("{} asks you to sign in before it manages this device.", app.config.organisation),
    };
    HttpResponse::Forbidden().insert_header((CACHE_CONTROL, "no-store")).json(first.body(&message))
}
