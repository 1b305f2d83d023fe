//! How errors look to callers of `/api`: `application/problem+json` (RFC 9457), whatever failed, the router and panics among them.

use std::borrow::Cow;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, WWW_AUTHENTICATE};

use crate::domain::Refusal;
use crate::domain::access::Lack;
use crate::http::bearer::Unknown;
use crate::http::error::Problem;
use crate::service;

/// An error on its way to the caller.
#[derive(Debug)]
pub struct ApiProblem {
    problem: Box<Problem>,
    header: Option<(&'static str, String)>,
}

/// The result of a call.
pub type Result<T> = std::result::Result<T, ApiProblem>;

/// The codes of what every route may answer, by status. The refusals of a route come to these at 403 and 422.
pub const CODES: &[(u16, &[&str])] = &[
    (400, &["body", "malformed"]),
    (401, &["unauthenticated"]),
    (403, &["forbidden"]),
    (404, &["not-found"]),
    (406, &["not-acceptable"]),
    (408, &["slow-body"]),
    (409, &["conflict"]),
    (412, &["changed-meanwhile"]),
    (413, &["too-large"]),
    (415, &["content-encoding", "content-type"]),
    (422, &[]),
    (429, &["throttled"]),
    (500, &["internal"]),
    (503, &["busy", "unavailable"]),
];

/// Whether a refusal is about who asks: 403; all others are about what is asked or how things stand: 422.
#[must_use]
pub fn is_of_caller(refusal: Refusal) -> bool {
    use Refusal as R;
    let gives = matches!(
        refusal,
        R::AssignmentBeyondReach | R::MethodsOfSuperior | R::PermissionBeyondGiver | R::RoleBeyondGiver | R::TapForOneself
    );
    gives || matches!(refusal, R::OrderBeyondRole | R::OrderBound | R::OrderLocalOnly)
}

impl ApiProblem {
    /// An error with a status, a code and a text.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Problem::new(status, code, detail).into()
    }

    /// What was sent cannot be understood.
    #[must_use]
    pub fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    /// It does not exist, or the caller may not know that it does.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", format!("no such {what}, or it is not among those that you may see"))
    }

    /// The caller may not do that.
    #[must_use]
    pub fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// The address has no such method; these are possible.
    #[must_use]
    pub fn method(method: &str, possible: &[&str]) -> Self {
        let possible = possible.join(", ");
        let detail = format!("{method} is not possible here; possible: {possible}");
        let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail);
        Self { problem: Box::new(problem), header: Some((ALLOW.as_str(), possible)) }
    }

    /// It is another one than the caller saw.
    #[must_use]
    pub fn precondition() -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "changed-meanwhile", "it was changed since you read it; read it again")
    }

    /// The answer.
    #[must_use]
    pub fn respond(&self) -> HttpResponse {
        let mut response = self.problem.json();
        if let Some((name, value)) = &self.header
            && let (Ok(name), Ok(value)) = (name.parse::<actix_web::http::header::HeaderName>(), value.parse())
        {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<Lack> for ApiProblem {
    fn from(lack: Lack) -> Self {
        Self::forbidden(lack.to_string())
    }
}

impl From<Problem> for ApiProblem {
    fn from(problem: Problem) -> Self {
        Self { problem: Box::new(problem), header: None }
    }
}

impl From<Refusal> for ApiProblem {
    fn from(refusal: Refusal) -> Self {
        service::Error::Refused(refusal).into()
    }
}

impl From<service::Error> for ApiProblem {
    fn from(error: service::Error) -> Self {
        use service::Error;
        let status = |refusal| if is_of_caller(refusal) { StatusCode::FORBIDDEN } else { StatusCode::UNPROCESSABLE_ENTITY };
        match error {
            Error::Invalid(refusal, detail) => Self::new(status(refusal), refusal.code(), format!("{} ({detail})", refusal.text())),
            Error::Refused(refusal) => Self::new(status(refusal), refusal.code(), refusal.text()),
            Error::NotFound(what) => Self::not_found(what),
            other => Problem::from(other).into(),
        }
    }
}

impl From<Unknown> for ApiProblem {
    fn from(unknown: Unknown) -> Self {
        match unknown {
            Unknown::Denied { text, challenge } => {
                let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", text);
                Self { problem: Box::new(problem), header: Some((WWW_AUTHENTICATE.as_str(), challenge)) }
            }
            Unknown::Failed(error) => error.into(),
        }
    }
}
