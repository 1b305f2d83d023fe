//! Verdicts in the store: what is judged, when, and what leaves.

use std::sync::Arc;

use muster::app::App;
use muster::catalogue::catalogue;
use muster::clock::{DAY, HOUR, ManualClock, Time};
use muster::config::Config;
use muster::domain::assignment::{Assignment, Mode, Target};
use muster::domain::compliance::{Rules, State, Status};
use muster::domain::device::Platform;
use muster::domain::fact::Fact;
use muster::domain::profile::{Document, Kind};
use muster::domain::signal::{Initiator, Receiver, ReceiverStatus};
use muster::ids::{AssignmentId, DeviceId, ReceiverId, TenantId};
use muster::secret::Sealer;
use muster::service::compliance::{checked_in, reevaluate_in, retire_in, run_due};
use muster::service::directory;
use muster::store::outbox::{self, Lease};
use muster::store::{
    Conn, Error, Store, assignments, audit, compliance, desired_items, devices, enrollments, facts, profiles, receivers, users,
};

use crate::both_backends;
use crate::desired::{device, enrollment, profile, sealer, user};
use crate::support::db;
use crate::support::server::Server;

const START: Time = Time(1_790_000_000_000);
const RULES: Rules = Rules { secure_by_default: false, validity_days: 30 };
const TPM: &str = "device-status.tpm-specification-version";

fn tpm(value: Option<&str>, at: Time) -> Fact {
    Fact {
        name: TPM.into(),
        value: value.map(str::to_owned),
        status: if value.is_some() { 200 } else { 404 },
        source: "test".into(),
        observed_at: at,
        next_at: None,
    }
}

/// A device with a user and a policy that asks for a TPM.
async fn organisation(store: &Store, grace_hours: u32) -> DeviceId {
    organisation_at(store, grace_hours, START).await
}

async fn organisation_at(store: &Store, grace_hours: u32, start: Time) -> DeviceId {
    assert!(catalogue().rule("windows", "tpmRequired").is_some());
    let owner = user("ana@example.org");
    let pc = device("PC", Platform::Windows, Some(&owner.id));
    let document: Document =
        serde_json::from_value(serde_json::json!({"compliance": {"rules": {"tpmRequired": true}, "grace_hours": grace_hours}})).unwrap();
    let policy = profile("policy", Kind::Compliance, Platform::Windows, document);
    let id = pc.id.clone();
    let receiver = Receiver {
        id: ReceiverId::new(),
        name: "receiver".into(),
        endpoint_url: "https://receiver.example.org/events".into(),
        audience: "receiver".into(),
        sealed_authorization: None,
        status: ReceiverStatus::Enabled,
        status_reason: None,
        created_at: start,
    };
    store
        .write(move |tx| {
            receivers::insert_receiver(tx, &receiver)?;
            users::insert_user(tx, &owner, start)?;
            devices::insert_device(tx, &pc, start)?;
            enrollments::insert_enrollment(tx, &enrollment(&pc, start))?;
            profiles::insert_profile(tx, &sealer(), &policy, start)?;
            let all = Assignment { id: AssignmentId::new(), profile_id: policy.id.clone(), mode: Mode::Include, target: Target::AllUsers };
            assignments::insert_assignment(tx, &all, start)?;
            desired_items::recompute_device(tx, &pc.id, start)
        })
        .await
        .unwrap();
    id
}

/// Reports and judges in one transaction: state, collapsed, flipped.
async fn report(store: &Store, device: &DeviceId, fact: Option<Fact>, now: Time) -> (State, bool, bool) {
    let device = device.clone();
    store
        .write(move |tx| {
            facts::upsert_facts(tx, &device, fact.as_slice())?;
            let judged = reevaluate_in(tx, &device, RULES, Initiator::Policy, now)?;
            Ok((judged.verdict.state, judged.verdict.compliant, judged.flipped))
        })
        .await
        .unwrap()
}

