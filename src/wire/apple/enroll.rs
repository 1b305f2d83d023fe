//! Enrolment: the payload that makes a device managed, the answers that stop an enrolment, and the document that says where to enrol.

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::super::Malformed;
use super::super::plist::Data;

/// The payload that makes a device managed.
pub const MDM: &str = "com.apple.mdm";

/// What the server may do, bit by bit.
pub mod access {
    /// See installed profiles.
    pub const INSPECT_PROFILES: i64 = 1;
    /// Install and remove profiles.
    pub const CHANGE_PROFILES: i64 = 2;
    /// Lock, and remove the passcode.
    pub const LOCK: i64 = 4;
    /// Erase.
    pub const ERASE: i64 = 8;
    /// Ask what the device is.
    pub const DEVICE_INFORMATION: i64 = 16;
    /// Ask for network identifiers.
    pub const NETWORK_INFORMATION: i64 = 32;
    /// See provisioning profiles.
    pub const INSPECT_PROVISIONING: i64 = 64;
    /// Install and remove provisioning profiles.
    pub const CHANGE_PROVISIONING: i64 = 128;
    /// See applications.
    pub const INSPECT_APPLICATIONS: i64 = 256;
    /// Ask for restrictions.
    pub const RESTRICTIONS: i64 = 512;
    /// Ask about security.
    pub const SECURITY: i64 = 1024;
    /// Change settings.
    pub const SETTINGS: i64 = 2048;
    /// Install and remove applications.
    pub const APPLICATIONS: i64 = 4096;
    /// Everything.
    pub const ALL: i64 = 8191;

    /// Whether a device takes these rights: some, and no right without the one that it builds on.
    #[must_use]
    pub fn holds(rights: i64) -> bool {
        let with = |right: i64, needed: i64| rights & right == 0 || rights & needed != 0;
        (1..=ALL).contains(&rights) && with(CHANGE_PROFILES, INSPECT_PROFILES) && with(CHANGE_PROVISIONING, INSPECT_PROVISIONING)
    }
}

/// The mode of an account-driven enrolment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// A user's own device.
    #[serde(rename = "BYOD")]
    User,
    /// The organisation's device.
    #[serde(rename = "ADDE")]
    Device,
}

impl Mode {
    /// The word in the payload.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "BYOD",
            Self::Device => "ADDE",
        }
    }

    /// The mode of that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::User, Self::Device].into_iter().find(|mode| mode.as_str() == word)
    }

    /// The word in the document that says where to enrol.
    #[must_use]
    pub fn version(self) -> &'static str {
        match self {
            Self::User => "mdm-byod",
            Self::Device => "mdm-adde",
        }
    }
}

/// Where a device expects the outcome of a sign-in in its web view: the token follows.
pub const OUTCOME: &str = "apple-remotemanagement-user-login://authentication-results?access-token=";

/// How a device is sent to sign in on a page: the value of `WWW-Authenticate` in a 401.
#[must_use]
pub fn sign_in_at(url: &str) -> String {
    format!("Bearer method=\"apple-as-web\", url=\"{url}\"")
}

/// The page of such a value.
///
/// # Errors
/// When it is of another scheme or method, or names no page.
pub fn sign_in_page(value: &str) -> Result<&str, Malformed> {
    let wrong = |what| Malformed::new(what, "WWW-Authenticate");
    let parameters = value.strip_prefix("Bearer ").ok_or_else(|| wrong("not Bearer"))?;
    let parameter = |name: &str| {
        let pairs = parameters.split(", ").filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(known, _)| *known == name).and_then(|(_, value)| value.strip_prefix('"')?.strip_suffix('"'))
    };
    if parameter("method") != Some("apple-as-web") {
        return Err(wrong("another method than apple-as-web"));
    }
    parameter("url").filter(|url| url.starts_with("https://")).ok_or_else(|| wrong("no https URL"))
}

/// The user channels of Macs and Shared iPads.
pub const PER_USER: &str = "com.apple.mdm.per-user-connections";
/// The server keeps bootstrap tokens.
pub const BOOTSTRAP_TOKEN: &str = "com.apple.mdm.bootstraptoken";
/// The server answers `GetToken`.
pub const TOKEN: &str = "com.apple.mdm.token";

