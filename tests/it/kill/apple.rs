//! Macs and iPhones while the server is killed: enrolments, certificates and results of commands that were taken are there afterwards, and
//! no command runs twice.

use muster::domain::device::Platform;
use muster::sim::apple::Error as AppleError;
use muster::sim::device::{Device as Any, Door, Error as AnyError, Kind};
use muster::sim::{apple, device as sim_device};

use super::*;
use crate::support::apple::{Account, lock};

/// Macs and iPhones at once.
pub(super) const SLOTS: u64 = 2;
/// Exchanges of a device before another one enrols in its place.
const EXCHANGES: u32 = 6;

/// A device with its account.
pub(super) struct Member {
    enrolled: String,
    device: apple::Device,
    account: Account,
}

impl World {
    /// What came of it; `None` when the server broke off, after it has come up again.
    async fn outcome_of<T>(&self, started: u64, result: Result<T, AppleError>) -> Option<T> {
        match result {
            // An installation that breaks off is a refusal on the device's side.
            Err(AppleError::Refused(refused)) if refused.domain == "MCSCEPErrorDomain" => {
                self.outcome(started, Err(Error::Connection(std::io::Error::other(refused.to_string())))).await
            }
            Err(AppleError::Connection(error)) => self.outcome(started, Err(Error::Connection(error))).await,
            result => Some(result.unwrap()),
        }
    }

    async fn enroll_apple(&self, number: u64) -> Member {
        let SignIn::Pass { user, pass } = self.sign_in.clone() else { panic!("no pass") };
        let door = Door { roots: self.roots.clone(), web: Url::parse(&self.config.web_url()).unwrap(), user, pass };
        let kind = if number.is_multiple_of(2) { Kind::Mac } else { Kind::Iphone };
        loop {
            let started = *self.starts.borrow();
            let enrolled = match sim_device::Device::enroll(&door, kind, number, &key()).await {
                Ok(Any::Apple(device)) => Ok(*device),
                Err(AnyError::Apple(error)) => Err(error),
                other => panic!("{other:?}"),
            };
            let Some(mut device) = self.outcome_of(started, enrolled).await else { continue };
            device.scep_key = Some(key());
            let enrolled = sha256(&device.enrollment.identity.certificate);
            self.ledger().apples.push((enrolled.clone(), device.machine.udid.clone()));
            self.acknowledge();
            return Member { enrolled, device, account: Account::default() };
        }
    }

    /// An exchange, as far as it gets, and what it started.
    async fn exchange(&self, member: &mut Member) -> bool {
        let started = *self.starts.borrow();
        Account::open(&mut member.device);
        let held = member.device.connect().await;
        for _ in 0..member.account.note(&mut member.device) {
            self.acknowledge();
        }
        for held in member.device.profiles.identities() {
            self.obtained(sha256(&held.certificate));
        }
        if self.outcome_of(started, held).await.is_none() {
            return false;
        }
        let started = *self.starts.borrow();
        let worked = member.device.work().await;
        self.outcome_of(started, worked).await.is_some()
    }

    /// Macs and iPhones, one after the other, until it is over; all of them.
    pub(super) async fn live_apple(self: Arc<Self>, slot: u64) -> Vec<Member> {
        let mut members = Vec::new();
        for number in slot * 1000.. {
            if self.over.load(Ordering::SeqCst) {
                break;
            }
            let mut member = self.enroll_apple(number).await;
            for count in 0..EXCHANGES {
                member.device.settings.filevault = !count.is_multiple_of(2);
                // Now and then most of it has to wait.
                member.device.settings.locked = count == 2;
                self.exchange(&mut member).await;
            }
            members.push(member);
        }
        members
    }

    /// The youngest of them are asked how they are, or get an order as well that may run once only.
    pub(super) async fn order_apple(&self, app: &App, locks: bool) {
        let youngest: Vec<String> = self.ledger().apples.iter().rev().take(4).map(|(sha256, _)| sha256.clone()).collect();
        for enrolled in youngest {
            let found = app.store.read(move |c| enrollments::find_identity(c, &enrolled)).await.unwrap().unwrap().enrollment;
            device::sync(app, &found.device_id, &by()).await.unwrap();
            if locks {
                lock(app, &found.device_id, found.platform).await;
            }
        }
    }

    /// Everybody gets along with the server that is left, and has what it should.
    pub(super) async fn gather(&self, members: &mut [Member]) {
        for member in members {
            member.device.settings.locked = false;
            for _ in 0..3 {
                assert!(self.exchange(member).await);
                member.device.settings.locked = false;
            }
            // An installation that broke off is tried again after a while.
            let broke = &member.device.refusals;
            assert!(broke.iter().all(|(_, why)| why.domain == "MCSCEPErrorDomain"), "{broke:?}");
            assert!(member.device.profiles.len() == 4 || !broke.is_empty(), "{}", member.device.machine.name);
        }
    }
}

/// Holds the database against what devices were told.
pub(super) async fn prove_apple(world: &World, app: &App, members: &[Member]) -> (usize, usize) {
    assert_eq!(world.push.apns.state().complaints, [""; 0]);
    let written: BTreeSet<(String, String)> =
        app.store.read(|c| muster::store::audit::list(c, 0, 1_000_000)).await.unwrap().into_iter().map(|r| (r.action, r.target)).collect();
    let enrolled = world.ledger().apples.clone();
    for (sha256, udid) in &enrolled {
        let own = sha256.clone();
        let found = app.store.read(move |c| enrollments::find_identity(c, &own)).await.unwrap();
        let found = found.unwrap_or_else(|| panic!("the enrolment of {udid} is gone")).enrollment;
        assert_eq!((&found.mdm_id, found.state), (udid, muster::domain::enrollment::State::Active));
        assert!(written.contains(&("enrollment.create".into(), format!("enrollment:{}", found.id))), "{udid}");
    }
    let (mut results, mut locks) = (0, 0);
    for Member { enrolled, device, account } in members {
        let own = enrolled.clone();
        let found = app.store.read(move |c| enrollments::find_identity(c, &own)).await.unwrap().unwrap().enrollment;
        let (sealer, id, of) = (app.sealer(), found.id, found.device_id);
        let orders = app.store.read(move |c| commands::list_commands(c, &sealer, std::slice::from_ref(&id), 1000)).await.unwrap();
        let in_state = |state| orders.iter().filter(|order| order.state == state).count();
        let ran = device.ran.get("DeviceLock").copied().unwrap_or_default() as usize;
        let name = &device.machine.name;
        assert_eq!(in_state(State::Done) + in_state(State::Uncertain), orders.len(), "{name}: {orders:?}");
        let taken = account.count("DeviceLock");
        let kept = taken..=taken + account.unheard("DeviceLock");
        assert!(kept.contains(&in_state(State::Done)), "{name}: what was taken is kept, and nothing else: {kept:?}, {orders:?}");
        assert!((in_state(State::Done)..=orders.len()).contains(&ran), "{name} locked itself {ran} times for {} orders", orders.len());
        let facts = app.store.read(move |c| facts::list_for_device(c, &of)).await.unwrap();
        let known = facts.contains_key(if found.platform == Platform::MacOs { "macos.filevault" } else { "apple.passcode-present" });
        assert!(known || account.count("SecurityInfo") == 0, "{name}: the answer to SecurityInfo is lost");
        results += account.taken.len();
        locks += ran;
    }
    (results, locks)
}
