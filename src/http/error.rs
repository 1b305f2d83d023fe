//! How errors look to callers of our own HTTP interfaces: `application/problem+json` (RFC 9457) with a stable code and the trace id, and
//! the same as a page for browsers.
//! Faces with a protocol of their own (SOAP, SyncML, SCEP) render [`service::Error`] themselves.

use std::borrow::Cow;
use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use askama::Template;

use super::page::Page;
use crate::domain::Refusal;
use crate::service;

tokio::task_local! {
    static CURRENT: Current;
}

/// The request that is being answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Current {
    /// Its id in the log.
    pub(super) trace_id: String,
    /// Whether a person looks at the answer in a browser.
    pub(super) in_browser: bool,
}

/// The id of the request that is being answered; empty outside of one.
#[must_use]
pub fn trace_id() -> String {
    CURRENT.try_with(|current| current.trace_id.clone()).unwrap_or_default()
}

/// Runs `answer` as that request.
pub(super) async fn within<F: Future>(current: Current, answer: F) -> F::Output {
    CURRENT.scope(current, answer).await
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'a> {
    nonce: &'a str,
    title: &'a str,
    detail: String,
    status: u16,
    code: &'a str,
    trace_id: &'a str,
}

/// An error on its way to the caller.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: Cow<'static, str>,
    retry_after: Option<u64>,
    trace_id: String,
}

impl Problem {
    /// A problem with a stable code and a text that says what to do.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, detail: detail.into(), retry_after: None, trace_id: trace_id() }
    }

    /// Nothing is here.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "there is nothing here")
    }

    /// Our own fault: the caller learns the trace id, the log has the rest.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the server failed; its log has the reason under this trace id")
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// What is wrong, and what to do about it.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The seconds after which trying again makes sense, if they are known.
    #[must_use]
    pub fn retry_after(&self) -> Option<u64> {
        self.retry_after
    }

    /// With the seconds after which trying again makes sense.
    #[must_use]
    pub fn after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// More is arriving than the server holds at once.
    #[must_use]
    pub fn busy() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "too much is being sent to this server; try again").after(5)
    }

    /// Too many requests; how many seconds to wait.
    #[must_use]
    pub fn throttled(seconds: u64) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "throttled", "too many requests; wait and try again").after(seconds)
    }
}

impl Problem {
    /// The problem for a person.
    fn page(&self) -> Result<HttpResponse, Self> {
        let title = match self.status.as_u16() {
            404 => "This page does not exist",
            429 => "Too many requests",
            500.. => "The server could not do this",
            _ => "This does not work",
        };
        let mut letters = self.detail.chars();
        let detail = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).chain(['.']).collect::<String>();
        let (status, code, trace_id) = (self.status.as_u16(), self.code, self.trace_id.as_str());
        Page::new()?.show_as(self.status, |nonce| ProblemPage { nonce, title, detail, status, code, trace_id })
    }
}

impl From<service::Error> for Problem {
    fn from(error: service::Error) -> Self {
        use service::Error;
        match error {
            Error::Conflict(what) => Self::new(StatusCode::CONFLICT, "conflict", what),
            Error::Invalid(refusal, detail) => Self::new(StatusCode::BAD_REQUEST, refusal.code(), format!("{} ({detail})", refusal.text())),
            Error::Malformed(malformed) => Self::new(StatusCode::BAD_REQUEST, "malformed", malformed.to_string()),
            Error::NotFound(what) => Self::new(StatusCode::NOT_FOUND, "not-found", format!("no such {what}")),
            Error::Unknown(what) => Self::new(StatusCode::NOT_FOUND, "not-found", format!("no such {what}")),
            Error::Refused(refusal @ Refusal::ScepBusy) => {
                let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, refusal.code(), refusal.text());
                problem.retry_after = Some(5);
                problem
            }
            Error::Refused(refusal) => Self::new(StatusCode::FORBIDDEN, refusal.code(), refusal.text()),
            Error::Throttled(seconds) => Self::throttled(seconds),
            Error::Unavailable(why) => {
                tracing::warn!(error = %why, "unavailable");
                let mut problem =
                    Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "a dependency does not answer; try again later");
                problem.retry_after = Some(5);
                problem
            }
            Error::Internal(reason) => {
                tracing::error!(error = ?reason, "internal error");
                Self::internal()
            }
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status.as_u16(), self.code, self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        if CURRENT.try_with(|current| current.in_browser).unwrap_or_default()
            && let Ok(mut page) = self.page()
        {
            if let Some(seconds) = self.retry_after {
                page.headers_mut().insert(RETRY_AFTER, seconds.into());
            }
            return page;
        }
        self.json()
    }
}

impl Problem {
    /// The problem for a program, whoever asks.
    #[must_use]
    pub fn json(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        response.content_type("application/problem+json").insert_header((CACHE_CONTROL, "no-store"));
        if let Some(seconds) = self.retry_after {
            response.insert_header((RETRY_AFTER, seconds.to_string()));
        }
        let body = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
            "trace_id": self.trace_id,
        });
        response.body(body.to_string())
    }
}
