//! The sign-in page. A pass works without scripts; a passkey needs the page's own one.

use actix_web::cookie::Cookie;
use actix_web::web::{Data, Query};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use serde::Deserialize;

use super::account::SECURITY;
use super::authorize::{page_before, told};
use super::session::{check_mark, check_visitor, go, go_in, go_out, mark, signed, token, visit, visitor};
use crate::app::App;
use crate::domain::Refusal;
use crate::domain::session::next_path;
use crate::http::error::Problem;
use crate::http::limits::{Anonymous, Body};
use crate::http::page::form;
use crate::http::peer::Peer;
use crate::service::Error;
use crate::service::identity::oauth::end_session;
use crate::service::identity::sign_in::PATH;
use crate::service::identity::{passkey, session, sign_in};
use crate::wire::form::Form;

/// Largest form.
pub(super) const LARGEST_FORM: usize = 64 * 1024;
/// Where the form of a passkey begins and ends.
pub(super) const PASSKEY: &str = "/signin/passkey";
/// Where a new person is asked to register a passkey.
const WELCOME: &str = "/signin/welcome";

/// What the page is opened with.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Opening {
    next: String,
    login_hint: String,
    /// Asks even those who are signed in.
    again: String,
}

#[derive(Deserialize)]
struct WithPass {
    mark: String,
    next: String,
    user_name: String,
    pass: String,
}

#[derive(Deserialize)]
struct WithPasskey {
    mark: String,
    next: String,
    #[serde(default)]
    ceremony: String,
    #[serde(default)]
    answer: String,
}

#[derive(Deserialize)]
struct Out {
    mark: String,
    /// What an application asked (`…/logout`): it says where to go then.
    #[serde(default)]
    request: String,
}

#[derive(Template)]
#[template(path = "account_signin.html")]
struct SignInPage<'a> {
    nonce: &'a str,
    organisation: &'a str,
    mark: &'a str,
    next: &'a str,
    user_name: &'a str,
    error: &'a str,
    passkeys: bool,
}

/// A page on which the browser is asked for a passkey.
#[derive(Template)]
#[template(path = "account_passkey.html")]
pub(super) struct PasskeyPage<'a> {
    pub(super) nonce: &'a str,
    pub(super) organisation: &'a str,
    pub(super) title: &'a str,
    pub(super) action: &'a str,
    pub(super) mark: &'a str,
    pub(super) next: &'a str,
    pub(super) ceremony: &'a str,
    pub(super) options: &'a str,
    /// A new passkey is made, and not one used.
    pub(super) create: bool,
    /// Where to go without one.
    pub(super) back: &'a str,
}

#[derive(Template)]
#[template(path = "account_welcome.html")]
struct WelcomePage<'a> {
    nonce: &'a str,
    organisation: &'a str,
    mark: &'a str,
    next: &'a str,
    name: &'a str,
}

/// `GET /signin`.
///
/// # Errors
/// When the database does not answer.
pub async fn show(app: Data<App>, request: HttpRequest, query: Query<Opening>, _: Anonymous) -> Result<HttpResponse, Problem> {
    let next = next_path(&query.next, SECURITY);
    if query.again.is_empty() && signed(&app, &request).await?.is_some() {
        return Ok(go(next));
    }
    let hint: String = query.login_hint.chars().take(256).collect();
    ask(&app, &request, next, &hint, "").await
}

/// Fails on headers that cannot be one only, which a cookie is not.
pub(super) fn with_cookie(mut response: HttpResponse, cookie: Option<&Cookie<'static>>) -> HttpResponse {
    if let Some(cookie) = cookie {
        let _ = response.add_cookie(cookie);
    }
    response
}

async fn ask(app: &App, request: &HttpRequest, next: &str, user_name: &str, error: &str) -> Result<HttpResponse, Problem> {
    let (mark, cookie) = visitor(request)?;
    let organisation = app.config.organisation.as_str();
    let passkeys = passkey::is_offered(app).await?;
    let page = page_before(app, next).await?;
    let response = page.show(|nonce| SignInPage { nonce, organisation, mark: &mark, next, user_name, error, passkeys })?;
    Ok(with_cookie(response, cookie.as_ref()))
}

