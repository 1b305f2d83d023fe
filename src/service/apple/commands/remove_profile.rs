//! `RemoveProfile`: takes a profile away, and with it the certificates that it brought; of the enrolment profile, everything.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::super::turn::Turn;
use super::{Body, ForUsers, Request, Subject};
use crate::domain::desired::{Input, State};
use crate::service::Result;
use crate::wire::apple::command::Answer;
use crate::wire::plist::Dict;

pub(super) struct RemoveProfile;

impl Request for RemoveProfile {
    fn name(&self) -> &'static str {
        "RemoveProfile"
    }

    fn for_users(&self) -> ForUsers {
        ForUsers::All
    }

    fn body<'t>(&'t self, turn: &'t mut Turn<'_>, subject: Subject<'t>) -> BoxFuture<'t, Result<Body>> {
        async move {
            let Subject::Record(key) = subject else { return Ok(Body::Keys(subject.keys())) };
            let identifier = turn.record(key).filter(|(_, record)| record.state == State::Removing);
            let identifier = identifier.and_then(|(_, record)| Some(record.memory.get("identifier")?.as_str()?.to_owned()));
            let Some(identifier) = identifier else { return Ok(Body::Nothing("nothing is to be removed".into())) };
            turn.apply(key, Input::Sent);
            Ok(Body::Keys(Dict::new().with("Identifier", identifier)))
        }
        .boxed()
    }

    fn done(&self, turn: &mut Turn<'_>, subject: Subject<'_>, _answer: &Answer) {
        removed(turn, subject.record());
    }

    fn failed(&self, turn: &mut Turn<'_>, subject: Subject<'_>, why: &str) {
        // Whether the device refuses or has no such profile shows in its list.
        if let Subject::Record(record) = subject {
            turn.apply(record, Input::Retry { status: 0, original_error: Some(why.to_owned()) });
            turn.look = true;
        }
    }
}

/// The device does not have the profile any more: what came with it ends.
pub(in crate::service::apple) fn removed(turn: &mut Turn<'_>, record: &str) {
    if record.starts_with("profile:") {
        turn.end_certificates(record);
        turn.apply(record, Input::Removed);
    }
}
