//! `InstalledApplicationList`: which applications are on the device. The list is kept.

use super::super::turn::Turn;
use super::{ForUsers, Request, Subject, count, keep_list};
use crate::domain::inventory::Kind;
use crate::wire::apple::command::Answer;

pub(super) struct InstalledApplicationList;

impl Request for InstalledApplicationList {
    fn name(&self) -> &'static str {
        "InstalledApplicationList"
    }

    /// An iPhone lists what the server installed, and nothing of its user's.
    fn for_users(&self) -> ForUsers {
        ForUsers::Phones
    }

    fn says(&self, answer: &Answer) -> Result<String, String> {
        count(answer, "InstalledApplicationList", Kind::Applications)
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, answer: &Answer) {
        keep_list(turn, Kind::Applications, answer, "InstalledApplicationList");
    }
}
