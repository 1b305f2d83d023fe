//! `EraseDevice`: everything goes, the enrolment with it. No `CheckOut` follows.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::super::turn::Turn;
use super::{Request, Subject, named, pin};
use crate::domain::device::Platform;
use crate::wire::apple::command::Answer;

pub(super) struct EraseDevice;

impl Request for EraseDevice {
    fn name(&self) -> &'static str {
        "EraseDevice"
    }

    fn once(&self) -> bool {
        true
    }

    /// A Mac that cannot erase itself in the quick way says so, and then destroys its volume.
    fn may_have_run(&self) -> bool {
        true
    }

    fn order(&self, values: &BTreeMap<String, String>, platform: Platform) -> Result<Map<String, Value>, String> {
        // A Mac with an Intel processor and no T2 chip asks for the PIN afterwards; others leave it aside.
        if pin(values)?.is_some() && platform != Platform::MacOs {
            return Err("pin: only for Macs".into());
        }
        Ok(named(values, &[("pin", "PIN")]))
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, _answer: &Answer) {
        turn.left = true;
    }
}
