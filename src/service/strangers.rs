//! Callers that are turned away: how many of their tries become audit rows, and when their address has to wait.
//!
//! Kept in memory, by each node for itself: it decides only how "no" is said, never about a device that may speak.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, PoisonError};

use serde_json::json;

use crate::app::App;
use crate::clock::{HOUR, Time};
use crate::domain::Refusal;
use crate::domain::audit::Entry;
use crate::domain::throttle::{ADDRESS, Throttle, subscriber};
use crate::service::Error;
use crate::store::audit;

/// How often an hour the same is recorded of the same caller; the rest is counted in the metrics.
const RECORDS: u32 = 5;
/// How many callers an hour are recorded.
const CALLERS: usize = 1000;
/// How many addresses are watched.
const ADDRESSES: usize = 10_000;

/// What to do about a caller that may not speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Refuse.
    Refuse {
        /// Whether to write an audit row.
        record: bool,
    },
    /// Say how many seconds to wait, and do nothing else.
    Wait(u64),
}

/// Who was turned away lately.
#[derive(Debug, Default)]
pub struct Strangers(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The hour that is being recorded.
    hour: i64,
    recorded: HashMap<(String, &'static str), u32>,
    /// Somebody is not recorded in this hour.
    full: bool,
    tries: HashMap<IpAddr, Throttle>,
}

impl Strangers {
    /// Counts a caller that is turned away: a device by its certificate, anybody else by the address alone.
    pub fn turn_away(&self, address: &str, certificate: Option<&str>, refusal: Refusal, now: Time) -> Verdict {
        let address = subscriber(address.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wait) = inner.wait(address, now) {
            return Verdict::Wait(wait);
        }
        let caller = certificate.map_or_else(|| address.to_string(), str::to_owned);
        Verdict::Refuse { record: inner.record(caller, refusal.code(), now) }
    }

    /// Whether a refusal of an address is worth an audit row. Nobody has to wait for it: the person in front of a device that enrols shall
    /// read what is wrong, each time.
    pub fn note(&self, address: &str, code: &'static str, now: Time) -> bool {
        let address = subscriber(address.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).record(address.to_string(), code, now)
    }
}

/// Who is to be turned away.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::service) struct Caller<'c> {
    pub(in crate::service) certificate: Option<&'c str>,
    /// The certificate is that of a device, if not of one that may speak.
    pub(in crate::service) known: bool,
    /// Whom the message named, when it is somebody else.
    pub(in crate::service) source: &'c str,
    pub(in crate::service) origin: &'c str,
}

/// Refuses, and records the refusal unless the same was recorded often enough.
pub(in crate::service) async fn turn_away(app: &App, refusal: Refusal, caller: &Caller<'_>) -> Error {
    metrics::counter!("muster_management_refusals_total", "code" => refusal.code()).increment(1);
    let now = app.now();
    match app.strangers.turn_away(caller.origin, caller.certificate.filter(|_| caller.known), refusal, now) {
        Verdict::Wait(seconds) => return Error::Throttled(seconds),
        Verdict::Refuse { record: false } => return refusal.into(),
        Verdict::Refuse { record: true } => {}
    }
    let object = format!("certificate:{}", caller.certificate.unwrap_or("none"));
    let entry = Entry::new("anonymous", "management.refused", object, caller.origin).after(&json!({
        "code": refusal.code(),
        "source": caller.source.chars().take(200).collect::<String>(),
    }));
    match app.store.write(move |tx| audit::append(tx, &entry, now)).await {
        Ok(()) => refusal.into(),
        Err(error) => error.into(),
    }
}

impl Inner {
    /// The seconds that the address has to wait; counts the try when it has not.
    fn wait(&mut self, address: IpAddr, now: Time) -> Option<u64> {
        let known = self.tries.get(&address).copied();
        if let Some(wait) = known.and_then(|throttle| throttle.wait(now)) {
            return Some(u64::try_from(wait).unwrap_or_default().div_ceil(1000).max(1));
        }
        if known.is_none() && self.tries.len() >= ADDRESSES {
            self.tries.retain(|_, throttle| throttle.wait(now).is_some() || now.since(throttle.window_started_at) < ADDRESS.window);
        }
        if known.is_some() || self.tries.len() < ADDRESSES {
            let fresh = Throttle { window_started_at: now, ..Throttle::default() };
            self.tries.insert(address, known.unwrap_or(fresh).after_failure(now, &ADDRESS));
        }
        None
    }

