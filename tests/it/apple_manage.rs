//! Apple devices under management: profiles, certificates, facts, orders and declarations, with every command held against Apple's schema.

use std::collections::{BTreeMap, BTreeSet};

use muster::clock::{DAY, HOUR, MINUTE};
use muster::domain::Refusal;
use muster::domain::certificate::{CertificateStatus, Purpose};
use muster::domain::command::State as OrderState;
use muster::domain::desired::State;
use muster::domain::device::{Platform, State as DeviceState};
use muster::ids::{DeviceId, EnrollmentId, ProfileId};
use muster::service::apple::{self, declarations};
use muster::service::device::{self, Order};
use muster::service::pki::authority;
use muster::service::profile::{self, Draft};
use muster::service::{Error, compliance};
use muster::sim::apple::answers::encrypt;
use muster::sim::http::Client;
use muster::sim::scep::{Options, Outcome, Server};
use muster::store::apple::channels::{self, Channel, DEVICE};
use muster::store::certificates::{self, Search};
use muster::store::{audit, desired_items, devices, enrollments};
use muster::wire::apple::Who;
use muster::wire::apple::command::{Answer, Cause, Command, Status};
use muster::wire::apple::ddm::{Declaration, Manifest, Tokens};
use muster::wire::apple::profile::Profile;
use muster::wire::pkcs10::{GeneralName, Wish};
use muster::wire::plist::{Data, Dict, Value};
use serde_json::json;

use crate::desired as rows;
use crate::support::apple_schema::{Target, schema};
use crate::support::factory::make;
use crate::support::windows::{House, by};

/// A Mac as far as the command channel sees it.
pub struct Mac {
    pub house: House,
    pub device: DeviceId,
    pub enrollment: EnrollmentId,
    profiles: BTreeMap<String, Profile>,
    certificates: Vec<Vec<u8>>,
    pub security: Dict,
    /// Requests that it puts off.
    not_now: BTreeSet<&'static str>,
    /// The commands of all exchanges, in order.
    log: Vec<Command>,
}

impl Mac {
    pub async fn enrolled() -> Self {
        let house = House::new().await;
        let now = house.server.app.now();
        let mac = rows::device("Mac", Platform::MacOs, None);
        let row = rows::enrollment(&mac, now);
        let (device, enrollment) = (mac.id.clone(), row.id.clone());
        let channel = Channel::new(enrollment.clone(), DEVICE, "com.apple.mgmt.External.x");
        house
            .server
            .app
            .store
            .write(move |tx| {
                devices::insert_device(tx, &mac, now)?;
                enrollments::insert_enrollment(tx, &row)?;
                channels::insert_channel(tx, &channel)?;
                enrollments::update_work_at(tx, &row.id, Some(now))
            })
            .await
            .unwrap();
        let security = Dict::new()
            .with("FDE_Enabled", true)
            .with("SystemIntegrityProtectionEnabled", true)
            .with("FirewallSettings", Dict::new().with("FirewallEnabled", true));
        let (profiles, certificates, not_now, log) = Default::default();
        Self { house, device, enrollment, profiles, certificates, security, not_now, log }
    }

    pub async fn say(&self, status: Status, uuid: Option<String>, body: Dict, errors: Vec<Cause>) -> Option<Command> {
        let answer = Answer { who: Who::device("U"), status, command_uuid: uuid, errors, body };
        let bytes = apple::receive(&self.house.server.app, &self.enrollment, DEVICE, &answer, "test").await.unwrap();
        (!bytes.is_empty()).then(|| Command::decode(&bytes).unwrap())
    }

    /// One exchange: what was asked, by type.
    pub async fn connect(&mut self) -> Vec<String> {
        let mut asked = Vec::new();
        let mut next = self.say(Status::Idle, None, Dict::new(), Vec::new()).await;
        while let Some(command) = next {
            assert!(asked.len() < 50, "{asked:?}");
            if let Some(schema) = schema() {
                let findings = schema.command(&command.to_value(), Target::mac("15.1"));
                assert!(findings.is_empty(), "{findings:#?}");
            }
            asked.push(command.request_type.clone());
            self.log.push(command.clone());
            next = if self.not_now.contains(command.request_type.as_str()) {
                self.say(Status::NotNow, Some(command.uuid), Dict::new(), Vec::new()).await
            } else {
                let uuid = Some(command.uuid.clone());
                match self.obey(command).await {
                    Ok(body) => self.say(Status::Acknowledged, uuid, body, Vec::new()).await,
                    Err(why) => {
                        let cause =
                            Cause { error_code: 1, error_domain: "T".into(), us_english_description: Some(why.into()), ..Cause::default() };
                        self.say(Status::Error, uuid, Dict::new(), vec![cause]).await
                    }
                }
            };
        }
        asked
    }

