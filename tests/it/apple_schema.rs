//! The judge that holds what we emit for Apple devices against Apple's schema is itself held against good and bad documents; then the
//! documents that the wire's types write are.

use muster::catalogue::catalogue;
use muster::wire::apple::checkin::{Answer, Return};
use muster::wire::apple::command::Command;
use muster::wire::apple::ddm::{Item, Manifest, SyncTokens, Tokens};
use muster::wire::apple::enroll::{MDM, Mdm, Mode, PER_USER, Stop, access};
use muster::wire::apple::machine_info::MachineInfo;
use muster::wire::apple::profile::{Content, Payload, Profile};
use muster::wire::plist::{self, Data, Dict, Value};
use serde_json::json;

use crate::support::apple_schema::{Schema, Target, schema};

const MAC: Target = Target::mac("15.1");
const IPHONE: Target = Target::iphone("18.1");

fn payload(kind: &str, body: Dict) -> Payload {
    Payload { kind: kind.into(), identifier: "org.example.p.x".into(), uuid: "4E1D6E0C-6E4B-4D54-9D2A-111111111111".into(), body }
}

fn of(schema: &Schema, kind: &str, body: Dict, target: Target) -> Vec<String> {
    schema.payload(payload(kind, body).to_value().as_dict().unwrap(), target)
}

fn command(request_type: &str, body: Dict) -> Value {
    Command { uuid: "1".into(), request_type: request_type.into(), body }.to_value()
}

fn declaration(kind: &str, payload: &serde_json::Value) -> serde_json::Value {
    json!({"Type": kind, "Identifier": "org.example.d", "ServerToken": "1", "Payload": payload})
}

#[track_caller]
fn clean(findings: &[String]) {
    assert!(findings.is_empty(), "{findings:#?}");
}

#[track_caller]
fn one(findings: &[String], what: &str) {
    assert!(findings.len() == 1 && findings[0].contains(what), "{what}: {findings:#?}");
}

#[test]
fn the_schema_is_read_whole() {
    let Some(schema) = schema() else { return };
    let (payloads, commands, declarations) = schema.sizes();
    assert!(payloads > 90 && commands > 55 && declarations > 50, "{payloads} {commands} {declarations}");
}

fn scep() -> Dict {
    let pair = |a: &str, b: &str| Value::Array(vec![Value::Array(vec![a.into(), b.into()])]);
    let content = Dict::new()
        .with("URL", "https://pki.example.org/scep")
        .with("Subject", vec![pair("O", "Example"), pair("CN", "device")])
        .with("Keysize", 2048)
        .with("Key Type", "RSA")
        .with("Key Usage", 5)
        .with("CAFingerprint", Data(vec![1; 20]));
    Dict::new().with("PayloadContent", content)
}

#[test]
fn good_payloads_pass() {
    let Some(schema) = schema() else { return };
    clean(&of(schema, "com.apple.security.scep", scep(), MAC));
    clean(&of(schema, "com.apple.security.scep", scep(), IPHONE));
    let passcode = Dict::new().with("forcePIN", true).with("minLength", 8);
    clean(&of(schema, "com.apple.mobiledevice.passwordpolicy", passcode, IPHONE));
    let wifi = Dict::new().with("RequireAdminForIBSS", true);
    clean(&of(schema, "com.apple.MCX", wifi, MAC));
    let data = Dict::new().with("Anything", vec![Value::from(1)]);
    let sso = Dict::new()
        .with("ExtensionIdentifier", "com.example.sso")
        .with("TeamIdentifier", "ABCDE12345")
        .with("Type", "Redirect")
        .with("URLs", vec![Value::from("https://idp.example.org/")])
        .with("ExtensionData", data);
    clean(&of(schema, "com.apple.extensiblesso", sso, MAC));
}

