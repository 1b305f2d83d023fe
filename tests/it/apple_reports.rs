//! What Apple devices report by themselves and what they leave out, and how they leave.

use muster::clock::HOUR;
use muster::domain::command::State as OrderState;
use muster::domain::device::State as DeviceState;
use muster::ids::DeviceId;
use muster::service::apple::declarations;
use muster::service::device::{self, Order};
use muster::sim::apple::Machine;
use muster::store::apple::channels::DEVICE;
use muster::store::audit;
use muster::wire::apple::command::{Cause, Status};
use muster::wire::plist::Dict;
use serde_json::json;

use crate::apple_enroll::{enrolled, live, on};
use crate::apple_manage::Mac;
use crate::support::windows::{House, by};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retired_mac_that_has_no_such_profile_any_more_has_left() {
    let (ours, theirs) = ("MCMDMErrorDomain", "NSPOSIXErrorDomain");
    let cases: [(&[(&str, i64)], bool); 5] = [
        (&[(ours, 12013)], true),
        (&[("MDMClientError", 89)], true),
        (&[(ours, 12021)], false),
        (&[(theirs, 89)], false),
        (&[("MCInstallationErrorDomain", 4001), (ours, 12013)], false),
    ];
    for (errors, gone) in cases {
        let mut mac = Mac::enrolled().await;
        mac.connect().await;
        let app = std::sync::Arc::clone(&mac.house.server.app);
        device::retire(&app, &mac.device, "cli:test", "local").await.unwrap();
        let command = mac.say(Status::Idle, None, Dict::new(), Vec::new()).await.unwrap();
        assert_eq!(command.request_type, "RemoveProfile");
        let cause = |(domain, code): &(&str, i64)| Cause { error_domain: (*domain).into(), error_code: *code, ..Cause::default() };
        mac.say(Status::Error, Some(command.uuid), Dict::new(), errors.iter().map(cause).collect()).await;
        let order = device::orders(&app, &mac.device, 1).await.unwrap().remove(0);
        let state = device::show(&app, &mac.device).await.unwrap().overview.device.state;
        let expected = if gone { (OrderState::Done, DeviceState::Retired) } else { (OrderState::Failed, DeviceState::Retiring) };
        assert_eq!((order.state, state), expected, "{errors:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_report_said_outlives_an_answer_that_leaves_it_out_and_ends_with_a_full_report() {
    let mut mac = Mac::enrolled().await;
    mac.security.remove("FDE_Enabled");
    mac.connect().await;
    let app = std::sync::Arc::clone(&mac.house.server.app);
    let tell = async |report: serde_json::Value| {
        let report = serde_json::to_vec(&report).unwrap();
        declarations::receive(&app, &mac.enrollment, DEVICE, "status", Some(&report), "test").await.unwrap()
    };
    let filevault = async || {
        let shown = device::show(&app, &mac.device).await.unwrap();
        let fact = shown.facts.into_iter().find(|fact| fact.name == "macos.filevault").unwrap();
        (fact.value, fact.source)
    };
    assert_eq!(filevault().await, (None, "SecurityInfo".into()));
    let enabled = json!({ "StatusItems": { "diskmanagement": { "filevault": { "enabled": true } } } });
    tell(enabled.clone()).await;
    let known = (Some("true".to_owned()), "status report".to_owned());
    assert_eq!(filevault().await, known);
    for hours in [0, 9, 60] {
        mac.house.server.clock.advance(hours * HOUR);
        device::sync(&app, &mac.device, &by()).await.unwrap();
        let again = async |mac: &Mac| {
            let asked = mac.say(Status::Idle, None, Dict::new(), Vec::new()).await;
            let mut names = Vec::new();
            let mut next = asked;
            while let Some(command) = next {
                names.push(command.request_type.clone());
                let body = if command.request_type == "SecurityInfo" {
                    Dict::new().with("SecurityInfo", mac.security.clone())
                } else {
                    Dict::new()
                };
                next = mac.say(Status::Acknowledged, Some(command.uuid), body, Vec::new()).await;
            }
            names
        };
        assert!(again(&mac).await.contains(&"SecurityInfo".to_owned()));
        assert_eq!(filevault().await, known, "after {hours} hours");
        assert!(!again(&mac).await.contains(&"SecurityInfo".to_owned()), "not again and again");
    }
    // A report of what changed leaves the rest as it is; what the device cannot tell, and what a full one leaves out, is not known.
    tell(json!({ "StatusItems": { "device": { "model": { "family": "Mac" } } } })).await;
    assert_eq!(filevault().await, known);
    tell(json!({ "StatusItems": {}, "Errors": [{ "StatusItem": "diskmanagement.filevault.enabled", "Reasons": [{ "Code": "Error" }] }] }))
        .await;
    assert_eq!(filevault().await.0, None);
    tell(enabled.clone()).await;
    assert_eq!(filevault().await, known);
    tell(json!({ "StatusItems": { "device": { "model": { "family": "Mac" } } }, "FullReport": true })).await;
    assert_eq!(filevault().await.0, None);
    // A device that fails for ever to answer may hide something.
    tell(enabled).await;
    mac.house.server.clock.advance(60 * HOUR);
    device::sync(&app, &mac.device, &by()).await.unwrap();
    let mut next = mac.say(Status::Idle, None, Dict::new(), Vec::new()).await;
    while let Some(command) = next {
        next = mac.say(Status::Error, Some(command.uuid), Dict::new(), Vec::new()).await;
    }
    assert_eq!(filevault().await.0, None);
}

/// Orders of a device that enrols again: what was over stays as it was, what was open ends, and both are listed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_outlive_the_enrolment_that_they_were_given_in() {
    let house = on(House::new().await).await;
    let reboot = async |id: &DeviceId| device::command(&house.server.app, id, Order::Known("reboot".into()), true, &by()).await.unwrap().id;
    let orders = async |id: &DeviceId| {
        let all = device::orders(&house.server.app, id, 100).await.unwrap();
        all.into_iter().map(|order| (order.id, order.state, order.result)).collect::<Vec<_>>()
    };
    let mut mac = enrolled(&house, Machine::mac(1)).await;
    let of_mac = live(&house, &mac.machine.udid).await.unwrap().device_id;
    mac.settle().await.unwrap();
    let done = reboot(&of_mac).await;
    mac.settle().await.unwrap();
    let open = reboot(&of_mac).await;
    enrolled(&house, Machine::mac(1)).await;

    let windows = muster::sim::windows::enroll::Machine::windows_11(1);
    house.join(&windows).await.unwrap();
    let of_windows = house.device_ids().await.into_iter().find(|id| *id != of_mac).unwrap();
    let waits = reboot(&of_windows).await;
    house.join(&windows).await.unwrap();

    let again = Some("ended: enrolled again".to_owned());
    let of = orders(&of_mac).await;
    assert_eq!(of[0], (open.clone(), OrderState::Cancelled, again.clone()));
    assert_eq!((&of[1].0, of[1].1), (&done, OrderState::Done));
    assert_eq!(orders(&of_windows).await, [(waits.clone(), OrderState::Cancelled, again)]);
    let rows = house.server.app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    for id in [open, waits] {
        let ended = rows.iter().find(|row| row.action == "command.ended" && row.target == format!("command:{id}")).unwrap();
        assert!(ended.after.as_ref().unwrap().contains("ended: enrolled again"), "{ended:?}");
    }
}
