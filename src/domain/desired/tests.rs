use proptest::prelude::*;
use serde_json::{Value, json};

use super::record::{MAX_TRIES, back_off, step};
use super::*;
use crate::catalogue::catalogue;
use crate::clock::{DAY, HOUR};
use crate::domain::device::Platform;

const NOW: Time = Time(1_790_000_000_000);
const TIMING: Timing = Timing { drift_check: 24 * HOUR };
const SHORTEST: &str = "passport-for-work.pin-complexity.minimum-pin-length";
const LONGEST: &str = "passport-for-work.pin-complexity.maximum-pin-length";

fn document(value: Value) -> Document {
    serde_json::from_value(value).unwrap()
}

fn item(profile: &ProfileId) -> Item {
    Item {
        device_id: DeviceId::from_store("device".into()),
        profile_id: profile.clone(),
        kind: Kind::Configuration,
        desired_version: Some(1),
        applied_version: None,
        state: State::Pending,
        detail: Detail::default(),
        attempts: 0,
        due_at: Some(NOW),
        updated_at: NOW,
    }
}

fn ids(count: usize) -> Vec<ProfileId> {
    (0..count).map(|n| ProfileId::from_store(format!("p{n}"))).collect()
}

fn merged(profiles: &[(&ProfileId, &Document)]) -> Effective {
    let candidates: Vec<_> =
        profiles.iter().map(|(profile, document)| Candidate { profile, kind: Kind::Configuration, document }).collect();
    effective(&candidates, Target::Of(Platform::Windows), catalogue())
}

/// One round with a device that takes everything: what was sent and removed.
fn round(items: Vec<Item>, wanted: &Effective, now: Time) -> (Vec<Item>, usize, usize) {
    let mut items = items;
    reconcile(&mut items, wanted, TIMING, now);
    let due = plan(&items, wanted, now);
    let set: Vec<String> = due.set.iter().map(|p| p.key.clone()).collect();
    let remove: Vec<String> = due.remove.iter().map(|p| p.key.clone()).collect();
    for key in &set {
        for input in [Input::Sent, Input::Taken { status: 200 }, Input::Matches] {
            assert!(apply(&mut items, key, input, TIMING, now));
        }
    }
    for key in &remove {
        assert!(apply(&mut items, key, Input::Removed, TIMING, now));
    }
    let (items, _) = settle(items);
    (items, set.len(), remove.len())
}

#[test]
fn the_stricter_value_wins_and_both_sides_show_it() {
    let ids = ids(3);
    let (weak, strict) = (document(json!({"settings": {SHORTEST: 6}})), document(json!({"settings": {SHORTEST: 8}})));
    let wanted = merged(&[(&ids[0], &weak), (&ids[1], &strict), (&ids[2], &strict)]);
    let winner = &wanted.winners[&format!("setting:{SHORTEST}@device")];
    assert_eq!((&winner.profile, winner.agreeing.as_slice()), (&ids[1], &ids[2..]));
    assert_eq!(wanted.conflicts().count(), 1);

    let (items, sent, _) = round(ids.iter().map(item).collect(), &wanted, NOW);
    assert_eq!(sent, 1);
    let states: Vec<_> = items.iter().map(|item| item.state).collect();
    assert_eq!(states, [State::Conflict, State::Verified, State::Verified]);
    let record = items[0].detail.records.values().next().unwrap();
    assert_eq!(record.winner.as_ref(), Some(&ids[1]));
    let record = items[1].detail.records.values().next().unwrap();
    assert_eq!(record.beaten, ids[..1]);
    assert!(items.iter().all(|item| item.applied_version == Some(1)));
}

#[test]
fn without_a_stricter_direction_the_profile_that_was_created_first_wins() {
    let ids = ids(2);
    let node = |value: &str| document(json!({"custom": [{"uri": "./Vendor/MSFT/X", "format": "chr", "value": value}]}));
    let wanted = merged(&[(&ids[0], &node("a")), (&ids[1], &node("b"))]);
    assert_eq!(wanted.winners.values().next().unwrap().profile, ids[0]);
    let lower = (document(json!({"settings": {LONGEST: 20}})), document(json!({"settings": {LONGEST: 10}})));
    let wanted = merged(&[(&ids[0], &lower.0), (&ids[1], &lower.1)]);
    assert_eq!(wanted.winners.values().next().unwrap().profile, ids[1]);
}

