//! Over-the-air enrolment: a device proves what it is before it gets its profile, which is for it alone; messages that come again, or from
//! another device, are refused by name. And what this host tells Apple's systems about single sign-on.

use muster::clock::HOUR;
use muster::domain::device::Platform;
use muster::service::apple::enroll;
use muster::sim::apple::machine::Machine;
use muster::sim::apple::over_the_air::Journey;
use muster::sim::apple::{Device, Error};
use muster::store::audit;
use muster::wire::apple::machine_info::DeviceAttributes;
use muster::wire::apple::profile::Profile;
use muster::wire::cms::{Digest, SignedData};

use crate::apple_enroll::{codes, live, on};
use crate::support::apple_schema::{Target, schema};
use crate::support::factory::{Factory, Made, make, sign};
use crate::support::windows::{House, UPN, key};

async fn house(factory: &Factory) -> House {
    let file = factory.path();
    on(House::tweaked(move |config| config.apple.automated.device_ca_file = Some(file)).await).await
}

async fn link(house: &House) -> String {
    let invitation = enroll::invite(&house.server.app, UPN, Platform::MacOs, true, HOUR, "cli:test").await.unwrap();
    String::from_utf8(invitation.link.expose().to_vec()).unwrap()
}

async fn post(house: &House, url: &str, body: impl Into<reqwest::Body>) -> (u16, Vec<u8>) {
    let answer = house.server.client().post(url).body(body).send().await.unwrap();
    (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
}

/// The first document.
async fn document(house: &House) -> Vec<u8> {
    let (status, document) = post(house, &link(house).await, "").await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&document));
    document
}

/// How a message is refused.
async fn refused(house: &House, message: Vec<u8>) -> String {
    let (status, body) = post(house, &format!("{}/enroll/apple/profile-service", house.server.web), message).await;
    assert!((400..500).contains(&status) && status != 401, "{status}");
    serde_json::from_slice::<serde_json::Value>(&body).unwrap()["code"].as_str().unwrap().to_owned()
}

