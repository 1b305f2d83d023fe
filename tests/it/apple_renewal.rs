//! Identities of Apple devices are renewed by the server in time, and after it, too.

use std::collections::BTreeSet;

use muster::clock::{DAY, HOUR};
use muster::config::Config;
use muster::domain::certificate::{CertificateStatus, Grant, Purpose};
use muster::domain::device::State as DeviceState;
use muster::domain::enrollment::Enrollment;
use muster::ids::CertificateId;
use muster::secret::Sealer;
use muster::service::device::{self, Order};
use muster::service::pki::{authority, issue};
use muster::sim::apple::Device;
use muster::sim::apple::machine::Machine;
use muster::store::{certificates, enrollments};
use muster::wire::apple::Who;
use muster::wire::apple::checkin::{Authenticate, GetBootstrapToken, Message, TokenUpdate};
use muster::wire::apple::command::{Answer, Status};
use muster::wire::plist::{Data, Dict};

use crate::apple_enroll::{client, codes, enrolled, live, on, put, said};
use crate::support::server::{Options, Server};
use crate::support::windows::{House, by, key};

/// Identities live 30 days and are renewed five days before their end.
async fn house() -> House {
    let tweak = |config: &mut Config| (config.apple.identity_days, config.apple.renewal_days) = (30, 5);
    on(House::with(Options { tweak: Box::new(tweak), ..Options::default() }).await).await
}

async fn mac(house: &House) -> (Device, Enrollment) {
    let mut device = enrolled(house, Machine::mac(1)).await;
    device.scep_key = Some(key());
    device.settle().await.unwrap();
    let enrollment = live(house, &device.machine.udid).await.unwrap();
    (device, enrollment)
}

/// Time passes for the server and the device.
fn pass(house: &House, device: &mut Device, millis: i64) {
    house.server.clock.advance(millis);
    device.faults.skew += millis;
}

fn installed(device: &Device) -> u32 {
    device.ran.get("InstallProfile").copied().unwrap_or(0)
}

fn idle(device: &Device) -> Vec<u8> {
    let who = Who::device(&device.machine.udid);
    Answer { who, status: Status::Idle, command_uuid: None, errors: Vec::new(), body: Dict::new() }.encode().unwrap()
}

