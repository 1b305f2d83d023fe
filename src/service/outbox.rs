//! The outbox worker: takes what is due and hands it to the deliverer of its topic, at least once and in order within an order key.
//!
//! A crash between sending and recording sends again, with the same idempotency key. What fails is tried again with growing, jittered
//! waits until the topic's retention ends; then it is given up (`dead`) with the reason, and the rows behind it go on. A destination that
//! fails as a whole is left in peace for a while, so that a receiver that is down does not hold the sending slots of the others.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::{LONGEST_LIST, Result, pki, push, signals, subscription};
use crate::app::App;
use crate::clock::{DAY, HOUR, MINUTE, SECOND, Time};
use crate::domain::audit::Entry;
use crate::domain::signal::backoff;
use crate::store;
use crate::store::outbox::{Claim, Lease, Settled};

/// How many lanes are sent at once, in all and (about) to one destination.
const SLOTS: usize = 32;
const SLOTS_PER_DESTINATION: usize = 8;
/// How often the worker looks for rows of other nodes and for retries.
const TICK: Duration = Duration::from_secs(1);
/// For how long a destination is left in peace at most.
const LONGEST_REST: i64 = HOUR;
/// Longest text of an error that is kept.
const MAX_REASON: usize = 500;

/// What became of a try, as a deliverer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Sent.
    Done,
    /// Not needed any more: nothing was sent, and nobody knows how the destination fares.
    Skipped,
    /// Will never work: given up at once, with the reason.
    Rejected(String),
    /// Kept back on purpose: tried again each day, or when its destination is made due, until it is older than `keep` milliseconds.
    Held {
        /// Why it is kept back.
        reason: String,
        /// For how long after it was put in.
        keep: i64,
        /// It was sent just now, and nobody knows whether it arrived.
        sent: bool,
    },
    /// May work later.
    Retry {
        /// Why it did not.
        reason: String,
        /// How long the other side wants us to wait, in milliseconds.
        after: Option<i64>,
        /// The destination as a whole fails, not this message.
        destination: bool,
    },
}

