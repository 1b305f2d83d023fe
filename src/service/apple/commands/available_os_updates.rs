//! `AvailableOSUpdates`: which updates are on offer for the device. The list is kept.

use super::super::turn::Turn;
use super::{Request, Subject, count, keep_list};
use crate::domain::inventory::Kind;
use crate::wire::apple::command::Answer;

pub(super) struct AvailableOsUpdates;

impl Request for AvailableOsUpdates {
    fn name(&self) -> &'static str {
        "AvailableOSUpdates"
    }

    fn says(&self, answer: &Answer) -> Result<String, String> {
        count(answer, "AvailableOSUpdates", Kind::Updates)
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, answer: &Answer) {
        keep_list(turn, Kind::Updates, answer, "AvailableOSUpdates");
    }
}
