//! A group of users and devices.

pub mod rule;

use serde::{Deserialize, Serialize};

use crate::ids::{DeviceId, GroupId, UserId};

/// A group. A device belongs to it when it is a member itself or when its user is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Identifier.
    pub id: GroupId,
    /// Name for people, unique.
    pub display_name: String,
    /// For people.
    pub description: String,
    /// Who belongs to it, where a rule says so ([`rule::Rule`]); else whoever was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What an identity provider that provisions the group calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// What a client of the Graph-shaped API calls it (`mailNickname`), where one did; mail has nothing to do with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail_nickname: Option<String>,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Member {
    /// A person, and with them their devices.
    User(UserId),
    /// A device.
    Device(DeviceId),
}
