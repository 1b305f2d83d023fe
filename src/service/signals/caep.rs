//! CAEP events: put into the outbox with the change, signed when they first leave.
//!
//! A signature takes a millisecond of RSA, which has no place in a write transaction; so the outbox row holds the event (with its `jti`)
//! and the deliverer signs it once, stores the JWS in the row, and only then sends it: every retry is the same bytes.

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::domain::signal::{ComplianceChange, DeviceSubject};
use crate::ids::ReceiverId;
use crate::store::outbox::{self, Message, enqueue};
use crate::store::{Result, Tx, receivers};
use crate::wire::set::{CURRENT_STATUS, DEVICE_COMPLIANCE_CHANGE, Event, PREVIOUS_STATUS};

/// The outbox topic of pushed signals.
pub const TOPIC: &str = "signal.push";

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

/// Lets go what was held for a receiver. Of the flips of one device only the last leaves, and tells of the change since what the receiver
/// last heard; where that is no change, none does. Returns how many leave no more.
///
/// # Errors
/// Only the database's own.
pub fn resume(tx: &mut Tx<'_>, receiver: &ReceiverId, now: Time) -> Result<usize> {
    let mut superseded = Vec::new();
    for lane in outbox::update_resumed(tx, &destination(receiver), now)? {
        let mut flips = Vec::new();
        for (seq, payload) in lane {
            let payload: Payload = serde_json::from_str(&payload)?;
            if payload.event.kind == DEVICE_COMPLIANCE_CHANGE {
                flips.push((seq, payload));
            }
        }
        let Some((last, mut newest)) = flips.pop() else { continue };
        let Some((_, oldest)) = flips.first() else { continue };
        let known = oldest.event.members.get(PREVIOUS_STATUS).cloned().unwrap_or_default();
        superseded.extend(flips.iter().map(|(seq, _)| *seq));
        if newest.event.members.get(CURRENT_STATUS) == Some(&known) {
            superseded.push(last);
        } else if newest.event.members.get(PREVIOUS_STATUS) != Some(&known) {
            // Another token than the one that may have left before.
            newest.event.members.insert(PREVIOUS_STATUS.into(), known);
            newest = Payload { jti: uuid::Uuid::new_v4().to_string(), jws: None, ..newest };
            outbox::update_held(tx, last, &serde_json::to_string(&newest)?)?;
        }
    }
    outbox::update_superseded(tx, &superseded, now)?;
    Ok(superseded.len())
}

fn put(tx: &mut Tx<'_>, receiver: &ReceiverId, subject: Option<DeviceSubject>, event: Event, txn: &str, now: Time) -> Result<String> {
    let jti = uuid::Uuid::new_v4().to_string();
    let lane = format!("{}/{}", destination(receiver), subject.as_ref().map_or("stream", |s| s.device.as_str()));
    let payload = Payload { receiver: receiver.clone(), jti: jti.clone(), txn: txn.to_owned(), subject, event, jws: None };
    let message = Message { topic: TOPIC, dedup_key: format!("{lane}/{jti}"), order_key: lane, payload: serde_json::to_string(&payload)? };
    enqueue(tx, &message, now)?;
    Ok(jti)
}
