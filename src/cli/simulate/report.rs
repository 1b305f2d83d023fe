//! What a server can do on this machine, beside what the machine could do at best.
//!
//! Sessions are measured beside the same server stack that only gives bodies back ([`crate::http::echo`]), with the same client, kept
//! connections and new handshakes; what signs is measured beside the sum of its private-key operations (`openssl speed`). All of one run:
//! only the ratios can be compared between machines.

use anyhow::Context as _;
use openssl::pkey::{PKey, Public};
use openssl::sha::sha1;
use openssl::x509::{X509, X509Req};
use serde::Serialize;

use super::child::{Instance, Server};
use super::{Arguments, Platform, prefill, round};
use crate::clock::{Clock as _, DAY, SystemClock};
use crate::config::Config;
use crate::sim::apns::{Apns, Authority};
use crate::sim::device::{Device, Door, Kind};
use crate::sim::fleet::{Caller, Connection, Crew, Measured, Site};
use crate::sim::http::Client;
use crate::sim::measure::KeySpeed;
use crate::wire::ocsp;

const USER: &str = "fleet@example.org";
/// To whom the profiles go: not to the devices that are there beforehand, which have nothing to do and are not woken beside.
const GROUP: &str = "fleet";
/// The push topic of Apple's devices.
pub(super) const TOPIC: &str = "com.apple.mgmt.External.simulated";

impl Platform {
    /// The profiles that come, one of them with a certificate by SCEP.
    fn profiles(self) -> [&'static str; 3] {
        match self {
            Self::Windows => ["trusted-root", "windows-hello-for-business", "scep-device-certificate"],
            Self::Macos => ["macos-trusted-root", "macos-passcode", "macos-scep-device-certificate"],
            Self::Ios => ["ios-trusted-root", "ios-passcode", "ios-scep-device-certificate"],
        }
    }

    /// Octets of a device's message without news, about.
    fn message(self) -> usize {
        match self {
            Self::Windows => 2000,
            Self::Macos | Self::Ios => 300,
        }
    }

    /// An order of two messages.
    fn order(self) -> &'static [&'static str] {
        match self {
            Self::Windows => &["--uri", "./Vendor/MSFT/DeviceStatus/TPM/SpecificationVersion"],
            Self::Macos => &["lock", "--with", "pin=123456", "--yes"],
            Self::Ios => &["lock", "--yes"],
        }
    }
}

/// The best that could be, for one operation.
#[derive(Clone, Debug)]
struct Limit {
    name: String,
    cpu_ms: f64,
    per_second: Option<f64>,
}

/// One phase beside its limit. Times are milliseconds.
#[derive(Debug, Serialize)]
struct Row {
    phase: &'static str,
    done: usize,
    failures: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_error: Option<String>,
    per_second: f64,
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    /// The server's processor time for one operation.
    cpu_ms: f64,
    /// The server's resident memory afterwards.
    resident_mib: f64,
    limit: Option<String>,
    limit_cpu_ms: Option<f64>,
    /// How many times the limit's processor time it takes.
    cpu_ratio: Option<f64>,
    /// Which share of the limit's rate it reaches.
    rate_ratio: Option<f64>,
}

impl Row {
    fn new(phase: Measured, cpu_seconds: f64, resident_mib: f64, limit: Option<&Limit>) -> Self {
        let (done, per_second) = (phase.done, phase.per_second());
        let took = phase.latencies.percentiles();
        let cpu_ms = if done == 0 { 0.0 } else { cpu_seconds * 1e3 / done as f64 };
        let limit_cpu = limit.map(|limit| limit.cpu_ms).filter(|ms| *ms > 0.0);
        Self {
            phase: phase.name,
            done,
            failures: phase.failures,
            first_error: phase.first_error,
            per_second: round(per_second),
            p50_ms: round(took.p50),
            p95_ms: round(took.p95),
            p99_ms: round(took.p99),
            cpu_ms: round(cpu_ms),
            resident_mib: round(resident_mib),
            limit: limit.map(|limit| limit.name.clone()),
            limit_cpu_ms: limit_cpu.map(round),
            cpu_ratio: limit_cpu.map(|ms| round(cpu_ms / ms)),
            rate_ratio: limit.and_then(|limit| limit.per_second).filter(|rate| *rate > 0.0).map(|rate| round(per_second / rate)),
        }
    }

