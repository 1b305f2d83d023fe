//! Waking the devices that a change gave something to do. The change puts in one message, whatever the number of devices; the worker finds
//! them afterwards and wakes them page by page, so that a change for all devices is no long transaction.

use serde::{Deserialize, Serialize};

use super::wns;
use crate::app::App;
use crate::clock::{HOUR, MINUTE, Time};
use crate::service::outbox::{Deliverer, Delivery, Outcome};
use crate::service::{Error, Result};
use crate::store::outbox::{self, Claim, Lease, Message};
use crate::store::{self, Tx, enrollments};

/// The outbox topic.
pub const TOPIC: &str = "wake.due";
const LANE: &str = "wake/due";
/// How many devices share a transaction.
const PAGE: i64 = 200;
/// A change that began earlier may commit later, and its message then stands behind a younger one.
const MARGIN: i64 = MINUTE;

#[derive(Serialize, Deserialize)]
struct Payload {
    since: i64,
}

/// Has the devices woken that have something to do since `now`, in the transaction that gave it to them. While such a message waits,
/// another is not put in.
///
/// # Errors
/// Only the database's own.
pub fn enqueue(tx: &mut Tx<'_>, now: Time) -> store::Result<()> {
    let payload = serde_json::to_string(&Payload { since: now.plus(-MARGIN).0 })?;
    outbox::enqueue(tx, &Message { topic: TOPIC, order_key: LANE.into(), dedup_key: LANE.into(), payload }, now)
}

/// Finds the devices.
pub struct WakeDue;

async fn wake_due(app: &App, claim: &Claim) -> Result<()> {
    let payload: Payload = serde_json::from_str(&claim.payload).map_err(Error::internal)?;
    let (since, now) = (Time(payload.since), app.now());
    let mut after = String::new();
    while wns::enabled(&app.config) {
        let from = after.clone();
        let page = app.store.read(move |conn| enrollments::list_to_wake(conn, since, now, &from, PAGE)).await?;
        let Some(last) = page.last() else { break };
        last.as_str().clone_into(&mut after);
        app.store.write(move |tx| page.iter().try_for_each(|id| wns::enqueue_wake(tx, id, now))).await?;
    }
    Ok(())
}

impl Deliverer for WakeDue {
    fn topic(&self) -> &'static str {
        TOPIC
    }

    fn coalesces(&self) -> bool {
        true
    }

    fn retention(&self, _app: &App) -> i64 {
        HOUR
    }

    fn deliver<'a>(&'a self, app: &'a App, _lease: &'a Lease, claim: &'a Claim) -> Delivery<'a> {
        Box::pin(async move {
            match wake_due(app, claim).await {
                Ok(()) => Outcome::Done,
                Err(error) => Outcome::Retry { reason: error.to_string(), after: None, destination: false },
            }
        })
    }
}
