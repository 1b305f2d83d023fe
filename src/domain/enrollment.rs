//! The management relation of a device.

use super::device::Platform;
use crate::clock::Time;
use crate::ids::{CertificateId, DeviceId, EnrollmentId, UserId};

words! {
    /// Whose context an enrolment has (on Windows the `EnrollmentType` of MS-MDE2).
    Kind {
        /// A user's. On Windows the identity certificate is in the user's store; an Apple device hides its hardware and lets the server
        /// manage only what the server brought.
        Full = "full",
        /// The device's. On Windows the certificate is in the machine's store, and several users may sign in.
        Device = "device",
    }
}

words! {
    /// Where an enrolment is in its life.
    State {
        /// The certificate is issued; the device has not been heard of since.
        Provisioned = "provisioned",
        /// The device has held a management session.
        Active = "active",
        /// The server wants the device to leave; the order is on its way.
        Unenrolling = "unenrolling",
        /// Over: by the user, by an administrator, by silence after an order to leave, or superseded by a new enrolment of the same hardware.
        Ended = "ended",
    }
}

/// An enrolment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrollment {
    /// Identifier.
    pub id: EnrollmentId,
    /// The device.
    pub device_id: DeviceId,
    /// Its platform.
    pub platform: Platform,
    /// Whose context.
    pub kind: Kind,
    /// Where it is in its life.
    pub state: State,
    /// The protocol's own name of the device (Windows `DeviceID`, Apple UDID or EnrollmentID).
    pub mdm_id: String,
    /// The server's name in a Windows device's tree, as it was when the device enrolled; none: not known.
    pub provider_id: Option<String>,
    /// Who enrolled.
    pub user_id: Option<UserId>,
    /// What the device said of itself while enrolling, as JSON: name to list of values.
    pub context: String,
    /// Where to knock to wake it (Windows WNS channel).
    pub channel_uri: Option<String>,
    /// The current identity certificate.
    pub certificate_id: Option<CertificateId>,
    /// The earliest moment at which the server has something to ask or tell; `None` while there is nothing.
    pub work_at: Option<Time>,
    /// Since when what an Apple device was given waits, because it puts it off or has not answered; `None` while nothing does.
    pub waiting_since: Option<Time>,
    /// When the device was last heard of.
    pub last_seen_at: Option<Time>,
    /// When it enrolled.
    pub enrolled_at: Time,
    /// When it ended.
    pub ended_at: Option<Time>,
    /// Compare-and-set counter.
    pub version: i64,
}

impl Enrollment {
    /// Whether a person enrolled an Apple device of their own: its hardware stays unknown, and it refuses what reaches beyond the account.
    #[must_use]
    pub fn is_user_enrollment(&self) -> bool {
        self.platform.is_apple() && self.kind == Kind::Full
    }

    /// The server's name in the device's tree: it stays what it was when the device enrolled, whatever it is `now`.
    #[must_use]
    pub fn provider<'a>(&'a self, now: &'a str) -> &'a str {
        self.provider_id.as_deref().unwrap_or(now)
    }
}
