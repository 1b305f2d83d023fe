//! The authorization endpoint and its pages. What is wrong with the request itself is shown to the person; the application hears of the rest.

use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use serde::Deserialize;

use super::discovery::check_tenant;
use super::session::{ask_for, check_mark, go, mark, signed, visit, visitor};
use super::sign_in::{LARGEST_FORM, with_cookie};
use crate::app::App;
use crate::domain::access::Scope;
use crate::domain::oauth::Failure;
use crate::http::error::Problem;
use crate::http::limits::{Anonymous, Body};
use crate::http::page::{Page, form};
use crate::http::peer::Peer;
use crate::service;
use crate::service::identity::oauth::authorize::{self, CHOSEN, Mode, Refused, Request, Return, SINCE, Step, answer};
use crate::service::identity::oauth::{Error, asked, issuer};
use crate::wire::form::{Form, encode};

/// Where the form of consent goes.
pub(super) const CONSENT: &str = "/consent";
/// Longest query that is taken: browsers and proxies carry no longer ones with certainty.
const LONGEST_QUERY: usize = 4096;

#[derive(Template)]
#[template(path = "account_choose.html")]
struct ChoosePage<'a> {
    nonce: &'a str,
    organisation: &'a str,
    application: &'a str,
    name: &'a str,
    user_name: &'a str,
    go_on: &'a str,
    other: &'a str,
}

#[derive(Template)]
#[template(path = "consent.html")]
struct ConsentPage<'a> {
    nonce: &'a str,
    organisation: &'a str,
    application: &'a str,
    user_name: &'a str,
    mark: &'a str,
    request: &'a str,
    tenant: &'a str,
    scopes: &'a [&'static str],
}

#[derive(Template)]
#[template(path = "form_post.html")]
struct FormPostPage<'a> {
    nonce: &'a str,
    action: &'a str,
    fields: &'a [(&'a str, &'a str)],
}

#[derive(Deserialize)]
struct Decision {
    mark: String,
    tenant: String,
    request: String,
    /// The permissions that the page showed.
    shown: String,
    #[serde(default)]
    accept: String,
}

/// `GET …/authorize`.
///
/// # Errors
/// What is not for the application to hear.
pub async fn show(
    app: Data<App>,
    path: Path<(String, String)>,
    request: HttpRequest,
    peer: Peer,
    _: Anonymous,
) -> Result<HttpResponse, Problem> {
    check_tenant(&app, &path.0)?;
    handle(&app, &path.0, &request, &peer, request.query_string().as_bytes()).await
}

/// `POST …/authorize` (OpenID Connect Core, section 3.1.2.1): the same by a form.
///
/// # Errors
/// As [`show`].
pub async fn submit(
    app: Data<App>,
    path: Path<(String, String)>,
    request: HttpRequest,
    peer: Peer,
    body: Body<LARGEST_FORM>,
    _: Anonymous,
) -> Result<HttpResponse, Problem> {
    check_tenant(&app, &path.0)?;
    handle(&app, &path.0, &request, &peer, &body).await
}

async fn handle(app: &App, tenant: &str, request: &HttpRequest, peer: &Peer, query: &[u8]) -> Result<HttpResponse, Problem> {
    if query.len() > LONGEST_QUERY {
        return Err(told(&Failure::Malformed.into()));
    }
    let form = Form::parse(query).map_err(|malformed| told(&Error::of(Failure::Malformed, malformed.to_string())))?;
    let wish = match authorize::read(app, &form).await {
        Ok(wish) => wish,
        Err(refused) => return refuse(app, refused),
    };
    let (browser, cookie) = visitor(request)?;
    let wish = authorize::go_on(app, wish, &form, &browser).await?;
    let signed = signed(app, request).await?;
    let path = |query: &str| format!("/{tenant}/oauth2/v2.0/authorize?{query}");
    match authorize::decide(app, &wish, signed.as_ref(), &visit(request, peer)).await {
        Ok(Step::Code(code)) => reply(app, &wish.to, &[("code", &code)]),
        Ok(Step::SignIn(anew)) => {
            let hint = wish.login_hint.as_deref().unwrap_or_default();
            if !anew {
                return Ok(ask_for(&path(&form.query(&[SINCE, CHOSEN], &[])), false, hint));
            }
            let since = authorize::since(app, &browser).await?;
            let next = path(&form.query(&[SINCE, CHOSEN], &[(SINCE, &since)]));
            Ok(with_cookie(ask_for(&next, true, hint), cookie.as_ref()))
        }
        Ok(Step::Choose) => {
            let Some(signed) = &signed else { return Err(Problem::internal()) };
            let since = authorize::since(app, &browser).await?;
            let next = path(&form.query(&[SINCE, CHOSEN], &[(SINCE, &since)]));
            let encoded = encode(&next);
            let (go_on, other) = (path(&form.query(&[SINCE, CHOSEN], &[(CHOSEN, "1")])), format!("/signin?again=1&next={encoded}"));
            let page = Page::new()?.show(|nonce| ChoosePage {
                nonce,
                organisation: &app.config.organisation,
                application: &wish.application.display_name,
                name: &signed.user.display_name,
                user_name: &signed.user.upn,
                go_on: &go_on,
                other: &other,
            })?;
            Ok(with_cookie(page, cookie.as_ref()))
        }
        Ok(Step::Consent(missing)) => {
            let Some(signed) = &signed else { return Err(Problem::internal()) };
            let scopes: Vec<_> = missing.iter().map(|scope| scope.as_str()).collect();
            let (mark, query) = (mark(request), form.query(&[], &[]));
            Page::new()?.forms_to(&origin(&wish.to.uri)).show(|nonce| ConsentPage {
                nonce,
                organisation: &app.config.organisation,
                application: &wish.application.display_name,
                user_name: &signed.user.upn,
                mark: &mark,
                request: &query,
                tenant,
                scopes: &scopes,
            })
        }
        Err(refused) => refuse(app, refused),
    }
}

