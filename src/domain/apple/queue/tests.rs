use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::clock::{DAY, HOUR};

const NOW: Time = Time(1_000_000);

fn command(key: &str) -> Planned {
    Planned { key: key.into(), uuid: format!("uuid-{key}"), once: false }
}

fn once(key: &str) -> Planned {
    Planned { once: true, ..command(key) }
}

/// A channel under test: each step checks what the device gets.
struct Channel(Queue);

impl Channel {
    fn of(planned: Vec<Planned>) -> Self {
        let mut queue = Queue::default();
        assert!(queue.enqueue(planned, NOW).is_empty());
        Self(queue)
    }

    fn says(&mut self, status: Status, key: Option<&str>) -> (Received, Option<String>) {
        let uuid = key.map(|key| format!("uuid-{key}"));
        let (queue, received) = std::mem::take(&mut self.0).receive(status, uuid.as_deref(), NOW);
        let (queue, next) = queue.respond();
        // What is stored between two messages is all there is.
        self.0 = serde_json::from_str(&serde_json::to_string(&queue).unwrap()).unwrap();
        assert_eq!(self.0, queue);
        (received, next.map(|next| next.key))
    }

    fn gets(&mut self, status: Status, key: Option<&str>) -> Option<String> {
        self.says(status, key).1
    }
}

fn some(key: &str) -> Option<String> {
    Some(key.into())
}

#[test]
fn commands_go_one_after_the_other() {
    let mut channel = Channel::of(vec![command("a"), command("b")]);
    assert_eq!(channel.gets(Status::Idle, None), some("a"));
    let (received, next) = channel.says(Status::Acknowledged, Some("a"));
    let done = Outcome { key: "a".into(), verdict: Verdict::Done };
    assert_eq!((received, next), (Received::Settled(done), some("b")));
    assert_eq!(channel.gets(Status::Error, Some("b")), None);
    assert!(channel.0.is_empty());
    assert_eq!(channel.gets(Status::Idle, None), None);
}

#[test]
fn what_is_put_off_waits_for_the_next_idle_and_the_others_go_on() {
    let mut channel = Channel::of(vec![command("a"), command("b")]);
    assert_eq!(channel.gets(Status::Idle, None), some("a"));
    let (received, next) = channel.says(Status::NotNow, Some("a"));
    assert_eq!((received, next), (Received::Deferred("a".into()), some("b")));
    assert_eq!(channel.gets(Status::Acknowledged, Some("b")), None);
    // The device's last word was no "not now": it has to be woken.
    assert_eq!(channel.0.waits_since(NOW), Some(NOW));
    assert_eq!(channel.gets(Status::Idle, None), some("a"));
}

#[test]
fn a_command_goes_before_one_that_waits_and_nothing_goes_twice() {
    let mut channel = Channel::of(vec![command("a"), command("c")]);
    channel.0.enqueue_before("c", command("b"), NOW);
    channel.0.enqueue_before("c", command("a"), NOW);
    channel.0.enqueue_before("nobody", command("d"), NOW);
    assert_eq!(channel.0.pending().collect::<Vec<_>>(), ["a", "b", "c"]);
    let mut full = Channel::of((0..MOST).map(|number| command(&number.to_string())).collect());
    full.0.enqueue_before("1", command("b"), NOW);
    assert!(!full.0.holds("b"));
}

#[test]
fn an_exchange_ends_however_much_there_is_to_ask() {
    let mut channel = Channel::of(vec![command("a")]);
    assert_eq!(channel.gets(Status::Idle, None), some("a"));
    let mut given = 1;
    loop {
        // Whatever is answered, it is asked again.
        channel.0 = channel.0.receive(Status::Acknowledged, Some("uuid-a"), NOW).0;
        let _ = channel.0.enqueue([command("a")], NOW);
        let (queue, next) = channel.0.respond();
        channel.0 = queue;
        if next.is_none() {
            break;
        }
        given += 1;
    }
    assert!(given == MOST_OF_EXCHANGE && channel.0.is_over() && channel.0.waits_since(NOW).is_some());
    assert_eq!(channel.gets(Status::Idle, None), some("a"));
    assert!(!channel.0.is_over());
}

#[test]
fn a_single_command_that_is_put_off_ends_the_exchange() {
    let mut channel = Channel::of(vec![command("a")]);
    assert_eq!(channel.gets(Status::Idle, None), some("a"));
    assert_eq!(channel.gets(Status::NotNow, Some("a")), None);
    assert_eq!(channel.gets(Status::Idle, None), some("a"));
    for _ in 0..100 {
        assert_eq!(channel.gets(Status::NotNow, Some("a")), None);
        assert_eq!(channel.gets(Status::Idle, None), some("a"));
    }
}

