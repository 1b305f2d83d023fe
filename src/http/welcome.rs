//! What a person finds who opens the server's bare address.

use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;

use super::error::Problem;
use super::limits::Anonymous;
use super::page::Page;
use crate::app::App;

#[derive(Template)]
#[template(path = "welcome.html")]
struct WelcomePage<'a> {
    nonce: &'a str,
    organisation: &'a str,
}

/// `GET /`: which way leads into the organisation.
///
/// # Errors
/// When there is no randomness for the page's nonce.
pub async fn show(app: Data<App>, _: Anonymous) -> Result<HttpResponse, Problem> {
    Page::new()?.show(|nonce| WelcomePage { nonce, organisation: &app.config.organisation })
}
