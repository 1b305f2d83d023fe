//! Apps and Books of Apple Business Manager (API version 2): the content token, licences and who has them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::wire::Malformed;

/// Longest content token that is read, in bytes.
pub const LONGEST_TOKEN: usize = 16 * 1024;
/// Numbers of errors that say that the token is not good (any more): expired, invalid, revoked.
const TOKEN_ERRORS: [i64; 4] = [9621, 9622, 9623, 9625];

/// What a content token's file holds (`sToken_for_….vpptoken`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContentToken {
    /// When it ends, in Apple's own form.
    pub exp_date: String,
    /// The organisation.
    #[serde(default)]
    pub org_name: String,
}

impl ContentToken {
    /// Reads the file's text, which is the token itself, too.
    ///
    /// # Errors
    /// When it is no content token.
    pub fn decode(text: &str) -> Result<Self, Malformed> {
        let wrong = || Malformed::new("not a content token", "token");
        if text.len() > LONGEST_TOKEN {
            return Err(wrong());
        }
        let json = STANDARD.decode(text.trim()).map_err(|_| wrong())?;
        serde_json::from_slice(&json).map_err(|_| wrong())
    }

    /// The end as RFC 3339 writes it: Apple leaves the colon of the offset out.
    #[must_use]
    pub fn ends_at(&self) -> String {
        match self.exp_date.rsplit_once(['+', '-']) {
            Some((rest, offset)) if rest.contains('T') && offset.len() == 4 && offset.is_ascii() => {
                let sign = self.exp_date.get(rest.len()..=rest.len()).unwrap_or("+");
                let (hours, minutes) = offset.split_at(2);
                format!("{rest}{sign}{hours}:{minutes}")
            }
            _ => self.exp_date.clone(),
        }
    }
}

/// Which device management has the token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Management {
    /// Its identifier.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it likes to note.
    pub metadata: String,
}

/// What is known of a token's location (`/client/config`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientConfig {
    /// The location's identifier.
    pub u_id: String,
    /// Its name.
    #[serde(default)]
    pub location_name: String,
    /// Which device management has it.
    #[serde(default)]
    pub mdm_info: Option<Management>,
}

/// Says which device management has the token.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// Which.
    pub mdm_info: Management,
}

/// What a request may hold (`/service/config`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Limits {
    /// Serial numbers.
    pub max_serial_numbers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_serial_numbers: 25 }
    }
}

/// The service's own configuration, as far as it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServiceConfig {
    /// What a request may hold.
    pub limits: Limits,
}

/// An application that the organisation has licences for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asset {
    /// Its number in the store.
    pub adam_id: String,
    /// Which kind of licence.
    #[serde(default)]
    pub pricing_param: String,
    /// Devices may have it, and not only people.
    #[serde(default)]
    pub device_assignable: bool,
    /// How many licences somebody has.
    #[serde(default)]
    pub assigned_count: i64,
    /// How many are left.
    #[serde(default)]
    pub available_count: i64,
    /// How many there are.
    #[serde(default)]
    pub total_count: i64,
}

/// A page of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Assets {
    /// The applications.
    pub assets: Vec<Asset>,
    /// The next page, when there is one.
    pub next_page_index: Option<u32>,
}

/// One application of a request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Wish {
    /// Its number in the store.
    pub adam_id: String,
    /// Which kind of licence.
    pub pricing_param: &'static str,
}

/// Gives licences to devices, or takes them back (`/assets/associate`, `/assets/disassociate`).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Of what.
    pub assets: Vec<Wish>,
    /// Whose, by serial number.
    pub serial_numbers: Vec<String>,
}

impl Change {
    /// Of one application.
    #[must_use]
    pub fn of(adam_id: i64, serial_numbers: Vec<String>) -> Self {
        Self { assets: vec![Wish { adam_id: adam_id.to_string(), pricing_param: "STDQ" }], serial_numbers }
    }
}

/// Under which name the service works on a change.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// The name.
    pub event_id: String,
}

/// How far a change is (`/status`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// `PENDING`, `COMPLETE` or `FAILED`.
    pub event_status: String,
    /// What was not done.
    #[serde(default)]
    pub failures: Vec<Complaint>,
}

/// Why something was not done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Complaint {
    /// Apple's number of the error.
    pub error_number: i64,
    /// For people.
    pub error_message: String,
}

impl Complaint {
    /// Whether the token is not good (any more).
    #[must_use]
    pub fn is_of_token(&self) -> bool {
        TOKEN_ERRORS.contains(&self.error_number)
    }

    /// In short, for people.
    #[must_use]
    pub fn words(&self) -> String {
        let plain = self.error_message.chars().filter(|c| !c.is_control()).take(120).collect::<String>();
        format!("{} {plain}", self.error_number)
    }
}

/// Who has licences (`/assignments`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Assignments {
    /// One for each licence.
    pub assignments: Vec<Assignment>,
}

/// Somebody has a licence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Assignment {
    /// Of what.
    pub adam_id: String,
    /// The device.
    pub serial_number: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_token_is_read_with_its_end() {
        let text = STANDARD.encode(r#"{"token":"x","expDate":"2027-02-03T04:05:06+0000","orgName":"Example"}"#);
        let token = ContentToken::decode(&format!("{text}\n")).unwrap();
        assert_eq!((token.ends_at().as_str(), token.org_name.as_str()), ("2027-02-03T04:05:06+00:00", "Example"));
        let other = ContentToken { exp_date: "2027-02-03T04:05:06Z".into(), ..token };
        assert_eq!(other.ends_at(), "2027-02-03T04:05:06Z");
        for wrong in ["", "x", "e30=", &"A".repeat(20_000)] {
            assert!(ContentToken::decode(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn answers_are_read_although_they_say_little() {
        let config: ServiceConfig = serde_json::from_str("{}").unwrap();
        assert_eq!(config.limits.max_serial_numbers, 25);
        let complaint: Complaint = serde_json::from_str(r#"{"errorNumber":9622,"errorMessage":"Expired\n"}"#).unwrap();
        assert!(complaint.is_of_token());
        assert_eq!(complaint.words(), "9622 Expired");
    }
}
