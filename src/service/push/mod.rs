//! Waking devices: which service wakes a device is decided here and nowhere else.

pub mod apns;
pub mod due;
pub mod wns;

use crate::clock::Time;
use crate::config::Config;
use crate::domain::device::Platform;
use crate::ids::EnrollmentId;
use crate::store::{Result, Tx};

/// Puts the wake of one device into the outbox, in the transaction of the change that gives it work. Ring `app.outbox` after the commit.
/// Without a push service for the platform, or a channel of the device, nothing is put in: the device comes by itself.
///
/// Returns whether something was put in.
///
/// # Errors
/// Only the database's own.
pub fn enqueue_wake(tx: &mut Tx<'_>, config: &Config, platform: Platform, id: &EnrollmentId, now: Time) -> Result<bool> {
    match platform {
        Platform::Windows => {
            let enabled = wns::enabled(config);
            if enabled {
                wns::enqueue_wake(tx, id, now)?;
            }
            Ok(enabled)
        }
        Platform::MacOs | Platform::Ios => apns::enqueue_wakes(tx, id, now),
        Platform::Android => Ok(false),
    }
}
