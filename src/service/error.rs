//! What a use case can fail with; each face renders it in its own protocol's language.

use crate::domain::Refusal;
use crate::wire::Malformed;

/// Why a use case failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else changed it first, or it exists already.
    #[error("conflict: {0}")]
    Conflict(String),
    /// Our own fault; the text is for the log, never for the outside.
    #[error("internal: {0}")]
    Internal(#[source] anyhow::Error),
    /// A rule said no to a part of what was given; the text names the part and what is expected.
    #[error("{}: {} ({})", .0.code(), .1, .0.text())]
    Invalid(Refusal, String),
    /// The message does not follow its protocol.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// What was named does not exist; the text says what kind of thing.
    #[error("not found: {0}")]
    NotFound(&'static str),
    /// Nothing is called so; the text says what kind of thing was sought, under which name, and what to do.
    #[error("not found: {0}")]
    Unknown(String),
    /// A rule said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too many tries; how many seconds to wait.
    #[error("too many requests, wait {0} s")]
    Throttled(u64),
    /// A dependency does not answer; trying later may help.
    #[error("unavailable: {0}")]
    Unavailable(String),
}

impl Error {
    /// Our own fault.
    pub fn internal(error: impl Into<anyhow::Error>) -> Self {
        Self::Internal(error.into())
    }
}

impl From<crate::store::Error> for Error {
    fn from(error: crate::store::Error) -> Self {
        use crate::store::Error as Store;
        match error {
            Store::Refused(refusal) => Self::Refused(refusal),
            Store::NotFound => Self::NotFound("row"),
            Store::Conflict(what) => Self::Conflict(what),
            Store::Busy => Self::Unavailable("the database is busy".into()),
            Store::Unavailable(why) => Self::Unavailable(why),
            other => Self::Internal(other.into()),
        }
    }
}

impl From<openssl::error::ErrorStack> for Error {
    fn from(error: openssl::error::ErrorStack) -> Self {
        Self::Internal(error.into())
    }
}

impl From<crate::domain::certificate::Unresolved> for Error {
    fn from(unresolved: crate::domain::certificate::Unresolved) -> Self {
        Self::Invalid(unresolved.refusal, unresolved.subject)
    }
}

impl From<crate::secret::SealError> for Error {
    fn from(error: crate::secret::SealError) -> Self {
        Self::Internal(error.into())
    }
}

/// The result of a use case.
pub type Result<T, E = Error> = std::result::Result<T, E>;
