//! The web service of Apple Business Manager for Automated Device Enrolment: the server token, the signed request for a session, and the
//! messages about devices and profiles (Apple, "Device Assignment"; OAuth 1.0a in RFC 5849).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use serde::{Deserialize, Serialize};

use crate::wire::Malformed;

/// The header that carries the session, in requests and, renewed, in answers.
pub const SESSION_HEADER: &str = "x-adm-auth-session";
/// The version of the protocol that is spoken: the first in which devices have a date for their migration.
pub const PROTOCOL_VERSION: &str = "8";
/// Longest token file, and longest text of a device's record, in bytes.
pub const LONGEST_TOKEN: usize = 64 * 1024;
const LONGEST_TEXT: usize = 1024;
/// Longest serial number.
const LONGEST_SERIAL: usize = 64;

/// The message of a token file: S/MIME headers, an empty line, and CMS EnvelopedData in base64; DER on its own is taken, too.
///
/// # Errors
/// When there is no base64 after the headers.
pub fn envelope(file: &[u8]) -> Result<Vec<u8>, Malformed> {
    if file.first() == Some(&0x30) {
        return Ok(file.to_vec());
    }
    let wrong = || Malformed::new("no S/MIME message", "token file");
    let text = std::str::from_utf8(file).map_err(|_| wrong())?;
    STANDARD.decode(body(text).split_whitespace().collect::<String>()).map_err(|_| wrong())
}

/// What follows the headers, when there are any.
fn body(text: &str) -> &str {
    let has_headers = text.lines().next().is_some_and(|line| line.contains(": "));
    let empty = ["\r\n\r\n", "\n\n"].into_iter().filter_map(|gap| Some(text.find(gap)? + gap.len())).min();
    empty.filter(|_| has_headers).and_then(|at| text.get(at..)).unwrap_or(text)
}

/// A server token: whoever has it is this server to Apple, for a year.
#[derive(Clone, Serialize, Deserialize)]
pub struct Token {
    /// Which server.
    pub consumer_key: String,
    consumer_secret: String,
    /// Which token.
    access_token: String,
    access_secret: String,
    /// Its end (RFC 3339).
    pub access_token_expiry: String,
}

impl Token {
    /// Reads the token between the marks of the message inside a token file.
    ///
    /// # Errors
    /// When the marks or a part of the token are missing.
    pub fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(message).map_err(|_| Malformed::new("no text", "token"))?;
        let (_, rest) = text.split_once("-----BEGIN MESSAGE-----").ok_or_else(|| Malformed::new("no beginning", "token"))?;
        let (inside, _) = rest.split_once("-----END MESSAGE-----").ok_or_else(|| Malformed::new("no end", "token"))?;
        let line: String = inside.lines().map(str::trim).collect();
        let token: Self = serde_json::from_str(&line).map_err(|_| Malformed::new("not the five parts of a token", "token"))?;
        let parts = [&token.consumer_key, &token.consumer_secret, &token.access_token, &token.access_secret];
        let whole = parts.iter().all(|part| (1..=LONGEST_TEXT).contains(&part.len()));
        if whole { Ok(token) } else { Err(Malformed::new("a part of the token is empty or too long", "token")) }
    }

    /// The value of `Authorization` for `GET url`: a request without parameters and body, signed with HMAC-SHA1 (RFC 5849 section 3.4.2).
    /// `timestamp` is in seconds since 1970; `nonce` is used once.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn authorization(&self, url: &str, timestamp: i64, nonce: &str) -> Result<String, ErrorStack> {
        let timestamp = timestamp.to_string();
        let parameters = [
            ("oauth_consumer_key", self.consumer_key.as_str()),
            ("oauth_nonce", nonce),
            ("oauth_signature_method", "HMAC-SHA1"),
            ("oauth_timestamp", &timestamp),
            ("oauth_token", &self.access_token),
            ("oauth_version", "1.0"),
        ];
        let signature = sign("GET", url, &parameters, &self.consumer_secret, &self.access_secret)?;
        let mut value = String::from("OAuth realm=\"ADM\"");
        for (name, text) in parameters.iter().copied().chain([("oauth_signature", signature.as_str())]) {
            let _ = write!(value, ", {name}=\"{}\"", escape(text));
        }
        Ok(value)
    }
}

