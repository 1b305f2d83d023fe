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