#[test]
fn bad_payloads_are_found() {
    let Some(schema) = schema() else { return };
    let passcode = |body: Dict, target| of(schema, "com.apple.mobiledevice.passwordpolicy", body, target);
    one(&passcode(Dict::new().with("minlength", 8), MAC), "unknown key");
    one(&passcode(Dict::new().with("minLength", "8"), MAC), "should be integer");
    one(&passcode(Dict::new().with("minLength", 17), MAC), "not from 0 to 16");
    one(&passcode(Dict::new().with("changeAtNextAuth", true), IPHONE), "does not exist on iOS");
    let content = |key: &str, value: Value| {
        let mut body = scep();
        let content = body.remove("PayloadContent").unwrap().into_dict("").unwrap().with(key, value);
        of(schema, "com.apple.security.scep", body.with("PayloadContent", content), MAC)
    };
    one(&content("Keysize", 3072.into()), "none of 1024, 2048, 4096");
    one(&content("Challenge", Value::Data(Data(vec![1]))), "should be string");
    one(&content("Subject", Value::Array(vec![Value::Array(vec![Value::Array(vec!["CN".into()])])])), "has 1 items");
    one(&of(schema, "com.apple.security.scep", Dict::new(), MAC), "PayloadContent: is missing");
    one(&of(schema, "com.example.unheard", Dict::new(), MAC), "no payload is called");
    let filevault = Dict::new().with("Enable", "On").with("Defer", true);
    clean(&of(schema, "com.apple.MCX.FileVault2", filevault.clone(), MAC));
    one(&of(schema, "com.apple.MCX.FileVault2", filevault.clone().with("Enable", true), MAC), "should be string");
    one(&of(schema, "com.apple.MCX.FileVault2", filevault.with("Enable", "Yes"), MAC), "none of");
    let platform = Dict::new().with("PlatformSSO", Dict::new().with("AuthenticationMethod", "Password"));
    let sso = platform.with("ExtensionIdentifier", "x").with("Type", "Redirect").with("TeamIdentifier", "T");
    clean(&of(schema, "com.apple.extensiblesso", sso.clone(), MAC));
    one(&of(schema, "com.apple.extensiblesso", sso, Target::mac("13.0")), "exists since macOS 14.0");
}

#[test]
fn the_frame_of_a_profile_is_judged_too() {
    let Some(schema) = schema() else { return };
    let profile = Profile {
        identifier: "org.example.p".into(),
        uuid: "4E1D6E0C-6E4B-4D54-9D2A-222222222222".into(),
        body: Dict::new().with("PayloadDisplayName", "Example").with("PayloadScope", "System"),
        content: Content::Plain(vec![payload("com.apple.security.scep", scep())]),
    };
    clean(&schema.profile(&profile.to_value(), MAC));
    let body = profile.body.clone().with("PayloadScope", "Computer").with("Unheard", 1);
    let findings = schema.profile(&Profile { body, ..profile.clone() }.to_value(), MAC);
    assert!(findings.len() == 2 && findings.iter().any(|f| f.starts_with("PayloadScope")), "{findings:#?}");
    let mut versionless = profile.to_value().into_dict("").unwrap();
    versionless.remove("PayloadVersion");
    one(&schema.profile(&Value::Dict(versionless), MAC), "PayloadVersion: is missing");
}

#[test]
fn commands_are_judged() {
    let Some(schema) = schema() else { return };
    let erase = |body: Dict, target| schema.command(&command("EraseDevice", body), target);
    clean(&erase(Dict::new().with("PIN", "123456"), MAC));
    one(&erase(Dict::new().with("Pin", "123456"), MAC), "unknown key");
    clean(&schema.command(&command("InstallProfile", Dict::new().with("Payload", Data(vec![1]))), IPHONE));
    one(&schema.command(&command("InstallProfile", Dict::new()), IPHONE), "Payload: is missing");
    one(&schema.command(&command("ShutdownDevice", Dict::new()), MAC), "no command is called");
    clean(&schema.command(&command("RestartDevice", Dict::new()), MAC));
    one(&schema.command(&command("RestartDevice", Dict::new()), IPHONE), "only for supervised");
    let queries = |name: &str| Dict::new().with("Queries", vec![Value::from("OSVersion"), Value::from(name)]);
    clean(&schema.command(&command("DeviceInformation", queries("SerialNumber")), MAC));
    one(&schema.command(&command("DeviceInformation", queries("Serial")), MAC), "not known");
    let byod = Target { user_enrollment: true, ..IPHONE };
    one(&schema.command(&command("DeviceInformation", queries("SerialNumber")), byod), "user enrolment");
    let settings = |item: Dict| Dict::new().with("Settings", vec![Value::Dict(item)]);
    let name = Dict::new().with("Item", "DeviceName").with("DeviceName", "Mac of A");
    clean(&schema.command(&command("Settings", settings(name.clone())), MAC));
    assert!(!schema.command(&command("Settings", settings(name.with("Item", "Nothing"))), MAC).is_empty());
}

