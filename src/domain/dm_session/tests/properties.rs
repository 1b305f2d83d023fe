//! Random work against random answers.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A device that answers each command with a code of its choice, or not at all.
fn react(answer: &SyncMl, choices: &mut impl Iterator<Item = u16>) -> Vec<Command> {
    let mut body = vec![];
    let mut visit = |command: &Command, choices: &mut dyn Iterator<Item = u16>| {
        let (Some(id), code) = (command.id(), choices.next().unwrap_or(200)) else { return };
        if code == 1 {
            return;
        }
        body.push(status(answer.header.msg_id, id, command.name(), code));
        if let (Command::Operation(Operation { verb: Verb::Get, items, .. }), 200) = (command, code) {
            body.push(results(answer.header.msg_id, id, &items[0].target.as_ref().unwrap().uri, "value", None, false));
        }
    };
    for command in &answer.body {
        match command {
            Command::Status(_) | Command::Results(_) | Command::Alert(_) | Command::Unsupported(..) => {}
            Command::Operation(_) => visit(command, choices),
            Command::Atomic(group) | Command::Sequence(group) => {
                visit(command, choices);
                group.commands.iter().for_each(|inner| visit(inner, choices));
            }
        }
    }
    body
}

fn ids(body: &[Command], out: &mut Vec<String>) {
    for command in body {
        out.push(command.id().unwrap().to_owned());
        if let Command::Atomic(group) | Command::Sequence(group) = command {
            assert!(group.commands.iter().all(|inner| matches!(inner, Command::Operation(Operation { verb, .. }) if *verb != Verb::Get)));
            ids(&group.commands, out);
        }
    }
}

fn work() -> impl Strategy<Value = Vec<Planned>> {
    let op = (proptest::sample::select(Verb::ALL), 0..6u8, proptest::option::of("[a-z<&]{0,3000}")).prop_map(|(verb, place, data)| Op {
        verb,
        uri: if place == 0 { "./User/Vendor/MSFT/X".into() } else { format!("{BASE}/{place}") },
        format: Some(if place == 5 { Format::Node } else { Format::Chr }),
        mime: None,
        data,
    });
    proptest::collection::vec((proptest::collection::vec(op, 0..4), any::<bool>()), 0..8).prop_map(|all| {
        let numbered = all.into_iter().enumerate();
        numbered.map(|(n, (ops, atomic))| Planned { key: n.to_string(), scope: Scope::Device, ops, atomic }).collect()
    })
}

proptest! {
    #[test]
    fn every_piece_of_work_ends_exactly_once(
        work in work(), limit in 1_500..9_000u64, most in 1..10usize, there in any::<bool>(),
        choices in proptest::collection::vec(proptest::sample::select(vec![
            1u16, 101, 200, 200, 200, 200, 202, 212, 213, 214, 215, 216, 400, 404, 404, 405, 406, 418, 418, 424, 500, 507, 516, 999]), 0..200),
    ) {
        let mut choices = choices.into_iter();
        let mut first = message(1, if there { vec![login("user")] } else { vec![] });
        first.header.meta.max_msg_size = Some(limit);
        let (mut session, _) = Session::start(&first).receive(first, &context()).unwrap();
        let mut ended: BTreeMap<String, u32> = work.iter().map(|planned| (planned.key.clone(), 0)).collect();
        let mut count = |outcomes: &[Outcome]| for outcome in outcomes {
            *ended.get_mut(&outcome.key).unwrap() += 1;
        };
        count(&session.enqueue(work));
        let manners = Manners { commands: most, ..Manners::default() };
        for msg_id in 2.. {
            prop_assert!(msg_id < 400, "the session does not end");
            let (after, answer, failed) = session.respond(&manners);
            count(&failed);
            let bytes = answer.encode();
            prop_assert!(bytes.len() as u64 <= limit);
            prop_assert_eq!(&SyncMl::decode(&bytes).unwrap(), &answer);
            let mut all = vec![];
            ids(&answer.body, &mut all);
            let unique: std::collections::BTreeSet<_> = all.iter().collect();
            prop_assert!(unique.len() == all.len() && all.iter().all(|id| id != "0"));
            session = after;
            if session.is_over() {
                break;
            }
            let (after, received) = next(session, msg_id, react(&answer, &mut choices));
            count(&received.outcomes);
            session = after;
        }
        for planned in session.pending() {
            *ended.get_mut(planned).unwrap() += 1;
        }
        prop_assert!(ended.values().all(|times| *times == 1), "{:?}", ended);
    }
}

