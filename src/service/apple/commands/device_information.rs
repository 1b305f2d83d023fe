//! `DeviceInformation`: what the device is. What it does not know it leaves out.

use std::collections::BTreeSet;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::super::turn::Turn;
use super::{Body, ForUsers, Request, Subject, asked, report};
use crate::domain::apple::escrow::Kind;
use crate::service::Result;
use crate::wire::apple::command::Answer;
use crate::wire::plist::{Dict, Value};

pub(super) struct DeviceInformation;

impl Request for DeviceInformation {
    fn name(&self) -> &'static str {
        "DeviceInformation"
    }

    fn for_users(&self) -> ForUsers {
        ForUsers::All
    }

    fn body<'t>(&'t self, turn: &'t mut Turn<'_>, _subject: Subject<'t>) -> BoxFuture<'t, Result<Body>> {
        let rows = asked(turn, self.name());
        let names: BTreeSet<&str> = rows.into_iter().filter_map(|row| Some(row.asked.as_ref()?.key())).collect();
        let keys = Dict::new().with("Queries", names.into_iter().map(Value::from).collect::<Vec<_>>());
        async move { Ok(Body::Keys(keys)) }.boxed()
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, answer: &Answer) {
        report(turn, self.name(), Some(answer.body.dict("QueryResponses").unwrap_or(&Dict::new())));
        // A device that was found is not to be followed.
        if turn.fact("ios.lost-mode") == Some("false") {
            turn.forget(Kind::Location);
        }
    }

    fn failed(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, _why: &str) {
        report(turn, self.name(), None);
    }
}