    async fn obey(&mut self, command: Command) -> Result<Dict, &'static str> {
        let none = Dict::new();
        Ok(match command.request_type.as_str() {
            "DeviceInformation" => none.with(
                "QueryResponses",
                Dict::new()
                    .with("OSVersion", "15.1")
                    .with("DeviceName", "Ana's Mac")
                    .with("ProductName", "Mac14,2")
                    .with("SerialNumber", "C02"),
            ),
            "SecurityInfo" => none.with("SecurityInfo", self.security.clone()),
            "ProfileList" => {
                let entry = |p: &Profile| {
                    Value::Dict(Dict::new().with("PayloadIdentifier", p.identifier.as_str()).with("PayloadUUID", p.uuid.as_str()))
                };
                none.with("ProfileList", self.profiles.values().map(entry).collect::<Vec<_>>())
            }
            "CertificateList" => {
                let entry = |der: &Vec<u8>| {
                    Value::Dict(Dict::new().with("CommonName", "x").with("IsIdentity", true).with("Data", Data(der.clone())))
                };
                none.with("CertificateList", self.certificates.iter().map(entry).collect::<Vec<_>>())
            }
            "InstallProfile" => {
                let document = command.body.data("Payload").unwrap();
                let profile = Profile::decode(document).unwrap();
                if let Some(schema) = schema() {
                    let findings = schema.profile(&profile.to_value(), Target::mac("15.1"));
                    assert!(findings.is_empty(), "{findings:#?}");
                }
                for payload in profile.payloads().iter().filter(|payload| payload.kind == "com.apple.security.scep") {
                    let old = self.profiles.get(&profile.identifier).map(|p| p.payloads().iter().any(|p| p.uuid == payload.uuid));
                    // What it has under the same UUID stays.
                    if old != Some(true) {
                        let certificate = self.scep(payload.body.dict("PayloadContent").unwrap()).await;
                        self.certificates.push(certificate);
                    }
                }
                self.profiles.insert(profile.identifier.clone(), profile);
                none
            }
            "RemoveProfile" => {
                self.profiles.remove(command.body.string("Identifier").unwrap()).ok_or("no such profile").map(|_| ()).or_else(|why| {
                    // The enrolment's own profile is not among those that are counted here.
                    if command.body.string("Identifier").unwrap().ends_with("enrollment") { Ok(()) } else { Err(why) }
                })?;
                none
            }
            "RestartDevice" | "DeviceLock" | "EraseDevice" | "DeclarativeManagement" => none,
            _ => return Err("unknown request"),
        })
    }

    async fn scep(&self, content: &Dict) -> Vec<u8> {
        let mut http = Client::new(&self.house.roots(), None).unwrap();
        let server = Server::discover(&mut http, content.string("URL").unwrap(), Options::default()).await.unwrap();
        let name = content.array("Subject").unwrap()[0].as_array().unwrap()[0].as_array().unwrap()[1].as_str().unwrap();
        let san = content.dict("SubjectAltName").unwrap().string("uniformResourceIdentifier").unwrap();
        let challenge = content.string("Challenge").map(str::to_owned);
        let wish = Wish { san: vec![GeneralName::Uri(san.into())], challenge, ..Wish::common_name(name) };
        match server.enroll(&mut http, &wish, self.house.server.app.now()).await {
            Ok(Outcome::Issued(identity)) => identity.certificate,
            other => panic!("{other:?}"),
        }
    }

    async fn states(&self) -> BTreeMap<ProfileId, State> {
        let device = self.device.clone();
        let items = self.house.server.app.store.read(move |c| desired_items::list_items(c, &device)).await.unwrap();
        items.into_iter().map(|(item, _)| (item.profile_id, item.state)).collect()
    }

    async fn live(&self) -> usize {
        let all = self.house.server.app.store.read(|c| certificates::list_certificates(c, &Search::default(), 1000)).await.unwrap();
        all.iter().filter(|c| c.grant.purpose == Purpose::Authentication && c.status == CertificateStatus::Active).count()
    }

    async fn order(&self, order: Order, yes: bool) -> Result<String, Error> {
        device::command(&self.house.server.app, &self.device, order, yes, &by()).await.map(|order| order.id.to_string())
    }

    async fn order_state(&self, id: &str) -> OrderState {
        let all = device::orders(&self.house.server.app, &self.device, 100).await.unwrap();
        all.into_iter().find(|order| order.id.as_str() == id).unwrap().state
    }
}