    /// As the limit of another phase.
    fn as_limit(&self) -> Limit {
        Limit { name: self.phase.to_owned(), cpu_ms: self.cpu_ms, per_second: Some(self.per_second) }
    }
}

/// The whole run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    devices: u64,
    prefilled: usize,
    concurrency: u16,
    key_algorithm: String,
    /// What the two processes share with the simulated devices.
    processors: usize,
    resident_mib_at_start: f64,
    phases: Vec<Row>,
}

impl Report {
    /// For people.
    pub(super) fn table(&self) -> String {
        let head = [
            "PHASE",
            "DONE",
            "FAILED",
            "PER SECOND",
            "P50 MS",
            "P95 MS",
            "P99 MS",
            "CPU MS",
            "MIB",
            "LIMIT",
            "LIMIT CPU MS",
            "CPU RATIO",
            "RATE RATIO",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        rows.extend(self.phases.iter().map(|row| {
            vec![
                row.phase.to_owned(),
                row.done.to_string(),
                row.failures.to_string(),
                row.per_second.to_string(),
                row.p50_ms.to_string(),
                row.p95_ms.to_string(),
                row.p99_ms.to_string(),
                row.cpu_ms.to_string(),
                row.resident_mib.to_string(),
                row.limit.clone().unwrap_or_else(|| "-".to_owned()),
                number(row.limit_cpu_ms),
                number(row.cpu_ratio),
                number(row.rate_ratio),
            ]
        }));
        let mut text = format!(
            "{} devices, {} in the database beforehand, {} at the same time, CA keys {}, {} processors shared with the devices\n\n{}",
            self.devices,
            self.prefilled,
            self.concurrency,
            self.key_algorithm,
            self.processors,
            crate::cli::output::align(rows)
        );
        for row in &self.phases {
            if let Some(why) = &row.first_error {
                text.push_str(&format!("\n{}: the first failure was: {why}", row.phase));
            }
        }
        text
    }
}

/// Measures.
pub(super) async fn run(config: &Config, arguments: &Arguments) -> anyhow::Result<Report> {
    let algorithm = config.ca.key_algorithm.clone();
    let speed = tokio::task::spawn_blocking(KeySpeed::measure).await?;
    let platform = arguments.platform;
    let apple = Authority::new()?;
    let apns = Apns::start(&apple).await?;
    let instance = Instance::make(config, Some(&apns))?;
    if arguments.prefill > 0 {
        prefill::fill(instance.data(), arguments.prefill, platform.stored()).await?;
    }
    let server = instance.start("serve")?;
    let echo = Instance::make(config, None)?.start("echo")?;
    let resident_mib_at_start = round(server.usage().resident_mib);
    let signature = speed.map(|speed| Signatures::new(speed, &algorithm));
    let signs = platform.kind() != Kind::Windows && config.apple.sign_messages;
    let mut run =
        Run { platform, signs, crew: arguments.crew(), rounds: arguments.rounds.max(1), server, echo, signature, rows: Vec::new() };
    if platform.kind() != Kind::Windows {
        run.bring_push_certificate(&apple).await?;
    }
    let devices = run.enroll(arguments).await?;
    let devices = run.deliver(devices).await?;
    let devices = run.hold_sessions(devices).await?;
    let devices = run.order(devices).await?;
    run.ask_ocsp(&devices).await?;
    Ok(Report {
        devices: arguments.devices,
        prefilled: arguments.prefill,
        concurrency: arguments.concurrency,
        key_algorithm: algorithm,
        processors: std::thread::available_parallelism().map_or(1, Into::into),
        resident_mib_at_start,
        phases: run.rows,
    })
}

/// What signing costs on this machine, in milliseconds.
struct Signatures {
    speed: KeySpeed,
    ca: f64,
    ca_name: String,
}

impl Signatures {
    fn new(speed: KeySpeed, algorithm: &str) -> Self {
        let ca = match algorithm {
            "rsa-2048" => speed.rsa2048,
            "rsa-3072" => speed.rsa3072,
            "rsa-4096" => speed.rsa4096,
            "p-256" => speed.p256,
            _ => 0.0,
        };
        Self { speed, ca, ca_name: algorithm.to_owned() }
    }

