//! Stopping without losing answers: requests in flight are counted, and once the server stops no new ones begin.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use actix_web::http::StatusCode;
use tokio::sync::Notify;

use super::error::Problem;

/// The requests in flight of all faces.
#[derive(Debug, Default)]
pub(super) struct Drain {
    in_flight: AtomicUsize,
    stopping: AtomicBool,
    quiet: Notify,
}

impl Drain {
    /// Counts a request in until the guard is dropped.
    ///
    /// # Errors
    /// 503 once the server stops: the client comes again, to another node or to this one when it is back.
    pub(super) fn enter(&self) -> Result<Guard<'_>, Problem> {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let guard = Guard(self);
        if self.stopping.load(Ordering::SeqCst) {
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the server is stopping; try again").after(1));
        }
        Ok(guard)
    }

    /// Lets no new request in and waits until none is in flight.
    pub(super) async fn finish(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        while self.in_flight.load(Ordering::SeqCst) > 0 {
            self.quiet.notified().await;
        }
    }
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct Guard<'a>(&'a Drain);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::SeqCst) == 1 {
            // A permit is kept when nobody waits yet.
            self.0.quiet.notify_one();
        }
    }
}
