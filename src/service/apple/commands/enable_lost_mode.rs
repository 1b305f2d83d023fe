//! `EnableLostMode`: locks an iPhone or iPad that was lost, and says whose it is.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::super::turn::Turn;
use super::{Request, Subject, named};
use crate::domain::device::Platform;
use crate::wire::apple::command::Answer;

pub(super) struct EnableLostMode;

impl Request for EnableLostMode {
    fn name(&self) -> &'static str {
        "EnableLostMode"
    }

    fn order(&self, values: &BTreeMap<String, String>, _platform: Platform) -> Result<Map<String, Value>, String> {
        if values.get("message").or(values.get("phone")).is_none_or(|text| text.trim().is_empty()) {
            return Err("message, phone: one of them is needed".into());
        }
        Ok(named(values, &[("message", "Message"), ("phone", "PhoneNumber"), ("footnote", "Footnote")]))
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, _answer: &Answer) {
        turn.made("ios.lost-mode", true, self.name());
    }
}