    /// One certificate, and two handshakes: one with each face.
    fn enrolment(&self) -> Limit {
        let cpu_ms = (self.ca + 2.0 * self.speed.p256) * 1e3;
        Limit { name: format!("{} + 2 p-256 signatures", self.ca_name), cpu_ms, per_second: None }
    }

    /// The profile's signature, a certificate by SCEP, and handshakes: two with the web face and one with the device face.
    fn apple_enrolment(&self) -> Limit {
        let cpu_ms = (2.0 * self.ca + 2.0 * self.speed.rsa2048 + 3.0 * self.speed.p256) * 1e3;
        Limit { name: format!("2 {} + 2 rsa-2048 operations + 3 p-256 signatures", self.ca_name), cpu_ms, per_second: None }
    }

    /// The envelope opened and the answer signed by the registration authority, and one certificate.
    fn scep(&self) -> Limit {
        let cpu_ms = (self.ca + 2.0 * self.speed.rsa2048) * 1e3;
        Limit { name: format!("{} + 2 rsa-2048 operations", self.ca_name), cpu_ms, per_second: None }
    }

    /// A message whose signature is verified.
    fn verified(&self, message: &Limit) -> Limit {
        let name = format!("{} + rsa-2048 verification", message.name);
        Limit { name, cpu_ms: message.cpu_ms + self.speed.rsa2048_verify * 1e3, per_second: message.per_second }
    }

    /// What a handshake or an OCSP answer is signed with.
    fn p256(&self) -> Limit {
        Limit { name: "p-256 signature".into(), cpu_ms: self.speed.p256 * 1e3, per_second: None }
    }
}

/// A run as far as it has got.
struct Run {
    platform: Platform,
    /// Whether the devices sign their messages instead of showing a certificate.
    signs: bool,
    crew: Crew,
    rounds: usize,
    server: Server,
    echo: Server,
    signature: Option<Signatures>,
    rows: Vec<Row>,
}

impl Run {
    /// Ends a phase that began at `before` processor seconds of that server.
    fn note(&mut self, of_echo: bool, before: f64, phase: Measured, limit: Option<&Limit>) {
        let usage = if of_echo { self.echo.usage() } else { self.server.usage() };
        self.rows.push(Row::new(phase, (usage.cpu_seconds - before).max(0.0), usage.resident_mib, limit));
    }

    fn spent(&self) -> f64 {
        self.server.usage().cpu_seconds
    }

    /// The devices enrol for its topic.
    async fn bring_push_certificate(&self, apple: &Authority) -> anyhow::Result<()> {
        let request = self.server.order(&["apple", "push-csr"]).await?;
        let key = X509Req::from_pem(request.as_str().context("no request")?.as_bytes())?.public_key()?;
        let now = SystemClock.now();
        let certificate = apple.push_certificate(&key, TOPIC, now.seconds(), now.plus(365 * DAY).seconds())?;
        let file = self.server.file("push.pem", &certificate.to_pem()?)?;
        self.server.order(&["apple", "push-cert", &file]).await?;
        Ok(())
    }

