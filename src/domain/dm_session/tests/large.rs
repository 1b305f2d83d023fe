//! Values that are larger than a message, or than the device takes.

use super::*;

#[test]
fn values_in_chunks_become_one() {
    let (session, sent) = send(vec![one("g", Op::get(BASE))]);
    let id = sent[0].1.clone();
    let (session, received) = next(session, 2, vec![status(1, &id, "Get", 200), results(1, &id, BASE, "ab", Some(6), true)]);
    assert!(received.outcomes.is_empty());
    let (session, answer, _) = session.respond(&Manners::default());
    assert_eq!((codes(&answer).last().unwrap().1, names(&answer), session.is_over()), (213, vec!["Alert"], false));
    let (session, _) = next(session, 3, vec![alert("1", 1222, None, ""), results(1, &id, "./vendor/msft/x", "cd", None, true)]);
    let (session, _, _) = session.respond(&Manners::default());
    let (session, received) = next(session, 4, vec![results(1, &id, BASE, "ef", None, false)]);
    assert_eq!(received.outcomes[0].ops[0].value.as_ref().unwrap().text, "abcdef");
    assert!(session.respond(&Manners::default()).0.is_idle());
}

#[test]
fn a_wrong_size_is_424_and_a_missing_end_is_1225() {
    let (session, sent) = send(vec![one("g", Op::get(BASE))]);
    let id = sent[0].1.clone();
    let chunk = |more, size| vec![status(1, &id, "Get", 200), results(1, &id, BASE, "ab", size, more)];
    let (session, _) = next(session, 2, chunk(true, Some(5)));
    let (wrong, received) = next(session.clone(), 3, chunk(false, None));
    assert_eq!((received.outcomes[0].verdict, received.outcomes[0].ops[0].status), (Verdict::Retry, 424));
    assert_eq!(codes(&wrong.respond(&Manners::default()).1).last().unwrap().1, 424);

    let (missing, received) = next(session, 3, vec![status(1, "0", "SyncHdr", 200)]);
    assert_eq!(received.outcomes[0].verdict, Verdict::Retry);
    assert!(missing.upload.is_none() && missing.units.is_empty());
    let (_, answer, _) = missing.respond(&Manners::default());
    let Some(Command::Alert(alert)) = answer.body.last() else { panic!("alert") };
    assert_eq!(alert.code, 1225);
}

#[test]
fn a_value_longer_than_announced_is_refused_as_soon_as_it_is() {
    let (session, sent) = send(vec![one("g", Op::get(BASE))]);
    let id = sent[0].1.clone();
    let (session, _) = next(session, 2, vec![status(1, &id, "Get", 200), results(1, &id, BASE, "ab", Some(5), true)]);
    let (session, received) = next(session, 3, vec![results(1, &id, BASE, "cdef", None, true)]);
    assert_eq!((received.outcomes[0].verdict, received.outcomes[0].ops[0].status), (Verdict::Retry, 424));
    assert!(!session.is_receiving());
    assert_eq!(codes(&session.respond(&Manners::default()).1).last().unwrap().1, 424);
}

#[test]
fn each_message_of_a_large_object_leaves_only_its_own_piece_to_store() {
    let (session, sent) = send(vec![one("g", Op::get(BASE))]);
    let id = sent[0].1.clone();
    let mut body = vec![status(1, &id, "Get", 200)];
    let (mut session, mut sizes, mut object) = (session, Vec::new(), String::new());
    for number in 0..20_u32 {
        body.push(results(1, &id, BASE, &"x".repeat(1000), (number == 0).then_some(20_010), true));
        let message = message(number + 2, std::mem::take(&mut body));
        assert!(!ends_object(&message));
        // Nothing that came before is needed for a piece in the middle.
        (session, _) = session.receive(message, &context()).unwrap();
        (session, _, _) = session.respond(&Manners::default());
        let piece = session.take_piece().unwrap();
        assert_eq!((piece.number, piece.text.len()), (number, 1000));
        object.push_str(&piece.text);
        let stored = serde_json::to_string(&session).unwrap();
        sizes.push(stored.len());
        session = serde_json::from_str(&stored).unwrap();
    }
    assert!(sizes.iter().all(|size| *size < sizes[0] + 20), "{sizes:?}");
    let last = message(22, vec![results(1, &id, BASE, &"y".repeat(10), None, false)]);
    assert!(ends_object(&last) && session.is_receiving());
    // Whoever forgets to give the pieces back gets no half value.
    let (_, received) = session.clone().receive(last.clone(), &context()).unwrap();
    assert_eq!(received.outcomes[0].ops[0].status, 424);
    session.resume(object);
    let (session, received) = session.receive(last, &context()).unwrap();
    assert_eq!(received.outcomes[0].ops[0].value.as_ref().unwrap().text.len(), 20_010);
    assert!(!session.is_receiving());
}

