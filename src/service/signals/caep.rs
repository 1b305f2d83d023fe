//! CAEP events: put into the outbox with the change, signed when they first leave.
//!
//! A signature takes a millisecond of RSA, which has no place in a write transaction; so the outbox row holds the event (with its `jti`)
//! and the deliverer signs it once, stores the JWS in the row, and only then sends it: every retry is the same bytes.

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::domain::signal::{ComplianceChange, DeviceSubject, ReceiverStatus};
use crate::ids::ReceiverId;
use crate::store::outbox::{Message, enqueue};
use crate::store::{Result, Tx, receivers};
use crate::wire::set::Event;

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

/// Puts a flip of a device's compliance into the outbox: a row for each enabled receiver, in the transaction of the change. Without a
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
    for receiver in receivers::list_receivers(tx.conn())?.into_iter().filter(|r| r.status == ReceiverStatus::Enabled) {
        let jti = uuid::Uuid::new_v4().to_string();
        let payload = Payload {
            receiver: receiver.id.clone(),
            jti: jti.clone(),
            txn: change.txn.clone(),
            subject: Some(subject.clone()),
            event: event.clone(),
            jws: None,
        };
        let message = Message {
            topic: TOPIC,
            order_key: format!("{}/{}", destination(&receiver.id), change.device),
            dedup_key: format!("{}/{}/{}", destination(&receiver.id), change.device, jti),
            payload: serde_json::to_string(&payload)?,
        };
        enqueue(tx, &message, now)?;
    }
    Ok(())
}
