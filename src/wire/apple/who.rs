//! Who speaks: the identifiers that every message of a device carries.

use serde::{Deserialize, Serialize};

use super::super::Malformed;

/// What a Shared iPad gives as the user's identifier: the short name tells its users apart.
const NOBODY: &str = "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF";

/// Longest identifier or user name, in bytes.
const LONGEST: usize = 256;

/// The identifiers of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The device, in a device enrolment.
    #[serde(rename = "UDID", skip_serializing_if = "Option::is_none")]
    pub udid: Option<String>,
    /// The device, in a user enrolment.
    #[serde(rename = "EnrollmentID", skip_serializing_if = "Option::is_none")]
    pub enrollment_id: Option<String>,
    /// The user's GUID, on a user channel.
    #[serde(rename = "UserID", skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The user's short name, on a user channel.
    #[serde(rename = "UserShortName", skip_serializing_if = "Option::is_none")]
    pub user_short_name: Option<String>,
    /// The user's full name, on a user channel.
    #[serde(rename = "UserLongName", skip_serializing_if = "Option::is_none")]
    pub user_long_name: Option<String>,
    /// The user, in a user enrolment.
    #[serde(rename = "EnrollmentUserID", skip_serializing_if = "Option::is_none")]
    pub enrollment_user_id: Option<String>,
    /// The user is not the one who sits at the console.
    #[serde(rename = "NotOnConsole", skip_serializing_if = "Option::is_none")]
    pub not_on_console: Option<bool>,
}

/// The name by which a device is known. Opaque: compared as it came, never taken apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceKey {
    /// The hardware's, in a device enrolment.
    Udid(String),
    /// The enrolment's, in a user enrolment: another one each time.
    EnrollmentId(String),
}

impl DeviceKey {
    /// The identifier.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Udid(id) | Self::EnrollmentId(id) => id,
        }
    }

    /// Whether the enrolment is a user's: the device hides its hardware's identifiers.
    #[must_use]
    pub fn is_user_enrollment(&self) -> bool {
        matches!(self, Self::EnrollmentId(_))
    }
}

/// The name by which a user of a device is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UserKey {
    /// The GUID of a Mac's user.
    Id(String),
    /// The short name of a Shared iPad's user.
    ShortName(String),
    /// The identifier of a user enrolment's user.
    EnrollmentUserId(String),
}

impl UserKey {
    /// The identifier.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Id(id) | Self::ShortName(id) | Self::EnrollmentUserId(id) => id,
        }
    }
}

/// The channel that a message came on: the device's, or one of its users'.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel {
    /// The device.
    pub device: DeviceKey,
    /// The user; `None` on the device channel.
    pub user: Option<UserKey>,
}

impl Who {
    /// A device that speaks for itself.
    #[must_use]
    pub fn device(udid: impl Into<String>) -> Self {
        Self { udid: Some(udid.into()), ..Self::default() }
    }

    /// Whose channel it is.
    ///
    /// # Errors
    /// When no device is named, or an identifier is empty, very long or holds control characters.
    pub fn channel(&self) -> Result<Channel, Malformed> {
        let udid = sound(self.udid.as_ref(), "UDID")?;
        let enrollment = sound(self.enrollment_id.as_ref(), "EnrollmentID")?;
        let device = match (udid, enrollment) {
            (Some(udid), _) => DeviceKey::Udid(udid),
            (None, Some(id)) => DeviceKey::EnrollmentId(id),
            (None, None) => return Err(Malformed::new("no device is named", "UDID")),
        };
        let user = match (&device, sound(self.user_id.as_ref(), "UserID")?) {
            (DeviceKey::Udid(_), Some(id)) if id == NOBODY => {
                let name = sound(self.user_short_name.as_ref(), "UserShortName")?;
                Some(UserKey::ShortName(name.ok_or_else(|| Malformed::new("no user is named", "UserShortName"))?))
            }
            (DeviceKey::Udid(_), Some(id)) => Some(UserKey::Id(id)),
            (DeviceKey::Udid(_), None) => None,
            (DeviceKey::EnrollmentId(_), _) => sound(self.enrollment_user_id.as_ref(), "EnrollmentUserID")?.map(UserKey::EnrollmentUserId),
        };
        Ok(Channel { device, user })
    }
}

/// An identifier that can be stored and shown.
fn sound(id: Option<&String>, at: &str) -> Result<Option<String>, Malformed> {
    match id {
        Some(id) if id.is_empty() || id.len() > LONGEST || id.chars().any(char::is_control) => {
            Err(Malformed::new("an identifier that is empty, too long or not printable", at))
        }
        other => Ok(other.cloned()),
    }
}