#[test]
fn a_value_that_is_too_large_is_refused_and_its_buffer_freed() {
    let (session, sent) = send(vec![one("g", Op::get(BASE))]);
    let id = sent[0].1.clone();
    let (session, received) = next(session, 2, vec![status(1, &id, "Get", 200), results(1, &id, BASE, "ab", Some(1 << 40), true)]);
    assert_eq!((received.outcomes[0].verdict, received.outcomes[0].ops[0].status), (Verdict::Failed, 413));
    assert_eq!(codes(&session.respond(&Manners::default()).1).last().unwrap().1, 413);
}

#[test]
fn large_data_goes_out_in_chunks_that_the_device_can_take() {
    let data: String = "<é&x>".repeat(2_000);
    let mut first = message(1, vec![login("user")]);
    first.header.meta.max_msg_size = Some(4_000);
    let (mut session, _) = Session::start(&first).receive(first, &context()).unwrap();
    session.enqueue(vec![one("big", Op::add(BASE, Format::Chr, data.clone())), one("after", Op::get(BASE))]);
    let mut joined = String::new();
    let mut msg_id = 1;
    loop {
        let (after, answer, failed) = session.respond(&Manners::default());
        assert!(failed.is_empty());
        assert!(answer.encode().len() <= 4_000);
        let last = answer.body.last().cloned().unwrap();
        let Command::Operation(add) = last else { panic!("{last:?}") };
        assert_eq!(add.verb, Verb::Add);
        let item = add.items.first().unwrap();
        assert_eq!(item.meta.size, (msg_id == 1).then_some(data.len() as u64));
        joined.push_str(item.data.as_ref().unwrap().as_str());
        assert_eq!(item.more, !answer.last);
        let code = if item.more { 213 } else { 200 };
        msg_id += 1;
        let (after, received) =
            next(after, msg_id, vec![status(msg_id - 1, add.id.as_deref().unwrap(), "Add", code), alert("1", 1222, None, "")]);
        session = after;
        if code == 200 {
            assert_eq!(received.outcomes[0].verdict, Verdict::Done);
            break;
        }
        assert!(received.outcomes.is_empty());
    }
    assert_eq!(joined, data);
    assert!(msg_id > 10);
    assert_eq!(names(&session.respond(&Manners::default()).1), ["Get"]);
}

#[test]
fn what_cannot_fit_fails_and_the_rest_goes_on() {
    let mut first = message(1, vec![]);
    first.header.meta.max_msg_size = Some(2_000);
    let (mut session, _) = Session::start(&first).receive(first, &context()).unwrap();
    let ops = vec![Op::add(BASE, Format::Chr, "x".repeat(5_000))];
    session.enqueue(vec![Planned { key: "big".into(), scope: Scope::Device, ops, atomic: true }, one("small", Op::get(BASE))]);
    let (_, answer, failed) = session.respond(&Manners::default());
    assert_eq!((failed[0].key.as_str(), failed[0].verdict, failed[0].ops[0].status), ("big", Verdict::Failed, 413));
    assert_eq!(names(&answer), ["Get"]);
}

#[test]
fn what_is_longer_than_the_device_takes_is_not_sent() {
    let mut first = message(1, vec![]);
    first.header.meta.max_obj_size = Some(100);
    let (mut session, _) = Session::start(&first).receive(first, &context()).unwrap();
    let add = |name: &str, length: usize| Op::add(format!("{BASE}/{name}"), Format::Chr, "x".repeat(length));
    let group = Planned { key: "group".into(), scope: Scope::Device, ops: vec![add("A", 1), add("B", 101)], atomic: true };
    session.enqueue(vec![one("long", add("C", 101)), group, one("fits", add("D", 100))]);
    let (_, answer, failed) = session.respond(&Manners::default());
    let said: Vec<_> = failed.iter().map(|outcome| (outcome.key.as_str(), outcome.verdict, outcome.culprit)).collect();
    assert_eq!(said, [("long", Verdict::Failed, Some(0)), ("group", Verdict::Failed, Some(1))]);
    assert_eq!(failed[1].ops.iter().map(|op| op.status).collect::<Vec<_>>(), [0, 413]);
    assert_eq!(commands(&answer).len(), 1);
}
