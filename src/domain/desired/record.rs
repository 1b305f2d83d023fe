//! One thing that a profile wants of a device, and its way from "pending" to "verified".

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::State;
use crate::clock::{DAY, HOUR, MINUTE, Time};
use crate::ids::ProfileId;

/// How often a thing is tried before it has failed until it changes.
pub const MAX_TRIES: u32 = 6;
const FIRST_RETRY: i64 = 5 * MINUTE;
/// How long an answer may take before the thing counts as lost.
const ANSWER: i64 = 5 * MINUTE;
const LONGEST_RETRY: i64 = 8 * HOUR;
/// How many characters of an error are kept: some hold what the device said.
const ERROR: usize = 200;

/// How far one thing has got.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// How far.
    pub state: State,
    /// Hash of the value that the device should hold: tells a changed value from an unchanged one.
    pub value_hash: String,
    /// What was last put into a message is not what is wanted by now: the answer to it says nothing of this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outdated: bool,
    /// The address as it was sent, when the key does not say it: removal needs no catalogue of that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The protocol's own last status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<i64>,
    /// The device's own error beside the status (Windows `originalerror`, an HRESULT).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_error: Option<String>,
    /// What the device lacks that it would need, when we know it without asking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacks: Option<Lack>,
    /// Why it is not verified although nothing went wrong on the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Note>,
    /// When it last moved.
    pub at: Time,
    /// How often it has failed since it was wanted.
    #[serde(default)]
    pub tries: u32,
    /// When to look at it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Time>,
    /// How often the device held something else after it had been right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<Drift>,
    /// Whose value the device gets instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub winner: Option<ProfileId>,
    /// Whose values this one beat.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beaten: Vec<ProfileId>,
    /// What a payload with behaviour keeps between sessions (thumbprint, request id).
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub memory: Map<String, Value>,
}

words! {
    /// What a device lacks.
    Lack {
        /// A later version of its system.
        Version = "version",
        /// Another edition of its system.
        Edition = "edition",
        /// A user who is managed.
        User = "user",
        /// Another way of enrolling: it is its user's own.
        Enrollment = "enrollment",
    }
}

words! {
    /// What a record waits for.
    Note {
        /// An administrator has to agree first.
        WaitsForApproval = "waits-for-approval",
        /// The certificate was revoked, and another one is asked for.
        CertificateRevoked = "certificate-revoked",
    }
}

/// The device held something else than ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// How often.
    pub count: u32,
    /// When it was last found.
    pub at: Time,
    /// What was found, cut at 200 characters.
    pub found: Option<String>,
}

/// What happens to a record.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The device should hold the value of this hash.
    Wanted(String),
    /// The device should not hold it (any more).
    Unwanted,
    /// Another profile's value wins.
    Beaten(ProfileId),
    /// It was put into a message.
    Sent,
    /// The device took it, and it still has to be looked at.
    Taken {
        /// Protocol status.
        status: i64,
    },
    /// The device works on it; look again then.
    Deferred {
        /// When.
        until: Time,
    },
    /// Nothing can be done before an administrator agrees; look again then.
    AwaitsApproval {
        /// When.
        until: Time,
        /// The device goes on asking (Windows); if not, it is given the payload again (Apple).
        asks: bool,
    },
    /// The certificate that the device holds was revoked.
    Revoked,
    /// What it is made of is different: it is given anew.
    Changed,
    /// It could not be sent: the user whose it is was not there. No failure.
    Postponed {
        /// When to try again.
        until: Time,
    },
    /// The device holds what we want.
    Matches,
    /// The device holds something else, or nothing.
    Differs {
        /// What it holds.
        found: Option<String>,
    },
    /// It is gone from the device.
    Removed,
    /// The device could not, but may later.
    Retry {
        /// Protocol status.
        status: i64,
        /// The device's own error.
        original_error: Option<String>,
    },
    /// The device will not.
    Refused {
        /// Protocol status.
        status: i64,
        /// The device's own error.
        original_error: Option<String>,
    },
    /// The server itself cannot make it for this device at the moment, such as for want of a variable's value; look again in a day.
    Unmet {
        /// What is wrong.
        why: String,
    },
    /// The device has no such thing.
    NotApplicable {
        /// Protocol status.
        status: i64,
    },
    /// It was not sent: the device has no such thing.
    Lacks(Lack),
    /// The session ended without an answer.
    Lost,
    /// An answer came to a value that is not wanted any more ([`Record::outdated`]): the device may hold that one, and is due to get
    /// what is wanted.
    Outdated,
    /// The device's system is another one than before.
    Upgraded,
}

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Milliseconds between a verified value and the next look at it.
    pub drift_check: i64,
}

