//! Where people type the code that a program without a browser shows.

use actix_web::web::{Data, Query};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use serde::Deserialize;

use super::authorize::told;
use super::session::{ask, check_mark, mark, signed, visit};
use super::sign_in::LARGEST_FORM;
use crate::app::App;
use crate::domain::oauth::Failure;
use crate::http::error::Problem;
use crate::http::limits::{Anonymous, Body};
use crate::http::page::{Page, form};
use crate::http::peer::Peer;
use crate::service;
use crate::service::identity::oauth::Error;
use crate::service::identity::oauth::device_code::{self, PAGE, Pending};
use crate::service::identity::session::Signed;

#[derive(Template)]
#[template(path = "device_code.html")]
struct CodePage<'a> {
    nonce: &'a str,
    organisation: &'a str,
    mark: &'a str,
    /// The person had a code, and signed in anew for it.
    again: bool,
    error: &'a str,
}

#[derive(Template)]
#[template(path = "device_confirm.html")]
struct ConfirmPage<'a> {
    nonce: &'a str,
    organisation: &'a str,
    mark: &'a str,
    user_name: &'a str,
    application: &'a str,
    code: &'a str,
    origin: &'a str,
    scopes: &'a [&'static str],
    own: bool,
    allowed: bool,
}

#[derive(Template)]
#[template(path = "device_done.html")]
struct DonePage<'a> {
    nonce: &'a str,
    organisation: &'a str,
    approved: bool,
}

#[derive(Deserialize)]
struct Typed {
    mark: String,
    code: String,
    #[serde(default)]
    decision: String,
}

/// What the page is opened with.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Opening {
    /// The person was sent away to sign in anew.
    again: String,
}

/// `GET /devicelogin`.
///
/// # Errors
/// When the database does not answer.
pub async fn show(app: Data<App>, request: HttpRequest, query: Query<Opening>, _: Anonymous) -> Result<HttpResponse, Problem> {
    if signed(&app, &request).await?.is_none() {
        return Ok(ask(PAGE, false));
    }
    ask_code(&app, &request, !query.again.is_empty(), "")
}

fn ask_code(app: &App, request: &HttpRequest, again: bool, error: &str) -> Result<HttpResponse, Problem> {
    let mark = mark(request);
    Page::new()?.show(|nonce| CodePage { nonce, organisation: &app.config.organisation, mark: &mark, again, error })
}

/// `POST /devicelogin`: first with the code, then with the decision.
///
/// # Errors
/// 403 for a form that is not ours.
pub async fn submit(
    app: Data<App>,
    request: HttpRequest,
    peer: Peer,
    body: Body<LARGEST_FORM>,
    _: Anonymous,
) -> Result<HttpResponse, Problem> {
    let Some(signed) = signed(&app, &request).await? else { return Ok(ask(PAGE, false)) };
    let typed: Typed = form(&body)?;
    check_mark(&request, &typed.mark)?;
    let pending = match device_code::find(&app, &typed.code, &signed).await {
        Ok(pending) => pending,
        Err(error) => return again(&app, &request, &error),
    };
    match typed.decision.as_str() {
        "" | "yes" if pending.needs_fresh(&signed, app.now()) => Ok(ask(&format!("{PAGE}?again=1"), true)),
        "" => confirm(&app, &request, &signed, &pending),
        "yes" => match device_code::approve(&app, pending, &signed, &visit(&request, &peer)).await {
            Ok(()) => done(&app, true),
            Err(error) => again(&app, &request, &error),
        },
        _ => {
            device_code::decline(&app, pending, &signed, &peer.address.to_string()).await.map_err(|error| told(&error))?;
            done(&app, false)
        }
    }
}

fn confirm(app: &App, request: &HttpRequest, signed: &Signed, pending: &Pending) -> Result<HttpResponse, Problem> {
    let mark = mark(request);
    let scopes: Vec<_> = pending.asked.scopes.iter().map(|scope| scope.as_str()).collect();
    Page::new()?.show(|nonce| ConfirmPage {
        nonce,
        organisation: &app.config.organisation,
        mark: &mark,
        user_name: &signed.user.upn,
        application: &pending.application.display_name,
        code: &pending.user_code,
        origin: &pending.origin,
        scopes: &scopes,
        own: pending.application.is_built_in(),
        allowed: pending.missing.is_empty(),
    })
}

fn done(app: &App, approved: bool) -> Result<HttpResponse, Problem> {
    Page::new()?.show(|nonce| DonePage { nonce, organisation: &app.config.organisation, approved })
}

fn again(app: &App, request: &HttpRequest, error: &Error) -> Result<HttpResponse, Problem> {
    let text = match error {
        Error::Refused(failure @ Failure::DeviceCodeInvalid, _) => {
            format!("That code is not known, or too old. Look at the program again (AADSTS{}).", failure.number())
        }
        Error::Refused(..) => error.to_string(),
        Error::Service(service::Error::Throttled(seconds)) => {
            format!("Too many wrong codes. Wait about {} min and try again.", seconds.div_ceil(60))
        }
        Error::Service(_) => return Err(told(error)),
    };
    ask_code(app, request, false, &text)
}
