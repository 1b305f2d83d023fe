//! `SecurityInfo`: how the device is protected. What does not exist on it, or what it does not know, it leaves out.

use super::super::turn::Turn;
use super::{ForUsers, Request, Subject, report};
use crate::wire::apple::command::Answer;
use crate::wire::plist::Dict;

pub(super) struct SecurityInfo;

impl Request for SecurityInfo {
    fn name(&self) -> &'static str {
        "SecurityInfo"
    }

    fn for_users(&self) -> ForUsers {
        ForUsers::All
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, answer: &Answer) {
        let nothing = Dict::new();
        let info = answer.body.dict("SecurityInfo").unwrap_or(&nothing);
        report(turn, self.name(), Some(info));
        if let Some(message) = info.data("FDE_PersonalRecoveryKeyCMS")
            && let Err(error) = turn.take_recovery_key(message)
        {
            // It comes again with the next report.
            tracing::error!(device = %turn.device.id, %error, "the recovery key was not kept");
        }
    }

    fn failed(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, _why: &str) {
        report(turn, self.name(), None);
    }
}
