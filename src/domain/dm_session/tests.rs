//! The machine against a device that answers as told, with the few helpers that all its tests speak with.

use super::*;
use crate::wire::locuri::Scope;
use crate::wire::syncml::{Address, Alert, Command, Data, Format, Group, Item, Meta, Operation, Results, Status, Verb, auth};

mod atomics;
mod large;
mod properties;

const DEVICE: &str = "device-1";
const BASE: &str = "./Device/Vendor/MSFT/X";

fn context() -> Context<'static> {
    Context { device_id: DEVICE, proven: Proven::Certificate, shared: false }
}

fn message(msg_id: u32, body: Vec<Command>) -> SyncMl {
    let header = Header {
        ver_dtd: "1.2".into(),
        ver_proto: "DM/1.2".into(),
        session_id: "1".into(),
        msg_id,
        target: Address::new("https://m/MDM.svc?mode=Maintenance"),
        source: Address::new(DEVICE),
        ..Header::default()
    };
    SyncMl { header, body, last: true, ..SyncMl::default() }
}

fn alert(id: &str, code: u16, kind: Option<&str>, data: &str) -> Command {
    let items = kind.map(|kind| Item {
        meta: Meta { kind: Some(kind.into()), ..Meta::default() },
        data: Some(Data::Text(data.into())),
        ..Item::default()
    });
    Command::Alert(Alert { id: Some(id.into()), code, items: items.into_iter().collect(), ..Alert::default() })
}

fn login(word: &str) -> Command {
    alert("3", 1224, Some("com.microsoft/MDM/LoginStatus"), word)
}

fn begin(body: Vec<Command>) -> (Session, Received) {
    let first = message(1, body);
    Session::start(&first).receive(first, &context()).unwrap()
}

fn one(key: &str, op: Op) -> Planned {
    Planned { key: key.into(), scope: Scope::Device, ops: vec![op], atomic: false }
}

fn status(msg_ref: u32, cmd_ref: &str, cmd: &'static str, code: u16) -> Command {
    Command::Status(Status { id: Some("9".into()), msg_ref, cmd_ref: cmd_ref.into(), cmd: cmd.into(), code, ..Status::default() })
}

fn results(msg_ref: u32, cmd_ref: &str, uri: &str, text: &str, size: Option<u64>, more: bool) -> Command {
    let meta = Meta { format: Some(Format::Chr), size, ..Meta::default() };
    let item = Item { source: Some(Address::new(uri)), meta, data: Some(Data::Text(text.into())), more, ..Item::default() };
    Command::Results(Results { id: Some("8".into()), msg_ref, cmd_ref: cmd_ref.into(), items: vec![item], ..Results::default() })
}

/// What is not a status, with its id.
fn commands(answer: &SyncMl) -> Vec<(&'static str, String)> {
    let all = answer.body.iter().filter(|command| !matches!(command, Command::Status(_)));
    all.map(|command| (command.name(), command.id().unwrap().to_owned())).collect()
}

fn names(answer: &SyncMl) -> Vec<&'static str> {
    commands(answer).into_iter().map(|(name, _)| name).collect()
}

fn codes(answer: &SyncMl) -> Vec<(String, u16)> {
    let all = answer.body.iter().filter_map(|command| match command {
        Command::Status(status) => Some((status.cmd.to_string(), status.code)),
        _ => None,
    });
    all.collect()
}