fn installs(asked: &[String]) -> usize {
    asked.iter().filter(|request| *request == "InstallProfile").count()
}

fn passcode(shortest: u32) -> Draft {
    Draft::parse(&format!(
        "display_name = \"p\"\nkind = \"configuration\"\nplatform = \"macos\"\n[[document.payloads]]\n\
         type = \"com.apple.mobiledevice.passwordpolicy\"\nname = \"passcode\"\nminLength = {shortest}\n"
    ))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mac_gets_its_profiles_and_certificate_and_is_judged_by_what_it_says() {
    let mut mac = Mac::enrolled().await;
    for baseline in ["macos-trusted-root", "macos-scep-device-certificate", "macos-platform-sso", "macos-compliance", "macos-passcode"] {
        mac.house.assign_baseline(baseline).await;
    }
    let asked = mac.connect().await;
    assert_eq!(installs(&asked), 4, "{asked:?}");
    let states = mac.states().await;
    assert!(states.values().all(|state| matches!(state, State::Verified | State::Assigned)), "{states:?} {asked:?}");
    assert_eq!((mac.certificates.len(), mac.live().await), (1, 1));
    let app = &mac.house.server.app;
    let shown = device::show(app, &mac.device).await.unwrap();
    assert_eq!(shown.overview.compliant, Some(true), "{:#?}", shown.reasons);
    assert_eq!(shown.overview.device.serial_number.as_deref(), Some("C02"));
    // Nothing is due: nothing is asked, and nothing is issued again.
    assert_eq!(mac.connect().await, [""; 0]);

    // The firewall goes: the grace runs, then the Mac is not compliant.
    mac.security.insert("FirewallSettings", Dict::new().with("FirewallEnabled", false));
    mac.house.server.clock.advance(DAY);
    mac.connect().await;
    mac.house.server.clock.advance(DAY + HOUR);
    mac.connect().await;
    compliance::run_due(&mac.house.server.app).await.unwrap();
    let shown = device::show(&mac.house.server.app, &mac.device).await.unwrap();
    assert_eq!(shown.overview.compliant, Some(false));
    assert_eq!((mac.certificates.len(), mac.live().await), (1, 1), "the identity was not issued anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_profile_takes_the_place_of_the_old_and_one_that_is_taken_away_goes() {
    let mut mac = Mac::enrolled().await;
    let id = mac.house.assign(passcode(8)).await;
    mac.connect().await;
    let before = mac.profiles.values().next().unwrap().clone();
    profile::apply(&mac.house.server.app, passcode(12), &by()).await.unwrap();
    let asked = mac.connect().await;
    assert_eq!(asked, ["InstallProfile", "ProfileList"]);
    let after = mac.profiles.values().next().unwrap().clone();
    assert_eq!(mac.profiles.len(), 1);
    assert_eq!(before.payloads()[0].uuid, after.payloads()[0].uuid);
    assert_ne!(before.uuid, after.uuid);
    // Somebody removes it: the next look finds that, and it comes back.
    mac.profiles.clear();
    mac.house.server.clock.advance(2 * DAY);
    mac.connect().await;
    assert_eq!(mac.profiles.len(), 1);
    profile::delete(&mac.house.server.app, &id, &by()).await.unwrap();
    assert!(mac.connect().await.contains(&"RemoveProfile".to_owned()));
    assert!(mac.profiles.is_empty() && mac.states().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_renewed_in_its_profile_and_ends_with_it() {
    let mut mac = Mac::enrolled().await;
    let id = mac.house.assign_baseline("macos-scep-device-certificate").await;
    mac.connect().await;
    mac.house.server.clock.advance(300 * DAY);
    mac.connect().await;
    assert_eq!(mac.certificates.len(), 2);
    assert_eq!(mac.live().await, 1, "the old one is superseded");
    profile::delete(&mac.house.server.app, &id, &by()).await.unwrap();
    mac.connect().await;
    assert_eq!(mac.live().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_device_puts_off_waits_and_the_rest_goes_on() {
    let mut mac = Mac::enrolled().await;
    mac.house.assign(passcode(8)).await;
    mac.not_now.insert("InstallProfile");
    for _ in 0..5 {
        let asked = mac.connect().await;
        assert_eq!(installs(&asked), 1, "{asked:?}");
        mac.house.server.clock.advance(MINUTE);
    }
    let restart = mac.order(Order::Known("reboot".into()), true).await.unwrap();
    mac.not_now.insert("RestartDevice");
    for _ in 0..5 {
        mac.connect().await;
        assert_eq!(mac.order_state(&restart).await, OrderState::Queued);
    }
    mac.not_now.clear();
    mac.connect().await;
    assert_eq!(mac.order_state(&restart).await, OrderState::Done);
    assert_eq!(mac.profiles.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_whose_answer_is_lost_is_not_given_again() {
    let mut mac = Mac::enrolled().await;
    mac.connect().await;
    let lock = |pin: &str| Order::With("lock".into(), [("pin".to_owned(), pin.to_owned())].into());
    assert!(matches!(mac.order(lock("12"), true).await, Err(Error::Invalid(Refusal::ProfileValueRefused, _))));
    assert!(matches!(mac.order(Order::Known("clear-passcode".into()), true).await, Err(Error::Invalid(Refusal::OrderUnknown, _))));
    let id = mac.order(lock("123456"), true).await.unwrap();
    let command = mac.say(Status::Idle, None, Dict::new(), Vec::new()).await.unwrap();
    assert_eq!((command.request_type.as_str(), command.body.string("PIN")), ("DeviceLock", Some("123456")));
    assert_eq!(mac.connect().await, [""; 0]);
    assert_eq!(mac.order_state(&id).await, OrderState::Uncertain);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retired_mac_loses_its_enrolment_and_an_erased_one_too() {
    for erase in [false, true] {
        let mut mac = Mac::enrolled().await;
        mac.connect().await;
        let app = std::sync::Arc::clone(&mac.house.server.app);
        if erase {
            mac.order(Order::Known("wipe".into()), true).await.unwrap();
        } else {
            device::retire(&app, &mac.device, "cli:test", "local").await.unwrap();
        }
        mac.connect().await;
        assert_eq!(mac.log.last().unwrap().request_type, if erase { "EraseDevice" } else { "RemoveProfile" });
        let shown = device::show(&app, &mac.device).await.unwrap();
        assert_eq!(shown.overview.device.state, DeviceState::Retired);
        assert!(shown.notes[0].starts_with(if erase { "it was wiped" } else { "it left, as it was told" }), "{:?}", shown.notes);
        assert_eq!(mac.connect().await, [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn declarations_are_told_served_and_believed_when_reported() {
    let mut mac = Mac::enrolled().await;
    let text = "display_name = \"d\"\nkind = \"configuration\"\nplatform = \"macos\"\n[[document.payloads]]\n\
                type = \"com.apple.configuration.passcode.settings\"\nname = \"passcode\"\nRequirePasscode = true\n";
    let id = mac.house.assign(Draft::parse(text).unwrap()).await;
    assert!(mac.connect().await.contains(&"DeclarativeManagement".to_owned()));
    let app = std::sync::Arc::clone(&mac.house.server.app);
    let enrollment = mac.enrollment.clone();
    let ask = async |endpoint: &str| declarations::receive(&app, &enrollment, DEVICE, endpoint, None, "test").await.unwrap();
    let tokens: Tokens = serde_json::from_slice(&ask("tokens").await.unwrap()).unwrap();
    let manifest: Manifest = serde_json::from_slice(&ask("declaration-items").await.unwrap()).unwrap();
    assert_eq!(tokens.sync_tokens.declarations_token, manifest.declarations_token);
    let item = manifest.declarations.configurations[0].clone();
    let declaration = ask(&format!("declaration/configuration/{}", item.identifier)).await.unwrap();
    let served: Declaration = serde_json::from_slice(&declaration).unwrap();
    assert_eq!(served.server_token, item.server_token);
    if let Some(schema) = schema() {
        let findings = schema.declaration(&serde_json::from_slice(&declaration).unwrap(), Target::mac("15.1"));
        assert!(findings.is_empty(), "{findings:#?}");
    }
    assert!(ask("declaration/asset/nothing").await.is_none());
    assert_eq!(mac.states().await[&id], State::Delivered);

    let report = |valid: &str, token: &str| {
        serde_json::to_vec(&json!({ "StatusItems": {
            "management": {
                "declarations": { "configurations": [
                    { "identifier": item.identifier, "server-token": token, "active": true, "valid": valid }], "activations": [], "assets": [], "management": [] },
                "client-capabilities": { "supported-payloads": {
                    "declarations": { "configurations": [
                        "com.apple.configuration.management.status-subscriptions", "com.apple.configuration.passcode.settings"] },
                    "status-items": ["diskmanagement.filevault.enabled"] } },
            },
            "diskmanagement": { "filevault": { "enabled": true } },
        }, "Errors": [] }))
        .unwrap()
    };
    let tell = async |report: Vec<u8>| declarations::receive(&app, &enrollment, DEVICE, "status", Some(&report), "test").await.unwrap();
    tell(report("valid", "stale")).await;
    assert_eq!(mac.states().await[&id], State::Delivered);
    tell(report("valid", &item.server_token)).await;
    assert_eq!(mac.states().await[&id], State::Verified);
    let shown = device::show(&app, &mac.device).await.unwrap();
    let fact = shown.facts.iter().find(|fact| fact.name == "macos.filevault").unwrap();
    assert_eq!((fact.value.as_deref(), fact.source.as_str()), (Some("true"), "status report"));
    // What it can report is subscribed to, so it is told again.
    assert!(mac.connect().await.contains(&"DeclarativeManagement".to_owned()));

    // A later report holds only what changed: here that the activation does not hold.
    let manifest: Manifest = serde_json::from_slice(&ask("declaration-items").await.unwrap()).unwrap();
    let activation = &manifest.declarations.activations[0];
    let change = |valid: &str| {
        let status = json!({ "identifier": activation.identifier, "server-token": activation.server_token, "active": valid == "valid",
            "valid": valid, "reasons": [{ "code": "Error.UnableToParsePredicate" }] });
        serde_json::to_vec(&json!({ "StatusItems": { "management": { "declarations": { "activations": [status] } } } })).unwrap()
    };
    tell(change("invalid")).await;
    assert_eq!(mac.states().await[&id], State::Failed);
    tell(change("valid")).await;
    assert_eq!(mac.states().await[&id], State::Verified, "what was said of the rest still counts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_that_a_mac_answers_with_an_error_may_have_happened() {
    let mut mac = Mac::enrolled().await;
    mac.connect().await;
    let id = mac.order(Order::Known("wipe".into()), true).await.unwrap();
    let command = mac.say(Status::Idle, None, Dict::new(), Vec::new()).await.unwrap();
    assert_eq!(command.request_type, "EraseDevice");
    mac.say(Status::Error, Some(command.uuid), Dict::new(), vec![Cause { error_code: 1, ..Cause::default() }]).await;
    assert_eq!(mac.order_state(&id).await, OrderState::Uncertain);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_of_payloads_stay_out_of_the_audit_log() {
    const ELSEWHERE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<plist version="1.0"><dict>
<key>PayloadType</key><string>Configuration</string><key>PayloadVersion</key><integer>1</integer>
<key>PayloadIdentifier</key><string>x</string><key>PayloadUUID</key><string>00000000-0000-4000-8000-000000000001</string>
<key>PayloadContent</key><array><dict>
<key>PayloadType</key><string>com.apple.wifi.managed</string><key>PayloadVersion</key><integer>1</integer>
<key>PayloadIdentifier</key><string>x.1</string><key>PayloadUUID</key><string>00000000-0000-4000-8000-000000000002</string>
<key>Password</key><string>third-secret</string></dict></array></dict></plist>"#;
    let house = House::new().await;
    let draft = |password: &str| {
        let document = json!({ "payloads": [
            { "type": "com.apple.wifi.managed", "name": "wifi", "SSID_STR": "office", "EncryptionType": "WPA2", "Password": password,
              "EAPClientConfiguration": { "AcceptEAPTypes": [25], "UserName": "ana", "UserPassword": password } },
            { "type": "com.apple.security.pkcs12", "name": "identity", "PayloadContent": "c2VjcmV0LWtleQ==", "Password": password },
            { "type": "mobileconfig", "name": "elsewhere", "content": ELSEWHERE },
        ] });
        Draft::parse(&json!({ "display_name": "p", "kind": "configuration", "platform": "macos", "document": document }).to_string())
            .unwrap()
    };
    let app = &house.server.app;
    let id = profile::apply(app, draft("first-secret"), &by()).await.unwrap().profile.id;
    profile::apply(app, draft("second-secret"), &by()).await.unwrap();
    profile::delete(app, &id, &by()).await.unwrap();
    let rows = app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    let text: String =
        rows.into_iter().filter(|row| row.action.starts_with("profile.")).flat_map(|row| [row.before, row.after]).flatten().collect();
    assert!(text.contains("office") && text.contains("ana"), "{text}");
    for secret in ["first-secret", "second-secret", "c2VjcmV0LWtleQ", "third-secret"] {
        assert!(!text.contains(secret), "{secret}");
    }
}

/// The baselines for both systems in several versions.
#[test]
fn the_baselines_are_what_apples_schema_knows() {
    use muster::catalogue::{OsVersion, catalogue};
    use muster::domain::apple::content::{self, Target as To};
    use muster::domain::apple::profile::{About, Names};
    use muster::domain::certificate::Variables;
    let Some(schema) = schema() else { return };
    let (names, variables) = (Names::new(muster::ids::TenantId::new(), "org.example"), Variables::samples());
    let service = content::single_sign_on::IdentityService::samples();
    let mut judged = 0;
    for (file, draft) in profile::ready().unwrap() {
        let Some(system) = content::system(draft.platform) else { continue };
        content::check(&draft.document.payloads, draft.platform, false, catalogue()).unwrap();
        let targets = if draft.platform == Platform::MacOs {
            [Target::mac("13.0"), Target::mac("14.0"), Target::mac("15.1")]
        } else {
            [Target::iphone("16.0"), Target::iphone("17.0"), Target::iphone("18.1")]
        };
        for target in targets.into_iter().filter(|_| draft.document.compliance.is_none()) {
            let to = To {
                user_enrollment: false,
                system,
                version: OsVersion::parse(target.version).unwrap(),
                names: &names,
                identifier: "org.example.p",
                generation: &|_| String::new(),
                root: &[1],
                issuing: &[2],
                escrow: Some(&[2]),
                asset_url: "https://mdm.example.org/apple/asset/device",
                scep_url: "https://example.org/scep/issuing",
                authority: "issuing",
                identity_service: &service,
                variables: &variables,
                imported: &[],
                now: muster::clock::Time(0),
            };
            // Applications are commands, which their own tests hold against the schema.
            let (_, payloads): (Vec<_>, Vec<_>) = draft.document.payloads.iter().cloned().partition(muster::domain::apple::app::is_app);
            let built = content::build(&payloads, &to, catalogue()).unwrap();
            let whole = names.assemble("org.example.p", &About { display_name: file.clone(), ..About::default() }, built.parts);
            let findings = schema.profile(&whole.to_value(), target);
            assert!(findings.is_empty(), "{file} {target:?} {findings:#?}");
            judged += 1;
        }
    }
    assert!(judged >= 27, "{judged}");
}

/// A recovery key that is for somebody else, no message at all, or a message without a key in it: reported, and not kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_key_that_does_not_open_is_not_kept() {
    let mut mac = Mac::enrolled().await;
    let app = &mac.house.server.app.clone();
    let escrow = authority::issuing(app).await.unwrap().service_key(Purpose::Escrow, app.now()).unwrap().certificate.clone();
    let foreign = make("Somebody else", None, true).certificate.to_der().unwrap();
    for message in [
        b"garbage".to_vec(),
        Vec::new(),
        encrypt(b"ABCD-EFGH-JKLM", &foreign).unwrap(),
        encrypt(b"\x00\x01\x02 no key", &escrow).unwrap(),
        encrypt(&[b'A'; 500], &escrow).unwrap(),
    ] {
        mac.security = mac.security.clone().with("FDE_PersonalRecoveryKeyCMS", Data(message));
        mac.house.server.clock.advance(9 * HOUR);
        assert!(mac.connect().await.contains(&"SecurityInfo".to_owned()));
    }
    assert_eq!(device::secrets(app, &mac.device).await.unwrap(), []);
    let rows = app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    assert_eq!(rows.iter().filter(|row| row.action == "escrow.refuse").count(), 5);
    // The next good one is.
    mac.security = mac.security.clone().with("FDE_PersonalRecoveryKeyCMS", Data(encrypt(b"ABCD-EFGH-JKLM", &escrow).unwrap()));
    mac.house.server.clock.advance(9 * HOUR);
    mac.connect().await;
    assert_eq!(device::secrets(app, &mac.device).await.unwrap().len(), 1);
}