    async fn enroll(&mut self, arguments: &Arguments) -> anyhow::Result<Vec<Device>> {
        self.server.order(&["user", "create", USER]).await?;
        self.server.order(&["group", "create", GROUP]).await?;
        self.server.order(&["group", "add", GROUP, "--user", USER]).await?;
        let pass = self.server.order(&["user", "tap", USER, "--minutes", "480", "--reusable"]).await?;
        let pass = pass.get("temporary_access_pass").and_then(|pass| pass.as_str()).context("no pass")?.to_owned();
        let roots = X509::stack_from_pem(self.server.root().as_bytes())?;
        let site = Site::new(self.platform.kind(), Door { roots, web: self.server.web.clone(), user: USER.to_owned(), pass }).await?;
        let before = self.spent();
        let (devices, measured) = self.crew.enroll(&site, arguments.numbers()).await;
        let signatures = self.signature.as_ref();
        let limit = match self.platform {
            Platform::Windows => signatures.map(Signatures::enrolment),
            Platform::Macos | Platform::Ios => signatures.map(Signatures::apple_enrolment),
        };
        self.note(false, before, measured, limit.as_ref());
        anyhow::ensure!(!devices.is_empty(), "no device could enrol: {:?}", self.rows.last().and_then(|row| row.first_error.clone()));
        let before = self.spent();
        let (devices, measured) = self.crew.settle("first sessions", devices).await;
        self.note(false, before, measured, None);
        Ok(devices)
    }

    /// Profiles come, one of them with a certificate by SCEP.
    async fn deliver(&mut self, devices: Vec<Device>) -> anyhow::Result<Vec<Device>> {
        for profile in self.platform.profiles() {
            let applied = self.server.order(&["profile", "apply", profile]).await?;
            let name = applied.get("name").and_then(|name| name.as_str()).context("no profile")?.to_owned();
            self.server.order(&["profile", "assign", &name, "--group", GROUP]).await?;
        }
        let before = self.spent();
        if self.platform.kind() != Kind::Windows {
            // Commands, SCEP, declarations and reports, until all is there.
            let (devices, measured) = self.crew.settle("profiles", devices).await;
            let limit = self.signature.as_ref().map(Signatures::scep);
            self.note(false, before, measured, limit.as_ref());
            return Ok(devices);
        }
        let (devices, measured) = self.crew.sessions("profiles", devices).await;
        self.note(false, before, measured, None);
        let before = self.spent();
        let (devices, measured) = self.crew.meet_servers(devices).await;
        let limit = self.signature.as_ref().map(Signatures::p256);
        self.note(false, before, measured, limit.as_ref());
        let before = self.spent();
        let (devices, measured) = self.crew.scep(devices).await;
        let limit = self.signature.as_ref().map(Signatures::scep);
        self.note(false, before, measured, limit.as_ref());
        let before = self.spent();
        let (devices, measured) = self.crew.settle("SCEP told", devices).await;
        self.note(false, before, measured, None);
        // What is left after that (a look at what was set) is no phase of its own.
        Ok(self.crew.settle("settling", devices).await.0)
    }

    /// Sessions without work, beside the echo.
    async fn hold_sessions(&mut self, mut devices: Vec<Device>) -> anyhow::Result<Vec<Device>> {
        let roots = X509::stack_from_pem(self.echo.root().as_bytes())?;
        let url = if self.signs { &self.echo.web } else { &self.echo.device }.join("/echo")?;
        let mut callers = devices
            .iter()
            .map(|device| {
                let client = device.client(&roots)?;
                Ok(Caller { client, url: url.clone(), body: vec![b'x'; self.platform.message()], media_type: "application/octet-stream" })
            })
            .collect::<std::io::Result<Vec<_>>>()?;
        let kinds = [
            (Connection::Kept, "echo, kept connections", "idle sessions, kept connections"),
            (Connection::New, "echo, new handshakes", "idle sessions, new handshakes"),
        ];
        for (connection, echo, idle) in kinds {
            // A first round that is not counted: connections and caches are there, or gone, for both.
            callers = self.crew.call("warming up", callers, connection, 1).await.0;
            let before = self.echo.usage().cpu_seconds;
            let measured;
            (callers, measured) = self.crew.call(echo, callers, connection, self.rounds).await;
            self.note(true, before, measured, None);
            let limit = self.rows.last().map(Row::as_limit).map(|echo| match &self.signature {
                Some(signatures) if self.signs => signatures.verified(&echo),
                _ => echo,
            });
            let before = self.spent();
            let measured;
            (devices, measured) = self.crew.idle(idle, devices, connection, self.rounds).await;
            self.note(false, before, measured, limit.as_ref());
        }
        Ok(devices)
    }

