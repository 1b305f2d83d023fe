//! What people see and change of their own account: the ways they sign in, and their devices.

use actix_web::web::{Data, Path, Query};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use serde::Deserialize;

use super::authorize::page_before;
use super::session::{ask, check_mark, go, go_out, mark, signed};
use super::sign_in::{LARGEST_FORM, PasskeyPage};
use crate::app::App;
use crate::clock::Time;
use crate::domain::Refusal;
use crate::domain::session::{Method, next_path};
use crate::http::error::Problem;
use crate::http::limits::{Anonymous, Body};
use crate::http::page::{Page, form};
use crate::http::peer::Peer;
use crate::ids::{GrantId, PasskeyId};
use crate::service::Error;
use crate::service::device::{self, OwnDevice};
use crate::service::directory::By;
use crate::service::identity::oauth::programs;
use crate::service::identity::passkey;
use crate::service::identity::session::{self, Signed};
use crate::service::identity::sign_in::PATH;

/// The page about ways to sign in.
pub const SECURITY: &str = "/account/security";
/// The page about devices.
pub const DEVICES: &str = "/account/devices";
/// Where a registration begins and ends.
pub const PASSKEYS: &str = "/account/security/passkeys";

/// What the page says first.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Opening {
    said: String,
}

/// A program that is signed in, as the page shows it.
struct ProgramRow {
    id: GrantId,
    name: String,
    since: String,
    used: String,
}

/// A passkey as the page shows it.
struct Row {
    id: PasskeyId,
    name: String,
    model: String,
    created: String,
    used: String,
    /// The session began with it.
    current: bool,
}

#[derive(Template)]
#[template(path = "account_security.html")]
struct SecurityPage<'a> {
    nonce: &'a str,
    organisation: &'a str,
    mark: &'a str,
    user_name: &'a str,
    name: &'a str,
    said: &'a str,
    error: &'a str,
    by_pass: bool,
    fresh: bool,
    passkeys: &'a [Row],
    offered: bool,
    programs: &'a [ProgramRow],
}

#[derive(Template)]
#[template(path = "account_devices.html")]
struct DevicesPage<'a> {
    nonce: &'a str,
    organisation: &'a str,
    mark: &'a str,
    user_name: &'a str,
    devices: &'a [OwnDevice],
}

#[derive(Deserialize)]
struct Change {
    mark: String,
    #[serde(default)]
    sure: String,
    #[serde(default)]
    next: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    ceremony: String,
    #[serde(default)]
    answer: String,
}

fn day(at: Time) -> String {
    at.to_string().chars().take(10).collect()
}

/// `GET /account/security`.
///
/// # Errors
/// When the database does not answer.
pub async fn show_security(app: Data<App>, request: HttpRequest, query: Query<Opening>, _: Anonymous) -> Result<HttpResponse, Problem> {
    let Some(signed) = signed(&app, &request).await? else { return Ok(ask(SECURITY, false)) };
    let said = match query.said.as_str() {
        "added" => "The passkey is registered. Use it the next time you sign in.",
        "renamed" => "The passkey has its new name.",
        "ended" => "The program is signed out.",
        "removed" => "The passkey is removed, and whoever was signed in with it is signed out.",
        _ => "",
    };
    security(&app, &request, &signed, said, "").await
}

async fn security(app: &App, request: &HttpRequest, signed: &Signed, said: &str, error: &str) -> Result<HttpResponse, Problem> {
    let all = passkey::list(app, &signed.user.id).await?;
    let passkeys: Vec<Row> = all
        .into_iter()
        .map(|key| Row {
            current: signed.session.method_id == key.id.as_str(),
            id: key.id,
            name: key.display_name,
            model: key.model,
            created: day(key.created_at),
            used: key.last_used_at.map(day).unwrap_or_default(),
        })
        .collect();
    let programs: Vec<ProgramRow> = programs::list(app, &signed.user.id)
        .await?
        .into_iter()
        .map(|one| ProgramRow { id: one.id, name: one.name, since: day(one.since), used: day(one.used) })
        .collect();
    let (mark, organisation) = (mark(request), app.config.organisation.as_str());
    let fresh = signed.session.is_fresh(app.now());
    let offered = passkey::is_offered(app).await?;
    Page::new()?.show(|nonce| SecurityPage {
        nonce,
        organisation,
        mark: &mark,
        user_name: &signed.user.upn,
        name: &signed.user.display_name,
        said,
        error,
        by_pass: signed.session.method == Method::Tap,
        fresh,
        passkeys: &passkeys,
        offered,
        programs: &programs,
    })
}

/// Who asks for a change, and what; `None` when nobody is signed in.
async fn asked(app: &App, request: &HttpRequest, body: &[u8]) -> Result<Option<(Signed, Change)>, Problem> {
    let Some(signed) = signed(app, request).await? else { return Ok(None) };
    let form: Change = form(body)?;
    check_mark(request, &form.mark)?;
    Ok(Some((signed, form)))
}

/// `POST /account/security/programs/{id}/end`.
///
/// # Errors
/// 403 for a form that is not ours; 404 for a program of somebody else.
pub async fn end_program(
    app: Data<App>,
    request: HttpRequest,
    path: Path<String>,
    peer: Peer,
    body: Body<LARGEST_FORM>,
    _: Anonymous,
) -> Result<HttpResponse, Problem> {
    let Some((signed, _)) = asked(&app, &request, &body).await? else { return Ok(ask(SECURITY, false)) };
    let id = GrantId::parse(&path).ok_or_else(Problem::not_found)?;
    programs::end(&app, &signed.user.id, &id, &peer.address.to_string()).await?;
    Ok(go(&format!("{SECURITY}?said=ended")))
}

