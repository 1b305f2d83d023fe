//! Applications on Apple devices: packages of ours and other people's manifests, from the file to the list of what is installed.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::sync::{Arc, Mutex};

use muster::clock::{DAY, HOUR, MINUTE, Time};
use muster::domain::apple::app::{LARGEST_PACKAGE, PART};
use muster::domain::assignment::{Mode, Target};
use muster::domain::desired::{Record, State};
use muster::ids::{DeviceId, ProfileId};
use muster::service::apple::packages::{self, New};
use muster::service::profile::{self, Draft};
use muster::service::{Error, Result};
use muster::sim::apple::apps::User;
use muster::sim::apple::{Device, Machine};
use muster::sim::listener::{self, Answer as Http, Listener, Tls};
use muster::store::enrollments;
use muster::wire::apple::app::Manifest;
use muster::wire::apple::command::Command;
use muster::wire::plist::Dict;

use crate::apple_enroll::{live, on, profile};
use crate::support::apple::{Account, judge};
use crate::support::apple_schema::{Target as SchemaTarget, schema};
use crate::support::ca::Ca;
use crate::support::windows::{House, by, key};

pub const BUNDLE: &str = "org.example.broker";

/// A file with that beginning, as long as that.
pub fn file(head: &[u8], size: usize) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    // Of an installer package more is looked at than its first word.
    let head = if head == b"xar!" { &muster::domain::apple::package::XAR } else { head };
    let mut content = vec![7; size];
    content[..head.len().min(size)].copy_from_slice(&head[..head.len().min(size)]);
    file.write_all(&content).unwrap();
    file
}

pub fn new(version: &str) -> New {
    New { name: "broker".into(), bundle_id: BUNDLE.into(), version: version.into(), title: "Broker".into(), replace: false }
}

pub async fn add(house: &House, head: &[u8], size: usize, new: New) -> Result<serde_json::Value> {
    packages::add(&house.server.app, file(head, size).path(), new, "cli:test", "local").await
}

pub fn draft(platform: &str, name: &str, payload: &str) -> Draft {
    let text = format!(
        "display_name = \"{name}\"\nkind = \"configuration\"\nplatform = \"{platform}\"\n[[document.payloads]]\ntype = \"enterprise-app\"\nname = \"broker\"\nbundle-id = \"{BUNDLE}\"\n{payload}"
    );
    Draft::parse(&text).unwrap()
}

pub async fn enrolled(house: &House, machine: Machine, more: Option<&Ca>) -> (Device, DeviceId) {
    let mut roots = house.roots();
    roots.extend(more.map(|ca| ca.root.clone()));
    let device = Device::enroll(&roots, &profile(house).await, machine, &key()).await.unwrap();
    let id = live(house, &device.machine.udid).await.unwrap().device_id;
    (device, id)
}

pub async fn record(house: &House, device: &DeviceId, profile: &ProfileId) -> Option<Record> {
    let item = house.items(device).await.into_iter().find(|loaded| loaded.item.profile_id == *profile)?.item;
    item.detail.records.get(&format!("app:{BUNDLE}")).cloned()
}

pub async fn state(house: &House, device: &DeviceId, profile: &ProfileId) -> Option<State> {
    record(house, device, profile).await.map(|record| record.state)
}

/// Time passes, and the device comes.
pub async fn later(house: &House, device: &mut Device, time: i64) {
    house.server.clock.advance(time);
    device.settle().await.unwrap();
}

