//! The devices of the demo: they enrol, settle, break rules and leave. PCs call by themselves; Macs and iPhones come when they are woken.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::StreamExt as _;
use openssl::x509::X509;
use reqwest::Url;

use super::board::Board;
use super::{Arguments, Placed, SHARE};
use crate::app::App;
use crate::cli::find;
use crate::domain::tap::Policy;
use crate::ids::{DeviceId, UserId};
use crate::service::device;
use crate::service::directory::By;
use crate::service::identity::tap;
use crate::sim::apns::Apns;
use crate::sim::device::{Device, Door, Kind, new_key};
use crate::sim::receiver::Receiver;

/// How long a wake or a signal may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often devices call in once everything is shown.
const CALL: Duration = Duration::from_secs(3);
/// Rounds of calls after which a device must have everything.
const ROUNDS: usize = 4;

/// All devices: PCs, then Macs, then iPhones.
pub(super) struct Fleet {
    pub(super) placed: Vec<Placed>,
    pub(super) apns: Arc<Apns>,
    concurrency: usize,
    /// How many PCs there are.
    pcs: usize,
}

impl Fleet {
    /// Enrols the fleet, a few at a time.
    pub(super) async fn enroll(
        app: &Arc<App>,
        arguments: &Arguments,
        users: &[(UserId, String)],
        root: &X509,
        by: &By,
        board: &Board,
        apns: Arc<Apns>,
    ) -> anyhow::Result<Self> {
        board.begin("enrolling", u64::from(arguments.devices));
        let policy = Policy { one_time: false, ..Policy::default() };
        let web = Url::parse(&app.config.web_url())?;
        let mut doors = Vec::new();
        for (id, upn) in users {
            let pass = tap::create(app, id, policy, None, &by.actor, "local").await?.show().to_owned();
            doors.push(Door { roots: vec![root.clone()], web: web.clone(), user: upn.clone(), pass });
        }
        // One iPhone obeys what only supervised ones do.
        let as_it_is = |kind, number| if (kind, number) == (Kind::Iphone, 2) { Kind::SupervisedIphone } else { kind };
        let machines =
            arguments.kinds().into_iter().flat_map(|(kind, count)| (1..=count).map(move |number| (as_it_is(kind, number), number)));
        let jobs = (0..).zip(machines).map(|(place, (kind, number))| {
            let door = doors.get((place / SHARE) as usize).cloned();
            async move {
                let door = door.context("no user for the device")?;
                let key = tokio::task::spawn_blocking(new_key).await??;
                let mut device = Device::enroll(&door, kind, u64::from(number), &key).await?;
                if let (Kind::Mac, Device::Apple(mac)) = (kind, &mut device) {
                    // No profile of the demo asks for FileVault, but its policy does.
                    mac.settings.filevault = true;
                }
                let id = match &device {
                    Device::Windows(pc) => DeviceId::parse(&pc.identity.management.entity_id).context("the server gave no device id")?,
                    Device::Apple(_) => find::device(app, device.found_by()).await?.id,
                };
                board.enrolled(place, device.name(), platform(kind), &id);
                board.step();
                anyhow::Ok(Placed { id, device, certificate: None, woken: 0 })
            }
        });
        let concurrency = arguments.concurrency as usize;
        let all: Vec<anyhow::Result<Placed>> = futures_util::stream::iter(jobs).buffered(concurrency).collect().await;
        board.end();
        let placed = all.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        let pcs = placed.iter().filter(|placed| matches!(placed.device, Device::Windows(_))).count();
        Ok(Self { placed, apns, concurrency, pcs })
    }

    /// Holds calls until every device has what it should.
    pub(super) async fn settle(&mut self, board: &Board) -> anyhow::Result<()> {
        board.begin("management", self.placed.len() as u64);
        let jobs = (0..).zip(self.placed.iter_mut()).map(|(place, placed)| async move {
            for _ in 0..ROUNDS {
                if placed.device.settle().await? == 0 {
                    break;
                }
            }
            placed.certificate = placed.device.certificates()?.into_iter().next();
            if let Some(held) = &placed.certificate {
                board.holds(place, &held.certificate.serial_number().to_bn()?.to_hex_str()?);
            }
            board.step();
            anyhow::Ok(())
        });
        let all: Vec<anyhow::Result<()>> = futures_util::stream::iter(jobs).buffered(self.concurrency).collect().await;
        board.end();
        all.into_iter().collect()
    }

