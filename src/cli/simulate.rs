//! `muster simulate`: a fleet of devices that are not there, against any server or against one of its own.

mod child;
mod prefill;
mod report;

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use openssl::x509::X509;
use reqwest::Url;
use serde_json::{Value, json};

use crate::config::Config;
use crate::domain::device;
use crate::sim::device::{Device, Door, Kind};
use crate::sim::fleet::{Connection, Crew, Event, Measured, Site};

/// What is simulated, and against what.
#[derive(clap::Args, Debug)]
#[command(group(clap::ArgGroup::new("against").required(true)))]
pub(super) struct Arguments {
    /// What the devices are
    #[arg(long, value_enum)]
    platform: Platform,
    /// How many devices
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    devices: u64,
    /// How many do something at the same time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    concurrency: u16,
    /// Number of the first device: the same number is the same hardware, which enrols again
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// How many sessions without work each device holds, per kind of connection
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Base URL of the server's web face
    #[arg(long, value_name = "URL", group = "against", requires_all = ["root", "user", "pass"], value_parser = web_face)]
    server: Option<Url>,
    /// PEM file of the root certificates that the devices trust
    #[arg(long, value_name = "FILE", requires = "server")]
    root: Option<PathBuf>,
    /// User principal name of the one whose devices these are
    #[arg(long, value_name = "UPN", requires = "server")]
    user: Option<String>,
    /// A reusable Temporary Access Pass of the user; - asks for it, or reads a line of the standard input
    #[arg(long, requires = "server")]
    pass: Option<String>,
    /// iPhones are supervised, and obey the orders that only such devices obey
    #[arg(long, requires = "server")]
    supervised: bool,
    /// The devices stay and call every so many seconds, until Ctrl-C: they obey orders and take what is changed
    #[arg(long, value_name = "SECONDS", requires = "server", value_parser = clap::value_parser!(u64).range(1..=3600))]
    stay: Option<u64>,
    /// Starts a server in a throw-away folder and measures it beside its own limits on this machine
    #[arg(long, group = "against")]
    report: bool,
    /// With --report: how many enrolled devices the database has beforehand
    #[arg(long, default_value_t = 0, requires = "report", value_name = "DEVICES")]
    prefill: usize,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Platform {
    /// Windows 11 PCs
    Windows,
    /// Macs with Apple silicon
    Macos,
    /// iPhones
    Ios,
}

impl Platform {
    fn kind(self) -> Kind {
        match self {
            Self::Windows => Kind::Windows,
            Self::Macos => Kind::Mac,
            Self::Ios => Kind::Iphone,
        }
    }

    /// As the database has it.
    fn stored(self) -> device::Platform {
        match self {
            Self::Windows => device::Platform::Windows,
            Self::Macos => device::Platform::MacOs,
            Self::Ios => device::Platform::Ios,
        }
    }
}

fn web_face(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| url.scheme() == "https" && url.has_host());
    url.ok_or_else(|| "the address of the web face with its scheme, such as https://localhost:8443".into())
}

pub(super) async fn run(config: &Config, arguments: &Arguments, json: bool) -> anyhow::Result<Value> {
    if arguments.report {
        let report = report::run(config, arguments).await?;
        return if json { Ok(serde_json::to_value(&report)?) } else { Ok(Value::String(report.table())) };
    }
    drive(arguments).await
}