/// A signature with HMAC-SHA1 (RFC 5849 section 3.4.2) over a request whose parameters are in `parameters` only.
fn sign(method: &str, url: &str, parameters: &[(&str, &str)], consumer_secret: &str, access_secret: &str) -> Result<String, ErrorStack> {
    // Section 3.4.1.3.2: escaped, then sorted by name and value.
    let mut pairs: Vec<_> = parameters.iter().map(|(name, value)| (escape(name), escape(value))).collect();
    pairs.sort();
    let joined: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    // Section 3.4.1.1.
    let base = format!("{method}&{}&{}", escape(url), escape(&joined.join("&")));
    let key = PKey::hmac(format!("{}&{}", escape(consumer_secret), escape(access_secret)).as_bytes())?;
    Ok(STANDARD.encode(Signer::new(MessageDigest::sha1(), &key)?.sign_oneshot_to_vec(base.as_bytes())?))
}

/// Percent-encoding as OAuth wants it (RFC 5849 section 3.6): all but unreserved characters.
fn escape(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut escaped, b| {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
            escaped.push(char::from(b));
        } else {
            let _ = write!(escaped, "%{b:02X}");
        }
        escaped
    })
}

/// What the service says no with: a word somewhere in the body, sometimes in quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// The session is over: begin another one.
    SessionOver,
    /// Somebody has to accept Apple's new terms.
    TermsNotSigned,
    /// The token does not, or not any more, let this server in.
    AccessDenied,
    /// The cursor is too old or unknown: begin again with the full list.
    CursorLost,
    /// The full list has been read to its end.
    CursorExhausted,
    /// Too many requests.
    Throttled,
    /// Anything else.
    Other,
}

impl Complaint {
    /// Judges an answer that is no success.
    #[must_use]
    pub fn read(status: u16, body: &str) -> Self {
        match status {
            _ if body.contains("T_C_NOT_SIGNED") => Self::TermsNotSigned,
            _ if body.contains("EXHAUSTED_CURSOR") => Self::CursorExhausted,
            _ if ["EXPIRED_CURSOR", "INVALID_CURSOR", "CURSOR_REQUIRED"].iter().any(|word| body.contains(word)) => Self::CursorLost,
            _ if ["ACCESS_DENIED", "token_expired", "token_rejected", "signature_invalid"].iter().any(|word| body.contains(word)) => {
                Self::AccessDenied
            }
            401 => Self::SessionOver,
            403 if body.contains("FORBIDDEN") => Self::SessionOver,
            403 => Self::AccessDenied,
            429 | 503 => Self::Throttled,
            _ => Self::Other,
        }
    }
}

/// The answer to `GET /session`.
#[derive(Debug, Deserialize)]
pub struct Session {
    /// The session.
    pub auth_session_token: String,
}

/// The answer to `GET /account`.
#[derive(Clone, Debug, Deserialize)]
pub struct Account {
    /// Name of the server in Apple Business Manager.
    #[serde(default)]
    pub server_name: String,
    /// Which server; it stays when the token is renewed.
    pub server_uuid: String,
    /// Name of the organisation.
    #[serde(default)]
    pub org_name: String,
}

/// `POST /server/devices` and `POST /devices/sync`.
#[derive(Clone, Debug, Serialize)]
pub struct Fetch<'a> {
    /// Most devices in the answer.
    pub limit: usize,
    /// Where the last answer ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<&'a str>,
}

/// The answer to them.
#[derive(Clone, Debug, Deserialize)]
pub struct Page {
    /// Where the next one begins.
    pub cursor: String,
    /// Whether more can be had at once.
    pub more_to_follow: bool,
    /// The devices.
    #[serde(default)]
    pub devices: Vec<Device>,
}

/// A device that the organisation gave to this server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Device {
    /// Serial number.
    pub serial_number: String,
    /// Model, such as `MacBook Pro`.
    pub model: Option<String>,
    /// More about it.
    pub description: Option<String>,
    /// Colour.
    pub color: Option<String>,
    /// Inventory number of the organisation.
    pub asset_tag: Option<String>,
    /// `OSX`, `iOS`, `tvOS`.
    pub os: Option<String>,
    /// `Mac`, `iPhone`, `iPad`, …
    pub device_family: Option<String>,
    /// `empty`, `assigned`, `pushed`, `removed`.
    pub profile_status: Option<String>,
    /// The profile that it is told.
    pub profile_uuid: Option<String>,
    /// Since when it is this server's (RFC 3339).
    pub device_assigned_date: Option<String>,
    /// Until when it has to enrol here, when it comes from another server (RFC 3339).
    pub mdm_migration_deadline: Option<String>,
    /// `added`, `modified`, `deleted`, in some case or other; only where changes are told, and not always.
    pub op_type: Option<String>,
    /// When that happened (RFC 3339); only with `op_type`, and not always.
    pub op_date: Option<String>,
}