impl Timing {
    /// From the configured hours.
    #[must_use]
    pub fn hours(drift_hours: u32) -> Self {
        Self { drift_check: i64::from(drift_hours.max(1)).saturating_mul(HOUR) }
    }
}

/// How long to wait after the `tries`th failure: doubling from five minutes to eight hours.
#[must_use]
pub fn back_off(tries: u32) -> i64 {
    FIRST_RETRY.saturating_mul(1_i64.checked_shl(tries.saturating_sub(1)).unwrap_or(i64::MAX)).clamp(FIRST_RETRY, LONGEST_RETRY)
}

impl Record {
    /// A thing that is wanted from now on.
    #[must_use]
    pub fn wanted(value_hash: String, now: Time) -> Self {
        Self {
            state: State::Pending,
            value_hash,
            outdated: false,
            address: None,
            status: None,
            original_error: None,
            lacks: None,
            note: None,
            at: now,
            tries: 0,
            due_at: Some(now),
            drift: None,
            winner: None,
            beaten: Vec::new(),
            memory: Map::new(),
        }
    }

    /// Whether the device may hold it, so that it has to be taken away when it is not wanted.
    #[must_use]
    pub fn may_be_on_device(&self) -> bool {
        match self.state {
            State::Sent | State::Delivered | State::Verified | State::Removing => true,
            // Sent at least once: it came back from a failure, a lost session or drift.
            State::Pending => self.outdated || self.status.is_some() || self.tries > 0 || self.drift.is_some(),
            // A refused value was not taken, but an earlier one may be there.
            State::Failed => self.status.is_some(),
            State::Assigned | State::Conflict | State::NotApplicable => false,
        }
    }

    fn to(mut self, state: State, due_at: Option<Time>, now: Time) -> Self {
        self.state = state;
        self.due_at = due_at;
        self.at = now;
        self
    }

    fn with(mut self, status: i64, original_error: Option<String>) -> Self {
        self.status = Some(status);
        self.original_error = original_error.map(|text| text.chars().take(ERROR).collect());
        self
    }

    /// One more failure: wait and try again, or give up until the value changes.
    fn again(mut self, retry_as: State, now: Time) -> Self {
        self.tries = self.tries.saturating_add(1);
        self.note = None;
        let due = now.plus(back_off(self.tries));
        if self.tries < MAX_TRIES {
            self.to(retry_as, Some(due), now)
        } else if retry_as == State::Removing {
            // Giving up would hide that it is still there.
            self.to(State::Removing, Some(now.plus(DAY)), now)
        } else {
            self.to(State::Failed, None, now)
        }
    }
}

