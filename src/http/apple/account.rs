//! Enrolment by account: where to enrol, the profile, and the page where a person signs in first.

use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, CACHE_CONTROL, LOCATION, WWW_AUTHENTICATE};
use actix_web::web::{Data, Query};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;

use super::automated::{LARGEST, LOGIN};
use super::enroll::{Asking, LARGEST_FORM, ask, ask_again, download, platform};
use crate::app::App;
use crate::http::error::Problem;
use crate::http::limits::{Anonymous, Body};
use crate::http::page::form;
use crate::http::peer::Peer;
use crate::service::apple::enroll::account::{self, Answer};
use crate::wire::apple::enroll::{Mode, Stop};

/// What a device asks before it knows where to enrol.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Question {
    user_identifier: Option<String>,
    model_family: Option<String>,
}

/// Who is to sign in.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Visit {
    user_identifier: String,
}

#[derive(Deserialize)]
struct SignIn {
    user_name: String,
    pass: String,
}

/// Where the accounts of a domain enrol.
pub async fn discover(app: Data<App>, request: HttpRequest, _: Anonymous) -> HttpResponse {
    let question = Query::<Question>::from_query(request.query_string()).map(Query::into_inner).ok();
    let found = question.and_then(|q| account::discover(&app, q.user_identifier.as_deref(), q.model_family.as_deref()));
    match found {
        Some(document) => HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(document),
        None => {
            let message = format!("{} does not manage devices of this account or kind.", app.config.organisation);
            HttpResponse::Forbidden().insert_header((CACHE_CONTROL, "no-store")).json(Stop::DiscoveryFailed.body(&message))
        }
    }
}

/// A user's own device asks for its profile.
pub async fn enroll_user(
    app: Data<App>,
    peer: Peer,
    request: HttpRequest,
    body: Body<LARGEST>,
    _: Anonymous,
) -> Result<HttpResponse, Problem> {
    enroll(&app, Mode::User, &peer, &request, &body).await
}

/// A device of the organisation asks for its profile.
pub async fn enroll_device(
    app: Data<App>,
    peer: Peer,
    request: HttpRequest,
    body: Body<LARGEST>,
    _: Anonymous,
) -> Result<HttpResponse, Problem> {
    enroll(&app, Mode::Device, &peer, &request, &body).await
}

async fn enroll(app: &App, mode: Mode, peer: &Peer, request: &HttpRequest, body: &[u8]) -> Result<HttpResponse, Problem> {
    let bearer = request.headers().get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    match account::enroll(app, mode, body, bearer, &peer.origin()).await? {
        Answer::Profile(profile) => Ok(download(profile)),
        // The only 401 of this server that an Apple device may get: it is not managed yet, and without the header it would give up.
        Answer::SignIn(value) => {
            let mut answer = HttpResponse::Unauthorized();
            Ok(answer.insert_header((WWW_AUTHENTICATE, value)).insert_header((CACHE_CONTROL, "no-store")).finish())
        }
    }
}

/// What is special about the page of a mode.
fn page(mode: Mode) -> Asking<'static> {
    Asking { action: account::sign_in_path(mode), device: "", forms_to: LOGIN }
}

/// The page for the user of an own device.
pub async fn show_user(app: Data<App>, request: HttpRequest, _: Anonymous) -> Result<HttpResponse, Problem> {
    show(&app, Mode::User, &request)
}

/// The page for the user of a device of the organisation.
pub async fn show_device(app: Data<App>, request: HttpRequest, _: Anonymous) -> Result<HttpResponse, Problem> {
    show(&app, Mode::Device, &request)
}

fn show(app: &App, mode: Mode, request: &HttpRequest) -> Result<HttpResponse, Problem> {
    let visit = Query::<Visit>::from_query(request.query_string()).map(Query::into_inner).unwrap_or_default();
    ask(app, page(mode), StatusCode::OK, &account::hint(app, &visit.user_identifier), "")
}

/// Signs the user of an own device in.
pub async fn sign_in_user(
    app: Data<App>,
    peer: Peer,
    request: HttpRequest,
    body: Body<LARGEST_FORM>,
    _: Anonymous,
) -> Result<HttpResponse, Problem> {
    sign_in(&app, Mode::User, &peer, &request, &body).await
}

/// Signs the user of a device of the organisation in.
pub async fn sign_in_device(
    app: Data<App>,
    peer: Peer,
    request: HttpRequest,
    body: Body<LARGEST_FORM>,
    _: Anonymous,
) -> Result<HttpResponse, Problem> {
    sign_in(&app, Mode::Device, &peer, &request, &body).await
}

/// Signs in: the device takes the token out of the address that the answer leads to.
async fn sign_in(app: &App, mode: Mode, peer: &Peer, request: &HttpRequest, body: &[u8]) -> Result<HttpResponse, Problem> {
    let form: SignIn = form(body)?;
    match account::authenticate(app, mode, &form.user_name, &form.pass, platform(request), peer.address).await {
        Ok(location) => {
            let mut answer = HttpResponse::PermanentRedirect();
            Ok(answer.insert_header((LOCATION, location)).insert_header((CACHE_CONTROL, "no-store")).finish())
        }
        Err(error) => ask_again(app, page(mode), &form.user_name, error),
    }
}
