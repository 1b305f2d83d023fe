//! Waking the devices that a change gave something to do. The change puts in one message, whatever the number of devices; the worker finds
//! them afterwards and wakes them page by page, so that a change for all devices is no long transaction.
//!
//! Apple's devices do not poll: while they have something to do and do not come, or put it off, they are woken again by [`sweep`], which
//! also wakes those whose time has come without a change (`work_at` in the future, such as a look at what was installed).

use serde::{Deserialize, Serialize};

use super::{enqueue_wake, wns};
use crate::app::App;
use crate::clock::{HOUR, MINUTE, Time};
use crate::domain::apple::push::{is_wake_due, stretches};
use crate::domain::device::Platform;
use crate::service::outbox::{Deliverer, Delivery, Outcome};
use crate::service::{Error, Result};
use crate::store::apple::push;
use crate::store::enrollments::ToWake;
use crate::store::outbox::{self, Claim, Lease, Message};
use crate::store::{self, Conn, Tx, enrollments, meta};

/// The outbox topic.
pub const TOPIC: &str = "wake.due";
const LANE: &str = "wake/due";
/// How many devices share a transaction.
const PAGE: i64 = 200;
/// A change that began earlier may commit later, and its message then stands behind a younger one.
const MARGIN: i64 = MINUTE;

/// Where `meta` keeps when [`sweep`] last looked.
const SWEPT: &str = "wake.swept_at";

#[derive(Serialize, Deserialize)]
struct Payload {
    since: i64,
}

/// Has the devices woken that have something to do since `now`, in the transaction that gave it to them. While such a message waits,
/// another is not put in. Without any push service nothing is: `windows` says whether there is one for Windows.
///
/// # Errors
/// Only the database's own.
pub fn enqueue(tx: &mut Tx<'_>, windows: bool, now: Time) -> store::Result<()> {
    if !windows && !push::has_certificate(tx.conn())? {
        return Ok(());
    }
    let payload = serde_json::to_string(&Payload { since: now.plus(-MARGIN).0 })?;
    outbox::enqueue(tx, &Message { topic: TOPIC, order_key: LANE.into(), dedup_key: LANE.into(), payload }, now)
}

/// Finds the devices.
pub struct WakeDue;

async fn wake_due(app: &App, claim: &Claim) -> Result<()> {
    let payload: Payload = serde_json::from_str(&claim.payload).map_err(Error::internal)?;
    let windows = wns::enabled(&app.config);
    let wanted = move |found: &ToWake| windows || found.platform != Platform::Windows;
    wake(app, enrollments::list_to_wake, Time(payload.since), app.now(), wanted).await
}

/// A page of enrolments of which something has been so since a moment between two.
type List = fn(&mut Conn, Time, Time, &str, i64) -> store::Result<Vec<ToWake>>;

/// Wakes those whose moment is between `since` and `until`.
async fn wake(app: &App, list: List, since: Time, until: Time, wanted: impl Fn(&ToWake) -> bool) -> Result<()> {
    let (mut after, now) = (String::new(), app.now());
    loop {
        let from = after.clone();
        let mut page = app.store.read(move |conn| list(conn, since, until, &from, PAGE)).await?;
        let Some(last) = page.last() else { return Ok(()) };
        last.id.as_str().clone_into(&mut after);
        page.retain(&wanted);
        if page.is_empty() {
            continue;
        }
        let config = std::sync::Arc::clone(&app.config);
        app.store
            .write(move |tx| page.iter().try_for_each(|found| enqueue_wake(tx, &config, found.platform, &found.id, now).map(drop)))
            .await?;
    }
}

/// Wakes the Apple devices whose time has come since the last look, and, with growing waits, those that have something to do and did not
/// come.
///
/// # Errors
/// When the store fails.
pub async fn sweep(app: &App) -> Result<()> {
    let known = app.store.read(|c| Ok((push::has_certificate(c)?, meta::find_value(c, SWEPT)?))).await?;
    let (true, swept) = known else { return Ok(()) };
    let now = app.now();
    // A look that comes very late wakes everybody once.
    let before = swept.and_then(|text| text.parse().ok()).map_or(now.plus(-MINUTE), Time);
    let due = |found: &ToWake| found.platform != Platform::Windows && is_wake_due(found.work_at, found.waiting_since, before, now);
    // Each is found by the later of its two moments, which counts.
    let is_new = |found: &ToWake| found.work_at.filter(|at| *at <= now) >= found.waiting_since;
    for (first, last) in stretches(before, now) {
        wake(app, enrollments::list_to_wake, first, last, |found| is_new(found) && due(found)).await?;
        wake(app, enrollments::list_waiting, first, last, |found| !is_new(found) && due(found)).await?;
    }
    app.store.write(move |tx| meta::upsert_value(tx, SWEPT, &now.0.to_string())).await?;
    app.outbox.notify_waiters();
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
