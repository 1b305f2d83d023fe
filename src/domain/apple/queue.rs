//! The command channel of an Apple device as a state machine: which command is next, and what an answer means.
//!
//! A [`Queue`] is one channel's (the device's, or one user's): first in, first out, one command under way. The device opens with *idle*,
//! gets a command, sends its result and gets the next, until an empty answer ends the exchange. A device that cannot do something now
//! says so; the command waits for the device's next *idle*, and the others go on. Commands are named by the caller's key, as in
//! [`crate::domain::dm_session`]; what they say is made when they are delivered and is not part of the queue's state, so that secrets
//! and large profiles are not stored with it.

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::wire::apple::command::Status;

/// Most commands that wait on one channel.
pub const MOST: usize = 500;

/// Most commands of a channel whose late answers are waited for.
const MOST_LOST: usize = 50;

/// What a channel shall do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// The caller's name for it; comes back in the [`Outcome`]. On one channel a key waits once.
    pub key: String,
    /// The command's name on the wire: the same for each delivery.
    pub uuid: String,
    /// Whether doing it twice does harm (erase, lock, restart, rotate a key): then it is never delivered again when its answer is lost.
    pub once: bool,
}

/// How far a command has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Stage {
    /// Waiting for its turn.
    Waiting,
    /// Delivered; no answer yet.
    Sent,
    /// The device said "not now": waits for the next idle.
    Deferred,
    /// Delivered, never answered, and not to be repeated. Devices keep an answer that they could not send: it may come yet.
    Lost,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    planned: Planned,
    stage: Stage,
    /// When it was put in.
    since: Time,
    /// How often it was delivered.
    deliveries: u32,
    /// Since when the device puts it off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    put_off_at: Option<Time>,
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The device did it, or took it on.
    Done,
    /// The device could not, or would not.
    Failed,
    /// The device does not understand it: a fault of ours.
    Malformed,
    /// Delivered once, never answered, and not to be repeated: it may or may not have run.
    Uncertain,
    /// It waited too long.
    Expired,
    /// Taken back: the channel was reset, or the caller withdrew it.
    Cancelled,
}

/// What became of a command, by its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The caller's name for the command.
    pub key: String,
    /// Its name on the wire.
    pub uuid: String,
    /// What became of it.
    pub verdict: Verdict,
}

/// What an answer of the device was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// The device is idle.
    Idle,
    /// It is settled; the answer's body belongs to it.
    Settled(Outcome),
    /// The device cannot do it now.
    Deferred(String),
    /// Of no command that waits: a late or doubled answer, which changes nothing.
    Unknown,
}

/// A channel between two messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    entries: Vec<Entry>,
}

impl Queue {
    /// Puts commands at the end. One whose key waits already, or that finds the channel full, is left out; their keys are returned.
    #[must_use]
    pub fn enqueue(&mut self, planned: impl IntoIterator<Item = Planned>, now: Time) -> Vec<String> {
        let mut refused = Vec::new();
        for planned in planned {
            if self.open().count() >= MOST || self.holds(&planned.key) {
                refused.push(planned.key);
            } else {
                self.entries.push(Entry { planned, stage: Stage::Waiting, since: now, deliveries: 0, put_off_at: None });
            }
        }
        refused
    }

    /// Whether a command of that key waits or is under way.
    #[must_use]
    pub fn holds(&self, key: &str) -> bool {
        self.open().any(|entry| entry.planned.key == key)
    }

