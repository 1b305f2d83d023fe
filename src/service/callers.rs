//! How often each caller of the API has called lately, on this node: a hint against floods, which may be lost with the process.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::config::Limits;
use crate::domain::access::{Caller, Identity};

/// After how many calls callers that have been quiet are forgotten.
const SWEEP_EVERY: u32 = 16_384;

/// What a call does. Each has a bound of its own, so that nothing waits behind calls of another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Weight {
    /// It reads.
    Read,
    /// It writes.
    Write,
    /// It takes a right away or makes a device harmless: it must get through while the caller floods us otherwise.
    Urgent,
}

/// The calls of each caller.
pub struct Callers {
    rate: Option<DefaultKeyedRateLimiter<(Weight, String)>>,
    counted: AtomicU32,
}

impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callers").field("counted", &self.counted).finish_non_exhaustive()
    }
}

impl Callers {
    /// With the configured rate; 0 per second bounds nothing.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let rate = NonZeroU32::new(limits.api_per_second).map(|rate| {
            let burst = NonZeroU32::new(limits.api_burst).unwrap_or(rate);
            RateLimiter::keyed(Quota::per_second(rate).allow_burst(burst))
        });
        Self { rate, counted: AtomicU32::new(0) }
    }

    /// Counts a call: of an application, or of a person through one.
    ///
    /// # Errors
    /// The seconds to wait when there were too many.
    pub fn count(&self, caller: &Caller, weight: Weight) -> Result<(), u64> {
        let Some(rate) = &self.rate else { return Ok(()) };
        if self.counted.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            rate.retain_recent();
        }
        let name = match &caller.identity {
            Identity::Application => caller.client_id.clone(),
            Identity::Person(user) => format!("{}/{user}", caller.client_id),
        };
        rate.check_key(&(weight, name)).map_err(|until| {
            metrics::counter!("muster_api_throttled_total").increment(1);
            until.wait_time_from(DefaultClock::default().now()).as_secs().saturating_add(1)
        })
    }
}
