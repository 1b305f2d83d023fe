//! Many simulated devices at once, and what they measured.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use openssl::pkey::{PKey, Private};
use reqwest::Url;

use super::device::{Device, Door, Error, Kind, Rehearsed, new_key};
use super::http::Client;
use super::measure::Latencies;

/// How many keys the devices share: making one for each would be most of the work.
const KEYS: usize = 4;

/// Which devices enrol where.
#[derive(Clone, Debug)]
pub struct Site {
    /// What they are.
    pub kind: Kind,
    /// Where they enrol; the pass of the user of all of them must be reusable.
    pub door: Door,
    keys: Arc<[PKey<Private>]>,
}

impl Site {
    /// Makes the keys that the devices share.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub async fn new(kind: Kind, door: Door) -> io::Result<Self> {
        let made = tokio::task::spawn_blocking(|| (0..KEYS).map(|_| new_key()).collect::<Result<Arc<[_]>, _>>());
        Ok(Self { kind, door, keys: made.await.map_err(io::Error::other)?? })
    }

    async fn enroll(&self, number: u64) -> Result<Device, Error> {
        let at = usize::try_from(number).unwrap_or(0) % self.keys.len().max(1);
        let key = self.keys.get(at).ok_or_else(|| super::apple::Error::from(io::Error::other("no key")))?;
        let mut device = Device::enroll(&self.door, self.kind, number, key).await?;
        device.share_key(key);
        Ok(device)
    }
}

/// What a run tells whoever watches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A phase of that many operations begins.
    Begin(&'static str, usize),
    /// One of them is over.
    Step,
    /// The phase is over.
    End,
}

/// What one phase was like.
#[derive(Debug)]
pub struct Measured {
    /// Its name.
    pub name: &'static str,
    /// Operations that went well, each with its time.
    pub latencies: Latencies,
    /// Operations that went well.
    pub done: usize,
    /// Operations that did not.
    pub failures: usize,
    /// The first reason.
    pub first_error: Option<String>,
    /// How long the phase took.
    pub took: Duration,
}

impl Measured {
    fn new(name: &'static str) -> Self {
        Self { name, latencies: Latencies::default(), done: 0, failures: 0, first_error: None, took: Duration::ZERO }
    }

    fn add(&mut self, result: Result<(), String>, took: Duration) {
        match result {
            Ok(()) => {
                self.latencies.add(took);
                self.done += 1;
            }
            Err(why) => {
                self.failures += 1;
                self.first_error.get_or_insert(why);
            }
        }
    }

    /// Adds another round of the same phase.
    fn merge(&mut self, other: Self) {
        self.latencies.merge(other.latencies);
        self.done += other.done;
        self.failures += other.failures;
        self.first_error = self.first_error.take().or(other.first_error);
        self.took += other.took;
    }

    /// Operations per second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        if self.took.is_zero() { 0.0 } else { self.done as f64 / self.took.as_secs_f64() }
    }
}

/// Something to ask again and again on a connection of its own.
#[derive(Debug)]
pub struct Caller {
    /// The connection.
    pub client: Client,
    /// Whom.
    pub url: Url,
    /// With which body.
    pub body: Vec<u8>,
    /// Of which type.
    pub media_type: &'static str,
}

/// Whether a connection is kept between two operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// Kept.
    Kept,
    /// Made anew, with a whole handshake.
    New,
}

/// Who does the work: so many operations at the same time.
#[derive(Clone)]
pub struct Crew {
    concurrency: usize,
    watch: Arc<dyn Fn(Event) + Send + Sync>,
}

impl std::fmt::Debug for Crew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crew").field("concurrency", &self.concurrency).finish_non_exhaustive()
    }
}

impl Crew {
    /// A crew of that size (at least one), watched.
    pub fn new(concurrency: usize, watch: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self { concurrency: concurrency.max(1), watch: Arc::new(watch) }
    }

