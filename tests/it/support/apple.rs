//! Apple devices in tests: a push service with its certificate, and the account of what a device was told and of what it said.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use muster::app::App;
use muster::clock::DAY;
use muster::config::Config;
use muster::domain::assignment::{Mode, Target};
use muster::domain::device::Platform;
use muster::ids::DeviceId;
use muster::service::apple::push_certificate::{self, Import};
use muster::service::device::{self, Order};
use muster::service::profile;
use muster::sim::apns::{Apns, Authority};
use muster::sim::apple::Device;
use muster::wire::apple::COMMAND;
use muster::wire::apple::command::{Answer, Command as Given, Status};
use openssl::x509::X509Req;

use crate::support::apple_schema::{Target as SchemaTarget, schema};
use crate::support::windows::by;

/// Apple, as far as a server meets it.
pub struct Push {
    authority: Authority,
    pub apns: Apns,
}

impl Push {
    pub async fn start() -> Self {
        let authority = Authority::new().unwrap();
        Self { apns: Apns::start(&authority).await.unwrap(), authority }
    }

    /// Sets a server up that is opened in this process. Its root goes into the folder.
    pub fn configure(&self, config: &mut Config, folder: &Path) {
        let file = folder.join("apns.pem");
        std::fs::write(&file, &self.apns.root_pem).unwrap();
        (config.apple.apns.url, config.apple.apns.root_file) = (self.apns.url(), Some(file));
    }

    /// The same for a server of its own process.
    pub fn command(&self, command: &mut Command, folder: &Path) {
        let file = folder.join("apns.pem");
        std::fs::write(&file, &self.apns.root_pem).unwrap();
        command.args(["--set", &format!("apple.apns.url={}", self.apns.url())]);
        command.args(["--set", &format!("apple.apns.root_file={}", file.display())]);
    }

    /// Brings the push certificate, and gives the profiles and policies of both platforms to all devices.
    pub async fn settle_in(&self, app: &App) {
        let request = push_certificate::request(app, false, "cli:test", "local").await.unwrap();
        let key = X509Req::from_der(&request).unwrap().public_key().unwrap();
        let (from, to) = (app.now().seconds(), app.now().plus(365 * DAY).seconds());
        let certificate = self.authority.push_certificate(&key, "com.apple.mgmt.External.test", from, to).unwrap();
        let certificate = String::from_utf8(certificate.to_pem().unwrap()).unwrap();
        push_certificate::import(
            app,
            Import { certificate, key: None, replace_topic: false, confirmed: false, account: None },
            "cli:test",
            "local",
        )
        .await
        .unwrap();
        for platform in ["macos", "ios"] {
            for baseline in ["trusted-root", "passcode", "scep-device-certificate", "compliance"] {
                let file = format!("{platform}-{baseline}");
                let mut draft = profile::ready().unwrap().into_iter().find(|(name, _)| *name == file).unwrap().1;
                if let Some(rules) = &mut draft.document.compliance {
                    rules.grace_hours = 0;
                }
                let id = profile::apply(app, draft, &by()).await.unwrap().profile.id;
                profile::assign(app, &id, Mode::Include, Target::AllDevices, &by()).await.unwrap();
            }
        }
    }
}

/// Orders a device to lock itself: an order that is never given twice.
pub async fn lock(app: &App, id: &DeviceId, platform: Platform) {
    let values =
        if platform == Platform::MacOs { [("pin".to_owned(), "123456".to_owned())].into_iter().collect() } else { BTreeMap::new() };
    device::command(app, id, Order::With("lock".into(), values), true, &by()).await.unwrap();
}

/// What a device was told on its command channel, and which of its results were taken.
#[derive(Default)]
pub struct Account {
    /// The request of each command, by its name on the wire.
    pub given: BTreeMap<String, String>,
    /// Commands whose results were taken.
    pub taken: BTreeSet<String>,
    /// Commands whose result was sent, and no answer heard.
    unheard: BTreeSet<String>,
}

/// Holds what was kept of a device's command channel against Apple's schema: each command, and each result that acknowledges one.
pub fn judge(device: &mut Device, target: SchemaTarget) {
    let Some(schema) = schema() else { return };
    let mut given = BTreeMap::new();
    for heard in device.heard.take().unwrap().into_iter().filter(|heard| !heard.is_empty()) {
        let command = Given::decode(&heard).unwrap();
        let findings = schema.command(&command.to_value(), target);
        assert!(findings.is_empty(), "{findings:#?}");
        given.insert(command.uuid, command.request_type);
    }
    for (_, said) in device.said.take().unwrap().into_iter().filter(|(media, _)| *media == COMMAND) {
        let said = Answer::decode(&said).unwrap();
        if let (Status::Acknowledged, Some(request)) = (said.status, said.command_uuid.and_then(|uuid| given.get(&uuid))) {
            let findings = schema.result(request, &said.body, target);
            assert!(findings.is_empty(), "{findings:#?}");
        }
    }
}

impl Account {
    /// From now on everything that the device says and hears is kept.
    pub fn open(device: &mut Device) {
        (device.said, device.heard) = (Some(Vec::new()), Some(Vec::new()));
    }

    /// Notes what was kept; how many results were taken. A command whose result was taken never comes again.
    pub fn note(&mut self, device: &mut Device) -> usize {
        let said = device.said.take().unwrap().into_iter().filter(|(media, _)| *media == COMMAND);
        let before = self.taken.len();
        // Of what was answered last the device may have heard nothing.
        let heard = device.heard.take().unwrap().into_iter().map(Some).chain(std::iter::repeat(None));
        for ((_, said), heard) in said.zip(heard) {
            let said = Answer::decode(&said).unwrap();
            if let Some(uuid) = said.command_uuid.filter(|_| !matches!(said.status, Status::Idle | Status::NotNow)) {
                assert!(self.given.contains_key(&uuid));
                if heard.is_some() {
                    self.taken.insert(uuid)
                } else {
                    self.unheard.insert(uuid)
                };
            }
            if let Some(heard) = heard.filter(|heard| !heard.is_empty()) {
                let given = Given::decode(&heard).unwrap();
                assert!(!self.taken.contains(&given.uuid), "{} came again after its result was taken", given.request_type);
                self.given.insert(given.uuid, given.request_type);
            }
        }
        self.taken.len() - before
    }

    /// How many results of that request were taken.
    pub fn count(&self, request: &str) -> usize {
        self.taken.iter().filter(|uuid| self.given[*uuid] == request).count()
    }

    /// How many results of that request were sent without an answer: nobody knows whether they were taken.
    pub fn unheard(&self, request: &str) -> usize {
        self.unheard.difference(&self.taken).filter(|uuid| self.given[*uuid] == request).count()
    }
}
