//! Apple devices enrol, check in and leave, over real TLS; what they may not do is refused by its code.

use base64::Engine as _;
use muster::clock::{DAY, HOUR};
use muster::config::Config;
use muster::domain::apple::escrow::Kind;
use muster::domain::apple::push::Certificate;
use muster::domain::device::{Platform, State as DeviceState};
use muster::domain::enrollment::{Enrollment, State};
use muster::service::apple::enroll;
use muster::service::directory;
use muster::service::{Error, Result};
use muster::sim::apple::Device;
use muster::sim::apple::machine::Machine;
use muster::store::apple::{channels, push, secrets};
use muster::store::{audit, devices, enrollments};
use muster::wire::apple::Who;
use muster::wire::apple::checkin::{
    Authenticate, CheckIn, CheckOut, DeclarativeManagement, GetBootstrapToken, GetToken, Message, SetBootstrapToken, UserAuthenticate,
};
use muster::wire::apple::command::{Answer, Status};
use muster::wire::apple::profile::Profile;
use muster::wire::cms::SignedData;
use muster::wire::plist::{Data, Dict};

use crate::apple_proof::every_message;
use crate::desired::user;
use crate::support::apple_schema::{Target, schema};
use crate::support::server::Options;
use crate::support::windows::{House, UPN, by, key};

pub const TOPIC: &str = "com.apple.mgmt.External.test";

pub async fn house() -> House {
    on(House::new().await).await
}

pub async fn on(house: House) -> House {
    let now = house.server.app.now();
    let certificate = Certificate {
        sealed_key: Vec::new(),
        der: Vec::new(),
        topic: TOPIC.into(),
        not_before: now,
        not_after: now.plus(365 * DAY),
        alarm: None,
        warned_days: None,
        created_at: now,
        account: None,
    };
    house.server.app.store.write(move |tx| push::upsert_certificate(tx, &certificate)).await.unwrap();
    house
}

pub async fn profile(house: &House) -> Vec<u8> {
    let invitation = enroll::invite(&house.server.app, UPN, Platform::MacOs, false, HOUR, "cli:test").await.unwrap();
    let link = String::from_utf8(invitation.link.expose().to_vec()).unwrap();
    let answer = house.server.client().post(&link).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/x-apple-aspen-config");
    answer.bytes().await.unwrap().to_vec()
}

pub async fn enrolled(house: &House, machine: Machine) -> Device {
    Device::enroll(&house.roots(), &profile(house).await, machine, &key()).await.unwrap()
}

/// The enrolment that lives under the device's identifier.
pub async fn live(house: &House, udid: &str) -> Option<Enrollment> {
    let udid = udid.to_owned();
    house.server.app.store.read(move |c| enrollments::find_live_apple(c, &udid)).await.unwrap()
}

pub async fn codes(house: &House) -> String {
    let rows = house.server.app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    rows.into_iter().filter(|row| row.action == "management.refused").filter_map(|row| row.after).collect()
}

pub fn client(house: &House, device: &Device) -> reqwest::Client {
    let identity = &device.enrollment.identity;
    let certificate = openssl::x509::X509::from_der(&identity.certificate).unwrap().to_pem().unwrap();
    let key = identity.key.private_key_to_pem_pkcs8().unwrap();
    house.server.client_as(reqwest::Identity::from_pkcs8_pem(&certificate, &key).unwrap())
}