impl Device {
    /// Whether the record can be kept: its serial number has a sensible form. Longer texts than sensible are left out.
    #[must_use]
    pub fn bounded(mut self) -> Option<Self> {
        let serial = &self.serial_number;
        if serial.is_empty() || serial.len() > LONGEST_SERIAL || !serial.bytes().all(|b| b.is_ascii_graphic()) {
            return None;
        }
        let texts = [
            &mut self.model,
            &mut self.description,
            &mut self.color,
            &mut self.asset_tag,
            &mut self.os,
            &mut self.device_family,
            &mut self.profile_status,
            &mut self.profile_uuid,
            &mut self.device_assigned_date,
            &mut self.mdm_migration_deadline,
        ];
        for text in texts {
            *text = text.take().filter(|text| !text.is_empty() && text.len() <= LONGEST_TEXT);
        }
        Some(self)
    }

    /// Whether the device left this server.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.op_type.as_ref().is_some_and(|kind| kind.eq_ignore_ascii_case("deleted"))
    }
}

/// Path of [`ServiceDiscovery`].
pub const DISCOVERY: &str = "/account-driven-enrollment/profile";

/// Where devices enrol by account whose domain does not say (`POST` sets it, `GET` reads it).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceDiscovery {
    /// The address of the document that says where to enrol.
    #[serde(rename = "mdm_service_discovery_url")]
    pub url: String,
}

/// What Setup Assistant is told (`POST /profile`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Profile {
    /// Name, for people.
    pub profile_name: String,
    /// Where the device asks for its enrolment profile.
    pub url: String,
    /// The page that Setup Assistant shows first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration_web_url: Option<String>,
    /// Always true in effect.
    pub is_supervised: bool,
    /// The step cannot be skipped.
    pub is_mandatory: bool,
    /// The user may remove the management.
    pub is_mdm_removable: bool,
    /// Setup Assistant waits until the server lets it go on.
    pub await_device_configured: bool,
    /// Setup Assistant presses its own buttons.
    pub auto_advance_setup: bool,
    /// The device may be paired with other computers.
    pub allow_pairing: bool,
    /// Shared iPad.
    pub is_multi_user: bool,
    /// The device erases itself and comes back when its user has done (iOS 26); left out where it is not so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_return_to_service: bool,
    /// A restored backup brings no other profile.
    pub do_not_use_profile_from_backup: bool,
    /// Department, shown.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub department: String,
    /// Telephone number of the support, shown.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub support_phone_number: String,
    /// Its mail address, shown.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub support_email_address: String,
    /// Language, for devices that press their own buttons.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub language: String,
    /// Region, for the same.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// Roots that the device trusts for the server, DER in base64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub anchor_certs: Vec<String>,
    /// Panes that are not shown.
    pub skip_setup_items: Vec<String>,
}

/// The answer to it.
#[derive(Debug, Deserialize)]
pub struct Defined {
    /// The profile's identifier from now on.
    pub profile_uuid: String,
}

/// `PUT /profile/devices`.
#[derive(Debug, Serialize)]
pub struct Assign<'a> {
    /// The profile.
    pub profile_uuid: &'a str,
    /// Serial numbers.
    pub devices: &'a [String],
}

/// The answer to it.
#[derive(Debug, Deserialize)]
pub struct Assigned {
    /// What became of each serial number: `SUCCESS`, `NOT_ACCESSIBLE`, `FAILED`, `THROTTLED`.
    #[serde(default)]
    pub devices: BTreeMap<String, String>,
    /// How long to wait with those that were throttled.
    pub retry_after_seconds: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_signed_as_in_the_example_of_the_rfc() {
        // RFC 5849 section 1.2, the last request.
        let parameters = [
            ("oauth_consumer_key", "dpf43f3p2l4k3l03"),
            ("oauth_token", "nnch734d00sl2jdk"),
            ("oauth_signature_method", "HMAC-SHA1"),
            ("oauth_timestamp", "137131202"),
            ("oauth_nonce", "chapoH"),
            ("file", "vacation.jpg"),
            ("size", "original"),
        ];
        let signature = sign("GET", "http://photos.example.net/photos", &parameters, "kd94hf93k423kf44", "pfkkdhi9sl3r4s00").unwrap();
        assert_eq!(signature, "MdpQcU8iPSUjWoN/UDMsK2sui9I=");
    }

