//! `/api/outbox`: what waits to be sent, what was sent, and what was given up: signals, and wakes of devices.

use serde::Deserialize;

use super::status::READ;
use crate::clock::Time;
use crate::domain::access::{Action, Need, Scope};
use crate::http::api::page::{Limit, Page, limit};
use crate::http::api::problem::{ApiProblem, Result};
use crate::http::api::route::{Call, Reply, routes};
use crate::http::api::schema::{At, Described, Nothing, Number, Schemas, shown, taken};
use crate::service::outbox;
use crate::service::signals::lanes;

const WRITE: Need = Need { scopes: &[Scope::OperationsReadWriteAll], action: Some(Action::OperationsUpdate) };

routes! {
    /// Lists what waits to be sent, or what was sent or given up, in the order in which it was put in.
    Get "outbox", READ, Asked, Nothing => 200 Page<OutboxRow>, [], list;
    /// Puts in again what was given up: of a change of compliance, what the receiver has missed until now.
    Post "outbox/{number}/retry", WRITE, Nothing, Nothing => 204 Nothing, [DeadLetterSuperseded], retry;
}

/// The states of a row.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    #[default]
    Queued,
    Done,
    Dead,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Done => "done",
            Self::Dead => "dead",
        }
    }
}

impl Described for State {
    fn describe(_: &mut Schemas) -> serde_json::Value {
        let words = [Self::Queued, Self::Done, Self::Dead].map(Self::as_str);
        serde_json::json!({ "type": "string", "enum": words })
    }
}

taken! {
    /// Which rows.
    Asked {
        /// queued (default): waits; done: sent; dead: given up.
        state: Option<State>,
        /// Those that come after this number.
        after: Option<Number<0, { i64::MAX }>>,
        /// How many at most; default 100.
        limit: Limit,
    }
}

shown! {
    /// Something that is to be sent.
    OutboxRow {
        /// Its number.
        number: i64,
        /// What kind it is; signals are signal.push.
        topic: String,
        /// What is sent in order, one after the other.
        lane: String,
        /// queued, done or dead.
        state: String,
        /// The name of the receiver of signals that it is for.
        receiver: Option<String>,
        /// The name of the device that it is about or for.
        device: Option<String>,
        /// How many tries failed.
        attempts: i64,
        /// Why the last one failed.
        last_error: Option<String>,
        /// When it was put in.
        since: At,
        /// When it was sent or given up.
        settled: Option<At>,
    }
}

async fn list(call: Call<'_>, asked: Asked, _: Nothing) -> Result<Reply<Page<OutboxRow>>> {
    call.of_all()?;
    let (state, after, limit) = (asked.state.unwrap_or_default().as_str(), asked.after.map_or(0, |after| after.0), limit(asked.limit));
    let rows = outbox::list(call.app, state, after, limit + 1).await?;
    let called = lanes::names(call.app, &rows).await?;
    let rows = rows.into_iter().zip(called).map(|(row, (receiver, device))| OutboxRow {
        number: row.seq,
        topic: row.topic,
        lane: row.order_key,
        state: row.state,
        receiver,
        device,
        attempts: row.attempts,
        last_error: row.last_error,
        since: Time(row.queued_at).into(),
        settled: row.settled_at.map(|at| Time(at).into()),
    });
    Ok(Page::cut(&call, rows.collect(), limit, |row| row.number.to_string()).into())
}

async fn retry(call: Call<'_>, _: Nothing, _: Nothing) -> Result<Reply<Nothing>> {
    call.of_all()?;
    let number = call.key(0)?.parse().map_err(|_| ApiProblem::not_found("row that was given up"))?;
    let by = call.by();
    outbox::retry(call.app, number, &by.actor, &by.origin).await?;
    Ok(Nothing {}.into())
}
