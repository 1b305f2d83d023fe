//! The simulated Mac and iPhone against a server that stands in for Muster's management, and Muster's own CA: what they say is what
//! Apple's schema allows, and they refuse what Apple's systems refuse. One file, as all of its tests share the stand-in.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use muster::catalogue::payload::System;
use muster::sim::apple::{Device, Error, Machine, Settings, new_key};
use muster::sim::listener::{self, Answer as Http, Listener, Request, Tls};
use muster::wire::apple::checkin::{CheckIn, Message};
use muster::wire::apple::command::{Answer, Command, Status};
use muster::wire::apple::ddm::{Declaration, Endpoint, Item, Kind, Manifest, StatusReport, SyncTokens, Tokens, Valid};
use muster::wire::apple::enroll::{BOOTSTRAP_TOKEN, MDM, access};
use muster::wire::apple::profile::{Content, Payload, Profile};
use muster::wire::apple::{CHECKIN, COMMAND};
use muster::wire::cms::{self, Digest, SignedData};
use muster::wire::plist::{self, Data, Dict, Limits, Value};
use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::x509::{X509, X509Name};
use serde_json::json;

use crate::scep::{grant, mint};
use crate::support::apple_schema::{Target, schema};
use crate::support::ca::Ca;
use crate::support::server::Server;

const MAC: Target = Target::mac("15.1");
const IPHONE: Target = Target::iphone("18.1");
const ENROLLMENT: &str = "org.example.enrollment";

/// What the stand-in knows.
#[derive(Default)]
struct State {
    queue: VecDeque<Command>,
    deferred: Vec<String>,
    said: Vec<CheckIn>,
    results: Vec<Answer>,
    requests: Vec<Request>,
    declarations: Vec<(Kind, Declaration)>,
    reports: Vec<StatusReport>,
    statuses: Vec<serde_json::Value>,
    forced: Option<Http>,
}

impl State {
    fn token(&self) -> String {
        let all: String = self.declarations.iter().map(|(_, d)| format!("{} {}\n", d.identifier, d.server_token)).collect();
        hex::encode(openssl::sha::sha256(all.as_bytes()))
    }

    fn tokens(&self) -> Tokens {
        Tokens { sync_tokens: SyncTokens { declarations_token: self.token(), timestamp: "2026-01-02T03:04:05Z".into() } }
    }

    fn answer(&mut self, request: &Request) -> Http {
        self.requests.push(request.clone());
        if let Some(forced) = self.forced.take() {
            return forced;
        }
        let body = match request.header("content-type") {
            Some(CHECKIN) => self.check_in(&request.body),
            Some(COMMAND) => self.command(&request.body),
            _ => None,
        };
        body.map_or(Http::of(404), |body| Http { status: 200, body, ..Http::default() })
    }

    fn check_in(&mut self, body: &[u8]) -> Option<Vec<u8>> {
        let said = CheckIn::decode(body).unwrap();
        self.said.push(said.clone());
        let Message::DeclarativeManagement(asked) = said.message else { return Some(Vec::new()) };
        match Endpoint::parse(&asked.endpoint).unwrap() {
            Endpoint::Tokens => serde_json::to_vec(&self.tokens()).ok(),
            Endpoint::Items => {
                let mut manifest = Manifest { declarations_token: self.token(), ..Manifest::default() };
                for (kind, d) in &self.declarations {
                    let item = Item { identifier: d.identifier.clone(), server_token: d.server_token.clone() };
                    manifest.declarations.of_mut(*kind).push(item);
                }
                serde_json::to_vec(&manifest).ok()
            }
            Endpoint::Declaration(kind, id) => {
                let found = self.declarations.iter().find(|(known, d)| *known == kind && d.identifier == id)?;
                serde_json::to_vec(&found.1).ok()
            }
            Endpoint::Status => {
                let data = asked.data.unwrap();
                self.reports.push(StatusReport::decode(&data).unwrap());
                self.statuses.push(serde_json::from_slice(&data).unwrap());
                Some(Vec::new())
            }
        }
    }

