//! Enrolment from Setup Assistant: what a device says of itself is believed when a device that Apple made signed it, and not otherwise; who
//! may enrol is decided by it; and Setup Assistant waits until everything is installed, but not for ever.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use muster::clock::{HOUR, MINUTE};
use muster::config::Config;
use muster::domain::device::State as DeviceState;
use muster::domain::tap::Policy;
use muster::service::apple::enroll::machine_info::{APPLE_DEVICE_CA, open};
use muster::service::identity::tap;
use muster::service::{Error, Result, device, directory};
use muster::sim::apple::Device;
use muster::sim::apple::machine::Machine;
use muster::sim::windows::enroll::{Failure, Machine as Pc};
use muster::store::audit;
use muster::wire::apple::machine_info::{DeviceAttributes, MachineInfo};
use muster::wire::asn1::{self, Reader};
use muster::wire::cms::{self, Digest};
use muster::wire::mde::fault::ErrorType;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::x509::X509;

use crate::apple_enroll::{codes, live, on, profile};
use crate::desired::user;
use crate::support::factory::{Factory, Made, make, sign};
use crate::support::tools;
use crate::support::windows::{House, UPN, by, key};

fn code<T: std::fmt::Debug>(result: Result<T>) -> &'static str {
    match result {
        Err(Error::Refused(refusal)) => refusal.code(),
        other => panic!("{other:?}"),
    }
}

const FOREIGN: &str = "ENR0027";
const INVALID: &str = "ENR0029";

#[test]
fn a_real_device_holds_against_apples_own_ca_whose_dates_are_past() {
    let ca = X509::from_pem(APPLE_DEVICE_CA.as_bytes()).unwrap().to_der().unwrap();
    let known = "76f27d00e1333bc88de0e2916c38c9a7f2b75774c25a794c092a80e3c4c66cce";
    assert_eq!(hex::encode(openssl::sha::sha256(&ca)), known);
    let Some(folder) = tools::shared("apple-samples") else { return };
    let message = std::fs::read(folder.join("zentral/ota_playload_phase_2")).unwrap();
    let attributes = DeviceAttributes::decode(&open(&message, APPLE_DEVICE_CA).unwrap()).unwrap();
    assert_eq!(attributes.serial.as_deref(), Some("ZDL2M9PTJ3"));
    let at = message.windows(10).position(|part| part == b"ZDL2M9PTJ3").unwrap();
    let mut changed = message.clone();
    changed[at] = b'Y';
    assert_eq!(code(open(&changed, APPLE_DEVICE_CA)), INVALID);
    assert_eq!(code(open(&message, &Factory::new().pem())), FOREIGN);
    for end in 0..message.len().min(2000) {
        assert_eq!(code(open(&message[..end], APPLE_DEVICE_CA)), INVALID, "cut at {end}");
    }
}

/// The parts of a signed message: version, digests, content, certificates, signers.
fn parts(message: &[u8]) -> Vec<Vec<u8>> {
    let mut outer = Reader::new(message).element().unwrap().reader();
    outer.element().unwrap();
    let mut body = outer.element().unwrap().reader().element().unwrap().reader();
    std::iter::from_fn(|| (!body.is_empty()).then(|| body.element().unwrap().raw.to_vec())).collect()
}

fn joined(parts: &[Vec<u8>]) -> Vec<u8> {
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let body = asn1::wrap(asn1::SEQUENCE, &parts);
    asn1::wrap(asn1::SEQUENCE, &[&asn1::tlv(asn1::OID, cms::SIGNED_DATA), &asn1::tlv(asn1::context(0), &body)])
}

