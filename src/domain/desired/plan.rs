//! From what a device should have and what its records say to what is to be done now.

use std::collections::{BTreeMap, BTreeSet};

use super::effective::{Effective, Winner};
use super::record::{Input, Record, Timing, step};
use super::{Item, State};
use crate::clock::Time;
use crate::ids::ProfileId;

/// What is due for a device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan<'a> {
    /// To be given to the device, in order.
    pub set: Vec<Planned<'a>>,
    /// To be read back from the device.
    pub check: Vec<Planned<'a>>,
    /// To be taken away.
    pub remove: Vec<Removal>,
}

impl Plan<'_> {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.check.is_empty() && self.remove.is_empty()
    }
}

/// Something that the device should have.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned<'a> {
    /// Its key.
    pub key: String,
    /// What it is.
    pub winner: &'a Winner,
    /// How far it has got.
    pub record: Record,
}

/// Something that the device should not have any more.
#[derive(Clone, Debug, PartialEq)]
pub struct Removal {
    /// Its key.
    pub key: String,
    /// In whose item the record is.
    pub profile: ProfileId,
    /// How far it has got; its memory and address say what to remove.
    pub record: Record,
}

/// Puts what the device should have into the records of its items: new and changed things become pending, things that nobody wants any
/// more are to be removed, and disagreement is noted on both sides. A record follows its key from profile to profile, so that nothing is
/// sent or removed only because another profile now says the same.
pub fn reconcile(items: &mut [Item], effective: &Effective, timing: Timing, now: Time) {
    let mut known: BTreeMap<String, (usize, Record)> = BTreeMap::new();
    for (index, item) in items.iter_mut().enumerate() {
        for (key, record) in std::mem::take(&mut item.detail.records) {
            // A record with a winner only shows another one; the holder is the one that the device knows about.
            let shown = record.winner.is_some();
            let better = known.get(&key).is_none_or(|(_, other)| other.winner.is_some() && !shown);
            if better {
                known.insert(key, (index, record));
            }
        }
    }
    let mut place = BTreeMap::new();
    for (index, item) in items.iter().enumerate() {
        place.insert(item.profile_id.clone(), index);
    }
    let keys: BTreeSet<String> = known.keys().chain(effective.winners.keys()).chain(effective.excluded.keys()).cloned().collect();
    for key in keys {
        let before = known.remove(&key).filter(|(_, record)| record.winner.is_none());
        let Some(winner) = effective.winners.get(&key) else {
            for (profile, hash) in effective.excluded.get(&key).iter().flat_map(|excluded| &excluded.asked) {
                let lost = effective.excluded.get(&key).map(|excluded| Input::Beaten(excluded.winner.clone()));
                let record = lost.and_then(|lost| step(Record::wanted(hash.clone(), now), lost, timing, now));
                if let Some(record) = record {
                    put(items, place.get(profile).copied(), key.clone(), record);
                }
            }
            // What the device may still hold has to go first, whatever else is to be shown.
            if let Some((index, record)) = before
                && let Some(record) = step(record, Input::Unwanted, timing, now)
            {
                put(items, Some(index), key, record);
            }
            continue;
        };
        let wanted = Input::Wanted(winner.value_hash.clone());
        let record = match before {
            Some((_, record)) => step(record, wanted, timing, now),
            None => Some(Record::wanted(winner.value_hash.clone(), now)),
        };
        for loser in &winner.beaten {
            let lost = Input::Beaten(winner.profile.clone());
            let record = step(Record::wanted(loser.value_hash.clone(), now), lost, timing, now);
            if let Some(record) = record {
                put(items, place.get(&loser.profile).copied(), key.clone(), record);
            }
        }
        if let Some(mut record) = record {
            record.beaten = winner.beaten.iter().map(|loser| loser.profile.clone()).collect();
            for profile in &winner.agreeing {
                put(items, place.get(profile).copied(), key.clone(), shown(&record, &winner.profile));
            }
            put(items, place.get(&winner.profile).copied(), key, record);
        }
    }
}

fn put(items: &mut [Item], index: Option<usize>, key: String, record: Record) {
    if let Some(item) = index.and_then(|index| items.get_mut(index)) {
        item.detail.records.insert(key, record);
    }
}

/// The record as a profile shows it that asks for the same value as the winner.
fn shown(record: &Record, winner: &ProfileId) -> Record {
    Record { winner: Some(winner.clone()), due_at: None, beaten: Vec::new(), memory: serde_json::Map::new(), ..record.clone() }
}

/// What is due at `now`, after [`reconcile`].
#[must_use]
pub fn plan<'a>(items: &[Item], effective: &'a Effective, now: Time) -> Plan<'a> {
    let mut plan = Plan::default();
    for item in items {
        for (key, record) in &item.detail.records {
            if record.winner.is_some() || record.due_at.is_none_or(|due| due > now) {
                continue;
            }
            let planned = || {
                let winner = effective.winners.get(key)?;
                Some(Planned { key: key.clone(), winner, record: record.clone() })
            };
            match record.state {
                // Still "sent" when its time has passed: no answer came.
                // A failure that is due: what was missing may be there.
                State::Pending | State::Sent | State::Failed => plan.set.extend(planned()),
                State::Delivered | State::Verified => plan.check.extend(planned()),
                State::Removing => {
                    plan.remove.push(Removal { key: key.clone(), profile: item.profile_id.clone(), record: record.clone() });
                }
                State::Assigned | State::Conflict | State::NotApplicable => {}
            }
        }
    }
    let place = |planned: &Planned<'_>| (planned.winner.order, planned.key.clone());
    plan.set.sort_by_key(place);
    plan.check.sort_by_key(place);
    plan
}

/// Moves the record of a key. `false` when no item holds it: an answer to something that is not wanted any more.
pub fn apply(items: &mut [Item], key: &str, input: Input, timing: Timing, now: Time) -> bool {
    for item in items {
        if item.detail.records.get(key).is_some_and(|record| record.winner.is_none())
            && let Some(record) = item.detail.records.remove(key)
        {
            if let Some(record) = step(record, input, timing, now) {
                item.detail.records.insert(key.to_owned(), record);
            }
            return true;
        }
    }
    false
}

/// Lets each agreeing profile show its winner's state and derives the items' states. Returns what remains, and the profiles of the items
/// that are over.
#[must_use]
pub fn settle(mut items: Vec<Item>) -> (Vec<Item>, Vec<ProfileId>) {
    let holders: BTreeMap<(ProfileId, String), Record> = items
        .iter()
        .flat_map(|item| item.detail.records.iter().map(|(key, record)| ((item.profile_id.clone(), key.clone()), record.clone())))
        .filter(|(_, record)| record.winner.is_none())
        .collect();
    for item in &mut items {
        for (key, record) in &mut item.detail.records {
            if record.state != State::Conflict
                && let Some(winner) = record.winner.clone()
                && let Some(holder) = holders.get(&(winner.clone(), key.clone()))
            {
                *record = shown(holder, &winner);
            }
        }
    }
    let (mut left, mut over) = (Vec::new(), Vec::new());
    for item in items {
        let profile = item.profile_id.clone();
        match item.rolled_up() {
            Some(item) => left.push(item),
            None => over.push(profile),
        }
    }
    (left, over)
}
