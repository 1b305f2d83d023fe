//! Bad input and hostile devices against a running server: what is changed, replayed, out of shape or somebody else's changes nothing, and
//! no answer is one that would end an enrolment.

use std::process::Command as Program;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use muster::clock::{DAY, HOUR};
use muster::config::Config;
use muster::domain::apple::escrow::Kind;
use muster::domain::certificate::{Grant, Purpose, RevocationReason};
use muster::domain::command::State as OrderState;
use muster::domain::enrollment::State;
use muster::ids::{CommandId, EnrollmentId};
use muster::service::apple::{assets, enroll};
use muster::service::device::{self, Order};
use muster::service::pki::{authority, issue, revoke};
use muster::sim::apple::{Device, Machine};
use muster::store::apple::channels::{self, DEVICE};
use muster::store::apple::secrets;
use muster::store::{commands, enrollments};
use muster::wire::apple::Who;
use muster::wire::apple::checkin::{
    Authenticate, CheckIn, CheckOut, DeclarativeManagement, GetBootstrapToken, GetToken, Message, ReturnToService, SetBootstrapToken,
    TokenUpdate, UserAuthenticate,
};
use muster::wire::apple::command::{Answer, Command, Status};
use muster::wire::plist::{self, Data, Dict, Value};
use openssl::ec::{EcGroup, EcKey};
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::X509;

use crate::apple_enroll::{TOPIC, client, codes, enrolled, house, live, on, put, said};
use crate::support::factory::Factory;
use crate::support::server::Options;
use crate::support::tools;
use crate::support::windows::{House, by};

async fn signing() -> House {
    let tweak = |config: &mut Config| config.apple.sign_messages = true;
    on(House::with(Options { tweak: Box::new(tweak), ..Options::default() }).await).await
}

/// One of each kind of message that a device may send.
pub fn every_message() -> Vec<Message> {
    let token = || Data(vec![9; 32]);
    vec![
        Message::Authenticate(Authenticate { topic: TOPIC.into(), ..Authenticate::default() }),
        Message::TokenUpdate(TokenUpdate { topic: TOPIC.into(), token: token(), push_magic: "m".into(), ..TokenUpdate::default() }),
        Message::CheckOut(CheckOut { topic: TOPIC.into() }),
        Message::UserAuthenticate(UserAuthenticate::default()),
        Message::SetBootstrapToken(SetBootstrapToken { bootstrap_token: Some(token()), ..SetBootstrapToken::default() }),
        Message::GetBootstrapToken(GetBootstrapToken::default()),
        Message::GetToken(GetToken { token_service_type: "com.apple.maid".into(), token_parameters: None }),
        Message::DeclarativeManagement(DeclarativeManagement { endpoint: "tokens".into(), data: None }),
        Message::DeclarativeManagement(DeclarativeManagement { endpoint: "declaration-items".into(), data: None }),
        Message::DeclarativeManagement(DeclarativeManagement { endpoint: "declaration/asset/a".into(), data: None }),
        Message::DeclarativeManagement(DeclarativeManagement { endpoint: "status".into(), data: Some(Data(b"{}".to_vec())) }),
        Message::ReturnToService(ReturnToService {}),
    ]
}

fn answer(who: Who, status: Status, uuid: Option<&str>) -> Vec<u8> {
    Answer { who, status, command_uuid: uuid.map(str::to_owned), errors: Vec::new(), body: Dict::new() }.encode().unwrap()
}

/// Everything that a device's row in the store shows of it.
async fn row(house: &House, device: &Device) -> (EnrollmentId, String, bool, Option<Vec<u8>>) {
    let enrollment = live(house, &device.machine.udid).await.unwrap();
    let (id, of) = (enrollment.id.clone(), enrollment.id.clone());
    let app = &house.server.app;
    let channel = app.store.read(move |c| channels::find_channel(c, &id, DEVICE)).await.unwrap().unwrap();
    let kept = app.store.read(move |c| secrets::find_secret(c, &of, Kind::Bootstrap)).await.unwrap();
    let certificate = enrollment.certificate_id.unwrap().to_string();
    (enrollment.id, certificate, channel.sealed_push.is_some(), kept.map(|kept| kept.sealed))
}

