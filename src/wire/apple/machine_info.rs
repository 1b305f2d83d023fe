//! What a device says of itself before it is enrolled, inside a message that Apple's factory key signed ([`super::super::cms`]).

use serde::{Deserialize, Serialize};

use super::super::Malformed;
use super::super::plist::{self, Limits, Value};

/// Machine info of automated and account-driven enrolment. Which keys are there depends on the way of enrolling and the version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub struct MachineInfo {
    /// The device's identifier; not when a user enrols by account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udid: Option<String>,
    /// The serial number; not when a user enrols by account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// The model's identifier (`iPhone14,5`).
    #[serde(default)]
    pub product: String,
    /// The build of the operating system.
    #[serde(default)]
    pub version: String,
    /// The version of the operating system (iOS 17, macOS 14).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// The build of the rapid security response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supplemental_build_version: Option<String>,
    /// The letter of the rapid security response: `(a)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supplemental_os_version_extra: Option<String>,
    /// The mobile equipment identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imei: Option<String>,
    /// The mobile equipment identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meid: Option<String>,
    /// The device's language.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// The device takes the answer that it must update first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mdm_can_request_software_update: bool,
    /// Under which name the device is listed by the software update service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub software_update_device_id: Option<String>,
    /// The device takes the answer that Platform SSO must be set up first (macOS 26).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mdm_can_request_psso_config: bool,
    /// A watch's pairing token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairing_token: Option<String>,
}

impl MachineInfo {
    /// Reads the content of the signed message.
    ///
    /// # Errors
    /// When it is no property list, or a value is of another kind.
    pub fn decode(content: &[u8]) -> Result<Self, Malformed> {
        plist::decode_as(content, Limits::MESSAGE)
    }

    /// Writes the content, as a device does.
    ///
    /// # Errors
    /// Never for this type.
    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        plist::to_value(self).map(|value| plist::encode(&value))
    }
}

/// What a device sends in the second phase of over-the-air enrolment: the attributes that were asked for, and the challenge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceAttributes {
    /// The device's identifier.
    #[serde(rename = "UDID", skip_serializing_if = "Option::is_none")]
    pub udid: Option<String>,
    /// The build of the operating system.
    #[serde(rename = "VERSION", skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The model's identifier.
    #[serde(rename = "PRODUCT", skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// The serial number.
    #[serde(rename = "SERIAL", skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// The mobile equipment identity.
    #[serde(rename = "IMEI", skip_serializing_if = "Option::is_none")]
    pub imei: Option<String>,
    /// The mobile equipment identifier.
    #[serde(rename = "MEID", skip_serializing_if = "Option::is_none")]
    pub meid: Option<String>,
    /// The challenge from the first phase, given back.
    #[serde(rename = "CHALLENGE", skip_serializing_if = "Option::is_none")]
    pub challenge: Option<String>,
    /// The user at the Mac: GUID.
    #[serde(rename = "UserID", skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The user at the Mac: full name.
    #[serde(rename = "UserLongName", skip_serializing_if = "Option::is_none")]
    pub user_long_name: Option<String>,
    /// The user at the Mac: short name.
    #[serde(rename = "UserShortName", skip_serializing_if = "Option::is_none")]
    pub user_short_name: Option<String>,
}

impl DeviceAttributes {
    /// Reads the content of the signed message.
    ///
    /// # Errors
    /// When it is no property list, or a value is of another kind.
    pub fn decode(content: &[u8]) -> Result<Self, Malformed> {
        plist::decode_as(content, Limits::MESSAGE)
    }

    /// Writes the content, as a device does.
    ///
    /// # Errors
    /// Never for this type.
    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        plist::to_value(self).map(|value: Value| plist::encode(&value))
    }
}
