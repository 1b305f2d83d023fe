//! How errors look to clients of the Graph-shaped API: JSON with a code that scripts know, whatever failed, the router and panics among them.

use std::borrow::Cow;
use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::domain::Refusal;
use crate::domain::access::Lack;
use crate::http::bearer::Unknown;
use crate::http::error::{Problem, trace_id};
use crate::http::graph::request::Request;
use crate::service;

/// An error on its way to the caller.
#[derive(Clone, Debug)]
pub struct GraphProblem {
    /// The HTTP status.
    pub status: StatusCode,
    /// The code that scripts look at.
    pub code: &'static str,
    /// The text for people.
    pub message: Cow<'static, str>,
    retry_after: Option<u64>,
    challenge: Option<String>,
    location: Option<String>,
}

/// The result of a call.
pub type Result<T> = std::result::Result<T, GraphProblem>;

impl GraphProblem {
    /// An error with a status, a code and a text.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, message: message.into(), retry_after: None, challenge: None, location: None }
    }

    /// The request cannot be understood.
    #[must_use]
    pub fn bad(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// A value of the body is not one that is taken.
    #[must_use]
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "ModelValidationFailure", message)
    }

    /// No such segment is in the address: Graph answers 400 to that, not 404.
    #[must_use]
    pub fn segment(name: &str) -> Self {
        let name: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
        Self::bad(format!("Resource not found for the segment '{name}'."))
    }

    /// The object does not exist, or the caller may not know that it does.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "ResourceNotFound", "The object does not exist, or is not among those that you may see.")
    }

    /// What somebody else changed between the check of `If-Match` and the writing is not what the caller saw, either.
    #[must_use]
    pub(super) fn into_condition(self, request: &Request) -> Self {
        if request.if_match.is_some() && self.code == "Conflict" { Self::precondition() } else { self }
    }

    /// The caller may not do that.
    #[must_use]
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Authorization_RequestDenied", message)
    }

    /// Nobody was recognised; `challenge` is the header that says how to be.
    #[must_use]
    pub fn unauthorized(message: impl Into<Cow<'static, str>>, challenge: String) -> Self {
        let mut problem = Self::new(StatusCode::UNAUTHORIZED, "InvalidAuthenticationToken", message);
        problem.challenge = Some(challenge);
        problem
    }

    /// Too many calls; how many seconds to wait.
    #[must_use]
    pub fn throttled(seconds: u64) -> Self {
        let mut problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", "Too many requests; wait and try again.");
        problem.retry_after = Some(seconds);
        problem
    }

    /// The object is of another version than the one that the caller saw.
    #[must_use]
    pub fn precondition() -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", "The object was changed since you read it; read it again.")
    }

    /// Where the caller was is not known any more; what follows changes begins anew, at the address.
    #[must_use]
    pub fn resync(location: String) -> Self {
        let text = "The place from which the call goes on is not known any more; begin anew without a token.";
        let mut problem = Self::new(StatusCode::GONE, "syncStateNotFound", text);
        problem.location = Some(location);
        problem
    }

    /// The body.
    #[must_use]
    pub fn body(&self, client_request_id: &str, at: OffsetDateTime) -> Value {
        let at = at.format(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]")).unwrap_or_default();
        json!({
            "error": {
                "code": self.code,
                "message": self.message,
                "innerError": { "date": at, "request-id": trace_id(), "client-request-id": client_request_id },
            }
        })
    }

    /// The headers beside the common ones.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        let retry = self.retry_after.map(|seconds| (RETRY_AFTER.as_str(), seconds.to_string()));
        let challenge = self.challenge.clone().map(|challenge| (WWW_AUTHENTICATE.as_str(), challenge));
        retry.into_iter().chain(challenge).chain(self.location.clone().map(|location| (LOCATION.as_str(), location)))
    }
}

impl From<Unknown> for GraphProblem {
    fn from(unknown: Unknown) -> Self {
        match unknown {
            Unknown::Denied { text, challenge } => Self::unauthorized(text, challenge),
            Unknown::Failed(error) => error.into(),
        }
    }
}

impl From<Refusal> for GraphProblem {
    fn from(refusal: Refusal) -> Self {
        service::Error::Refused(refusal).into()
    }
}

impl From<service::Error> for GraphProblem {
    fn from(error: service::Error) -> Self {
        use service::Error;
        let named = |refusal: Refusal, detail: Option<String>| {
            let text = detail.map_or_else(|| refusal.to_string(), |detail| format!("{refusal} ({detail})"));
            let (status, code) = match refusal {
                Refusal::AuthorityNameTaken
                | Refusal::AuthorityRequested
                | Refusal::GroupNameTaken
                | Refusal::ProfileNameTaken
                | Refusal::RoleNameTaken => (StatusCode::CONFLICT, "NameConflict"),
                Refusal::RestoreNameTaken | Refusal::UserNameTaken => (StatusCode::BAD_REQUEST, "Request_MultipleObjectsWithSameKeyValue"),
                Refusal::AssignmentBeyondReach
                | Refusal::MethodsOfSuperior
                | Refusal::RoleBeyondGiver
                | Refusal::SignInStale
                | Refusal::TapForOneself => (StatusCode::FORBIDDEN, "Authorization_RequestDenied"),
                Refusal::SubscriptionNotAllowed | Refusal::SubscriptionTooMany => (StatusCode::FORBIDDEN, "ExtensionError"),
                Refusal::SubscriptionUnvalidated => (StatusCode::BAD_REQUEST, "ValidationError"),
                _ => (StatusCode::BAD_REQUEST, "Request_BadRequest"),
            };
            Self::new(status, code, text)
        };
        match error {
            Error::Conflict(what) => Self::new(StatusCode::CONFLICT, "Conflict", what),
            Error::Invalid(refusal, detail) => named(refusal, Some(detail)),
            Error::Malformed(malformed) => Self::bad(malformed.to_string()),
            Error::NotFound(_) | Error::Unknown(_) => Self::not_found(),
            Error::Refused(refusal) => named(refusal, None),
            Error::Throttled(seconds) => Self::throttled(seconds),
            Error::Unavailable(why) => {
                tracing::warn!(error = %why, "unavailable");
                let mut problem =
                    Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "Something does not answer; try again later.");
                problem.retry_after = Some(5);
                problem
            }
            Error::Internal(reason) => {
                tracing::error!(error = ?reason, "internal error");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "InternalServerError",
                    "The server failed; its log has the reason under the request-id.",
                )
            }
        }
    }
}

impl From<Lack> for GraphProblem {
    fn from(lack: Lack) -> Self {
        Self::forbidden(format!("Insufficient privileges: {lack}."))
    }
}

impl From<Problem> for GraphProblem {
    fn from(problem: Problem) -> Self {
        let code = match problem.status_code() {
            StatusCode::PAYLOAD_TOO_LARGE => "RequestEntityTooLarge",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "UnsupportedMediaType",
            StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
            StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
            status if status.is_server_error() => "InternalServerError",
            _ => "BadRequest",
        };
        let retry_after = problem.retry_after();
        Self { retry_after, ..Self::new(problem.status_code(), code, problem.detail().to_owned()) }
    }
}

impl fmt::Display for GraphProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status.as_u16(), self.code, self.message)
    }
}

impl ResponseError for GraphProblem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        response.insert_header((CACHE_CONTROL, "no-store"));
        for header in self.headers() {
            response.insert_header(header);
        }
        response.json(self.body("", OffsetDateTime::UNIX_EPOCH))
    }
}
