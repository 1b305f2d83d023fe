//! `UserList`: which users have an account on the device. The list is kept.

use super::super::turn::Turn;
use super::{Request, Subject, count, keep_list};
use crate::domain::inventory::Kind;
use crate::wire::apple::command::Answer;

pub(super) struct UserList;

impl Request for UserList {
    fn name(&self) -> &'static str {
        "UserList"
    }

    fn says(&self, answer: &Answer) -> Result<String, String> {
        count(answer, "Users", Kind::Users)
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, answer: &Answer) {
        keep_list(turn, Kind::Users, answer, "Users");
    }
}
