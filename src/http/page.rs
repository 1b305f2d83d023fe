//! Server-rendered pages: a content security policy that lets nothing in but the page's own style and script, by nonce.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY};
use askama::Template;
use serde::de::DeserializeOwned;

use super::error::Problem;
use crate::secret::random;

/// A page on its way out.
#[derive(Clone, Debug)]
pub struct Page {
    nonce: String,
    form_targets: String,
}

impl Page {
    /// A page with a fresh nonce, whose forms go to this server only.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn new() -> Result<Self, Problem> {
        let nonce = random::<16>().map(hex::encode).map_err(|_| Problem::internal())?;
        Ok(Self { nonce, form_targets: String::new() })
    }

    /// Lets forms go to a scheme or an origin, too.
    #[must_use]
    pub fn forms_to(mut self, target: &str) -> Self {
        target.clone_into(&mut self.form_targets);
        self
    }

    /// Renders the template that `make` gives for the nonce.
    ///
    /// # Errors
    /// When the template fails.
    pub fn show<'a, T: Template>(&'a self, make: impl FnOnce(&'a str) -> T) -> Result<HttpResponse, Problem> {
        self.show_as(StatusCode::OK, make)
    }

    /// The same with another status.
    ///
    /// # Errors
    /// When the template fails.
    pub fn show_as<'a, T: Template>(&'a self, status: StatusCode, make: impl FnOnce(&'a str) -> T) -> Result<HttpResponse, Problem> {
        let html = make(&self.nonce).render().map_err(|_| Problem::internal())?;
        let policy = format!(
            "default-src 'none'; style-src 'nonce-{0}'; script-src 'nonce-{0}'; form-action 'self' {1}; frame-ancestors 'none'; \
             base-uri 'none'",
            self.nonce, self.form_targets
        );
        Ok(HttpResponse::build(status)
            .content_type("text/html; charset=UTF-8")
            .insert_header((CONTENT_SECURITY_POLICY, policy))
            .insert_header((CACHE_CONTROL, "no-store"))
            .body(html))
    }
}

/// Reads a submitted form.
///
/// # Errors
/// 400 when it is not one, or a field is missing.
pub fn form<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let wrong = || Problem::new(StatusCode::BAD_REQUEST, "form", "the form is not complete");
    let text = std::str::from_utf8(body).map_err(|_| wrong())?;
    actix_web::web::Query::<T>::from_query(text).map(actix_web::web::Query::into_inner).map_err(|_| wrong())
}
