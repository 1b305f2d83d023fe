//! Verdicts in the store: what is judged, when, and what leaves.

use muster::catalogue::catalogue;
use muster::clock::{DAY, HOUR, Time};
use muster::domain::assignment::{Assignment, Mode, Target};
use muster::domain::compliance::{Rules, State};
use muster::domain::device::Platform;
use muster::domain::fact::Fact;
use muster::domain::profile::{Document, Kind};
use muster::domain::signal::{Initiator, Receiver, ReceiverStatus};
use muster::ids::{AssignmentId, DeviceId, ReceiverId};
use muster::service::compliance::{reevaluate_in, retire_in};
use muster::store::{Store, assignments, audit, compliance, desired_items, devices, enrollments, facts, profiles, receivers, users};

use crate::both_backends;
use crate::desired::{device, enrollment, profile, user};

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
        created_at: START,
    };
    store
        .write(move |tx| {
            receivers::insert_receiver(tx, &receiver)?;
            users::insert_user(tx, &owner, START)?;
            devices::insert_device(tx, &pc, START)?;
            enrollments::insert_enrollment(tx, &enrollment(&pc, START))?;
            profiles::insert_profile(tx, &policy, START)?;
            let all = Assignment { id: AssignmentId::new(), profile_id: policy.id.clone(), mode: Mode::Include, target: Target::AllUsers };
            assignments::insert_assignment(tx, &all, START)?;
            desired_items::recompute_device(tx, &pc.id, START)
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

async fn audited(store: &Store) -> usize {
    store.read(|c| Ok(audit::list(c, 0, 1000)?.iter().filter(|row| row.action == "compliance.change").count())).await.unwrap()
}

both_backends! {
    async fn a_flip_is_stored_audited_and_signalled_once(store: Store) {
        let pc = organisation(&store, 0).await;
        assert_eq!(report(&store, &pc, Some(tpm(Some("2.0"), START)), START).await, (State::Compliant, true, false));
        let later = START.plus(HOUR);
        assert_eq!(report(&store, &pc, Some(tpm(None, later)), later).await, (State::Noncompliant, false, true));
        assert_eq!(report(&store, &pc, None, later.plus(1)).await, (State::Noncompliant, false, false));
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
            let policy = profiles::find_profile_by_name(tx.conn(), "policy")?.unwrap();
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

    async fn a_device_that_leaves_ends_as_not_compliant_and_is_not_judged_again(store: Store) {
        let pc = organisation(&store, 0).await;
        report(&store, &pc, Some(tpm(Some("2.0"), START)), START).await;
        let id = pc.clone();
        let judged = store.write(move |tx| retire_in(tx, &id, RULES, Initiator::Admin, START.plus(1))).await.unwrap();
        assert!(judged.flipped && !judged.verdict.compliant);
        assert!(store.read(|c| compliance::list_due(c, START.plus(400 * DAY), 10)).await.unwrap().is_empty());
    }
}