fn said(by: &Made, attributes: &DeviceAttributes) -> Vec<u8> {
    sign(by, &attributes.encode().unwrap(), Digest::Sha1, &[])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_proves_what_it_is_and_its_profile_is_for_it_alone() {
    let factory = Factory::new();
    let (house, made) = (house(&factory).await, factory.device());
    let (roots, identity) = (house.roots(), (&made.certificate, &made.key));
    let machine = Machine::mac(1);
    let first = document(&house).await;
    let device = Device::enroll_over_the_air(&roots, &first, machine.clone(), identity, &key()).await.unwrap();
    let enrolled = live(&house, &machine.udid).await.unwrap();
    assert_eq!(enrolled.user_id.as_ref(), Some(&house.user));
    assert!(!device.left);
    let rows = house.server.app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    assert!(rows.iter().any(|row| row.action == "enrollment.introduce"));
    assert!(rows.iter().any(|row| row.after.as_deref().unwrap_or_default().contains("over-the-air-link")));
    // The link is used up.
    let again = Device::enroll_over_the_air(&roots, &first, Machine::mac(2), identity, &key()).await;
    assert!(matches!(again, Err(Error::Http(403, _))), "{again:?}");

    // The profile does not enrol another device.
    let journey = Journey::begin(&roots, &document(&house).await, Machine::mac(3)).unwrap();
    let introduced = journey.introduce(identity).await.unwrap();
    let second = journey.describe(&introduced.certificate, &introduced.key).unwrap();
    let profile = journey.send(&second).await.unwrap();
    assert_eq!(refused(&house, second).await, "ENR0018", "a message that comes again");
    assert!(Device::enroll(&roots, &profile, Machine::mac(4), &key()).await.is_err());
    assert!(codes(&house).await.contains("MGT0004"));
    assert_eq!(live(&house, &Machine::mac(4).udid).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_signs_in_on_the_page_and_enrols_over_the_air() {
    let factory = Factory::new();
    let (house, made) = (house(&factory).await, factory.device());
    let (client, url) = (house.server.client(), format!("{}/enroll/apple/ota", house.server.web));
    let page = client.get(&url).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("action=\"/enroll/apple/ota\"") && page.contains("Afterwards"));
    let send = async |pass: &str| {
        let form = format!("user_name={}&pass={pass}", UPN.replace('@', "%40"));
        let answer = client.post(&url).header("Content-Type", "application/x-www-form-urlencoded").body(form).send().await.unwrap();
        (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
    };
    assert_eq!(send("wrong").await.0, 403);
    let (status, document) = send(&house.pass().await).await;
    assert_eq!(status, 200);
    let phone = Machine::iphone(1);
    let identity = (&made.certificate, &made.key);
    Device::enroll_over_the_air(&house.roots(), &document, phone.clone(), identity, &key()).await.unwrap();
    assert_eq!(live(&house, &phone.udid).await.unwrap().user_id.as_ref(), Some(&house.user));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configuration_lets_nobody_enrol_otherwise() {
    let factory = Factory::new();
    let file = factory.path();
    let house = House::tweaked(move |config| {
        config.apple.automated.device_ca_file = Some(file);
        config.apple.over_the_air = true;
    });
    let (house, made) = (on(house.await).await, factory.device());
    let roots = house.roots();
    let invitation = enroll::invite(&house.server.app, UPN, Platform::MacOs, false, HOUR, "cli:test").await.unwrap();
    let link = String::from_utf8(invitation.link.expose().to_vec()).unwrap();
    let (status, document) = post(&house, &link, "").await;
    assert!(status == 200 && Device::enroll(&roots, &document, Machine::mac(1), &key()).await.is_err());
    let form = format!("user_name={}&pass={}", UPN.replace('@', "%40"), house.pass().await);
    let request = house.server.client().post(format!("{}/enroll/apple", house.server.web)).body(form);
    let answer = request.header("Content-Type", "application/x-www-form-urlencoded").send().await.unwrap().bytes().await.unwrap();
    for first in [document, answer.to_vec()] {
        let journey = Journey::begin(&roots, &first, Machine::mac(1)).unwrap();
        let message = journey.describe(&made.certificate.to_der().unwrap(), &made.key).unwrap();
        let signed = journey.send(&message).await.unwrap();
        let profile = Profile::decode(SignedData::parse(&signed).unwrap().content.unwrap()).unwrap();
        let kinds: Vec<&str> = profile.payloads().iter().map(|payload| payload.kind.as_str()).collect();
        assert_eq!(kinds, ["com.apple.security.root", "com.apple.security.pkcs1", "com.apple.security.scep"]);
        if let Some(schema) = schema() {
            assert_eq!(schema.profile(&profile.to_value(), Target::mac("15.0")), [""; 0]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_hold_is_refused_by_name() {
    let factory = Factory::new();
    let (house, made) = (house(&factory).await, factory.device());
    let roots = house.roots();
    let machine = Machine::mac(1);
    let journey = Journey::begin(&roots, &document(&house).await, machine.clone()).unwrap();
    let good = DeviceAttributes {
        udid: Some(machine.udid.clone()),
        serial: Some(machine.serial.clone()),
        product: Some(machine.product.clone()),
        challenge: journey.service.challenge.clone(),
        ..DeviceAttributes::default()
    };
    let cases = [
        (said(&make("A device", None, false), &good), "ENR0027"),
        (b"<plist/>".to_vec(), "ENR0029"),
        (said(&made, &DeviceAttributes { udid: None, ..good.clone() }), "ENR0028"),
        (said(&made, &DeviceAttributes { serial: Some("x".repeat(300)), ..good.clone() }), "ENR0028"),
        (said(&made, &DeviceAttributes { product: Some("AppleTV11,1".into()), ..good.clone() }), "ENR0023"),
        (said(&made, &DeviceAttributes { product: None, ..good.clone() }), "ENR0032"),
        (said(&made, &DeviceAttributes { challenge: None, ..good.clone() }), "ENR0033"),
        (said(&made, &DeviceAttributes { challenge: Some("guess".into()), ..good.clone() }), "AUT0006"),
        (sign(&made, b"nonsense", Digest::Sha1, &[]), "malformed"),
    ];
    for (message, code) in cases {
        assert_eq!(refused(&house, message).await, code);
    }
    assert_eq!(post(&house, &journey.service.url, vec![0; 70_000]).await.0, 413);

    // None of that used the challenge up; the identity that it leads to is for one message of that device.
    let introduced = journey.introduce((&made.certificate, &made.key)).await.unwrap();
    assert_eq!(refused(&house, said(&made, &good)).await, "AUT0006", "the first message again");
    let ours = Made { certificate: openssl::x509::X509::from_der(&introduced.certificate).unwrap(), key: introduced.key.clone() };
    let other = DeviceAttributes { udid: Some(Machine::mac(2).udid), ..good.clone() };
    assert_eq!(refused(&house, said(&ours, &other)).await, "MGT0004");
    let other = DeviceAttributes { serial: Some(Machine::mac(2).serial), ..good.clone() };
    assert_eq!(refused(&house, said(&ours, &other)).await, "MGT0004");
    // An identity of management is none of this service, and the other way round.
    let profile = journey.send(&said(&ours, &good)).await.unwrap();
    let device = Device::enroll(&roots, &profile, machine, &key()).await.unwrap();
    let managed = &device.enrollment.identity;
    let managed = Made { certificate: openssl::x509::X509::from_der(&managed.certificate).unwrap(), key: managed.key.clone() };
    assert_eq!(refused(&house, said(&managed, &good)).await, "ENR0027");
    let late = Journey::begin(&roots, &document(&house).await, Machine::mac(5)).unwrap();
    let early = late.introduce((&made.certificate, &made.key)).await.unwrap();
    house.server.clock.advance(2 * HOUR);
    let message = late.describe(&early.certificate, &early.key).unwrap();
    assert_eq!(refused(&house, message).await, "ENR0018", "the session is over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_host_of_platform_sso_names_its_applications() {
    let house = House::tweaked(|config| config.apple.sso.apps = vec!["ABCDE12345.com.example.sso".into()]).await;
    let path = "/.well-known/apple-app-site-association";
    let url = format!("{}{path}", house.server.web);
    let answer = house.server.client().get(&url).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.url().as_str()), (200, url.as_str()), "no redirect");
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert!(answer.headers()["cache-control"].to_str().unwrap().contains("max-age="));
    let body: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(body, serde_json::json!({ "authsrv": { "apps": ["ABCDE12345.com.example.sso"] } }));
    assert_eq!(house.server.client().head(&url).send().await.unwrap().status(), 200);
    let bare = House::new().await;
    assert_eq!(bare.server.client().get(format!("{}{path}", bare.server.web)).send().await.unwrap().status(), 404);
}
