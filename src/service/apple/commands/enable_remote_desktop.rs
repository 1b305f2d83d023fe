//! `EnableRemoteDesktop`: administrators may watch and control the Mac.

use super::super::turn::Turn;
use super::{Request, Subject};
use crate::wire::apple::command::Answer;

pub(super) struct EnableRemoteDesktop;

impl Request for EnableRemoteDesktop {
    fn name(&self) -> &'static str {
        "EnableRemoteDesktop"
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, _answer: &Answer) {
        turn.made("macos.remote-desktop", true, self.name());
    }
}
