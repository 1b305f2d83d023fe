//! Macs at two nodes: each command once, whichever node gives it and whichever takes its result.

use muster::domain::device::Platform;
use muster::sim::apple::Device;
use muster::sim::device::{self as any, Door, Kind};

use super::*;
use crate::support::apple::{Account, lock};

/// Macs beside the PCs.
pub(super) const MACS: u64 = 2;
/// Exchanges that bring a Mac to rest.
const EXCHANGES: u32 = 4;

/// A Mac with its account.
pub(super) struct Mac {
    sim: Device,
    account: Account,
    device: DeviceId,
    enrollment: EnrollmentId,
    orders: usize,
}

impl Mac {
    /// Enrols one that calls both nodes in turn.
    pub(super) async fn enroll(app: &App, pair: &Pair, door: &Door, number: u64) -> Self {
        let Ok(any::Device::Apple(sim)) = any::Device::enroll(door, Kind::Mac, number, &key()).await else {
            panic!("a Mac does not enrol")
        };
        let mut sim = *sim;
        sim.scep_key = Some(key());
        let own = Url::parse(&pair.url(1)).unwrap();
        let mut other = own.clone();
        other.set_port(Some(pair.ports[1][1])).unwrap();
        sim.nodes = vec![own, other];
        let udid = sim.machine.udid.clone();
        let found = app.store.read(move |c| enrollments::find_live_apple(c, &udid)).await.unwrap().unwrap();
        Self { sim, account: Account::default(), device: found.device_id, enrollment: found.id, orders: 0 }
    }

    async fn settle(&mut self) {
        for _ in 0..EXCHANGES {
            Account::open(&mut self.sim);
            let report = self.sim.connect().await.unwrap();
            self.account.note(&mut self.sim);
            if !self.sim.work().await.unwrap() && report.commands == 0 {
                break;
            }
        }
    }

    /// Rounds of changes, orders and exchanges until it is over; an order comes while the Mac talks.
    pub(super) async fn live(mut self, app: Arc<App>, over: watch::Receiver<bool>) -> Self {
        for round in 0.. {
            if round >= ROUNDS && *over.borrow() {
                break;
            }
            self.sim.settings.filevault = !round.is_multiple_of(2);
            device::sync(&app, &self.device, &by()).await.unwrap();
            let id = self.device.clone();
            let order = lock(&app, &id, Platform::MacOs);
            tokio::join!(self.settle(), order);
            self.orders += 1;
        }
        self.settle().await;
        self
    }

    /// Holds the database against its account.
    pub(super) async fn prove(self, app: &App) {
        let (sealer, enrollment) = (app.sealer(), self.enrollment);
        let given = app.store.read(move |c| commands::list_commands(c, &sealer, std::slice::from_ref(&enrollment), 10_000)).await.unwrap();
        let in_state = |state| given.iter().filter(|order| order.state == state).count();
        let (done, uncertain) = (in_state(State::Done), in_state(State::Uncertain));
        let ran = self.sim.ran.get("DeviceLock").copied().unwrap_or_default() as usize;
        assert_eq!(done + uncertain, self.orders, "{given:?}");
        // What a killed node had given out, and nobody heard, is not given again.
        assert!(uncertain <= KILLS as usize, "{uncertain} of {} orders are uncertain", self.orders);
        let taken = self.account.count("DeviceLock");
        let kept = taken..=taken + self.account.unheard("DeviceLock");
        assert!(kept.contains(&done), "each result that was taken, and no other: {done} of {kept:?}");
        assert!((done..=self.orders).contains(&ran), "{ran} locks for {} orders", self.orders);
        assert_eq!(self.sim.profiles.len(), 4, "{:?}", self.sim.refusals);
    }
}
