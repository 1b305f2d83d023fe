//! `DisableRemoteDesktop`: nobody watches and controls the Mac any more.

use super::super::turn::Turn;
use super::{Request, Subject};
use crate::wire::apple::command::Answer;

pub(super) struct DisableRemoteDesktop;

impl Request for DisableRemoteDesktop {
    fn name(&self) -> &'static str {
        "DisableRemoteDesktop"
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, _answer: &Answer) {
        turn.made("macos.remote-desktop", false, self.name());
    }
}
