//! Sign-in pages. Windows opens ours in an embedded browser while it enrols (MS-MDE2 3.2): the last page posts the token to the
//! address that Windows gave, and to no other.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Query};
use askama::Template;
use serde::Deserialize;

use super::error::Problem;
use super::limits::{Anonymous, Body};
use super::page::{Page, form};
use super::peer::Peer;
use crate::app::App;
use crate::domain::Refusal;
use crate::domain::device::Platform;
use crate::service::Error;
use crate::service::identity::token;

/// Largest form.
const LARGEST_FORM: usize = 16 * 1024;
/// Longest address that a token is posted to.
const LONGEST_TARGET: usize = 1024;

/// What Windows opens the page with.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Visit {
    appru: String,
    login_hint: String,
}

#[derive(Deserialize)]
struct SignIn {
    appru: String,
    user_name: String,
    pass: String,
}

#[derive(Template)]
#[template(path = "signin.html")]
struct SignInPage<'a> {
    nonce: &'a str,
    organisation: &'a str,
    target: &'a str,
    user_name: &'a str,
    error: &'a str,
}

#[derive(Template)]
#[template(path = "signin_done.html")]
struct DonePage<'a> {
    nonce: &'a str,
    organisation: &'a str,
    target: &'a str,
    token: &'a str,
}

/// The sign-in page.
pub async fn show(app: Data<App>, query: Query<Visit>, _: Anonymous) -> Result<HttpResponse, Problem> {
    let target = target(&query.appru)?;
    let hint: String = query.login_hint.chars().take(256).collect();
    ask(&app, target, &hint, "")
}

/// Signs in.
pub async fn sign_in(app: Data<App>, peer: Peer, body: Body<LARGEST_FORM>, _: Anonymous) -> Result<HttpResponse, Problem> {
    let form: SignIn = form(&body)?;
    let target = target(&form.appru)?;
    match token::create_with_tap(&app, &form.user_name, &form.pass, peer.address, Platform::Windows, None).await {
        Ok(token) => {
            let token = std::str::from_utf8(token.expose()).map_err(|_| Problem::internal())?;
            let organisation = app.config.organisation.as_str();
            Page::new()?.forms_to("ms-app:").show(|nonce| DonePage { nonce, organisation, target, token })
        }
        // Status 200: the embedded browser shows its own page for others.
        Err(Error::Refused(refusal @ Refusal::SignInFailed)) => {
            let text = format!(
                "That did not work. Check your user name and pass. A pass expires, and most work only once: ask for a new one ({}).",
                refusal.code()
            );
            ask(&app, target, &form.user_name, &text)
        }
        Err(Error::Throttled(seconds)) => {
            let minutes = seconds.div_ceil(60);
            let text = format!("Too many attempts. Wait about {minutes} min and try again.");
            ask(&app, target, &form.user_name, &text)
        }
        Err(other) => Err(other.into()),
    }
}

fn ask(app: &App, target: &str, user_name: &str, error: &str) -> Result<HttpResponse, Problem> {
    let organisation = app.config.organisation.as_str();
    Page::new()?.forms_to("ms-app:").show(|nonce| SignInPage { nonce, organisation, target, user_name, error })
}

/// The address that the token goes to: an application's (`ms-app:`) and nothing that could break out of the page.
fn target(appru: &str) -> Result<&str, Problem> {
    let scheme = appru.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("ms-app:"));
    let clean = appru.bytes().all(|b| b.is_ascii_graphic() && !b"\"'<>\\`".contains(&b));
    if scheme && clean && appru.len() <= LONGEST_TARGET {
        Ok(appru)
    } else {
        Err(Problem::new(StatusCode::BAD_REQUEST, "appru", "start the sign-in from Windows: Settings, Accounts, Access work or school"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_go_to_applications_only() {
        assert!(target("ms-app://s-1-15-2-3").is_ok());
        assert!(target("MS-APP://windows.immersivecontrolpanel").is_ok());
        for bad in
            ["", "https://evil", "javascript:alert(1)", "ms-app", "ms-app://x\"onclick=", "ms-app://x'y", "ms-app://x y", "ms-app://<b>"]
        {
            assert!(target(bad).is_err(), "{bad}");
        }
        assert!(target(&format!("ms-app://{}", "x".repeat(2000))).is_err());
    }
}