    fn command(&mut self, body: &[u8]) -> Option<Vec<u8>> {
        let answer = Answer::decode(body).unwrap();
        match answer.status {
            Status::Idle => self.deferred.clear(),
            Status::NotNow => self.deferred.extend(answer.command_uuid.clone()),
            _ => self.queue.retain(|command| Some(&command.uuid) != answer.command_uuid.as_ref()),
        }
        self.results.push(answer);
        let next = self.queue.iter().find(|command| !self.deferred.contains(&command.uuid));
        Some(next.map(Command::encode).unwrap_or_default())
    }
}

/// The stand-in, and Muster with its CA.
struct World {
    server: Server,
    state: Arc<Mutex<State>>,
    roots: Vec<X509>,
    ca: Ca,
    url: String,
    _listener: Listener,
}

impl World {
    async fn new() -> Self {
        let server = Server::start().await;
        let ca = Ca::new("Stand-in");
        let leaf = ca.leaf("127.0.0.1", &["127.0.0.1".into()]);
        let tls = Tls { certificate: leaf.certificate, chain: Vec::new(), key: leaf.key };
        let state = Arc::new(Mutex::new(State::default()));
        let known = Arc::clone(&state);
        let handler: listener::Handler = Arc::new(move |request| {
            let answer = known.lock().unwrap().answer(&request);
            Box::pin(async move { answer })
        });
        let listener = listener::listen("127.0.0.1:0".parse().unwrap(), Some(&tls), handler).await.unwrap();
        let url = format!("https://{}", listener.address);
        let roots = vec![ca.root.clone(), X509::from_pem(&server.root_pem).unwrap()];
        Self { server, state, roots, ca, url, _listener: listener }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn scep(&self) -> Payload {
        let pair = |a: &str, b: &str| Value::Array(vec![Value::Array(vec![a.into(), b.into()])]);
        let content = Dict::new()
            .with("URL", format!("{}/scep/default", self.server.web))
            .with("Name", "default")
            .with("Subject", vec![pair("CN", "device")])
            .with("Challenge", mint(&self.server.app, grant("device"), false).await)
            .with("Keysize", 2048)
            .with("Key Type", "RSA")
            .with("Key Usage", 5);
        payload("com.apple.security.scep", "identity", Dict::new().with("PayloadContent", content))
    }

    fn mdm(&self, identity: &Payload) -> Payload {
        let body = Dict::new()
            .with("IdentityCertificateUUID", identity.uuid.as_str())
            .with("Topic", "com.apple.mgmt.External.test")
            .with("ServerURL", format!("{}/mdm", self.url))
            .with("CheckInURL", format!("{}/checkin", self.url))
            .with("SignMessage", true)
            .with("AccessRights", access::ALL)
            .with("ServerCapabilities", vec![Value::from(BOOTSTRAP_TOKEN)])
            .with("CheckOutWhenRemoved", true);
        payload(MDM, "mdm", body)
    }

    async fn enrollment(&self) -> Profile {
        let root = Dict::new().with("PayloadContent", Data(self.ca.root.to_der().unwrap()));
        let identity = self.scep().await;
        let mdm = self.mdm(&identity);
        profile(ENROLLMENT, vec![payload("com.apple.security.root", "root", root), identity, mdm])
    }

    async fn device(&self, machine: Machine) -> Device {
        let profile = self.enrollment().await.encode();
        let key = tokio::task::spawn_blocking(new_key).await.unwrap().unwrap();
        let mut device = Device::enroll(&self.roots, &profile, machine, &key).await.unwrap();
        device.scep_key = Some(key);
        device
    }

    fn order(&self, uuid: &str, request_type: &str, body: Dict) {
        let command = Command { uuid: uuid.into(), request_type: request_type.into(), body };
        self.state().queue.push_back(command);
    }

    fn install(&self, uuid: &str, profile: &Profile) {
        self.order(uuid, "InstallProfile", Dict::new().with("Payload", Data(profile.encode())));
    }

    fn result(&self, uuid: &str) -> Answer {
        let state = self.state();
        state.results.iter().rev().find(|answer| answer.command_uuid.as_deref() == Some(uuid)).unwrap().clone()
    }
}

fn uuid() -> String {
    uuid::Uuid::new_v4().to_string().to_uppercase()
}

fn payload(kind: &str, name: &str, body: Dict) -> Payload {
    Payload { kind: kind.into(), identifier: format!("org.example.{name}"), uuid: uuid(), body }
}

fn profile(identifier: &str, payloads: Vec<Payload>) -> Profile {
    let body = Dict::new().with("PayloadDisplayName", "Example");
    Profile { identifier: identifier.into(), uuid: uuid(), body, content: Content::Plain(payloads) }
}

fn passcode(rule: &str, value: impl Into<Value>) -> Payload {
    payload("com.apple.mobiledevice.passwordpolicy", "passcode", Dict::new().with(rule, value))
}

/// A certificate that vouches for itself.
fn self_signed(key: &PKey<Private>) -> Vec<u8> {
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_text("CN", "Self").unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(9).unwrap()).unwrap();
    builder.set_serial_number(&Asn1Integer::from_bn(&BigNum::from_u32(7).unwrap()).unwrap()).unwrap();
    builder.sign(key, MessageDigest::sha256()).unwrap();
    builder.build().to_der().unwrap()
}

