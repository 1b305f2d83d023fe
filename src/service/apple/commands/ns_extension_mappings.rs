//! `NSExtensionMappings`: which extensions of applications a Mac has, as one of its users sees it. The list is kept.

use super::super::turn::Turn;
use super::{Request, Subject, count, keep_list};
use crate::domain::device::Platform;
use crate::domain::inventory::Kind;
use crate::wire::apple::command::Answer;

pub(super) struct NsExtensionMappings;

impl Request for NsExtensionMappings {
    fn name(&self) -> &'static str {
        "NSExtensionMappings"
    }

    fn by_user(&self, _platform: Platform) -> bool {
        true
    }

    fn says(&self, answer: &Answer) -> Result<String, String> {
        count(answer, "Extensions", Kind::Extensions)
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, answer: &Answer) {
        keep_list(turn, Kind::Extensions, answer, "Extensions");
    }
}
