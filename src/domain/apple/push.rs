//! The push certificate's life, and what the push service's answers mean.

use super::queue;
use crate::clock::{DAY, HOUR, MINUTE, Time};

/// A push certificate in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its private key, sealed.
    pub sealed_key: Vec<u8>,
    /// The certificate, DER.
    pub der: Vec<u8>,
    /// The topic that it is for: the user id in its subject.
    pub topic: String,
    /// First moment of validity.
    pub not_before: Time,
    /// Last moment of validity.
    pub not_after: Time,
    /// Since when the push service refuses it, and why.
    pub alarm: Option<Alarm>,
    /// The last warning of its end that was given: that many days before it.
    pub warned_days: Option<i64>,
    /// When it was put in force.
    pub created_at: Time,
    /// The Apple Account that it was made with, and is to be renewed with.
    pub account: Option<String>,
}

/// The push service refuses the certificate: no device is woken until somebody does something about it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Alarm {
    /// What it said.
    pub reason: String,
    /// Since when.
    pub since: Time,
}

/// A key that waits for its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The private key, sealed.
    pub sealed_key: Vec<u8>,
    /// The request (PKCS#10, DER).
    pub der: Vec<u8>,
    /// When it was made.
    pub created_at: Time,
}

/// So many days before a push certificate's end somebody is told, each time once; 0 says that it has ended.
pub const WARNINGS: [i64; 5] = [60, 30, 14, 7, 0];

/// The warning that is due: the smallest of [`WARNINGS`] that was reached, unless it was given.
#[must_use]
pub fn warning(not_after: Time, warned_days: Option<i64>, now: Time) -> Option<i64> {
    let left = not_after.since(now);
    let reached = WARNINGS.into_iter().filter(|days| left <= days.saturating_mul(DAY)).min()?;
    warned_days.is_none_or(|warned| reached < warned).then_some(reached)
}

/// Answers that kill a token although the device lives on: the token is of another topic, or of another environment of the service. Where
/// they come, something is wrong with the certificate or the service that is asked.
pub const FOREIGN: [&str; 2] = ["400 BadDeviceToken", "400 DeviceTokenNotForTopic"];

/// How long wakes may fail until somebody is told.
pub const UNREACHABLE: i64 = 5 * MINUTE;

/// What to do after an answer of the push service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It took the wake.
    Accepted,
    /// The device's token is dead: the channel waits for its next one. The enrolment lives on.
    Dead,
    /// The token was dead before the device reported it anew: nothing is to be done.
    Stale,
    /// The service refuses the certificate: everybody waits, and somebody is told. No device is to blame.
    Certificate,
    /// Later; `whole`: everybody waits, not this device alone.
    Wait {
        /// The service as a whole.
        whole: bool,
    },
    /// The request was wrong, and would be again.
    Wrong,
}

/// Judges an answer: its status, the reason in it, and, when a token is dead, since when. `token_updated_at` is when the device reported
/// the token.
#[must_use]
pub fn judge(status: u16, reason: &str, dead_since: Option<i64>, token_updated_at: Time) -> Verdict {
    match (status, reason) {
        (200..=299, _) => Verdict::Accepted,
        (410, _) if dead_since.is_some_and(|since| token_updated_at.0 > since) => Verdict::Stale,
        (410, _) | (400, "BadDeviceToken" | "DeviceTokenNotForTopic") => Verdict::Dead,
        (403, _) | (400, "BadTopic" | "TopicDisallowed" | "BadCertificate" | "BadCertificateEnvironment" | "MissingTopic") => {
            Verdict::Certificate
        }
        // Too many to this very device.
        (429, "TooManyRequests") => Verdict::Wait { whole: false },
        (400, "IdleTimeout") | (408, _) => Verdict::Wait { whole: false },
        (429 | 500..=599, _) => Verdict::Wait { whole: true },
        _ => Verdict::Wrong,
    }
}

/// How long after a device got something to do, or put it off, it is woken, if it has not come or done it: pushes are lost, and a device
/// that is off hears the last one only. After the last of these, at each [`EACH`].
const AGAIN: [i64; 4] = [0, MINUTE, 5 * MINUTE, 30 * MINUTE];
const EACH: i64 = 6 * HOUR;
/// A device that has not come for that long is not woken any more until there is new work: nothing waits in its queue for longer.
pub const LONGEST_WAKE: i64 = queue::LONGEST;

/// For how long after `begin` a device is woken, one wait after the other.
fn waits() -> impl Iterator<Item = i64> {
    AGAIN.into_iter().chain((1..=LONGEST_WAKE / EACH).map(|n| n * EACH))
}

/// The stretches of time, first and last moment, in one of which there was something new for a device, or its waiting began, that is to be
/// woken at the look at `now` that follows the one at `before`: one for each wait. A look reads the devices of these, however many others
/// are silent. One that comes very late reads all that count.
#[must_use]
pub fn stretches(before: Time, now: Time) -> Vec<(Time, Time)> {
    if now.since(before) >= EACH {
        return vec![(before.plus(-LONGEST_WAKE), now)];
    }
    waits().map(|wait| (before.plus(1 - wait), now.plus(-wait))).collect()
}