#[test]
fn what_was_cut_off_is_delivered_again_under_the_same_name() {
    let mut channel = Channel::of(vec![command("a"), command("b")]);
    assert_eq!(channel.gets(Status::Idle, None), some("a"));
    let before = channel.0.entries[0].planned.uuid.clone();
    assert_eq!(channel.gets(Status::Idle, None), some("a"));
    assert_eq!(channel.0.entries[0].planned.uuid, before);
    assert_eq!(channel.0.entries[0].deliveries, 2);
}

#[test]
fn what_does_harm_twice_is_not_delivered_twice() {
    let mut channel = Channel::of(vec![once("erase"), command("b")]);
    assert_eq!(channel.gets(Status::Idle, None), some("erase"));
    assert_eq!(channel.gets(Status::Idle, None), some("b"));
    assert_eq!(channel.0.pending().collect::<Vec<_>>(), ["b"], "its answer is the caller's to wait for");
    assert_eq!(channel.says(Status::Acknowledged, Some("erase")).0, Received::Unknown);
    // Put off, it was not done, and may be delivered again.
    let mut channel = Channel::of(vec![once("lock")]);
    assert_eq!(channel.gets(Status::Idle, None), some("lock"));
    assert_eq!(channel.gets(Status::NotNow, Some("lock")), None);
    assert_eq!(channel.gets(Status::Idle, None), some("lock"));
}

#[test]
fn late_doubled_and_guessed_answers_change_nothing() {
    let mut channel = Channel::of(vec![command("a"), command("b"), command("c")]);
    assert_eq!(channel.gets(Status::Idle, None), some("a"));
    assert_eq!(channel.gets(Status::Acknowledged, Some("a")), some("b"));
    let (received, next) = channel.says(Status::Acknowledged, Some("a"));
    assert_eq!((received, next), (Received::Unknown, some("b")), "the one under way comes again");
    let (received, next) = channel.says(Status::Acknowledged, Some("c"));
    assert_eq!((received, next), (Received::Unknown, some("b")), "c was never delivered");
    assert_eq!(channel.0.pending().collect::<Vec<_>>(), ["b", "c"]);
    let mut held = Channel::of(vec![once("erase"), command("b")]);
    assert_eq!(held.gets(Status::Idle, None), some("erase"));
    assert_eq!(held.gets(Status::Error, Some("x")), None, "nothing passes what may not be repeated");
}

#[test]
fn a_command_that_the_device_cannot_read_is_over() {
    let mut channel = Channel::of(vec![command("a"), command("b")]);
    assert_eq!(channel.gets(Status::Idle, None), some("a"));
    let (received, next) = channel.says(Status::CommandFormatError, Some("a"));
    assert!(matches!(received, Received::Settled(Outcome { verdict: Verdict::Malformed, .. })));
    assert_eq!(next, some("b"));
}

#[test]
fn a_key_waits_once_and_a_channel_is_not_endless() {
    let mut channel = Channel::of(vec![command("a")]);
    assert_eq!(channel.0.enqueue([command("a"), command("b")], NOW), ["a"]);
    let refused = channel.0.enqueue((0..MOST).map(|n| command(&n.to_string())), NOW);
    assert_eq!(refused.len(), 2);
}

#[test]
fn what_waits_too_long_or_is_taken_back_is_over() {
    let mut channel = Channel::of(vec![command("a"), once("b"), command("c")]);
    assert_eq!((channel.0.key_of("uuid-c"), channel.0.key_of("uuid-d")), (Some("c"), None));
    assert!(channel.0.withdraw("c"));
    assert!(!channel.0.withdraw("c"));
    assert_eq!(channel.gets(Status::Idle, None), some("a"));
    assert!(!channel.0.withdraw("a"), "it is under way");
    assert!(channel.0.expire(DAY, NOW.plus(DAY)).is_empty());
    assert_eq!(channel.gets(Status::Acknowledged, Some("a")), some("b"));
    let over = channel.0.expire(DAY, NOW.plus(DAY + 1));
    assert_eq!(over, [Outcome { key: "b".into(), verdict: Verdict::Expired }]);
}

#[test]
fn what_could_not_be_made_does_not_hold_the_channel() {
    let mut channel = Channel::of(vec![once("a"), command("b")]);
    let (queue, _) = std::mem::take(&mut channel.0).receive(Status::Idle, None, NOW);
    let (mut queue, next) = queue.respond();
    queue.undelivered(&next.unwrap().key);
    let (queue, next) = queue.respond();
    assert_eq!(next.unwrap().key, "b");
    let (queue, _) = queue.receive(Status::Idle, None, NOW);
    assert_eq!(queue.pending().count(), 2);
}

