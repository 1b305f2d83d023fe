//! `RemoveApplication`: takes a managed application away, with its data.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::super::apps;
use super::super::turn::Turn;
use super::remove_profile::removal;
use super::{Body, ForUsers, Request, Subject};
use crate::domain::desired::Input;
use crate::service::Result;
use crate::wire::apple::command::Answer;

pub(super) struct RemoveApplication;

impl Request for RemoveApplication {
    fn name(&self) -> &'static str {
        "RemoveApplication"
    }

    fn for_users(&self) -> ForUsers {
        ForUsers::Phones
    }

    fn body<'t>(&'t self, turn: &'t mut Turn<'_>, subject: Subject<'t>) -> BoxFuture<'t, Result<Body>> {
        async move { Ok(removal(turn, subject.record())) }.boxed()
    }

    fn done(&self, turn: &mut Turn<'_>, subject: Subject<'_>, _answer: &Answer) {
        apps::removed(turn, subject.record());
    }

    fn failed(&self, turn: &mut Turn<'_>, subject: Subject<'_>, why: &str) {
        // Whether the device refuses or has no such application shows in its list.
        turn.apply(subject.record(), Input::Retry { status: 0, original_error: Some(why.to_owned()) });
        turn.look_at_apps = true;
    }
}
