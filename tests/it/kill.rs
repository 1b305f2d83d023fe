//! The server is killed without warning, again and again, while PCs, Macs and iPhones enrol and call. What it has acknowledged is there
//! afterwards. It is one test; everything else here is the account that it keeps, and [`prove`] holds the account against the database.

mod apple;
mod prove;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use muster::app::App;
use muster::catalogue::{Vars, catalogue};
use muster::clock::{Clock as _, DAY, SystemClock};
use muster::config::Config;
use muster::domain::certificate::{Certificate, CertificateStatus, Purpose};
use muster::domain::command::{State, Verb as OrderVerb};
use muster::domain::tap::Policy;
use muster::ids::DeviceId;
use muster::service::device::{self, Custom, Order};
use muster::service::identity::tap;
use muster::service::outbox::Worker;
use muster::service::pki::authority;
use muster::service::signals::receiver::{self as receivers, NewReceiver};
use muster::service::{audit, profile, signals};
use muster::sim::http::Client;
use muster::sim::receiver::{Accepted, Expect, Receiver};
use muster::sim::scep::{self, Outcome};
use muster::sim::windows::enroll::{Failure, Machine, SignIn};
use muster::sim::windows::{Device, Error};
use muster::store::{certificates, commands, enrollments, facts, outbox, users};
use muster::wire::pkcs10::{GeneralName, Wish};
use muster::wire::syncml::{Command as Message, SyncMl, Verb};
use openssl::x509::X509;
use reqwest::Url;
use tokio::sync::watch;

use apple::prove_apple;
use prove::{end_leases, prove, prove_signals};

use crate::cli::muster;
use crate::support::apple::Push;
use crate::support::child::{Serving, ports};
use crate::support::tools;
use crate::support::windows::{UPN, by, key};

/// How often a server that serves is killed; beside them some are killed before they do.
const KILLS: u64 = 50;
/// Devices at once.
const SLOTS: u64 = 4;
/// Sessions of a device before another one enrols in its place.
const SESSIONS: u32 = 4;
/// Where Windows tells whether BitLocker is on.
const BITLOCKER: &str = "/BitLocker/Status/DeviceEncryptionStatus";
/// Where the orders of this test look: no device has such a node, and says so.
const NOWHERE: &str = "./Device/Vendor/MSFT/Nowhere/";
/// Far longer than all of it takes, also where every other test runs beside it.
const PATIENCE: Duration = Duration::from_secs(900);
/// Longer than a server takes to come up again. A device whose connection ended while no server was killed just tries again.
const COMES_UP: Duration = Duration::from_secs(20);

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn millis(&mut self, bound: u64) -> Duration {
        Duration::from_millis(self.below(bound))
    }
}

/// What devices were told.
#[derive(Default)]
struct Ledger {
    /// The certificate of each enrolment and the protocol's device id, oldest first.
    enrolled: Vec<(String, String)>,
    /// Every certificate that a device holds.
    certificates: BTreeSet<String>,
    /// How many certificates by SCEP renewed themselves.
    renewals: u32,
    /// The identity that a device uses, by the one with which it enrolled.
    identities: BTreeMap<String, String>,
    /// Commands whose answers were taken: certificate of the enrolment, verb, address.
    answered: Vec<(String, Verb, String)>,
    /// Whether BitLocker is on, as each enrolment told it and was answered, since the server knows everything else of the device.
    told: BTreeMap<String, Vec<bool>>,
    /// Enrolments of which the server knows everything.
    known: BTreeSet<String>,
    /// The certificate of each enrolment of a Mac or an iPhone and the hardware's identifier, oldest first.
    apples: Vec<(String, String)>,
}

struct World {
    folder: tempfile::TempDir,
    config: Config,
    roots: Vec<X509>,
    sign_in: SignIn,
    /// Who wakes Macs and iPhones.
    push: Push,
    /// Who hears of compliance, once there is a server.
    receiver: Option<Receiver>,
    ledger: Mutex<Ledger>,
    /// How many acknowledgements there were.
    acknowledged: watch::Sender<u64>,
    /// How often the server has come up.
    starts: watch::Sender<u64>,
    over: AtomicBool,
}

