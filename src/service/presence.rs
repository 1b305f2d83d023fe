//! When devices were last heard of: collected in memory for about a second, so that a check-in with nothing to do writes nothing by itself.
//!
//! Losing the last second in a crash loses nothing that a device was promised.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::Result;
use crate::app::App;
use crate::clock::Time;
use crate::ids::EnrollmentId;
use crate::store::enrollments;

/// How many enrolments one write transaction covers.
const BATCH: usize = 1000;

/// Moments that wait to be written.
#[derive(Debug, Default)]
pub struct Presence(Mutex<HashMap<EnrollmentId, Time>>);

impl Presence {
    /// Notes that an enrolment was heard of.
    pub fn seen(&self, id: &EnrollmentId, now: Time) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.get_mut(id) {
            Some(at) => *at = now.max(*at),
            None => {
                waiting.insert(id.clone(), now);
            }
        }
    }

    fn put_back(&self, moments: Vec<(EnrollmentId, Time)>) {
        for (id, at) in moments {
            self.seen(&id, at);
        }
    }

    fn take(&self) -> Vec<(EnrollmentId, Time)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).drain().collect()
    }
}

/// Writes what waits. Called about once a second, and once more before a graceful stop.
///
/// # Errors
/// When the database does not take it; the moments then wait for the next call, as do those of enrolments that somebody holds.
pub async fn flush(app: &App) -> Result<()> {
    let mut waiting = app.presence.take();
    while !waiting.is_empty() {
        let batch = waiting.split_off(waiting.len().saturating_sub(BATCH));
        let written = batch.clone();
        match app.store.write(move |tx| enrollments::update_last_seen(tx, &written)).await {
            Ok(held) => app.presence.put_back(held),
            Err(error) => {
                app.presence.put_back(batch);
                app.presence.put_back(waiting);
                return Err(error.into());
            }
        }
    }
    Ok(())
}
