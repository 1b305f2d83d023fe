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

/// How devices say that they do not have the profile, or that it is not managed: iOS, and Macs. Numbers mean something in their domain only.
const NOT_THERE: [i64; 3] = [12013, 12075, 89];
/// What the domains of management's own errors have in their names (`MCMDMErrorDomain`, `MDMClientError`).
const DOMAIN: &str = "MDM";

impl Request for RemoveProfile {
    fn name(&self) -> &'static str {
        "RemoveProfile"
    }

    fn for_users(&self) -> ForUsers {
        ForUsers::All
    }

    fn is_gone(&self, answer: &Answer) -> bool {
        answer.errors.first().is_some_and(|error| error.error_domain.contains(DOMAIN) && NOT_THERE.contains(&error.error_code))
    }

    fn body<'t>(&'t self, turn: &'t mut Turn<'_>, subject: Subject<'t>) -> BoxFuture<'t, Result<Body>> {
        async move {
            let Subject::Record(key) = subject else { return Ok(Body::Keys(subject.keys())) };
            Ok(removal(turn, key))
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

/// What takes away what a record knows by its identifier.
pub(super) fn removal(turn: &mut Turn<'_>, key: &str) -> Body {
    let record = turn.record(key).map(|(_, record)| record).filter(|record| record.state == State::Removing);
    let identifier = record.and_then(|record| Some(record.memory.get("identifier")?.as_str()?.to_owned()));
    let Some(identifier) = identifier else { return Body::Nothing("nothing is to be removed".into()) };
    turn.apply(key, Input::Sent);
    Body::Keys(Dict::new().with("Identifier", identifier))
}

/// The device does not have the profile any more: what came with it ends.
pub(in crate::service::apple) fn removed(turn: &mut Turn<'_>, record: &str) {
    if record.starts_with("profile:") {
        turn.end_certificates(record);
        turn.apply(record, Input::Removed);
    }
}
