//! Signals and wakes on their way: from the transaction of a change to somebody else's HTTP server.

mod keys;
mod missed;
mod order;
mod push;
mod wns;

use std::sync::Arc;
use std::time::Duration;

use muster::app::App;
use muster::clock::Clock;
use muster::config::Config;
use muster::domain::device::Platform;
use muster::domain::signal::{ComplianceChange, Initiator};
use muster::ids::DeviceId;
use muster::secret::{Sealer, Secret};
use muster::service::outbound;
use muster::service::outbox::Worker;
use muster::service::push::wns::WnsWake;
use muster::service::signals::push::SignalPush;
use muster::service::signals::{caep, issuer, receiver as receivers};
use muster::sim::receiver::{Expect, Receiver};
use muster::store::{audit, devices, outbox, users};
use openssl::x509::X509;

use crate::desired::{device, user};
use crate::support::server::{Options, Server};

/// What our receiver demands in `Authorization`.
const AUTHORIZATION: &str = "Bearer for-our-eyes";
/// Divides by the waits after the first failures so that each is waited for in full, but for a millisecond.
const JITTER: u64 = 7_999;
/// Longer than anything takes that goes well.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server, its worker, some devices, and a receiver of their signals.
struct Rig {
    server: Server,
    worker: Arc<Worker>,
    devices: Vec<DeviceId>,
    receiver: Receiver,
}

impl Rig {
    async fn new(count: usize) -> Self {
        Self::with(count, Options::default()).await
    }

    async fn tweaked(count: usize, tweak: impl FnOnce(&mut Config) + Send + 'static) -> Self {
        Self::with(count, Options { tweak: Box::new(tweak), ..Options::default() }).await
    }

    async fn with(count: usize, options: Options) -> Self {
        let system_clock = options.system_clock;
        let server = Server::with(options).await;
        let clock: Arc<dyn Clock> = if system_clock { Arc::new(muster::clock::SystemClock) } else { Arc::new(server.clock.clone()) };
        let expect = Expect {
            issuer: issuer(&server.app.config),
            audience: "urn:ours".into(),
            authorization: Some(AUTHORIZATION.into()),
            roots: X509::stack_from_pem(&server.root_pem).unwrap(),
            clock,
        };
        let receiver = Receiver::start("127.0.0.1:0".parse().unwrap(), None, expect).await.unwrap();
        add(&server.app, "ours", &receiver.url, "urn:ours").await;
        let devices = add_devices(&server.app, count).await;
        Self { worker: worker(&server.app), server, devices, receiver }
    }

    async fn flip(&self, device: usize, current: bool, reason: &str) {
        flip(&self.server.app, &self.devices[device], current, reason).await;
    }

    async fn drain(&self) -> usize {
        self.worker.drain().await.unwrap()
    }

    /// Rows of a state with the last error.
    async fn rows(&self, state: &'static str) -> Vec<String> {
        let rows = self.server.app.store.read(move |c| outbox::list_rows(c, state, 0, 1000)).await.unwrap();
        rows.into_iter().map(|row| row.last_error.unwrap_or_default()).collect()
    }

    async fn audited(&self, action: &'static str) -> usize {
        let rows = self.server.app.store.read(|c| audit::list(c, 0, 10_000)).await.unwrap();
        rows.iter().filter(|row| row.action == action).count()
    }
}

async fn add(app: &App, name: &str, url: &str, audience: &str) -> muster::domain::signal::Receiver {
    let new = receivers::NewReceiver {
        name: name.into(),
        endpoint_url: url.into(),
        audience: Some(audience.into()),
        authorization: Some(Secret::new(AUTHORIZATION.into())),
    };
    receivers::add(app, new, &muster::service::directory::By::local("cli:test")).await.unwrap()
}

async fn add_devices(app: &App, count: usize) -> Vec<DeviceId> {
    let owner = user("ana@example.org");
    let made: Vec<_> = (0..count).map(|n| device(&format!("PC{n}"), Platform::Windows, Some(&owner.id))).collect();
    let ids = made.iter().map(|d| d.id.clone()).collect();
    let now = app.now();
    app.store
        .write(move |tx| {
            users::insert_user(tx, &owner, now)?;
            made.iter().try_for_each(|device| devices::insert_device(tx, device, now))
        })
        .await
        .unwrap();
    ids
}

/// Commits a flip and rings.
async fn flip(app: &App, device: &DeviceId, current: bool, reason: &str) {
    let change = ComplianceChange {
        device: device.clone(),
        previous: !current,
        current,
        initiator: Initiator::Policy,
        reason: reason.into(),
        txn: "txn".into(),
    };
    let now = app.now();
    app.store.write(move |tx| caep::enqueue_compliance_change(tx, &change, now)).await.unwrap();
    app.outbox.notify_waiters();
}

fn worker(app: &Arc<App>) -> Arc<Worker> {
    let client = outbound::client(&app.config).unwrap();
    let deliverers: Vec<Box<dyn muster::service::outbox::Deliverer>> =
        vec![Box::new(SignalPush::new(client.clone())), Box::new(WnsWake::new(client))];
    Arc::new(Worker::with(Arc::clone(app), deliverers, || JITTER))
}

/// Another node on the same database.
fn node(server: &Server, clock: Arc<dyn Clock>) -> Arc<App> {
    let app = &server.app;
    let sealer = Sealer::parse(&app.sealer().to_text()).unwrap();
    Arc::new(App::new(app.store.clone(), (*app.config).clone(), app.tenant.clone(), clock, sealer).unwrap())
}
