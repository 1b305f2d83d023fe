//! Two servers on one database, and one of them is killed in the middle.

mod apple;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, PgConnection, QueryableByName, RunQueryDsl as _, sql_types};
use muster::app::App;
use muster::clock::{Clock, SystemClock};
use muster::config::Config;
use muster::domain::assignment::{Mode, Target};
use muster::domain::command::State;
use muster::domain::tap::Policy;
use muster::ids::{DeviceId, EnrollmentId};
use muster::secret::Sealer;
use muster::service::device::{self, Order};
use muster::service::identity::tap;
use muster::service::pki::authority;
use muster::service::signals::receiver::{self as receivers, NewReceiver};
use muster::service::{audit, profile, setup, signals};
use muster::sim::device::Door;
use muster::sim::receiver::{Expect, Receiver};
use muster::sim::windows::Device;
use muster::sim::windows::enroll::{Machine, SignIn};
use muster::store::{Location, Store, commands, compliance, enrollments, outbox, users};
use openssl::x509::X509;
use reqwest::Url;
use tokio::sync::watch;

use crate::cli::muster;
use crate::support::apple::Push;
use crate::support::child::{Serving, ports};
use crate::support::db;
use crate::support::windows::{UPN, by, key};

const DEVICES: u64 = 4;
/// Rounds of each device at least.
const ROUNDS: u32 = 8;
/// How often the second node is killed.
const KILLS: u32 = 3;
/// Rounds of all devices together while both nodes serve, and while one does.
const BETWEEN: u32 = 6;
/// Looks at the second node before sessions are let go on, because all of them wait for the first.
const LOOKS: u32 = 50;
/// Longer than the lease of what a killed node was sending.
const PATIENCE: Duration = Duration::from_secs(180);

/// Two nodes that are one server towards the outside: the first one's addresses are everybody's.
struct Pair {
    folders: [tempfile::TempDir; 2],
    ports: [[u16; 3]; 2],
    database: String,
    push: Push,
}

impl Pair {
    async fn new(database: String) -> Self {
        let push = Push::start().await;
        let pair = Self { folders: [(); 2].map(|()| tempfile::tempdir().unwrap()), ports: [ports(), ports()], database, push };
        std::fs::create_dir(pair.folders[1].path().join("data")).unwrap();
        let made = pair.command(0).args(["init", "--admin", UPN]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        pair
    }

    /// What a node calls itself at the database.
    fn name(at: usize) -> &'static str {
        ["first", "second"][at]
    }

    fn url(&self, face: usize) -> String {
        format!("{}://127.0.0.1:{}", ["https", "https", "http"][face], self.ports[0][face])
    }

    fn command(&self, at: usize) -> Command {
        let mut command = muster(self.folders[at].path());
        for (face, name) in ["web", "device", "pki"].into_iter().enumerate() {
            command.args(["--set", &format!("{name}.listen=127.0.0.1:{}", self.ports[at][face])]);
            command.args(["--set", &format!("{name}.url={}", self.url(face))]);
        }
        let master_key = self.folders[0].path().join("data/master.key");
        command.args(["--set", &format!("master_key_file={}", master_key.display())]);
        command.args(["--set", &format!("database={}&application_name={}", self.database, Self::name(at))]);
        command.args(["--set", "limits.anonymous_per_second=0", "--set", "workers=2", "--set", "signals.allow_private_receivers=true"]);
        self.push.command(&mut command, self.folders[at].path());
        // So that what a killed node was sending is not leased for long.
        command.args(["--set", "signals.timeout_seconds=2"]);
        command
    }

    /// The same instance seen by an administrator's process, which neither answers devices nor sends anything.
    async fn open(&self) -> Arc<App> {
        let mut config =
            Config { data_dir: self.folders[0].path().join("data"), database: Some(self.database.clone()), ..Config::default() };
        for (at, face) in [&mut config.web, &mut config.device, &mut config.pki].into_iter().enumerate() {
            face.url = Some(self.url(at));
        }
        config.signals.allow_private_receivers = true;
        Arc::new(App::open(config, Arc::new(SystemClock)).await.unwrap())
    }
}

/// Starts a node.
async fn serve(pair: &Arc<Pair>, at: usize) -> Serving {
    let pair = Arc::clone(pair);
    tokio::task::spawn_blocking(move || Serving::start(pair.command(at))).await.unwrap()
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = sql_types::BigInt)]
    count: i64,
}

/// Kills the second node while it handles a message of an open session: what such sessions are kept in is held until that node waits for
/// it, and let go once the node is dead. The node's transaction ends with it; the device says its message again to the other one.
fn kill_in_a_session(database: &str, node: Serving) {
    let mut held = PgConnection::establish(database).unwrap();
    let mut look = PgConnection::establish(database).unwrap();
    let waits =
        format!("SELECT count(*) AS count FROM pg_stat_activity WHERE application_name = '{}' AND wait_event_type = 'Lock'", Pair::name(1));
    let end = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < end, "sessions go on");
        held.batch_execute("BEGIN").unwrap();
        let open: Vec<Count> = diesel::sql_query("SELECT version AS count FROM dm_sessions WHERE sealed_state IS NOT NULL FOR UPDATE")
            .load(&mut held)
            .unwrap();
        for _ in 0..if open.is_empty() { 0 } else { LOOKS } {
            let waiting: Count = diesel::sql_query(&waits).get_result(&mut look).unwrap();
            if waiting.count > 0 {
                drop(node);
                held.batch_execute("ROLLBACK").unwrap();
                return;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        held.batch_execute("ROLLBACK").unwrap();
    }
}

