//! The command channel of an Apple device as a state machine: which command is next, and what an answer means.
//!
//! A [`Queue`] is one channel's (the device's, or one user's): first in, first out, one command under way. The device opens with *idle*,
//! gets a command, sends its result and gets the next, until an empty answer ends the exchange. A device that cannot do something now
//! says so; the command waits for the device's next *idle*, and the others go on. Commands are named by the caller's key, as in
//! [`crate::domain::dm_session`]; what they say is made when they are delivered and is not part of the queue's state, so that secrets
//! and large profiles are not stored with it.
//!
//! Of an administrator's order a channel knows where it stands in line, no more: how far it has got is the order's own
//! ([`crate::domain::command`]). Its name on the wire is its identifier, so that an answer finds it however late it comes.

use serde::{Deserialize, Serialize};

use crate::clock::{DAY, Time};
use crate::wire::apple::command::Status;

/// How long a command waits for a device that does not come, or never can.
pub const LONGEST: i64 = 60 * DAY;
/// Most commands that wait on one channel.
pub const MOST: usize = 500;
/// Most commands of one exchange; the rest waits until the device begins anew. A device whose answers bring up ever more questions, or
/// none of whose answers settles anything, does not keep the server busy.
pub const MOST_OF_EXCHANGE: u32 = 1000;

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
    /// It waited too long.
    Expired,
}

impl Verdict {
    /// What an answer says of its command; `None`: not now.
    #[must_use]
    pub fn of(status: Status) -> Option<Self> {
        match status {
            Status::Acknowledged => Some(Self::Done),
            Status::Error => Some(Self::Failed),
            Status::CommandFormatError => Some(Self::Malformed),
            Status::NotNow | Status::Idle => None,
        }
    }
}

/// What became of a command, by its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The caller's name for the command.
    pub key: String,
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
    /// Commands that were given out in this exchange.
    #[serde(default)]
    given: u32,
}

impl Queue {
    /// Puts commands at the end. One whose key waits already, or that finds the channel full, is left out; their keys are returned.
    #[must_use]
    pub fn enqueue(&mut self, planned: impl IntoIterator<Item = Planned>, now: Time) -> Vec<String> {
        let mut refused = Vec::new();
        for planned in planned {
            if self.entries.len() >= MOST || self.holds(&planned.key) {
                refused.push(planned.key);
            } else {
                self.entries.push(Entry { planned, stage: Stage::Waiting, since: now, deliveries: 0, put_off_at: None });
            }
        }
        refused
    }

    /// Puts a command in front of another one that waits. One whose key waits already, or that finds the channel full, is left out.
    pub fn enqueue_before(&mut self, later: &str, planned: Planned, now: Time) {
        let place = self.entries.iter().position(|entry| entry.planned.key == later);
        if let Some(place) = place.filter(|_| self.entries.len() < MOST && !self.holds(&planned.key)) {
            self.entries.insert(place, Entry { planned, stage: Stage::Waiting, since: now, deliveries: 0, put_off_at: None });
        }
    }

    /// Whether a command of that key waits or is under way.
    #[must_use]
    pub fn holds(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.planned.key == key)
    }

    /// The key of the command with that name on the wire.
    #[must_use]
    pub fn key_of(&self, uuid: &str) -> Option<&str> {
        self.entries.iter().find(|entry| entry.planned.uuid == uuid).map(|entry| entry.planned.key.as_str())
    }

    /// The keys that wait or are under way, in order.
    pub fn pending(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.planned.key.as_str())
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes in what the device said. With *idle* what was under way and may not be repeated is out of the channel.
    #[must_use]
    pub fn receive(mut self, status: Status, uuid: Option<&str>, now: Time) -> (Self, Received) {
        if status == Status::Idle {
            self.idle();
            return (self, Received::Idle);
        }
        // What was never delivered cannot be answered: a guessed or stale name.
        let place = self.entries.iter().position(|entry| Some(entry.planned.uuid.as_str()) == uuid && entry.deliveries > 0);
        let Some(place) = place else { return (self, Received::Unknown) };
        let Some(verdict) = Verdict::of(status) else {
            let key = self.entries.get_mut(place).map(|entry| {
                entry.stage = Stage::Deferred;
                entry.put_off_at = entry.put_off_at.or(Some(now));
                entry.planned.key.clone()
            });
            return (self, key.map_or(Received::Unknown, Received::Deferred));
        };
        let entry = self.entries.remove(place);
        (self, Received::Settled(entry.outcome(verdict)))
    }

    /// The device begins anew: what it put off is due again, and what was under way was not answered.
    fn idle(&mut self) {
        self.given = 0;
        self.entries.retain(|entry| entry.stage != Stage::Sent || !entry.planned.once);
        for entry in &mut self.entries {
            entry.stage = Stage::Waiting;
        }
    }

    /// The command to deliver now; `None` ends the exchange. One that is under way is delivered again before any other begins, except
    /// one that may not be: it holds the channel until the device is idle again.
    #[must_use]
    pub fn respond(mut self) -> (Self, Option<Planned>) {
        let under_way = self.entries.iter().position(|entry| entry.stage == Stage::Sent);
        let place = under_way.or_else(|| self.entries.iter().position(|entry| entry.stage == Stage::Waiting));
        let next = place.filter(|_| !self.is_over()).and_then(|place| self.entries.get_mut(place));
        let next = next.filter(|e| e.stage == Stage::Waiting || !e.planned.once).map(|e| {
            e.stage = Stage::Sent;
            e.deliveries = e.deliveries.saturating_add(1);
            e.planned.clone()
        });
        self.given = self.given.saturating_add(u32::from(next.is_some()));
        (self, next)
    }

    /// Whether as many commands were given out in this exchange as may be.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.given >= MOST_OF_EXCHANGE
    }

    /// Puts back what [`Self::respond`] gave out and could not be written: the caller made no command of it.
    pub fn undelivered(&mut self, key: &str) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.planned.key == key && entry.stage == Stage::Sent) {
            entry.deliveries = entry.deliveries.saturating_sub(1);
            entry.stage = Stage::Deferred;
        }
    }

    /// Takes a command back that was not delivered, or that the device put off; false when it is under way or not there.
    pub fn withdraw(&mut self, key: &str) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.planned.key != key || entry.stage == Stage::Sent);
        self.entries.len() < before
    }

    /// Gives up what has waited longer than `longest` milliseconds.
    #[must_use]
    pub fn expire(&mut self, longest: i64, now: Time) -> Vec<Outcome> {
        let old = |entry: &Entry| now.since(entry.since) > longest;
        let (over, kept): (Vec<Entry>, Vec<Entry>) = std::mem::take(&mut self.entries).into_iter().partition(old);
        self.entries = kept;
        over.into_iter().map(|entry| entry.outcome(Verdict::Expired)).collect()
    }

    /// Since when what the device was given waits for it; `None` while nothing does. What it puts off counts from when it did so first, so
    /// that it is woken for that ever more rarely: it comes back by itself only when "not now" was its last word, and that is never sure.
    /// In the middle of an exchange it is each message anew: a device that breaks it off is woken.
    #[must_use]
    pub fn waits_since(&self, now: Time) -> Option<Time> {
        self.entries.iter().map(|entry| entry.put_off_at.unwrap_or(now)).max()
    }
}

impl Entry {
    fn outcome(self, verdict: Verdict) -> Outcome {
        Outcome { key: self.planned.key, verdict }
    }
}

#[cfg(test)]
mod tests;
