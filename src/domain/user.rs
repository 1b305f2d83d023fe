//! A person in the directory.

use crate::ids::UserId;

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
    /// Whether the person may sign in.
    pub enabled: bool,
    /// What else a directory says of people.
    pub details: Details,
}

/// What a directory says of people beside who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Details {
    /// Given name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given_name: Option<String>,
    /// Family name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub surname: Option<String>,
    /// What they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_title: Option<String>,
    /// Where in the organisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub department: Option<String>,
    /// Where they work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub office_location: Option<String>,
    /// Mobile telephone number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mobile_phone: Option<String>,
    /// Number among the employees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub employee_id: Option<String>,
    /// Country, two letters (ISO 3166).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_location: Option<String>,
    /// Language, such as `de-CH` (BCP 47).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferred_language: Option<String>,
    /// What an identity provider that provisions the person calls them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
}

/// Longest of the details, in letters.
pub const LONGEST_DETAIL: usize = 128;

impl Details {
    /// All that are given.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        [
            &self.given_name,
            &self.surname,
            &self.job_title,
            &self.department,
            &self.office_location,
            &self.mobile_phone,
            &self.employee_id,
            &self.usage_location,
            &self.preferred_language,
            &self.external_id,
        ]
        .into_iter()
        .filter_map(Option::as_deref)
    }
}