/// Moves a record; `None`: it is over.
#[must_use]
pub fn step(record: Record, input: Input, timing: Timing, now: Time) -> Option<Record> {
    let removing = record.state == State::Removing;
    Some(match input {
        Input::Wanted(hash) => {
            let known = match record.state {
                State::Removing | State::Conflict => false,
                State::Assigned
                | State::Pending
                | State::Sent
                | State::Delivered
                | State::Verified
                | State::Failed
                | State::NotApplicable => record.value_hash == hash,
            };
            if known {
                record
            } else {
                // Memory stays: a payload that changes has to clean up what its old version left.
                let outdated = record.may_be_on_device();
                Record { value_hash: hash, outdated, tries: 0, original_error: None, lacks: None, note: None, winner: None, ..record }.to(
                    State::Pending,
                    Some(now),
                    now,
                )
            }
        }
        Input::Unwanted if removing => record,
        Input::Unwanted if record.may_be_on_device() => {
            Record { tries: 0, beaten: Vec::new(), ..record }.to(State::Removing, Some(now), now)
        }
        Input::Unwanted => return None,
        Input::Beaten(winner) => Record { winner: Some(winner), tries: 0, beaten: Vec::new(), ..record }.to(State::Conflict, None, now),
        Input::Sent if removing => record.to(State::Removing, Some(now.plus(ANSWER)), now),
        Input::Sent => {
            let record = Record { outdated: false, ..record };
            match record.state {
                // What had failed and is sent nevertheless has all its tries anew.
                State::Failed => Record { tries: 0, ..record }.to(State::Sent, Some(now.plus(ANSWER)), now),
                State::Pending | State::Sent => record.to(State::Sent, Some(now.plus(ANSWER)), now),
                State::Assigned | State::Delivered | State::Verified | State::Conflict | State::NotApplicable | State::Removing => record,
            }
        }
        // The answer to what was sent before the removal: now it is surely there.
        Input::Taken { status } if removing => record.with(status, None).to(State::Removing, Some(now), now),
        Input::Taken { status } => record.with(status, None).to(State::Delivered, Some(now), now),
        Input::Deferred { until } if removing => record.to(State::Removing, Some(until), now),
        Input::Deferred { until } => record.to(State::Delivered, Some(until), now),
        Input::AwaitsApproval { until, .. } if removing => record.to(State::Removing, Some(until), now),
        // No fault of the device's.
        Input::AwaitsApproval { until, asks } => {
            let state = if asks { State::Delivered } else { State::Pending };
            Record { note: Some(Note::WaitsForApproval), tries: 0, ..record }.to(state, Some(until), now)
        }
        // Looked at anew: what the device holds is not good any more.
        Input::Revoked => match record.state {
            State::Delivered | State::Verified => {
                Record { note: Some(Note::CertificateRevoked), tries: 0, ..record }.to(State::Delivered, Some(now), now)
            }
            State::Assigned | State::Pending | State::Sent | State::Failed | State::Conflict | State::NotApplicable | State::Removing => {
                record
            }
        },
        Input::Changed => match record.state {
            State::Pending | State::Sent | State::Delivered | State::Verified | State::Failed => {
                Record { tries: 0, original_error: None, note: None, ..record }.to(State::Pending, Some(now), now)
            }
            State::Assigned | State::Conflict | State::NotApplicable | State::Removing => record,
        },
        Input::Postponed { until } if removing => record.to(State::Removing, Some(until), now),
        Input::Postponed { until } => match record.state {
            State::Delivered | State::Verified => Record { due_at: Some(until), ..record },
            State::Assigned | State::Pending | State::Sent | State::Failed | State::Conflict | State::NotApplicable | State::Removing => {
                record.to(State::Pending, Some(until), now)
            }
        },
        Input::Matches if removing => record.again(State::Removing, now),
        Input::Matches => {
            Record { tries: 0, original_error: None, note: None, ..record }.to(State::Verified, Some(now.plus(timing.drift_check)), now)
        }
        Input::Differs { .. } if removing => record.again(State::Removing, now),
        Input::Differs { found } if record.state == State::Verified => {
            let count = record.drift.as_ref().map_or(0, |d| d.count).saturating_add(1);
            let found = found.map(|text| text.chars().take(200).collect());
            Record { drift: Some(Drift { count, at: now, found }), ..record }.to(State::Pending, Some(now), now)
        }
        // No fault of the device's.
        Input::Differs { .. } if record.note == Some(Note::CertificateRevoked) => {
            Record { note: None, ..record }.to(State::Pending, Some(now), now)
        }
        Input::Differs { .. } => record.again(State::Pending, now),
        Input::Removed if removing => return None,
        // Gone although it is wanted.
        Input::Removed => return step(Record { memory: Map::new(), ..record }, Input::Differs { found: None }, timing, now),
        Input::Retry { status, original_error } => {
            record.with(status, original_error).again(if removing { State::Removing } else { State::Pending }, now)
        }
        // What a device refuses to give up is tried again at a slow pace.
        Input::Refused { status, original_error } if removing => {
            record.with(status, original_error).to(State::Removing, Some(now.plus(DAY)), now)
        }
        Input::Refused { status, original_error } => {
            Record { tries: record.tries.saturating_add(1), note: None, ..record }.with(status, original_error).to(State::Failed, None, now)
        }
        Input::Unmet { why } if removing => record.with(0, Some(why)).to(State::Removing, Some(now.plus(DAY)), now),
        Input::Unmet { why } => Record { note: None, ..record }.with(0, Some(why)).to(State::Failed, Some(now.plus(DAY)), now),
        Input::NotApplicable { .. } | Input::Lacks(_) if removing => return None,
        Input::Lacks(lack) => Record { lacks: Some(lack), ..record }.to(State::NotApplicable, None, now),
        Input::NotApplicable { status } => record.with(status, None).to(State::NotApplicable, None, now),
        Input::Upgraded => match (record.state, record.status) {
            (State::NotApplicable, _) | (State::Failed, Some(404)) => {
                Record { tries: 0, original_error: None, lacks: None, ..record }.to(State::Pending, Some(now), now)
            }
            _ => record,
        },
        Input::Outdated => {
            let known = Record { outdated: false, status: record.status.or(Some(0)), ..record };
            if removing || matches!(known.state, State::Pending | State::Sent) {
                let state = if removing { State::Removing } else { State::Pending };
                known.to(state, Some(now), now)
            } else {
                known
            }
        }
        Input::Lost if record.outdated && !removing => return step(record, Input::Outdated, timing, now),
        Input::Lost => match record.state {
            State::Sent => {
                // The device may have it: a status that says "no answer" keeps it in mind.
                let status = record.status.or(Some(0));
                Record { status, ..record }.to(State::Pending, Some(now), now)
            }
            State::Removing => record.to(State::Removing, Some(now), now),
            State::Assigned
            | State::Pending
            | State::Delivered
            | State::Verified
            | State::Failed
            | State::Conflict
            | State::NotApplicable => record,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_gives_what_was_not_there_another_chance_and_nothing_else() {
        let timing = Timing::hours(24);
        let at = |input, record| step(record, input, timing, Time(1)).unwrap();
        let sent = || at(Input::Sent, Record::wanted("h".into(), Time(0)));
        for (answer, again) in [
            (Input::NotApplicable { status: 406 }, true),
            (Input::Lacks(Lack::Edition), true),
            (Input::Refused { status: 404, original_error: None }, true),
            (Input::Refused { status: 400, original_error: None }, false),
            (Input::Matches, false),
        ] {
            let before = at(answer, sent());
            let after = at(Input::Upgraded, before.clone());
            assert_eq!(after.state == State::Pending, again, "{before:?}");
            assert!(again || after == before);
            assert_eq!(after.lacks, None);
        }
    }

    #[test]
    fn an_answer_to_another_value_settles_nothing_of_the_one_that_is_wanted() {
        let timing = Timing::hours(24);
        let at = |input, record| step(record, input, timing, Time(1)).unwrap();
        let sent = at(Input::Sent, Record::wanted("old".into(), Time(0)));
        assert!(!sent.outdated);
        let changed = at(Input::Wanted("new".into()), sent.clone());
        assert!(changed.outdated);
        for answer in [Input::Outdated, Input::Lost] {
            let after = at(answer, changed.clone());
            assert_eq!((after.state, after.due_at, after.tries), (State::Pending, Some(Time(1)), 0), "it is due still");
            assert!(!after.outdated, "the next answer is not passed over");
            assert!(after.may_be_on_device(), "the old value may be there");
        }
        // Not wanted at all: the old value is taken away all the same.
        assert_eq!(at(Input::Unwanted, changed.clone()).state, State::Removing);
        assert!(!at(Input::Sent, changed).outdated);
        assert!(!at(Input::Wanted("old".into()), sent).outdated, "nothing has changed");
        assert!(!at(Input::Wanted("new".into()), Record::wanted("old".into(), Time(0))).outdated, "nothing was sent");
    }

    #[test]
    fn an_error_is_cut() {
        let refused = Input::Refused { status: 404, original_error: Some("x".repeat(100_000)) };
        let record = step(Record::wanted("h".into(), Time(0)), refused, Timing::hours(24), Time(1)).unwrap();
        assert_eq!(record.original_error.unwrap().len(), ERROR);
    }

    #[test]
    fn a_late_answer_does_not_stand_for_a_removal() {
        let timing = Timing::hours(24);
        let at = |input, record| step(record, input, timing, Time(1));
        let sent = at(Input::Sent, Record::wanted("h".into(), Time(0))).unwrap();
        let removing = at(Input::Unwanted, sent).unwrap();
        let after = at(Input::Taken { status: 200 }, removing).unwrap();
        assert_eq!(after.state, State::Removing);
        assert!(at(Input::Removed, after).is_none());
    }
}