    #[test]
    fn a_header_holds_every_parameter_escaped() {
        let token = Token {
            consumer_key: "CK_1".into(),
            consumer_secret: "CS".into(),
            access_token: "AT+/=".into(),
            access_secret: "AS".into(),
            access_token_expiry: "2027-01-01T00:00:00Z".into(),
        };
        let header = token.authorization("https://mdmenrollment.apple.com/session", 1_700_000_000, "n0nce").unwrap();
        assert!(header.starts_with("OAuth realm=\"ADM\", oauth_consumer_key=\"CK_1\", oauth_nonce=\"n0nce\""), "{header}");
        assert!(header.contains("oauth_token=\"AT%2B%2F%3D\"") && header.contains("oauth_signature=\""), "{header}");
        assert!(!header.contains('\n'));
    }

    #[test]
    fn tokens_are_read_between_their_marks() {
        let message = "Content-Type: text/plain\r\n\r\n-----BEGIN MESSAGE-----\r\n{\"consumer_key\":\"CK\",\"consumer_secret\":\"CS\",\
                       \"access_token\":\r\n\"AT\",\"access_secret\":\"AS\",\"access_token_expiry\":\"2027-01-01T00:00:00Z\"}\r\n-----END MESSAGE-----\r\n";
        assert_eq!(Token::decode(message.as_bytes()).unwrap().consumer_key, "CK");
        for broken in ["", "-----BEGIN MESSAGE-----{}", "-----BEGIN MESSAGE-----\n{}\n-----END MESSAGE-----"] {
            assert!(Token::decode(broken.as_bytes()).is_err(), "{broken}");
        }
        let empty = message.replace("\"CK\"", "\"\"");
        assert!(Token::decode(empty.as_bytes()).is_err());
    }

    #[test]
    fn envelopes_come_with_headers_without_them_and_in_der() {
        for text in ["Content-Type: application/pkcs7-mime\r\nX: y\r\n\r\nMAMC\r\nAQE=\r\n", "Content-Type: x\n\nMAMCAQE=", "MAMCAQE="] {
            assert_eq!(envelope(text.as_bytes()).unwrap(), [0x30, 3, 2, 1, 1], "{text:?}");
        }
        assert_eq!(envelope(&[0x30, 3, 2, 1, 1]).unwrap(), [0x30, 3, 2, 1, 1]);
        assert!(envelope(b"Content-Type: x\n\n***").is_err() && envelope(&[0xff, 0xfe]).is_err());
    }

    #[test]
    fn complaints_are_known_by_a_word_in_quotes_or_not() {
        for (status, body, complaint) in [
            (401, "", Complaint::SessionOver),
            (401, "oauth_problem=token_expired", Complaint::AccessDenied),
            (403, "FORBIDDEN", Complaint::SessionOver),
            (403, "\"T_C_NOT_SIGNED\"", Complaint::TermsNotSigned),
            (403, "ACCESS_DENIED", Complaint::AccessDenied),
            (400, "\"INVALID_CURSOR\"", Complaint::CursorLost),
            (400, "EXPIRED_CURSOR", Complaint::CursorLost),
            (400, "EXHAUSTED_CURSOR", Complaint::CursorExhausted),
            (429, "", Complaint::Throttled),
            (500, "oops", Complaint::Other),
        ] {
            assert_eq!(Complaint::read(status, body), complaint, "{status} {body}");
        }
    }

    #[test]
    fn records_are_bounded() {
        let device = |serial: &str| Device { serial_number: serial.into(), model: Some("m".repeat(2000)), ..Device::default() };
        assert_eq!(device("C02ABC").bounded().unwrap().model, None);
        assert!(device("").bounded().is_none() && device("a b").bounded().is_none() && device(&"x".repeat(65)).bounded().is_none());
    }
}