#[test]
fn a_least_value_above_the_greatest_of_another_profile_lets_the_one_that_was_there_first_hold() {
    let ids = ids(3);
    let long = document(json!({"settings": {SHORTEST: 10}}));
    let short = document(json!({"settings": {LONGEST: 8}}));
    let wanted = merged(&[(&ids[0], &long), (&ids[1], &short)]);
    assert_eq!(wanted.winners.keys().collect::<Vec<_>>(), [&format!("setting:{SHORTEST}@device")]);
    let (items, sent, _) = round(ids[..2].iter().map(item).collect(), &wanted, NOW);
    assert_eq!((sent, items.iter().map(|item| item.state).collect::<Vec<_>>()), (1, vec![State::Verified, State::Conflict]));
    assert_eq!(items[1].detail.records.values().next().unwrap().winner.as_ref(), Some(&ids[0]));

    // The other way round, and with somebody whose greatest value can hold.
    let wanted = merged(&[(&ids[0], &short), (&ids[1], &long)]);
    assert_eq!(wanted.winners.keys().collect::<Vec<_>>(), [&format!("setting:{LONGEST}@device")]);
    let wide = document(json!({"settings": {LONGEST: 20}}));
    let wanted = merged(&[(&ids[0], &long), (&ids[1], &short), (&ids[2], &wide)]);
    let longest = &wanted.winners[&format!("setting:{LONGEST}@device")];
    assert_eq!((&longest.profile, &longest.beaten[0].profile), (&ids[2], &ids[1]));

    // What the device holds already goes, and is shown as lost when it is gone.
    let (items, ..) = round(vec![item(&ids[1])], &merged(&[(&ids[1], &short)]), NOW);
    let items = std::iter::once(item(&ids[0])).chain(items).collect();
    let wanted = merged(&[(&ids[0], &long), (&ids[1], &short)]);
    let (items, sent, removed) = round(items, &wanted, NOW);
    assert_eq!((sent, removed), (1, 1));
    let (items, sent, removed) = round(items, &wanted, NOW);
    assert_eq!((sent, removed, items[1].state), (0, 0, State::Conflict));
}

#[test]
fn what_a_compliance_policy_enforces_beats_a_configuration_profile() {
    let ids = ids(2);
    let Some((rule, setting)) = catalogue().rules().find_map(|rule| Some((rule.id.clone(), rule.enforced(catalogue(), &json!(8))?.0)))
    else {
        panic!("the catalogue has a rule that enforces a number");
    };
    let loose = document(json!({"settings": {setting.id.as_str(): 14}}));
    let policy = document(json!({"compliance": {"rules": {rule: 8}}}));
    let candidates = [
        Candidate { profile: &ids[0], kind: Kind::Configuration, document: &loose },
        Candidate { profile: &ids[1], kind: Kind::Compliance, document: &policy },
    ];
    let wanted = effective(&candidates, Target::Of(Platform::Windows), catalogue());
    assert_eq!(wanted.winners.values().next().unwrap().profile, ids[1]);
}

#[test]
fn a_setting_that_changes_hands_is_not_sent_again() {
    let ids = ids(2);
    let same = document(json!({"settings": {SHORTEST: 8}}));
    let both = merged(&[(&ids[0], &same), (&ids[1], &same)]);
    let (mut items, sent, _) = round(ids.iter().map(item).collect(), &both, NOW);
    assert_eq!(sent, 1);
    items[0].desired_version = None;
    let (items, sent, removed) = round(items, &merged(&[(&ids[1], &same)]), NOW);
    assert_eq!((sent, removed, items.len()), (0, 0, 1));
    assert_eq!((&items[0].profile_id, items[0].state), (&ids[1], State::Verified));
}

#[test]
fn an_unassigned_profile_is_taken_away_and_then_forgotten() {
    let ids = ids(1);
    let wanted = document(json!({"settings": {SHORTEST: 8, LONGEST: 20}}));
    let (mut items, sent, _) = round(vec![item(&ids[0])], &merged(&[(&ids[0], &wanted)]), NOW);
    assert_eq!(sent, 2);
    items[0].desired_version = None;
    let (items, sent, removed) = round(items, &Effective::default(), NOW);
    assert_eq!((sent, removed, items.len()), (0, 2, 0));
}

#[test]
fn drift_is_counted_and_put_right() {
    let ids = ids(1);
    let content = document(json!({"settings": {SHORTEST: 8}}));
    let wanted = merged(&[(&ids[0], &content)]);
    let (mut items, ..) = round(vec![item(&ids[0])], &wanted, NOW);
    let later = items[0].due_at.unwrap();
    assert_eq!(later, NOW.plus(TIMING.drift_check));
    assert!(plan(&items, &wanted, later.plus(-1)).is_empty());
    let due = plan(&items, &wanted, later);
    let key = due.check[0].key.clone();
    apply(&mut items, &key, Input::Differs { found: Some("4".into()) }, TIMING, later);
    let (items, sent, _) = round(items, &wanted, later);
    assert_eq!(sent, 1);
    let record = items[0].detail.records.values().next().unwrap();
    assert_eq!(record.drift, Some(Drift { count: 1, at: later, found: Some("4".into()) }));
    assert_eq!(items[0].state, State::Verified);
}

#[test]
fn failures_are_tried_again_with_longer_pauses_and_then_given_up() {
    let mut record = Record::wanted("h".into(), NOW);
    let mut now = NOW;
    let mut pauses = Vec::new();
    for _ in 0..MAX_TRIES - 1 {
        record = step(record, Input::Retry { status: 500, original_error: None }, TIMING, now).unwrap();
        let due = record.due_at.unwrap();
        pauses.push(due.since(now));
        now = due;
    }
    assert!(pauses.is_sorted() && pauses[0] == back_off(1));
    let record = step(record, Input::Retry { status: 500, original_error: Some("0x86000011".into()) }, TIMING, now).unwrap();
    assert_eq!((record.state, record.due_at), (State::Failed, None));
    let record = step(record, Input::Wanted("other".into()), TIMING, now).unwrap();
    assert_eq!((record.state, record.tries), (State::Pending, 0));
    assert_eq!(back_off(u32::MAX), 8 * HOUR);
}