/// Sends work in the first answer and returns the ids of its commands.
fn send(work: Vec<Planned>) -> (Session, Vec<(&'static str, String)>) {
    let (mut session, _) = begin(vec![login("user")]);
    assert!(session.enqueue(work).is_empty());
    let (session, answer, failed) = session.respond(&Manners::default());
    assert!(failed.is_empty());
    let sent = commands(&answer);
    (session, sent)
}

fn next(session: Session, msg_id: u32, body: Vec<Command>) -> (Session, Received) {
    // What is stored between messages is JSON, and large objects lie beside it.
    let (mut stored, mut object) = (session.clone(), session.upload.map(|upload| upload.before).unwrap_or_default());
    object.extend(stored.take_piece().map(|piece| piece.text));
    let mut session: Session = serde_json::from_str(&serde_json::to_string(&stored).unwrap()).unwrap();
    assert_eq!(session, stored);
    session.resume(object);
    session.receive(message(msg_id, body), &context()).unwrap()
}

fn answered(op: Op, scope: Scope, code: u16) -> (Session, Received) {
    let (session, sent) = send(vec![Planned { scope, ..one("k", op) }]);
    let (name, id) = sent.first().cloned().unwrap();
    next(session, 2, vec![status(1, &id, name, code)])
}

#[test]
fn an_idle_session_is_answered_the_same_without_any_state() {
    let answer = || {
        let (session, _) = begin(vec![alert("1", 1201, None, ""), login("user")]);
        let (session, answer, _) = session.respond(&Manners::default());
        assert!(session.is_over() && session.is_idle());
        answer.encode()
    };
    assert_eq!(answer(), answer());
    let answer = SyncMl::decode(&answer()).unwrap();
    assert_eq!(codes(&answer), [("SyncHdr".into(), 200), ("Alert".into(), 200), ("Alert".into(), 200)]);
    assert!(answer.last && names(&answer).is_empty());
    assert_eq!((answer.header.target.uri.as_str(), answer.header.source.uri.as_str()), (DEVICE, "https://m/MDM.svc?mode=Maintenance"));
}

#[test]
fn another_devices_name_is_refused_and_nothing_of_it_leaks() {
    let mut first = message(1, vec![]);
    first.header.source.uri = "device-2".into();
    let refusal = Session::start(&first).receive(first.clone(), &context()).unwrap_err();
    assert_eq!(refusal.code(), "MGT0004");
    let answer = refuse(&first, refusal);
    assert_eq!(codes(&answer), [("SyncHdr".into(), 403)]);
    assert!(answer.last);
}

#[test]
fn other_protocols_and_sessions_are_refused() {
    let mut first = message(1, vec![]);
    first.header.ver_proto = "DS/1.2".into();
    let refusal = Session::start(&first).receive(first.clone(), &context()).unwrap_err();
    assert_eq!((refusal.code(), codes(&refuse(&first, refusal))), ("MGT0002", vec![("SyncHdr".into(), 513)]));
    let (session, _) = begin(vec![]);
    let mut second = message(2, vec![]);
    second.header.session_id = "2".into();
    let refusal = session.receive(second.clone(), &context()).unwrap_err();
    assert_eq!((refusal.code(), codes(&refuse(&second, refusal))), ("MGT0003", vec![("SyncHdr".into(), 400)]));
    assert_eq!(codes(&refuse(&second, Refusal::ManagementMessageOutOfOrder)), [("SyncHdr".into(), 400)]);
    assert_eq!(Refusal::ManagementMessageOutOfOrder.code(), "MGT0001");
}

#[test]
fn challenges_carry_a_nonce_and_nothing_else() {
    let first = message(1, vec![login("user")]);
    for (judgement, code) in [(Judgement::Missing, 407), (Judgement::Wrong, 401)] {
        let answer = SyncMl::decode(&challenge(&first, judgement, b"nonce").unwrap().encode()).unwrap();
        let [Command::Status(status)] = answer.body.as_slice() else { panic!("one status") };
        assert_eq!(status.code, code);
        assert_eq!(status.chal.as_ref().and_then(auth::nonce).unwrap(), b"nonce");
    }
    assert!(challenge(&first, Judgement::Accepted, b"nonce").is_none());
    for (proven, code, chal) in [(Proven::ForSession, 212, false), (Proven::Once { next_nonce: b"n".to_vec() }, 200, true)] {
        let context = Context { proven, ..context() };
        let (session, _) = Session::start(&first).receive(first.clone(), &context).unwrap();
        let (_, answer, _) = session.respond(&Manners::default());
        let Some(Command::Status(status)) = answer.body.first() else { panic!("status") };
        assert_eq!((status.code, status.chal.is_some()), (code, chal));
    }
}

#[test]
fn codes_lead_to_verdicts_and_to_other_verbs() {
    let replace = || Op::replace(BASE, Format::Int, "1");
    let (session, received) = answered(Op::add(BASE, Format::Int, "1"), Scope::Device, 418);
    assert!(received.outcomes.is_empty());
    let (session, answer, _) = session.respond(&Manners::default());
    let [(name, id)] = commands(&answer).try_into().unwrap();
    assert_eq!(name, "Replace");
    let (_, received) = next(session, 3, vec![status(2, &id, name, 200)]);
    assert_eq!(received.outcomes.first().unwrap().verdict, Verdict::Done);

    let (session, _) = answered(replace(), Scope::Device, 404);
    let (session, answer, _) = session.respond(&Manners::default());
    let [(name, id)] = commands(&answer).try_into().unwrap();
    assert_eq!(name, "Add");
    let (_, received) = next(session, 3, vec![status(2, &id, name, 404)]);
    assert_eq!(received.outcomes.first().unwrap().verdict, Verdict::Failed);

    for (op, scope, code, verdict) in [
        (Op::delete(BASE), Scope::Device, 404, Verdict::Done),
        (Op::get(BASE), Scope::Device, 404, Verdict::Done),
        (replace(), Scope::User, 405, Verdict::Deferred),
        (Op::replace("./User/Vendor/MSFT/X", Format::Int, "1"), Scope::Device, 405, Verdict::Deferred),
        (replace(), Scope::Device, 405, Verdict::Failed),
        (replace(), Scope::Device, 406, Verdict::NotApplicable),
        (replace(), Scope::Device, 215, Verdict::Deferred),
        (replace(), Scope::Device, 500, Verdict::Retry),
        (Op::exec(BASE), Scope::Device, 202, Verdict::Done),
        (Op::add_node(BASE), Scope::Device, 418, Verdict::Done),
    ] {
        let (session, received) = answered(op, scope, code);
        let [outcome] = received.outcomes.as_slice() else { panic!("{code}") };
        assert_eq!((outcome.verdict, outcome.ops[0].status), (verdict, code));
        assert!(outcome.ops[0].value.is_none() && session.respond(&Manners::default()).0.is_idle());
    }
}

#[test]
fn after_214_nothing_more_is_sent_and_the_rest_is_left_over() {
    let (mut session, sent) = send(vec![one("a", Op::replace(BASE, Format::Int, "1")), one("b", Op::replace(BASE, Format::Int, "2"))]);
    session.enqueue(vec![one("c", Op::get(BASE))]);
    let (session, received) = next(session, 2, vec![status(1, &sent[0].1, "Replace", 214)]);
    assert_eq!(received.outcomes.first().unwrap().key, "a");
    let (session, answer, _) = session.respond(&Manners::default());
    assert!(names(&answer).is_empty() && session.is_over());
    let left = session.abandon();
    assert_eq!((left.resend[0].key.as_str(), left.unsent[0].key.as_str()), ("b", "c"));
}

#[test]
fn user_commands_wait_for_the_user() {
    let sync = |word| alert("4", 1224, Some("com.microsoft.mdm.synctype"), word);
    let user = || one("u", Op::replace("./User/Vendor/MSFT/X", Format::Int, "1"));
    let device = || one("d", Op::replace(BASE, Format::Int, "1"));
    for (body, user_goes, device_goes) in [
        (vec![], false, true),
        (vec![login("none")], false, true),
        (vec![login("others")], false, true),
        (vec![login("user")], true, true),
        (vec![login("user"), sync("device")], false, true),
        (vec![sync("user")], true, false),
        (vec![login("user"), sync("mixed")], true, true),
        (vec![login("others"), sync("mixed")], false, true),
        (vec![login("none"), sync("mixed")], false, true),
        (vec![login("others"), sync("user")], false, false),
    ] {
        let (mut session, _) = begin(body);
        let deferred = session.enqueue(vec![user(), device()]);
        assert!(deferred.iter().all(|outcome| outcome.verdict == Verdict::Deferred));
        let (_, answer, _) = session.respond(&Manners::default());
        let goes = |key| !deferred.iter().any(|outcome| outcome.key == key);
        assert_eq!((goes("u"), goes("d")), (user_goes, device_goes));
        assert_eq!(names(&answer).len(), usize::from(user_goes) + usize::from(device_goes));
    }
}

#[test]
fn what_is_not_there_for_a_user_who_is_not_there_is_asked_again_later() {
    let node = "./User/Vendor/MSFT/X";
    for (word, verdict) in [("user", Verdict::Done), ("", Verdict::Deferred)] {
        for op in [Op::get(node), Op::delete(node)] {
            let sync = alert("4", 1224, Some("com.microsoft.mdm.synctype"), "mixed");
            let (mut session, _) = begin(vec![login(word), sync]);
            session.enqueue(vec![one("k", op)]);
            let (session, answer, _) = session.respond(&Manners::default());
            let [(name, id)] = commands(&answer).try_into().unwrap();
            let (_, received) = next(session, 2, vec![status(1, &id, name, 404)]);
            assert_eq!(received.outcomes[0].verdict, verdict, "{word} {name}");
        }
    }
}

#[test]
fn work_that_was_not_sent_can_be_taken_back_and_what_was_sent_cannot() {
    let (mut session, _) = send(vec![one("sent", Op::exec(BASE))]);
    session.enqueue(vec![one("kept", Op::get(BASE)), one("taken-back", Op::get(BASE))]);
    session.retain_unsent(|key| key == "kept");
    assert_eq!(session.pending().collect::<Vec<_>>(), ["sent", "kept"]);
}

#[test]
fn on_an_enrolment_of_the_machine_no_user_is_meant_whoever_is_there() {
    let sync = alert("4", 1224, Some("com.microsoft.mdm.synctype"), "user");
    for body in [vec![login("user")], vec![login("user"), sync]] {
        let first = message(1, body);
        let (session, _) = Session::start(&first).receive(first, &Context { shared: true, ..context() }).unwrap();
        assert!(!session.takes_user_commands());
        let stored = serde_json::to_string(&session).unwrap();
        assert!(!serde_json::from_str::<Session>(&stored).unwrap().takes_user_commands());
    }
}

#[test]
fn nonsense_work_is_decided_at_once() {
    let (mut session, _) = begin(vec![]);
    let outcomes = session.enqueue(vec![Planned { ops: vec![], ..one("empty", Op::get(BASE)) }, one("bad", Op::get("/x"))]);
    assert_eq!(outcomes.iter().map(|o| (o.verdict, o.culprit)).collect::<Vec<_>>(), [(Verdict::Done, None), (Verdict::Failed, Some(0))]);
}

#[test]
fn an_unenrolment_is_answered_and_ends_all_commands() {
    let (mut session, received) = begin(vec![alert("1", 1226, Some("com.microsoft:mdm.unenrollment.userrequest"), "1")]);
    assert!(received.unenrolled);
    session.enqueue(vec![one("k", Op::get(BASE))]);
    let (session, answer, _) = session.respond(&Manners::default());
    assert_eq!(codes(&answer).last().unwrap(), &("Alert".to_owned(), 200));
    assert!(names(&answer).is_empty() && session.is_over());
    assert_eq!(session.abandon().unsent.len(), 1);
}

#[test]
fn unknown_alerts_are_kept_and_broken_ones_answered_with_400() {
    let broken = Command::Alert(Alert { id: None, code: 1226, ..Alert::default() });
    let (session, received) = begin(vec![alert("1", 1299, Some("com.example"), "x"), broken, alert("2", 0, None, "")]);
    assert_eq!(received.notices.len(), 1);
    assert_eq!((received.notices[0].code, received.notices[0].kind.as_deref()), (1299, Some("com.example")));
    assert!(!received.unenrolled);
    let (_, answer, _) = session.respond(&Manners::default());
    assert_eq!(codes(&answer).iter().map(|(_, code)| *code).collect::<Vec<_>>(), [200, 200, 400, 400]);
}

#[test]
fn an_abort_leaves_what_was_not_answered() {
    let (session, _) = send(vec![one("r", Op::replace(BASE, Format::Int, "1")), one("x", Op::exec(BASE))]);
    let (session, received) = next(session, 2, vec![alert("1", 1223, None, "")]);
    assert!(received.aborted);
    let (session, answer, _) = session.respond(&Manners::default());
    assert!(session.is_over() && names(&answer).is_empty());
    let left = session.abandon();
    assert_eq!((left.resend.len(), left.uncertain.len(), left.unsent.len()), (1, 1, 0));
}

#[test]
fn a_dead_session_gives_back_everything_but_what_may_have_run() {
    let (mut session, _) = send(vec![one("r", Op::replace(BASE, Format::Int, "1")), one("g", Op::get(BASE)), one("x", Op::exec(BASE))]);
    session.enqueue(vec![one("later", Op::exec(BASE))]);
    let left = session.abandon();
    let keys = |list: &[Planned]| list.iter().map(|planned| planned.key.clone()).collect::<Vec<_>>();
    assert_eq!(
        (keys(&left.resend), keys(&left.uncertain), keys(&left.unsent)),
        (vec!["r".into(), "g".into()], vec!["x".into()], vec!["later".into()])
    );
}

#[test]
fn a_keep_alive_is_answered_and_nothing_is_sent_again() {
    let (session, sent) = send(vec![one("x", Op::exec(BASE))]);
    let (mut session, received) = next(session, 2, vec![alert("1", 1224, Some("com.microsoft/MDM/Pending"), "1")]);
    assert!(received.keep_alive && received.outcomes.is_empty());
    session.enqueue(vec![one("later", Op::get(BASE))]);
    let (session, answer, _) = session.respond(&Manners::default());
    assert!(names(&answer).is_empty() && answer.last && !session.is_over());
    let (session, received) = next(session, 3, vec![status(1, &sent[0].1, "Exec", 200)]);
    assert_eq!(received.outcomes.len(), 1);
    assert_eq!(names(&session.respond(&Manners::default()).1), ["Get"]);
}

#[test]
fn answers_to_what_was_never_sent_are_counted_and_ignored() {
    let (session, _) = send(vec![one("g", Op::get(BASE))]);
    let body = vec![
        status(1, "777", "Get", 200),
        status(7, "2", "Get", 200),
        results(1, "777", BASE, "x", None, false),
        status(1, "0", "SyncHdr", 200),
    ];
    let (_, received) = next(session, 2, body);
    assert_eq!((received.strays, received.outcomes.len(), received.header_status), (3, 0, None));
}

#[test]
fn reports_of_the_device_are_taken_and_bad_addresses_are_not() {
    let report = |id: Option<&str>, uris: &[&str]| {
        let items = uris.iter().map(|uri| Item { source: Some(Address::new(*uri)), data: Some(Data::Text("v".into())), ..Item::default() });
        Command::Operation(Operation {
            id: id.map(str::to_owned),
            verb: Verb::Replace,
            meta: Meta::default(),
            correlator: None,
            items: items.collect(),
        })
    };
    let other =
        Command::Operation(Operation { id: Some("5".into()), verb: Verb::Get, meta: Meta::default(), correlator: None, items: vec![] });
    let (session, received) = begin(vec![
        report(Some("1"), &["./DevInfo/DevId", "./DevInfo/Man"]),
        report(Some("2"), &["./DevInfo/Mod", "../x"]),
        report(Some("3"), &["/x"]),
        report(None, &["./DevInfo/Lang"]),
        other,
        Command::Atomic(Group { id: Some("6".into()), ..Group::default() }),
    ]);
    assert_eq!(received.reports.len(), 2);
    assert_eq!(received.dev_info().unwrap(), DevInfo { id: Some("v".into()), manufacturer: Some("v".into()), ..DevInfo::default() });
    let (_, answer, _) = session.respond(&Manners::default());
    assert_eq!(codes(&answer).iter().map(|(_, code)| *code).collect::<Vec<_>>(), [200, 200, 400, 400, 400, 406, 406]);
}

#[test]
fn markup_is_embedded_when_the_format_says_so() {
    let op = Op { verb: Verb::Exec, ..Op::replace(BASE, Format::Xml, "<Job id=\"1\"/>") };
    let (mut session, _) = begin(vec![]);
    session.enqueue(vec![one("x", op), one("broken", Op::replace(BASE, Format::Xml, "<Job>"))]);
    let text = String::from_utf8(session.respond(&Manners::default()).1.encode()).unwrap();
    assert!(text.contains("<Data><Job id=\"1\"/></Data>") && text.contains("<Data>&lt;Job&gt;</Data>"), "{text}");
}

#[test]
fn more_work_than_one_message_holds_is_spread() {
    let (mut session, _) = begin(vec![]);
    session.enqueue((0..250).map(|n| one(&n.to_string(), Op::replace(format!("{BASE}/{n}"), Format::Int, "1"))).collect());
    let mut done = 0;
    let mut msg_id = 1;
    loop {
        let (after, answer, _) = session.respond(&Manners::default());
        let sent = commands(&answer);
        if sent.is_empty() {
            assert!(after.is_over());
            break;
        }
        assert!(sent.len() <= 100 && answer.last);
        let (after, received) = next(after, msg_id + 1, sent.iter().map(|(name, id)| status(msg_id, id, name, 200)).collect());
        done += received.outcomes.len();
        session = after;
        msg_id += 1;
    }
    assert_eq!((done, msg_id), (250, 4));
}

#[test]
fn a_package_in_several_messages_is_asked_for_to_its_end() {
    let mut first = message(1, vec![login("user")]);
    first.last = false;
    let (mut session, _) = Session::start(&first).receive(first, &context()).unwrap();
    session.enqueue(vec![one("g", Op::get(BASE))]);
    let (session, answer, _) = session.respond(&Manners::default());
    assert_eq!((names(&answer), answer.last, session.is_over()), (vec!["Alert"], false, false));
    let (session, _) = next(session, 2, vec![]);
    assert_eq!(names(&session.respond(&Manners::default()).1), ["Get"]);
}