/// How many devices the policy finds in which status.
async fn by_policy(store: &Store) -> Vec<(Option<Status>, i64)> {
    let count = |c: &mut Conn| {
        let policy = profiles::find_profile_by_name(c, &sealer(), "policy")?.unwrap();
        compliance::count_by_policy(c, &policy.id)
    };
    store.read(count).await.unwrap()
}

async fn audited(store: &Store) -> usize {
    store.read(|c| Ok(audit::list(c, 0, 1000)?.iter().filter(|row| row.action == "compliance.change").count())).await.unwrap()
}

/// The events that wait in the outbox, as what initiated them and why.
async fn waiting(store: &Store) -> Vec<(String, String)> {
    let lease = Lease { node: "test".into(), coalesced: Vec::new(), millis: 1 };
    let mut claims = Vec::new();
    let (mut held, now) = (
        store
            .write({
                let lease = lease.clone();
                move |tx| outbox::claim_due(tx, &lease, &[], 100, Time(i64::MAX / 2))
            })
            .await
            .unwrap()
            .pop(),
        Time(i64::MAX / 2),
    );
    while let Some(claim) = held {
        let (lease, row) = (lease.clone(), claim.clone());
        held = store.write(move |tx| outbox::settle(tx, &row, &lease, &outbox::Settled::Done, true, now)).await.unwrap();
        claims.push(claim);
    }
    let event = |claim: &outbox::Claim| serde_json::from_str::<serde_json::Value>(&claim.payload).unwrap()["event"]["members"].clone();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    claims.iter().map(event).map(|event| (text(&event["initiating_entity"]), text(&event["reason_admin"]["en"]))).collect()
}