#[test]
fn a_description_holds_in_every_form_that_devices_send_and_is_refused_by_name_otherwise() {
    let factory = Factory::new();
    let (ca, device) = (factory.pem(), factory.device());
    let said = MachineInfo { udid: Some("u".into()), ..MachineInfo::default() }.encode().unwrap();
    for digest in [Digest::Sha1, Digest::Sha256, Digest::Sha384, Digest::Sha512] {
        assert_eq!(open(&sign(&device, &said, digest, &[]), &ca).unwrap(), said, "{digest:?}");
    }
    for digest in [Digest::Md5, Digest::Sha224] {
        assert_eq!(code(open(&sign(&device, &said, digest, &[]), &ca)), INVALID, "{digest:?}");
    }
    let message = sign(&device, &said, Digest::Sha1, &[]);
    let whole = parts(&message);
    assert_eq!(joined(&whole), message);
    // BER: lengths that are not told.
    let inside = Reader::new(&message).element().unwrap().value;
    let ber = [&[0x30, 0x80], inside, &[0, 0]].concat();
    assert_eq!(open(&ber, &ca).unwrap(), said);
    // Nobody signed, two did, or the signer's certificate is not there.
    let [version, digests, content, certificates, signers] = <[Vec<u8>; 5]>::try_from(whole).unwrap();
    let signer = Reader::new(&signers).element().unwrap().value.to_vec();
    let none = asn1::tlv(asn1::SET, &[]);
    let twice = asn1::tlv(asn1::SET, &[signer.clone(), signer].concat());
    for (certificates, signers) in [(&certificates, &none), (&certificates, &twice), (&Vec::new(), &signers)] {
        let odd = joined(&[version.clone(), digests.clone(), content.clone(), certificates.clone(), signers.clone()]);
        assert_eq!(code(open(&odd, &ca)), INVALID);
    }
    for garbage in [&b""[..], b"<plist/>", &[0x30, 0x80], &vec![0x30; 10_000]] {
        assert_eq!(code(open(garbage, &ca)), INVALID);
    }
}

#[test]
fn only_the_pinned_key_makes_devices() {
    let factory = Factory::new();
    let ca = factory.pem();
    let sent = |by: &Made, others: &[&Made]| open(&sign(by, b"x", Digest::Sha256, others), &ca);
    // Another CA, also when it has the same name or lies in the message.
    let other = make("Another CA", None, true);
    let foreign = make("A device", Some(&other), false);
    assert_eq!(code(sent(&foreign, &[&other, &factory.ca])), FOREIGN);
    let mut namesake = make("Test device CA", None, true);
    namesake.key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let copy = make("A device", Some(&namesake), false);
    assert_eq!(code(sent(&copy, &[&namesake, &factory.ca])), FOREIGN);
    assert_eq!(code(sent(&other, &[])), FOREIGN);
    // What an issuer below the CA made, but not what a device did.
    let below = make("Below", Some(&factory.ca), true);
    assert!(sent(&make("A device", Some(&below), false), &[&below]).is_ok());
    assert_eq!(code(sent(&make("A device", Some(&below), false), &[])), FOREIGN, "the issuer is not there");
    let device = factory.device();
    assert_eq!(code(sent(&make("Another device", Some(&device), false), &[&device])), FOREIGN);
    // Chains have an end.
    let mut chain = vec![below];
    for depth in 0..8 {
        chain.push(make(&format!("Level {depth}"), chain.last(), true));
    }
    let all: Vec<_> = chain.iter().collect();
    assert_eq!(code(sent(chain.last().unwrap(), &all)), FOREIGN);
}

async fn house(factory: &Factory, tweak: impl FnOnce(&mut Config) + Send + 'static) -> House {
    let file = factory.path();
    on(House::tweaked(move |config| {
        config.apple.automated.device_ca_file = Some(file);
        tweak(config);
    })
    .await)
    .await
}

struct Said {
    status: u16,
    kind: String,
    location: String,
    body: Vec<u8>,
}

