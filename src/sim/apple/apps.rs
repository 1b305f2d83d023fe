//! Applications of a simulated device: it fetches manifests and packages outside of exchanges, takes only what has the hashes that the
//! manifest names, and tells what became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use reqwest::Url;

use super::super::http::Client;
use super::connect::{Reply, UNUSABLE};
use super::declared_apps::Declared;
use super::profiles::Refused;
use super::{Device, Error};
use crate::catalogue::payload::System;
use crate::wire::apple::app::Manifest;
use crate::wire::plist::{Dict, Value};

/// Statuses that are told once.
const TOLD_ONCE: [&str; 5] = ["UserInstalledApp", "UserRejected", "UpdateRejected", "ManagementRejected", "Failed"];
/// Not one of the applications that this device manages.
const NOT_MANAGED: i64 = 12_022;

/// The App Store, as far as devices see it.
#[derive(Debug, Default)]
pub struct Shop {
    /// Bundle identifier and version of its applications, by their numbers.
    pub apps: BTreeMap<i64, (String, String)>,
    /// Which devices have licences, by serial number, of what.
    pub licences: Mutex<BTreeSet<(String, i64)>>,
}

/// What the user of a device does with applications.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum User {
    /// Lets them be installed.
    #[default]
    Agrees,
    /// Refuses them.
    Refuses,
    /// Leaves the question open.
    Waits,
}

/// An application on the device.
#[derive(Clone, Debug, PartialEq)]
pub struct App {
    /// Its version.
    pub version: String,
    /// The package's size in bytes.
    pub size: usize,
    /// The server manages it.
    pub managed: bool,
    /// Goes with the management.
    pub leaves: bool,
    /// What it reads as its managed configuration.
    pub configuration: Option<Dict>,
    /// The identifier of the network that it uses.
    pub vpn: Option<String>,
}

/// Where an application comes from.
#[derive(Clone, Debug)]
enum Source {
    Store { id: i64, licence: bool },
    Manifest(Manifest),
    Url(Url),
}

#[derive(Clone, Debug)]
struct Pending {
    source: Source,
    app: App,
    takes_over: bool,
}

/// The applications of a device.
#[derive(Debug, Default)]
pub struct Apps {
    /// Those that are there, by bundle identifier.
    pub installed: BTreeMap<String, App>,
    /// What the user does.
    pub user: User,
    /// The store that it buys from.
    pub shop: Option<Arc<Shop>>,
    /// Why applications were not installed.
    pub failures: Vec<String>,
    /// How many packages were downloaded.
    pub downloads: usize,
    /// Those that it has by declaration.
    pub(super) declared: Declared,
    status: BTreeMap<String, &'static str>,
    pending: Vec<Pending>,
}

fn unusable(why: &str) -> Reply {
    Refused::command(UNUSABLE, why).into()
}

fn https(text: &str) -> Result<Url, Reply> {
    Url::parse(text).ok().filter(|url| url.scheme() == "https").ok_or_else(|| unusable("an address that does not begin with https"))
}

impl Apps {
    /// The user takes an application away.
    pub fn uninstall(&mut self, bundle: &str) {
        if self.installed.remove(bundle).is_some_and(|app| app.managed) && !self.declared.lost(bundle) {
            self.status.insert(bundle.to_owned(), "ManagedButUninstalled");
        }
    }

    /// Management ends.
    pub(super) fn leave(&mut self) {
        self.installed.retain(|_, app| !(app.managed && app.leaves));
        self.installed.values_mut().for_each(|app| app.managed = false);
        self.status.clear();
        self.pending.clear();
        self.declared = Declared::default();
    }

    /// The device keeps it by declaration from now on: commands do not reach it any more.
    pub(super) fn transfer(&mut self, bundle: &str) {
        self.status.remove(bundle);
    }
}

