//! `DeviceInformation`: what the device is. What it does not know it leaves out.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::super::turn::Turn;
use super::{Body, Request, Subject, asked, report};
use crate::service::Result;
use crate::wire::apple::command::Answer;
use crate::wire::plist::{Dict, Value};

pub(super) struct DeviceInformation;

impl Request for DeviceInformation {
    fn name(&self) -> &'static str {
        "DeviceInformation"
    }

    fn body<'t>(&'t self, turn: &'t mut Turn<'_>, _subject: Subject<'t>) -> BoxFuture<'t, Result<Body>> {
        let names = asked(turn, self.name()).into_iter().filter_map(|row| Some(Value::from(row.asked.as_ref()?.at.as_str())));
        let keys = Dict::new().with("Queries", names.collect::<Vec<_>>());
        async move { Ok(Body::Keys(keys)) }.boxed()
    }

    fn done(&self, turn: &mut Turn<'_>, _record: &str, answer: &Answer) {
        report(turn, self.name(), Some(answer.body.dict("QueryResponses").unwrap_or(&Dict::new())));
    }

    fn failed(&self, turn: &mut Turn<'_>, _record: &str, _why: &str) {
        report(turn, self.name(), None);
    }
}
