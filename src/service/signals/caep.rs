//! CAEP events: put into the outbox with the change, signed when they first leave.
//!
//! A signature takes a millisecond of RSA, which has no place in a write transaction; so the outbox row holds the event (with its `jti`)
//! and the deliverer signs it once, stores the JWS in the row, and only then sends it: every retry is the same bytes.

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::domain::Refusal;
use crate::domain::signal::{ComplianceChange, DeviceSubject};
use crate::ids::ReceiverId;
use crate::store::outbox::missed::{self, Missed};
use crate::store::outbox::{self, Claim, Message, Settled, enqueue};
use crate::store::{Conn, Result, Tx, receivers};
use crate::wire::set::{CURRENT_STATUS, DEVICE_COMPLIANCE_CHANGE, Event, PREVIOUS_STATUS};

/// The outbox topic of pushed signals.
pub const TOPIC: &str = "signal.push";
/// How many devices share a transaction when a receiver is told what it missed.
const PAGE: i64 = 200;

/// What the outbox holds for a signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// For whom.
    pub receiver: ReceiverId,
    /// Identifies the signal at the receiver, over all retries.
    pub jti: String,
    /// Same for everything that one change causes.
    pub txn: String,
    /// Whom it is about; `None` for signals about the stream itself.
    pub subject: Option<DeviceSubject>,
    /// What happened.
    pub event: Event,
    /// The signed token, from the first try on.
    pub jws: Option<String>,
}

impl Payload {
    /// What a change of compliance was changed from and to; `None` for other events.
    fn change(&self) -> Option<(&str, &str)> {
        let of = |member| self.event.members.get(member).and_then(serde_json::Value::as_str);
        if self.event.kind == DEVICE_COMPLIANCE_CHANGE { of(PREVIOUS_STATUS).zip(of(CURRENT_STATUS)) } else { None }
    }

    /// The same change as a token of its own, told to somebody who heard `heard` last; where nobody knows that, as it happened.
    fn since(mut self, heard: Option<&str>) -> Self {
        if let Some(heard) = heard {
            self.event.members.insert(PREVIOUS_STATUS.into(), heard.into());
        }
        Self { jti: uuid::Uuid::new_v4().to_string(), jws: None, ..self }
    }

    /// What of this signal is news to the receiver: all of it, unless earlier signals about the device were given up and what the receiver
    /// believes is known. `None` when it believes already what the signal says.
    #[must_use]
    pub fn news(self, missed: Option<&Missed>) -> Option<Self> {
        let heard = missed.and_then(|missed| missed.heard.as_deref());
        let (Some(heard), Some((previous, current))) = (heard, self.change()) else { return Some(self) };
        if current == heard {
            return None;
        }
        Some(if previous == heard { self } else { self.since(Some(heard)) })
    }

    /// Whether a try to send it began: then it may have arrived, whatever came back. It is signed before it is sent for the first time.
    fn may_have_left(&self) -> bool {
        self.jws.is_some()
    }
}

/// The destination of a receiver's lanes.
#[must_use]
pub fn destination(receiver: &ReceiverId) -> String {
    format!("signal:{receiver}")
}

/// Puts a flip of a device's compliance into the outbox: a row for each receiver (a paused one gets it once it is
/// resumed), in the transaction of the change. Without a
/// flip (`previous == current`) nothing is put in. Ring `app.outbox` after the commit.
///
/// # Errors
/// [`crate::store::Error::NotFound`] when there is no such device.
pub fn enqueue_compliance_change(tx: &mut Tx<'_>, change: &ComplianceChange, now: Time) -> Result<()> {
    if change.previous == change.current {
        return Ok(());
    }
    let subject = receivers::load_subject(tx.conn(), &change.device)?;
    let event = Event::device_compliance_change(change.previous, change.current, now.seconds(), change.initiator.as_str(), &change.reason);
    for receiver in receivers::list_receivers(tx.conn())? {
        put(tx, &receiver.id, Some(subject.clone()), event.clone(), &change.txn, now)?;
    }
    Ok(())
}

/// Puts in an event that only shows a receiver that the stream works; returns its `jti`.
///
/// # Errors
/// Only the database's own.
pub fn enqueue_verification(tx: &mut Tx<'_>, receiver: &ReceiverId, now: Time) -> Result<String> {
    let txn = uuid::Uuid::new_v4().to_string();
    put(tx, receiver, None, Event::verification(None), &txn, now)
}

/// What became of a verification event, if it is still known.
///
/// # Errors
/// Only the database's own.
pub fn find_verification(conn: &mut Conn, receiver: &ReceiverId, jti: &str) -> Result<Option<outbox::Row>> {
    let lane = lane(receiver, None);
    outbox::find_row(conn, &lane, &dedup_key(&lane, jti))
}

