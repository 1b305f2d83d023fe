//! Windows management sessions over real TLS with simulated devices.

use muster::clock::{DAY, HOUR};
use muster::domain::command::Verb;
use muster::domain::desired::State;
use muster::domain::device::State as DeviceState;
use muster::service::device;
use muster::service::profile::{self, Draft};
use muster::sim::http::Client;
use muster::sim::windows::session::Login;
use muster::sim::windows::{Device, Error};
use muster::store::certificates::{self, Search};
use muster::store::{audit, devices};

use crate::support::ddf::Ddf;
use crate::support::server::Options;
use crate::support::windows::{House, by};
use crate::support::wire::order;

fn real_time() -> Options {
    Options { system_clock: true, ..Options::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_receives_hello_roots_and_a_certificate_and_holds_them() {
    let house = House::with(real_time()).await;
    for baseline in ["windows-hello-for-business", "trusted-root", "scep-device-certificate", "windows-compliance"] {
        house.assign_baseline(baseline).await;
    }
    let mut device = house.enroll(1).await;
    device.heard = Some(Vec::new());
    for _ in 0..3 {
        device.settle().await.unwrap();
    }
    let id = house.device_ids().await.remove(0);
    let tenant = house.server.app.tenant.to_string();
    let hello = format!("./Device/Vendor/MSFT/PassportForWork/{tenant}/Policies/UsePassportForWork");
    assert_eq!(device.tree.get(&hello), Some("true"));
    let items = house.items(&id).await;
    assert!(items.iter().all(|l| matches!(l.item.state, State::Verified | State::Assigned)), "every profile is verified");
    let held = device.certificates.values().next().expect("a certificate by SCEP");
    let sha256 = hex::encode(openssl::sha::sha256(&held.identity.certificate));
    let known = house.server.app.store.read(move |c| certificates::find_certificate_by_sha256(c, &sha256)).await.unwrap();
    assert_eq!(known.unwrap().grant.device_id, Some(id.clone()));
    let search = Search { device: Some(id), ..Search::default() };
    let all = house.server.app.store.read(move |c| certificates::list_certificates(c, &search, 10)).await.unwrap();
    assert_eq!(all.len(), 2, "the identity and the one of the profile");
    every_command_is_in_the_ddf(&device.heard.take().unwrap(), 50);
    let report = device.session().await.unwrap();
    assert_eq!((report.messages, report.commands), (1, 0), "nothing is left to do");

    // Taking all of it away, trusted root and certificate too, is described as well.
    for loaded in items {
        profile::delete(&house.server.app, &loaded.item.profile_id, &by()).await.unwrap();
    }
    device.heard = Some(Vec::new());
    for _ in 0..3 {
        device.settle().await.unwrap();
    }
    assert_eq!(device.tree.get(&hello), None);
    every_command_is_in_the_ddf(&device.heard.take().unwrap(), 10);
}

/// S11: each command that the server sent exists in the maker's description.
fn every_command_is_in_the_ddf(answers: &[Vec<u8>], least: usize) {
    let Some(ddf) = Ddf::load() else { return };
    let count = ddf.judge(answers);
    assert!(count >= least, "{count} commands");
}

const REBOOT: &str = "./Device/Vendor/MSFT/Reboot/RebootNow";
const HELLO: &str = "windows-hello-for-business";

/// A small profile of one setting.
fn pin_length(name: &str, length: u32) -> Draft {
    let text = format!(
        "display_name = \"{name}\"\nkind = \"configuration\"\nplatform = \"windows\"\n[document.settings]\n\
         \"passport-for-work.pin-complexity.minimum-pin-length\" = {length}\n"
    );
    Draft::parse(&text).unwrap()
}

fn pin_node(house: &House) -> String {
    format!("./Device/Vendor/MSFT/PassportForWork/{}/Policies/PINComplexity/MinimumPINLength", house.server.app.tenant)
}

async fn actions(house: &House) -> Vec<String> {
    let rows = house.server.app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    rows.into_iter().map(|row| row.action).collect()
}

/// Posts to the management server as that device and says the HTTP status.
async fn post(device: &Device, house: &House, body: &[u8]) -> u16 {
    let mut client = device.identity.client(&house.roots()).unwrap();
    let url = device.identity.management_url().unwrap();
    client.send("POST", &url, &[("Content-Type", "application/vnd.syncml.dm+xml")], body).await.unwrap().status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_other_devices_and_nonsense_are_turned_away() {
    let house = House::new().await;
    let (ours, theirs) = (house.enroll(1).await, house.enroll(2).await);
    let url = ours.identity.management_url().unwrap();
    let headers = [("Content-Type", "application/vnd.syncml.dm+xml")];
    let package = |source: &str| {
        format!(
            "<SyncML xmlns='SYNCML:SYNCML1.2'><SyncHdr><VerDTD>1.2</VerDTD><VerProto>DM/1.2</VerProto><SessionID>1</SessionID>\
             <MsgID>1</MsgID><Target><LocURI>{url}</LocURI></Target><Source><LocURI>{source}</LocURI></Source></SyncHdr>\
             <SyncBody><Alert><CmdID>1</CmdID><Data>1201</Data></Alert><Final/></SyncBody></SyncML>"
        )
    };
    // S1: without a certificate, for a known and an unknown device alike.
    let mut stranger = Client::new(&house.roots(), None).unwrap();
    let known = stranger.send("POST", &url, &headers, package(&ours.identity.device_id).as_bytes()).await.unwrap();
    let unknown = stranger.send("POST", &url, &headers, package("NOBODY").as_bytes()).await.unwrap();
    assert_eq!((known.status, unknown.status), (403, 403));
    // S3: the certificate of one device, the name of another.
    assert_eq!(post(&ours, &house, package(&theirs.identity.device_id).as_bytes()).await, 403);
    let rows = house.server.app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    assert!(rows.iter().any(|row| row.action == "management.refused" && row.after.as_deref().is_some_and(|a| a.contains("MGT0004"))));
    // S10: what is no SyncML, and what is too much of it.
    assert_eq!(post(&ours, &house, b"<SyncML").await, 400);
    assert_eq!(post(&ours, &house, &vec![b' '; 5 << 20]).await, 413);
    assert_eq!(post(&ours, &house, package(&ours.identity.device_id).as_bytes()).await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_sent_twice_is_answered_with_the_same_bytes_and_done_once() {
    let house = House::new().await;
    house.assign_baseline(HELLO).await;
    let mut device = house.enroll(1).await;
    order(&house, Verb::Exec, REBOOT, None).await;
    device.faults.resend = true;
    let report = device.settle().await.unwrap();
    assert!(report.commands > 10);
    assert_eq!(report.unequal, 0);
    assert_eq!(device.ran.get("reboot"), Some(&1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_dies_is_made_up_for_in_the_next() {
    let house = House::new().await;
    house.assign_baseline(HELLO).await;
    for after in 1..=3 {
        let mut device = house.enroll(after).await;
        device.faults.drop_after = Some(u32::try_from(after).unwrap());
        assert!(matches!(device.session().await, Err(Error::Dropped)));
        device.faults.drop_after = None;
        device.settle().await.unwrap();
        let id = house.device_ids().await.pop().unwrap();
        let items = house.items(&id).await;
        assert!(items.iter().all(|l| l.item.state == State::Verified), "after {after} messages: {:?}", items[0].item.state);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_profiles_that_disagree_give_the_stricter_value_and_both_say_so() {
    let house = House::new().await;
    let (loose, strict) = (house.assign(pin_length("loose", 5)).await, house.assign(pin_length("strict", 8)).await);
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    assert_eq!(device.tree.get(&pin_node(&house)), Some("8"));
    let id = house.device_ids().await.remove(0);
    let items = house.items(&id).await;
    let of = |profile: &muster::ids::ProfileId| items.iter().find(|l| l.item.profile_id == *profile).unwrap().item.clone();
    assert_eq!(of(&loose).state, State::Conflict);
    assert_eq!(of(&strict).state, State::Verified);
    assert_eq!(of(&strict).detail.records.values().next().unwrap().beaten, [loose]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drift_is_found_put_right_and_shown() {
    let house = House::new().await;
    house.assign(pin_length("pin", 6)).await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    device.tree.set(&pin_node(&house), "4");
    house.server.clock.advance(25 * HOUR);
    device.heard = Some(Vec::new());
    device.settle().await.unwrap();
    every_command_is_in_the_ddf(&device.heard.take().unwrap(), 2);
    assert_eq!(device.tree.get(&pin_node(&house)), Some("6"));
    let id = house.device_ids().await.remove(0);
    let record = house.items(&id).await.remove(0).item.detail.records.into_values().next().unwrap();
    assert_eq!((record.state, record.drift.unwrap().found.as_deref()), (State::Verified, Some("4")));
    assert!(actions(&house).await.contains(&"setting.drift".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_assigned_any_more_is_taken_away() {
    use muster::domain::assignment::{Mode, Target};
    let house = House::new().await;
    let profile = house.assign(pin_length("pin", 6)).await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    assert_eq!(device.tree.get(&pin_node(&house)), Some("6"));
    let by = by();
    profile::unassign(&house.server.app, &profile, Mode::Include, Target::AllDevices, &by).await.unwrap();
    device.settle().await.unwrap();
    assert_eq!(device.tree.get(&pin_node(&house)), None);
    assert!(house.items(&house.device_ids().await[0]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_the_user_wait_until_the_user_is_there() {
    let house = House::new().await;
    let text = "display_name = \"user\"\nkind = \"configuration\"\nplatform = \"windows\"\n[document.settings]\n\
                \"passport-for-work.pin-complexity.minimum-pin-length@user\" = 7\n";
    house.assign(Draft::parse(text).unwrap()).await;
    let mut device = house.enroll(1).await;
    device.login = Login::None;
    device.settle().await.unwrap();
    let node = pin_node(&house).replace("./Device/", "./User/");
    assert_eq!(device.tree.get(&node), None);
    device.login = Login::User;
    house.server.clock.advance(2 * HOUR);
    device.settle().await.unwrap();
    assert_eq!(device.tree.get(&node), Some("7"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_unenrols_is_gone_and_the_certificate_is_worth_nothing() {
    let house = House::new().await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    device.ask_to_leave();
    device.session().await.unwrap();
    let id = house.device_ids().await.remove(0);
    let of = id.clone();
    let row = house.server.app.store.read(move |c| devices::load_device(c, &of)).await.unwrap();
    assert_eq!(row.state, DeviceState::Retired);
    assert!(matches!(device.session().await, Err(Error::Http(403, _))));
    assert!(actions(&house).await.contains(&"enrollment.end-by-user".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_identity_is_refused_and_a_renewed_one_takes_over() {
    let house = House::new().await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    house.server.clock.advance(310 * DAY);
    device.renew().await.unwrap();
    device.session().await.unwrap();
    house.server.clock.advance(400 * DAY);
    assert!(matches!(device.session().await, Err(Error::Http(403, _))));
    let rows = house.server.app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    assert!(rows.iter().any(|row| row.after.as_deref().is_some_and(|after| after.contains("CRT0028"))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_orders_are_carried_out_once_each() {
    let house = House::new().await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    let id = house.device_ids().await.remove(0);
    for _ in 0..500 {
        order(&house, Verb::Exec, REBOOT, None).await;
    }
    let report = device.settle().await.unwrap();
    assert!(report.commands >= 500 && report.messages >= 6, "{report:?}");
    let orders = device::orders(&house.server.app, &id, 1000).await.unwrap();
    assert_eq!(orders.len(), 500);
    assert_eq!(device.ran.get("reboot"), Some(&500));
    assert!(orders.iter().all(|order| order.state == muster::domain::command::State::Done && order.attempts == 1));
}
