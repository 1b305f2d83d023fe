//! Slowing down guesses: a count of failures in a window, and a pause that doubles.

use std::net::{IpAddr, Ipv6Addr};

use crate::clock::{MINUTE, Time};

/// How many failures are let pass, and how long the pause after them is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Failures in the window before the first pause.
    pub failures: i64,
    /// Length of the window, in milliseconds.
    pub window: i64,
    /// The first pause; each further failure doubles it.
    pub pause: i64,
    /// The longest pause.
    pub longest_pause: i64,
}

/// One person's tries from one address: five, then pauses from half a minute to a quarter of an hour. Nobody else's tries count, so
/// nobody can lock a person out from elsewhere.
pub const PAIR: Limit = Limit { failures: 5, window: 15 * MINUTE, pause: MINUTE / 2, longest_pause: 15 * MINUTE };

/// All tries from one address: many people may stand behind one, so it is slow to bite, and what is right passes all the same.
pub const ADDRESS: Limit = Limit { failures: 60, window: 15 * MINUTE, pause: MINUTE, longest_pause: 15 * MINUTE };

/// Failures counted under one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttle {
    /// Failures in the window.
    pub failures: i64,
    /// When the window began.
    pub window_started_at: Time,
    /// No try counts before this.
    pub blocked_until: Time,
}

impl Throttle {
    /// Milliseconds to wait, when blocked.
    #[must_use]
    pub fn wait(&self, now: Time) -> Option<i64> {
        Some(self.blocked_until.since(now)).filter(|wait| *wait > 0)
    }

    /// The state after one more failure.
    #[must_use]
    pub fn after_failure(self, now: Time, limit: &Limit) -> Self {
        let over = now.since(self.window_started_at) >= limit.window && now >= self.blocked_until;
        let mut next = if over { Self { failures: 0, window_started_at: now, blocked_until: Time(0) } } else { self };
        next.failures = next.failures.saturating_add(1);
        let beyond = next.failures - limit.failures;
        if beyond >= 0 {
            let doubled = limit.pause.saturating_mul(1_i64.checked_shl(u32::try_from(beyond).unwrap_or(30).min(30)).unwrap_or(i64::MAX));
            next.blocked_until = now.plus(doubled.min(limit.longest_pause));
            // The window begins anew after the pause, so that waiting one out does not reset the doubling.
            next.window_started_at = next.blocked_until;
        }
        next
    }
}

/// The address under which a caller counts: one subscriber has a whole /64 of IPv6.
#[must_use]
pub fn subscriber(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_begins_at_the_limit_doubles_and_is_bounded() {
        let mut state = Throttle::default();
        let mut now = Time(1_000_000_000);
        for _ in 0..4 {
            state = state.after_failure(now, &PAIR);
            assert_eq!(state.wait(now), None);
        }
        let mut pauses = Vec::new();
        for _ in 0..8 {
            state = state.after_failure(now, &PAIR);
            let wait = state.wait(now).unwrap();
            pauses.push(wait);
            now = now.plus(wait);
            assert_eq!(state.wait(now), None);
        }
        assert_eq!(pauses[0], PAIR.pause);
        assert_eq!(pauses[1], 2 * PAIR.pause);
        assert_eq!(*pauses.last().unwrap(), PAIR.longest_pause);
        now = now.plus(PAIR.window);
        assert_eq!(state.after_failure(now, &PAIR).failures, 1, "a quiet window forgets");
    }
}
