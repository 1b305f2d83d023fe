//! Bounds on what strangers may send: the size of a body, the time it takes, and how often an address may ask.

use std::future::{Future, Ready, ready};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use actix_web::web::{Bytes, BytesMut, Data};
use actix_web::{FromRequest, HttpRequest};
use futures_util::StreamExt as _;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::error::Problem;
use super::peer::Peer;
use crate::config;
use crate::domain::throttle::subscriber;

/// How long a body may take to arrive.
const BODY_SECONDS: u64 = 60;
/// What is set aside for a body before any of it has come, whatever it announces.
const BODY_START: usize = 16 * 1024;
/// What callers without a certificate or a signature may send where devices that have one send more.
const STRANGER: usize = 64 * 1024;
/// Larger bodies are messages of devices, which show a certificate or a signature.
const DEVICES: usize = 1024 * 1024;
/// What bodies that are still arriving may hold together, in bytes: slow callers must not fill the memory.
const ARRIVING: usize = 256 * 1024 * 1024;
/// After how many checks addresses that have been quiet are forgotten.
const SWEEP_EVERY: u32 = 16_384;

static ARRIVED: AtomicUsize = AtomicUsize::new(0);

/// What one arriving body holds of [`ARRIVING`]; given back when it is dropped.
#[derive(Debug, Default)]
struct Share(usize);

impl Share {
    /// Takes as many bytes more.
    ///
    /// # Errors
    /// 503 when too much is arriving already.
    fn take(&mut self, more: usize) -> Result<(), Problem> {
        let before = ARRIVED.fetch_add(more, Ordering::Relaxed);
        self.0 += more;
        if before + more > ARRIVING {
            metrics::counter!("muster_http_bodies_refused_total").increment(1);
            return Err(Problem::busy());
        }
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        ARRIVED.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// What this caller's body may have where devices may send `most`. Whether a certificate or signature is worth anything is judged later;
/// showing one is what costs a caller something.
fn limit_for(request: &HttpRequest, most: usize) -> usize {
    let signed = ["MDM-Signature", "MS-Signature"].iter().any(|name| request.headers().contains_key(*name));
    let known = signed || Peer::of(request).is_ok_and(|peer| peer.certificate.is_some());
    if known || most <= DEVICES { most } else { STRANGER }
}

/// A request body of at most `N` bytes, or 64 KiB of callers who show nothing where that is for devices; longer ones are answered 413,
/// compressed ones 415.
#[derive(Clone, Debug)]
pub struct Body<const N: usize>(pub Bytes);

impl<const N: usize> Deref for Body<N> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl<const N: usize> FromRequest for Body<N> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        Box::pin(Self::read(request, payload.take(), limit_for(request, N)))
    }
}

impl<const N: usize> Body<N> {
    /// The body of a caller who is known: as long as any may be.
    ///
    /// # Errors
    /// As the extractor's.
    pub fn of_known(request: &HttpRequest, payload: Payload) -> impl Future<Output = Result<Self, Problem>> + use<N> {
        Self::read(request, payload, N)
    }

    fn read(request: &HttpRequest, mut payload: Payload, limit: usize) -> impl Future<Output = Result<Self, Problem>> + use<N> {
        let header = |name| request.headers().get(name).and_then(|v| v.to_str().ok());
        let encoded = header(CONTENT_ENCODING).is_some_and(|e| !e.trim().eq_ignore_ascii_case("identity"));
        let announced = header(CONTENT_LENGTH).and_then(|l| l.trim().parse::<u64>().ok());
        async move {
            if encoded {
                return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-encoding", "send the body without Content-Encoding"));
            }
            if announced.is_some_and(|length| usize::try_from(length).is_ok_and(|l| l > limit) || length > u64::from(u32::MAX)) {
                return Err(too_large(limit));
            }
            let read = async {
                let mut share = Share::default();
                let mut body = BytesMut::with_capacity(announced.and_then(|l| usize::try_from(l).ok()).unwrap_or(0).min(BODY_START));
                while let Some(chunk) = payload.next().await {
                    let chunk = chunk.map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "body", "the body ended before its length"))?;
                    if body.len() + chunk.len() > limit {
                        return Err(too_large(limit));
                    }
                    share.take(chunk.len())?;
                    body.extend_from_slice(&chunk);
                }
                Ok(Self(body.freeze()))
            };
            tokio::time::timeout(Duration::from_secs(BODY_SECONDS), read)
                .await
                .unwrap_or_else(|_| Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "slow-body", "the body took too long")))
        }
    }
}

