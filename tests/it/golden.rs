//! Messages in the shapes that several generations of Windows write. The first comment of each file says what it means to us.

use std::fmt::Write as _;
use std::path::Path;

use muster::domain::dm_session::{Context, Manners, Op, Planned, Proven, Received, Session, Verdict};
use muster::wire::cms::SignedData;
use muster::wire::locuri::Scope;
use muster::wire::mde::discovery::Discover;
use muster::wire::mde::soap::{Operation, Request, Security};
use muster::wire::mde::wstep::{Csr, RequestToken};
use muster::wire::mde::xcep::GetPolicies;
use muster::wire::pkcs10;
use muster::wire::syncml::{Command, Format, Status, SyncMl};

/// Compares what each file of a folder means with what its comment says.
fn compare(folder: &str, meaning: impl Fn(&[u8]) -> String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(folder);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    let mut wrong = String::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let (_, rest) = text.split_once("<!--\n").unwrap();
        let (expected, _) = rest.split_once("-->").unwrap();
        let found = meaning(text.as_bytes());
        if found != expected {
            writeln!(wrong, "{}:\n{found}", path.display()).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The commands that a message after the first answers: they have the ids 2 to 8 in message 1.
fn work() -> Vec<Planned> {
    let planned = |key: &str, ops, atomic| Planned { key: key.into(), scope: Scope::Device, ops, atomic };
    let certificate = "./Device/Vendor/MSFT/RootCATrustedCertificates/Root/AB12/EncodedCertificate";
    let scep = "./Device/Vendor/MSFT/ClientCertificateInstall/SCEP/1/Install";
    vec![
        planned("version", vec![Op::get("./DevDetail/SwV")], false),
        planned(
            "lock",
            vec![Op::replace("./Device/Vendor/MSFT/Policy/Config/DeviceLock/MinDevicePasswordLength", Format::Int, "8")],
            false,
        ),
        planned("root", vec![Op::add(certificate, Format::B64, "AAAA")], false),
        planned("reboot", vec![Op::exec("./Device/Vendor/MSFT/Reboot/RebootNow")], false),
        planned("scep", vec![Op::add_node(scep), Op::exec(format!("{scep}/Enroll"))], true),
    ]
}

fn session_before(message: &SyncMl, context: &Context<'_>) -> Session {
    if message.header.msg_id == 1 {
        return Session::start(message);
    }
    assert_eq!(message.header.msg_id, 2);
    let mut first = SyncMl { body: Vec::new(), last: true, ..message.clone() };
    first.header.msg_id = 1;
    let (mut session, _) = Session::start(&first).receive(first, context).unwrap();
    assert!(session.enqueue(work()).is_empty());
    let (session, answer, failed) = session.respond(&Manners::default());
    assert!(failed.is_empty());
    let ids: Vec<_> = answer.body.iter().skip(1).map(|command| command.id().unwrap()).collect();
    assert_eq!(ids, ["2", "3", "4", "5", "6"]);
    session
}

fn say_received(out: &mut String, received: &Received) {
    if let Some(info) = received.dev_info() {
        let parts = [info.id, info.manufacturer, info.model, info.dm_version, info.language];
        writeln!(out, "DevInfo: {}", parts.map(|part| part.unwrap_or_else(|| "?".into())).join("; ")).unwrap();
    }
    if !received.reports.is_empty() {
        writeln!(out, "reports: {}", received.reports.len()).unwrap();
    }
    if let Some(login) = received.login {
        writeln!(out, "signed in: {}", login.as_str()).unwrap();
    }
    if let Some(kind) = received.sync_type {
        writeln!(out, "about: {}", kind.as_str()).unwrap();
    }
    for notice in &received.notices {
        let kind = notice.kind.as_deref().unwrap_or("?");
        let rest = [&notice.mark, &notice.source, &notice.correlator, &notice.data];
        let rest: Vec<_> = rest.into_iter().map(|part| part.as_deref().unwrap_or("?")).collect();
        writeln!(out, "notice: {} {kind}; {}", notice.code, rest.join("; ")).unwrap();
    }
    for outcome in &received.outcomes {
        let ops = outcome.ops.iter().map(|op| {
            let error = op.original_error.as_ref().map(|error| format!(" {error}")).unwrap_or_default();
            let value = op.value.as_ref().map(|value| format!(" {:?}", value.text)).unwrap_or_default();
            format!("{}{error}{value}", op.status)
        });
        let ops: Vec<_> = ops.collect();
        let culprit = outcome.culprit.map(|at| format!(", blame {at}")).unwrap_or_default();
        writeln!(out, "{}: {} ({}){culprit}", outcome.key, outcome.verdict.as_str(), ops.join("; ")).unwrap();
        assert!(outcome.verdict != Verdict::Done || outcome.culprit.is_none());
    }
    for (name, said) in [
        ("unenrolled", received.unenrolled),
        ("aborted", received.aborted),
        ("still at work", received.keep_alive),
        ("strays", received.strays > 0),
    ] {
        if said {
            writeln!(out, "{name}").unwrap();
        }
    }
}

#[test]
fn sessions_of_several_generations_mean_what_their_files_say() {
    compare("syncml", |bytes| {
        let message = SyncMl::decode(bytes).unwrap();
        assert_eq!(SyncMl::decode(&message.encode()).unwrap(), message);
        let mut out = String::new();
        let header = message.header.clone();
        if let Some(cred) = &header.cred {
            writeln!(out, "credentials: {:?} {} {}", header.source.name, cred.meta.kind.as_deref().unwrap(), cred.data).unwrap();
        }
        let context = Context { device_id: &header.source.uri, proven: Proven::Certificate, shared: false };
        let (session, received) = session_before(&message, &context).receive(message, &context).unwrap();
        say_received(&mut out, &received);
        let (session, answer, failed) = session.respond(&Manners { message_bytes: 4_000, ..Manners::default() });
        assert!(failed.is_empty());
        let bytes = answer.encode();
        assert_eq!(SyncMl::decode(&bytes).unwrap(), answer);
        assert_eq!((answer.header.msg_id, &answer.header.target.uri), (header.msg_id, &header.source.uri));
        let said = answer.body.iter().map(|command| match command {
            Command::Status(Status { cmd, cmd_ref, code, .. }) => format!("{cmd} {cmd_ref:?} {code}"),
            Command::Alert(alert) => format!("-> Alert {}", alert.code),
            other => format!("-> {}", other.name()),
        });
        writeln!(out, "answer: {}", said.collect::<Vec<_>>().join(", ")).unwrap();
        let left: Vec<_> = session.pending().collect();
        if !left.is_empty() {
            writeln!(out, "pending: {}", left.join(", ")).unwrap();
        }
        writeln!(out, "{}", if session.is_over() { "over" } else { "goes on" }).unwrap();
        out
    });
}

#[test]
fn enrolment_messages_of_several_generations_mean_what_their_files_say() {
    compare("mde", |bytes| {
        let request = Request::decode(bytes).unwrap();
        let security = request.security.clone().unwrap();
        let mut out = format!("message: {:?}\n", request.message_id.as_deref().unwrap());
        let shown = match &security {
            Security::Token(bytes) => format!("token {:?}", String::from_utf8(bytes.clone()).unwrap()),
            Security::Jwt(bytes) => format!("JWT {:?}", String::from_utf8(bytes.clone()).unwrap()),
            Security::UserName { name, password } => format!("name {name:?}, password {password:?}"),
            Security::None | Security::Other(_) => format!("{security:?}"),
        };
        writeln!(out, "security: {shown}").unwrap();
        let id = request.message_id.as_deref().unwrap();
        if request.is(Operation::Discover) {
            let discover = Discover::decode(&request.body).unwrap();
            let again = Request::decode(&discover.encode(id, "https://h/")).unwrap();
            assert_eq!((Discover::decode(&again.body).unwrap(), again.message_id.as_deref()), (discover.clone(), Some(id)));
            writeln!(out, "{discover:?}").unwrap();
        } else if request.is(Operation::GetPolicies) {
            let policies = GetPolicies::decode(&request.body).unwrap();
            let again = Request::decode(&policies.encode(id, "https://h/", &security)).unwrap();
            assert_eq!((GetPolicies::decode(&again.body).unwrap(), again.security), (policies.clone(), Ok(security)));
            writeln!(out, "{policies:?}").unwrap();
        } else {
            assert!(request.is(Operation::RequestToken));
            let token = RequestToken::decode(&request.body).unwrap();
            let again = Request::decode(&token.encode(id, "https://h/", &security)).unwrap();
            assert_eq!(RequestToken::decode(&again.body).unwrap(), token);
            let (kind, content) = match &token.csr {
                Csr::Pkcs10(der) => ("PKCS#10", der.clone()),
                Csr::Pkcs7(der) => {
                    let signed = SignedData::parse(der).unwrap();
                    let signer = signed.signers.first().unwrap();
                    signed.verify(signer).unwrap();
                    ("PKCS#7", signed.content.unwrap().to_vec())
                }
            };
            let csr = pkcs10::Request::parse(&content).unwrap();
            csr.verify().unwrap();
            writeln!(out, "{:?} {kind} for {:?}", token.request_type, csr.subject_value("2.5.4.3").unwrap()).unwrap();
            for (name, values) in token.multimap() {
                writeln!(out, "{name}: {values:?}").unwrap();
            }
        }
        out
    });
}
