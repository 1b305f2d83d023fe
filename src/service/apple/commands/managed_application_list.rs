//! `ManagedApplicationList`: how far an iPhone or iPad is with the applications that profiles ask for. Some of what it says it says once.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::super::apps;
use super::super::turn::Turn;
use super::{Body, ForUsers, Request, Subject};
use crate::domain::apple::app::{self, Progress};
use crate::service::Result;
use crate::wire::apple::command::Answer;

pub(super) struct ManagedApplicationList;

impl Request for ManagedApplicationList {
    fn name(&self) -> &'static str {
        "ManagedApplicationList"
    }

    fn for_users(&self) -> ForUsers {
        ForUsers::Phones
    }

    fn body<'t>(&'t self, turn: &'t mut Turn<'_>, _subject: Subject<'t>) -> BoxFuture<'t, Result<Body>> {
        async move { Ok(Body::Keys(apps::ask(turn))) }.boxed()
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, answer: &Answer) {
        let Some(list) = answer.body.dict("ManagedApplicationList") else { return apps::unanswered(turn) };
        for key in apps::records(turn) {
            let entry = key.strip_prefix(app::RECORD).and_then(|bundle| list.dict(bundle));
            match entry.and_then(|entry| entry.string("Status")) {
                Some(word) => {
                    let word: String = word.chars().take(50).collect();
                    apps::judge(turn, &key, app::progress(&word), &word);
                }
                None => apps::judge(turn, &key, Progress::Absent, "not among the managed applications"),
            }
        }
    }

    fn failed(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, _why: &str) {
        apps::unanswered(turn);
    }
}