fn sha256(der: &[u8]) -> String {
    hex::encode(openssl::sha::sha256(der))
}

fn fingerprint(certificate: &X509) -> String {
    sha256(&certificate.to_der().unwrap())
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config { data_dir: folder.path().join("data"), ..Config::default() };
        for (face, port) in [&mut config.web, &mut config.device, &mut config.pki].into_iter().zip(ports()) {
            face.listen.set_ip("127.0.0.1".parse().unwrap());
            face.listen.set_port(port);
        }
        config.signals.allow_private_receivers = true;
        let push = Push::start().await;
        push.configure(&mut config, folder.path());
        let mut world = Self {
            folder,
            config,
            roots: Vec::new(),
            sign_in: SignIn::Jwt(String::new()),
            push,
            receiver: None,
            ledger: Mutex::default(),
            acknowledged: watch::Sender::new(0),
            starts: watch::Sender::new(0),
            over: AtomicBool::new(false),
        };
        let made = world.command().args(["init", "--admin", UPN]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let app = world.open().await;
        for baseline in ["windows-hello-for-business", "trusted-root", "scep-device-certificate", "windows-compliance"] {
            let draft = profile::ready().unwrap().into_iter().find(|(name, _)| name == baseline).unwrap().1;
            let id = profile::apply(&app, draft, &by()).await.unwrap().profile.id;
            let all = muster::domain::assignment::Target::AllDevices;
            profile::assign(&app, &id, muster::domain::assignment::Mode::Include, all, &by()).await.unwrap();
        }
        world.push.settle_in(&app).await;
        let user = app.store.read(|c| users::find_user_by_upn(c, UPN)).await.unwrap().unwrap();
        let policy = Policy { one_time: false, ..Policy::default() };
        let pass = tap::create(&app, &user.id, policy, None, "cli:test", "local").await.unwrap();
        world.sign_in = SignIn::Pass { user: UPN.into(), pass: pass.show().to_owned() };
        world.roots = X509::stack_from_pem(authority::pem(&authority::root_certificate(&app).await.unwrap()).as_bytes()).unwrap();
        let expect = Expect {
            issuer: signals::issuer(&app.config),
            audience: "urn:ours".into(),
            authorization: None,
            roots: world.roots.clone(),
            clock: Arc::new(SystemClock),
        };
        let receiver = Receiver::start("127.0.0.1:0".parse().unwrap(), None, expect).await.unwrap();
        let ours =
            NewReceiver { name: "ours".into(), endpoint_url: receiver.url.clone(), audience: Some("urn:ours".into()), authorization: None };
        receivers::add(&app, ours, &muster::service::directory::By::local("cli:test")).await.unwrap();
        let greeting = receivers::test(&app, "ours", &crate::graph::by()).await.unwrap();
        drop(app);
        // It gets to know the published keys while nobody kills the server.
        let command = world.command();
        let serving = tokio::task::spawn_blocking(move || Serving::start(command)).await.unwrap();
        assert!(receiver.wait_for(|event| event.jti == greeting, PATIENCE).await.is_some());
        drop(serving);
        world.receiver = Some(receiver);
        world
    }

    fn receiver(&self) -> &Receiver {
        self.receiver.as_ref().unwrap()
    }

    fn command(&self) -> Command {
        let mut command = muster(self.folder.path());
        for (name, face) in [("web", &self.config.web), ("device", &self.config.device), ("pki", &self.config.pki)] {
            command.args(["--set", &format!("{name}.listen={}", face.listen)]);
        }
        command.args(["--set", "limits.anonymous_per_second=0", "--set", "workers=2", "--set", "signals.allow_private_receivers=true"]);
        self.push.command(&mut command, self.folder.path());
        // Certificates by SCEP may renew themselves at any time.
        command.args(["--set", "scep.renewal_percent=100", "--set", "scep.live_certificates=100"]);
        command
    }

    /// Starts a server and waits until it serves.
    fn serve(&self) -> Serving {
        let serving = Serving::start(self.command());
        self.starts.send_modify(|starts| *starts += 1);
        serving
    }

    /// The instance, while no server has it.
    async fn open(&self) -> App {
        App::open(self.config.clone(), Arc::new(SystemClock)).await.unwrap()
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    fn acknowledge(&self) {
        self.acknowledged.send_modify(|count| *count += 1);
    }

    /// What came of it; `None` when the server broke off, after it has come up again.
    async fn outcome<T>(&self, started: u64, result: Result<T, Error>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(Error::Connection(_) | Error::Enrollment(Failure::Connection(_))) => {
                let mut starts = self.starts.subscribe();
                let _ = tokio::time::timeout(COMES_UP, starts.wait_for(|starts| *starts > started)).await;
                None
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    async fn enroll(&self, number: u64) -> Device {
        let discovery = Url::parse(&format!("{}/EnrollmentServer/Discovery.svc", self.config.web_url())).unwrap();
        loop {
            let started = *self.starts.borrow();
            let enrolled = Device::enroll(&self.roots, &discovery, Machine::windows_11(number), &self.sign_in, &key()).await;
            let Some(device) = self.outcome(started, enrolled).await else { continue };
            let id = device.identity.device_id.clone();
            self.ledger().enrolled.push((fingerprint(&device.identity.certificate), id));
            self.acknowledge();
            return device;
        }
    }

    /// A session, as far as it gets, and what it started. `enrolled` is the certificate with which the device enrolled.
    async fn session(&self, device: &mut Device, enrolled: &str) -> bool {
        let started = *self.starts.borrow();
        device.heard = Some(Vec::new());
        let held = device.session().await;
        let heard: Vec<SyncMl> = device.heard.take().unwrap().iter().map(|body| SyncMl::decode(body).unwrap()).collect();
        // The answers to what a message asks come with the next one, which is acknowledged by the message after it.
        for pair in heard.windows(2) {
            for command in &pair[0].body {
                if let Message::Operation(operation) = command {
                    for uri in operation.items.iter().filter_map(|item| item.target.as_ref()) {
                        let mut ledger = self.ledger();
                        if operation.verb == Verb::Get && uri.uri.ends_with(BITLOCKER) {
                            let on = device.tree.get(&uri.uri) == Some("0");
                            ledger.told.entry(enrolled.to_owned()).or_default().push(on);
                        }
                        ledger.answered.push((enrolled.to_owned(), operation.verb, uri.uri.clone()));
                    }
                }
            }
            self.acknowledge();
        }
        let held = self.outcome(started, held).await.is_some();
        if held {
            let mut ledger = self.ledger();
            if ledger.known.insert(enrolled.to_owned())
                && let Some(told) = ledger.told.get_mut(enrolled)
            {
                // Until now the verdict hung on more than BitLocker.
                told.drain(..told.len().saturating_sub(1));
            }
        }
        device.work().await;
        for held in device.certificates.values() {
            self.obtained(sha256(&held.identity.certificate));
        }
        held
    }

    /// A device holds a certificate.
    fn obtained(&self, sha256: String) -> bool {
        let new = self.ledger().certificates.insert(sha256);
        if new {
            self.acknowledge();
        }
        new
    }

    /// The device's certificate by SCEP renews itself (RenewalReq), and its identity does (ROBO), as far as they may and as far as the
    /// server lives. A new identity is used from then on.
    async fn renew(&self, device: &mut Device, enrolled: &str) {
        let own = device.certificates.values().next_back().map(|held| held.identity.clone());
        if let Some(own) = own {
            let started = *self.starts.borrow();
            match self.renew_by_itself(&own).await {
                Ok(Outcome::Issued(identity)) => {
                    self.obtained(sha256(&identity.certificate));
                    self.ledger().renewals += 1;
                }
                Ok(Outcome::Pending(_)) => panic!("nobody has to approve"),
                Err(scep::Error::Connection(error)) => {
                    self.outcome::<()>(started, Err(Error::Connection(error))).await;
                }
                // Another one took its place meanwhile.
                Err(scep::Error::Refused(_)) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        let started = *self.starts.borrow();
        match device.renew().await {
            // It has not come near its end.
            Err(Error::Enrollment(Failure::Fault(_))) => {}
            renewed => {
                if self.outcome(started, renewed).await.is_some() && self.obtained(fingerprint(&device.identity.certificate)) {
                    self.ledger().identities.insert(enrolled.to_owned(), fingerprint(&device.identity.certificate));
                }
            }
        }
    }

    async fn renew_by_itself(&self, own: &scep::Identity) -> Result<Outcome, scep::Error> {
        let certificate = X509::from_der(&own.certificate).unwrap();
        let name = certificate.subject_name().entries().next().unwrap().data().to_string().unwrap();
        let san = vec![GeneralName::Uri(format!("urn:muster:device:{name}"))];
        let wish = Wish { san, ..Wish::common_name(&name) };
        let mut http = Client::new(&self.roots, None).unwrap();
        let url = format!("{}/scep/issuing", self.config.web_url());
        let server = scep::Server::discover(&mut http, &url, scep::Options::default()).await?;
        server.renew(&mut http, &wish, own).await
    }

    /// Devices, one after the other, until it is over; all of them.
    async fn live(self: Arc<Self>, slot: u64) -> Vec<(String, Device)> {
        let mut devices = Vec::new();
        for number in slot * 1000.. {
            if self.over.load(Ordering::SeqCst) {
                break;
            }
            let mut device = self.enroll(number).await;
            let enrolled = fingerprint(&device.identity.certificate);
            for count in 0..SESSIONS {
                device.tree.switch_bitlocker(count % 2 == 0);
                self.session(&mut device, &enrolled).await;
                if count % 2 == 1 {
                    self.renew(&mut device, &enrolled).await;
                }
            }
            devices.push((enrolled, device));
        }
        devices
    }

    /// The devices of the youngest enrolments.
    async fn youngest(&self, app: &App) -> Vec<DeviceId> {
        let count = usize::try_from(2 * SLOTS).unwrap();
        let youngest: Vec<String> = self.ledger().enrolled.iter().rev().take(count).map(|(sha256, _)| sha256.clone()).collect();
        let mut devices = Vec::new();
        for enrolled in youngest {
            let found = app.store.read(move |c| enrollments::find_identity(c, &enrolled)).await.unwrap().unwrap();
            devices.push(found.enrollment.device_id);
        }
        devices
    }

    /// Asks the youngest devices how they are. What a killed server was sending may be sent again: time would end its leases as well.
    async fn ask(&self) {
        let app = self.open().await;
        end_leases(&app).await;
        for device in self.youngest(&app).await {
            device::sync(&app, &device, &by()).await.unwrap();
        }
        self.order_apple(&app, false).await;
        // Sent, and sent again.
        self.receiver().lose_answers(1);
    }

    /// Gives the youngest devices orders: one that only asks, and one that may run once only. Their certificates by SCEP are to be
    /// replaced, and all identities come near their end.
    async fn order(&self, round: u64) {
        let app = self.open().await;
        let mut draft = profile::ready().unwrap().into_iter().find(|(name, _)| name == "scep-device-certificate").unwrap().1;
        draft.document.payloads[0].body.insert("retry-delay".into(), (1 + round).into());
        profile::apply(&app, draft, &by()).await.unwrap();
        let mut draft = profile::ready().unwrap().into_iter().find(|(name, _)| name == "macos-passcode").unwrap().1;
        draft.document.payloads[0].body.insert("minLength".into(), (4 + round % 8).into());
        profile::apply(&app, draft, &by()).await.unwrap();
        self.order_apple(&app, true).await;
        let end = SystemClock.now().plus(20 * DAY).0;
        app.store
            .write(move |tx| {
                use diesel::RunQueryDsl as _;
                let near = format!("UPDATE certificates SET not_after = {end} WHERE purpose = '{}'", Purpose::MdmIdentity);
                diesel::sql_query(near).execute(tx.conn())?;
                Ok(())
            })
            .await
            .unwrap();
        for device in self.youngest(&app).await {
            let uri = format!("{NOWHERE}{round}");
            let ask = Order::Custom(Custom { verb: OrderVerb::Get, uri, format: None, data: None });
            for order in [ask, Order::Known("reboot".into())] {
                device::command(&app, &device, order, true, &by()).await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_acknowledged_outlives_fifty_kills() {
    let seed = std::env::var("MUSTER_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(SystemClock.now().0.unsigned_abs());
    tools::say(&format!("MUSTER_TEST_SEED={seed}"));
    tokio::time::timeout(PATIENCE, kill(Random(seed | 1))).await.expect("in time");
}

async fn kill(mut random: Random) {
    let world = Arc::new(World::new().await);
    let living: Vec<_> = (0..SLOTS).map(|slot| tokio::spawn(Arc::clone(&world).live(slot))).collect();
    let apples: Vec<_> = (0..apple::SLOTS).map(|slot| tokio::spawn(Arc::clone(&world).live_apple(slot))).collect();
    let (mut starting, mut early) = (Duration::ZERO, 0);
    for round in 0..KILLS {
        if random.below(6) == 0 {
            let mut child = Serving(world.command().arg("serve").stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
            let _ = tokio::time::timeout(random.millis(150), std::future::pending::<()>()).await;
            child.0.kill().unwrap();
            early += 1;
        }
        let began = Instant::now();
        let own = Arc::clone(&world);
        let serving = tokio::task::spawn_blocking(move || own.serve()).await.unwrap();
        starting += began.elapsed();
        let wanted = *world.acknowledged.borrow() + random.below(24);
        let mut acknowledged = world.acknowledged.subscribe();
        let _ = tokio::time::timeout(random.millis(1500), acknowledged.wait_for(|count| *count >= wanted)).await;
        // SIGKILL.
        drop(serving);
        if round % 2 == 1 {
            world.ask().await;
        }
        if round % 4 == 3 {
            world.order(round).await;
        }
    }
    let own = Arc::clone(&world);
    let serving = tokio::task::spawn_blocking(move || own.serve()).await.unwrap();
    world.over.store(true, Ordering::SeqCst);
    let mut devices = Vec::new();
    for slot in living {
        devices.extend(slot.await.unwrap());
    }
    let mut members = Vec::new();
    for slot in apples {
        members.extend(slot.await.unwrap());
    }
    // Everybody gets along with the server that is left.
    world.gather(&mut members).await;
    for (enrolled, device) in &mut devices {
        assert!(world.session(device, enrolled).await);
    }
    serving.stop();
    let app = Arc::new(world.open().await);
    let changes = prove_signals(&world, &app).await;
    prove(&world, &app, &devices).await;
    let (results, locks) = prove_apple(&world, &app, &members).await;
    let ledger = world.ledger();
    tools::say(&format!(
        "{KILLS} kills and {early} before serving; a start takes {} ms; {} enrolments, {} certificates, {} renewals by SCEP, {} new \
         identities, {} answers, {changes} changes, {} signals, of which {} came again; {} Macs and iPhones, {results} results, {locks} locks",
        starting.as_millis() / u128::from(KILLS),
        ledger.enrolled.len(),
        ledger.certificates.len(),
        ledger.renewals,
        ledger.identities.len(),
        ledger.answered.len(),
        world.receiver().events().len(),
        world.receiver().duplicates(),
        ledger.apples.len()
    ));
    assert!(ledger.enrolled.len() >= 4 && ledger.certificates.len() >= 4 && ledger.answered.len() >= 100, "too little happened");
    assert!(ledger.apples.len() >= 4 && results >= 40 && locks >= 1, "too few Macs and iPhones");
    assert!(changes >= 4 && world.receiver().duplicates() >= 4, "too few signals");
    assert!(ledger.renewals >= 2 && !ledger.identities.is_empty(), "too few renewals");
}
