//! Who is signed in at the browser, and that a form came from a page of ours.
//!
//! The cookies have the prefix `__Host-`: no other host and no plain connection can set them. Each form carries a mark made of the cookie's
//! value, which a page of another site cannot know.

use actix_web::cookie::{Cookie, SameSite};
use actix_web::http::StatusCode;
use actix_web::http::header::{LOCATION, USER_AGENT};
use actix_web::{HttpRequest, HttpResponse};
use openssl::sha::sha256;

use crate::app::App;
use crate::domain::session::next_path;
use crate::http::error::Problem;
use crate::http::peer::Peer;
use crate::secret::{random, same};
use crate::service::identity::session::{self, Signed};
use crate::service::identity::sign_in::{self, SignedIn, Visit};

/// The cookie of somebody who is signed in.
const SESSION: &str = "__Host-muster-session";
/// The cookie of somebody who is about to sign in.
const VISITOR: &str = "__Host-muster-visitor";

fn cookie(name: &'static str, value: &str) -> Cookie<'static> {
    Cookie::build(name, value.to_owned()).path("/").secure(true).http_only(true).same_site(SameSite::Lax).finish()
}

fn value(request: &HttpRequest, name: &str) -> Option<String> {
    let value = request.cookie(name)?.value().to_owned();
    // As we made it: 43 letters, or 64 hex digits.
    ((32..=64).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))).then_some(value)
}

/// The token of the session, good or not.
pub(super) fn token(request: &HttpRequest) -> Option<String> {
    value(request, SESSION)
}

/// Who is signed in.
pub(super) async fn signed(app: &App, request: &HttpRequest) -> Result<Option<Signed>, Problem> {
    match token(request) {
        Some(token) => Ok(session::find(app, &token).await?),
        None => Ok(None),
    }
}

fn mark_of(cookie: &str) -> String {
    hex::encode(sha256(format!("form\n{cookie}").as_bytes()))
}

/// The mark for forms of somebody who is signed in.
pub(super) fn mark(request: &HttpRequest) -> String {
    token(request).map(|token| mark_of(&token)).unwrap_or_default()
}

/// The mark for forms of whoever opens a page, signed in or not, with the cookie to set when there is none yet.
pub(super) fn visitor(request: &HttpRequest) -> Result<(String, Option<Cookie<'static>>), Problem> {
    if let Some(known) = value(request, VISITOR) {
        return Ok((mark_of(&known), None));
    }
    let fresh = random::<32>().map(hex::encode).map_err(|_| Problem::internal())?;
    Ok((mark_of(&fresh), Some(cookie(VISITOR, &fresh))))
}

fn check(cookie: Option<String>, shown: &str) -> Result<(), Problem> {
    match cookie {
        Some(cookie) if same(mark_of(&cookie).as_bytes(), shown.as_bytes()) => Ok(()),
        _ => {
            Err(Problem::new(StatusCode::FORBIDDEN, "form-origin", "the form did not come from a page of this server; open the page again"))
        }
    }
}

/// Refuses a form that did not come from a page of the session.
///
/// # Errors
/// 403.
pub(super) fn check_mark(request: &HttpRequest, shown: &str) -> Result<(), Problem> {
    check(token(request), shown)
}

/// Refuses a form that did not come from the sign-in page that this browser was given.
///
/// # Errors
/// 403.
pub(super) fn check_visitor(request: &HttpRequest, shown: &str) -> Result<(), Problem> {
    check(value(request, VISITOR), shown)
}

/// From where, and with what.
pub(super) fn visit(request: &HttpRequest, peer: &Peer) -> Visit {
    let agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    Visit::of_pages(peer.address, agent)
}

/// Goes on to a page of ours.
pub(super) fn go(path: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, path)).insert_header(("Cache-Control", "no-store")).finish()
}

/// Goes on with the cookie of the new session.
pub(super) fn go_in(signed_in: &SignedIn, path: &str) -> HttpResponse {
    let mut response = go(path);
    // Fails on headers that cannot be one only, which ours is not.
    let _ = response.add_cookie(&cookie(SESSION, signed_in.token()));
    response
}

/// Goes on without the cookie of the session.
pub(super) fn go_out(path: &str) -> HttpResponse {
    let mut response = go(path);
    let mut gone = cookie(SESSION, "");
    gone.make_removal();
    let _ = response.add_cookie(&gone);
    response
}

/// The sign-in page that leads back to `next`.
pub(super) fn ask(next: &str, fresh: bool) -> HttpResponse {
    ask_for(next, fresh, "")
}

/// The same for somebody who is called so.
pub(super) fn ask_for(next: &str, fresh: bool, hint: &str) -> HttpResponse {
    let encode = |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
    let hint = if hint.is_empty() { String::new() } else { format!("&login_hint={}", encode(hint)) };
    go(&format!("{}?next={}{}{hint}", sign_in::PATH, encode(next_path(next, "/")), if fresh { "&again=1" } else { "" }))
}