/// What went wrong, for people. Status 200: embedded browsers show pages of their own for others.
async fn ask_again(app: &App, request: &HttpRequest, next: &str, user_name: &str, error: Error) -> Result<HttpResponse, Problem> {
    let text = match error {
        Error::Refused(refusal @ Refusal::SignInFailed) => format!(
            "That did not work. Check your user name and pass. A pass expires, and most work only once: ask for a new one ({}).",
            refusal.code()
        ),
        Error::Refused(refusal @ Refusal::PasskeyRefused) => {
            format!("That passkey did not work. Try again, or use a pass ({}).", refusal.code())
        }
        Error::Refused(refusal @ Refusal::PasskeyCeremonyOver) => format!("That took too long. Try again ({}).", refusal.code()),
        Error::Refused(refusal @ (Refusal::PasskeyNotOffered | Refusal::PasskeyNeedsName)) => {
            format!("Passkeys are not in use here. Use a pass ({}).", refusal.code())
        }
        Error::Throttled(seconds) => format!("Too many attempts. Wait about {} min and try again.", seconds.div_ceil(60)),
        other => return Err(other.into()),
    };
    ask(app, request, next, user_name, &text).await
}

/// `POST /signin`: with a pass.
///
/// # Errors
/// 403 for a form that is not ours.
pub async fn with_pass(
    app: Data<App>,
    request: HttpRequest,
    peer: Peer,
    body: Body<LARGEST_FORM>,
    _: Anonymous,
) -> Result<HttpResponse, Problem> {
    let form: WithPass = form(&body)?;
    check_visitor(&request, &form.mark)?;
    let next = next_path(&form.next, SECURITY);
    let before = token(&request);
    match sign_in::with_tap(&app, &form.user_name, &form.pass, &visit(&request, &peer), before.as_deref()).await {
        Ok(signed_in) => {
            let welcome = passkey::is_to_register(&app, &signed_in.signed.user.id).await?;
            let next_encoded = percent_encoding::utf8_percent_encode(next, percent_encoding::NON_ALPHANUMERIC);
            let path = if welcome { format!("{WELCOME}?next={next_encoded}") } else { next.to_owned() };
            Ok(go_in(&signed_in, &path))
        }
        Err(error) => ask_again(&app, &request, next, &form.user_name, error).await,
    }
}

/// `POST /signin/passkey`: first without an answer, which asks the browser for a passkey; then with it.
///
/// # Errors
/// 403 for a form that is not ours.
pub async fn with_passkey(
    app: Data<App>,
    request: HttpRequest,
    peer: Peer,
    body: Body<LARGEST_FORM>,
    _: Anonymous,
) -> Result<HttpResponse, Problem> {
    let form: WithPasskey = form(&body)?;
    check_visitor(&request, &form.mark)?;
    let next = next_path(&form.next, SECURITY);
    if form.answer.is_empty() {
        let begun = match passkey::begin_sign_in(&app).await {
            Ok(begun) => begun,
            Err(error) => return ask_again(&app, &request, next, "", error).await,
        };
        let organisation = app.config.organisation.as_str();
        return page_before(&app, next).await?.show(|nonce| PasskeyPage {
            nonce,
            organisation,
            title: "Sign in with a passkey",
            action: PASSKEY,
            mark: &form.mark,
            next,
            ceremony: begun.token(),
            options: &begun.options,
            create: false,
            back: PATH,
        });
    }
    let before = token(&request);
    match passkey::finish_sign_in(&app, &form.ceremony, &form.answer, &visit(&request, &peer), before.as_deref()).await {
        Ok(signed_in) => Ok(go_in(&signed_in, next)),
        Err(error) => ask_again(&app, &request, next, "", error).await,
    }
}

/// `GET /signin/welcome`: asks for a passkey, so that the next sign-in needs no pass.
///
/// # Errors
/// When the database does not answer.
pub async fn welcome(app: Data<App>, request: HttpRequest, query: Query<Opening>, _: Anonymous) -> Result<HttpResponse, Problem> {
    let next = next_path(&query.next, SECURITY);
    let Some(signed) = signed(&app, &request).await? else { return Ok(super::session::ask(next, false)) };
    let (mark, organisation, name) = (mark(&request), app.config.organisation.as_str(), signed.user.display_name.as_str());
    page_before(&app, next).await?.show(|nonce| WelcomePage { nonce, organisation, mark: &mark, next, name })
}

/// `POST /signout`.
///
/// # Errors
/// 403 for a form that is not ours.
pub async fn sign_out(
    app: Data<App>,
    request: HttpRequest,
    peer: Peer,
    body: Body<LARGEST_FORM>,
    _: Anonymous,
) -> Result<HttpResponse, Problem> {
    let form: Out = form(&body)?;
    if let Some(signed) = signed(&app, &request).await? {
        check_mark(&request, &form.mark)?;
        session::end(&app, &signed, &peer.address.to_string()).await?;
    }
    let asked = Form::parse(form.request.as_bytes()).unwrap_or_default();
    let wish = end_session::read(&app, &asked, None).await.map_err(|error| told(&error))?;
    Ok(go_out(wish.to.as_deref().unwrap_or(PATH)))
}