/// The future of a try.
pub type Delivery<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// What a deliverer records about a message that is settled, in the same transaction.
pub type Aftermath = fn(&mut store::Tx<'_>, &Claim, &Settled) -> store::Result<()>;

/// Sends the messages of one topic.
pub trait Deliverer: Send + Sync {
    /// The topic.
    fn topic(&self) -> &'static str;
    /// Whether a message that is in flight no longer stands for new ones with the same dedup key.
    fn coalesces(&self) -> bool {
        false
    }
    /// What is recorded besides when a message was sent or given up.
    fn aftermath(&self) -> Option<Aftermath> {
        None
    }
    /// For how long a message is tried, in milliseconds.
    fn retention(&self, app: &App) -> i64;
    /// Tries once.
    fn deliver<'a>(&'a self, app: &'a App, lease: &'a Lease, claim: &'a Claim) -> Delivery<'a>;
}

/// Every topic's deliverer.
fn deliverers(app: &App) -> Result<Vec<Box<dyn Deliverer>>> {
    let client = super::outbound::client(&app.config).map_err(super::Error::internal)?;
    Ok(vec![
        Box::new(signals::push::SignalPush::new(client.clone())),
        Box::new(push::apns::ApnsWake::default()),
        Box::new(push::due::WakeDue),
        Box::new(pki::fallen::Fallen),
        Box::new(subscription::deliver::Notify::new(client.clone())),
        Box::new(push::wns::WnsWake::new(client)),
    ])
}

#[derive(Default)]
struct Destination {
    in_flight: usize,
    failures: u32,
    rest_until: Time,
}

impl Destination {
    /// Whether it is left in peace. A rest that is longer than any was begun while the clock was ahead of itself.
    fn rests(&self, now: Time) -> bool {
        self.rest_until > now && self.rest_until <= now.plus(LONGEST_REST)
    }
}

/// The worker of a node.
pub struct Worker {
    app: Arc<App>,
    lease: Lease,
    deliverers: Vec<Box<dyn Deliverer>>,
    destinations: Mutex<HashMap<String, Destination>>,
    random: fn() -> u64,
}

impl Worker {
    /// A worker with every deliverer.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(app: Arc<App>) -> Result<Self> {
        let deliverers = deliverers(&app)?;
        Ok(Self::with(app, deliverers, system_random))
    }

    /// A worker with other deliverers and another source of jitter: for tests.
    #[must_use]
    pub fn with(app: Arc<App>, deliverers: Vec<Box<dyn Deliverer>>, random: fn() -> u64) -> Self {
        let coalesced = deliverers.iter().filter(|d| d.coalesces()).map(|d| d.topic()).collect();
        // Longer than any try: one request, perhaps a second one after a new token.
        let millis = MINUTE + 3 * SECOND * i64::from(app.config.signals.timeout_seconds);
        let lease = Lease { node: app.node.clone(), coalesced, millis };
        Self { app, lease, deliverers, destinations: Mutex::default(), random }
    }

    /// Delivers everything that is due now, one pass after the other, and returns how many tries were made.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn drain(self: &Arc<Self>) -> Result<usize> {
        let (_keep, stop) = watch::channel(false);
        let mut tries = 0;
        loop {
            let claims = self.claim(SLOTS).await?;
            if claims.is_empty() {
                return Ok(tries);
            }
            let mut tasks: JoinSet<usize> = JoinSet::new();
            for claim in claims {
                tasks.spawn(Arc::clone(self).lane(claim, stop.clone()));
            }
            tries += tasks.join_all().await.into_iter().sum::<usize>();
        }
    }

    /// Delivers until `stop` becomes true; then finishes what is in flight.
    async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut tasks: JoinSet<usize> = JoinSet::new();
        loop {
            let rung = self.app.outbox.notified();
            tokio::pin!(rung);
            // From here on a ring is not lost, also while we look.
            rung.as_mut().enable();
            let free = SLOTS.saturating_sub(tasks.len());
            let mut found = 0;
            if free > 0 && !*stop.borrow() {
                match self.claim(free).await {
                    Ok(claims) => {
                        found = claims.len();
                        for claim in claims {
                            tasks.spawn(Arc::clone(&self).lane(claim, stop.clone()));
                        }
                    }
                    Err(error) => tracing::warn!(%error, "the outbox cannot be read"),
                }
            }
            if *stop.borrow() {
                break;
            }
            if found > 0 && found < free {
                continue;
            }
            tokio::select! {
                () = rung => {}
                () = tokio::time::sleep(TICK) => {}
                _ = tasks.join_next(), if !tasks.is_empty() => {}
                // A handle that was dropped without a word stops the worker, too.
                changed = stop.changed() => if changed.is_err() { break },
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    async fn claim(&self, free: usize) -> Result<Vec<Claim>> {
        let now = self.app.common_now().await?;
        let without = self.resting(now);
        let look = without.clone();
        if !self.app.store.read(move |c| store::outbox::has_due(c, &look, now)).await? {
            return Ok(Vec::new());
        }
        let limit = i64::try_from(free.min(SLOTS_PER_DESTINATION)).unwrap_or(1);
        let lease = self.lease.clone();
        let claims = self.app.store.write(move |tx| store::outbox::claim_due(tx, &lease, &without, limit, now)).await?;
        let mut destinations = self.destinations.lock().unwrap_or_else(PoisonError::into_inner);
        for claim in &claims {
            destinations.entry(claim.destination().to_owned()).or_default().in_flight += 1;
        }
        Ok(claims)
    }

    /// Destinations that get nothing now: they rest, or have enough in flight.
    fn resting(&self, now: Time) -> Vec<String> {
        let mut destinations = self.destinations.lock().unwrap_or_else(PoisonError::into_inner);
        destinations.retain(|_, d| d.in_flight > 0 || d.failures > 0);
        destinations.iter().filter(|(_, d)| d.in_flight >= SLOTS_PER_DESTINATION || d.rests(now)).map(|(name, _)| name.clone()).collect()
    }

    /// Sends a lane's rows one after the other until one is to be tried later, or the lane is empty.
    async fn lane(self: Arc<Self>, first: Claim, stop: watch::Receiver<bool>) -> usize {
        let destination = first.destination().to_owned();
        let mut tries = 0;
        let mut held = Some(first);
        while let Some(claim) = held {
            tries += 1;
            let keep = !*stop.borrow();
            held = self.attempt(&claim, keep).await;
        }
        let mut destinations = self.destinations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = destinations.get_mut(&destination) {
            entry.in_flight = entry.in_flight.saturating_sub(1);
        }
        tries
    }

    async fn attempt(&self, claim: &Claim, keep: bool) -> Option<Claim> {
        let began = tokio::time::Instant::now();
        let deliverer = self.deliverers.iter().find(|d| d.topic() == claim.topic);
        let (outcome, retention) = match deliverer {
            Some(deliverer) => {
                // One message that breaks its deliverer is tried again and given up in the end like others; the lane goes on.
                let delivery = AssertUnwindSafe(deliverer.deliver(&self.app, &self.lease, claim)).catch_unwind().await;
                let outcome = delivery.unwrap_or_else(|_| {
                    metrics::counter!("muster_panics_total").increment(1);
                    Outcome::Retry { reason: "the delivery panicked".into(), after: None, destination: false }
                });
                (outcome, deliverer.retention(&self.app))
            }
            // Put in by a newer node: this one leaves it to the others.
            None => (Outcome::Retry { reason: "this node has no deliverer for the topic".into(), after: None, destination: false }, DAY),
        };
        let now = self.app.common_now().await.unwrap_or_else(|_| self.app.now());
        let settled = self.judge(claim, outcome, retention, now);
        let word = match &settled {
            Settled::Done => "done",
            Settled::Skipped => "skipped",
            Settled::Dead(_) | Settled::Expired(_) => "dead",
            Settled::Retry(..) => "retry",
        };
        metrics::counter!("muster_outbox_tries_total", "topic" => claim.topic.clone(), "outcome" => word).increment(1);
        metrics::histogram!("muster_outbox_try_seconds", "topic" => claim.topic.clone()).record(began.elapsed().as_secs_f64());
        if let Settled::Dead(reason) | Settled::Expired(reason) | Settled::Retry(_, reason) = &settled {
            tracing::warn!(outbox.seq = claim.seq, outbox.topic = claim.topic, outbox.outcome = word, reason, "not delivered");
        }
        let (lease, row, aftermath) = (self.lease.clone(), claim.clone(), deliverer.and_then(|d| d.aftermath()));
        let next = self.app.store.write(move |tx| {
            if !store::outbox::lock_held(tx, &row, &lease)? {
                return Ok(None);
            }
            if let Some(record) = aftermath {
                record(tx, &row, &settled)?;
            }
            let next = store::outbox::settle(tx, &row, &lease, &settled, keep, now)?;
            if let Settled::Dead(reason) | Settled::Expired(reason) = &settled {
                let after = serde_json::json!({ "topic": row.topic, "order_key": row.order_key, "reason": reason });
                store::audit::append(tx, &Entry::new("system", "outbox.dead", format!("outbox:{}", row.seq), "outbox").after(&after), now)?;
            }
            Ok(next)
        });
        match next.await {
            Ok(next) => next,
            Err(error) => {
                // The lease runs out and the message is sent again, with the same key.
                tracing::error!(%error, outbox.seq = claim.seq, "a delivery could not be recorded");
                None
            }
        }
    }

    /// Turns an outcome into what is recorded, and learns how the destination fares.
    fn judge(&self, claim: &Claim, outcome: Outcome, retention: i64, now: Time) -> Settled {
        let mut destinations = self.destinations.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = destinations.entry(claim.destination().to_owned()).or_default();
        let (reason, after, whole) = match outcome {
            Outcome::Done => {
                entry.failures = 0;
                return Settled::Done;
            }
            Outcome::Skipped => return Settled::Skipped,
            Outcome::Rejected(reason) => {
                entry.failures = 0;
                return Settled::Dead(shorten(&reason));
            }
            Outcome::Held { reason, keep, sent } => {
                let end = claim.queued_at.plus(keep);
                let why = || format!("not delivered within {} hours; last: {reason}", keep / HOUR);
                return match now >= end {
                    true if sent => Settled::Expired(why()),
                    true => Settled::Dead(why()),
                    false => Settled::Retry(now.plus(DAY).min(end), reason),
                };
            }
            Outcome::Retry { reason, after, destination } => (shorten(&reason), after, destination),
        };
        if whole {
            entry.rest_until = now.plus(backoff(entry.failures.min(6), (self.random)()).max(after.unwrap_or(0)).min(LONGEST_REST));
            entry.failures = entry.failures.saturating_add(1);
        }
        let end = claim.queued_at.plus(retention);
        if now >= end {
            return Settled::Expired(format!("not delivered within {} hours; last: {reason}", retention / HOUR));
        }
        let failures = u32::try_from(claim.attempts).unwrap_or(u32::MAX);
        let wait = backoff(failures, (self.random)()).max(after.unwrap_or(0)).max(1);
        // The last try is at the end of the retention, however long the other side wants us to wait.
        Settled::Retry(now.plus(wait).min(end), reason)
    }
}

/// A text that may be kept and shown: bounded, on one line.
fn shorten(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REASON).collect()
}

