//! A person in the directory.

use crate::ids::UserId;

words! {
    /// What a user may do in the product.
    Role {
        /// Uses devices and the self-service pages.
        User = "user",
        /// Administers everything.
        Administrator = "administrator",
    }
}

/// A person.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct User {
    /// Identifier.
    pub id: UserId,
    /// User principal name, lower case: what the person signs in with.
    pub upn: String,
    /// Name for people.
    pub display_name: String,
    /// Mail address.
    pub mail: Option<String>,
    /// Account name in an on-premises directory.
    pub sam_account_name: Option<String>,
    /// Security identifier (SID) of the on-premises account, as text: goes into certificates for strong mapping.
    pub security_identifier: Option<String>,
    /// Distinguished name in the on-premises directory, RFC 4514.
    pub distinguished_name: Option<String>,
    /// What the person may do.
    pub role: Role,
    /// Whether the person may sign in.
    pub enabled: bool,
}