impl Device {
    /// Takes the order to install an application. What becomes of it shows later.
    pub(super) fn install_app(&mut self, request: &str, body: &Dict) -> Result<Dict, Reply> {
        let mac = self.machine.system == System::Mac;
        let (manifest, url, store) = (body.dict("Manifest"), body.string("ManifestURL"), body.integer("iTunesStoreID"));
        let source = match (manifest, url) {
            (None, None) if request == "InstallApplication" && store.is_some() => {
                let licence = body.dict("Options").and_then(|options| options.integer("PurchaseMethod")) == Some(1);
                Source::Store { id: store.unwrap_or_default(), licence }
            }
            (Some(manifest), None) if mac => {
                let manifest = Manifest::from_dict(manifest).map_err(|problem| unusable(&problem.to_string()))?;
                https(&manifest.url)?;
                Source::Manifest(manifest)
            }
            (None, Some(url)) if store.is_none() => Source::Url(https(url)?),
            _ => return Err(unusable("exactly one source is needed")),
        };
        let flags = body.integer("ManagementFlags").unwrap_or(0);
        let app = App {
            version: String::new(),
            size: 0,
            managed: !mac || body.boolean("InstallAsManaged") == Some(true),
            leaves: flags & 1 == 1,
            configuration: body.dict("Configuration").cloned(),
            vpn: body.dict("Attributes").and_then(|attributes| attributes.string("VPNUUID")).map(str::to_owned),
        };
        let takes_over = body.string("ChangeManagementState") == Some("Managed");
        self.apps.pending.push(Pending { source, app, takes_over });
        Ok(if request == "InstallApplication" { Dict::new().with("State", "Queued") } else { Dict::new() })
    }

    /// The name of the network through which an application speaks, when it has one of its own.
    #[must_use]
    pub fn vpn_of(&self, bundle: &str) -> Option<&str> {
        let mappings = self.profiles.payloads("com.apple.vpn.managed.appmapping");
        let mapped = mappings.flat_map(|payload| payload.body.array("AppLayerVPNMapping").unwrap_or_default()).filter_map(Value::as_dict);
        let mapped = mapped.filter(|entry| entry.string("Identifier") == Some(bundle)).find_map(|entry| entry.string("VPNUUID"));
        let own = self.apps.installed.get(bundle).and_then(|app| app.vpn.as_deref()).or(mapped)?;
        let mut networks = self.profiles.payloads("com.apple.vpn.managed.applayer");
        networks.find(|payload| payload.body.string("VPNUUID") == Some(own))?.body.string("UserDefinedName")
    }

    /// Installs what it was told to.
    pub(super) async fn install_apps(&mut self) -> Result<(), Error> {
        for pending in std::mem::take(&mut self.apps.pending) {
            match self.fetch_app(&pending).await {
                Ok((manifest, size)) => self.put_app(&manifest, size, pending.app, pending.takes_over),
                Err(why) => self.apps.failures.push(why),
            }
        }
        Ok(())
    }

    /// Fetches manifest and package. An iPhone knows which application failed only when it has read the manifest.
    async fn fetch_app(&mut self, pending: &Pending) -> Result<(Manifest, usize), String> {
        let manifest = match &pending.source {
            Source::Store { id, licence } => return self.buy(*id, *licence),
            Source::Manifest(manifest) => manifest.clone(),
            Source::Url(url) => self.manifest(url.as_str()).await?,
        };
        if self.apps.declared.has(&manifest.bundle_id) {
            return Err("command: the application is kept by declaration".into());
        }
        match self.package(&manifest).await {
            Ok(size) => Ok((manifest, size)),
            Err(why) => {
                self.apps.status.insert(manifest.bundle_id, "Failed");
                Err(why)
            }
        }
    }

    /// Reads a manifest.
    pub(super) async fn manifest(&mut self, url: &str) -> Result<Manifest, String> {
        let url = https(url).map_err(|_| "manifest: an address that does not begin with https".to_owned())?;
        let document = self.download_app(&url).await.map_err(|error| format!("manifest: {error}"))?;
        Manifest::decode(&document).map_err(|problem| format!("manifest: {problem}"))
    }

    /// Downloads the package of a manifest; its size.
    pub(super) async fn package(&mut self, manifest: &Manifest) -> Result<usize, String> {
        let url = https(&manifest.url).map_err(|_| "package: an address that does not begin with https".to_owned())?;
        let package = self.download_app(&url).await.map_err(|error| format!("package: {error}"))?;
        self.apps.downloads += 1;
        if manifest.fits(&package) { Ok(package.len()) } else { Err("package: not the one that the manifest means".into()) }
    }

    /// Gets an application from the store: with the device's licence, or its user's account, which nobody has here.
    pub(super) fn buy(&mut self, id: i64, licence: bool) -> Result<(Manifest, usize), String> {
        let found = self.apps.shop.as_ref().and_then(|shop| Some((Arc::clone(shop), shop.apps.get(&id)?.clone())));
        let Some((shop, (bundle_id, version))) = found else { return Err(format!("store: nothing has the number {id}")) };
        let has = shop.licences.lock().is_ok_and(|held| held.contains(&(self.machine.serial.clone(), id)));
        if !(licence && has) {
            self.apps.status.insert(bundle_id, if licence { "Failed" } else { "PromptingForLogin" });
            return Err(format!("store: no licence for {id}"));
        }
        let (url, title) = (String::new(), bundle_id.clone());
        Ok((Manifest { url, part_size: 1, sha256s: Vec::new(), bundle_id, version, title }, 1))
    }