pub async fn put(client: &reqwest::Client, url: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
    let answer = client.put(url).body(body).send().await.unwrap();
    (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
}

pub fn said(udid: &str, message: Message) -> Vec<u8> {
    CheckIn { who: Who::device(udid), message }.encode().unwrap()
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> &'static str {
    match result {
        Err(Error::Refused(refusal)) => refusal.code(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mac_and_an_iphone_enrol_by_link_and_leave() {
    let house = house().await;
    for machine in [Machine::mac(1), Machine::iphone(2)] {
        let (mac, udid) = (machine.udid == Machine::mac(1).udid, machine.udid.clone());
        let mut device = enrolled(&house, machine).await;
        let enrollment = live(&house, &udid).await.unwrap();
        assert_eq!(enrollment.state, State::Active);
        assert_eq!(enrollment.platform, if mac { Platform::MacOs } else { Platform::Ios });
        assert_eq!(enrollment.user_id.as_ref(), Some(&house.user));
        let id = enrollment.id.clone();
        let channel = house.server.app.store.read(move |c| channels::find_channel(c, &id, channels::DEVICE)).await.unwrap().unwrap();
        assert_eq!((channel.topic.as_str(), channel.sealed_push.is_some()), (TOPIC, true));
        device.settle().await.unwrap();
        device.leave().await.unwrap();
        assert_eq!(live(&house, &udid).await, None);
        let of = enrollment.device_id.clone();
        let row = house.server.app.store.read(move |c| devices::load_device(c, &of)).await.unwrap();
        assert_eq!(row.state, DeviceState::Retired);
        let idle = Answer { who: Who::device(&udid), status: Status::Idle, command_uuid: None, errors: Vec::new(), body: Dict::new() };
        let url = format!("{}{}", house.server.device, enroll::COMMANDS_PATH);
        assert_eq!(put(&client(&house, &device), &url, idle.encode().unwrap()).await.0, 400, "it has left");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_profile_is_what_apple_describes_and_made_once() {
    let house = house().await;
    let invitation = enroll::invite(&house.server.app, UPN, Platform::Ios, false, HOUR, "cli:test").await.unwrap();
    let link = String::from_utf8(invitation.link.expose().to_vec()).unwrap();
    let plain = house.server.client();
    for _ in 0..2 {
        let page = plain.get(&link).send().await.unwrap();
        assert_eq!(page.status(), 200, "looking at a link does not use it up");
        assert!(page.text().await.unwrap().contains(UPN));
    }
    let signed = plain.post(&link).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(plain.post(&link).send().await.unwrap().status(), 410);
    assert_eq!(plain.get(&link).send().await.unwrap().status(), 410);
    let used = link.rsplit_once('/').unwrap().1;
    assert_eq!(code(enroll::redeem(&house.server.app, used.as_bytes(), "test").await), "AUT0006");
    let message = SignedData::parse(&signed).unwrap();
    message.verify(&message.signers[0]).unwrap();
    let profile = Profile::decode(message.content.unwrap()).unwrap();
    let kinds: Vec<&str> = profile.payloads().iter().map(|payload| payload.kind.as_str()).collect();
    let expected = ["com.apple.security.root", "com.apple.security.pkcs1", "com.apple.security.scep", "com.apple.mdm"];
    assert_eq!(kinds, expected);
    if let Some(schema) = schema() {
        for target in [Target::mac("15.0"), Target::iphone("18.0")] {
            assert_eq!(schema.profile(&profile.to_value(), target), [""; 0]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_signs_in_on_the_page_without_a_script() {
    let house = house().await;
    let policy = muster::domain::tap::Policy::default();
    let app = &house.server.app;
    let pass = muster::service::identity::tap::create(app, &house.user, policy, None, "cli:test", "local").await.unwrap();
    let (client, url) = (house.server.client(), format!("{}/enroll/apple", house.server.web));
    let page = client.get(&url).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("<form") && !page.contains("<script"));
    let send = async |pass: &str| {
        let text = format!("user_name={}&pass={pass}", UPN.replace('@', "%40"));
        let answer = client.post(&url).header("Content-Type", "application/x-www-form-urlencoded").body(text).send().await.unwrap();
        (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
    };
    assert_eq!(send("wrong").await.0, 403);
    let (status, profile) = send(pass.show()).await;
    assert_eq!(status, 200);
    let device = Device::enroll(&house.roots(), &profile, Machine::mac(7), &key()).await.unwrap();
    assert!(live(&house, &device.machine.udid).await.is_some());
    assert_eq!(send(pass.show()).await.0, 403, "a pass is good once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_never_speaks_for_another() {
    let house = house().await;
    let a = enrolled(&house, Machine::mac(1)).await;
    let b = enrolled(&house, Machine::mac(2)).await;
    let udid = b.machine.udid.clone();
    let before = live(&house, &udid).await.unwrap();
    let (check_in, commands) = (&b.enrollment.mdm.check_in_url.clone().unwrap(), &b.enrollment.mdm.server_url);
    let as_a = client(&house, &a);
    for message in every_message() {
        let name = message.name();
        let (status, text) = put(&as_a, check_in, said(&udid, message)).await;
        assert!(status == 400 && text.starts_with(b"MGT0004: "), "{name}: {status} {}", String::from_utf8_lossy(&text));
    }
    let statuses = [Status::Idle, Status::Acknowledged, Status::NotNow, Status::Error, Status::CommandFormatError];
    for status in statuses {
        let command_uuid = (status != Status::Idle).then(|| "u".to_owned());
        let answer = Answer { who: Who::device(&udid), status, command_uuid, errors: Vec::new(), body: Dict::new() };
        assert_eq!(put(&as_a, commands, answer.encode().unwrap()).await.0, 400, "{status:?}");
    }
    assert!(codes(&house).await.contains("MGT0004"));
    // Nor does it become one that nobody knows yet.
    for message in every_message() {
        let name = message.name();
        let (status, text) = put(&as_a, check_in, said("A-NEW-DEVICE", message)).await;
        assert!(status == 400 && text.starts_with(b"MGT0004: "), "{name}: {status} {}", String::from_utf8_lossy(&text));
    }
    assert_eq!(live(&house, "A-NEW-DEVICE").await, None);
    let after = live(&house, &udid).await.unwrap();
    assert_eq!((after.id, after.certificate_id, after.state), (before.id, before.certificate_id, before.state), "B is as it was");
    let nobody = house.server.client();
    assert_eq!(put(&nobody, check_in, said(&udid, Message::CheckOut(CheckOut::default()))).await.0, 400, "never 401");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_of_another_person_is_not_taken_over() {
    let house = house().await;
    let first = enrolled(&house, Machine::mac(1)).await;
    let before = live(&house, &first.machine.udid).await.unwrap();
    let ben = "ben@example.org";
    directory::create_user(&house.server.app, user(ben), &by()).await.unwrap();
    let invitation = enroll::invite(&house.server.app, ben, Platform::MacOs, false, HOUR, "cli:test").await.unwrap();
    let link = String::from_utf8(invitation.link.expose().to_vec()).unwrap();
    let profile = house.server.client().post(&link).send().await.unwrap().bytes().await.unwrap();
    let taken = Device::enroll(&house.roots(), &profile, Machine::mac(1), &key()).await;
    assert!(matches!(taken, Err(muster::sim::apple::Error::Http(400, _))));
    assert!(codes(&house).await.contains("ENR0017"));
    let after = live(&house, &first.machine.udid).await.unwrap();
    assert_eq!((after.id, after.user_id, after.certificate_id), (before.id, before.user_id, before.certificate_id), "as it was");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_device_asks_for_is_answered() {
    let house = house().await;
    let device = enrolled(&house, Machine::mac(3)).await;
    let (udid, http) = (device.machine.udid.clone(), client(&house, &device));
    let url = device.enrollment.mdm.check_in_url.clone().unwrap();
    let ask = async |message: Message| put(&http, &url, said(&udid, message)).await;
    let again = Authenticate { topic: TOPIC.into(), serial_number: Some("x".into()), ..Authenticate::default() };
    assert_eq!(ask(Message::Authenticate(again)).await, (200, Vec::new()), "a repetition changes nothing");
    let keep =
        |token: Option<Data>| Message::SetBootstrapToken(SetBootstrapToken { bootstrap_token: token, ..SetBootstrapToken::default() });
    assert_eq!(ask(keep(Some(Data(b"boot".to_vec())))).await, (200, Vec::new()));
    let (status, body) = ask(Message::GetBootstrapToken(GetBootstrapToken::default())).await;
    assert!(status == 200 && String::from_utf8_lossy(&body).contains("Ym9vdA=="));
    let id = live(&house, &udid).await.unwrap().id;
    let of = id.clone();
    let kept = house.server.app.store.read(move |c| secrets::find_secret(c, &of, Kind::Bootstrap)).await.unwrap().unwrap();
    assert!(!kept.sealed.windows(4).any(|part| part == b"boot"), "sealed");
    let reads = house.server.app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    assert!(reads.iter().any(|row| row.action == "escrow.read"), "each read is on record");
    assert_eq!(ask(keep(None)).await.0, 200);
    assert_eq!(ask(Message::GetBootstrapToken(GetBootstrapToken::default())).await, (200, Vec::new()), "forgotten");
    assert_eq!(ask(Message::UserAuthenticate(UserAuthenticate::default())).await.0, 410);
    let maid = GetToken { token_service_type: "com.apple.unknown".into(), token_parameters: None };
    assert_eq!(ask(Message::GetToken(maid)).await.0, 400);
    assert!(codes(&house).await.contains("ENR0019"));
    for (endpoint, expected) in
        [("tokens", 200), ("declaration-items", 200), ("declaration/asset/x", 404), ("nonsense", 400), ("status", 400)]
    {
        let request = DeclarativeManagement { endpoint: endpoint.into(), data: None };
        assert_eq!(ask(Message::DeclarativeManagement(request)).await.0, expected, "{endpoint}");
    }
    assert_eq!(put(&http, &url, b"<plist".to_vec()).await.0, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_enrols_one_device_in_its_time_and_only_with_a_topic() {
    let house = house().await;
    let old = profile(&house).await;
    let device = Device::enroll(&house.roots(), &old, Machine::mac(1), &key()).await.unwrap();
    assert!(Device::enroll(&house.roots(), &old, Machine::mac(2), &key()).await.is_err(), "its challenge is used");
    let again = enrolled(&house, Machine::mac(1)).await;
    let now = live(&house, &again.machine.udid).await.unwrap();
    let idle =
        Answer { who: Who::device(&device.machine.udid), status: Status::Idle, command_uuid: None, errors: Vec::new(), body: Dict::new() };
    let body = idle.encode().unwrap();
    assert_eq!(put(&client(&house, &device), &device.enrollment.mdm.server_url, body.clone()).await.0, 400, "replaced");
    assert_eq!(put(&client(&house, &again), &device.enrollment.mdm.server_url, body).await.0, 200);
    assert_eq!(now.state, State::Active);
    // An identity whose session is over enrols nothing.
    let late = profile(&house).await;
    house
        .server
        .app
        .store
        .write(|tx| muster::store::apple::sessions::purge_sessions(tx, muster::clock::Time(i64::MAX), 100))
        .await
        .unwrap();
    assert!(Device::enroll(&house.roots(), &late, Machine::mac(5), &key()).await.is_err());
    let bare = House::new().await;
    let app = &bare.server.app;
    assert_eq!(code(enroll::invite(app, UPN, Platform::MacOs, false, HOUR, "cli:test").await), "APN0001");
    let policy = muster::domain::tap::Policy::default();
    let pass = muster::service::identity::tap::create(app, &bare.user, policy, None, "cli:test", "local").await.unwrap();
    // A person's pass is not used up for nothing.
    for _ in 0..2 {
        let signed_in = enroll::sign_in(app, UPN, pass.show(), Platform::MacOs, [192, 0, 2, 1].into()).await;
        assert_eq!(code(signed_in), "APN0001");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_identity_keeps_the_enrolment_and_ends_the_old_certificate() {
    let house = house().await;
    let device = enrolled(&house, Machine::mac(4)).await;
    let before = live(&house, &device.machine.udid).await.unwrap();
    house.server.clock.advance(DAY);
    let renewal = enroll::renewal_profile(&house.server.app, &before, TOPIC).await.unwrap();
    let row = renewal.challenge.clone();
    let now = house.server.app.now();
    house.server.app.store.write(move |tx| muster::store::scep::insert_challenge(tx, &row, now)).await.unwrap();
    let machine = device.machine.clone();
    let renewed = Device::enroll(
        &house.roots(),
        &renewal.profile,
        machine,
        &openssl::pkey::PKey::from_rsa(openssl::rsa::Rsa::generate(2048).unwrap()).unwrap(),
    )
    .await
    .unwrap();
    let after = live(&house, &device.machine.udid).await.unwrap();
    assert_eq!(after.id, before.id, "the enrolment stays");
    assert_ne!(after.certificate_id, before.certificate_id);
    let idle =
        Answer { who: Who::device(&device.machine.udid), status: Status::Idle, command_uuid: None, errors: Vec::new(), body: Dict::new() };
    let body = idle.encode().unwrap();
    assert_eq!(put(&client(&house, &device), &device.enrollment.mdm.server_url, body.clone()).await.0, 400, "the old one is revoked");
    assert_eq!(put(&client(&house, &renewed), &device.enrollment.mdm.server_url, body).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_proxy_signatures_stand_for_the_certificate() {
    let tweak = |config: &mut Config| config.apple.sign_messages = true;
    let house = on(House::with(Options { tweak: Box::new(tweak), ..Options::default() }).await).await;
    let device = enrolled(&house, Machine::mac(6)).await;
    assert!(device.enrollment.mdm.sign_message);
    let udid = device.machine.udid.clone();
    let url = format!("{}{}", house.server.web, enroll::CHECK_IN_PATH);
    let body = said(&udid, Message::GetBootstrapToken(GetBootstrapToken::default()));
    let send = async |signature: Option<String>, body: Vec<u8>| {
        let mut request = house.server.client().put(&url).body(body);
        if let Some(signature) = signature {
            request = request.header("Mdm-Signature", signature);
        }
        request.send().await.unwrap().status().as_u16()
    };
    let good = device.sign(&body).unwrap();
    assert_eq!(send(Some(good.clone()), body.clone()).await, 200);
    assert_eq!(send(None, body.clone()).await, 400);
    assert_eq!(send(Some(good.clone()), said(&udid, Message::CheckOut(CheckOut::default()))).await, 400, "of another message");
    assert_eq!(send(Some(base64::engine::general_purpose::STANDARD.encode(b"no")), body.clone()).await, 400);
    assert!(codes(&house).await.contains("MGT0020"));
    assert!(!codes(&house).await.contains("MGT0022"));
    // Who finds it in a log has little of it: a clock may be some hours away, and no more.
    house.server.clock.advance(20 * HOUR);
    assert_eq!(send(Some(good.clone()), body.clone()).await, 200);
    house.server.clock.advance(5 * HOUR);
    assert_eq!(send(Some(good), body).await, 400);
    assert!(codes(&house).await.contains("MGT0022"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_without_a_session_enrols_nothing() {
    use muster::domain::certificate::{Grant, Purpose};
    use muster::service::pki::{authority, issue};
    let house = house().await;
    let app = &house.server.app;
    let mut grant = Grant::client(Purpose::MdmIdentity, "late", 30);
    grant.enrollment_id = Some(muster::ids::EnrollmentId::new());
    let (authority, key) = (authority::issuing(app).await.unwrap(), key());
    let issued = issue::issue(app, &authority.id, &grant, &key.public_key_to_der().unwrap(), "cli:test", "local").await.unwrap();
    let pem = openssl::x509::X509::from_der(&issued.der).unwrap().to_pem().unwrap();
    let client = house.server.client_as(reqwest::Identity::from_pkcs8_pem(&pem, &key.private_key_to_pem_pkcs8().unwrap()).unwrap());
    let url = format!("{}{}", house.server.device, enroll::CHECK_IN_PATH);
    // A certificate of ours, and nobody behind it: no answer is one that ends an enrolment.
    for message in every_message() {
        let name = message.name();
        let (status, text) = put(&client, &url, said("someone", message)).await;
        assert_eq!(status, 400, "{name}: {}", String::from_utf8_lossy(&text));
    }
    let commands = format!("{}{}", house.server.device, enroll::COMMANDS_PATH);
    for status in [Status::Idle, Status::Acknowledged, Status::NotNow, Status::Error, Status::CommandFormatError] {
        let command_uuid = (status != Status::Idle).then(|| "u".to_owned());
        let answer = Answer { who: Who::device("someone"), status, command_uuid, errors: Vec::new(), body: Dict::new() };
        assert_eq!(put(&client, &commands, answer.encode().unwrap()).await.0, 400, "{status:?}");
    }
    assert!(codes(&house).await.contains("ENR0018"));
    assert_eq!(live(&house, "someone").await, None);
}
