//! Two nodes on one database, and one of them goes away in the middle.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use muster::app::App;
use muster::clock::SystemClock;
use muster::domain::command::State;
use muster::ids::{DeviceId, EnrollmentId};
use muster::secret::Sealer;
use muster::service::device::{self, Order};
use muster::service::outbox::{self, Worker};
use muster::service::signals::receiver::{self as receivers, NewReceiver};
use muster::service::{audit, signals};
use muster::sim::receiver::{Expect, Receiver};
use muster::sim::windows::Device;
use muster::store::{Location, Store, commands, compliance, enrollments};
use tokio::sync::watch;

use crate::support::db;
use crate::support::server::{Options, Server};
use crate::support::windows::{House, by};

const DEVICES: u64 = 4;
const ROUNDS: u32 = 8;
/// How many rounds all devices together have done when the second node goes away.
const END_OF_ONE: u32 = 14;

async fn node(url: &str, first: Option<&Server>) -> Server {
    let sealer = first.map(|first| Sealer::parse(&first.app.sealer().to_text()).unwrap());
    let web = first.map(|first| first.web.clone());
    let store = Store::open(&Location::Postgres(url.to_owned()), 8).unwrap();
    Server::with(Options {
        store: Some(store),
        sealer,
        system_clock: true,
        // One name for both towards the outside.
        tweak: Box::new(move |config| config.web.url = web),
        ..Options::default()
    })
    .await
}

/// A device with what the server calls it.
struct Known {
    sim: Device,
    device: DeviceId,
    enrollment: EnrollmentId,
    orders: u32,
}

impl Known {
    async fn new(house: &House, number: u64, other: &Server) -> Self {
        let mut sim = house.enroll(number).await;
        let own = sim.identity.management_url().unwrap();
        let mut others = own.clone();
        others.set_port(other.device.rsplit_once(':').unwrap().1.parse().ok()).unwrap();
        sim.nodes = vec![own, others];
        let sha256 = hex::encode(openssl::sha::sha256(&sim.identity.certificate.to_der().unwrap()));
        let found = house.server.app.store.read(move |c| enrollments::find_identity(c, &sha256)).await.unwrap().unwrap().enrollment;
        Self { sim, device: found.device_id, enrollment: found.id, orders: 0 }
    }

    /// Rounds of changes, orders and sessions; an order comes while a session is held.
    async fn live(mut self, apps: [Arc<App>; 2], done: watch::Sender<u32>) -> Self {
        for round in 0..ROUNDS {
            let app = Arc::clone(&apps[round as usize % 2]);
            // Breaks or mends what the compliance policy asks for.
            self.sim.tree.switch_bitlocker(!round.is_multiple_of(2));
            device::sync(&app, &self.device, &by()).await.unwrap();
            let admin = by();
            let order = device::command(&app, &self.device, Order::Known("reboot".into()), true, &admin);
            let sync = device::sync(&app, &self.device, &admin);
            let (session, ordered, synced) = tokio::join!(self.sim.settle(), order, sync);
            session.unwrap();
            ordered.unwrap();
            synced.unwrap();
            self.orders += 1;
            done.send_modify(|rounds| *rounds += 1);
        }
        // What the last order left to do.
        self.sim.settle().await.unwrap();
        self
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_goes_away_ends_no_session_repeats_no_order_and_loses_no_signal() {
    let Some(url) = db::postgres_url() else { return };
    let first = node(&url, None).await;
    let mut second = node(&url, Some(&first)).await;
    let house = House::on(first).await;
    let app = &house.server.app;
    let expect = Expect {
        issuer: signals::issuer(&app.config),
        audience: "urn:ours".into(),
        authorization: None,
        roots: house.roots(),
        clock: Arc::new(SystemClock),
    };
    let receiver = Receiver::start("127.0.0.1:0".parse().unwrap(), None, expect).await.unwrap();
    let ours =
        NewReceiver { name: "ours".into(), endpoint_url: receiver.url.clone(), audience: Some("urn:ours".into()), authorization: None };
    receivers::add(app, ours, "cli:test").await.unwrap();
    for baseline in ["windows-hello-for-business", "trusted-root", "scep-device-certificate", "windows-compliance"] {
        house.assign_baseline(baseline).await;
    }
    let workers = [Arc::clone(app), Arc::clone(&second.app)].map(|app| outbox::start(app).unwrap());
    let (done, mut rounds) = watch::channel(0);
    let mut living = Vec::new();
    for number in 0..DEVICES {
        let known = Known::new(&house, number, &second).await;
        living.push(tokio::spawn(known.live([Arc::clone(app), Arc::clone(&second.app)], done.clone())));
    }
    rounds.wait_for(|rounds| *rounds >= END_OF_ONE).await.unwrap();
    drop(second.running.take());
    let [worker, other] = workers;
    other.stop().await;
    let mut known = Vec::new();
    for task in living {
        known.push(tokio::time::timeout(Duration::from_secs(120), task).await.expect("no session hangs").unwrap());
    }
    worker.stop().await;
    while !app.store.read(|c| muster::store::outbox::list_rows(c, "queued", 0, 1)).await.unwrap().is_empty() {
        Arc::new(Worker::new(Arc::clone(app)).unwrap()).drain().await.unwrap();
    }

    assert_eq!(receiver.complaints(), [""; 0], "each device's flips in order, none missing");
    let dead = app.store.read(|c| muster::store::outbox::list_rows(c, "dead", 0, 10)).await.unwrap();
    assert!(dead.is_empty(), "{dead:?}");
    let mut flips: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in receiver.events() {
        flips.entry(event.device.clone().unwrap()).or_default().push(event.current_status().unwrap().to_owned());
    }
    for Known { sim, device, enrollment, orders } in known {
        let sealer = app.sealer();
        let given = app.store.read(move |c| commands::list_commands(c, &sealer, &enrollment, 1000)).await.unwrap();
        let states: Vec<State> = given.iter().map(|order| order.state).collect();
        assert_eq!(states, vec![State::Done; orders as usize]);
        assert_eq!(sim.ran.get("reboot"), Some(&orders), "each order once");
        let flips = flips.remove(device.as_str()).unwrap_or_default();
        assert!(flips.len() >= ROUNDS as usize - 1, "{flips:?}");
        let now = app.store.read(move |c| compliance::find_verdict(c, &device)).await.unwrap().unwrap().verdict.compliant;
        assert_eq!(flips.last().map(String::as_str), Some(if now { "compliant" } else { "not-compliant" }));
    }
    let report = audit::verify(app).await.unwrap();
    assert_eq!(report.broken, None);
}