/// The keys of the last command of that type that was heard.
pub fn command(device: &Device, request: &str) -> Dict {
    let heard = device.heard.as_ref().unwrap().iter().filter(|heard| !heard.is_empty());
    heard.map(|heard| Command::decode(heard).unwrap()).rfind(|command| command.request_type == request).unwrap().body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mac_installs_a_package_part_by_part_and_is_believed_when_it_lists_it() {
    let house = on(House::new().await).await;
    add(&house, b"xar!", PART + 1000, new("2.1")).await.unwrap();
    let text = "package = \"broker\"\n[document.payloads.configuration]\nserver = \"https://idp\"\nserial = \"{{SerialNumber}}\"\n";
    let wanted = house.assign(draft("macos", "broker", text)).await;
    let (mut mac, id) = enrolled(&house, Machine::mac(1), None).await;
    Account::open(&mut mac);
    mac.settle().await.unwrap();
    assert_eq!(state(&house, &id, &wanted).await, Some(State::Delivered), "an acknowledgement is no installation");
    let body = command(&mac, "InstallEnterpriseApplication");
    let manifest = body.dict("Manifest").unwrap();
    if let Some(schema) = schema() {
        assert_eq!(schema.other_plist("manifesturl", manifest, SchemaTarget::mac("15.1")), Vec::<String>::new());
    }
    assert_eq!(Manifest::from_dict(manifest).unwrap().sha256s.len(), 2);
    let app = mac.apps.installed[BUNDLE].clone();
    assert_eq!((app.version.as_str(), app.size, app.managed, app.leaves), ("2.1", PART + 1000, true, true));
    assert_eq!(app.configuration.unwrap().string("serial"), Some(mac.machine.serial.as_str()));
    later(&house, &mut mac, 6 * MINUTE).await;
    assert_eq!(state(&house, &id, &wanted).await, Some(State::Verified));
    assert_eq!(mac.ran["InstallEnterpriseApplication"], 1);

    // Another package takes its place: the Mac has work at once, and gets it.
    packages::add(&house.server.app, file(b"xar!", 5000).path(), New { replace: true, ..new("2.2") }, "cli:test", "local").await.unwrap();
    let enrollment = live(&house, &mac.machine.udid).await.unwrap().id;
    let woken = house.server.app.store.read(move |c| enrollments::list_to_wake(c, Time(0), Time(i64::MAX), "", 10)).await.unwrap();
    let woken: Vec<_> = woken.into_iter().filter(|found| found.id == enrollment).map(|found| found.work_at).collect();
    assert!(woken[0].unwrap() <= house.server.app.now(), "{woken:?}");
    mac.settle().await.unwrap();
    assert_eq!(mac.apps.installed[BUNDLE].version, "2.2");
    later(&house, &mut mac, 6 * MINUTE).await;
    assert_eq!(record(&house, &id, &wanted).await.unwrap().drift, None, "it lost nothing");
    assert_eq!(state(&house, &id, &wanted).await, Some(State::Verified));
    assert_eq!(mac.ran["InstallEnterpriseApplication"], 2);

    // An older version that shows up is found by the next look.
    mac.apps.installed.get_mut(BUNDLE).unwrap().version = "2.0".into();
    later(&house, &mut mac, DAY + HOUR).await;
    later(&house, &mut mac, 6 * MINUTE).await;
    let drift = record(&house, &id, &wanted).await.unwrap().drift.unwrap();
    assert_eq!((drift.count, drift.found.as_deref()), (1, Some("version 2.0 and not 2.2")));
    judge(&mut mac, SchemaTarget::mac("15.1"));

    profile::unassign(&house.server.app, &wanted, Mode::Include, Target::AllDevices, &by()).await.unwrap();
    mac.settle().await.unwrap();
    assert_eq!((mac.apps.installed.len(), state(&house, &id, &wanted).await), (0, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_iphone_reads_the_manifest_and_its_user_has_a_say() {
    let house = on(House::new().await).await;
    add(&house, b"PK\x03\x04", 3000, new("1.0")).await.unwrap();
    let text = "package = \"broker\"\nbackup = false\nconfiguration = { user = \"a\" }\n";
    let wanted = house.assign(draft("ios", "broker", text)).await;
    let (mut phone, id) = enrolled(&house, Machine::iphone(1), None).await;
    Account::open(&mut phone);
    phone.apps.user = User::Waits;
    phone.settle().await.unwrap();
    assert_eq!(command(&phone, "InstallApplication").integer("ManagementFlags"), Some(5));
    let url = command(&phone, "InstallApplication").string("ManifestURL").unwrap().to_owned();
    let manifest = house.server.client().get(&url).send().await.unwrap();
    assert_eq!(manifest.headers()["content-type"], "application/xml; charset=UTF-8");
    let manifest = Manifest::decode(&manifest.bytes().await.unwrap()).unwrap();
    if let Some(schema) = schema() {
        assert_eq!(schema.other_plist("manifesturl", &manifest.to_dict(), SchemaTarget::iphone("18.1")), Vec::<String>::new());
    }
    later(&house, &mut phone, 6 * MINUTE).await;
    assert_eq!(state(&house, &id, &wanted).await, Some(State::Delivered), "the user is still being asked");

    // A user who leaves it open for a day is asked anew, and says no.
    phone.apps.user = User::Refuses;
    later(&house, &mut phone, DAY + HOUR).await;
    later(&house, &mut phone, HOUR).await;
    later(&house, &mut phone, 6 * MINUTE).await;
    let refused = record(&house, &id, &wanted).await.unwrap();
    assert_eq!((refused.state, refused.original_error.as_deref()), (State::Pending, Some("UserRejected")));
    for _ in 0..20 {
        later(&house, &mut phone, 9 * HOUR).await;
    }
    let given_up = record(&house, &id, &wanted).await.unwrap();
    assert_eq!((given_up.state, given_up.original_error.as_deref()), (State::Failed, Some("UserRejected")));
    assert_eq!(phone.ran["InstallApplication"], 6, "six times, with the question that was left open");
    judge(&mut phone, SchemaTarget::iphone("18.1"));

    // Another content is another chance.
    phone.apps.user = User::Agrees;
    let text = "package = \"broker\"\nconfiguration = { user = \"b\" }\n";
    profile::apply(&house.server.app, draft("ios", "broker", text), &by()).await.unwrap();
    phone.settle().await.unwrap();
    later(&house, &mut phone, 6 * MINUTE).await;
    assert_eq!(state(&house, &id, &wanted).await, Some(State::Verified));
    assert_eq!(phone.apps.installed[BUNDLE].configuration.as_ref().unwrap().string("user"), Some("b"));

    // What its user takes away comes back.
    phone.apps.uninstall(BUNDLE);
    later(&house, &mut phone, DAY + HOUR).await;
    later(&house, &mut phone, 6 * MINUTE).await;
    let again = record(&house, &id, &wanted).await.unwrap();
    assert_eq!((again.state, again.drift.unwrap().found.as_deref()), (State::Verified, Some("ManagedButUninstalled")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_user_installed_is_taken_over_only_when_the_profile_says_so() {
    let house = on(House::new().await).await;
    add(&house, b"PK\x03\x04", 3000, new("1.0")).await.unwrap();
    let wanted = house.assign(draft("ios", "broker", "package = \"broker\"\nkeep = true\n")).await;
    let (mut phone, id) = enrolled(&house, Machine::iphone(1), None).await;
    let own =
        muster::sim::apple::apps::App { version: "1.0".into(), size: 1, managed: false, leaves: false, configuration: None, vpn: None };
    phone.apps.installed.insert(BUNDLE.into(), own);
    phone.settle().await.unwrap();
    later(&house, &mut phone, 6 * MINUTE).await;
    let refused = record(&house, &id, &wanted).await.unwrap();
    assert_eq!((refused.state, refused.original_error.as_deref()), (State::Pending, Some("UserInstalledApp")));
    let draft = draft("ios", "broker", "package = \"broker\"\nkeep = true\ntake-over = true\n");
    profile::apply(&house.server.app, draft, &by()).await.unwrap();
    phone.settle().await.unwrap();
    later(&house, &mut phone, 6 * MINUTE).await;
    assert_eq!(state(&house, &id, &wanted).await, Some(State::Verified));
    assert!(phone.apps.installed[BUNDLE].managed);
    // It stays when nobody asks for it any more.
    profile::unassign(&house.server.app, &wanted, Mode::Include, Target::AllDevices, &by()).await.unwrap();
    phone.settle().await.unwrap();
    assert_eq!((state(&house, &id, &wanted).await, phone.ran.get("RemoveApplication")), (None, None));
    assert_eq!(phone.apps.installed.len(), 1);
}

/// Somebody else's server with a manifest and a package.
async fn elsewhere(ca: &Ca, package: Vec<u8>) -> (Listener, String, Arc<Mutex<Vec<u8>>>) {
    let leaf = ca.leaf("127.0.0.1", &["127.0.0.1".into()]);
    let tls = Tls { certificate: leaf.certificate, chain: Vec::new(), key: leaf.key };
    let served = Arc::new(Mutex::new(package.clone()));
    let (content, address) = (Arc::clone(&served), Arc::new(Mutex::new(String::new())));
    let own = Arc::clone(&address);
    let handler: listener::Handler = Arc::new(move |request| {
        let manifest = Manifest {
            url: format!("{}/a.pkg", own.lock().unwrap()),
            part_size: 1000,
            sha256s: package.chunks(1000).map(|part| hex::encode(openssl::sha::sha256(part))).collect(),
            bundle_id: BUNDLE.into(),
            version: "3.0".into(),
            title: "Broker".into(),
        };
        let body = if request.path == "/m.plist" { manifest.encode() } else { content.lock().unwrap().clone() };
        Box::pin(async move { Http { status: 200, body, ..Http::default() } })
    });
    let listener = listener::listen("127.0.0.1:0".parse().unwrap(), Some(&tls), handler).await.unwrap();
    let url = format!("https://{}", listener.address);
    address.lock().unwrap().clone_from(&url);
    (listener, url, served)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_package_that_is_not_the_one_of_the_manifest_is_never_installed() {
    let house = on(House::new().await).await;
    let ca = Ca::new("Elsewhere");
    let (_listener, url, served) = elsewhere(&ca, vec![1; 2500]).await;
    *served.lock().unwrap() = vec![2; 2500];
    let pem = String::from_utf8(ca.root.to_pem().unwrap()).unwrap();
    let text = format!("manifest-url = \"{url}/m.plist\"\nversion = \"3.0\"\nmanifest-certificates = [\"\"\"{pem}\"\"\"]\n");
    let wanted = house.assign(draft("macos", "broker", &text)).await;
    let (mut mac, id) = enrolled(&house, Machine::mac(1), Some(&ca)).await;
    Account::open(&mut mac);
    mac.settle().await.unwrap();
    assert_eq!(command(&mac, "InstallEnterpriseApplication").array("ManifestURLPinningCerts").unwrap().len(), 1);
    for _ in 0..3 {
        later(&house, &mut mac, 20 * MINUTE).await;
    }
    let silent = record(&house, &id, &wanted).await.unwrap();
    assert_eq!((silent.tries, silent.original_error.as_deref()), (1, Some("not installed")));
    assert!(mac.apps.failures.iter().all(|why| why == "package: not the one that the manifest means"), "{:?}", mac.apps.failures);
    assert!(mac.apps.installed.is_empty() && !mac.apps.failures.is_empty());
    *served.lock().unwrap() = vec![1; 2500];
    later(&house, &mut mac, HOUR).await;
    later(&house, &mut mac, 6 * MINUTE).await;
    later(&house, &mut mac, HOUR).await;
    assert_eq!(state(&house, &id, &wanted).await, Some(State::Verified));
    judge(&mut mac, SchemaTarget::mac("15.1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_are_for_one_enrolment_and_those_of_packages_for_a_week() {
    let house = on(House::new().await).await;
    add(&house, b"xar!", 3000, new("1.0")).await.unwrap();
    house.assign(draft("macos", "broker", "package = \"broker\"\n")).await;
    let (mut mac, _) = enrolled(&house, Machine::mac(1), None).await;
    Account::open(&mut mac);
    mac.settle().await.unwrap();
    let manifest = Manifest::from_dict(command(&mac, "InstallEnterpriseApplication").dict("Manifest").unwrap()).unwrap();
    let client = house.server.client();
    let get = async |url: &str| client.get(url).send().await.unwrap().status().as_u16();
    let url = manifest.url;
    assert_eq!(get(&url).await, 200);
    assert_eq!(client.get(&url).send().await.unwrap().bytes().await.unwrap().len(), 3000);
    let (base, name) = url.rsplit_once('/').unwrap();
    let (path, token) = base.rsplit_once('/').unwrap();
    assert_eq!(name, "package.pkg");
    let flipped = if token.ends_with('A') { "B" } else { "A" };
    for wrong in [
        format!("{base}/package.ipa"),
        format!("{base}/other"),
        format!("{path}/{}{flipped}/{name}", &token[..token.len() - 1]),
        format!("{path}/AAAA/{name}"),
        format!("{path}/{}/{name}", "A".repeat(2000)),
    ] {
        assert_eq!(get(&wrong).await, 404, "{wrong}");
    }
    house.server.clock.advance(8 * DAY);
    assert_eq!(get(&url).await, 404, "a week has passed");
    house.server.clock.advance(-8 * DAY);
    assert_eq!(get(&url).await, 200);
    mac.leave().await.unwrap();
    assert_eq!(get(&url).await, 404, "the enrolment has ended");
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> &'static str {
    match result {
        Err(Error::Refused(refusal) | Error::Invalid(refusal, _)) => refusal.code(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packages_that_cannot_be_handed_out_are_not_taken() {
    let house = House::new().await;
    assert_eq!(code(add(&house, b"\x7fELF", 100, new("1.0")).await), "APP0001");
    assert_eq!(code(add(&house, b"", 0, new("1.0")).await), "APP0001");
    for wrong in [
        New { name: "Broker".into(), ..new("1.0") },
        New { bundle_id: "a b".into(), ..new("1.0") },
        new("one"),
        New { title: "x".repeat(129), ..new("1.0") },
    ] {
        assert_eq!(code(add(&house, b"xar!", 100, wrong).await), "APP0001");
    }
    let nowhere = packages::add(&house.server.app, std::path::Path::new("/nowhere"), new("1.0"), "cli:test", "local").await;
    assert_eq!(code(nowhere), "APP0001");
    let mut large = file(b"xar!", 100);
    large.seek(SeekFrom::Start(LARGEST_PACKAGE)).unwrap();
    large.write_all(b"x").unwrap();
    assert_eq!(code(packages::add(&house.server.app, large.path(), new("1.0"), "cli:test", "local").await), "APP0003");
    add(&house, b"xar!", 100, new("1.0")).await.unwrap();
    assert_eq!(code(add(&house, b"xar!", 100, new("1.1")).await), "APP0002");
    assert_eq!(packages::list(&house.server.app).await.unwrap().as_array().unwrap().len(), 1);
    let user = house.assign(draft("macos", "who uses it", "package = \"broker\"\n")).await;
    let refused = packages::remove(&house.server.app, "broker".into(), "cli:test", "local").await.unwrap_err();
    assert!(refused.to_string().contains("APP0008") && refused.to_string().contains("who uses it"), "{refused}");
    profile::delete(&house.server.app, &user, &by()).await.unwrap();
    packages::remove(&house.server.app, "broker".into(), "cli:test", "local").await.unwrap();
    assert_eq!(code(packages::remove(&house.server.app, "broker".into(), "cli:test", "local").await), "APP0004");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_profiles_that_ask_for_one_application_meet() {
    let house = on(House::new().await).await;
    add(&house, b"xar!", 3000, new("1.0")).await.unwrap();
    let first = house.assign(draft("macos", "first", "package = \"broker\"\n")).await;
    let second = house.assign(draft("macos", "second", "package = \"broker\"\nmanaged = false\n")).await;
    let (mut mac, id) = enrolled(&house, Machine::mac(1), None).await;
    mac.settle().await.unwrap();
    later(&house, &mut mac, 6 * MINUTE).await;
    assert_eq!(mac.ran["InstallEnterpriseApplication"], 1);
    assert_eq!(state(&house, &id, &first).await, Some(State::Verified));
    let beaten = record(&house, &id, &second).await.unwrap();
    assert_eq!((beaten.state, beaten.winner), (State::Conflict, Some(first)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_package_that_does_not_fit_the_profile_is_said_so_and_nothing_is_sent() {
    let house = on(House::new().await).await;
    let wanted = house.assign(draft("macos", "broker", "package = \"broker\"\n")).await;
    let (mut mac, id) = enrolled(&house, Machine::mac(1), None).await;
    mac.settle().await.unwrap();
    for (head, bundle, says) in [
        (None, "", "no package is called broker"),
        (Some(&b"PK\x03\x04"[..]), BUNDLE, "the package broker is a .ipa file, which the device does not take"),
        (Some(&b"xar!"[..]), "org.example.other", "the package broker is org.example.other"),
    ] {
        if let Some(head) = head {
            add(&house, head, 100, New { bundle_id: bundle.into(), replace: true, ..new("1.0") }).await.unwrap();
        }
        // At once.
        mac.settle().await.unwrap();
        let record = record(&house, &id, &wanted).await.unwrap();
        assert_eq!((record.state, record.original_error.as_deref()), (State::Failed, Some(says)));
    }
    assert_eq!(mac.ran.get("InstallEnterpriseApplication"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_whose_package_nobody_brought_is_remarked_upon() {
    let house = on(House::new().await).await;
    let wanted = || draft("macos", "broker", "package = \"broker\"\n");
    let applied = profile::apply(&house.server.app, wanted(), &by()).await.unwrap();
    assert!(applied.remarks.len() == 1 && applied.remarks[0].contains("there is no package broker yet"), "{:?}", applied.remarks);
    add(&house, b"xar!", 100, new("2.1")).await.unwrap();
    let applied = profile::apply(&house.server.app, wanted(), &by()).await.unwrap();
    assert_eq!(applied.remarks, [""; 0]);
}
