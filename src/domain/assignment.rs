//! Whom a profile is for.

use serde::{Deserialize, Serialize};

use crate::ids::{AssignmentId, GroupId, ProfileId};

words! {
    /// Whether the target gets the profile or is kept from it. Exclusion wins.
    Mode {
        /// Gets it.
        Include = "include",
        /// Does not get it, whoever else includes it.
        Exclude = "exclude",
    }
}

/// Who is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Every device.
    AllDevices,
    /// Every device that has a user.
    AllUsers,
    /// The devices in the group, and the devices of its users.
    Group(GroupId),
}

/// The link of a profile to whom it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Identifier.
    pub id: AssignmentId,
    /// What is assigned.
    pub profile_id: ProfileId,
    /// Gives or withholds.
    pub mode: Mode,
    /// Whom it is about.
    pub target: Target,
}
