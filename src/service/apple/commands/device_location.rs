//! `DeviceLocation`: where an iPhone or iPad is that is marked as lost. Kept sealed; whoever reads it is in the audit log.

use serde_json::{Map, Value};

use super::super::turn::Turn;
use super::{Request, Subject};
use crate::domain::apple::escrow::Kind;
use crate::secret::Secret;
use crate::wire::apple::command::Answer;

pub(super) struct DeviceLocation;

/// Numbers of the answer.
const NUMBERS: [&str; 7] = ["Latitude", "Longitude", "HorizontalAccuracy", "Altitude", "VerticalAccuracy", "Speed", "Course"];
/// Longest time stamp, in characters.
const LONGEST: usize = 64;

/// The place in an answer; `None` when it says none.
fn place(answer: &Answer) -> Option<Map<String, Value>> {
    let number = |name: &&str| Some(((*name).to_owned(), Value::from(answer.body.get(name)?.as_real()?)));
    let mut place: Map<String, Value> = NUMBERS.iter().filter_map(number).collect();
    let within = |name: &str, most: f64| place.get(name).and_then(Value::as_f64).is_some_and(|degrees| degrees.abs() <= most);
    if !within("Latitude", 90.0) || !within("Longitude", 180.0) {
        return None;
    }
    place.extend(answer.body.string("Timestamp").map(|at| ("Timestamp".to_owned(), at.chars().take(LONGEST).collect::<String>().into())));
    Some(place)
}

impl Request for DeviceLocation {
    fn name(&self) -> &'static str {
        "DeviceLocation"
    }

    fn says(&self, answer: &Answer) -> Result<String, String> {
        match place(answer) {
            // The order's result is shown to everybody who sees orders.
            Some(_) => Ok("where it is, is kept: muster device secret DEVICE location".into()),
            None => Err("the device did not say where it is".into()),
        }
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, answer: &Answer) {
        // One that was found meanwhile is not to be followed.
        let lost = turn.fact("ios.lost-mode") == Some("true");
        let Some(place) = place(answer).filter(|_| lost) else { return };
        if let Err(error) = turn.keep(Kind::Location, &Secret::new(Value::Object(place).to_string().into_bytes()), None) {
            tracing::error!(device = %turn.device.id, %error, "the place of the device was not kept");
        }
    }
}