both_backends! {
    async fn a_device_that_comes_back_is_compliant_at_once(store: Store) {
        let pc = organisation(&store, 0).await;
        report(&store, &pc, Some(tpm(Some("2.0"), START)), START).await;
        let back = START.plus(31 * DAY);
        assert_eq!(report(&store, &pc, None, back).await, (State::Noncompliant, false, true));
        // The store hears of the call later; what the device says is what it said before.
        let id = pc.clone();
        let flipped = store.write(move |tx| {
            assert!(facts::upsert_facts(tx, &id, &[tpm(Some("2.0"), back)])?.is_empty());
            checked_in(tx, &id, false, RULES, back)
        }).await.unwrap();
        assert!(flipped);
        let flipped = store.write(move |tx| checked_in(tx, &pc, false, RULES, back.plus(1))).await.unwrap();
        assert!(!flipped, "nothing is missing any more");
    }

    async fn a_mark_beats_a_verdict_that_is_being_made(store: Store) {
        let pc = organisation(&store, 0).await;
        report(&store, &pc, Some(tpm(Some("2.0"), START)), START).await;
        for which in 0..4 {
            let id = pc.clone();
            let before = store.read(move |c| compliance::find_verdict(c, &id)).await.unwrap().unwrap();
            let (id, now) = (pc.clone(), START.plus(1 + which));
            store.write(move |tx| match which {
                0 => compliance::update_due(tx, &id, now),
                1 => compliance::update_all_due(tx, now),
                2 => {
                    let owner = users::find_user_by_upn(tx.conn(), "ana@example.org")?.unwrap();
                    compliance::update_due_of_user(tx, &owner.id, now)
                }
                _ => {
                    compliance::update_due(tx, &id, now.plus(DAY))?;
                    let policy = profiles::find_profile_by_name(tx.conn(), &sealer(), "policy")?.unwrap();
                    profiles::delete_profile(tx, &policy.id)?;
                    desired_items::recompute_profile(tx, &policy.id, now)
                }
            }).await.unwrap();
            let (id, made) = (pc.clone(), before.clone());
            let stored = store.write(move |tx| compliance::claim_verdict(tx, &id, &made.verdict, Some(&made), now)).await;
            assert!(matches!(stored, Err(Error::Busy)), "{which}: {stored:?}");
            assert_eq!(store.read(move |c| compliance::list_due(c, now, 10)).await.unwrap(), std::slice::from_ref(&pc), "{which}");
        }
    }

    async fn a_signal_says_who_decided_and_that_a_device_left(store: Store) {
        let pc = organisation(&store, 72).await;
        report(&store, &pc, Some(tpm(None, START)), START).await;
        let id = pc.clone();
        store.write(move |tx| {
            let mut owner = users::find_user_by_upn(tx.conn(), "ana@example.org")?.unwrap();
            owner.enabled = false;
            users::update_user(tx, &owner, START)?;
            reevaluate_in(tx, &id, RULES, Initiator::System, START.plus(1))?;
            owner.enabled = true;
            users::update_user(tx, &owner, START)?;
            reevaluate_in(tx, &id, RULES, Initiator::System, START.plus(2))
        }).await.unwrap();
        store.write(move |tx| retire_in(tx, &pc, RULES, Initiator::Admin, START.plus(3))).await.unwrap();
        let all = waiting(&store).await;
        assert!(all.iter().all(|(initiator, _)| initiator == "admin"), "{all:?}");
        assert!(all[0].1.contains("user is disabled"), "{all:?}");
        assert!(all[1].1.contains("has not ended"), "{all:?}");
        assert_eq!(all[2].1, "The device is not managed any more.");
    }

    async fn a_flip_is_stored_audited_and_signalled_once(store: Store) {
        let pc = organisation(&store, 0).await;
        assert_eq!(by_policy(&store).await, [(None, 1)], "not judged yet");
        assert_eq!(report(&store, &pc, Some(tpm(Some("2.0"), START)), START).await, (State::Compliant, true, false));
        assert_eq!(by_policy(&store).await, [(Some(Status::Compliant), 1)]);
        let later = START.plus(HOUR);
        assert_eq!(report(&store, &pc, Some(tpm(None, later)), later).await, (State::Noncompliant, false, true));
        assert_eq!(report(&store, &pc, None, later.plus(1)).await, (State::Noncompliant, false, false));
        assert_eq!(by_policy(&store).await, [(Some(Status::NonCompliant), 1)]);
        assert_eq!(audited(&store).await, 2);
        let id = pc.clone();
        let stored = store.read(move |c| compliance::find_verdict(c, &id)).await.unwrap().unwrap();
        assert_eq!((stored.verdict.state, stored.changed_at), (State::Noncompliant, later));
        assert_eq!(stored.verdict.failed_rules(), ["tpmRequired"]);
    }

    async fn a_grace_ends_by_time_alone(store: Store) {
        let pc = organisation(&store, 72).await;
        assert_eq!(report(&store, &pc, Some(tpm(None, START)), START).await, (State::InGracePeriod, true, false));
        let due = |now: Time| store.read(move |c| compliance::list_due(c, now, 10));
        let ends = START.plus(72 * HOUR);
        assert!(due(ends.plus(-1)).await.unwrap().is_empty());
        assert_eq!(due(ends).await.unwrap(), std::slice::from_ref(&pc));
        assert_eq!(report(&store, &pc, None, ends).await, (State::Noncompliant, false, true));
        assert!(due(ends).await.unwrap().is_empty());
    }

    async fn a_policy_that_goes_lets_the_device_be_judged_anew(store: Store) {
        let pc = organisation(&store, 0).await;
        report(&store, &pc, Some(tpm(None, START)), START).await;
        let now = START.plus(HOUR);
        store.write(move |tx| {
            let policy = profiles::find_profile_by_name(tx.conn(), &sealer(), "policy")?.unwrap();
            profiles::delete_profile(tx, &policy.id)?;
            desired_items::recompute_profile(tx, &policy.id, now)
        }).await.unwrap();
        assert_eq!(store.read(move |c| compliance::list_due(c, now, 10)).await.unwrap(), std::slice::from_ref(&pc));
        assert_eq!(report(&store, &pc, None, now).await, (State::Compliant, true, true));
    }

    async fn a_disabled_user_fails_the_device_at_the_next_look(store: Store) {
        let pc = organisation(&store, 0).await;
        report(&store, &pc, Some(tpm(Some("2.0"), START)), START).await;
        let now = START.plus(DAY);
        store.write(move |tx| {
            let mut owner = users::find_user_by_upn(tx.conn(), "ana@example.org")?.unwrap();
            owner.enabled = false;
            users::update_user(tx, &owner, now)?;
            compliance::update_due_of_user(tx, &owner.id, now)
        }).await.unwrap();
        assert_eq!(store.read(move |c| compliance::list_due(c, now, 10)).await.unwrap(), std::slice::from_ref(&pc));
        assert_eq!(report(&store, &pc, None, now).await, (State::Noncompliant, false, true));
    }

    async fn a_user_who_is_disabled_fails_the_device_before_the_order_returns(store: Store) {
        let pc = organisation(&store, 0).await;
        report(&store, &pc, Some(tpm(Some("2.0"), START)), START).await;
        db::begin_audit(&store).await;
        let clock = Arc::new(ManualClock::new(START.plus(1)));
        let app = App::new(store.clone(), Config::default(), TenantId::new(), clock, Sealer::generate().unwrap()).unwrap();
        let user = store.read(|c| users::list_users(c, "", 9)).await.unwrap().remove(0).id;
        let verdict = async || {
            let pc = pc.clone();
            store.read(move |c| compliance::find_verdict(c, &pc)).await.unwrap().unwrap().verdict
        };
        assert!(verdict().await.compliant);
        for enabled in [false, true] {
            directory::enable_user(&app, &user, enabled, &directory::By::local("cli:test")).await.unwrap();
            assert_eq!(verdict().await.compliant, enabled, "without waiting for a job");
        }
    }

    async fn a_device_that_leaves_ends_as_not_compliant_and_is_not_judged_again(store: Store) {
        let pc = organisation(&store, 0).await;
        report(&store, &pc, Some(tpm(Some("2.0"), START)), START).await;
        let id = pc.clone();
        let judged = store.write(move |tx| retire_in(tx, &id, RULES, Initiator::Admin, START.plus(1))).await.unwrap();
        assert!(judged.flipped && !judged.verdict.compliant);
        assert!(store.read(|c| compliance::list_due(c, START.plus(400 * DAY), 10)).await.unwrap().is_empty());
    }
}