    /// What waits or is under way.
    fn open(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.stage != Stage::Lost)
    }

    /// The keys of what was delivered once and never answered, as far as an answer may still come.
    pub fn lost(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().filter(|entry| entry.stage == Stage::Lost).map(|entry| entry.planned.key.as_str())
    }

    /// The keys that wait or are under way, in order.
    pub fn pending(&self) -> impl Iterator<Item = &str> {
        self.open().map(|entry| entry.planned.key.as_str())
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open().next().is_none()
    }

    /// Takes in what the device said. With *idle* also come the outcomes of what was under way and may not be repeated; their answers count
    /// when they come later.
    #[must_use]
    pub fn receive(mut self, status: Status, uuid: Option<&str>, now: Time) -> (Self, Received, Vec<Outcome>) {
        if status == Status::Idle {
            let lost = self.idle();
            return (self, Received::Idle, lost);
        }
        // What was never delivered cannot be answered: a guessed or stale name.
        let place = self.entries.iter().position(|entry| Some(entry.planned.uuid.as_str()) == uuid && entry.deliveries > 0);
        let Some(place) = place else { return (self, Received::Unknown, Vec::new()) };
        let verdict = match status {
            Status::Acknowledged => Verdict::Done,
            Status::Error => Verdict::Failed,
            Status::CommandFormatError => Verdict::Malformed,
            Status::NotNow | Status::Idle => {
                let key = self.entries.get_mut(place).map(|entry| {
                    entry.stage = Stage::Deferred;
                    entry.put_off_at = entry.put_off_at.or(Some(now));
                    entry.planned.key.clone()
                });
                return (self, key.map_or(Received::Unknown, Received::Deferred), Vec::new());
            }
        };
        let entry = self.entries.remove(place);
        (self, Received::Settled(entry.outcome(verdict)), Vec::new())
    }

    /// The device begins anew: what it put off is due again, and what was under way was not answered.
    fn idle(&mut self) -> Vec<Outcome> {
        let mut lost = Vec::new();
        for entry in &mut self.entries {
            match entry.stage {
                Stage::Sent if entry.planned.once => {
                    entry.stage = Stage::Lost;
                    lost.push(entry.clone().outcome(Verdict::Uncertain));
                }
                Stage::Waiting | Stage::Sent | Stage::Deferred => entry.stage = Stage::Waiting,
                Stage::Lost => {}
            }
        }
        let mut over = self.lost().count().saturating_sub(MOST_LOST);
        self.entries.retain(|entry| {
            let forgotten = entry.stage == Stage::Lost && over > 0;
            over = over.saturating_sub(usize::from(forgotten));
            !forgotten
        });
        lost
    }

    /// The command to deliver now; `None` ends the exchange. One that is under way is delivered again before any other begins, except
    /// one that may not be: it holds the channel until the device is idle again.
    #[must_use]
    pub fn respond(mut self) -> (Self, Option<Planned>) {
        let under_way = self.entries.iter().position(|entry| entry.stage == Stage::Sent);
        let place = under_way.or_else(|| self.entries.iter().position(|entry| entry.stage == Stage::Waiting));
        let next = place.and_then(|place| self.entries.get_mut(place)).filter(|e| e.stage == Stage::Waiting || !e.planned.once).map(|e| {
            e.stage = Stage::Sent;
            e.deliveries = e.deliveries.saturating_add(1);
            e.planned.clone()
        });
        (self, next)
    }

    /// Puts back what [`Self::respond`] gave out and could not be written: the caller made no command of it.
    pub fn undelivered(&mut self, key: &str) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.planned.key == key && entry.stage == Stage::Sent) {
            entry.deliveries = entry.deliveries.saturating_sub(1);
            entry.stage = Stage::Deferred;
        }
    }

    /// Takes a command back that was not delivered; `None` when it is under way or not there.
    #[must_use]
    pub fn withdraw(&mut self, key: &str) -> Option<Outcome> {
        let place = self.entries.iter().position(|entry| entry.planned.key == key && !matches!(entry.stage, Stage::Sent | Stage::Lost))?;
        Some(self.entries.remove(place).outcome(Verdict::Cancelled))
    }

    /// Gives up what has waited longer than `longest` milliseconds.
    #[must_use]
    pub fn expire(&mut self, longest: i64, now: Time) -> Vec<Outcome> {
        let old = |entry: &Entry| now.since(entry.since) > longest;
        let (over, kept): (Vec<Entry>, Vec<Entry>) = std::mem::take(&mut self.entries).into_iter().partition(old);
        self.entries = kept;
        // What was lost has been told before.
        over.into_iter()
            .filter(|entry| entry.stage != Stage::Lost)
            .map(|entry| {
                let unclear = entry.stage == Stage::Sent && entry.planned.once;
                entry.outcome(if unclear { Verdict::Uncertain } else { Verdict::Expired })
            })
            .collect()
    }

    /// Ends the channel (a new enrolment, or the end of one): nothing of it is ever delivered again.
    #[must_use]
    pub fn abandon(self) -> Vec<Outcome> {
        self.entries
            .into_iter()
            .filter(|entry| entry.stage != Stage::Lost)
            .map(|entry| {
                let unclear = entry.stage == Stage::Sent && entry.planned.once;
                entry.outcome(if unclear { Verdict::Uncertain } else { Verdict::Cancelled })
            })
            .collect()
    }

    /// Since when the device has something to do; `None` while nothing waits. What it puts off counts from when it did so first, so that it
    /// is woken for that ever more rarely: it comes back by itself only when "not now" was its last word, and that is never sure.
    #[must_use]
    pub fn waits_since(&self, now: Time) -> Option<Time> {
        self.open().map(|entry| entry.put_off_at.unwrap_or(now)).max()
    }
}

impl Entry {
    fn outcome(self, verdict: Verdict) -> Outcome {
        Outcome { key: self.planned.key, uuid: self.planned.uuid, verdict }
    }
}

#[cfg(test)]
mod tests;
