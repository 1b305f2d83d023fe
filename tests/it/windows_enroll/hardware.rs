//! Whose hardware it is, and what only looks like it.

use muster::domain::device::Platform;
use muster::ids::DeviceId;
use muster::sim::apple::machine::Machine as AppleMachine;
use muster::wire::apple::Who;
use muster::wire::apple::checkin::{CheckIn, CheckOut, Message};

use super::*;
use crate::{apple_enroll, desired};

const BEN: &str = "ben@example.org";

/// Lets Ben enrol that PC, over a connection with or without a client certificate.
async fn ben_enrolls(house: &House, machine: &Machine, client: &mut Client) -> Identity {
    let ben = desired::user(BEN);
    let id = ben.id.clone();
    house.server.app.store.write(move |tx| users::insert_user(tx, &ben, Time(1))).await.unwrap();
    let pass = tap::create(&house.server.app, &id, Policy::default(), None, "cli:test", "local").await.unwrap().show().to_owned();
    enroll::enroll(client, &house.discovery(), machine, &SignIn::Pass { user: BEN.into(), pass }, &key()).await.unwrap()
}

async fn state_of_devices(house: &House) -> Vec<(DeviceState, bool, bool)> {
    let all = house.server.app.store.read(|c| {
        let all = devices::list_devices(c, &Filter::default(), "", 10)?;
        all.into_iter()
            .map(|device| {
                let current = enrollments::find_current_enrollment(c, &device.id)?.is_some();
                Ok((device.state, device.hardware_id.is_some(), current))
            })
            .collect::<Result<Vec<_>, _>>()
    });
    all.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_ends_somebody_elses_enrolment_by_claiming_to_be_the_same_hardware() {
    let house = House::new().await;
    let victim = house.join(&Machine::windows_11(7)).await.unwrap();
    let claimant = ben_enrolls(&house, &Machine::windows_11(7), &mut house.client()).await;
    assert_eq!(state_of_devices(&house).await, [(DeviceState::Managed, true, true), (DeviceState::Managed, true, true)]);
    let hash = hex::encode(sha256(&victim.certificate.to_der().unwrap()));
    let old = house.server.app.store.read(move |c| enrollments::find_identity(c, &hash)).await.unwrap().unwrap();
    assert!(old.certificate.revoked_at.is_none() && old.enrollment.ended_at.is_none(), "the victim's device goes on");
    let (old, new) = (old.enrollment.device_id, claimant.management.entity_id.clone());
    let rows = house.server.app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    let alert = rows.into_iter().find(|row| row.action == "device.hardware-contested").expect("an alert");
    let text = alert.after.unwrap_or_default();
    assert_eq!(alert.target, format!("device:{old}"));
    assert!(text.contains(old.as_str()) && text.contains(&new), "{text}");
    let shown = muster::service::device::show(&house.server.app, &old).await.unwrap();
    assert_eq!(shown.same_hardware_as.iter().map(ToString::to_string).collect::<Vec<_>>(), std::slice::from_ref(&new));
    let contested = muster::service::device::contested(&house.server.app).await.unwrap();
    assert_eq!(contested.len(), 1);
    assert_eq!(contested[0].devices.iter().map(ToString::to_string).collect::<Vec<_>>(), [old.to_string(), new.clone()]);
    // Each of the two enrols again as itself.
    house.join(&Machine::windows_11(7)).await.unwrap();
    assert_eq!(house.devices().await, 2);
    // An administrator decides, and nothing is contested any more.
    let new = DeviceId::parse(&new).unwrap();
    muster::service::device::retire(&house.server.app, &new, "cli:test", "local").await.unwrap();
    muster::service::device::give_up_device(&house.server.app, &new, &directory::By::local("cli:test")).await.unwrap();
    assert_eq!(muster::service::device::contested(&house.server.app).await.unwrap().len(), 0);
    house.join(&Machine::windows_11(7)).await.unwrap();
    let states = state_of_devices(&house).await;
    assert_eq!(states, [(DeviceState::Managed, true, true), (DeviceState::Retired, false, false)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hardware_in_other_hands_becomes_another_device_once_an_administrator_has_retired_it() {
    let house = House::new().await;
    let first = house.join(&Machine::windows_11(7)).await.unwrap();
    let id = DeviceId::parse(&first.management.entity_id).unwrap();
    muster::service::device::retire(&house.server.app, &id, "cli:test", "local").await.unwrap();
    ben_enrolls(&house, &Machine::windows_11(7), &mut house.client()).await;
    assert_eq!(state_of_devices(&house).await, [(DeviceState::Retired, false, false), (DeviceState::Managed, true, true)]);
    assert!(!house.audit().await.iter().any(|(action, _)| action == "device.hardware-contested"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hardware_in_other_hands_becomes_another_device_when_it_shows_its_certificate() {
    let house = House::new().await;
    let first = house.join(&Machine::windows_11(7)).await.unwrap();
    let mut client = first.client(&house.roots()).unwrap();
    ben_enrolls(&house, &Machine::windows_11(7), &mut client).await;
    assert_eq!(state_of_devices(&house).await, [(DeviceState::Retired, false, false), (DeviceState::Managed, true, true)]);
    let all = house.server.app.store.read(|c| devices::list_devices(c, &Filter::default(), "", 10)).await.unwrap();
    let ids: Vec<_> = all.into_iter().map(|device| device.id).collect();
    let verdicts = house.server.app.store.read(move |c| ids.iter().map(|id| muster::store::compliance::find_verdict(c, id)).collect());
    let verdicts: Result<Vec<_>, _> = verdicts.await;
    let verdicts: Vec<_> = verdicts.unwrap().into_iter().map(|stored| stored.unwrap().verdict.compliant).collect();
    assert_eq!(verdicts, [false, true], "the device that was left is not compliant, the new one is judged");
}

/// A device of somebody else with an enrolment, which says that it is that hardware.
async fn somebody_elses(server: &Server, platform: Platform, hardware_id: &str) -> DeviceId {
    let carl = desired::user("carl@example.org");
    let mut row = desired::device("Carl's", platform, Some(&carl.id));
    row.hardware_id = Some(hardware_id.to_owned());
    let (id, now) = (row.id.clone(), server.app.now());
    server
        .app
        .store
        .write(move |tx| {
            users::insert_user(tx, &carl, now)?;
            devices::insert_device(tx, &row, now)?;
            enrollments::insert_enrollment(tx, &desired::enrollment(&row, now))
        })
        .await
        .unwrap();
    id
}

async fn goes_on(server: &Server, id: &DeviceId) -> bool {
    let id = id.clone();
    let found = server.app.store.read(move |c| Ok((devices::load_device(c, &id)?, enrollments::find_current_enrollment(c, &id)?)));
    let (device, enrollment) = found.await.unwrap();
    device.state == DeviceState::Managed && device.hardware_id.is_some() && enrollment.is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pc_that_says_the_hardware_id_of_a_mac_is_another_device_and_ends_nothing() {
    let house = House::new().await;
    let machine = Machine::windows_11(7);
    let mac = somebody_elses(&house.server, Platform::MacOs, &machine.hardware_id.to_lowercase()).await;
    let identity = house.join(&machine).await.unwrap();
    assert_ne!(identity.management.entity_id, mac.to_string());
    assert!(goes_on(&house.server, &mac).await);
    assert!(!house.audit().await.iter().any(|(action, _)| action == "device.hardware-contested"), "they are no rivals");
    assert_eq!(muster::service::device::contested(&house.server.app).await.unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mac_that_says_the_hardware_id_of_others_ends_nothing() {
    for (platform, contested) in [(Platform::Windows, false), (Platform::MacOs, true)] {
        let house = apple_enroll::house().await;
        let machine = AppleMachine::mac(1);
        let other = somebody_elses(&house.server, platform, &machine.udid).await;
        apple_enroll::enrolled(&house, machine).await;
        assert!(goes_on(&house.server, &other).await, "{platform}");
        let rows = house.server.app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
        assert_eq!(rows.iter().any(|row| row.action == "device.hardware-contested"), contested, "{platform}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_of_one_platform_speaks_on_no_endpoint_of_the_other() {
    let house = apple_enroll::house().await;
    let mac = apple_enroll::enrolled(&house, AppleMachine::mac(1)).await;
    let pc = house.enroll(1).await.identity;
    let certificate = X509::from_der(&mac.enrollment.identity.certificate).unwrap();
    let chain: Vec<X509> = mac.enrollment.chain.iter().map(|der| X509::from_der(der).unwrap()).collect();
    let as_mac = || Client::new(&house.roots(), Some((&certificate, &chain, &mac.enrollment.identity.key))).unwrap();
    let kind = [("Content-Type", "application/vnd.syncml.dm+xml")];
    let answer = as_mac().send("POST", &pc.management_url().unwrap(), &kind, b"<SyncML/>").await.unwrap();
    assert_eq!(answer.status, 403);
    let old = Identity { key: mac.enrollment.identity.key.clone(), certificate: certificate.clone(), ..pc.clone() };
    assert_eq!(fault(enroll::renew(&mut as_mac(), &old, &key(), false).await).0, Code::Authentication);
    let check_in = Url::parse(&mac.enrollment.mdm.server_url).unwrap();
    let who = Who::device(&mac.machine.udid);
    let body = CheckIn { who, message: Message::CheckOut(CheckOut::default()) }.encode().unwrap();
    let answer = pc.client(&house.roots()).unwrap().send("PUT", &check_in, &[], &body).await.unwrap();
    assert_eq!(answer.status, 400);
    let rows = house.server.app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    let refused =
        |action: &str| rows.iter().any(|row| row.action == action && row.after.as_deref().unwrap_or_default().contains("CRT0001"));
    assert!(refused("management.refused") && refused("enrollment.refused"), "{rows:?}");
}