#[track_caller]
fn clean(findings: &[String]) {
    assert!(findings.is_empty(), "{findings:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mac_and_an_iphone_introduce_themselves_as_the_schema_says() {
    let world = World::new().await;
    for (machine, target) in [(Machine::mac(1), MAC), (Machine::iphone(1), IPHONE)] {
        let mac = machine.system == System::Mac;
        let mut device = world.device(machine).await;
        let report = device.connect().await.unwrap();
        assert_eq!((report.messages, report.commands), (1, 0));
        let said: Vec<CheckIn> = std::mem::take(&mut world.state().said);
        let names: Vec<&str> = said.iter().map(|said| said.message.name()).collect();
        let expected = ["Authenticate", "TokenUpdate", "SetBootstrapToken"];
        assert_eq!(names, expected[..if mac { 3 } else { 2 }]);
        let Message::TokenUpdate(update) = &said[1].message else { panic!("{said:?}") };
        assert_eq!(update.unlock_token.is_some(), !mac);
        if let Some(schema) = schema() {
            for said in &said {
                let dict = plist::decode_dict(&said.encode().unwrap(), Limits::MESSAGE).unwrap();
                let mut findings = schema.check_in(&dict, target);
                // What the schema forgot: every message names its device.
                findings.retain(|finding| finding != "SetBootstrapToken/UDID: unknown key");
                clean(&findings);
            }
        }
        // The identity is one of the CA's, with a key of the device.
        let leaf = X509::from_der(&device.enrollment.identity.certificate).unwrap();
        assert!(leaf.public_key().unwrap().public_eq(&device.enrollment.identity.key));
        device.leave().await.unwrap();
        assert!(matches!(world.state().said.last().unwrap().message, Message::CheckOut(_)));
        assert!(matches!(device.connect().await, Err(Error::Unenrolled)));
        world.state().said.clear();
    }
    // Each message carries a signature of the identity over the very bytes.
    let request = world.state().requests[0].clone();
    let header = request.header("mdm-signature").unwrap();
    let der = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, header).unwrap();
    let message = SignedData::parse(&der).unwrap();
    let detached = SignedData { content: Some(&request.body), ..message.clone() };
    detached.verify(&message.signers[0]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_profile_is_taken_and_a_broken_signature_is_not() {
    let world = World::new().await;
    let key = tokio::task::spawn_blocking(new_key).await.unwrap().unwrap();
    let certificate = self_signed(&key);
    let signer = cms::Signer { certificate: &certificate, key: &key, digest: Digest::Sha256 };
    let mut roots = world.roots.clone();
    roots.push(X509::from_der(&certificate).unwrap());
    let profile = world.enrollment().await.encode();
    let mut signed = cms::sign(Some(&profile), &[], &signer).unwrap();
    let opened = muster::sim::apple::profiles::open(&signed, &roots).unwrap();
    assert!(opened.verified && opened.signer.as_ref() == Some(&certificate));
    assert!(!muster::sim::apple::profiles::open(&signed, &[]).unwrap().verified);
    Device::enroll(&world.roots, &signed, Machine::mac(2), &key).await.unwrap();
    let at = signed.windows(7).position(|w| w == b"AccessR").unwrap();
    signed[at] ^= 1;
    let refused = Device::enroll(&world.roots, &signed, Machine::mac(2), &key).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(_)), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_what_the_schema_says() {
    let world = World::new().await;
    for (machine, target) in [(Machine::mac(3), MAC), (Machine::iphone(3), IPHONE)] {
        let mac = machine.system == System::Mac;
        let mut device = world.device(machine).await;
        world.install("profile", &profile("org.example.passcode", vec![passcode("minLength", 8)]));
        let queries = ["UDID", "DeviceName", "OSVersion", "BuildVersion", "ModelName", "SerialNumber", "ProductName", "IsSupervised"];
        let more = ["DeviceCapacity", "AvailableDeviceCapacity", "BatteryLevel", "WiFiMAC", "SystemIntegrityProtectionEnabled", "Unheard"];
        let queries: Vec<Value> = queries.into_iter().chain(more).map(Value::from).collect();
        world.order("information", "DeviceInformation", Dict::new().with("Queries", queries));
        let questions = ["SecurityInfo", "ProfileList", "CertificateList", "InstalledApplicationList"];
        for question in questions {
            world.order(question, question, Dict::new());
        }
        world.order("lock", "DeviceLock", Dict::new());
        let report = device.settle().await.unwrap();
        assert_eq!((report.commands, report.failed, report.deferred), (7, 0, 0), "{:?}", device.refusals);
        let information = world.result("information").body;
        assert_eq!(information.dict("QueryResponses").unwrap().string("UDID"), Some(device.machine.udid.as_str()));
        assert!(information.dict("QueryResponses").unwrap().get("Unheard").is_none());
        assert_eq!(world.result("SecurityInfo").body.dict("SecurityInfo").unwrap().get("FDE_Enabled").is_some(), mac);
        assert_eq!(world.result("ProfileList").body.array("ProfileList").unwrap().len(), 2);
        assert_eq!(world.result("CertificateList").body.array("CertificateList").unwrap().len(), 2);
        if let Some(schema) = schema() {
            clean(&schema.result("DeviceInformation", &information, target));
            for question in questions {
                clean(&schema.result(question, &world.result(question).body, target));
            }
            clean(&schema.result("DeviceLock", &world.result("lock").body, target));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_takes_the_place_of_the_one_with_its_name_and_scep_runs_each_time() {
    let world = World::new().await;
    let mut device = world.device(Machine::mac(4)).await;
    let make = async |rule: i64| profile("org.example.p", vec![passcode("minLength", rule), world.scep().await]);
    let first = make(4).await;
    world.install("1", &first);
    device.connect().await.unwrap();
    let serial = |device: &Device| {
        let identity = device.profiles.get("org.example.p").unwrap().identities.values().next().unwrap().certificate.clone();
        X509::from_der(&identity).unwrap().serial_number().to_bn().unwrap().to_hex_str().unwrap().to_string()
    };
    let before = serial(&device);
    let second = make(6).await;
    world.install("2", &second);
    world.order("3", "RemoveProfile", Dict::new().with("Identifier", "org.example.unheard"));
    let report = device.connect().await.unwrap();
    assert_eq!((report.commands, report.failed), (1, 1), "{:?}", device.refusals);
    assert_eq!(device.profiles.get("org.example.p").unwrap().profile.uuid, second.uuid);
    assert_eq!(device.profiles.len(), 2);
    assert_ne!(serial(&device), before);
    assert_eq!(world.result("3").errors[0].error_code, 12_075);
    world.order("4", "RemoveProfile", Dict::new().with("Identifier", "org.example.p"));
    device.connect().await.unwrap();
    assert!(device.profiles.get("org.example.p").is_none());
    // The used challenge makes a second installation of the same bytes fail, and nothing is half installed.
    world.install("5", &second);
    assert_eq!(device.connect().await.unwrap().failed, 1);
    assert!(device.profiles.get("org.example.p").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_apple_refuses_is_refused() {
    let world = World::new().await;
    let mut device = world.device(Machine::iphone(5)).await;
    let one = |payload: Payload| profile("org.example.bad", vec![payload]);
    let mut twice = one(passcode("minLength", 4));
    let Content::Plain(payloads) = &mut twice.content else { panic!() };
    payloads.push(Payload { identifier: "org.example.other".into(), ..payloads[0].clone() });
    let sso = Dict::new().with("ExtensionIdentifier", "x").with("Type", "Redirect").with("PlatformSSO", Dict::new());
    let wifi = Dict::new().with("SSID_STR", "net").with("PayloadCertificateUUID", "nobody");
    let bad = [
        one(passcode("minlength", 4)),
        one(passcode("minLength", "4")),
        one(passcode("minLength", 17)),
        one(passcode("changeAtNextAuth", true)),
        one(payload("com.example.unheard", "x", Dict::new())),
        one(payload("com.apple.MCX.FileVault2", "x", Dict::new().with("Enable", "On"))),
        one(payload("com.apple.extensiblesso", "x", sso)),
        one(payload("com.apple.wifi.managed", "x", wifi)),
        one(payload("com.apple.security.root", "x", Dict::new().with("PayloadContent", Data(vec![1, 2, 3])))),
        twice,
    ];
    for (at, bad) in bad.iter().enumerate() {
        world.install(&format!("bad {at}"), bad);
    }
    let report = device.connect().await.unwrap();
    assert_eq!((report.failed, report.commands), (10, 0), "{:#?}", device.refusals);
    assert_eq!(device.profiles.len(), 1);
    world.order("unknown", "ShutdownDevice", Dict::new());
    world.order("keyless", "RemoveProfile", Dict::new());
    world.order("unsupervised", "RestartDevice", Dict::new());
    assert_eq!(device.connect().await.unwrap().failed, 3);
    assert_eq!(world.result("unknown").errors[0].error_code, 12_021);
    assert_eq!(world.result("keyless").status, Status::CommandFormatError);
    assert_eq!(world.result("unsupervised").status, Status::Error);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_phone_puts_off_what_needs_it_open() {
    let world = World::new().await;
    let mut device = world.device(Machine::iphone(6)).await;
    device.settings.locked = true;
    world.install("A", &profile("org.example.p", vec![passcode("minLength", 4)]));
    world.order("B", "ProfileList", Dict::new());
    let report = device.connect().await.unwrap();
    assert_eq!((report.deferred, report.commands, report.messages), (1, 1, 3));
    assert_eq!(world.result("A").status, Status::NotNow);
    device.settings.locked = false;
    assert_eq!(device.connect().await.unwrap().commands, 1);
    assert!(device.profiles.get("org.example.p").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_loses_neither_command_nor_result() {
    let world = World::new().await;
    let mut device = world.device(Machine::mac(7)).await;
    let install = || world.install("A", &profile("org.example.p", vec![passcode("minLength", 4)]));
    install();
    device.faults.drop_after = Some(1);
    assert!(matches!(device.connect().await, Err(Error::Dropped)));
    assert!(device.profiles.get("org.example.p").is_none());
    device.faults.drop_after = None;
    device.faults.mute_after = Some(1);
    assert!(matches!(device.connect().await, Err(Error::Dropped)));
    assert!(device.profiles.get("org.example.p").is_some());
    device.faults.mute_after = None;
    device.faults.resend = true;
    let report = device.connect().await.unwrap();
    assert_eq!((report.messages, report.unequal), (1, 0));
    assert_eq!(device.ran["InstallProfile"], 1);
    assert_eq!(world.result("A").status, Status::Acknowledged);
    assert!(world.state().queue.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_enrolment_profile_renews_the_identity_and_may_change_nothing_else() {
    let world = World::new().await;
    let mut device = world.device(Machine::mac(8)).await;
    let before = device.enrollment.identity.certificate.clone();
    let mut moved = world.enrollment().await;
    let Content::Plain(payloads) = &mut moved.content else { panic!() };
    payloads[2].body.insert("ServerURL", "https://elsewhere.example.org/mdm");
    world.install("moved", &moved);
    let mut second = world.enrollment().await;
    second.identifier = "org.example.second".into();
    world.install("second", &second);
    world.install("ended", &profile(ENROLLMENT, vec![passcode("minLength", 4)]));
    assert_eq!(device.settle().await.unwrap().failed, 3);
    assert_eq!(device.enrollment.identity.certificate, before);
    let said = world.state().said.len();
    world.install("renewed", &world.enrollment().await);
    device.settle().await.unwrap();
    assert_eq!(world.result("renewed").status, Status::Acknowledged);
    assert_ne!(device.enrollment.identity.certificate, before);
    let names: Vec<&str> = world.state().said[said..].iter().map(|said| said.message.name()).collect();
    assert_eq!(names, ["Authenticate", "TokenUpdate"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn declarations_are_fetched_put_into_force_and_reported() {
    let world = World::new().await;
    let declare = |kind: Kind, id: &str, token: &str, name: &str, payload: serde_json::Value| {
        let payload = payload.as_object().unwrap().clone();
        (kind, Declaration { kind: name.into(), identifier: id.into(), server_token: token.into(), payload })
    };
    let items = json!({"StatusItems": [{"Name": "passcode.is-present"}, {"Name": "diskmanagement.filevault.enabled"}]});
    // Each system reports one of the two, and says that it does not know the other.
    let told = |mac: bool, report: &StatusReport| {
        report.item(if mac { "diskmanagement.filevault.enabled" } else { "passcode.is-present" }).cloned()
    };
    for (machine, target) in [(Machine::mac(9), MAC), (Machine::iphone(9), IPHONE)] {
        let mac = machine.system == System::Mac;
        let mut device = world.device(machine).await;
        world.state().reports.clear();
        world.state().declarations = vec![
            declare(Kind::Activation, "a", "1", "com.apple.activation.simple", json!({"StandardConfigurations": ["p", "s", "bad"]})),
            declare(Kind::Configuration, "p", "1", "com.apple.configuration.passcode.settings", json!({"MinimumLength": 8})),
            declare(Kind::Configuration, "s", "1", "com.apple.configuration.management.status-subscriptions", items.clone()),
            declare(Kind::Configuration, "bad", "1", "com.apple.configuration.passcode.settings", json!({"Unheard": 8})),
            declare(Kind::Configuration, "lost", "1", "com.apple.configuration.management.test", json!({"Echo": "x"})),
        ];
        let tokens = serde_json::to_vec(&world.state().tokens()).unwrap();
        world.order("sync", "DeclarativeManagement", Dict::new().with("Data", Data(tokens)));
        device.settle().await.unwrap();
        let first = world.state().reports[0].clone();
        assert!(first.full_report && first.capabilities().unwrap().takes("com.apple.configuration.passcode.settings"));
        let configurations = first.declarations(Kind::Configuration).unwrap();
        let of = |id: &str| configurations.iter().find(|status| status.identifier == id).unwrap();
        assert!(of("p").active && of("p").valid == Valid::Valid);
        assert!(!of("bad").active && of("bad").valid == Valid::Invalid);
        assert_eq!(of("bad").reasons[0].code, "Error.UnknownPayloadKeys");
        assert_eq!(of("lost").reasons[0].code, "Info.NotReferencedByActivation");
        assert_eq!(told(mac, &first), Some(json!(!mac)));
        assert_eq!((first.errors.len(), told(!mac, &first)), (1, None));
        // A change is reported by itself; what has gone is said once.
        device.settings.passcode = None;
        device.settings.filevault = true;
        assert!(device.work().await.unwrap() && !device.work().await.unwrap());
        let second = world.state().reports[1].clone();
        assert_eq!(told(mac, &second), Some(json!(mac)));
        assert!(second.declarations(Kind::Configuration).is_none());
        world.state().declarations.retain(|(_, d)| d.identifier != "bad");
        world.order("again", "DeclarativeManagement", Dict::new());
        device.settle().await.unwrap();
        let third = world.state().reports[2].declarations(Kind::Configuration).unwrap();
        assert!(third.iter().any(|status| status.identifier == "bad" && status.removed));
        assert!(device.declarations.status(Kind::Configuration, "bad").is_none());
        if let Some(schema) = schema() {
            for report in &std::mem::take(&mut world.state().statuses) {
                clean(&schema.report(report, target));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filevault_is_switched_on_escrowed_and_rotated() {
    let world = World::new().await;
    let mut device = world.device(Machine::mac(10)).await;
    let key = tokio::task::spawn_blocking(new_key).await.unwrap().unwrap();
    let certificate = self_signed(&key);
    let to = payload("com.apple.security.pkcs1", "to", Dict::new().with("PayloadContent", Data(certificate.clone())));
    let escrow = Dict::new().with("Location", "Example").with("EncryptCertPayloadUUID", to.uuid.as_str());
    let escrow = payload("com.apple.security.FDERecoveryKeyEscrow", "escrow", escrow);
    let filevault = payload("com.apple.MCX.FileVault2", "filevault", Dict::new().with("Enable", "On").with("Defer", true));
    world.install("on", &profile("org.example.filevault", vec![to, escrow, filevault]));
    device.settle().await.unwrap();
    world.order("info", "SecurityInfo", Dict::new());
    device.settle().await.unwrap();
    let open = |sealed: &[u8]| {
        let envelope = cms::EnvelopedData::parse(sealed).unwrap();
        let plain = envelope.open(&envelope.recipients[0], &key, &[0; 32]).unwrap();
        String::from_utf8(plain.to_vec()).unwrap()
    };
    let body = world.result("info").body;
    let info = body.dict("SecurityInfo").unwrap();
    assert_eq!(info.boolean("FDE_Enabled"), Some(true));
    let recovery = open(info.data("FDE_PersonalRecoveryKeyCMS").unwrap());
    assert_eq!(Some(&recovery), device.settings.recovery_key.as_ref());
    let rotate = |password: &str| {
        Dict::new()
            .with("KeyType", "personal")
            .with("FileVaultUnlock", Dict::new().with("Password", password))
            .with("ReplyEncryptionCertificate", Data(certificate.clone()))
    };
    world.order("wrong", "RotateFileVaultKey", rotate("wrong"));
    world.order("right", "RotateFileVaultKey", rotate(&recovery));
    assert_eq!(device.settle().await.unwrap().failed, 1);
    let body = world.result("right").body;
    let next = open(body.dict("RotateResult").unwrap().data("EncryptedNewRecoveryKey").unwrap());
    assert!(next != recovery && Some(&next) == device.settings.recovery_key.as_ref());
    if let Some(schema) = schema() {
        clean(&schema.result("RotateFileVaultKey", &body, MAC));
        clean(&schema.result("SecurityInfo", &world.result("info").body, MAC));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_end_something_end_it() {
    let world = World::new().await;
    let mut phone = world.device(Machine::iphone(11)).await;
    let unlock = {
        let state = world.state();
        let Message::TokenUpdate(update) = &state.said[1].message else { panic!() };
        update.unlock_token.clone().unwrap()
    };
    phone.settings.locked = true;
    world.order("wrong", "ClearPasscode", Dict::new().with("UnlockToken", Data(vec![1])));
    world.order("right", "ClearPasscode", Dict::new().with("UnlockToken", unlock));
    assert_eq!(phone.connect().await.unwrap().failed, 1);
    assert!(phone.settings.passcode.is_none() && !phone.settings.locked);
    world.order("erase", "EraseDevice", Dict::new());
    phone.connect().await.unwrap();
    assert!(phone.left && phone.profiles.is_empty());
    assert_eq!(world.result("erase").status, Status::Acknowledged);

    let mut mac = world.device(Machine::mac(11)).await;
    world.order("restart", "RestartDevice", Dict::new());
    mac.connect().await.unwrap();
    world.order("off", "ShutDownDevice", Dict::new());
    mac.connect().await.unwrap();
    assert!(matches!(mac.connect().await, Err(Error::Off)));
    mac.settings.off = false;
    world.order("leave", "RemoveProfile", Dict::new().with("Identifier", ENROLLMENT));
    mac.connect().await.unwrap();
    assert!(mac.left);

    // A 401 ends management, and so does the code for it; another 403 does not.
    for (answer, ends) in
        [(Http::of(401), true), (Http::of(403), false), (Http::of(403).json(&json!({"code": "com.apple.unrecognized.device"})), true)]
    {
        let mut mac = world.device(Machine::mac(12)).await;
        world.state().forced = Some(answer);
        assert!(mac.connect().await.is_err());
        assert_eq!(mac.left, ends);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_the_secure_enclave_stay() {
    let world = World::new().await;
    let mut device = world.device(Machine::mac(13)).await;
    let first = device.enclave_key("device signing").unwrap().public_key_to_der().unwrap();
    assert_eq!(device.enclave_key("device signing").unwrap().public_key_to_der().unwrap(), first);
    assert_ne!(device.enclave_key("device encryption").unwrap().public_key_to_der().unwrap(), first);
    assert_eq!(device.settings.passcode, Settings::default().passcode);
}
