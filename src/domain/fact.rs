//! Facts: what a device reported, value by value, with source and time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::{HOUR, MINUTE, Time};

/// The longest value that is kept, in bytes: what is longer is no fact that anybody asks about.
const LONGEST: usize = 16 * 1024;

/// A reported value with its status; one that is too long is not kept, and its status is 413.
#[must_use]
pub fn bounded(value: Option<String>, status: i64) -> (Option<String>, i64) {
    match value {
        Some(value) if value.len() > LONGEST => (None, 413),
        value => (value, status),
    }
}

/// One reported value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// Which fact: the catalogue row's name.
    pub name: String,
    /// The value as the device spelled it; `None` when it gave none (see `status`).
    pub value: Option<String>,
    /// How the device answered: 200 with a value, 204 when its answer left the value out, 404 when it has no such thing, 405 or 406 when it cannot say, 500 on its own failure.
    pub status: i64,
    /// Where the value comes from, such as the node's address.
    pub source: String,
    /// When the device said so.
    pub observed_at: Time,
    /// When to ask again; `None`: never by ourselves.
    pub next_at: Option<Time>,
}

/// A device's facts by name.
pub type Facts = BTreeMap<String, Fact>;

/// How long an unchanged fact may stand before its time is written again although nobody asked for it.
const REFRESH: i64 = HOUR;

impl Fact {
    /// Whether the two say the same, apart from the time.
    #[must_use]
    pub fn says_same(&self, other: &Self) -> bool {
        self.value == other.value && self.status == other.status && self.source == other.source
    }

    /// Whether `newer` has to be stored over this: it says something else, it was asked for, it only waits longer, or this one has become old.
    #[must_use]
    pub fn needs_update(&self, newer: &Self) -> bool {
        !self.says_same(newer)
            || self.next_at.is_some_and(|due| due <= newer.observed_at)
            || self.next_at.is_none() != newer.next_at.is_none()
            || (newer.observed_at == self.observed_at && newer.next_at != self.next_at)
            || newer.observed_at.since(self.observed_at) >= REFRESH
    }
}

/// How often a fact is read, as the catalogue says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cadence<'a> {
    /// The fact's name.
    pub name: &'a str,
    /// Hours between two reads.
    pub every_hours: u32,
}

/// The facts to ask for now: never reported, or due by their schedule.
#[must_use]
pub fn due<'a>(rows: &[Cadence<'a>], known: &Facts, now: Time) -> Vec<&'a str> {
    rows.iter().filter(|row| known.get(row.name).is_none_or(|fact| fact.next_at.is_none_or(|at| at <= now))).map(|row| row.name).collect()
}

/// How long a value stands at least after a device gave it, when it fails to give it again.
const STANDS: i64 = 48 * HOUR;

/// Whether a value is kept that the device failed to give again, for now: a device that fails for ever may hide something.
#[must_use]
pub fn outlives_failure(fact: &Fact, every_hours: u32, now: Time) -> bool {
    let stands = i64::from(every_hours).saturating_mul(2 * HOUR).max(STANDS);
    fact.value.is_some() && now.since(fact.observed_at) < stands
}

/// Whether a value is kept that an answer from `source` left out: it came from elsewhere, and the one who leaves it out does not know better.
#[must_use]
pub fn outlives_silence(fact: &Fact, source: &str) -> bool {
    fact.value.is_some() && fact.source != source
}

/// The shortest time between two reads: a fact of "each session" (0 hours) is not read again by a device that calls again at once.
const SHORTEST: i64 = 15 * MINUTE;

/// When a fact that was read at `now` is read again.
#[must_use]
pub fn next_read(every_hours: u32, now: Time) -> Time {
    now.plus(i64::from(every_hours).saturating_mul(HOUR).max(SHORTEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(value: &str, at: i64, next: Option<i64>) -> Fact {
        Fact {
            name: "tpm.version".into(),
            value: Some(value.into()),
            status: 200,
            source: "./Vendor/MSFT/DeviceStatus/TPM/SpecificationVersion".into(),
            observed_at: Time(at),
            next_at: next.map(Time),
        }
    }

    #[test]
    fn an_unchanged_fact_that_nobody_asked_for_is_not_written_again() {
        assert!(!fact("2.0", 0, Some(HOUR)).needs_update(&fact("2.0", 5, Some(HOUR + 5))));
        assert!(fact("2.0", 0, Some(HOUR)).needs_update(&fact("1.2", 5, Some(HOUR + 5))));
        assert!(fact("2.0", 0, Some(3)).needs_update(&fact("2.0", 5, Some(HOUR + 5))));
        assert!(fact("2.0", 0, Some(3)).needs_update(&fact("2.0", 0, Some(HOUR))));
        assert!(fact("2.0", 0, None).needs_update(&fact("2.0", HOUR, None)));
    }

    #[test]
    fn a_value_outlives_failures_for_a_while() {
        assert!(outlives_failure(&fact("2.0", 0, None), 1, Time(47 * HOUR)));
        assert!(!outlives_failure(&fact("2.0", 0, None), 1, Time(48 * HOUR)));
        assert!(outlives_failure(&fact("2.0", 0, None), 168, Time(300 * HOUR)));
        assert!(!outlives_failure(&Fact { value: None, ..fact("", 0, None) }, 1, Time(1)));
    }

    #[test]
    fn a_value_outlives_the_silence_of_others_only() {
        let fact = fact("2.0", 0, None);
        assert!(outlives_silence(&fact, "SecurityInfo") && !outlives_silence(&fact, &fact.source));
        assert!(!outlives_silence(&Fact { value: None, ..fact }, "SecurityInfo"));
    }

    #[test]
    fn facts_are_due_when_unknown_or_when_their_time_has_come() {
        let rows = [Cadence { name: "tpm.version", every_hours: 1 }, Cadence { name: "os.version", every_hours: 1 }];
        let known = Facts::from([("tpm.version".to_owned(), fact("2.0", 0, Some(HOUR)))]);
        assert_eq!(due(&rows, &known, Time(5)), ["os.version"]);
        assert_eq!(due(&rows, &known, next_read(1, Time(0))), ["tpm.version", "os.version"]);
    }
}
