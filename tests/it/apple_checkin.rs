//! What devices, their users and strangers may not do at check-in, by the codes of the refusals.

use muster::config::Config;
use muster::domain::apple::escrow::Kind;
use muster::ids::EnrollmentId;
use muster::service::apple::enroll;
use muster::service::device::{self, Order};
use muster::sim::apple::Device;
use muster::sim::apple::machine::Machine;
use muster::store::apple::channels::{self, Channel, DEVICE};
use muster::store::apple::secrets;
use muster::store::{audit, enrollments};
use muster::wire::apple::Who;
use muster::wire::apple::checkin::{
    Authenticate, CheckIn, DeclarativeManagement, GetBootstrapToken, Message, SetBootstrapToken, TokenUpdate,
};
use muster::wire::apple::profile::Profile;
use muster::wire::cms::SignedData;
use muster::wire::plist::Data;
use openssl::x509::{X509, X509VerifyResult};

use crate::apple_enroll::{TOPIC, client, codes, enrolled, house, live, on, profile, put, said};
use crate::support::server::Options;
use crate::support::windows::{House, by, key};

async fn with_users() -> House {
    let tweak = |config: &mut Config| config.apple.user_channels = true;
    on(House::with(Options { tweak: Box::new(tweak), ..Options::default() }).await).await
}

fn by_user(udid: &str, user: &str, message: Message) -> Vec<u8> {
    let who = Who { user_id: Some(user.into()), user_short_name: Some("ana".into()), ..Who::device(udid) };
    CheckIn { who, message }.encode().unwrap()
}

fn token(topic: &str, unlock: bool) -> Message {
    let data = || Data(vec![9; 32]);
    let unlock_token = unlock.then(data);
    Message::TokenUpdate(TokenUpdate { topic: topic.into(), token: data(), push_magic: "m".into(), unlock_token, ..TokenUpdate::default() })
}

fn url(device: &Device) -> String {
    device.enrollment.mdm.check_in_url.clone().unwrap()
}