/// What a device may say without being asked, sense or nonsense.
fn said() -> impl Strategy<Value = Command> {
    let id = || proptest::option::weighted(0.9, "[1-9][0-9]{0,2}|[a-f0-9]{8}");
    let uri = || {
        proptest::sample::select(vec!["./DevInfo/Man", "./Device/Vendor/MSFT/X/1", "./vendor/msft/x/2", "./User/Vendor/MSFT/X", "/x", ""])
    };
    let item = (uri(), "[a-z<&]{0,20}", proptest::option::of(0..40u64), any::<bool>(), any::<bool>()).prop_map(
        |(uri, text, size, more, target)| {
            let address = Some(Address::new(uri));
            let (target, source) = if target { (address, None) } else { (None, address) };
            Item { target, source, meta: Meta { size, ..Meta::default() }, data: Some(Data::Text(text)), more }
        },
    );
    let items = proptest::collection::vec(item, 0..3);
    let code = proptest::sample::select(vec![0u16, 101, 200, 212, 213, 214, 215, 216, 404, 405, 418, 500, 507, 516]);
    let kinds = vec!["com.microsoft/MDM/LoginStatus", "com.microsoft.mdm.synctype", "com.microsoft:mdm.unenrollment.userrequest", "x"];
    let words = proptest::sample::select(vec!["user", "none", "others", "device", "mixed", "1", ""]);
    let alerts = proptest::sample::select(vec![0u16, 1200, 1201, 1222, 1222, 1223, 1224, 1224, 1224, 1225, 1226, 9999]);
    prop_oneof![
        (0..6u32, 0..30u32, code).prop_map(|(message, command, code)| status(message, &command.to_string(), "Get", code)),
        (id(), 0..6u32, 0..30u32, items.clone()).prop_map(|(id, msg_ref, command, items)| {
            Command::Results(Results { id, msg_ref, cmd_ref: command.to_string(), items, ..Results::default() })
        }),
        (id(), alerts, proptest::option::of(proptest::sample::select(kinds)), words).prop_map(|(id, code, kind, word)| {
            let Command::Alert(said) = alert("1", code, kind, word) else { unreachable!("an alert") };
            Command::Alert(Alert { id, ..said })
        }),
        (id(), proptest::sample::select(Verb::ALL), items)
            .prop_map(|(id, verb, items)| { Command::Operation(Operation { id, verb, meta: Meta::default(), correlator: None, items }) }),
        id().prop_map(|id| Command::Atomic(Group { id, ..Group::default() })),
        id().prop_map(|id| Command::Unsupported(crate::wire::syncml::Unsupported::Put, id)),
    ]
}

proptest! {
    #[test]
    fn whatever_a_device_says_the_session_keeps_its_rules(
        work in work(), most in 1..10usize,
        choices in proptest::collection::vec(proptest::sample::select(vec![1u16, 1, 101, 200, 200, 202, 213, 214, 404, 418, 507]), 0..60),
        messages in proptest::collection::vec(
            (proptest::collection::vec(said(), 0..6), any::<bool>(), any::<bool>(), proptest::bool::weighted(0.8)), 1..8),
    ) {
        let mut choices = choices.into_iter();
        let mut keys: BTreeMap<String, u32> = work.iter().map(|planned| (planned.key.clone(), 0)).collect();
        let first = message(1, vec![login("user")]);
        let (mut session, _) = Session::start(&first).receive(first, &context()).unwrap();
        let mut count = |outcomes: &[Outcome]| for outcome in outcomes {
            *keys.get_mut(&outcome.key).unwrap() += 1;
        };
        count(&session.enqueue(work));
        let manners = Manners { commands: most, ..Manners::default() };
        let mut stopped = false;
        let mut quiet = false;
        let mut expected = vec!["SyncHdr".to_owned(), "Alert".to_owned()];
        for (number, (extra, answers, backwards, last)) in (2..).zip(messages) {
            let (after, answer, failed) = session.respond(&manners);
            count(&failed);
            prop_assert_eq!(&SyncMl::decode(&answer.encode()).unwrap(), &answer);
            // Each command is answered once, in its order; results only where a large object needs it.
            let statuses: Vec<_> = codes(&answer).into_iter().map(|(name, _)| name).filter(|name| name != "Results").collect();
            prop_assert_eq!(&statuses, &expected);
            let sent = names(&answer).iter().any(|name| *name != "Alert");
            prop_assert!(!sent || !(stopped || quiet), "commands after the end or in the middle of something");
            prop_assert!(!after.is_over() || (names(&answer).is_empty() && answer.last));
            let mut all = vec![];
            ids(&answer.body, &mut all);
            let unique: std::collections::BTreeSet<_> = all.iter().collect();
            prop_assert!(unique.len() == all.len() && all.iter().all(|id| id != "0"));

            let mut body = if answers { react(&answer, &mut choices) } else { vec![] };
            body.extend(extra);
            if backwards {
                body.reverse();
            }
            expected = vec!["SyncHdr".to_owned()];
            expected.extend(body.iter().filter(|c| !matches!(c, Command::Status(_) | Command::Results(_))).map(|c| c.name().to_owned()));
            let next_message = SyncMl { last, ..message(number, body) };
            // Large objects lie beside what is stored between messages.
            let mut stored = after.clone();
            let mut object = after.upload.map(|upload| upload.before).unwrap_or_default();
            object.extend(stored.take_piece().map(|piece| piece.text));
            let mut after = serde_json::from_str::<Session>(&serde_json::to_string(&stored).unwrap()).unwrap();
            prop_assert_eq!(&after, &stored);
            after.resume(object);
            let (after, received) = after.receive(next_message, &context()).unwrap();
            count(&received.outcomes);
            stopped |= received.unenrolled || received.aborted;
            quiet = received.keep_alive || !last;
            prop_assert_eq!(stopped, stopped && after.phase() != Phase::Managing);
            session = after;
        }
        let pending: Vec<String> = session.pending().map(str::to_owned).collect();
        let left = session.abandon();
        let abandoned: Vec<_> = [left.unsent, left.resend, left.uncertain].concat();
        prop_assert_eq!(abandoned.len(), pending.len());
        for planned in abandoned {
            prop_assert!(pending.contains(&planned.key));
            *keys.get_mut(&planned.key).unwrap() += 1;
        }
        prop_assert!(keys.values().all(|times| *times == 1), "{:?}", keys);
    }
}
