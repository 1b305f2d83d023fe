//! Desired state: what a device should have, how far it has got, and what to do next.
//!
//! A device's *items* are its profiles. Each item keeps one [`Record`] per thing that it wants (a setting, a custom node, a payload); a
//! record is moved by [`record::step`], an item's state is the roll-up of its records. [`effective`] merges the
//! profiles of a device into one winner per setting, [`reconcile`] puts that into the records, [`plan`] says what is due, [`apply`] takes
//! in what the device answered, and [`settle`] derives the items' states. Nothing here knows a platform.

mod effective;
mod plan;
pub mod record;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use effective::{Candidate, Content, Effective, Excluded, Loser, Target, Winner, brought, effective, label, profile_of, user_of};
pub use plan::{Plan, Planned, Removal, apply, plan, reconcile, settle};
pub use record::{Drift, Input, Lack, Note, Record, Timing};

use super::profile::{Document, Kind};
use crate::clock::Time;
use crate::ids::{DeviceId, ProfileId};

words! {
    /// How far an item, or one of its records, has got.
    State {
        /// A compliance policy that gives nothing to the device.
        Assigned = "assigned",
        /// To be sent.
        Pending = "pending",
        /// On its way; the device has not answered.
        Sent = "sent",
        /// The device has taken it; whether it holds is still to be seen.
        Delivered = "delivered",
        /// Read back from the device, or proven otherwise.
        Verified = "verified",
        /// The device does not take it. Tried again at `due_at`, or never.
        Failed = "failed",
        /// Another profile says something else about the same setting and wins.
        Conflict = "conflict",
        /// The device has no such thing (edition, build).
        NotApplicable = "not-applicable",
        /// To be taken away.
        Removing = "removing",
    }
}

/// What a device should have of one profile, and what it has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The device.
    pub device_id: DeviceId,
    /// The profile.
    pub profile_id: ProfileId,
    /// The profile's kind.
    pub kind: Kind,
    /// The version it should have; `None`: none, any more.
    pub desired_version: Option<i64>,
    /// The version that it was given in full; `None`: none, yet.
    pub applied_version: Option<i64>,
    /// How far it has got.
    pub state: State,
    /// Setting by setting.
    pub detail: Detail,
    /// How often this version has failed.
    pub attempts: i64,
    /// When to look at it again; `None`: never by itself.
    pub due_at: Option<Time>,
    /// When the row last changed.
    pub updated_at: Time,
}

/// An item with the content of its versions.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The item.
    pub item: Item,
    /// The name of its profile, or its id when the profile is deleted.
    pub name: String,
    /// What it should have.
    pub desired: Option<Document>,
    /// What it was given.
    pub applied: Option<Document>,
}

/// What is known of an item's parts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Detail {
    /// By key: `setting:<id>@<scope>`, `custom:<address>`, `payload:<profile>/<name>`; on
    /// Apple devices `profile:<profile>` and `declarations:<profile>`, with `@<user>` where they are a user's, and
    /// `update:<profile>/<name>`; `app:<bundle identifier>`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub records: BTreeMap<String, Record>,
}

impl Item {
    /// Derives state, attempts, due time and applied version from the records. `None`: nothing is left of the item.
    #[must_use]
    pub fn rolled_up(mut self) -> Option<Self> {
        let records = &self.detail.records;
        if self.desired_version.is_none() && records.is_empty() {
            return None;
        }
        let has = |state| records.values().any(|r| r.state == state);
        self.state = if self.desired_version.is_none() {
            State::Removing
        } else if records.is_empty() {
            if self.kind == Kind::Compliance { State::Assigned } else { State::Verified }
        } else if records.values().all(|r| r.state == State::NotApplicable) {
            State::NotApplicable
        } else {
            // The most pressing first; a removal inside an item that stays is part of the way to "verified".
            [State::Failed, State::Pending, State::Sent, State::Removing, State::Delivered, State::Conflict]
                .into_iter()
                .find(|state| has(*state))
                .unwrap_or(State::Verified)
        };
        self.due_at = records.values().filter_map(|r| r.due_at).min();
        self.attempts = records.values().map(|r| i64::from(r.tries)).max().unwrap_or(0);
        // A record that failed for good will not be sent again: the version counts as given, and the state says how it went.
        let open = records.values().any(|r| matches!(r.state, State::Pending | State::Sent | State::Removing));
        if self.desired_version.is_some() && !open {
            self.applied_version = self.desired_version;
        }
        Some(self)
    }
}

#[cfg(test)]
mod tests;
