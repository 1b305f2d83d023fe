//! The OAuth 2.0 and OpenID Connect provider: who gets which token. Paths, claims and numbers of errors are Entra ID's, so that its clients
//! work.

pub mod access_token;
pub mod asked;
pub mod authorize;
pub mod client;
pub mod client_credentials;
pub mod device_code;
pub mod end_session;
pub mod id_token;
pub mod keys;
pub mod programs;
pub mod redeem;
pub mod resource;
pub mod userinfo;

use std::fmt;

use crate::app::App;
use crate::domain::oauth::Failure;
use crate::service;

/// Why no token was given.
#[derive(Debug)]
pub enum Error {
    /// The request was refused; the text says more for people who look for the fault.
    Refused(Failure, String),
    /// Something else failed.
    Service(service::Error),
}

impl Error {
    /// Refused, with a part of the request that is named.
    pub fn of(failure: Failure, detail: impl Into<String>) -> Self {
        Self::Refused(failure, detail.into())
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure, String::new())
    }
}

impl<E: Into<service::Error>> From<E> for Error {
    fn from(error: E) -> Self {
        Self::Service(error.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(failure, detail) if detail.is_empty() => write!(f, "AADSTS{}: {}", failure.number(), failure.text()),
            Self::Refused(failure, detail) => write!(f, "AADSTS{}: {} ({detail})", failure.number(), failure.text()),
            Self::Service(error) => error.fmt(f),
        }
    }
}

/// The result of asking for a token.
pub type Result<T> = std::result::Result<T, Error>;

/// Who issues tokens, as the claim `iss` says it.
#[must_use]
pub fn issuer(app: &App) -> String {
    format!("{}/{}/v2.0", app.config.web_url(), app.tenant)
}

/// Whether the first part of a path names this organisation: by its id, by the words that stand for any organisation, by a domain of its
/// users, or by the server's own name.
#[must_use]
pub fn is_tenant(app: &App, name: &str) -> bool {
    let own = |known: &str| known.eq_ignore_ascii_case(name);
    own(app.tenant.as_str())
        || own("common")
        || own("organizations")
        || own(&app.config.web_host())
        || app.config.domains.iter().any(|d| own(d))
}
