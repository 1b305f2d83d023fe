//! The states of compliance, in Microsoft Graph's words (`complianceState`, `complianceStatus`), and how they merge.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::evaluate::CUT_OFF;
use crate::clock::{DAY, Time};

/// How long a setting's error leaves the verdict as it was.
pub const ERROR_HOLD: i64 = 7 * DAY;
/// How long a rule whose setting is on its way to the device keeps its last result.
pub const PENDING_HOLD: i64 = 7 * DAY;

words! {
    /// A device's state. Clients compare these words: the spelling differs from [`Status`] on purpose.
    State {
        /// Not judged yet.
        Unknown = "unknown",
        /// Follows all policies.
        Compliant = "compliant",
        /// Does not.
        Noncompliant = "noncompliant",
        /// Two policies cannot both be followed.
        Conflict = "conflict",
        /// A setting cannot be judged; the verdict before holds for seven days.
        Error = "error",
        /// Does not follow a policy, but has time left to.
        InGracePeriod = "inGracePeriod",
        /// Judged by Configuration Manager.
        ConfigManager = "configManager",
    }
}

words! {
    /// The state of a policy or a setting on a device.
    Status {
        /// Nothing is reported yet.
        Unknown = "unknown",
        /// The device cannot have it.
        NotApplicable = "notApplicable",
        /// Followed.
        Compliant = "compliant",
        /// Followed after it was put right.
        Remediated = "remediated",
        /// Not followed.
        NonCompliant = "nonCompliant",
        /// Cannot be judged.
        Error = "error",
        /// Two policies cannot both be followed.
        Conflict = "conflict",
        /// The policy is not for this device.
        NotAssigned = "notAssigned",
    }
}

impl Status {
    /// Place in the merge: the highest wins. `None`: never merged.
    #[must_use]
    pub fn severity(self) -> Option<u8> {
        match self {
            Self::Unknown => Some(1),
            Self::NotApplicable => Some(2),
            Self::Compliant | Self::Remediated => Some(3),
            Self::NonCompliant => Some(5),
            Self::Error | Self::Conflict => Some(6),
            Self::NotAssigned => None,
        }
    }

    /// The worst of several; [`Self::Unknown`] when there is none.
    #[must_use]
    pub fn worst(all: impl IntoIterator<Item = Self>) -> Self {
        all.into_iter().filter(|status| status.severity().is_some()).max_by_key(|status| status.severity()).unwrap_or(Self::Unknown)
    }
}

/// What a device is judged to be, with everything that the next evaluation has to remember.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The state.
    pub state: State,
    /// The state as consumers see it: compliant or not.
    pub compliant: bool,
    /// The earliest end of a policy's grace, while one runs.
    pub grace_expires_at: Option<Time>,
    /// When the passing of time alone can change the verdict.
    pub reevaluate_at: Option<Time>,
    /// What was in force when the oldest error began, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<bool>,
    /// Policy by policy; the built-in one first.
    pub policies: Vec<PolicyResult>,
}

/// What a device is judged to be by one policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyResult {
    /// The policy's profile, or [`super::BUILT_IN`].
    pub policy: String,
    /// The version that was judged.
    pub version: i64,
    /// The worst of its settings.
    pub status: Status,
    /// Since when it is failed without having been followed in between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Time>,
    /// Until when a failure is forgiven, while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_expires_at: Option<Time>,
    /// Setting by setting.
    pub settings: Vec<SettingResult>,
}

/// What a device is judged to be by one rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SettingResult {
    /// The rule.
    pub rule: String,
    /// What it is.
    pub status: Status,
    /// What the policy asks for.
    pub expected: Value,
    /// The fact that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fact: Option<String>,
    /// What the device reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub got: Option<String>,
    /// The status that it reported instead of a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    /// Where the report comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// When the device said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<Time>,
    /// The device says it of itself, without attestation by hardware.
    #[serde(default)]
    pub self_reported: bool,
    /// Since when it cannot be judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_since: Option<Time>,
    /// Since when the result before is kept because the device was not yet seen to have what we wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_since: Option<Time>,
}

impl Verdict {
    /// What the next life of the device inherits: what consumers believe of it, and no clock that ran in this one.
    #[must_use]
    pub fn of_new_life(self) -> Self {
        Self { held: None, policies: Vec::new(), grace_expires_at: None, ..self }
    }

    /// Whether a check-in alone can change it: the device counted as silent or cut off, or a rule waits for what the device does with its
    /// setting.
    #[must_use]
    pub fn waits_for_device(&self) -> bool {
        let silent =
            |setting: &SettingResult| ["isActive", CUT_OFF].contains(&setting.rule.as_str()) && setting.status == Status::NonCompliant;
        self.policies.iter().flat_map(|policy| &policy.settings).any(|setting| silent(setting) || setting.pending_since.is_some())
    }

    /// The rules that are failed, once each.
    #[must_use]
    pub fn failed_rules(&self) -> Vec<&str> {
        let mut rules: Vec<&str> = self
            .policies
            .iter()
            .flat_map(|policy| &policy.settings)
            .filter(|setting| matches!(setting.status, Status::NonCompliant | Status::Error))
            .map(|setting| setting.rule.as_str())
            .collect();
        rules.sort_unstable();
        rules.dedup();
        rules
    }
}