/// A signature by OpenSSL's own program.
fn signed(body: &[u8], certificate: &[u8], key: &PKey<Private>, flags: &[&str]) -> Option<String> {
    let program = tools::find("openssl", "openssl")?;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("body"), body).unwrap();
    std::fs::write(path("certificate"), X509::from_der(certificate).unwrap().to_pem().unwrap()).unwrap();
    std::fs::write(path("key"), key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    let out = Program::new(program)
        .args(["cms", "-sign", "-binary", "-outform", "DER", "-in"])
        .arg(path("body"))
        .arg("-signer")
        .arg(path("certificate"))
        .arg("-inkey")
        .arg(path("key"))
        .args(flags)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Some(STANDARD.encode(out.stdout))
}

async fn send(house: &House, path: &str, signature: Option<&str>, body: &[u8]) -> (u16, String) {
    let mut request = house.server.client().put(format!("{}{path}", house.server.web)).body(body.to_vec());
    if let Some(signature) = signature {
        request = request.header("Mdm-Signature", signature);
    }
    let said = request.send().await.unwrap();
    (said.status().as_u16(), said.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_counts_in_every_form_that_devices_write_and_only_from_the_enrolments_own_key() {
    let house = signing().await;
    let device = enrolled(&house, Machine::mac(1)).await;
    let identity = device.enrollment.identity.clone();
    let body = said(&device.machine.udid, Message::GetBootstrapToken(GetBootstrapToken::default()));
    let path = enroll::CHECK_IN_PATH;
    let before = row(&house, &device).await;
    // What would leave something behind.
    let token = |token: &str| SetBootstrapToken { bootstrap_token: Some(Data(token.into())), ..SetBootstrapToken::default() };
    let keeps = said(&device.machine.udid, Message::SetBootstrapToken(token("of the device itself")));
    for flags in [
        &["-md", "sha1", "-noattr"][..],
        &["-md", "sha1", "-noattr", "-stream"],
        &["-md", "sha256"],
        &["-md", "sha256", "-stream"],
        &["-md", "sha512", "-nodetach"],
    ] {
        let Some(signature) = signed(&body, &identity.certificate, &identity.key, flags) else { return };
        assert_eq!(send(&house, path, Some(&signature), &body).await.0, 200, "{flags:?}");
        let mut changed = body.clone();
        let last = changed.len() - 20;
        changed[last] ^= 1;
        let (status, text) = send(&house, path, Some(&signature), &changed).await;
        assert!(status == 400 && text.starts_with("MGT0020"), "{flags:?}: {status} {text}");
        let signature = signed(&keeps, &identity.certificate, &identity.key, flags).unwrap();
        let other = said(&device.machine.udid, Message::SetBootstrapToken(token("of somebody else now")));
        assert_eq!(send(&house, path, Some(&signature), &other).await.0, 400);
    }
    // Nobody of ours, no certificate at all, two signers, MD5.
    let stranger = Factory::new().device();
    let (theirs, own) = (stranger.certificate.to_der().unwrap(), &identity.certificate);
    for (certificate, key, flags, code) in [
        (&theirs, &stranger.key, &["-md", "sha256"][..], "CRT0001"),
        (own, &identity.key, &["-md", "sha256", "-nocerts"], "MGT0020"),
        (own, &identity.key, &["-md", "md5"], "MGT0020"),
    ] {
        for message in every_message() {
            let body = said(&device.machine.udid, message);
            let signature = signed(&body, certificate, key, flags).unwrap();
            let (status, text) = send(&house, path, Some(&signature), &body).await;
            assert!(status == 400 && text.starts_with(code), "{flags:?}: {status} {text}");
        }
    }
    assert_eq!(row(&house, &device).await, before, "nothing was stored");
    // An elliptic curve's key, as ACME brings it.
    let curve = PKey::from_ec_key(EcKey::generate(&EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap()).unwrap()).unwrap();
    let app = &house.server.app;
    let mut grant = Grant::client(Purpose::MdmIdentity, "curve", 30);
    grant.enrollment_id = Some(before.0.clone());
    grant.device_id = Some(live(&house, &device.machine.udid).await.unwrap().device_id);
    let issuing = authority::issuing(app).await.unwrap();
    let made = issue::issue(app, &issuing.id, &grant, &curve.public_key_to_der().unwrap(), "cli:test", "local").await.unwrap();
    let (of, certificate) = (before.0.clone(), made.certificate.id.clone());
    let take = move |tx: &mut muster::store::Tx<'_>| {
        let enrollment = enrollments::load_enrollment(tx.conn(), &of)?;
        enrollments::claim_update(tx, &muster::domain::enrollment::Enrollment { certificate_id: Some(certificate.clone()), ..enrollment })
    };
    app.store.write(take).await.unwrap();
    let signature = signed(&body, &made.der, &curve, &["-md", "sha256"]).unwrap();
    let (status, text) = send(&house, path, Some(&signature), &body).await;
    assert_eq!(status, 200, "{text}");
    // Revoked, the same says nothing any more.
    revoke::revoke(app, &made.certificate.id, RevocationReason::KeyCompromise, "cli:test", "local").await.unwrap();
    let (status, text) = send(&house, path, Some(&signature), &body).await;
    assert!(status == 400 && text.starts_with("CRT0002"), "{status} {text}");

    // Nor does one that has run out, whatever the message.
    let mut late = enrolled(&house, Machine::mac(2)).await;
    let before = row(&house, &late).await;
    house.server.clock.advance(400 * DAY);
    late.faults.skew += 400 * DAY;
    for message in every_message() {
        let name = message.name();
        let body = said(&late.machine.udid, message);
        let (status, text) = send(&house, path, Some(&late.sign(&body).unwrap()), &body).await;
        assert!(status == 400 && text.starts_with("CRT0028"), "{name}: {status} {text}");
    }
    assert_eq!(row(&house, &late).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_signs_speaks_for_itself_alone_in_every_message() {
    let house = signing().await;
    let (a, b) = (enrolled(&house, Machine::mac(1)).await, enrolled(&house, Machine::iphone(2)).await);
    let before = row(&house, &b).await;
    let udid = b.machine.udid.clone();
    let names = [
        Who::device(&udid),
        Who { user_id: Some("ANA".into()), ..Who::device(&udid) },
        Who { enrollment_id: Some(udid.clone()), ..Who::default() },
        Who { enrollment_id: Some(udid.clone()), enrollment_user_id: Some("ANA".into()), ..Who::default() },
        Who { user_id: Some("FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF".into()), user_short_name: Some("ana".into()), ..Who::device(&udid) },
    ];
    for who in names {
        // Who is refused too often waits.
        house.server.clock.advance(HOUR);
        for message in every_message() {
            let name = message.name();
            let body = CheckIn { who: who.clone(), message }.encode().unwrap();
            let (status, text) = send(&house, enroll::CHECK_IN_PATH, Some(&a.sign(&body).unwrap()), &body).await;
            assert!(status == 400 && text.starts_with("MGT0004"), "{name} {who:?}: {status} {text}");
        }
        for status in [Status::Idle, Status::Acknowledged, Status::NotNow, Status::Error, Status::CommandFormatError] {
            let body = answer(who.clone(), status, (status != Status::Idle).then_some("u"));
            let (said, text) = send(&house, enroll::COMMANDS_PATH, Some(&a.sign(&body).unwrap()), &body).await;
            assert!(said == 400 && text.starts_with("MGT0004"), "{status:?} {who:?}: {said} {text}");
        }
    }
    assert_eq!(row(&house, &b).await, before, "it is as it was");
    assert!(codes(&house).await.contains("MGT0004"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_that_come_again_or_say_nothing_change_nothing() {
    let house = house().await;
    let mut mac = enrolled(&house, Machine::mac(1)).await;
    mac.settle().await.unwrap();
    let (udid, http, url) = (mac.machine.udid.clone(), client(&house, &mac), mac.enrollment.mdm.server_url.clone());
    let who = || Who::device(&udid);
    let answered = http.put(&url).body(answer(who(), Status::Idle, None)).send().await.unwrap();
    assert_eq!((answered.status().as_u16(), answered.headers()["content-length"].to_str().unwrap()), (200, "0"), "nothing is due");
    let device = live(&house, &udid).await.unwrap().device_id;
    let order = device::command(&house.server.app, &device, Order::Known("list-applications".into()), true, &by()).await.unwrap();
    let (status, told) = put(&http, &url, answer(who(), Status::Idle, None)).await;
    let command = Command::decode(&told).unwrap();
    assert_eq!((status, command.request_type.as_str()), (200, "InstalledApplicationList"));
    // The connection broke: the same command comes again, under the same name.
    let (_, again) = put(&http, &url, answer(who(), Status::Idle, None)).await;
    assert_eq!(Command::decode(&again).unwrap().uuid, command.uuid);
    let list = Value::Array(vec![Value::Dict(Dict::new().with("Name", "Mail").with("Identifier", "com.apple.mail"))]);
    let done = Answer {
        who: who(),
        status: Status::Acknowledged,
        command_uuid: Some(command.uuid.clone()),
        errors: Vec::new(),
        body: Dict::new().with("InstalledApplicationList", list),
    };
    let done = done.encode().unwrap();
    assert_eq!(put(&http, &url, done.clone()).await, (200, Vec::new()));
    let state = async |id: &CommandId| {
        let (id, sealer) = (id.clone(), house.server.app.sealer());
        house.server.app.store.read(move |c| commands::load_command(c, &sealer, &id)).await.unwrap().state
    };
    assert_eq!(state(&order.id).await, OrderState::Done);
    let before = live(&house, &udid).await.unwrap();
    for replayed in [done, answer(who(), Status::Error, Some(&command.uuid)), answer(who(), Status::Acknowledged, Some("guessed"))] {
        assert_eq!(put(&http, &url, replayed).await, (200, Vec::new()));
        assert_eq!(state(&order.id).await, OrderState::Done);
    }
    let text = |status: &str| {
        let mut dict = Dict::new().with("UDID", udid.as_str()).with("CommandUUID", command.uuid.as_str());
        dict.insert_some("Status", Some(status).filter(|status| !status.is_empty()));
        plist::encode(&Value::Dict(dict))
    };
    for wrong in ["", "Done", "acknowledged", "Idle\0"] {
        assert_eq!(put(&http, &url, text(wrong)).await.0, 400, "{wrong:?}");
    }
    assert_eq!(live(&house, &udid).await.unwrap().certificate_id, before.certificate_id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_later_message_leaves_out_stays_and_a_device_enrols_with_its_token() {
    let house = house().await;
    let phone = enrolled(&house, Machine::iphone(1)).await;
    let (udid, http, url) = (phone.machine.udid.clone(), client(&house, &phone), phone.enrollment.mdm.check_in_url.clone().unwrap());
    let enrollment = live(&house, &udid).await.unwrap();
    assert_eq!(enrollment.state, State::Active);
    let send = async |unlock: Option<&[u8]>, awaiting: Option<bool>| {
        let update = TokenUpdate {
            topic: TOPIC.into(),
            token: Data(vec![1; 32]),
            push_magic: "m".into(),
            unlock_token: unlock.map(|token| Data(token.to_vec())),
            awaiting_configuration: awaiting,
        };
        put(&http, &url, said(&udid, Message::TokenUpdate(update))).await
    };
    let stored = async || {
        let (id, of) = (enrollment.id.clone(), enrollment.id.clone());
        let app = &house.server.app;
        let unlock = app.store.read(move |c| secrets::find_secret(c, &id, Kind::Unlock)).await.unwrap().map(|kept| kept.sealed);
        let channel = app.store.read(move |c| channels::find_channel(c, &of, DEVICE)).await.unwrap().unwrap();
        (unlock.unwrap(), channel.awaiting_since.is_some())
    };
    assert_eq!(send(Some(b"opens"), Some(true)).await, (200, Vec::new()));
    let first = stored().await;
    assert!(first.1);
    for unlock in [None, Some(&b""[..])] {
        assert_eq!(send(unlock, None).await, (200, Vec::new()));
        assert_eq!(stored().await, first, "{unlock:?}");
    }
    assert_eq!(send(None, Some(false)).await.0, 200);
    assert_eq!(stored().await, (first.0, false));
    // Nothing was ever entrusted: that is no error.
    assert_eq!(put(&http, &url, said(&udid, Message::GetBootstrapToken(GetBootstrapToken::default()))).await, (200, Vec::new()));
    // Declarations that are nobody's.
    let long = "x".repeat(65);
    for (endpoint, expected) in [
        ("declaration/configuration/../x".to_owned(), 404),
        ("declaration/configuration/%2e%2e".to_owned(), 404),
        (format!("declaration/configuration/{}", &long[..64]), 404),
        (format!("declaration/configuration/{long}"), 400),
        ("declaration/configuration/".to_owned(), 400),
        ("declaration/nonsense/x".to_owned(), 400),
        ("../tokens".to_owned(), 400),
    ] {
        let request = DeclarativeManagement { endpoint: endpoint.clone(), data: None };
        assert_eq!(put(&http, &url, said(&udid, Message::DeclarativeManagement(request))).await.0, expected, "{endpoint}");
    }
    // An identity introduces a device; the first token enrols it.
    let machine = Machine::mac(9);
    let mut half = muster::domain::enrollment::Enrollment { state: State::Provisioned, ..live(&house, &udid).await.unwrap() };
    half = house
        .server
        .app
        .store
        .write(move |tx| {
            enrollments::claim_update(tx, &half)?;
            enrollments::load_enrollment(tx.conn(), &half.id)
        })
        .await
        .unwrap();
    assert_eq!(half.state, State::Provisioned);
    assert_eq!(
        put(&http, &url, said(&udid, Message::Authenticate(Authenticate { topic: TOPIC.into(), ..Authenticate::default() }))).await.0,
        200
    );
    assert_eq!(live(&house, &udid).await.unwrap().state, State::Provisioned, "not yet");
    assert_eq!(send(None, None).await.0, 200);
    assert_eq!(live(&house, &udid).await.unwrap().state, State::Active);
    assert_eq!(live(&house, &machine.udid).await, None);
}

/// A list of bytes that repeats itself: the same each time the test runs.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_answered_so_that_a_device_ends_its_enrolment() {
    let house = house().await;
    let mac = enrolled(&house, Machine::mac(1)).await;
    let own = client(&house, &mac);
    let nobody = house.server.client();
    let methods = ["GET", "PUT", "POST", "HEAD", "DELETE", "OPTIONS", "PATCH", "BREW"];
    let paths = [
        enroll::CHECK_IN_PATH.to_owned(),
        enroll::COMMANDS_PATH.to_owned(),
        format!("{}/x", assets::DEVICE_PATH),
        format!("{}/414e41/x", assets::USER_PATH),
        format!("{}/../../..//x", assets::DEVICE_PATH),
        format!("{}/%00", enroll::CHECK_IN_PATH),
        "/apple".to_owned(),
    ];
    let mut dice = Dice(1);
    let good = said(&mac.machine.udid, Message::GetBootstrapToken(GetBootstrapToken::default()));
    for round in 0..400 {
        let base = if dice.roll(2) == 0 { &house.server.device } else { &house.server.web };
        let http = if dice.roll(2) == 0 { &own } else { &nobody };
        let method = reqwest::Method::from_bytes(methods[dice.roll(methods.len())].as_bytes()).unwrap();
        let body: Vec<u8> = match dice.roll(5) {
            0 => Vec::new(),
            1 => good.clone(),
            2 => good[..dice.roll(good.len())].to_vec(),
            3 => (0..dice.roll(5000)).map(|_| u8::try_from(dice.roll(256)).unwrap()).collect(),
            _ => {
                let mut changed = good.clone();
                let at = dice.roll(changed.len());
                changed[at] = changed[at].wrapping_add(1);
                changed
            }
        };
        let url = format!("{base}{}", paths[dice.roll(paths.len())]);
        let mut request = http.request(method.clone(), &url).body(body);
        for (name, values) in [
            ("Authorization", &["Bearer x", "Basic eDp4", "Digest"][..]),
            ("Mdm-Signature", &["", "x", "MIAGCSqGSIb3DQEHAqCAMIACAQExAA=="]),
            ("Content-Type", &["application/x-apple-aspen-mdm", "text/html", "multipart/form-data"]),
            ("Content-Encoding", &["gzip", "br"]),
            ("Client-Cert", &[":MAA=:", "x"]),
            ("X-Forwarded-For", &["127.0.0.1"]),
            ("Expect", &["100-continue"]),
        ] {
            if dice.roll(4) == 0 {
                request = request.header(name, values[dice.roll(values.len())]);
            }
        }
        let Ok(said) = request.send().await else { continue };
        let status = said.status().as_u16();
        let text = said.text().await.unwrap_or_default();
        let ends = status == 401 || status == 403 && text.contains("com.apple.");
        assert!(!ends && status < 500 || status == 503, "{round}: {method} {url}: {status} {text}");
    }
    assert_eq!(live(&house, &mac.machine.udid).await.unwrap().state, State::Active);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_would_fill_the_memory_are_refused() {
    let house = house().await;
    let mac = enrolled(&house, Machine::mac(1)).await;
    let (http, url) = (client(&house, &mac), mac.enrollment.mdm.check_in_url.clone().unwrap());
    let xml =
        |inner: &str| format!("<?xml version=\"1.0\"?><plist version=\"1.0\"><dict><key>UDID</key>{inner}</dict></plist>").into_bytes();
    let entities = "<?xml version=\"1.0\"?><!DOCTYPE plist [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;\">\
        <!ENTITY c \"&b;&b;&b;&b;&b;&b;\">]><plist version=\"1.0\"><dict><key>UDID</key><string>&c;</string></dict></plist>";
    // An array that holds itself.
    let mut cyclic = b"bplist00\xa1\0".to_vec();
    cyclic.extend([8]);
    cyclic.extend([0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10]);
    for (what, body, expected) in [
        ("deep", xml(&format!("{}{}", "<array>".repeat(10_000), "</array>".repeat(10_000))), 400),
        ("entities", entities.as_bytes().to_vec(), 400),
        ("cyclic", cyclic, 400),
        ("large", vec![b' '; 20 * 1024 * 1024], 413),
    ] {
        let sent = http.put(&url).body(body).send().await;
        // A server that has heard enough hangs up.
        let status = sent.map_or(413, |said| said.status().as_u16());
        assert_eq!(status, expected, "{what}");
    }
    let packed = http.put(&url).header("Content-Encoding", "gzip").body(b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec()).send().await.unwrap();
    assert!(matches!(packed.status().as_u16(), 400 | 415), "{}", packed.status());
    assert_eq!(put(&http, &url, said(&mac.machine.udid, Message::GetBootstrapToken(GetBootstrapToken::default()))).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_devices_at_once_get_each_of_their_commands_once() {
    const DEVICES: u64 = 24;
    const ORDERS: usize = 20;
    let house = house().await;
    let mut devices = Vec::new();
    for number in 1..=DEVICES {
        let mut device = enrolled(&house, if number % 2 == 0 { Machine::mac(number) } else { Machine::iphone(number) }).await;
        device.settle().await.unwrap();
        let id = live(&house, &device.machine.udid).await.unwrap().device_id;
        let mut orders = Vec::new();
        for _ in 0..ORDERS {
            let order = Order::Known("list-applications".into());
            orders.push(device::command(&house.server.app, &id, order, true, &by()).await.unwrap().id);
        }
        devices.push((device, orders));
    }
    let before: Vec<usize> = devices.iter().map(|(device, _)| ran(device)).collect();
    join_all(devices.iter_mut().map(|(device, _)| device.settle()))
        .await
        .into_iter()
        .for_each(|settled| assert!(settled.is_ok(), "{settled:?}"));
    for ((device, orders), before) in devices.iter().zip(before) {
        assert_eq!(ran(device) - before, ORDERS, "{}", device.machine.udid);
        for id in orders {
            let (id, sealer) = (id.clone(), house.server.app.sealer());
            let order = house.server.app.store.read(move |c| commands::load_command(c, &sealer, &id)).await.unwrap();
            assert_eq!(order.state, OrderState::Done);
        }
    }
}

fn ran(device: &Device) -> usize {
    device.ran.get("InstalledApplicationList").map_or(0, |count| usize::try_from(*count).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_device_says_again_and_again_does_not_fill_the_audit_log() {
    let house = house().await;
    let mac = enrolled(&house, Machine::mac(1)).await;
    let (udid, http, url) = (mac.machine.udid.clone(), client(&house, &mac), mac.enrollment.mdm.check_in_url.clone().unwrap());
    let send = async |message: Message| {
        assert_eq!(put(&http, &url, said(&udid, message)).await.0, 200);
    };
    let set = |token: &str| {
        let token = (!token.is_empty()).then(|| Data(token.as_bytes().to_vec()));
        Message::SetBootstrapToken(SetBootstrapToken { bootstrap_token: token, ..SetBootstrapToken::default() })
    };
    let count = async |action: &str| {
        let rows = house.server.app.store.read(|c| muster::store::audit::list(c, 0, 10_000)).await.unwrap();
        rows.iter().filter(|row| row.action == action).count()
    };
    let tokens = count("enrollment.token").await;
    for round in 0..9 {
        send(set("the same")).await;
        send(Message::GetBootstrapToken(GetBootstrapToken::default())).await;
        send(set("")).await;
        let update = TokenUpdate { topic: TOPIC.into(), token: Data(vec![7; 32]), push_magic: "m".into(), ..TokenUpdate::default() };
        send(Message::TokenUpdate(update)).await;
        send(set(&format!("another {round}"))).await;
    }
    assert_eq!((count("escrow.read").await, count("escrow.forget").await), (1, 1));
    assert_eq!(count("escrow.keep").await, 5, "another value is news, a few times an hour");
    assert_eq!(count("enrollment.token").await, tokens + 1);
    house.server.clock.advance(HOUR);
    send(Message::GetBootstrapToken(GetBootstrapToken::default())).await;
    assert_eq!(count("escrow.read").await, 2);
}