#[test]
fn declarations_and_their_protocol_are_judged() {
    let Some(schema) = schema() else { return };
    let passcode =
        |payload: serde_json::Value| schema.declaration(&declaration("com.apple.configuration.passcode.settings", &payload), MAC);
    clean(&passcode(json!({"MinimumLength": 8, "RequirePasscode": true})));
    one(&passcode(json!({"MinimumLength": 18})), "not from 0 to 16");
    one(&passcode(json!({"MinLength": 8})), "unknown key");
    one(&schema.declaration(&declaration("com.apple.configuration.nothing", &json!({})), MAC), "no declaration");
    let update = declaration("com.apple.configuration.softwareupdate.enforcement.specific", &json!({"TargetOSVersion": "15.2"}));
    one(&schema.declaration(&update, MAC), "TargetLocalDateTime: is missing");
    let mut long = declaration("com.apple.configuration.management.test", &json!({"Echo": "x"}));
    clean(&schema.declaration(&long, IPHONE));
    long["Identifier"] = "x".repeat(65).into();
    one(&schema.declaration(&long, IPHONE), "64 octets");

    let tokens = Tokens { sync_tokens: SyncTokens { declarations_token: "t".into(), timestamp: "2026-01-02T03:04:05Z".into() } };
    clean(&schema.protocol("tokensresponse", &serde_json::to_value(tokens).unwrap(), MAC));
    let mut manifest = Manifest::default();
    manifest.declarations.assets.push(Item { identifier: "a".into(), server_token: "1".into() });
    clean(&schema.protocol("declarationitemsresponse", &serde_json::to_value(manifest).unwrap(), IPHONE));
    one(&schema.protocol("tokensresponse", &json!({}), MAC), "is missing");
}

#[test]
fn what_facts_are_read_from_exists_on_each_platform_that_has_them() {
    let Some(schema) = schema() else { return };
    let mut judged = 0;
    for (platform, target) in
        [("macos", Target::mac("26.0")), ("ios", Target { supervised: true, automated: true, ..Target::iphone("26.0") })]
    {
        for user_enrollment in [false, true] {
            let target = if user_enrollment { Target { user_enrollment, supervised: false, automated: false, ..target } } else { target };
            for row in catalogue().facts() {
                if let Some(item) = row.status_item(platform, user_enrollment) {
                    assert_eq!(schema.status_item(item, target), None, "{} on {target:?}", row.name);
                    judged += 1;
                }
                let Some(asked) = row.asked.as_ref().filter(|asked| asked.request != "DeviceAttestation") else { continue };
                if row.is_asked(platform, user_enrollment) && !(user_enrollment && asked.automated) {
                    let within = if asked.request == "SecurityInfo" { "SecurityInfo" } else { "QueryResponses" };
                    let at = format!("{within}/{}", asked.at);
                    assert_eq!(schema.answers(&asked.request, &at, target), None, "{} on {target:?}", row.name);
                    judged += 1;
                }
            }
        }
    }
    assert!(judged > 80, "{judged}");
    // The judge itself: no Mac tells of a passcode.
    assert!(schema.status_item("passcode.is-present", MAC).is_some() && schema.status_item("passcode.is-present", IPHONE).is_none());
    assert!(schema.answers("SecurityInfo", "SecurityInfo/PasscodePresent", MAC).is_some());
    let subscribe =
        |name: &str| declaration("com.apple.configuration.management.status-subscriptions", &json!({"StatusItems": [{"Name": name}]}));
    one(&schema.declaration(&subscribe("passcode.is-compliant"), MAC), "does not exist on macOS");
    clean(&schema.declaration(&subscribe("passcode.is-compliant"), IPHONE));
    one(&schema.report(&json!({"StatusItems": {"passcode": {"is-present": true}}, "Errors": []}), MAC), "does not exist on macOS");
}