    /// Does `work` with each item. What it gives back is kept.
    async fn each<T, U, F, W>(&self, name: &'static str, items: Vec<T>, work: F) -> (Vec<U>, Measured)
    where
        T: Send + 'static,
        U: Send + 'static,
        F: Fn(T) -> W + Clone + Send + Sync + 'static,
        W: Future<Output = (Option<U>, Result<(), String>)> + Send,
    {
        (self.watch)(Event::Begin(name, items.len()));
        let begun = Instant::now();
        let waiting = Arc::new(Mutex::new(VecDeque::from(items)));
        let workers: Vec<_> = (0..self.concurrency)
            .map(|_| {
                let (waiting, watch, work) = (Arc::clone(&waiting), Arc::clone(&self.watch), work.clone());
                tokio::spawn(async move {
                    let (mut kept, mut measured) = (Vec::new(), Measured::new(name));
                    loop {
                        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                        let Some(item) = next else { break };
                        let begun = Instant::now();
                        let (back, result) = work(item).await;
                        measured.add(result, begun.elapsed());
                        kept.extend(back);
                        watch(Event::Step);
                    }
                    (kept, measured)
                })
            })
            .collect();
        let (mut all, mut sum) = (Vec::new(), Measured::new(name));
        for worker in workers {
            match worker.await {
                Ok((kept, measured)) => {
                    all.extend(kept);
                    sum.merge(measured);
                }
                Err(error) => sum.add(Err(error.to_string()), Duration::ZERO),
            }
        }
        sum.took = begun.elapsed();
        (self.watch)(Event::End);
        (all, sum)
    }

    /// Enrols the machines with these numbers: the same number is the same hardware.
    pub async fn enroll(&self, site: &Site, numbers: std::ops::Range<u64>) -> (Vec<Device>, Measured) {
        let site = site.clone();
        let work = move |number| {
            let site = site.clone();
            async move {
                match site.enroll(number).await {
                    Ok(device) => (Some(device), Ok(())),
                    Err(error) => (None, Err(format!("device {number}: {error}"))),
                }
            }
        };
        self.each("enrolment", numbers.collect(), work).await
    }

    /// Has each device call once, whatever that brings.
    pub async fn sessions(&self, name: &'static str, devices: Vec<Device>) -> (Vec<Device>, Measured) {
        let work = |mut device: Device| async move {
            let result = device.session().await.map_err(|e| e.to_string());
            (Some(device), result)
        };
        self.each(name, devices, work).await
    }

    /// Holds sessions with each device until nothing is left to do.
    pub async fn settle(&self, name: &'static str, devices: Vec<Device>) -> (Vec<Device>, Measured) {
        let work = |mut device: Device| async move {
            let result = device.settle().await.map(drop).map_err(|e| e.to_string());
            (Some(device), result)
        };
        self.each(name, devices, work).await
    }

    /// Each PC opens a connection to the SCEP server and asks what it can do and who it is. Others do that while they install a profile.
    pub async fn meet_servers(&self, devices: Vec<Device>) -> (Vec<Device>, Measured) {
        let work = |mut device: Device| async move {
            let result = match &mut device {
                Device::Windows(pc) => pc.meet_servers().await.map_err(|error| error.to_string()),
                Device::Apple(_) => Ok(()),
            };
            (Some(device), result)
        };
        self.each("SCEP, hello", devices, work).await
    }

    /// Does what sessions started: one SCEP enrolment with each PC, over the connection that it has. Others have done it by then.
    pub async fn scep(&self, devices: Vec<Device>) -> (Vec<Device>, Measured) {
        let work = |mut device: Device| async move {
            let grown = match &mut device {
                Device::Windows(pc) => {
                    let before = pc.certificates.len();
                    pc.work().await;
                    pc.certificates.len() > before
                }
                Device::Apple(other) => other.profiles.identities().nth(1).is_some(),
            };
            (Some(device), if grown { Ok(()) } else { Err("no certificate by SCEP".to_owned()) })
        };
        self.each("SCEP, enrolment", devices, work).await
    }

    /// Holds calls in which nothing is left to do, `rounds` with each device. Each device rehearses once, which is not counted, and
    /// then says its message by heart: what is measured is the server.
    pub async fn idle(&self, name: &'static str, devices: Vec<Device>, connection: Connection, rounds: usize) -> (Vec<Device>, Measured) {
        let rehearse = |mut device: Device| async move {
            match device.rehearse().await {
                Ok(rehearsed) => (Some((device, Some(rehearsed))), Ok(())),
                Err(error) => (Some((device, None)), Err(error.to_string())),
            }
        };
        let (mut cast, rehearsal) = self.each("warming up", devices, rehearse).await;
        let mut sum = Measured::new(name);
        sum.failures = rehearsal.failures;
        sum.first_error = rehearsal.first_error;
        for _ in 0..rounds {
            let work = move |(mut device, rehearsed): (Device, Option<Rehearsed>)| async move {
                if connection == Connection::New {
                    device.disconnect();
                }
                let result = match &rehearsed {
                    Some(rehearsed) => device.repeat(rehearsed).await.map_err(|error| error.to_string()),
                    None => Err("the session was not idle".to_owned()),
                };
                (Some((device, rehearsed)), result)
            };
            let measured;
            (cast, measured) = self.each(name, cast, work).await;
            sum.merge(measured);
        }
        (cast.into_iter().map(|(device, _)| device).collect(), sum)
    }

    /// Sends each caller's body, `rounds` times; every answer must be 200.
    pub async fn call(
        &self,
        name: &'static str,
        mut callers: Vec<Caller>,
        connection: Connection,
        rounds: usize,
    ) -> (Vec<Caller>, Measured) {
        let mut sum = Measured::new(name);
        for _ in 0..rounds {
            let work = move |mut caller: Caller| async move {
                if connection == Connection::New {
                    caller.client.disconnect();
                }
                let headers = [("Content-Type", caller.media_type)];
                let result = match caller.client.send("POST", &caller.url, &headers, &caller.body).await {
                    Ok(response) if response.status == 200 => Ok(()),
                    Ok(response) => Err(format!("HTTP status {}", response.status)),
                    Err(error) => Err(error.to_string()),
                };
                (Some(caller), result)
            };
            let measured;
            (callers, measured) = self.each(name, callers, work).await;
            sum.merge(measured);
        }
        (callers, sum)
    }
}
