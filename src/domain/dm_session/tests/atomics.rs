//! What the device does as a whole or not at all.

use super::*;

fn atomic() -> Planned {
    let ops = vec![
        Op::add_node(BASE),
        Op::add(format!("{BASE}/A"), Format::Chr, "1"),
        Op::exec(format!("{BASE}/Run")),
        Op::get(format!("{BASE}/Status")),
    ];
    Planned { key: "atomic".into(), scope: Scope::Device, ops, atomic: true }
}

/// Sends the atomic and answers it: the codes of Atomic, its three children and the Get.
fn answer_atomic(codes: [u16; 5]) -> (Session, Received) {
    let (mut session, _) = begin(vec![]);
    session.enqueue(vec![atomic()]);
    let (session, answer, _) = session.respond(&Manners::default());
    assert_eq!(names(&answer), ["Atomic", "Get"]);
    let Some(Command::Atomic(group)) = answer.body.iter().find(|command| matches!(command, Command::Atomic(_))) else { panic!("atomic") };
    assert!(group.commands.iter().all(|command| !matches!(command.name(), "Get" | "Atomic")));
    let mut ids = vec![group.id.clone().unwrap()];
    ids.extend(group.commands.iter().map(|command| command.id().unwrap().to_owned()));
    ids.push(commands(&answer).last().unwrap().1.clone());
    let body = ids.iter().zip(["Atomic", "Add", "Add", "Exec", "Get"]).zip(codes).filter(|(_, code)| *code > 0);
    next(session, 2, body.map(|((id, name), code)| status(1, id, name, code)).collect())
}

#[test]
fn a_failed_atomic_names_its_culprit() {
    let verdict = |codes| {
        let (_, received) = answer_atomic(codes);
        let [outcome] = received.outcomes.as_slice() else { panic!("{codes:?}") };
        (outcome.verdict, outcome.culprit)
    };
    assert_eq!(verdict([200, 200, 200, 200, 404]), (Verdict::Done, None));
    assert_eq!(verdict([507, 216, 425, 215, 404]), (Verdict::Failed, Some(1)));
    assert_eq!(verdict([507, 216, 216, 405, 404]), (Verdict::Failed, Some(2)));
    assert_eq!(verdict([507, 406, 215, 215, 404]), (Verdict::NotApplicable, Some(0)));
    assert_eq!(verdict([507, 216, 216, 216, 404]), (Verdict::Failed, None));
    assert_eq!(verdict([507, 0, 0, 0, 404]), (Verdict::Failed, None));
    // A child that nothing was said about is not done, whatever is said about the others and the whole.
    assert_eq!(verdict([200, 0, 0, 0, 404]), (Verdict::Retry, Some(0)));
    assert_eq!(verdict([200, 200, 0, 200, 404]), (Verdict::Retry, Some(1)));
    assert_eq!(verdict([0, 200, 0, 0, 404]), (Verdict::Retry, Some(1)));
    assert_eq!(verdict([0, 200, 200, 200, 404]), (Verdict::Done, None));
    assert_eq!(verdict([500, 0, 0, 0, 404]), (Verdict::Retry, None));
    // What is gone already is no reason to fail; what fails after the Atomic is.
    assert_eq!(verdict([200, 200, 200, 200, 403]), (Verdict::Failed, Some(3)));
    let (_, received) = answer_atomic([516, 216, 425, 215, 404]);
    assert!(received.reread);
}

#[test]
fn an_atomic_that_fell_for_a_wrong_verb_is_sent_again_once() {
    let (session, received) = answer_atomic([507, 216, 418, 215, 404]);
    assert!(received.outcomes.is_empty());
    let (session, answer, _) = session.respond(&Manners::default());
    let Some(Command::Atomic(group)) = answer.body.last() else { panic!("atomic") };
    assert_eq!(group.commands.iter().map(Command::name).collect::<Vec<_>>(), ["Add", "Replace", "Exec"]);
    let child = group.commands[1].id().unwrap();
    let (_, received) = next(session, 3, vec![status(2, group.id.as_deref().unwrap(), "Atomic", 507), status(2, child, "Replace", 404)]);
    assert_eq!((received.outcomes[0].verdict, received.outcomes[0].culprit), (Verdict::Failed, Some(1)));
}

#[test]
fn what_is_gone_already_does_not_hold_the_rest_of_an_atomic() {
    let (mut session, _) = begin(vec![]);
    let ops = ["A", "B", "C"].map(|name| Op::delete(format!("{BASE}/{name}")));
    session.enqueue(vec![Planned { key: "gone".into(), scope: Scope::Device, ops: ops.into(), atomic: true }]);
    let (session, answer, _) = session.respond(&Manners::default());
    let group = |answer: &SyncMl| match answer.body.last() {
        Some(Command::Atomic(group)) => group.clone(),
        other => panic!("{other:?}"),
    };
    let answers = |msg_ref, codes: &[u16], group: &Group| {
        let ids = std::iter::once(group.id.clone()).chain(group.commands.iter().map(|command| command.id().map(str::to_owned)));
        let all = ids.zip(codes).enumerate();
        all.map(|(at, (id, code))| status(msg_ref, &id.unwrap(), if at == 0 { "Atomic" } else { "Delete" }, *code)).collect::<Vec<_>>()
    };
    let (session, received) = next(session, 2, answers(1, &[507, 216, 404, 215], &group(&answer)));
    assert!(received.outcomes.is_empty());
    let (session, answer, _) = session.respond(&Manners::default());
    assert_eq!(group(&answer).commands.len(), 2);
    let (session, received) = next(session, 3, answers(2, &[507, 404, 215], &group(&answer)));
    assert!(received.outcomes.is_empty());
    let (session, answer, _) = session.respond(&Manners::default());
    let (_, received) = next(session, 4, answers(3, &[200, 200], &group(&answer)));
    let outcome = &received.outcomes[0];
    assert_eq!((outcome.verdict, outcome.ops.iter().map(|op| op.status).collect::<Vec<_>>()), (Verdict::Done, vec![404, 404, 200]));
}
