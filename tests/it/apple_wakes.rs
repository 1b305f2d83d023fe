//! When devices are woken, how long for, and who is told when they are not.

use muster::app::App;
use muster::clock::{HOUR, MINUTE};
use muster::ids::EnrollmentId;
use muster::service::apple::push_certificate::{self, Import};
use muster::service::device::Order;
use muster::service::push::due;
use muster::service::{Error, apple};
use muster::store::enrollments;
use muster::wire::apple::Who;
use muster::wire::apple::command::{Answer, Command, Status as Said};
use muster::wire::plist::Dict;

use crate::apple_push::{OTHER, Pushing, TOPIC, pem};
use crate::support::ca::Ca;

/// The device says that on its channel; the next command.
async fn say(app: &App, device: &EnrollmentId, status: Said, uuid: Option<String>) -> Option<Command> {
    let answer = Answer { who: Who::device("U"), status, command_uuid: uuid, errors: Vec::new(), body: Dict::new() };
    let bytes = apple::receive(app, device, "", &answer, "test").await.unwrap();
    (!bytes.is_empty()).then(|| Command::decode(&bytes).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_puts_off_what_waits_is_woken_ever_more_rarely() {
    let pushing = Pushing::new().await;
    let app = &pushing.rig.server.app;
    let mac = pushing.enrolled(1).await;
    let say = async |status, uuid| say(app, &mac, status, uuid).await;
    let comes = async || {
        let mut next = say(Said::Idle, None).await;
        while let Some(command) = next {
            let status = if command.request_type == "DeviceLock" { Said::NotNow } else { Said::Acknowledged };
            next = say(status, Some(command.uuid)).await;
        }
    };
    comes().await;
    let key = mac.clone();
    let id = app.store.read(move |c| enrollments::load_enrollment(c, &key)).await.unwrap().device_id;
    let lock = Order::With("lock".into(), [("pin".to_owned(), "123456".to_owned())].into());
    muster::service::device::command(app, &id, lock, true, &crate::support::windows::by()).await.unwrap();
    let mut woken = Vec::new();
    for minute in 0..=20 * 60 {
        let before = pushing.apns.count();
        due::sweep(app).await.unwrap();
        pushing.drain().await;
        if pushing.apns.count() > before {
            woken.push(minute);
            comes().await;
        }
        pushing.rig.server.clock.advance(MINUTE);
    }
    // At 480 and 960 minutes facts are due: they have their own wake, whatever is put off.
    assert_eq!(woken, [0, 1, 5, 30, 360, 480, 720, 960, 1080]);

    // One that does not even come is woken in the same steps.
    let silent = pushing.enrolled(2).await;
    let now = app.now();
    app.store.write(move |tx| enrollments::update_work_at(tx, &silent, Some(now))).await.unwrap();
    let path = format!("/3/device/{}", "02".repeat(32));
    let mut woken = Vec::new();
    for minute in 0..=7 * 60 {
        let seen = |pushing: &Pushing| pushing.apns.state().seen.iter().filter(|seen| seen.path == path).count();
        let before = seen(&pushing);
        due::sweep(app).await.unwrap();
        pushing.drain().await;
        if seen(&pushing) > before {
            woken.push(minute);
        }
        pushing.rig.server.clock.advance(MINUTE);
    }
    assert_eq!(woken, [0, 1, 5, 30, 360]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_while_something_is_put_off_wakes_at_its_time_and_no_exchange_is_interrupted() {
    let pushing = Pushing::new().await;
    let app = &pushing.rig.server.app;
    let mac = pushing.enrolled(1).await;
    let say = async |status, uuid| say(app, &mac, status, uuid).await;
    let row = async || {
        let key = mac.clone();
        app.store.read(move |c| enrollments::load_enrollment(c, &key)).await.unwrap()
    };
    // How many are sent by the looks of that many minutes.
    let woken = async |minutes: i64| {
        let before = pushing.apns.count();
        for _ in 0..minutes {
            pushing.rig.server.clock.advance(MINUTE);
            due::sweep(app).await.unwrap();
            pushing.drain().await;
        }
        pushing.apns.count() - before
    };
    let comes = async || {
        let mut next = say(Said::Idle, None).await;
        while let Some(command) = next {
            let status = if command.request_type == "DeviceLock" { Said::NotNow } else { Said::Acknowledged };
            next = say(status, Some(command.uuid)).await;
        }
    };
    // In the middle of an exchange it is there; when it breaks off, it is woken.
    assert!(say(Said::Idle, None).await.is_some());
    due::sweep(app).await.unwrap();
    assert_eq!(pushing.drain().await, 0);
    assert_eq!(woken(1).await, 1);
    comes().await;
    assert_eq!(woken(30).await, 0);

    let lock = Order::With("lock".into(), [("pin".to_owned(), "123456".to_owned())].into());
    muster::service::device::command(app, &row().await.device_id, lock, true, &crate::support::windows::by()).await.unwrap();
    assert_eq!(pushing.drain().await, 1);
    comes().await;
    assert_eq!(woken(30).await, 3, "put off: 1, 5 and 30 minutes later");

    // A wake at six hours is not the only one: what has its own moment has its own wake.
    let (key, at) = (mac.clone(), app.now().plus(2 * HOUR));
    app.store.write(move |tx| enrollments::update_work_at(tx, &key, Some(at))).await.unwrap();
    assert_eq!(woken(119).await, 0);
    assert_eq!(woken(1).await, 1);
    comes().await;
    let kept = row().await;
    assert!(kept.work_at.is_some_and(|at| at > app.now()) && kept.waiting_since.is_some(), "both moments are kept: {kept:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_cannot_be_reached_is_told_after_some_minutes() {
    let pushing = Pushing::new().await;
    let mac = pushing.enrolled(1).await;
    let file = pushing.rig.server.app.config.apple.apns.root_file.clone().unwrap();
    std::fs::write(file, pem(&Ca::new("Another root").root)).unwrap();
    pushing.wake(&mac).await;
    let status = async || push_certificate::status(&pushing.rig.server.app).await.unwrap();
    pushing.drain().await;
    assert_eq!((status().await.unreachable, status().await.advice), (None, None), "once is nothing");
    pushing.rig.server.clock.advance(6 * MINUTE);
    pushing.drain().await;
    assert!(status().await.unreachable.is_some());
    assert!(status().await.advice.unwrap().contains("no wake has reached Apple's push service since"));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_topic_that_cuts_devices_off_has_to_be_confirmed() {
    let pushing = Pushing::new().await;
    let other = pushing.rig.certificate(OTHER, 365).await;
    pushing.enrolled(1).await;
    pushing.enrolled(2).await;
    match pushing.rig.import(&other, None, true).await {
        Err(Error::Invalid(refusal, why)) => assert!(refusal.code() == "APN0006" && why.ends_with(": 2"), "{why}"),
        result => panic!("{result:?}"),
    }
    assert_eq!(push_certificate::topic(&pushing.rig.server.app).await.unwrap(), TOPIC);
    let import = Import { certificate: pem(&other), key: None, replace_topic: true, confirmed: true, account: None };
    push_certificate::import(&pushing.rig.server.app, import, "cli:test", "local").await.unwrap();
    assert_eq!(push_certificate::topic(&pushing.rig.server.app).await.unwrap(), OTHER);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mac_with_work_is_woken_until_it_comes() {
    let pushing = Pushing::new().await;
    let mac = pushing.enrolled(1).await;
    let app = &pushing.rig.server.app;
    due::sweep(app).await.unwrap();
    let (id, at) = (mac.clone(), app.now().plus(MINUTE));
    app.store.write(move |tx| enrollments::update_work_at(tx, &id, Some(at))).await.unwrap();
    let mut woken = Vec::new();
    for minute in 1..=40 {
        pushing.rig.server.clock.advance(MINUTE);
        due::sweep(app).await.unwrap();
        if pushing.drain().await > 0 {
            woken.push(minute);
        }
    }
    assert_eq!(woken, [1, 2, 6, 31], "at its time, then with growing waits");
    let id = mac.clone();
    app.store.write(move |tx| enrollments::update_work_at(tx, &id, None)).await.unwrap();
    pushing.rig.server.clock.advance(6 * HOUR);
    due::sweep(app).await.unwrap();
    assert_eq!(pushing.drain().await, 0, "it came, and nothing is left");

    // A change wakes at once, through the same place as Windows.
    let (id, now) = (mac, app.now());
    let change = app.store.write(move |tx| {
        enrollments::update_work_at(tx, &id, Some(now))?;
        due::enqueue(tx, false, now)
    });
    change.await.unwrap();
    let before = pushing.apns.count();
    pushing.drain().await;
    assert_eq!(pushing.apns.count(), before + 1);
}