/// A device with what the server calls it.
struct Known {
    sim: Device,
    device: DeviceId,
    enrollment: EnrollmentId,
    orders: u32,
}

impl Known {
    async fn new(app: &App, sim: Device) -> Self {
        let sha256 = hex::encode(openssl::sha::sha256(&sim.identity.certificate.to_der().unwrap()));
        let found = app.store.read(move |c| enrollments::find_identity(c, &sha256)).await.unwrap().unwrap().enrollment;
        Self { sim, device: found.device_id, enrollment: found.id, orders: 0 }
    }

    /// Sessions until nothing is left to do. What is said twice is answered twice with the same bytes, by whichever node.
    async fn settle(&mut self) {
        assert_eq!(self.sim.settle().await.unwrap().unequal, 0);
    }

    /// Rounds of changes, orders and sessions until it is over; an order comes while a session is held.
    async fn live(mut self, app: Arc<App>, done: watch::Sender<u32>, over: watch::Receiver<bool>) -> Self {
        for round in 0.. {
            if round >= ROUNDS && *over.borrow() {
                break;
            }
            // Breaks or mends what the compliance policy asks for.
            self.sim.tree.switch_bitlocker(!round.is_multiple_of(2));
            device::sync(&app, &self.device, &by()).await.unwrap();
            let (admin, device) = (by(), self.device.clone());
            let order = device::command(&app, &device, Order::Known("reboot".into()), true, &admin);
            let sync = device::sync(&app, &device, &admin);
            let ((), ordered, synced) = tokio::join!(self.settle(), order, sync);
            ordered.unwrap();
            synced.unwrap();
            self.orders += 1;
            done.send_modify(|rounds| *rounds += 1);
        }
        // What the last order left to do.
        self.settle().await;
        self
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_is_killed_ends_no_session_repeats_no_order_and_loses_no_signal() {
    let Some(database) = db::postgres_url() else { return };
    let pair = Arc::new(Pair::new(database).await);
    let app = pair.open().await;
    let roots = X509::stack_from_pem(authority::pem(&authority::root_certificate(&app).await.unwrap()).as_bytes()).unwrap();
    let expect = Expect {
        issuer: signals::issuer(&app.config),
        audience: "urn:ours".into(),
        authorization: None,
        roots: roots.clone(),
        clock: Arc::new(SystemClock),
    };
    let receiver = Receiver::start("127.0.0.1:0".parse().unwrap(), None, expect).await.unwrap();
    let ours =
        NewReceiver { name: "ours".into(), endpoint_url: receiver.url.clone(), audience: Some("urn:ours".into()), authorization: None };
    receivers::add(&app, ours, &muster::service::directory::By::local("cli:test")).await.unwrap();
    for baseline in ["windows-hello-for-business", "trusted-root", "scep-device-certificate", "windows-compliance"] {
        let draft = profile::ready().unwrap().into_iter().find(|(name, _)| name == baseline).unwrap().1;
        let id = profile::apply(&app, draft, &by()).await.unwrap().profile.id;
        profile::assign(&app, &id, Mode::Include, Target::AllDevices, &by()).await.unwrap();
    }
    pair.push.settle_in(&app).await;
    let user = app.store.read(|c| users::find_user_by_upn(c, UPN)).await.unwrap().unwrap().id;
    let pass = tap::create(&app, &user, Policy { one_time: false, ..Policy::default() }, None, "cli:test", "local").await.unwrap();
    let sign_in = SignIn::Pass { user: UPN.into(), pass: pass.show().to_owned() };
    let door = Door { roots: roots.clone(), web: Url::parse(&pair.url(0)).unwrap(), user: UPN.into(), pass: pass.show().to_owned() };
    let discovery = Url::parse(&format!("{}/EnrollmentServer/Discovery.svc", pair.url(0))).unwrap();

    let first = serve(&pair, 0).await;
    let mut second = serve(&pair, 1).await;
    let mut enrolled = Vec::new();
    for number in 0..DEVICES {
        let mut sim = Device::enroll(&roots, &discovery, Machine::windows_11(number), &sign_in, &key()).await.unwrap();
        let own = sim.identity.management_url().unwrap();
        let mut other = own.clone();
        other.set_port(Some(pair.ports[1][1])).unwrap();
        sim.nodes = vec![own, other];
        // One says everything twice: to the one node and to the other.
        sim.faults.resend = number == 0;
        enrolled.push(Known::new(&app, sim).await);
    }
    let mut macs = Vec::new();
    for number in 0..apple::MACS {
        macs.push(apple::Mac::enroll(&app, &pair, &door, number).await);
    }
    let ((done, mut rounds), (end, over)) = (watch::channel(0), watch::channel(false));
    let living: Vec<_> = enrolled.into_iter().map(|known| tokio::spawn(known.live(Arc::clone(&app), done.clone(), over.clone()))).collect();
    let talking: Vec<_> = macs.into_iter().map(|mac| tokio::spawn(mac.live(Arc::clone(&app), over.clone()))).collect();
    drop(done);
    for _ in 0..KILLS {
        let both = *rounds.borrow();
        rounds.wait_for(|rounds| *rounds >= both + BETWEEN).await.unwrap();
        let database = pair.database.clone();
        tokio::task::spawn_blocking(move || kill_in_a_session(&database, second)).await.unwrap();
        // The one that is left does the work of both for a while.
        let alone = *rounds.borrow();
        rounds.wait_for(|rounds| *rounds >= alone + BETWEEN).await.unwrap();
        second = serve(&pair, 1).await;
    }
    end.send_replace(true);
    let mut known = Vec::new();
    for task in living {
        known.push(tokio::time::timeout(PATIENCE, task).await.expect("no session hangs").unwrap());
    }
    let mut macs = Vec::new();
    for task in talking {
        macs.push(tokio::time::timeout(PATIENCE, task).await.expect("no exchange hangs").unwrap());
    }
    let left = async {
        let mut look = tokio::time::interval(Duration::from_millis(100));
        while !app.store.read(|c| outbox::list_rows(c, "queued", 0, 1)).await.unwrap().is_empty() {
            look.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, left).await.expect("every signal leaves");
    for node in [first, second] {
        node.stop();
    }

    assert_eq!(receiver.complaints(), [""; 0], "each device's flips in order, none missing");
    let dead = app.store.read(|c| outbox::list_rows(c, "dead", 0, 10)).await.unwrap();
    assert!(dead.is_empty(), "{dead:?}");
    let mut flips: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in receiver.events() {
        flips.entry(event.device.clone().unwrap()).or_default().push(event.current_status().unwrap().to_owned());
    }
    for Known { sim, device, enrollment, orders } in known {
        let sealer = app.sealer();
        let given = app.store.read(move |c| commands::list_commands(c, &sealer, std::slice::from_ref(&enrollment), 1000)).await.unwrap();
        let states: Vec<State> = given.iter().map(|order| order.state).collect();
        assert_eq!(states, vec![State::Done; orders as usize]);
        assert_eq!(sim.ran.get("reboot"), Some(&orders), "each order once");
        let flips = flips.remove(device.as_str()).unwrap_or_default();
        assert!(flips.len() >= orders as usize - 1, "{flips:?}");
        let now = app.store.read(move |c| compliance::find_verdict(c, &device)).await.unwrap().unwrap().verdict.compliant;
        assert_eq!(flips.last().map(String::as_str), Some(if now { "compliant" } else { "not-compliant" }));
    }
    for mac in macs {
        mac.prove(&app).await;
    }
    assert_eq!(pair.push.apns.state().complaints, [""; 0]);
    let report = audit::verify(&app, None).await.unwrap();
    assert_eq!(report.broken, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_side_by_side_on_an_empty_database_make_one_instance() {
    let Some(url) = db::postgres_url() else { return };
    let keys = Sealer::generate().unwrap().to_text();
    let starts = (0..3).map(|_| {
        let (location, sealer) = (Location::parse(&url), Sealer::parse(&keys).unwrap());
        tokio::spawn(async move {
            let store = tokio::task::spawn_blocking(move || Store::open(&location, 4)).await.unwrap().unwrap();
            let clock: Arc<dyn Clock> = Arc::new(SystemClock);
            let tenant = setup::create_tenant(&store, &sealer, "cli:test", clock.now()).await.unwrap();
            let mut config = Config::default();
            config.ca.key_algorithm = "p-256".into();
            let app = App::new(store, config, tenant, clock, sealer).unwrap();
            let welcome = setup::complete(&app, UPN, "cli:test").await.unwrap();
            (app, welcome)
        })
    });
    let nodes: Vec<_> = futures_util::future::join_all(starts).await.into_iter().map(Result::unwrap).collect();
    let first = &nodes[0].0;
    let root = authority::root_certificate(first).await.unwrap();
    for (app, welcome) in &nodes {
        assert_eq!((&app.tenant, welcome.administrator.as_str()), (&first.tenant, UPN));
        assert_eq!(authority::root_certificate(app).await.unwrap(), root);
    }
    assert_eq!(nodes.iter().filter(|(_, welcome)| welcome.pass.is_some()).count(), 1, "one administrator, who is told once");
    let names: Vec<_> = authority::list(first).await.unwrap().iter().map(|authority| authority.name.clone()).collect();
    assert_eq!(names, ["root", "issuing"]);
    assert_eq!(first.store.read(|c| users::list_users(c, "", 9)).await.unwrap().len(), 1);
    assert_eq!(audit::verify(first, None).await.unwrap().broken, None);
}
