//! Signals: verdict and credential changes on their way to consumers.

use crate::clock::{MINUTE, SECOND, Time};
use crate::ids::{DeviceId, ReceiverId};

words! {
    /// Who set a change off, as CAEP names it (`initiating_entity`).
    Initiator {
        /// An administrator.
        Admin = "admin",
        /// The device's user.
        User = "user",
        /// A rule that found something.
        Policy = "policy",
        /// The server itself, such as by the passing of time.
        System = "system",
    }
}

words! {
    /// Whether a receiver gets signals.
    ReceiverStatus {
        /// Gets them.
        Enabled = "enabled",
        /// Held back, such as after it kept refusing us or took nothing: signals wait for it for a week.
        Paused = "paused",
    }
}

/// A flip of a device's collapsed compliance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComplianceChange {
    /// Which device.
    pub device: DeviceId,
    /// Whether it was compliant.
    pub previous: bool,
    /// Whether it is now.
    pub current: bool,
    /// Who set it off.
    pub initiator: Initiator,
    /// For administrators, in English: which rules decided; no secrets.
    pub reason: String,
    /// Same for everything that one change causes (SET claim `txn`).
    pub txn: String,
}

/// Whom a device's signal is about.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeviceSubject {
    /// The device.
    pub device: DeviceId,
    /// Its user's mail-like name.
    pub user: Option<String>,
}

/// Somebody who gets signals by push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// Identifier.
    pub id: ReceiverId,
    /// Name for people.
    pub name: String,
    /// Where signals are sent.
    pub endpoint_url: String,
    /// The `aud` claim.
    pub audience: String,
    /// What `Authorization` holds, sealed.
    pub sealed_authorization: Option<Vec<u8>>,
    /// Whether it gets signals.
    pub status: ReceiverStatus,
    /// Why it does not.
    pub status_reason: Option<String>,
    /// Since when it is there.
    pub created_at: Time,
}

/// Milliseconds to wait after that many failed tries (0 after the first): exponential from one second up to a quarter of an hour, with
/// full jitter taken from `random`, so that receivers that come back are not hit by everybody at once.
#[must_use]
pub fn backoff(failures: u32, random: u64) -> i64 {
    let cap = SECOND.saturating_mul(1_i64 << failures.min(20)).min(15 * MINUTE);
    i64::try_from(random % u64::try_from(cap).unwrap_or(1)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_to_a_quarter_of_an_hour_and_is_spread_over_all_of_it() {
        assert_eq!(backoff(0, u64::MAX) / SECOND, 0);
        for failures in 0..64 {
            for random in [0, 1, 999, u64::MAX / 3, u64::MAX] {
                let wait = backoff(failures, random);
                assert!((0..15 * MINUTE).contains(&wait), "{failures} {random}");
            }
        }
        assert_eq!(backoff(40, 15 * 60_000 - 1), 15 * MINUTE - 1);
        assert_eq!(backoff(3, 7_999), 7_999);
        assert_eq!(backoff(3, 8_000), 0);
    }
}
