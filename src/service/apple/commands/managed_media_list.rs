//! `ManagedMediaList`: which books the server gave. The list is kept.

use super::super::turn::Turn;
use super::{ForUsers, Request, Subject, count, keep_list};
use crate::domain::inventory::Kind;
use crate::wire::apple::command::Answer;

pub(super) struct ManagedMediaList;

impl Request for ManagedMediaList {
    fn name(&self) -> &'static str {
        "ManagedMediaList"
    }

    fn for_users(&self) -> ForUsers {
        ForUsers::All
    }

    fn says(&self, answer: &Answer) -> Result<String, String> {
        count(answer, "Books", Kind::Books)
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, answer: &Answer) {
        keep_list(turn, Kind::Books, answer, "Books");
    }
}