async fn channels_of(house: &House, id: &EnrollmentId) -> Vec<Channel> {
    let id = id.clone();
    house.server.app.store.read(move |c| channels::list_channels(c, &id)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_keep_no_tokens_of_the_device() {
    let house = with_users().await;
    let mac = enrolled(&house, Machine::mac(1)).await;
    let (udid, http, url) = (mac.machine.udid.clone(), client(&house, &mac), url(&mac));
    let id = live(&house, &udid).await.unwrap().id;
    let held = async |kind: Kind| {
        let id = id.clone();
        house.server.app.store.read(move |c| secrets::find_secret(c, &id, kind)).await.unwrap()
    };
    let before = held(Kind::Bootstrap).await;
    let set = SetBootstrapToken { bootstrap_token: Some(Data(vec![1; 32])), ..SetBootstrapToken::default() };
    for message in [token(TOPIC, true), Message::SetBootstrapToken(set), Message::GetBootstrapToken(GetBootstrapToken::default())] {
        let name = message.name();
        assert_eq!(put(&http, &url, by_user(&udid, "GUID", message)).await.0, 400, "{name}");
    }
    assert!(codes(&house).await.contains("ENR0020"));
    assert_eq!((held(Kind::Unlock).await, held(Kind::Bootstrap).await), (None, before));
    assert_eq!(put(&http, &url, by_user(&udid, "GUID", token(TOPIC, false))).await.0, 200);
    assert_eq!(channels_of(&house, &id).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_have_channels_when_they_are_managed_and_not_without_end() {
    let off = house().await;
    let mac = enrolled(&off, Machine::mac(1)).await;
    let (udid, http) = (mac.machine.udid.clone(), client(&off, &mac));
    assert_eq!(put(&http, &url(&mac), by_user(&udid, "GUID", token(TOPIC, false))).await.0, 400);
    assert!(codes(&off).await.contains("ENR0021"));
    assert_eq!(channels_of(&off, &live(&off, &udid).await.unwrap().id).await.len(), 1);

    let house = with_users().await;
    let mac = enrolled(&house, Machine::mac(2)).await;
    let (udid, http) = (mac.machine.udid.clone(), client(&house, &mac));
    let id = live(&house, &udid).await.unwrap().id;
    let of = id.clone();
    let fill = move |tx: &mut muster::store::Tx<'_>| {
        (0..99).try_for_each(|user| channels::insert_channel(tx, &Channel::new(of.clone(), format!("user{user}"), TOPIC)))
    };
    house.server.app.store.write(fill).await.unwrap();
    assert_eq!(put(&http, &url(&mac), by_user(&udid, "last", token(TOPIC, false))).await.0, 200);
    assert_eq!(put(&http, &url(&mac), by_user(&udid, "more", token(TOPIC, false))).await.0, 400);
    assert!(codes(&house).await.contains("ENR0022"));
    assert_eq!(put(&http, &url(&mac), by_user(&udid, "last", token(TOPIC, false))).await.0, 200, "it is there already");
    assert_eq!(channels_of(&house, &id).await.len(), 101);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_topic_is_refused() {
    let house = house().await;
    let mac = enrolled(&house, Machine::mac(1)).await;
    let (udid, http) = (mac.machine.udid.clone(), client(&house, &mac));
    let other = "com.apple.mgmt.External.other";
    let again = Message::Authenticate(Authenticate { topic: other.into(), ..Authenticate::default() });
    for message in [token(other, false), again] {
        assert_eq!(put(&http, &url(&mac), said(&udid, message)).await.0, 400);
    }
    assert!(codes(&house).await.contains("APN0005"));
    // The topic that it enrolled for stays good when the certificate is replaced.
    let id = live(&house, &udid).await.unwrap().id;
    let replace = move |tx: &mut muster::store::Tx<'_>| {
        let channel = channels::find_channel(tx.conn(), &id, DEVICE)?.unwrap();
        channels::claim_update(tx, &Channel { topic: "com.apple.mgmt.External.other".into(), ..channel })
    };
    house.server.app.store.write(replace).await.unwrap();
    assert_eq!(put(&http, &url(&mac), said(&udid, token(other, false))).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_apple_tv_is_no_iphone() {
    let house = house().await;
    let machine = Machine { product: "AppleTV11,1".into(), ..Machine::iphone(1) };
    let udid = machine.udid.clone();
    assert!(Device::enroll(&house.roots(), &profile(&house).await, machine, &key()).await.is_err());
    assert!(codes(&house).await.contains("ENR0023"));
    assert_eq!(live(&house, &udid).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_have_nothing_decoded() {
    let house = house().await;
    let nobody = house.server.client();
    for path in [enroll::CHECK_IN_PATH, enroll::COMMANDS_PATH] {
        let (status, body) = put(&nobody, &format!("{}{path}", house.server.device), b"no property list".to_vec()).await;
        let body = String::from_utf8(body).unwrap();
        assert!(status == 400 && body.contains("certificate"), "{body}");
    }
    assert!(codes(&house).await.contains("CRT0001"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_enrolment_profile_brings_its_chain_and_keeps_the_key() {
    let house = house().await;
    let signed = profile(&house).await;
    let message = SignedData::parse(&signed).unwrap();
    let chain: Vec<X509> = message.certificates.iter().map(|der| X509::from_der(der).unwrap()).collect();
    let [signer, issuer] = chain.as_slice() else { panic!("{}", chain.len()) };
    assert_eq!(issuer.issued(signer), X509VerifyResult::OK);
    assert!(house.roots().iter().any(|root| root.issued(issuer) == X509VerifyResult::OK));
    let profile = Profile::decode(message.content.unwrap()).unwrap();
    let identity = profile.payloads().iter().find(|payload| payload.kind == "com.apple.security.scep").unwrap();
    assert_eq!(identity.body.dict("PayloadContent").unwrap().boolean("KeyIsExtractable"), Some(false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unlock_token_is_on_record_as_read_like_other_escrow() {
    let house = house().await;
    let mut phone = enrolled(&house, Machine::iphone(1)).await;
    phone.settle().await.unwrap();
    let enrollment = live(&house, &phone.machine.udid).await.unwrap();
    let order = Order::Known("clear-passcode".into());
    device::command(&house.server.app, &enrollment.device_id, order, true, &by()).await.unwrap();
    phone.settle().await.unwrap();
    assert_eq!(phone.ran.get("ClearPasscode"), Some(&1));
    let rows = house.server.app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    assert!(rows.iter().any(|row| row.action == "escrow.read" && row.after.as_ref().is_some_and(|after| after.contains("ClearPasscode"))));
    let id = enrollment.id;
    assert!(house.server.app.store.read(move |c| enrollments::load_enrollment(c, &id)).await.unwrap().work_at.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_device_says_of_itself_is_kept_at_any_length() {
    let house = with_users().await;
    let mut mac = enrolled(&house, Machine { build: "b".repeat(1_000_000), name: "ä".repeat(5_000), ..Machine::mac(1) }).await;
    let (udid, app) = (mac.machine.udid.clone(), &house.server.app);
    let enrollment = live(&house, &udid).await.unwrap();
    assert!(enrollment.context.len() < 5_000, "{}", enrollment.context.len());
    let row = device::show(app, &enrollment.device_id).await.unwrap().overview.device;
    assert_eq!((row.os_edition.unwrap().len(), row.display_name.chars().count()), (256, 256));
    mac.settle().await.unwrap();
    let (http, url) = (client(&house, &mac), url(&mac));
    let before = channels_of(&house, &enrollment.id).await;
    let large = |length: usize| Some(Data(vec![7; length]));
    let update = TokenUpdate { topic: TOPIC.into(), token: Data(vec![9; 32]), push_magic: "m".into(), ..TokenUpdate::default() };
    for message in [
        Message::TokenUpdate(TokenUpdate { push_magic: "m".repeat(1025), ..update.clone() }),
        Message::TokenUpdate(TokenUpdate { token: Data(vec![9; 1025]), ..update.clone() }),
        Message::TokenUpdate(TokenUpdate { unlock_token: large(65_537), ..update.clone() }),
        Message::SetBootstrapToken(SetBootstrapToken { bootstrap_token: large(65_537), ..SetBootstrapToken::default() }),
    ] {
        let (status, body) = put(&http, &url, said(&udid, message)).await;
        assert!(status == 400 && body.starts_with(b"ENR0039"), "{status} {}", String::from_utf8_lossy(&body));
    }
    let names: Vec<String> = (0..20_000).map(|n| format!("com.example.configuration.number-{n}")).collect();
    let status = serde_json::json!({ "StatusItems": { "management": { "client-capabilities": {
        "supported-versions": ["1.0.0"], "supported-payloads": { "declarations": { "configurations": names } } } } } });
    let status = Message::DeclarativeManagement(DeclarativeManagement {
        endpoint: "status".into(),
        data: Some(Data(serde_json::to_vec(&status).unwrap())),
    });
    assert_eq!(put(&http, &url, said(&udid, status)).await.0, 200);
    let after = channels_of(&house, &enrollment.id).await;
    assert!(before[0].capabilities.is_some());
    assert_eq!((&after[0].capabilities, &after[0].sealed_push), (&before[0].capabilities, &before[0].sealed_push));
    let who = Who { user_id: Some("ANA".into()), user_short_name: Some("a".repeat(5_000)), ..Who::device(&udid) };
    let body = CheckIn { who, message: Message::TokenUpdate(update) }.encode().unwrap();
    assert_eq!(put(&http, &url, body).await.0, 200);
    let channels = channels_of(&house, &enrollment.id).await;
    assert_eq!(channels.iter().filter_map(|channel| channel.user_short_name.as_ref()).map(String::len).collect::<Vec<_>>(), [256]);
}