#[test]
fn what_the_check_in_answers_is_in_the_schema() {
    let Some(schema) = schema() else { return };
    let shared = Target { supervised: true, automated: true, ..Target::iphone("26.0") };
    let back = Return { enabled: true, mdm_profile: Some(Data(vec![1])), ..Return::default() };
    let answers = [
        ("GetBootstrapToken", Answer::BootstrapToken(Data(vec![1])), MAC),
        ("GetToken", Answer::Token(Data(vec![1])), MAC),
        ("ReturnToService", Answer::ReturnToService(back), shared),
    ];
    for (message, answer, target) in answers {
        clean(&schema.check_in_answer(message, &answer.to_value().unwrap(), target));
    }
    one(
        &schema.check_in_answer("GetToken", &Value::Dict(Dict::new().with("Token", "x").with("TokenData", Data(vec![]))), MAC),
        "unknown key",
    );
}

#[test]
fn what_stops_an_enrolment_is_in_the_schema() {
    let Some(schema) = schema() else { return };
    let (mac, iphone) = (Target::mac("26.0"), Target::iphone("26.0"));
    let update = Stop::SoftwareUpdateRequired { version: "26.1".into(), build: Some("25B1".into()) };
    clean(&schema.error("softwareupdate.required", &update.body("m"), mac));
    clean(&schema.error("softwareupdate.required", &update.body("m"), iphone));
    let psso = Stop::PlatformSsoRequired {
        profile_url: "https://h/p".into(),
        manifest_url: "https://h/m".into(),
        pins: vec![Data(vec![1])],
        auth_url: "https://h/a".into(),
    };
    clean(&schema.error("psso.required", &psso.body("m"), mac));
    clean(&schema.error("well-known.failed", &Stop::DiscoveryFailed.body("m"), iphone));
    clean(&schema.error("unrecognized.device", &Stop::UnrecognizedDevice.body("m"), mac));
    assert_eq!(schema.error("unrecognized.device", &update.body("m"), mac).len(), 2, "another code, and details");
}

#[test]
fn the_enrolment_payload_is_in_the_schema() {
    let Some(schema) = schema() else { return };
    let mdm = Mdm {
        identity: "4E1D6E0C-6E4B-4D54-9D2A-222222222222".into(),
        topic: "com.apple.mgmt.External.x".into(),
        server_url: "https://mdm.example.org/apple/mdm".into(),
        check_in_url: Some("https://mdm.example.org/apple/checkin".into()),
        sign_message: true,
        access_rights: Some(access::ALL),
        check_out_when_removed: true,
        server_capabilities: vec![PER_USER.into()],
        prompt_user_to_allow_bootstrap_token_for_authentication: Some(true),
        ..Mdm::default()
    };
    let body = |mdm: &Mdm| plist::to_value(mdm).unwrap().into_dict("").unwrap();
    clean(&of(schema, MDM, body(&mdm), MAC));
    let byod = Mdm {
        access_rights: None,
        enrollment_mode: Some(Mode::User),
        account: Some("a@example.org".into()),
        prompt_user_to_allow_bootstrap_token_for_authentication: None,
        ..mdm
    };
    clean(&of(schema, MDM, body(&byod), Target { user_enrollment: true, ..IPHONE }));
}

#[test]
fn machine_info_is_in_the_schema() {
    let Some(schema) = schema() else { return };
    let info = MachineInfo {
        udid: Some("u".into()),
        serial: Some("s".into()),
        product: "Mac14,2".into(),
        version: "25A354".into(),
        os_version: Some("26.0".into()),
        language: Some("en".into()),
        mdm_can_request_software_update: true,
        mdm_can_request_psso_config: true,
        software_update_device_id: Some("J413AP".into()),
        ..MachineInfo::default()
    };
    let dict = plist::to_value(&info).unwrap().into_dict("").unwrap();
    clean(&schema.other_plist("machineinfo", &dict, Target::mac("26.0")));
}