/// The keys of the payload [`MDM`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Mdm {
    /// The `PayloadUUID` of the identity in the same profile.
    #[serde(rename = "IdentityCertificateUUID")]
    pub identity: String,
    /// The push topic: `com.apple.mgmt.…`. Never changes.
    pub topic: String,
    /// Where commands are fetched. Never changes.
    #[serde(rename = "ServerURL")]
    pub server_url: String,
    /// Where check-in messages go; the server's URL when absent. Never changes.
    #[serde(rename = "CheckInURL", skip_serializing_if = "Option::is_none")]
    pub check_in_url: Option<String>,
    /// Each message carries a signature in the header `Mdm-Signature`.
    #[serde(default)]
    pub sign_message: bool,
    /// What the server may do ([`access`]); absent in a user enrolment. An update may not add to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_rights: Option<i64>,
    /// The device says good-bye when the profile is removed.
    #[serde(default)]
    pub check_out_when_removed: bool,
    /// What the server can do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub server_capabilities: Vec<String>,
    /// The mode of an account-driven enrolment. Never changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enrollment_mode: Option<Mode>,
    /// The user's Managed Apple Account, in an account-driven enrolment. Never changes.
    #[serde(rename = "AssignedManagedAppleID", skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The user of an Apple silicon Mac is asked whether the bootstrap token may authorise updates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_user_to_allow_bootstrap_token_for_authentication: Option<bool>,
}

impl Mdm {
    /// Why a device that has `self` would refuse `next` in its place; `None` when it takes it.
    #[must_use]
    pub fn refuses(&self, next: &Self) -> Option<&'static str> {
        let per_user = |payload: &Self| payload.server_capabilities.iter().any(|c| c == PER_USER);
        let rights = self.access_rights.unwrap_or(0);
        [
            (self.topic == next.topic, "Topic"),
            (self.server_url == next.server_url, "ServerURL"),
            (self.check_in_url == next.check_in_url, "CheckInURL"),
            (self.enrollment_mode == next.enrollment_mode, "EnrollmentMode"),
            (self.account == next.account, "AssignedManagedAppleID"),
            (per_user(self) == per_user(next), "ServerCapabilities"),
            (next.access_rights.unwrap_or(0) & !rights == 0, "AccessRights"),
        ]
        .into_iter()
        .find_map(|(holds, key)| (!holds).then_some(key))
    }
}

/// Why an enrolment, or any request, is answered by 403 with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The device must update first; only when it says that it can.
    SoftwareUpdateRequired {
        /// The version to install; it must be on offer for the device.
        version: String,
        /// Its build.
        build: Option<String>,
    },
    /// Platform SSO must be set up first; only when the device says that it can.
    PlatformSsoRequired {
        /// The profile with the SSO extension's settings.
        profile_url: String,
        /// The manifest of the package with the extension.
        manifest_url: String,
        /// Certificates that the manifest's server must show, when it is not publicly trusted.
        pins: Vec<Data>,
        /// Where the user signs in.
        auth_url: String,
    },
    /// No enrolment for this user from here.
    DiscoveryFailed,
    /// The device is not managed here any more: it removes its enrolment.
    UnrecognizedDevice,
}

impl Stop {
    /// The code that the device acts on.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::SoftwareUpdateRequired { .. } => "com.apple.softwareupdate.required",
            Self::PlatformSsoRequired { .. } => "com.apple.psso.required",
            Self::DiscoveryFailed => "com.apple.well-known.failed",
            Self::UnrecognizedDevice => "com.apple.unrecognized.device",
        }
    }

    /// The body, to be sent as `application/json`; `message` is shown to the user.
    #[must_use]
    pub fn body(&self, message: &str) -> Json {
        let mut body = json!({"code": self.code(), "description": message, "message": message});
        let details = match self {
            Self::SoftwareUpdateRequired { version, build } => {
                let mut details = json!({"OSVersion": version});
                if let (Some(build), Some(details)) = (build, details.as_object_mut()) {
                    details.insert("BuildVersion".into(), build.as_str().into());
                }
                details
            }
            Self::PlatformSsoRequired { profile_url, manifest_url, pins, auth_url } => {
                use base64::Engine as _;
                let mut package = json!({"ManifestURL": manifest_url});
                if let Some(package) = package.as_object_mut().filter(|_| !pins.is_empty()) {
                    let pins = pins.iter().map(|pin| Json::from(base64::engine::general_purpose::STANDARD.encode(&pin.0)));
                    package.insert("PinningCerts".into(), pins.collect());
                }
                json!({"ProfileURL": profile_url, "Package": package, "AuthURL": auth_url})
            }
            Self::DiscoveryFailed | Self::UnrecognizedDevice => return body,
        };
        if let Some(body) = body.as_object_mut() {
            body.insert("details".into(), details);
        }
        body
    }
}

/// The document at `/.well-known/com.apple.remotemanagement`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Discovery {
    /// Exactly one.
    pub servers: Vec<Server>,
}

/// Where an account enrols.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Which kind of enrolment: `mdm-byod` or `mdm-adde`.
    #[serde(rename = "Version")]
    pub version: String,
    /// Where.
    #[serde(rename = "BaseURL")]
    pub base_url: String,
}

impl Discovery {
    /// The one place to enrol at.
    #[must_use]
    pub fn one(mode: Mode, base_url: impl Into<String>) -> Self {
        Self { servers: vec![Server { version: mode.version().into(), base_url: base_url.into() }] }
    }
}
