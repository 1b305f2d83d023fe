//! `DeclarativeManagement`: has the device look at its declarations. The tokens come with it, so that one that is up to date is done.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::super::{apps::declared, declarations, turn::Turn};
use super::{Body, ForUsers, Request, Subject};
use crate::clock::HOUR;
use crate::domain::desired::{Input, State};
use crate::service::{Error, Result};
use crate::wire::apple::command::Answer;
use crate::wire::plist::{Data, Dict};

pub(super) struct DeclarativeManagement;

impl Request for DeclarativeManagement {
    fn name(&self) -> &'static str {
        "DeclarativeManagement"
    }

    fn for_users(&self) -> ForUsers {
        ForUsers::All
    }

    fn body<'t>(&'t self, turn: &'t mut Turn<'_>, _subject: Subject<'t>) -> BoxFuture<'t, Result<Body>> {
        async move {
            declared::begin(turn).await?;
            let Some(set) = declarations::set(turn) else { return Ok(Body::Nothing("the device knows no declarations".into())) };
            if turn.channel.ddm_token.as_ref() != Some(&set.token()) {
                turn.channel.ddm_changed_at = Some(turn.now);
            }
            let tokens = serde_json::to_vec(&set.tokens(turn.channel.ddm_changed_at.unwrap_or(turn.now)));
            turn.told = Some(set.token());
            Ok(Body::Keys(Dict::new().with("Data", Data(tokens.map_err(Error::internal)?))))
        }
        .boxed()
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, _answer: &Answer) {
        let gone = turn.records().filter(|(key, record)| key.starts_with("declarations:") && record.state == State::Removing);
        for key in gone.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            turn.end_certificates(&key);
        }
        settle(turn, |state| match state {
            State::Removing => Some(Input::Removed),
            State::Pending | State::Sent => Some(Input::Taken { status: 200 }),
            _ => None,
        });
        // The report says how it went; if none comes the device is asked to look again.
        let until = turn.now.plus(HOUR);
        settle(turn, |state| (state == State::Delivered).then_some(Input::Deferred { until }));
        declared::synchronised(turn);
        // Of what has not changed the device does not report again.
        declarations::judge(turn);
    }

    fn failed(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, why: &str) {
        declared::unsynchronised(turn, why);
        let why = why.to_owned();
        settle(turn, |state| {
            let open = matches!(state, State::Pending | State::Sent | State::Removing);
            open.then(|| Input::Retry { status: 0, original_error: Some(why.clone()) })
        });
    }
}

/// Moves the records of declarations.
fn settle(turn: &mut Turn<'_>, input: impl Fn(State) -> Option<Input>) {
    let moves: Vec<(String, Input)> = turn
        .records()
        .filter(|(key, _)| key.starts_with("declarations:"))
        .filter_map(|(key, record)| Some((key.clone(), input(record.state)?)))
        .collect();
    for (key, input) in moves {
        turn.apply(&key, input);
    }
}