    fn record(&mut self, caller: String, code: &'static str, now: Time) -> bool {
        let hour = now.0.div_euclid(HOUR);
        if self.hour != hour {
            self.hour = hour;
            self.recorded.clear();
            self.full = false;
        }
        let key = (caller, code);
        if self.recorded.len() >= CALLERS && !self.recorded.contains_key(&key) {
            if !std::mem::replace(&mut self.full, true) {
                tracing::warn!(callers = CALLERS, "more callers are refused this hour than are recorded");
            }
            metrics::counter!("muster_refusals_unrecorded_total").increment(1);
            return false;
        }
        let times = self.recorded.entry(key).or_default();
        *times = times.saturating_add(1);
        *times <= RECORDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO: Refusal = Refusal::CertificateNotOurs;
    const RECORD: Verdict = Verdict::Refuse { record: true };
    const COUNT: Verdict = Verdict::Refuse { record: false };

    #[test]
    fn the_same_refusal_is_recorded_a_few_times_an_hour() {
        let strangers = Strangers::default();
        let say = |address: &str, refusal, minutes: i64| strangers.turn_away(address, None, refusal, Time(minutes * HOUR / 60));
        let first: Vec<Verdict> = (0..7).map(|minute| say("192.0.2.1", NO, minute)).collect();
        assert_eq!(first, [RECORD, RECORD, RECORD, RECORD, RECORD, COUNT, COUNT]);
        // Other reasons and other callers are news, and so is the next hour.
        assert_eq!(say("192.0.2.1", Refusal::CertificateExpired, 8), RECORD);
        assert_eq!(say("192.0.2.2", NO, 8), RECORD);
        assert_eq!(strangers.turn_away("192.0.2.1", Some("ab"), NO, Time(8)), RECORD);
        assert_eq!(say("192.0.2.1", NO, 61), RECORD);
    }

    #[test]
    fn many_callers_do_not_fill_the_audit_log_nor_the_memory() {
        let strangers = Strangers::default();
        let mut recorded = 0;
        for caller in 0..(ADDRESSES + 500) {
            let address = format!("2001:db8:{:x}:{:x}::1", caller / 1000, caller % 1000);
            recorded += usize::from(strangers.turn_away(&address, None, NO, Time(5)) == RECORD);
        }
        assert_eq!(recorded, CALLERS);
        let inner = strangers.0.lock().unwrap();
        assert!(inner.tries.len() <= ADDRESSES && inner.recorded.len() <= CALLERS);
    }

    #[test]
    fn what_is_noted_is_bounded_and_lets_nobody_wait() {
        let strangers = Strangers::default();
        let noted = (0..100).filter(|_| strangers.note("192.0.2.1", "malformed", Time(1))).count();
        assert_eq!(noted, 5);
        assert_eq!(strangers.turn_away("192.0.2.1", None, NO, Time(1)), RECORD);
        let others = (0..5000).filter(|n| strangers.note(&format!("10.0.{}.{}", n / 250, n % 250), "malformed", Time(2))).count();
        assert!(others < CALLERS, "{others}");
    }

    #[test]
    fn an_address_that_is_refused_too_often_waits_a_while() {
        let strangers = Strangers::default();
        let at = |seconds: i64| strangers.turn_away("2001:db8::1", None, NO, Time(1_000_000 + seconds * 1000));
        for _ in 0..ADDRESS.failures {
            assert!(matches!(at(0), Verdict::Refuse { .. }));
        }
        assert_eq!(at(1), Verdict::Wait(59));
        // The same subscriber, and a stranger to it.
        assert!(matches!(strangers.turn_away("2001:db8::2", None, NO, Time(1_000_001)), Verdict::Wait(_)));
        assert!(matches!(strangers.turn_away("192.0.2.1", None, NO, Time(1_000_001)), Verdict::Refuse { .. }));
        assert!(matches!(at(60), Verdict::Refuse { .. }));
    }
}