/// Whether a device is to be woken at the look that follows the one at `before`: there is new work for it since `work_at`, or what it was
/// given waits since `waiting_since`. The later of the two counts. It was there when the waiting began, and is not woken at that moment.
#[must_use]
pub fn is_wake_due(work_at: Option<Time>, waiting_since: Option<Time>, before: Time, now: Time) -> bool {
    let work_at = work_at.filter(|at| *at <= now);
    let Some(begin) = work_at.max(waiting_since) else { return false };
    let first = usize::from(work_at < waiting_since);
    waits().skip(first).map(|wait| begin.plus(wait)).any(|at| at > before && at <= now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_warning_comes_once() {
        let end = Time(400 * DAY);
        let at = |days: i64, warned| warning(end, warned, end.plus(-days * DAY));
        assert_eq!(at(61, None), None);
        assert_eq!(at(60, None), Some(60));
        assert_eq!(at(45, Some(60)), None);
        assert_eq!(at(30, Some(60)), Some(30));
        assert_eq!(at(14, Some(30)), Some(14));
        assert_eq!(at(7, Some(14)), Some(7));
        assert_eq!(at(1, Some(7)), None);
        assert_eq!(at(0, Some(7)), Some(0));
        assert_eq!(at(-300, Some(0)), None);
        // Nobody looked for a while: the most urgent one only.
        assert_eq!(at(5, None), Some(7));
    }

    #[test]
    fn answers_blame_the_device_the_certificate_or_nobody() {
        let token_at = Time(1_000);
        for (status, reason, since, wanted) in [
            (200, "", None, Verdict::Accepted),
            (410, "Unregistered", Some(1_000), Verdict::Dead),
            (410, "ExpiredToken", Some(2_000), Verdict::Dead),
            (410, "Unregistered", Some(999), Verdict::Stale),
            (410, "", None, Verdict::Dead),
            (400, "BadDeviceToken", None, Verdict::Dead),
            (400, "DeviceTokenNotForTopic", None, Verdict::Dead),
            (403, "BadCertificate", None, Verdict::Certificate),
            (403, "BadCertificateEnvironment", None, Verdict::Certificate),
            (403, "Forbidden", None, Verdict::Certificate),
            (400, "BadTopic", None, Verdict::Certificate),
            (400, "TopicDisallowed", None, Verdict::Certificate),
            (429, "TooManyRequests", None, Verdict::Wait { whole: false }),
            (429, "", None, Verdict::Wait { whole: true }),
            (500, "InternalServerError", None, Verdict::Wait { whole: true }),
            (503, "Shutdown", None, Verdict::Wait { whole: true }),
            (400, "PayloadEmpty", None, Verdict::Wrong),
            (404, "BadPath", None, Verdict::Wrong),
            (413, "PayloadTooLarge", None, Verdict::Wrong),
        ] {
            assert_eq!(judge(status, reason, since, token_at), wanted, "{status} {reason}");
        }
    }

    #[test]
    fn a_device_that_does_not_come_is_woken_again_with_growing_waits() {
        let begin = Time(DAY);
        let mut woken = Vec::new();
        for minute in 0..(70 * 24 * 60) {
            let now = begin.plus(minute * MINUTE);
            if is_wake_due(Some(begin), None, now.plus(-MINUTE), now) {
                woken.push(now.since(begin));
            }
        }
        assert_eq!(woken.len(), 4 + 60 * 4);
        assert_eq!(woken[..6], [0, MINUTE, 5 * MINUTE, 30 * MINUTE, 6 * HOUR, 12 * HOUR]);
        // A look that comes late finds what it missed, and wakes once.
        assert!(is_wake_due(Some(begin), None, begin.plus(MINUTE), begin.plus(3 * HOUR)));
    }

    #[test]
    fn what_is_put_off_holds_up_no_wake_for_what_is_new() {
        let woken = |work_at: Option<Time>, waiting_since: Option<Time>| -> Vec<i64> {
            let at = |minute: &i64| {
                let now = Time(minute * MINUTE);
                is_wake_due(work_at, waiting_since, now.plus(-MINUTE), now)
            };
            (0..800).filter(at).collect()
        };
        let at = |minute: i64| Some(Time(minute * MINUTE));
        assert_eq!(woken(None, at(10)), [11, 15, 40, 370, 730], "not at the moment of putting off: it was there");
        assert_eq!(woken(at(100), at(10)), [11, 15, 40, 100, 101, 105, 130, 460], "its own moment, whatever waits");
        assert_eq!(woken(at(0), at(10)), [11, 15, 40, 370, 730], "what is new is under way");
        assert_eq!(woken(None, None), [0; 0]);
    }

    #[test]
    fn who_is_woken_began_in_one_of_the_stretches() {
        let (before, now) = (Time(90 * DAY), Time(90 * DAY + MINUTE));
        let all = stretches(before, now);
        let within = |at: Time| all.iter().any(|(first, last)| (*first..=*last).contains(&at));
        for minute in 0..(100 * 24 * 60) {
            for offset in [0, 1, MINUTE / 2] {
                let begin = Time(minute * MINUTE + offset);
                assert_eq!(is_wake_due(Some(begin), None, before, now), within(begin), "{begin:?}");
            }
        }
        // One that comes late leaves nobody out.
        let late = now.plus(7 * HOUR);
        let all = stretches(before, late);
        for begin in [before.plus(-LONGEST_WAKE + MINUTE), before.plus(-HOUR), late].map(Some) {
            assert!(
                is_wake_due(begin, None, before, late) && all.iter().any(|(first, last)| (Some(*first)..=Some(*last)).contains(&begin))
            );
        }
    }
}