fn system_random() -> u64 {
    // Without randomness all wait for the full time, which is safe.
    crate::secret::random::<8>().map_or(u64::MAX, u64::from_be_bytes)
}

/// A page of rows of a state (`queued`, `done`, `dead`) after `after`, oldest first.
///
/// # Errors
/// Only the database's own.
pub async fn list(app: &App, state: &str, after: i64, limit: i64) -> Result<Vec<store::outbox::Row>> {
    let state = state.to_owned();
    Ok(app.store.read(move |conn| store::outbox::list_rows(conn, &state, after, limit.clamp(1, LONGEST_LIST))).await?)
}

/// Puts in again what was given up: of a change of compliance, what the receiver has missed until now.
///
/// # Errors
/// [`Refusal::DeadLetterSuperseded`](crate::domain::Refusal::DeadLetterSuperseded); [`NotFound`](super::Error::NotFound) when there is no
/// such row that was given up.
pub async fn retry(app: &App, seq: i64, actor: &str, origin: &str) -> Result<()> {
    let (entry, now) = (Entry::new(actor, "outbox.retry", format!("outbox:{seq}"), origin), app.now());
    app.store
        .write(move |tx| {
            let (topic, lane, payload) = store::outbox::update_requeued(tx, seq, now)?;
            if topic == signals::caep::TOPIC {
                signals::caep::requeued(tx, seq, &lane, &payload)?;
            }
            store::audit::append(tx, &entry, now)
        })
        .await?;
    app.outbox.notify_waiters();
    Ok(())
}

/// A worker at work.
#[derive(Debug)]
pub struct Running {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    /// Lets what is in flight finish, and ends.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

/// Starts the node's worker.
///
/// # Errors
/// When the HTTP client cannot be built.
pub fn start(app: Arc<App>) -> Result<Running> {
    let worker = Arc::new(Worker::new(app)?);
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(worker.run(stopped));
    Ok(Running { stop, task })
}
