//! `EraseDevice`: everything goes, the enrolment with it. No `CheckOut` follows.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::super::turn::Turn;
use super::{Request, named, only, pin};
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
        only(values, if platform == Platform::MacOs { &["pin"] } else { &[] })?;
        // A Mac with an Intel processor and no T2 chip asks for the PIN afterwards; others leave it aside.
        pin(values)?;
        Ok(named(values, &[("pin", "PIN")]))
    }

    fn done(&self, turn: &mut Turn<'_>, _record: &str, _answer: &Answer) {
        turn.left = true;
    }
}
