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

    fn take(&self) -> Vec<(EnrollmentId, Time)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).drain().collect()
    }
}

/// Writes what waits. Called about once a second, and once more before a graceful stop.
///
/// # Errors
/// When the database does not take it; the moments then wait for the next call.
pub async fn flush(app: &App) -> Result<()> {
    let waiting = app.presence.take();
    for batch in waiting.chunks(BATCH) {
        let written = batch.to_vec();
        if let Err(error) = app.store.write(move |tx| enrollments::update_last_seen(tx, &written)).await {
            for (id, at) in batch {
                app.presence.seen(id, *at);
            }
            return Err(error.into());
        }
    }
    Ok(())
}