/// Lets go what was held for a receiver. Of the flips of one device only the last leaves, and tells of the change since what the receiver
/// last heard; where that is no change, none does. Where nobody knows what it heard, because a flip that leaves no more may have arrived,
/// the last leaves whatever it says. Returns how many leave no more.
///
/// # Errors
/// Only the database's own.
pub fn resume(tx: &mut Tx<'_>, receiver: &ReceiverId, now: Time) -> Result<usize> {
    let mut superseded = Vec::new();
    for (lane, rows) in outbox::update_resumed(tx, &destination(receiver), now)? {
        let mut flips = Vec::new();
        for (seq, payload) in rows {
            let payload: Payload = serde_json::from_str(&payload)?;
            if payload.change().is_some() {
                flips.push((seq, payload));
            }
        }
        let Some((last, newest)) = flips.pop() else { continue };
        let Some((_, oldest)) = flips.first() else { continue };
        let heard = match missed::find_missed(tx.conn(), &lane)? {
            Some(missed) => missed.heard,
            None => oldest.change().map(|(previous, _)| previous.to_owned()),
        };
        let heard = heard.filter(|_| !flips.iter().any(|(_, flip)| flip.may_have_left()));
        superseded.extend(flips.iter().map(|(seq, _)| *seq));
        match (&heard, newest.change()) {
            (Some(heard), Some((_, current))) if heard == current => {
                superseded.push(last);
                // Nothing is missing any more.
                missed::delete_missed(tx, &lane)?;
            }
            (Some(heard), Some((previous, _))) if heard == previous => {}
            // Another token than one that may have left before.
            (Some(heard), _) => outbox::update_held(tx, last, &serde_json::to_string(&newest.since(Some(heard)))?)?,
            (None, _) => {
                let payload = serde_json::to_string(&Payload { jws: None, ..newest })?;
                missed::upsert_missed(tx, &Missed { lane, heard, payload })?;
            }
        }
    }
    outbox::update_superseded(tx, &superseded, now)?;
    Ok(superseded.len())
}

/// Records what became of a signal, with its settling: what is given up, the receiver has missed until a later one reaches it.
///
/// # Errors
/// Only the database's own.
pub fn settled(tx: &mut Tx<'_>, claim: &Claim, settled: &Settled) -> Result<()> {
    let lane = claim.order_key.clone();
    match settled {
        Settled::Retry(..) => return Ok(()),
        Settled::Done | Settled::Skipped => return missed::delete_missed(tx, &lane),
        Settled::Dead(_) | Settled::Expired(_) => {}
    }
    // Whatever cannot be read was given up for that.
    let Ok(payload) = serde_json::from_str::<Payload>(&claim.payload) else { return Ok(()) };
    let Some((previous, current)) = payload.change() else { return Ok(()) };
    if receivers::find_receiver(tx.conn(), &payload.receiver)?.is_none() {
        return Ok(());
    }
    // As it was claimed: signed then means that it was tried before.
    let in_doubt = payload.may_have_left() || matches!(settled, Settled::Expired(_));
    let before = missed::find_missed(tx.conn(), &lane)?.map_or_else(|| Some(previous.to_owned()), |missed| missed.heard);
    let heard = before.filter(|_| !in_doubt);
    if heard.as_deref() == Some(current) {
        return missed::delete_missed(tx, &lane);
    }
    let payload = serde_json::to_string(&Payload { jws: None, ..payload })?;
    missed::upsert_missed(tx, &Missed { lane, heard, payload })
}

/// Puts in anew what a receiver has missed, a page of devices after the lane `after`: of each the change between what it last heard and
/// what is now, unless a signal waits that will tell it. Returns where the next page begins.
///
/// # Errors
/// Only the database's own.
pub fn tell_missed(tx: &mut Tx<'_>, receiver: &ReceiverId, after: &str, now: Time) -> Result<Option<String>> {
    let page = missed::list_missed(tx.conn(), &destination(receiver), after, PAGE)?;
    for Missed { lane, .. } in &page {
        outbox::touch_lane(tx, lane, now)?;
        // Under the lock: another node may have delivered it since.
        let Some(missed) = missed::find_missed(tx.conn(), lane)? else { continue };
        if outbox::count_queued(tx.conn(), lane, None)? == 0 {
            let payload = serde_json::from_str::<Payload>(&missed.payload)?.since(missed.heard.as_deref());
            enqueue(tx, &message(lane.clone(), &payload)?, now)?;
        }
    }
    Ok(page.into_iter().next_back().map(|missed| missed.lane))
}

/// Makes a signal that was given up and is put in again say what the receiver has missed until now.
///
/// # Errors
/// [`Refusal::DeadLetterSuperseded`] when it has missed nothing, or when a signal waits that will tell it.
pub fn requeued(tx: &mut Tx<'_>, seq: i64, lane: &str, payload: &str) -> Result<()> {
    if serde_json::from_str::<Payload>(payload)?.change().is_none() {
        return Ok(());
    }
    let missed = missed::find_missed(tx.conn(), lane)?.ok_or(Refusal::DeadLetterSuperseded)?;
    if outbox::count_queued(tx.conn(), lane, Some(seq))? > 0 {
        return Err(Refusal::DeadLetterSuperseded.into());
    }
    let payload = serde_json::from_str::<Payload>(&missed.payload)?.since(missed.heard.as_deref());
    outbox::update_held(tx, seq, &serde_json::to_string(&payload)?)
}

fn message(lane: String, payload: &Payload) -> Result<Message> {
    Ok(Message { topic: TOPIC, dedup_key: dedup_key(&lane, &payload.jti), order_key: lane, payload: serde_json::to_string(payload)? })
}

fn dedup_key(lane: &str, jti: &str) -> String {
    format!("{lane}/{jti}")
}

/// The lane of what is said to a receiver of a device, or of the stream itself.
/// The lane of a receiver in which signals about a device, or about the stream itself, follow one another.
pub(super) fn lane(receiver: &ReceiverId, subject: Option<&DeviceSubject>) -> String {
    format!("{}/{}", destination(receiver), subject.map_or("stream", |s| s.device.as_str()))
}

fn put(tx: &mut Tx<'_>, receiver: &ReceiverId, subject: Option<DeviceSubject>, event: Event, txn: &str, now: Time) -> Result<String> {
    let jti = uuid::Uuid::new_v4().to_string();
    let lane = lane(receiver, subject.as_ref());
    let payload = Payload { receiver: receiver.clone(), jti: jti.clone(), txn: txn.to_owned(), subject, event, jws: None };
    enqueue(tx, &message(lane, &payload)?, now)?;
    Ok(jti)
}