#[test]
fn what_is_put_off_again_and_again_waits_since_it_was_put_off_first() {
    let mut queue = Channel::of(vec![command("a")]).0;
    assert_eq!(queue.waits_since(NOW), Some(NOW));
    for hours in 0..3 {
        let now = NOW.plus(hours * HOUR);
        let (next, _) = queue.receive(Status::Idle, None, now);
        let (next, _) = next.respond();
        let (next, _) = next.receive(Status::NotNow, Some("uuid-a"), now);
        queue = next;
        assert_eq!(queue.waits_since(now), Some(NOW));
    }
    // Something new is not held up by that; and once all is done there is no reason to wake.
    let now = NOW.plus(DAY);
    assert!(queue.enqueue([command("b")], now).is_empty());
    assert_eq!(queue.waits_since(now), Some(now));
    let mut channel = Channel(queue);
    assert_eq!(channel.gets(Status::Idle, None), some("a"));
    assert_eq!(channel.gets(Status::Acknowledged, Some("a")), some("b"));
    assert_eq!(channel.gets(Status::Acknowledged, Some("b")), None);
    assert_eq!(channel.0.waits_since(now), None);
}

#[derive(Clone, Debug)]
enum Event {
    Add(u8, bool),
    Idle,
    Answer(Status),
    Again(Status),
    Cut,
}

fn events() -> impl Strategy<Value = Event> {
    let status = || prop_oneof![Just(Status::Acknowledged), Just(Status::Error), Just(Status::NotNow), Just(Status::CommandFormatError)];
    prop_oneof![
        (any::<u8>(), any::<bool>()).prop_map(|(n, once)| Event::Add(n % 20, once)),
        Just(Event::Idle),
        status().prop_map(Event::Answer),
        status().prop_map(Event::Again),
        Just(Event::Cut),
    ]
}

proptest! {
    /// A device that follows the protocol but loses answers: nothing is lost or doubled, and what does harm twice runs once.
    #[test]
    fn every_command_is_settled_once(events in proptest::collection::vec(events(), 0..80)) {
        let mut queue = Queue::default();
        let mut added: BTreeMap<String, u32> = BTreeMap::new();
        let mut settled: BTreeMap<String, u32> = BTreeMap::new();
        // What is under way and may not be given twice.
        let mut held_once: Option<String> = None;
        let mut ran: BTreeMap<String, u32> = BTreeMap::new();
        let mut serial = 0;
        // What the device holds: the command delivered last, and the one before.
        let (mut held, mut before): (Option<Planned>, Option<Planned>) = (None, None);
        for event in events {
            let (status, uuid) = match &event {
                Event::Add(n, once) => {
                    serial += 1;
                    let key = n.to_string();
                    let planned = Planned { key: key.clone(), uuid: format!("{key}-{serial}"), once: *once };
                    if queue.enqueue([planned], NOW).is_empty() {
                        *added.entry(key).or_default() += 1;
                    }
                    continue;
                }
                Event::Idle => (Status::Idle, None),
                Event::Answer(status) => match held.take() {
                    Some(planned) => {
                        before = Some(planned.clone());
                        if *status == Status::Acknowledged {
                            *ran.entry(planned.uuid.clone()).or_default() += 1;
                            prop_assert!(!planned.once || ran[&planned.uuid] == 1, "done twice");
                        }
                        (*status, Some(planned.uuid))
                    }
                    None => continue,
                },
                Event::Again(status) => match &before {
                    Some(planned) => (*status, Some(planned.uuid.clone())),
                    None => continue,
                },
                Event::Cut => {
                    held = None;
                    continue;
                }
            };
            let waiting: BTreeSet<String> = queue.pending().map(str::to_owned).collect();
            let (next, received) = queue.receive(status, uuid.as_deref(), NOW);
            let left: BTreeSet<String> = next.pending().map(str::to_owned).collect();
            for key in waiting.difference(&left) {
                *settled.entry(key.clone()).or_default() += 1;
            }
            match received {
                Received::Settled(outcome) => prop_assert!(!left.contains(&outcome.key)),
                Received::Idle => prop_assert!(waiting.difference(&left).all(|key| held_once.as_ref() == Some(key)), "lost, and may be repeated"),
                Received::Deferred(_) | Received::Unknown => prop_assert_eq!(&waiting, &left),
            }
            let (next, command) = next.respond();
            queue = next;
            prop_assert!(queue.entries.iter().filter(|e| e.stage == Stage::Sent).count() <= 1, "two under way");
            if let Some(planned) = &command {
                held_once = planned.once.then(|| planned.key.clone());
            }
            held = command;
        }
        for key in queue.pending() {
            *settled.entry(key.to_owned()).or_default() += 1;
        }
        prop_assert_eq!(added, settled);
    }
}