/// `POST /account/security/sign-out`: everywhere, here too.
///
/// # Errors
/// 403 for a form that is not ours.
pub async fn sign_out_everywhere(
    app: Data<App>,
    request: HttpRequest,
    peer: Peer,
    body: Body<LARGEST_FORM>,
    _: Anonymous,
) -> Result<HttpResponse, Problem> {
    let Some((signed, _)) = asked(&app, &request, &body).await? else { return Ok(ask(SECURITY, false)) };
    let by = By { actor: format!("user:{}", signed.user.id), origin: peer.address.to_string() };
    session::end_all(&app, &signed.user.id, &by).await?;
    Ok(go_out(PATH))
}

/// What a change failed with: those who signed in long ago sign in again.
async fn failed(app: &App, request: &HttpRequest, signed: &Signed, error: Error) -> Result<HttpResponse, Problem> {
    match error {
        Error::Refused(Refusal::SignInStale) => Ok(ask(SECURITY, true)),
        Error::Refused(
            refusal @ (Refusal::PasskeyCeremonyOver
            | Refusal::PasskeyModelForbidden
            | Refusal::PasskeyNeedsName
            | Refusal::PasskeyNotOffered
            | Refusal::PasskeyRefused
            | Refusal::PasskeyTooMany),
        ) => {
            let mut letters = refusal.text().chars();
            let text: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
            security(app, request, signed, "", &format!("{text} ({}).", refusal.code())).await
        }
        other => Err(other.into()),
    }
}

/// `POST /account/security/passkeys`: first without an answer, which asks the browser to make a passkey; then with it.
///
/// # Errors
/// 403 for a form that is not ours.
pub async fn register(
    app: Data<App>,
    request: HttpRequest,
    peer: Peer,
    body: Body<LARGEST_FORM>,
    _: Anonymous,
) -> Result<HttpResponse, Problem> {
    let Some((signed, form)) = asked(&app, &request, &body).await? else { return Ok(ask(SECURITY, false)) };
    let added = format!("{SECURITY}?said=added");
    let next = next_path(&form.next, &added);
    if form.answer.is_empty() {
        let begun = match passkey::begin_registration(&app, &signed).await {
            Ok(begun) => begun,
            Err(error) => return failed(&app, &request, &signed, error).await,
        };
        let organisation = app.config.organisation.as_str();
        return page_before(&app, next).await?.show(|nonce| PasskeyPage {
            nonce,
            organisation,
            title: "Register a passkey",
            action: PASSKEYS,
            mark: &form.mark,
            next,
            ceremony: begun.token(),
            options: &begun.options,
            create: true,
            back: SECURITY,
        });
    }
    let origin = peer.address.to_string();
    match passkey::finish_registration(&app, &signed, &form.ceremony, &form.answer, &form.name, &origin).await {
        Ok(_) => Ok(go(next)),
        Err(error) => failed(&app, &request, &signed, error).await,
    }
}

/// `POST /account/security/passkeys/{id}/name`.
///
/// # Errors
/// 403 for a form that is not ours; 404 for a passkey of somebody else.
pub async fn rename(
    app: Data<App>,
    request: HttpRequest,
    path: Path<String>,
    peer: Peer,
    body: Body<LARGEST_FORM>,
    _: Anonymous,
) -> Result<HttpResponse, Problem> {
    let Some((signed, form)) = asked(&app, &request, &body).await? else { return Ok(ask(SECURITY, false)) };
    let id = PasskeyId::parse(&path).ok_or_else(Problem::not_found)?;
    match passkey::rename(&app, &signed, &id, &form.name, &peer.address.to_string()).await {
        Ok(()) => Ok(go(&format!("{SECURITY}?said=renamed"))),
        Err(error) => failed(&app, &request, &signed, error).await,
    }
}

/// `POST /account/security/passkeys/{id}/remove`.
///
/// # Errors
/// 403 for a form that is not ours; 404 for a passkey of somebody else.
pub async fn remove(
    app: Data<App>,
    request: HttpRequest,
    path: Path<String>,
    peer: Peer,
    body: Body<LARGEST_FORM>,
    _: Anonymous,
) -> Result<HttpResponse, Problem> {
    let Some((signed, form)) = asked(&app, &request, &body).await? else { return Ok(ask(SECURITY, false)) };
    let id = PasskeyId::parse(&path).ok_or_else(Problem::not_found)?;
    let own = passkey::list(&app, &signed.user.id).await?;
    let only = own.len() == 1 && own.iter().any(|key| key.id == id);
    if only && form.sure.is_empty() && signed.session.is_fresh(app.now()) {
        return security(&app, &request, &signed, "", "This is your only passkey: say that you know that.").await;
    }
    match passkey::remove_own(&app, &signed, &id, &peer.address.to_string()).await {
        Ok(()) => Ok(go(&format!("{SECURITY}?said=removed"))),
        Err(error) => failed(&app, &request, &signed, error).await,
    }
}

/// `GET /account/devices`.
///
/// # Errors
/// When the database does not answer.
pub async fn show_devices(app: Data<App>, request: HttpRequest, _: Anonymous) -> Result<HttpResponse, Problem> {
    let Some(signed) = signed(&app, &request).await? else { return Ok(ask(DEVICES, false)) };
    let devices = device::list_own(&app, &signed.user.id).await?;
    let (mark, organisation) = (mark(&request), app.config.organisation.as_str());
    Page::new()?.show(|nonce| DevicesPage { nonce, organisation, mark: &mark, user_name: &signed.user.upn, devices: &devices })
}
