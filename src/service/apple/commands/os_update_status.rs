//! `OSUpdateStatus`: how far updates are on the device. The list is kept.

use super::super::turn::Turn;
use super::{Request, Subject, count, keep_list};
use crate::domain::inventory::Kind;
use crate::wire::apple::command::Answer;

pub(super) struct OsUpdateStatus;

impl Request for OsUpdateStatus {
    fn name(&self) -> &'static str {
        "OSUpdateStatus"
    }

    fn says(&self, answer: &Answer) -> Result<String, String> {
        count(answer, "OSUpdateStatus", Kind::UpdateStatus)
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, answer: &Answer) {
        keep_list(turn, Kind::UpdateStatus, answer, "OSUpdateStatus");
    }
}
