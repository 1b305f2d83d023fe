//! Audit rows of what a device may do as often as it likes: of what repeats within an hour one is written, the rest is counted.
//!
//! Kept in memory, by each node for itself: it decides only what is written down, never what a device may do.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use crate::clock::{HOUR, Time};
use crate::ids::EnrollmentId;

/// How many values of one kind are written down of an enrolment in an hour.
const VALUES: usize = 5;

/// What is done: by which enrolment, of which kind, and a hash of what was said with it (empty: nothing).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    enrollment: EnrollmentId,
    kind: String,
    value: String,
}

impl Act {
    /// `kind`: what the audit row is about; `value`: what makes one different from the other.
    #[must_use]
    pub fn new(enrollment: &EnrollmentId, kind: impl Into<String>, value: &[u8]) -> Self {
        let value = if value.is_empty() { String::new() } else { hex::encode(openssl::sha::sha256(value)) };
        Self { enrollment: enrollment.clone(), kind: kind.into(), value }
    }
}

/// What was written down lately.
#[derive(Debug, Default)]
pub struct Repeats(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The hour that is being written down.
    hour: i64,
    written: HashMap<(EnrollmentId, String), HashSet<String>>,
}

impl Inner {
    fn begin(&mut self, now: Time) {
        let hour = now.0.div_euclid(HOUR);
        if self.hour != hour {
            self.hour = hour;
            self.written.clear();
        }
    }
}

impl Repeats {
    /// Whether it is to be written down; what is not is counted.
    pub fn is_news(&self, act: &Act, now: Time) -> bool {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.begin(now);
        let known = inner.written.get(&(act.enrollment.clone(), act.kind.clone()));
        let news = known.is_none_or(|values| values.len() < VALUES && !values.contains(&act.value));
        if !news {
            metrics::counter!("muster_audit_repeats_total").increment(1);
        }
        news
    }

    /// It was written down.
    pub fn written(&self, act: Act, now: Time) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.begin(now);
        inner.written.entry((act.enrollment, act.kind)).or_default().insert(act.value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_written_once_an_hour_and_of_ever_other_values_a_few() {
        let (repeats, id) = (Repeats::default(), EnrollmentId::new());
        let write = |kind: &str, value: &str, minute: i64| {
            let (act, now) = (Act::new(&id, kind, value.as_bytes()), Time(minute * HOUR / 60));
            let news = repeats.is_news(&act, now);
            if news {
                repeats.written(act, now);
            }
            news
        };
        let acts = [("read", "", 0), ("read", "", 1), ("keep", "a", 2), ("keep", "a", 3), ("keep", "b", 4), ("read", "", 60)];
        assert_eq!(acts.map(|(kind, value, minute)| write(kind, value, minute)), [true, false, true, false, true, true]);
        assert_eq!((0..100).filter(|n| write("keep", &n.to_string(), 61)).count(), VALUES);
        // What could not be stored is news still.
        let act = Act::new(&id, "other", b"");
        assert!(repeats.is_news(&act, Time(0)) && repeats.is_news(&act, Time(0)));
    }
}
