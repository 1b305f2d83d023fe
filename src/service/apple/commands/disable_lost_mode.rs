//! `DisableLostMode`: the device was found. Where it was is forgotten.

use super::super::turn::Turn;
use super::{Request, Subject};
use crate::domain::apple::escrow::Kind;
use crate::wire::apple::command::Answer;

pub(super) struct DisableLostMode;

impl Request for DisableLostMode {
    fn name(&self) -> &'static str {
        "DisableLostMode"
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, _answer: &Answer) {
        turn.made("ios.lost-mode", false, self.name());
        turn.forget(Kind::Location);
    }
}
