//! The six digits that open a Mac after it was locked or erased. Nobody else has them: they are kept from the moment when the Mac is told.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::super::turn::Turn;
use super::{Body, Subject};
use crate::domain::apple::escrow::Kind;
use crate::domain::device::Platform;
use crate::secret::{Secret, random};
use crate::service::Result;

/// The key of both requests.
const KEY: &str = "PIN";

/// Puts the PIN into the keys of an order to a Mac: the one that was given, or a new one.
///
/// # Errors
/// When it is not of six digits, or for other devices.
pub(super) fn choose(
    values: &BTreeMap<String, String>,
    platform: Platform,
    keys: &mut Map<String, Value>,
) -> std::result::Result<(), String> {
    let given = values.get("pin");
    if platform != Platform::MacOs {
        return if given.is_some() { Err("pin: only for Macs; an iPhone or iPad has its passcode".into()) } else { Ok(()) };
    }
    let pin = match given {
        Some(pin) if pin.len() == 6 && pin.bytes().all(|b| b.is_ascii_digit()) => pin.clone(),
        Some(_) => return Err("pin: six digits".into()),
        None => {
            let random = random::<8>().map_err(|_| "pin: the system has no randomness")?;
            format!("{:06}", u64::from_be_bytes(random) % 1_000_000)
        }
    };
    keys.insert(KEY.into(), pin.into());
    Ok(())
}

/// The keys of such an order; its PIN is kept before the Mac is told.
pub(super) fn told(turn: &mut Turn<'_>, subject: Subject<'_>) -> Result<Body> {
    let keys = subject.keys();
    if let Some(pin) = keys.string(KEY) {
        turn.keep(Kind::NextPin, &Secret::new(pin.as_bytes().to_vec()), None)?;
    }
    Ok(Body::Keys(keys))
}

/// The Mac did as it was told: the PIN is in force.
pub(super) fn taken(turn: &mut Turn<'_>, subject: Subject<'_>) {
    if subject.keys().get(KEY).is_some() {
        turn.promote(Kind::NextPin, Kind::Pin);
    }
}
