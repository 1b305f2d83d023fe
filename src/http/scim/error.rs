//! How errors look to clients of SCIM (RFC 7644, section 3.12).

use std::borrow::Cow;

use actix_web::ResponseError as _;
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};

use super::route::Answer;
use crate::domain::Refusal;
use crate::http::error::Problem;
use crate::service;
use crate::service::directory::provision::TooMany;
use crate::service::page;
use crate::wire::scim::{Kind, Wrong, error};

/// An error on its way to the caller.
#[derive(Clone, Debug)]
pub struct ScimProblem {
    status: StatusCode,
    kind: Option<Kind>,
    detail: Cow<'static, str>,
    headers: Vec<(&'static str, String)>,
}

/// The result of a call.
pub(super) type Result<T> = std::result::Result<T, ScimProblem>;

impl ScimProblem {
    fn new(status: StatusCode, kind: Option<Kind>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, kind, detail: detail.into(), headers: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// There is no such thing.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, None, "There is nothing here.")
    }

    /// The caller may not do that.
    pub fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, None, detail)
    }

    /// Nobody was recognised; `more` belongs to the challenge (RFC 6750, section 3).
    pub fn unauthorized(detail: &'static str, more: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, None, detail).with(WWW_AUTHENTICATE.as_str(), format!("Bearer realm=\"scim\"{more}"))
    }

    /// The address has no such method.
    pub fn method(possible: &str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, None, format!("Possible here: {possible}.")).with(ALLOW.as_str(), possible.to_owned())
    }

    /// Too many calls; how many seconds to wait.
    pub fn throttled(seconds: u64) -> Self {
        Problem::throttled(seconds).into()
    }

    /// The resource is of another version than the one that the caller saw.
    pub fn precondition() -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, None, "The resource was changed since you read it; read it again.")
    }

    /// What is answered.
    pub fn answer(self) -> Answer {
        let body = error(self.status.as_u16(), self.kind, &self.detail);
        Answer { status: self.status, headers: self.headers, body: Some(body) }
    }
}

impl From<Wrong> for ScimProblem {
    fn from(wrong: Wrong) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Some(wrong.kind), wrong.detail)
    }
}

impl From<TooMany> for ScimProblem {
    fn from(many: TooMany) -> Self {
        let TooMany(name) = many;
        let detail =
            format!("'{name}' has more members, or memberships, than an answer shows; ask with excludedAttributes=members,groups.");
        Wrong::new(Kind::TooMany, detail).into()
    }
}

impl From<page::Error> for ScimProblem {
    fn from(error: page::Error) -> Self {
        match error {
            page::Error::Wrong(wrong) => Wrong::new(Kind::InvalidFilter, wrong.0).into(),
            page::Error::Resync => Wrong::new(Kind::InvalidValue, "The place from which the call goes on is not known.").into(),
            page::Error::Service(error) => error.into(),
        }
    }
}

impl From<service::Error> for ScimProblem {
    fn from(error: service::Error) -> Self {
        use service::Error;
        let named = |refusal: Refusal, detail: Option<String>| {
            let text = detail.map_or_else(|| refusal.to_string(), |detail| format!("{refusal} ({detail})"));
            let (status, kind) = match refusal {
                Refusal::GroupNameTaken | Refusal::UserNameTaken => (StatusCode::CONFLICT, Some(Kind::Uniqueness)),
                Refusal::GroupDynamic => (StatusCode::BAD_REQUEST, Some(Kind::Mutability)),
                Refusal::BreakGlassNamed | Refusal::MethodsOfSuperior | Refusal::RoleBeyondGiver | Refusal::RoleLastAdministrator => {
                    (StatusCode::FORBIDDEN, None)
                }
                _ => (StatusCode::BAD_REQUEST, Some(Kind::InvalidValue)),
            };
            Self::new(status, kind, text)
        };
        match error {
            Error::Conflict(what) => Self::new(StatusCode::CONFLICT, None, what),
            Error::Invalid(refusal, detail) => named(refusal, Some(detail)),
            Error::Malformed(malformed) => Self::new(StatusCode::BAD_REQUEST, Some(Kind::InvalidSyntax), malformed.to_string()),
            Error::NotFound(_) | Error::Unknown(_) => Self::not_found(),
            Error::Refused(refusal) => named(refusal, None),
            Error::Throttled(seconds) => Self::throttled(seconds),
            Error::Unavailable(why) => {
                tracing::warn!(error = %why, "unavailable");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, None, "Something does not answer; try again later.")
                    .with(RETRY_AFTER.as_str(), "5".into())
            }
            Error::Internal(reason) => {
                tracing::error!(error = ?reason, "internal error");
                Problem::internal().into()
            }
        }
    }
}

impl From<Problem> for ScimProblem {
    fn from(problem: Problem) -> Self {
        let made = Self::new(problem.status_code(), None, problem.detail().to_owned());
        match problem.retry_after() {
            Some(seconds) => made.with(RETRY_AFTER.as_str(), seconds.to_string()),
            None => made,
        }
    }
}
