//! Measuring a run: latencies, a process's processor time and memory, and the machine's own limits.

use std::process::Command;
use std::time::Duration;

use serde::Serialize;

/// How long each of many operations took.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<Duration>);

/// A summary of [`Latencies`], in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// How many operations.
    pub count: usize,
    /// Half were at least this fast.
    pub p50: f64,
    /// 95 of 100 were at least this fast.
    pub p95: f64,
    /// 99 of 100 were at least this fast.
    pub p99: f64,
}

impl Latencies {
    /// Notes one operation.
    pub fn add(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// Adds another run's.
    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Sorts and summarises.
    #[must_use]
    pub fn percentiles(mut self) -> Percentiles {
        self.0.sort_unstable();
        let at = |share: f64| {
            // The nearest rank: the smallest value that covers the share.
            let rank = (share * self.0.len() as f64).ceil() as usize;
            self.0.get(rank.saturating_sub(1)).map_or(0.0, |d| d.as_secs_f64() * 1e3)
        };
        Percentiles { count: self.0.len(), p50: at(0.50), p95: at(0.95), p99: at(0.99) }
    }
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Processor time of all its threads, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory, in MiB.
    pub resident_mib: f64,
}

impl Usage {
    /// Reads the figures of a process from `/proc`; `None` where there are none.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the program's name in brackets and may hold anything: count from behind it.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let user: f64 = fields.next()?.parse().ok()?;
        let system: f64 = fields.next()?.parse().ok()?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let resident: f64 = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?.trim().trim_end_matches("kB").trim().parse().ok()?;
        // Linux reports in ticks of 1/100 s on every platform that we run on (USER_HZ).
        Some(Self { cpu_seconds: (user + system) / 100.0, resident_mib: resident / 1024.0 })
    }

    /// Processor seconds used since `earlier`.
    #[must_use]
    pub fn cpu_since(&self, earlier: &Self) -> f64 {
        (self.cpu_seconds - earlier.cpu_seconds).max(0.0)
    }
}

/// Seconds that one operation with a key costs, by `openssl speed` on one core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct KeySpeed {
    /// RSA-2048 signature (or decryption).
    pub rsa2048: f64,
    /// RSA-2048 verification.
    pub rsa2048_verify: f64,
    /// RSA-3072 signature.
    pub rsa3072: f64,
    /// RSA-4096 signature.
    pub rsa4096: f64,
    /// ECDSA P-256 signature.
    pub p256: f64,
}

impl KeySpeed {
    /// Runs `openssl speed` for a second per algorithm; `None` when it is not installed.
    #[must_use]
    pub fn measure() -> Option<Self> {
        let algorithms = ["rsa2048", "rsa3072", "rsa4096", "ecdsap256"];
        let out = Command::new("openssl").args(["speed", "-seconds", "1", "-mr"]).args(algorithms).output().ok()?;
        Some(Self::parse(&String::from_utf8_lossy(&out.stdout)))
    }

    /// Reads the machine-readable lines: `+F2:index:bits:sign:verify` for RSA and `+F4:…` for ECDSA; newer versions give operations per
    /// second, older ones seconds per operation.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut speed = Self::default();
        for line in text.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            let &[kind, _, bits, sign, verify, ..] = fields.as_slice() else { continue };
            let seconds = |text: &str| text.trim().parse::<f64>().map(|given| if given > 1.0 { 1.0 / given } else { given });
            let (Ok(cost), Ok(verify)) = (seconds(sign), seconds(verify)) else { continue };
            match (kind, bits) {
                ("+F2", "2048") => (speed.rsa2048, speed.rsa2048_verify) = (cost, verify),
                ("+F2", "3072") => speed.rsa3072 = cost,
                ("+F2", "4096") => speed.rsa4096 = cost,
                ("+F4", "256") => speed.p256 = cost,
                _ => {}
            }
        }
        speed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_rank() {
        let mut all = Latencies::default();
        for n in 1..=100 {
            all.add(Duration::from_millis(n));
        }
        let p = all.percentiles();
        assert_eq!((p.count, p.p50, p.p95, p.p99), (100, 50.0, 95.0, 99.0));
        assert_eq!(Latencies::default().percentiles(), Percentiles::default());
    }

    #[test]
    fn both_spellings_of_openssl_speed_are_read() {
        let old = KeySpeed::parse("+F2:2:2048:0.000300:0.000010\n+F4:3:256:0.000020:0.000060");
        assert!((old.rsa2048 - 0.0003).abs() < 1e-9 && (old.rsa2048_verify - 0.00001).abs() < 1e-9 && (old.p256 - 0.00002).abs() < 1e-9);
        let new = KeySpeed::parse("+F2:2:2048:2000.0:60000.0");
        assert!((new.rsa2048 - 0.0005).abs() < 1e-9);
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(Usage::of(std::process::id()).is_some_and(|u| u.resident_mib > 1.0));
    }
}