    /// Downloads something; not as itself, as the system's own downloads are.
    async fn download_app(&self, url: &Url) -> Result<Vec<u8>, Error> {
        let answer = Client::new(&self.roots, None)?.send("GET", url, &[], &[]).await?;
        if answer.status == 200 { Ok(answer.body) } else { Err(Error::Http(answer.status, answer.said())) }
    }

    fn put_app(&mut self, manifest: &Manifest, size: usize, mut app: App, takes_over: bool) {
        let bundle = manifest.bundle_id.clone();
        let mac = self.machine.system == System::Mac;
        let known = self.apps.installed.get(&bundle);
        // Macs and supervised devices ask nobody.
        let silent = mac || self.machine.supervised;
        let status = match (known, self.apps.user) {
            (Some(known), _) if !mac && !known.managed && !takes_over => "UserInstalledApp",
            (_, User::Refuses) if !silent => "UserRejected",
            (_, User::Waits) if !silent => "Prompting",
            _ => {
                app.version = manifest.version.clone();
                app.size = size;
                self.apps.installed.insert(bundle.clone(), app);
                "Managed"
            }
        };
        self.apps.status.insert(bundle, status);
    }

    /// Takes a managed application away.
    pub(super) fn remove_app(&mut self, bundle: &str) -> Result<Dict, Reply> {
        if !self.apps.installed.get(bundle).is_some_and(|app| app.managed) || self.apps.declared.has(bundle) {
            return Err(Refused::command(NOT_MANAGED, format!("\u{201c}{bundle}\u{201d} is not a managed application.")).into());
        }
        self.apps.installed.remove(bundle);
        self.apps.status.remove(bundle);
        Ok(Dict::new().with("Identifier", bundle))
    }

    /// Tells how far it is with the applications that the server manages.
    pub(super) fn managed_apps(&mut self, body: &Dict) -> Dict {
        let asked = asked(body);
        let mut list = Dict::new();
        for (bundle, status) in &self.apps.status {
            if asked.as_ref().is_some_and(|asked| !asked.contains(bundle)) {
                continue;
            }
            let app = self.apps.installed.get(bundle);
            let leaves = i64::from(app.is_some_and(|app| app.leaves));
            let configured = app.is_some_and(|app| app.configuration.is_some());
            let entry = Dict::new().with("Status", *status).with("ManagementFlags", leaves).with("UnusedRedemptionCode", "");
            let entry = entry.with("HasConfiguration", configured).with("HasFeedback", false).with("IsValidated", true);
            list.insert(bundle.as_str(), entry.with("ExternalVersionIdentifier", 0));
        }
        self.apps.status.retain(|bundle, status| !TOLD_ONCE.contains(status) || list.get(bundle).is_none());
        Dict::new().with("ManagedApplicationList", list)
    }

    /// Tells which applications are there.
    pub(super) fn installed_apps(&self, body: &Dict) -> Vec<Value> {
        let asked = asked(body);
        let listed = |bundle: &str| asked.as_ref().is_none_or(|asked| asked.iter().any(|asked| asked == bundle));
        let entry = |bundle: &str, name: &str, version: &str, short: &str, size: i64| {
            let app = Dict::new().with("Name", name).with("Identifier", bundle).with("Version", version);
            Value::Dict(app.with("ShortVersion", short).with("BundleSize", size))
        };
        let own = (0..3).map(|at| (format!("org.example.app{at}"), format!("App {at}")));
        let own = own.filter(|(bundle, _)| listed(bundle)).map(|(bundle, name)| entry(&bundle, &name, "1.2", "1", 4096));
        let managed = self.apps.installed.iter().filter(|(bundle, _)| listed(bundle));
        let managed =
            managed.map(|(bundle, app)| entry(bundle, bundle, &app.version, &app.version, i64::try_from(app.size).unwrap_or(i64::MAX)));
        own.chain(managed).collect()
    }
}

fn asked(body: &Dict) -> Option<Vec<String>> {
    Some(body.array("Identifiers")?.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}