/// The job judges by the clock alone: nothing before the moment, one signal at it, none after.
async fn by_time_alone(grace_hours: u32, broken: i64, moment: i64) {
    let server = Server::start().await;
    let (app, store) = (&server.app, &server.app.store);
    let start = app.now();
    let pc = organisation_at(store, grace_hours, start).await;
    report(store, &pc, Some(tpm(Some("2.0"), start)), start).await;
    let fact = Fact { value: None, status: broken, ..tpm(None, start) };
    report(store, &pc, Some(fact), start).await;
    let queued = || async { store.read(|c| outbox::list_rows(c, "queued", 0, 10)).await.unwrap().len() };
    server.clock.advance(moment - 1);
    run_due(app).await.unwrap();
    assert_eq!(queued().await, 0);
    server.clock.advance(1);
    assert_eq!(run_due(app).await.unwrap(), 1);
    assert_eq!(queued().await, 1);
    server.clock.advance(HOUR);
    run_due(app).await.unwrap();
    assert_eq!(queued().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_the_end_of_a_hold_is_signalled_without_a_check_in() {
    by_time_alone(0, 500, 7 * DAY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c3_the_end_of_a_grace_is_signalled_without_a_check_in() {
    by_time_alone(72, 404, 72 * HOUR).await;
}
