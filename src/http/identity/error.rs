//! How failures look to clients of OAuth: JSON with the protocol's word, and the number by which clients of Entra ID know the reason.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use serde_json::json;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::domain::oauth::Failure;
use crate::http::error::{Problem, trace_id};
use crate::service;
use crate::service::identity::oauth::Error;

/// A failure on its way out.
#[derive(Debug)]
pub struct OAuthProblem {
    failure: Failure,
    text: String,
    retry_after: Option<u64>,
    /// We failed, and not the client.
    ours: bool,
    correlation_id: String,
    at: OffsetDateTime,
}

impl OAuthProblem {
    /// A failure; `correlation_id` is the client's own name for the request, `at` the present.
    #[must_use]
    pub fn new(error: &Error, correlation_id: &str, at: OffsetDateTime) -> Self {
        let (failure, text, retry_after) = match error {
            Error::Refused(failure, _) => (*failure, error.to_string(), None),
            Error::Service(service::Error::Throttled(seconds)) => {
                (Failure::Throttled, Error::from(Failure::Throttled).to_string(), Some(*seconds))
            }
            Error::Service(other) => {
                tracing::error!(error = ?other, "no token because of a failure");
                (Failure::Throttled, "AADSTS90006: the server failed; try again".into(), Some(5))
            }
        };
        let ours = matches!(error, Error::Service(other) if !matches!(other, service::Error::Throttled(_)));
        Self { failure, text, retry_after, ours, correlation_id: correlation_id.to_owned(), at }
    }
}

impl From<Problem> for OAuthProblem {
    fn from(problem: Problem) -> Self {
        let failure = if problem.status_code() == StatusCode::TOO_MANY_REQUESTS { Failure::Throttled } else { Failure::Malformed };
        let text = format!("AADSTS{}: {problem}", failure.number());
        Self {
            failure,
            text,
            retry_after: problem.retry_after(),
            ours: false,
            correlation_id: String::new(),
            at: OffsetDateTime::UNIX_EPOCH,
        }
    }
}

impl fmt::Display for OAuthProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl ResponseError for OAuthProblem {
    fn status_code(&self) -> StatusCode {
        match self.ours {
            true => StatusCode::SERVICE_UNAVAILABLE,
            false => StatusCode::from_u16(self.failure.status()).unwrap_or(StatusCode::BAD_REQUEST),
        }
    }

    fn error_response(&self) -> HttpResponse {
        let at = self.at.format(format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z")).unwrap_or_default();
        let (trace, correlation) = (trace_id(), &self.correlation_id);
        let mut response = HttpResponse::build(self.status_code());
        response.insert_header((CACHE_CONTROL, "no-store"));
        response.insert_header((ACCESS_CONTROL_ALLOW_ORIGIN, "*"));
        if let Some(seconds) = self.retry_after {
            response.insert_header((RETRY_AFTER, seconds.to_string()));
        }
        if self.status_code() == StatusCode::UNAUTHORIZED {
            response.insert_header((WWW_AUTHENTICATE, "Basic realm=\"client\""));
        }
        // Libraries ask the person again on this word alone; the closer one stands beside it.
        let consent = self.failure == Failure::ConsentMissing;
        response.json(json!({
            "error": if consent { "invalid_grant" } else { self.failure.word() },
            "suberror": if consent { self.failure.word() } else { "" },
            "error_description": format!("{}. Trace ID: {trace} Correlation ID: {correlation} Timestamp: {at}", self.text),
            "error_codes": [self.failure.number()],
            "timestamp": at,
            "trace_id": trace,
            "correlation_id": correlation,
        }))
    }
}