/// Enrols the devices, lets them settle, and has them hold sessions without work.
async fn drive(arguments: &Arguments) -> anyhow::Result<Value> {
    let (Some(server), Some(root), Some(user), Some(pass)) = (&arguments.server, &arguments.root, &arguments.user, &arguments.pass) else {
        anyhow::bail!("name --server, --root, --user and --pass");
    };
    let roots = std::fs::read(root).with_context(|| root.display().to_string())?;
    let roots = X509::stack_from_pem(&roots).ok().filter(|roots| !roots.is_empty());
    let roots = roots.with_context(|| format!("{}: certificates in PEM, such as `muster ca export root` prints", root.display()))?;
    let pass = super::ask::value(pass.clone(), "Pass", 1024)?;
    let door = Door { roots, web: server.clone(), user: user.clone(), pass };
    let kind = match arguments.platform.kind() {
        Kind::Iphone if arguments.supervised => Kind::SupervisedIphone,
        _ if arguments.supervised => anyhow::bail!("--supervised is for iPhones (--platform ios)"),
        kind => kind,
    };
    let site = Site::new(kind, door).await?;
    let crew = arguments.crew();
    let (devices, enrolled) = crew.enroll(&site, arguments.numbers()).await;
    let (devices, settled) = crew.settle("first sessions", devices).await;
    let (devices, kept) = crew.idle("sessions, kept connection", devices, Connection::Kept, arguments.rounds).await;
    let certificates = devices.iter().map(|device| device.certificates().map(|held| held.len())).sum::<Result<usize, _>>()?;
    let phases = [enrolled, settled, kept];
    let failures: usize = phases.iter().map(|phase| phase.failures).sum();
    if let Some(why) = phases.iter().find_map(|phase| phase.first_error.as_ref()) {
        let why = format!("{why}{}", hint(why));
        // Sessions that bring work are no error of the server that the devices were sent to: it is told, and the run has failed.
        match failures {
            1 => anyhow::bail!("an operation failed: {why}"),
            _ => anyhow::bail!("{failures} operations failed, the first with: {why}"),
        }
    }
    let number = devices.len();
    if let Some(seconds) = arguments.stay {
        stay(&crew, devices, Duration::from_secs(seconds)).await?;
    }
    Ok(json!({
        "devices": number,
        "certificates_by_scep": certificates,
        "phases": phases.into_iter().map(show).collect::<Vec<_>>(),
    }))
}

/// Has the devices call again and again until somebody ends it or the last one has left.
async fn stay(crew: &Crew, mut devices: Vec<Device>, pause: Duration) -> anyhow::Result<()> {
    eprintln!("{} devices stay and call every {} s; Ctrl-C ends it", devices.len(), pause.as_secs());
    let mut told = None;
    while !devices.is_empty() {
        tokio::select! {
            end = tokio::signal::ctrl_c() => return Ok(end?),
            () = tokio::time::sleep(pause) => {}
        }
        let called;
        let locked: BTreeSet<String> = devices.iter().filter(|device| device.locked()).map(|device| device.found_by().to_owned()).collect();
        (devices, called) = crew.settle("calls", devices).await;
        devices.retain(|device| !device.left());
        // Who was locked for a whole call is unlocked by its user, and does in the next what it put off.
        devices.iter_mut().filter(|device| locked.contains(device.found_by())).for_each(Device::unlock);
        // What goes on is told once.
        if called.first_error != told {
            if let Some(why) = &called.first_error {
                eprintln!("{} of {} calls failed, the first with: {why}{}", called.failures, called.failures + called.done, hint(why));
            }
            told = called.first_error;
        }
    }
    eprintln!("no device is left");
    Ok(())
}

/// What to do about a failure whose words do not say it.
fn hint(why: &str) -> &'static str {
    match why {
        _ if why.contains("429") => " (the server's limits.anonymous_per_second, for one address)",
        _ if why.contains("certificate verify failed") => " (--root: the roots that the devices trust)",
        _ => "",
    }
}

fn show(phase: Measured) -> Value {
    let (name, done, rate) = (phase.name, phase.done, phase.per_second());
    let took = phase.latencies.percentiles();
    json!({
        "phase": name, "done": done, "per_second": round(rate), "p50_ms": round(took.p50), "p95_ms": round(took.p95), "p99_ms": round(took.p99),
    })
}

/// Three digits behind the point: more would pretend to know.
fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

impl Arguments {
    fn numbers(&self) -> std::ops::Range<u64> {
        self.first..self.first.saturating_add(self.devices)
    }

    /// A crew with a progress bar, where somebody watches.
    fn crew(&self) -> Crew {
        let bar: Mutex<Option<ProgressBar>> = Mutex::new(None);
        let watched = std::io::stderr().is_terminal();
        Crew::new(usize::from(self.concurrency), move |event| {
            let mut bar = bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match event {
                Event::Begin(name, count) if watched => {
                    let new = ProgressBar::new(u64::try_from(count).unwrap_or(u64::MAX)).with_message(name);
                    let style = ProgressStyle::with_template("{msg:32} {wide_bar} {pos}/{len} {per_sec}");
                    *bar = Some(match style {
                        Ok(style) => new.with_style(style),
                        Err(_) => new,
                    });
                }
                Event::Begin(..) => {}
                Event::Step => {
                    if let Some(bar) = &*bar {
                        bar.inc(1);
                    }
                }
                Event::End => {
                    if let Some(bar) = bar.take() {
                        bar.finish_and_clear();
                    }
                }
            }
        })
    }
}