#[test]
fn a_lost_session_sends_again_and_a_removal_is_not_forgotten() {
    let sent = step(Record::wanted("h".into(), NOW), Input::Sent, TIMING, NOW).unwrap();
    let lost = step(sent, Input::Lost, TIMING, NOW).unwrap();
    assert_eq!((lost.state, lost.due_at), (State::Pending, Some(NOW)));
    assert!(lost.may_be_on_device());
    let removing = step(lost, Input::Unwanted, TIMING, NOW).unwrap();
    assert_eq!(removing.state, State::Removing);
    assert_eq!(step(Record::wanted("h".into(), NOW), Input::Unwanted, TIMING, NOW), None);
}

#[test]
fn what_the_server_cannot_make_today_is_tried_again_tomorrow() {
    let unmet = step(Record::wanted("h".into(), NOW), Input::Unmet { why: "Email: no value".into() }, TIMING, NOW).unwrap();
    assert_eq!((unmet.state, unmet.original_error.as_deref()), (State::Failed, Some("Email: no value")));
    let tomorrow = unmet.due_at.unwrap();
    assert_eq!(tomorrow.since(NOW), DAY);
    let sent = step(unmet, Input::Sent, TIMING, tomorrow).unwrap();
    assert_eq!(sent.state, State::Sent);
    let held = step(sent, Input::Matches, TIMING, tomorrow).unwrap();
    assert_eq!((held.state, held.original_error), (State::Verified, None));
}

fn inputs() -> impl Strategy<Value = Input> {
    prop_oneof![
        "[ab]".prop_map(Input::Wanted),
        Just(Input::Unwanted),
        Just(Input::Sent),
        Just(Input::Taken { status: 200 }),
        Just(Input::Matches),
        Just(Input::Differs { found: None }),
        Just(Input::Removed),
        Just(Input::Retry { status: 500, original_error: None }),
        Just(Input::Refused { status: 405, original_error: None }),
        Just(Input::Unmet { why: "no value".into() }),
        Just(Input::NotApplicable { status: 406 }),
        Just(Input::Lacks(Lack::Version)),
        Just(Input::Lost),
    ]
}

proptest! {
    #[test]
    fn what_is_open_is_always_due_and_tries_are_bounded(inputs in proptest::collection::vec(inputs(), 0..60)) {
        let mut record = Record::wanted("a".into(), NOW);
        for input in inputs {
            let Some(next) = step(record, input, TIMING, NOW) else { return Ok(()) };
            record = next;
            let open = matches!(record.state, State::Pending | State::Sent | State::Delivered | State::Removing);
            prop_assert!(!open || record.due_at.is_some());
            prop_assert!(record.state != State::Pending || record.tries < MAX_TRIES);
        }
    }

    #[test]
    fn after_a_round_nothing_is_left_to_do(
        before in proptest::collection::vec((4..12_u32, 12..20_u32, any::<bool>()), 1..5),
        after in proptest::collection::vec((4..12_u32, 12..20_u32, any::<bool>()), 5),
    ) {
        let ids = ids(before.len());
        let content = |(short, long, both): (u32, u32, bool)| {
            document(if both { json!({"settings": {SHORTEST: short, LONGEST: long}}) } else { json!({"settings": {SHORTEST: short}}) })
        };
        let documents: Vec<_> = before.iter().copied().map(content).collect();
        let pairs: Vec<_> = ids.iter().zip(&documents).collect();
        let wanted = merged(&pairs);
        let (items, sent, removed) = round(ids.iter().map(item).collect(), &wanted, NOW);
        prop_assert_eq!((sent, removed), (wanted.winners.len(), 0));
        let (items, sent, removed) = round(items, &wanted, NOW);
        prop_assert_eq!((sent, removed), (0, 0));
        // Other values, and the first profile unassigned: the device ends up with exactly what is wanted.
        let documents: Vec<_> = after.into_iter().take(ids.len()).map(content).collect();
        let pairs: Vec<_> = ids.iter().zip(&documents).skip(1).collect();
        let changed = merged(&pairs);
        let mut items = items;
        items[0].desired_version = None;
        let (items, ..) = round(items, &changed, NOW);
        let held: BTreeMap<_, _> = items
            .iter()
            .flat_map(|item| &item.detail.records)
            .filter(|(_, record)| record.winner.is_none())
            .map(|(key, record)| (key.clone(), record.value_hash.clone()))
            .collect();
        let expected: BTreeMap<_, _> =
            changed.winners.iter().map(|(key, winner)| (key.clone(), winner.value_hash.clone())).collect();
        prop_assert_eq!(held, expected);
        prop_assert!(items.iter().all(|item| item.profile_id != ids[0]));
        let (_, sent, removed) = round(items, &changed, NOW);
        prop_assert_eq!((sent, removed), (0, 0));
    }
}