impl Said {
    async fn of(request: reqwest::RequestBuilder) -> Self {
        let answer = request.send().await.unwrap();
        let header = |name: &str| answer.headers().get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
        let (status, kind, location) = (answer.status().as_u16(), header("content-type"), header("location"));
        Self { status, kind, location, body: answer.bytes().await.unwrap().to_vec() }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> serde_json::Value {
        assert_eq!((self.status, self.kind.as_str()), (403, "application/json"), "{}", self.text());
        serde_json::from_slice(&self.body).unwrap()
    }

    fn profile(self) -> Vec<u8> {
        assert_eq!((self.status, self.kind.as_str()), (200, "application/x-apple-aspen-config"), "{}", self.text());
        self.body
    }
}

async fn post(house: &House, message: Vec<u8>, token: Option<&str>) -> Said {
    let mut request = house.server.client().post(format!("{}/enroll/apple/device", house.server.web)).body(message);
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    Said::of(request).await
}

async fn page(house: &House, message: Option<String>) -> Said {
    let mut request = house.server.client().get(format!("{}/enroll/apple/setup", house.server.web));
    if let Some(message) = message {
        request = request.header("x-apple-aspen-deviceinfo", message);
    }
    Said::of(request).await
}

async fn sign_in(house: &House, path: &str, device: &str, pass: &str) -> Said {
    sign_in_as(house, UPN, path, device, pass).await
}

async fn sign_in_as(house: &House, who: &str, path: &str, device: &str, pass: &str) -> Said {
    let encoded = |text: &str| text.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D").replace('@', "%40");
    let body = format!("user_name={}&pass={pass}&device={}", encoded(who), encoded(device));
    let request = house.server.client().post(format!("{}{path}", house.server.web)).body(body);
    Said::of(request.header("Content-Type", "application/x-www-form-urlencoded")).await
}

async fn rows(house: &House) -> String {
    let rows = house.server.app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    rows.into_iter().map(|row| format!("{} {}\n", row.action, row.after.unwrap_or_default())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_signs_in_on_the_page_and_the_profile_is_for_that_device() {
    let factory = Factory::new();
    let house = house(&factory, |_| ()).await;
    let machine = Machine::mac(1);
    let message = factory.signed(&machine.info());
    let missing = page(&house, None).await;
    assert!(missing.status == 400 && missing.text().contains("ENR0030"), "{}", missing.text());
    let broken = page(&house, Some(STANDARD.encode(&message[1..]))).await;
    assert!(broken.status == 403 && broken.text().contains(INVALID), "{}", broken.text());
    let shown = page(&house, Some(URL_SAFE.encode(&message))).await;
    assert_eq!(shown.status, 200, "{}", shown.text());
    let text = page(&house, Some(STANDARD.encode(&message))).await.text();
    let device = text.split("name=\"device\" value=\"").nth(1).unwrap().split('"').next().unwrap().replace("&#43;", "+");
    assert!(!text.contains(&machine.serial) && !text.contains("Afterwards"));
    let pass = house.pass().await;
    assert_eq!(sign_in(&house, "/enroll/apple/setup", &device, "wrong").await.status, 403);
    let forged = format!("{}AAAA", &device[..device.len() - 4]);
    assert!(sign_in(&house, "/enroll/apple/setup", &forged, &pass).await.text().contains("ENR0018"));
    assert!(sign_in(&house, "/enroll/apple/setup", "", &pass).await.text().contains("ENR0018"));
    let profile = sign_in(&house, "/enroll/apple/setup", &device, &pass).await.profile();
    let other = Device::enroll(&house.roots(), &profile, Machine::mac(2), &key()).await;
    assert!(other.is_err() && codes(&house).await.contains("MGT0004"), "the profile of another device");
    let profile = sign_in(&house, "/enroll/apple/setup", &device, &pass).await.profile();
    Device::enroll(&house.roots(), &profile, machine.clone(), &key()).await.unwrap();
    assert_eq!(live(&house, &machine.udid).await.unwrap().user_id.as_ref(), Some(&house.user));
    house.server.clock.advance(2 * HOUR);
    assert!(sign_in(&house, "/enroll/apple/setup", &device, &pass).await.text().contains("ENR0018"), "the page is old");
    assert!(rows(&house).await.contains("automated-tap"));
}

/// The profile for a machine whose description Apple signed, for whoever signs in with a pass.
async fn proven_profile(house: &House, factory: &Factory, machine: &Machine, who: &str, pass: &str) -> Vec<u8> {
    let text = page(house, Some(STANDARD.encode(factory.signed(&machine.info())))).await.text();
    let device = text.split("name=\"device\" value=\"").nth(1).unwrap().split('"').next().unwrap().replace("&#43;", "+");
    sign_in_as(house, who, "/enroll/apple/setup", &device, pass).await.profile()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_is_proven_to_be_anothers_takes_its_place_and_leaves_no_ghost() {
    let factory = Factory::new();
    let house = house(&factory, |_| ()).await;
    let machine = Machine::mac(1);
    let app = &house.server.app;
    let bob = directory::create_user(app, user("bob@example.org"), &by()).await.unwrap().id;
    let pass = tap::create(app, &bob, Policy::default(), None, "cli:test", "local").await.unwrap().show().to_owned();
    let of_ana = proven_profile(&house, &factory, &machine, UPN, &house.pass().await).await;
    let mut device = Device::enroll(&house.roots(), &of_ana, machine.clone(), &key()).await.unwrap();
    device.settle().await.unwrap();
    let old = live(&house, &machine.udid).await.unwrap().device_id;
    // Wiped without a farewell, and given to somebody else.
    let of_bob = proven_profile(&house, &factory, &machine, "bob@example.org", &pass).await;
    Device::enroll(&house.roots(), &of_bob, machine.clone(), &key()).await.unwrap();
    let new = live(&house, &machine.udid).await.unwrap();
    assert_eq!(new.user_id.as_ref(), Some(&bob));
    assert_ne!(new.device_id, old, "nothing of the one is the other's");
    let (before, after) = (device::show(app, &old).await.unwrap(), device::show(app, &new.device_id).await.unwrap());
    assert_eq!((before.overview.device.state, before.overview.device.hardware_id), (DeviceState::Retired, None));
    assert_ne!(before.overview.compliant, Some(true));
    assert_eq!(after.overview.device.state, DeviceState::Managed);
    assert!(device::contested(app).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_keeps_the_serial_number_that_it_has_proven_whatever_it_says_later() {
    let factory = Factory::new();
    let house = house(&factory, |_| ()).await;
    let (machine, app) = (Machine::mac(1), &house.server.app);
    let proven = machine.serial.clone();
    let profile = proven_profile(&house, &factory, &machine, UPN, &house.pass().await).await;
    let mut device = Device::enroll(&house.roots(), &profile, machine.clone(), &key()).await.unwrap();
    device.settle().await.unwrap();
    let id = live(&house, &machine.udid).await.unwrap().device_id;
    assert_eq!(device::show(app, &id).await.unwrap().says_serial_number, None);
    device.machine.serial = "CEO-MAC-SERIAL".into();
    for _ in 0..2 {
        house.server.clock.advance(25 * HOUR);
        device.settle().await.unwrap();
    }
    let shown = device::show(app, &id).await.unwrap();
    assert_eq!(shown.overview.device.serial_number.as_deref(), Some(proven.as_str()));
    assert_eq!(shown.says_serial_number.as_deref(), Some("CEO-MAC-SERIAL"));
    let contested = device::contested_serials(app).await.unwrap();
    assert_eq!(contested.iter().map(|one| (&one.device, one.says.as_str())).collect::<Vec<_>>(), [(&id, "CEO-MAC-SERIAL")]);
    assert_eq!(rows(&house).await.matches("device.serial-contested").count(), 1, "told once");
    device.machine.serial = proven;
    house.server.clock.advance(25 * HOUR);
    device.settle().await.unwrap();
    assert!(device::contested_serials(app).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_enrols_by_itself_only_when_it_is_listed_and_that_is_allowed() {
    let factory = Factory::new();
    let machine = Machine::iphone(3);
    let info = machine.info();
    let strict = house(&factory, |_| ()).await;
    let refused = post(&strict, factory.signed(&info), None).await;
    assert!(refused.status == 403 && refused.text().contains("ENR0025"), "{}", refused.text());
    let refused = post(&strict, factory.signed(&info), Some("guess")).await;
    assert!(refused.status == 403 && refused.text().contains("AUT0006"), "{}", refused.text());
    assert!(rows(&strict).await.contains("ENR0025"));

    let serial = machine.serial.to_lowercase();
    let house = house(&factory, move |config| {
        config.apple.automated.require_sign_in = false;
        config.enrollment.serial_numbers = vec![serial];
    })
    .await;
    let refused = async |info: &MachineInfo| post(&house, factory.signed(info), None).await.text();
    assert!(refused(&Machine::iphone(4).info()).await.contains("ENR0031"));
    assert!(refused(&MachineInfo { serial: None, ..info.clone() }).await.contains("ENR0028"));
    assert!(refused(&MachineInfo { udid: Some("x".repeat(300)), ..info.clone() }).await.contains("ENR0028"));
    assert!(refused(&MachineInfo { product: "AppleTV11,1".into(), ..info.clone() }).await.contains("ENR0023"));
    assert!(refused(&MachineInfo { product: "Toaster1,1".into(), ..info.clone() }).await.contains("ENR0032"));
    let foreign = sign(&make("A device", None, false), &info.encode().unwrap(), Digest::Sha1, &[]);
    assert!(post(&house, foreign, None).await.text().contains(FOREIGN));
    let nonsense = sign(&factory.device(), b"nonsense", Digest::Sha1, &[]);
    assert_eq!(post(&house, nonsense, None).await.status, 400);
    assert_eq!(post(&house, vec![0; 70_000], None).await.status, 413);
    let profile = post(&house, factory.signed(&info), None).await.profile();
    Device::enroll(&house.roots(), &profile, machine.clone(), &key()).await.unwrap();
    assert_eq!(live(&house, &machine.udid).await.unwrap().user_id, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_device_updates_first_when_it_can() {
    let factory = Factory::new();
    let serial = Machine::mac(1).serial;
    let house = house(&factory, move |config| {
        config.apple.automated.require_sign_in = false;
        config.apple.automated.macos_version = "15.2".into();
        config.enrollment.serial_numbers = vec![serial];
    })
    .await;
    let info = Machine::mac(1).info();
    for answer in [post(&house, factory.signed(&info), None).await, page(&house, Some(STANDARD.encode(factory.signed(&info)))).await] {
        let answer = answer.json();
        assert_eq!((&answer["code"], &answer["details"]["OSVersion"]), (&"com.apple.softwareupdate.required".into(), &"15.2".into()));
    }
    for able in [
        MachineInfo { mdm_can_request_software_update: false, ..info.clone() },
        MachineInfo { os_version: Some("15.2".into()), ..info.clone() },
    ] {
        post(&house, factory.signed(&able), None).await.profile();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mac_sets_platform_sso_up_and_comes_back_with_the_token_of_the_sign_in() {
    let factory = Factory::new();
    let house = house(&factory, |config| {
        config.apple.automated.platform_sso_profile_url = "https://sso.example.org/profile".into();
        config.apple.automated.platform_sso_manifest_url = "https://sso.example.org/manifest.plist".into();
    })
    .await;
    let machine = Machine::mac(5);
    let first = MachineInfo { mdm_can_request_psso_config: true, ..machine.info() };
    let answer = post(&house, factory.signed(&first), None).await.json();
    let url = format!("{}/enroll/apple/sign-in", house.server.web);
    assert_eq!(answer["code"], "com.apple.psso.required");
    assert_eq!(answer["details"]["ProfileURL"], "https://sso.example.org/profile");
    assert_eq!(answer["details"]["Package"]["ManifestURL"], "https://sso.example.org/manifest.plist");
    assert_eq!(answer["details"]["AuthURL"], url.as_str());
    let shown = Said::of(house.server.client().get(&url)).await;
    assert!(shown.status == 200 && shown.text().contains("action=\"/enroll/apple/sign-in\""));
    assert_eq!(sign_in(&house, "/enroll/apple/sign-in", "", "wrong").await.status, 403);
    let answer = sign_in(&house, "/enroll/apple/sign-in", "", &house.pass().await).await;
    assert_eq!(answer.status, 308);
    let token = answer.location.strip_prefix("apple-remotemanagement-user-login://authentication-results?access-token=").unwrap();
    // Without the token the same question does not help.
    let message = || factory.signed(&machine.info());
    assert!(post(&house, message(), None).await.text().contains("ENR0025"));
    let profile = post(&house, message(), Some(token)).await.profile();
    assert!(post(&house, message(), Some(token)).await.text().contains("AUT0006"), "a token is good once");
    Device::enroll(&house.roots(), &profile, machine.clone(), &key()).await.unwrap();
    assert_eq!(live(&house, &machine.udid).await.unwrap().user_id.as_ref(), Some(&house.user));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn setup_assistant_goes_on_once_everything_is_installed_and_in_time_in_any_case() {
    let factory = Factory::new();
    let house = house(&factory, |_| ()).await;
    house.assign_baseline("macos-scep-device-certificate").await;
    let enrolled = async |number: u64, no_scep: bool| {
        let machine = Machine { awaiting: true, ..Machine::mac(number) };
        let mut device = Device::enroll(&house.roots(), &profile(&house).await, machine, &key()).await.unwrap();
        device.scep_key = Some(key());
        device.faults.no_scep = no_scep;
        device
    };
    let mut good = enrolled(1, false).await;
    good.settle().await.unwrap();
    assert_eq!((good.machine.awaiting, good.ran["DeviceConfigured"]), (false, 1));
    good.settle().await.unwrap();
    assert_eq!(good.ran["DeviceConfigured"], 1, "told once");
    assert!(rows(&house).await.contains(r#"enrollment.release {"seconds":0,"complete":true}"#));

    // One that does not take what it is given.
    let mut silent = enrolled(2, true).await;
    silent.settle().await.unwrap();
    house.server.clock.advance(14 * MINUTE);
    silent.settle().await.unwrap();
    assert!(silent.machine.awaiting);
    let id = live(&house, &silent.machine.udid).await.unwrap().id;
    let next = house.server.app.store.read(move |c| muster::store::enrollments::load_enrollment(c, &id)).await.unwrap().work_at.unwrap();
    assert!(next <= house.server.app.now().plus(MINUTE), "it is woken in time");
    house.server.clock.advance(MINUTE);
    silent.settle().await.unwrap();
    assert!(!silent.machine.awaiting);
    assert!(rows(&house).await.contains(r#"enrollment.release {"seconds":900,"complete":false}"#));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restrictions_hold_on_every_way_of_enrolling() {
    let factory = Factory::new();
    let house = house(&factory, |config| {
        config.enrollment.serial_numbers = vec![Machine::mac(1).serial, Machine::mac(2).serial];
        config.enrollment.macos.personal = false;
        config.enrollment.macos.minimum_os_version = "15.1".into();
        config.enrollment.macos.maximum_os_version = "15".into();
        config.enrollment.ios.allowed = false;
        config.enrollment.windows.maximum_os_version = "10.0.19045".into();
    })
    .await;
    let of = |machine: Machine, version: &str| Machine { os_version: version.into(), ..machine };
    let refused = [
        (Machine::iphone(1), "ENR0032"),
        (of(Machine::mac(1), "15.0.1"), "ENR0007"),
        (of(Machine::mac(1), "26.0"), "ENR0026"),
        (Machine::mac(3), "ENR0031"),
    ];
    for (machine, code) in refused {
        // By itself, and with a profile that somebody downloaded.
        let early = page(&house, Some(STANDARD.encode(factory.signed(&machine.info())))).await;
        assert!(early.status == 403 && early.text().contains(code), "{code}: {}", early.text());
        let udid = machine.udid.clone();
        assert!(Device::enroll(&house.roots(), &profile(&house).await, machine, &key()).await.is_err(), "{code}");
        assert!(codes(&house).await.contains(code), "{code}");
        assert_eq!(live(&house, &udid).await, None);
    }
    Device::enroll(&house.roots(), &profile(&house).await, of(Machine::mac(1), "15.7"), &key()).await.unwrap();
    Device::enroll(&house.roots(), &profile(&house).await, Machine::mac(2), &key()).await.unwrap();
    let Err(Failure::Fault(fault)) = house.join(&Pc::windows_11(1)).await else { panic!() };
    assert_eq!(fault.error_type, Some(ErrorType::DeviceNotSupported));
    assert!(rows(&house).await.contains("ENR0026"));
}
