//! What a store operation can fail with.

use diesel::result::{DatabaseErrorKind, Error as Diesel};

use crate::domain::Refusal;
use crate::secret::SealError;

/// The rules that people meet when they choose a name, as each database calls them, and what to say.
const NAMES: [(&str, &str, Refusal); 7] = [
    (": authority_requests.name", "authority_requests_name_key", Refusal::AuthorityRequested),
    (": authorities.name", "authorities_name_key", Refusal::AuthorityNameTaken),
    (": groups.display_name", "groups_display_name_key", Refusal::GroupNameTaken),
    (": profiles.display_name", "profiles_display_name_key", Refusal::ProfileNameTaken),
    (": receivers.name", "receivers_name_key", Refusal::ReceiverNameTaken),
    (": roles.display_name", "roles_display_name_key", Refusal::RoleNameTaken),
    (": users.upn", "users_upn_key", Refusal::UserNameTaken),
];

/// Why a store operation failed. A write that returns an error is rolled back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database is locked or a transaction lost against another; trying again may help.
    #[error("the database is busy")]
    Busy,
    /// A unique or foreign key rule said no; the text names it.
    #[error("conflict: {0}")]
    Conflict(String),
    /// A row does not hold what the code expects.
    #[error("corrupt row: {0}")]
    Corrupt(String),
    /// Anything else the database said.
    #[error("database: {0}")]
    Database(#[source] Diesel),
    /// The row that was asked for does not exist.
    #[error("not found")]
    NotFound,
    /// A rule said no inside a transaction.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The database cannot be reached, or the writer has stopped.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
}

impl Error {
    /// A row that does not hold what the code expects.
    pub fn corrupt(what: impl std::fmt::Display) -> Self {
        Self::Corrupt(what.to_string())
    }
}

impl From<Diesel> for Error {
    fn from(error: Diesel) -> Self {
        match error {
            Diesel::NotFound => Self::NotFound,
            Diesel::DatabaseError(DatabaseErrorKind::UniqueViolation | DatabaseErrorKind::ForeignKeyViolation, info) => {
                let rule = info.constraint_name().unwrap_or_else(|| info.message());
                match NAMES.iter().find(|(sqlite, postgres, _)| rule.ends_with(sqlite) || rule == *postgres) {
                    Some((.., refusal)) => Self::Refused(*refusal),
                    None => Self::Conflict(format!("it exists already, or what it belongs to is gone ({rule})")),
                }
            }
            Diesel::DatabaseError(DatabaseErrorKind::SerializationFailure, _) => Self::Busy,
            Diesel::DatabaseError(DatabaseErrorKind::ClosedConnection, info) => Self::Unavailable(info.message().to_owned()),
            Diesel::DatabaseError(_, ref info)
                if info.message().contains("deadlock detected") || info.message().contains("database is locked") =>
            {
                Self::Busy
            }
            Diesel::BrokenTransactionManager => Self::Unavailable("broken transaction".into()),
            other => Self::Database(other),
        }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Corrupt(error.to_string())
    }
}

impl From<SealError> for Error {
    fn from(error: SealError) -> Self {
        Self::Corrupt(error.to_string())
    }
}

/// The result of a store operation.
pub type Result<T> = std::result::Result<T, Error>;
