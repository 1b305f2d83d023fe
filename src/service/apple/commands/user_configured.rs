//! `UserConfigured`: the user of a Shared iPad waits in Setup Assistant no longer, because everything is installed for them or the time for
//! it is over.

use serde_json::json;

use super::super::turn::Turn;
use super::{Request, Subject};
use crate::wire::apple::command::Answer;

pub(in crate::service) struct UserConfigured;

impl Request for UserConfigured {
    fn name(&self) -> &'static str {
        "UserConfigured"
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, _answer: &Answer) {
        let waited = turn.channel.awaiting_since.take().map(|since| turn.now.since(since) / 1000);
        let object = format!("enrollment:{}", turn.known.enrollment.id);
        let state = json!({ "seconds": waited, "complete": turn.is_installed(), "user": turn.channel.user_key });
        turn.audit("enrollment.release-user", object, &state);
    }

    fn failed(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, why: &str) {
        tracing::warn!(device = %turn.device.id, why, "the user of a Shared iPad is not let out of Setup Assistant");
        turn.channel.awaiting_since = None;
    }
}