    /// Each device gets an order and carries it out: two messages.
    async fn order(&mut self, devices: Vec<Device>) -> anyhow::Result<Vec<Device>> {
        for device in &devices {
            self.server.order(&[&["device", "command", device.found_by()], self.platform.order()].concat()).await?;
        }
        let before = self.spent();
        let (devices, measured) = self.crew.sessions("sessions with one order", devices).await;
        let limit = self.rows.iter().find(|row| row.phase.starts_with("echo, kept")).map(|row| {
            let one = row.as_limit();
            Limit { name: format!("2 x {}", one.name), cpu_ms: 2.0 * one.cpu_ms, per_second: one.per_second.map(|rate| rate / 2.0) }
        });
        self.note(false, before, measured, limit.as_ref());
        Ok(devices)
    }

    /// Asks about each device's certificate: the first answer is signed, the others are kept ones.
    async fn ask_ocsp(&mut self, devices: &[Device]) -> anyhow::Result<()> {
        let url = self.echo.pki.join("/echo")?;
        let caller = |url: reqwest::Url, body: Vec<u8>| -> anyhow::Result<Caller> {
            Ok(Caller { client: Client::new(&[], None)?, url, body, media_type: "application/ocsp-request" })
        };
        let echoes = devices.iter().map(|_| caller(url.clone(), vec![b'x'; 120])).collect::<anyhow::Result<Vec<_>>>()?;
        let echoes = self.crew.call("warming up", echoes, Connection::Kept, 1).await.0;
        let before = self.echo.usage().cpu_seconds;
        let (_, measured) = self.crew.call("echo, plain HTTP", echoes, Connection::Kept, self.rounds).await;
        self.note(true, before, measured, None);
        let plain = self.rows.last().map(Row::as_limit).context("no echo")?;
        let askers = devices
            .iter()
            .map(|device| {
                let identity = device.identity()?;
                let (responder, body) = ocsp_request(&identity.certificate, identity.issuer())?;
                let path = reqwest::Url::parse(&responder)?;
                caller(self.server.pki.join(path.path())?, body)
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let before = self.spent();
        let (askers, measured) = self.crew.call("OCSP, first answers", askers, Connection::Kept, 1).await;
        let signing = self.signature.as_ref().map(Signatures::p256);
        self.note(false, before, measured, signing.as_ref());
        let before = self.spent();
        let (_, measured) = self.crew.call("OCSP, kept answers", askers, Connection::Kept, self.rounds).await;
        self.note(false, before, measured, Some(&plain));
        Ok(())
    }
}

/// Where to ask about a certificate, and the question.
fn ocsp_request(certificate: &X509, issuer: Option<&X509>) -> anyhow::Result<(String, Vec<u8>)> {
    let issuer = issuer.context("no issuer")?;
    let responder = certificate.ocsp_responders()?.iter().next().map(|url| url.to_string()).context("no OCSP responder")?;
    let name = sha1(&issuer.subject_name().to_der()?);
    let key = sha1(&key_bits(&issuer.public_key()?)?);
    let serial = certificate.serial_number().to_bn()?.to_vec();
    let id = ocsp::cert_id(ocsp::Hash::Sha1, &name, &key, &serial);
    Ok((responder, ocsp::Request::der(&[id], None)))
}

/// The contents of the bit string in a public key.
fn key_bits(key: &PKey<Public>) -> anyhow::Result<Vec<u8>> {
    if let Ok(rsa) = key.rsa() {
        return Ok(rsa.public_key_to_der_pkcs1()?);
    }
    let key = key.ec_key()?;
    let mut context = openssl::bn::BigNumContext::new()?;
    Ok(key.public_key().to_bytes(key.group(), openssl::ec::PointConversionForm::UNCOMPRESSED, &mut context)?)
}