async fn status(house: &House, id: &CertificateId) -> CertificateStatus {
    let id = id.clone();
    house.server.app.store.read(move |c| certificates::load_certificate(c, &id)).await.unwrap().status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_is_renewed_once_before_its_end() {
    let house = house().await;
    let (mut device, before) = mac(&house).await;
    let (old, url) = (client(&house, &device), device.enrollment.mdm.server_url.clone());
    pass(&house, &mut device, 23 * DAY);
    device.settle().await.unwrap();
    assert_eq!(installed(&device), 0, "not yet");
    let work_at = live(&house, &device.machine.udid).await.unwrap().work_at.unwrap();
    assert!(work_at <= house.server.app.now().plus(3 * DAY), "it is woken for it");
    pass(&house, &mut device, 3 * DAY);
    device.settle().await.unwrap();
    assert_eq!(installed(&device), 1);
    let after = live(&house, &device.machine.udid).await.unwrap();
    assert_eq!(after.id, before.id);
    assert_ne!(after.certificate_id, before.certificate_id);
    assert_ne!(status(&house, &before.certificate_id.unwrap()).await, CertificateStatus::Active, "superseded");
    assert_eq!(put(&old, &url, idle(&device)).await.0, 400, "the old one is good for nothing");
    for _ in 0..3 {
        pass(&house, &mut device, 5 * HOUR);
        device.settle().await.unwrap();
    }
    assert_eq!(installed(&device), 1, "once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_under_another_name_still_knows_what_its_profiles_are_called() {
    let house = house().await;
    house.assign_baseline("macos-trusted-root").await;
    let (mut device, before) = mac(&house).await;
    let named = |device: &Device| device.profiles.iter().map(|installed| installed.profile.identifier.clone()).collect::<BTreeSet<_>>();
    let profiles = named(&device);
    assert_eq!(profiles.len(), 2);
    // The same organisation, started anew with another configuration.
    let app = &house.server.app;
    let (store, sealer) = (Some(app.store.clone()), Some(Sealer::parse(&app.sealer().to_text()).unwrap()));
    let tweak = |config: &mut Config| {
        (config.apple.identity_days, config.apple.renewal_days) = (30, 5);
        config.device.url = Some("https://devices.elsewhere.example".into());
    };
    let other = Server::with(Options { tweak: Box::new(tweak), store, sealer, ..Options::default() }).await;
    let node = format!("https://localhost:{}", other.app.config.device.listen.port());
    device.nodes = vec![node.parse().unwrap()];
    other.clock.advance(26 * DAY);
    device.faults.skew += 26 * DAY;
    house.server.stop().await;
    device.settle().await.unwrap();
    let (udid, read) = (device.machine.udid.clone(), &other.app.store);
    let after = read.read(move |c| enrollments::find_live_apple(c, &udid)).await.unwrap().unwrap();
    assert!(after.id == before.id && after.certificate_id != before.certificate_id, "renewed");
    assert_eq!(named(&device), profiles);
    device::retire(&other.app, &before.device_id, "cli:test", "local").await.unwrap();
    device.settle().await.unwrap();
    assert!(device.left && device.refusals.is_empty(), "{:?}", device.refusals);
    let state = device::show(&other.app, &before.device_id).await.unwrap().overview.device.state;
    assert_eq!(state, DeviceState::Retired);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_cannot_renew_is_told_again_after_a_while() {
    let house = house().await;
    let (mut device, before) = mac(&house).await;
    pass(&house, &mut device, 26 * DAY);
    device.faults.no_scep = true;
    let failed = async |device: &mut Device| device.settle().await.unwrap().failed;
    assert_eq!((failed(&mut device).await, failed(&mut device).await), (1, 0));
    pass(&house, &mut device, 3 * HOUR);
    assert_eq!(failed(&mut device).await, 0, "not at once");
    pass(&house, &mut device, 2 * HOUR);
    device.faults.no_scep = false;
    device.settle().await.unwrap();
    assert_eq!(installed(&device), 1);
    assert_ne!(live(&house, &device.machine.udid).await.unwrap().certificate_id, before.certificate_id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_that_has_run_out_gets_another_and_nothing_else() {
    let house = house().await;
    let (mut device, before) = mac(&house).await;
    pass(&house, &mut device, 40 * DAY);
    let (old, udid) = (client(&house, &device), device.machine.udid.clone());
    let check_in = device.enrollment.mdm.check_in_url.clone().unwrap();
    let ask = said(&udid, Message::GetBootstrapToken(GetBootstrapToken::default()));
    assert_eq!(put(&old, &check_in, ask).await.0, 400);
    assert!(codes(&house).await.contains("CRT0028"));
    device.settle().await.unwrap();
    let after = live(&house, &udid).await.unwrap();
    assert_eq!((after.id, installed(&device)), (before.id, 1));
    assert_ne!(after.certificate_id, before.certificate_id);
    assert_eq!(put(&old, &device.enrollment.mdm.server_url, idle(&device)).await.0, 400, "now it is good for nothing at all");
    assert_eq!(put(&client(&house, &device), &device.enrollment.mdm.server_url, idle(&device)).await.0, 200);
}

/// What begins with `Authenticate` may yet fail on the device, which then goes on with what it had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_is_good_until_the_one_after_it_is_put_to_use() {
    let house = house().await;
    let (mut device, before) = mac(&house).await;
    let app = &house.server.app;
    let mut grant = Grant::client(Purpose::MdmIdentity, "renewed", 30);
    (grant.enrollment_id, grant.device_id) = (Some(before.id.clone()), Some(before.device_id.clone()));
    let fresh = key();
    let issuing = authority::issuing(app).await.unwrap();
    let made = issue::issue(app, &issuing.id, &grant, &fresh.public_key_to_der().unwrap(), "cli:test", "local").await.unwrap();
    let (udid, server, topic) =
        (device.machine.udid.clone(), device.enrollment.mdm.server_url.clone(), device.enrollment.mdm.topic.clone());
    let check_in = device.enrollment.mdm.check_in_url.clone().unwrap();
    let old = client(&house, &device);
    (device.enrollment.identity.certificate, device.enrollment.identity.key) = (made.der.clone(), fresh);
    let new = client(&house, &device);
    let begins = Message::Authenticate(Authenticate { topic: topic.clone(), ..Authenticate::default() });
    assert_eq!(put(&new, &check_in, said(&udid, begins)).await.0, 200);
    assert_eq!(put(&old, &server, idle(&device)).await.0, 200, "nothing is settled yet");
    assert_eq!(live(&house, &udid).await.unwrap().certificate_id, before.certificate_id);
    let token = TokenUpdate { topic, token: Data(vec![7; 32]), push_magic: "m".into(), ..TokenUpdate::default() };
    assert_eq!(put(&new, &check_in, said(&udid, Message::TokenUpdate(token))).await.0, 200);
    assert_eq!(live(&house, &udid).await.unwrap().certificate_id, Some(made.certificate.id));
    assert_eq!(put(&old, &server, idle(&device)).await.0, 400, "from now on it is good for nothing");
    assert!(codes(&house).await.contains("CRT0002"));
    assert_eq!(status(&house, &before.certificate_id.unwrap()).await, CertificateStatus::Revoked);
    assert_eq!(put(&new, &server, idle(&device)).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_loses_neither_what_was_entrusted_nor_what_waits() {
    let house = house().await;
    let (mut device, before) = mac(&house).await;
    assert!(device.recalls_bootstrap_token().await.unwrap());
    pass(&house, &mut device, 26 * DAY);
    let order = Order::With("lock".into(), [("pin".to_owned(), "123456".to_owned())].into_iter().collect());
    device::command(&house.server.app, &before.device_id, order, true, &by()).await.unwrap();
    device.settle().await.unwrap();
    let after = live(&house, &device.machine.udid).await.unwrap();
    assert!(after.id == before.id && after.certificate_id != before.certificate_id, "renewed");
    assert_eq!(device.ran.get("DeviceLock"), Some(&1));
    assert!(device.recalls_bootstrap_token().await.unwrap());
}