/// `POST /consent`: what the administrator says to the page.
///
/// # Errors
/// 403 for a form that is not ours; as [`show`].
pub async fn consent(
    app: Data<App>,
    request: HttpRequest,
    peer: Peer,
    body: Body<LARGEST_FORM>,
    _: Anonymous,
) -> Result<HttpResponse, Problem> {
    let decision: Decision = form(&body)?;
    check_tenant(&app, &decision.tenant)?;
    let form = Form::parse(decision.request.as_bytes()).map_err(|_| told(&Failure::Malformed.into()))?;
    let back = format!("/{}/oauth2/v2.0/authorize?{}", decision.tenant, form.query(&[], &[]));
    let Some(signed) = signed(&app, &request).await? else { return Ok(super::session::ask(&back, false)) };
    check_mark(&request, &decision.mark)?;
    let wish = match authorize::read(&app, &form).await {
        Ok(wish) => wish,
        Err(refused) => return refuse(&app, refused),
    };
    if decision.accept.is_empty() {
        return refuse(&app, Refused { error: Failure::ConsentDeclined.into(), to: Some(wish.to) });
    }
    let Request { application, asked, .. } = &wish;
    let shown = decision.shown.split(' ').filter_map(Scope::parse).collect();
    let origin = peer.address.to_string();
    // When more is missing by now, the page comes back and shows it.
    asked::consent(&app, application, asked, &shown, (&signed.user.id, &origin)).await.map_err(|error| told(&error))?;
    Ok(go(&back))
}

/// What went wrong, to the application when it may know, else to the person.
fn refuse(app: &App, refused: Refused) -> Result<HttpResponse, Problem> {
    match (refused.to, &refused.error) {
        (Some(to), Error::Refused(failure, _)) => {
            let (word, text) = (failure.word(), refused.error.to_string());
            reply(app, &to, &[("error", word), ("error_description", &text)])
        }
        _ => Err(told(&refused.error)),
    }
}

/// What went wrong, as a page.
pub(super) fn told(error: &Error) -> Problem {
    match error {
        Error::Refused(failure, _) => Problem::new(StatusCode::BAD_REQUEST, failure.word(), error.to_string()),
        Error::Service(service::Error::Throttled(seconds)) => service::Error::Throttled(*seconds).into(),
        Error::Service(other) => {
            tracing::error!(error = ?other, "no authorization because of a failure");
            Problem::internal()
        }
    }
}

/// Sends the browser back to the application with the answer.
fn reply(app: &App, to: &Return, fields: &[(&str, &str)]) -> Result<HttpResponse, Problem> {
    let issuer = issuer(app);
    let fields = answer(to, &issuer, fields);
    if to.mode == Mode::FormPost {
        let page = Page::new()?.forms_to(&origin(&to.uri));
        return page.show(|nonce| FormPostPage { nonce, action: &to.uri, fields: &fields });
    }
    let query: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    let mark = match to.mode {
        Mode::Fragment => '#',
        _ if to.uri.contains('?') => '&',
        _ => '?',
    };
    let location = format!("{}{mark}{}", to.uri, query.join("&"));
    // Some clients do not read the header but the first link of the page (URIs have no character that HTML would take for its own but `&`).
    let body = format!("<html><body><a href=\"{}\">Continue</a></body></html>", location.replace('&', "&amp;"));
    Ok(HttpResponse::Found()
        .insert_header((LOCATION, location))
        .insert_header(("Cache-Control", "no-store"))
        .insert_header(("Referrer-Policy", "no-referrer"))
        .content_type("text/html; charset=UTF-8")
        .body(body))
}

/// A page with a form whose answer may lead back to the application that `next` is a request of: browsers hold the whole way of a form
/// against the page's policy.
pub(super) async fn page_before(app: &App, next: &str) -> Result<Page, Problem> {
    let page = Page::new()?;
    let Some((path, query)) = next.split_once('?') else { return Ok(page) };
    if !path.to_ascii_lowercase().ends_with("/authorize") {
        return Ok(page);
    }
    let Ok(form) = Form::parse(query.as_bytes()) else { return Ok(page) };
    let to = match authorize::read(app, &form).await {
        Ok(request) => Some(request.to),
        Err(refused) => refused.to,
    };
    Ok(match to {
        Some(to) => page.forms_to(&origin(&to.uri)),
        None => page,
    })
}

/// Scheme, host and port of a redirect URI; the scheme alone of a program's own.
pub(super) fn origin(uri: &str) -> String {
    match uri.split_once("://") {
        Some((scheme @ ("https" | "http"), rest)) => format!("{scheme}://{}", rest.split(['/', '?']).next().unwrap_or_default()),
        Some((scheme, _)) => format!("{scheme}:"),
        None => format!("{}:", uri.split(':').next().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::origin;

    #[test]
    fn a_form_may_go_to_the_application_only() {
        assert_eq!(origin("https://app.example:8443/cb?x=1"), "https://app.example:8443");
        assert_eq!(origin("http://localhost"), "http://localhost");
        assert_eq!((origin("myapp://cb"), origin("urn:ietf:x")), ("myapp:".into(), "urn:".into()));
    }
}