fn too_large(limit: usize) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", format!("the body may have {limit} bytes at most"))
}

/// How often an address may call what needs no authentication.
pub struct Limiter {
    rate: Option<DefaultKeyedRateLimiter<IpAddr>>,
    checks: AtomicU32,
}

impl Limiter {
    /// A limiter with the configured rate; 0 per second limits nothing.
    #[must_use]
    pub fn new(limits: &config::Limits) -> Self {
        let rate = NonZeroU32::new(limits.anonymous_per_second).map(|rate| {
            let burst = NonZeroU32::new(limits.anonymous_burst).unwrap_or(rate);
            RateLimiter::keyed(Quota::per_second(rate).allow_burst(burst))
        });
        Self { rate, checks: AtomicU32::new(0) }
    }

    /// Counts a request from `address`.
    ///
    /// # Errors
    /// The seconds to wait when there were too many.
    pub fn check(&self, address: IpAddr) -> Result<(), u64> {
        let Some(rate) = &self.rate else { return Ok(()) };
        if self.checks.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            rate.retain_recent();
        }
        rate.check_key(&subscriber(address)).map_err(|until| {
            metrics::counter!("muster_http_throttled_total").increment(1);
            until.wait_time_from(DefaultClock::default().now()).as_secs().saturating_add(1)
        })
    }
}

/// Extractor for handlers that need no authentication: answers 429 when the address asked too often.
#[derive(Clone, Copy, Debug)]
pub struct Anonymous;

impl FromRequest for Anonymous {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::count(request).map(|()| Self))
    }
}

impl Anonymous {
    /// Counts a request whose caller showed nothing that is worth anything.
    ///
    /// # Errors
    /// 429 when the address asked too often.
    pub fn count(request: &HttpRequest) -> Result<(), Problem> {
        let peer = Peer::of(request)?;
        let limiter = request.app_data::<Data<Limiter>>().ok_or_else(Problem::internal)?;
        limiter.check(peer.address).map_err(Problem::throttled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_arriving_is_bounded_and_given_back() {
        let mut one = Share::default();
        assert!(one.take(ARRIVING / 2).is_ok());
        let mut other = Share::default();
        assert!(other.take(ARRIVING / 2 + 1).is_err());
        drop(other);
        assert!(one.take(1024).is_ok());
    }

    #[actix_web::test]
    async fn who_shows_nothing_sends_no_message_of_a_device() {
        use actix_web::test::TestRequest;
        let of = |request: TestRequest| limit_for(&request.to_http_request(), 4 * DEVICES);
        assert_eq!(of(TestRequest::default()), STRANGER);
        assert_eq!(of(TestRequest::default().insert_header(("MDM-Signature", "x"))), 4 * DEVICES);
        assert_eq!(limit_for(&TestRequest::default().to_http_request(), 256 * 1024), 256 * 1024);
    }

    #[test]
    fn an_address_that_asks_too_often_waits_and_its_neighbour_does_not() {
        let limiter = Limiter::new(&config::Limits { anonymous_per_second: 1, anonymous_burst: 3, ..Default::default() });
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let same_net: IpAddr = "2001:db8::2".parse().unwrap();
        let other: IpAddr = "192.0.2.1".parse().unwrap();
        assert!((0..3).all(|_| limiter.check(one).is_ok()));
        assert!(limiter.check(same_net).is_err_and(|seconds| seconds >= 1));
        assert!(limiter.check(other).is_ok());
        let open = Limiter::new(&config::Limits { anonymous_per_second: 0, anonymous_burst: 0, ..Default::default() });
        assert!((0..1000).all(|_| open.check(one).is_ok()));
    }
}