    /// The devices that break the rules: the first PC and the first Mac.
    pub(super) fn outlaws(&self) -> [usize; 2] {
        [0, self.pcs]
    }

    /// The devices that are retired: the last PC and the last iPhone.
    pub(super) fn leavers(&self) -> [usize; 2] {
        [self.pcs.saturating_sub(1), self.placed.len().saturating_sub(1)]
    }

    fn at(&mut self, at: usize) -> anyhow::Result<(&mut Placed, &Apns)> {
        Ok((self.placed.get_mut(at).context("no device")?, &self.apns))
    }

    /// Encrypts the volume of a device no more, lets it report, and waits for the signal.
    pub(super) async fn fall(&mut self, app: &App, at: usize, receiver: &Receiver, by: &By) -> anyhow::Result<Option<String>> {
        let (placed, apns) = self.at(at)?;
        match &mut placed.device {
            Device::Windows(pc) => pc.tree.switch_bitlocker(false),
            Device::Apple(mac) => mac.settings.filevault = false,
        }
        let before: BTreeSet<String> = receiver.events().into_iter().map(|event| event.jti).collect();
        device::sync(app, &placed.id, by).await?;
        placed.come(apns).await?;
        let id = placed.id.to_string();
        let falls = |event: &crate::sim::receiver::Accepted| {
            !before.contains(&event.jti) && event.device.as_deref() == Some(&id) && event.current_status() == Some("not-compliant")
        };
        Ok(receiver.wait_for(falls, PATIENCE).await.map(|event| event.jti))
    }

    /// Retires a device, which then hears the order and leaves.
    pub(super) async fn retire(&mut self, app: &App, at: usize, by: &By) -> anyhow::Result<()> {
        let (placed, apns) = self.at(at)?;
        device::retire(app, &placed.id, &by.actor, &by.origin).await?;
        placed.come(apns).await?;
        ensure!(placed.device.left(), "the retired device was not told to leave");
        Ok(())
    }

    /// PCs call in now and then, so that orders reach them; the others when they are woken.
    pub(super) async fn live_on(&mut self) {
        loop {
            for placed in self.placed.iter_mut().filter(|placed| !placed.device.left()) {
                let wakes = placed.wakes(&self.apns);
                if matches!(placed.device, Device::Apple(_)) && std::mem::replace(&mut placed.woken, wakes) == wakes {
                    continue;
                }
                let locked = placed.device.locked();
                if let Err(error) = placed.device.settle().await {
                    tracing::debug!(%error, "a call of the demo failed");
                }
                if locked {
                    // The wake had its user look at it; unlocked, it calls by itself the next time.
                    placed.device.unlock();
                    placed.woken = 0;
                }
            }
            tokio::time::sleep(CALL).await;
        }
    }
}

impl Placed {
    /// How often the push service woke it.
    fn wakes(&self, apns: &Apns) -> usize {
        match &self.device {
            Device::Windows(_) => 0,
            Device::Apple(device) => apns.wakes(device.push_address()),
        }
    }

    /// Calls the server, when it is woken where that is its way.
    async fn come(&mut self, apns: &Apns) -> anyhow::Result<()> {
        if let Device::Apple(device) = &self.device {
            ensure!(apns.wait_for(device.push_address(), self.woken, PATIENCE).await, "{} was not woken", device.machine.name);
            // Whoever uses it has it unlocked by then.
            self.device.unlock();
        }
        self.woken = self.wakes(apns);
        self.device.settle().await?;
        Ok(())
    }
}

fn platform(kind: Kind) -> &'static str {
    match kind {
        Kind::Windows => "windows",
        Kind::Mac => "macos",
        Kind::Iphone | Kind::SupervisedIphone => "ios",
    }
}
