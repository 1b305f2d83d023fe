use proptest::prelude::*;
use serde_json::json;

use super::checkin::{self, CheckIn, Message};
use super::command::{Answer, Cause, Command, Status};
use super::ddm::{Endpoint, Items, Kind, Manifest, StatusReport, Valid};
use super::enroll::{Discovery, Mdm, Mode, PER_USER, Stop, access};
use super::machine_info::{DeviceAttributes, MachineInfo};
use super::profile::{Content, Payload, Profile, ProfileService};
use super::*;
use crate::wire::plist::{self, Data, Dict, Limits, Value};

fn messages() -> Vec<Message> {
    vec![
        Message::Authenticate(checkin::Authenticate {
            topic: "com.apple.mgmt.External.x".into(),
            os_version: Some("15.1".into()),
            serial_number: Some("C02".into()),
            model_name: Some("MacBook Pro".into()),
            ..Default::default()
        }),
        Message::TokenUpdate(checkin::TokenUpdate {
            topic: "t".into(),
            token: Data(vec![1, 2]),
            push_magic: "m".into(),
            unlock_token: Some(Data(vec![3])),
            awaiting_configuration: Some(true),
        }),
        Message::CheckOut(checkin::CheckOut { topic: "t".into() }),
        Message::UserAuthenticate(checkin::UserAuthenticate { digest_response: Some(String::new()) }),
        Message::SetBootstrapToken(checkin::SetBootstrapToken {
            bootstrap_token: Some(Data(vec![4])),
            awaiting_configuration: Some(false),
        }),
        Message::GetBootstrapToken(checkin::GetBootstrapToken::default()),
        Message::GetToken(checkin::GetToken {
            token_service_type: checkin::TOKEN_WATCH.into(),
            token_parameters: Some(checkin::TokenParameters { phone_udid: Some("p".into()), ..Default::default() }),
        }),
        Message::DeclarativeManagement(checkin::DeclarativeManagement { endpoint: "status".into(), data: Some(Data(b"{}".to_vec())) }),
        Message::ReturnToService(checkin::ReturnToService {}),
    ]
}

#[test]
fn every_check_in_message_survives_and_shows_no_secret() {
    for message in messages() {
        let name = message.name();
        let sent = CheckIn { who: Who::device("00008101-0001"), message };
        assert_eq!(CheckIn::decode(&sent.encode().unwrap()).unwrap(), sent, "{name}");
    }
    assert!(format!("{:?}", messages()[1]).contains("Data(1 bytes)"));
}

#[test]
fn a_message_that_lacks_what_it_needs_is_refused() {
    let read = |dict: Dict| CheckIn::decode(&plist::encode(&Value::Dict(dict))).unwrap_err().at;
    let from = |kind: &str| Dict::new().with("MessageType", kind).with("UDID", "u");
    assert_eq!(read(Dict::new().with("UDID", "u")), "MessageType");
    assert_eq!(read(from("Hello")), "MessageType");
    assert_eq!(read(Dict::new().with("MessageType", "CheckOut")), "UDID");
    assert_eq!(read(from("CheckOut").with("UDID", "")), "UDID");
    assert_eq!(read(from("CheckOut").with("UDID", "x".repeat(300))), "UDID");
    assert_eq!(read(from("CheckOut").with("UDID", 7)), "UDID");
    assert_eq!(read(from("TokenUpdate").with("Topic", "t").with("PushMagic", "m").with("Token", "text")), "Token");
    assert!(CheckIn::decode(&plist::encode(&Value::Dict(from("TokenUpdate")))).is_err());
    assert!(CheckIn::decode(b"").is_err());
}

#[test]
fn keys_that_are_not_known_are_passed_over() {
    let dict = Dict::new().with("MessageType", "Authenticate").with("Topic", "t").with("UDID", "u").with("Challenge", Data(vec![1]));
    assert!(CheckIn::decode(&plist::encode(&Value::Dict(dict))).is_ok());
}

#[test]
fn the_channel_follows_from_the_identifiers() {
    let text = |text: &str| Some(text.to_owned());
    let channel = |who: Who| who.channel().unwrap();
    let device = |id: &str, user| Channel { device: DeviceKey::Udid(id.into()), user };
    assert_eq!(channel(Who::device("u")), device("u", None));
    assert_eq!(channel(Who { user_id: text("g"), ..Who::device("u") }), device("u", Some(UserKey::Id("g".into()))));
    let shared = Who { user_id: text("FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"), user_short_name: text("a@b"), ..Who::device("u") };
    assert_eq!(channel(shared.clone()), device("u", Some(UserKey::ShortName("a@b".into()))));
    assert!(Who { user_short_name: None, ..shared }.channel().is_err());
    let byod = Who { enrollment_id: text("e"), ..Who::default() };
    assert!(channel(byod.clone()).device.is_user_enrollment());
    let user = Who { enrollment_user_id: text("eu"), ..byod };
    assert_eq!(channel(user).user, Some(UserKey::EnrollmentUserId("eu".into())));
}

#[test]
fn answers_are_read_by_the_message_that_they_answer() {
    let messages = messages();
    let answers = [
        (5, checkin::Answer::BootstrapToken(Data(vec![9]))),
        (6, checkin::Answer::Token(Data(vec![8]))),
        (3, checkin::Answer::DigestChallenge(String::new())),
        (8, checkin::Answer::ReturnToService(checkin::Return { enabled: true, ..Default::default() })),
    ];
    for (at, answer) in answers {
        let body = answer.encode().unwrap();
        assert_eq!(checkin::Answer::decode(&messages[at], &body).unwrap(), Some(answer));
        assert_eq!(checkin::Answer::decode(&messages[at], b"").unwrap(), None);
        assert!(checkin::Answer::decode(&messages[0], &body).is_err());
    }
}

fn answer(status: Status) -> Answer {
    Answer { who: Who::device("u"), status, command_uuid: Some("c".into()), errors: Vec::new(), body: Dict::new() }
}

#[test]
fn commands_and_results_survive() {
    let command = Command {
        uuid: "0001".into(),
        request_type: "DeviceInformation".into(),
        body: Dict::new().with("Queries", vec![Value::from("OSVersion")]),
    };
    assert_eq!(Command::decode(&command.encode()).unwrap(), command);
    let cause = Cause {
        error_code: 12021,
        error_domain: "MCMDMErrorDomain".into(),
        localized_description: None,
        us_english_description: Some("Unknown".into()),
    };
    assert_eq!(cause.to_string(), "MCMDMErrorDomain 12021: Unknown");
    let result = Answer { errors: vec![cause], body: Dict::new().with("X", 1), ..answer(Status::Error) };
    assert_eq!(Answer::decode(&result.encode().unwrap()).unwrap(), result);
    let idle = Answer { command_uuid: None, ..answer(Status::Idle) };
    assert_eq!(Answer::decode(&idle.encode().unwrap()).unwrap(), idle);
}

#[test]
fn a_chain_of_errors_is_read_as_far_as_it_can_be() {
    let odd = Dict::new().with("ErrorCode", "12").with("ErrorDomain", 7).with("LocalizedDescription", vec![Value::from(1)]);
    let links = vec![Value::Dict(odd), Value::from("no link"), Value::Dict(Dict::new().with("ErrorCode", Value::Real(3.0)))];
    let dict = Dict::new().with("Status", "Error").with("UDID", "u").with("CommandUUID", "c");
    let read = |chain: Value| Answer::decode(&plist::encode(&Value::Dict(dict.clone().with("ErrorChain", chain)))).unwrap().errors;
    let errors = read(Value::Array(links));
    assert_eq!(errors, [Cause { error_code: 12, ..Cause::default() }, Cause { error_code: 3, ..Cause::default() }]);
    assert_eq!(read(Value::from("none")), []);
}

#[test]
fn results_without_status_device_or_command_are_refused() {
    let whole = Dict::new().with("Status", "NotNow").with("UDID", "u").with("CommandUUID", "c");
    let read = |dict: &Dict| Answer::decode(&plist::encode(&Value::Dict(dict.clone())));
    assert_eq!(read(&whole).unwrap(), answer(Status::NotNow));
    for key in ["Status", "UDID", "CommandUUID"] {
        let mut dict = whole.clone();
        dict.remove(key);
        assert!(read(&dict).is_err(), "{key}");
    }
    assert!(read(&whole.clone().with("Status", "Perhaps")).is_err());
    assert!(read(&whole.with("CommandUUID", "")).is_err());
}

#[test]
fn machine_info_is_read_whatever_is_there() {
    let info =
        MachineInfo { serial: Some("C02".into()), product: "Mac14,2".into(), mdm_can_request_psso_config: true, ..MachineInfo::default() };
    assert_eq!(MachineInfo::decode(&info.encode().unwrap()).unwrap(), info);
    let dict = plist::decode_dict(&info.encode().unwrap(), Limits::MESSAGE).unwrap();
    assert_eq!(dict.keys().collect::<Vec<_>>(), ["SERIAL", "PRODUCT", "VERSION", "MDM_CAN_REQUEST_PSSO_CONFIG"]);
    let attributes = DeviceAttributes { challenge: Some("c".into()), user_id: Some("g".into()), ..DeviceAttributes::default() };
    assert_eq!(DeviceAttributes::decode(&attributes.encode().unwrap()).unwrap(), attributes);
}

fn profile() -> Profile {
    let payload = Payload {
        kind: "com.apple.wifi.managed".into(),
        identifier: "org.example.p.wifi".into(),
        uuid: "1".into(),
        body: Dict::new().with("SSID_STR", "net"),
    };
    Profile {
        identifier: "org.example.p".into(),
        uuid: "2".into(),
        body: Dict::new().with("PayloadDisplayName", "Net"),
        content: Content::Plain(vec![payload]),
    }
}

#[test]
fn profiles_survive_plain_and_encrypted() {
    let plain = profile();
    assert_eq!(Profile::decode(&plain.encode()).unwrap(), plain);
    let content = plist::decode(&plain.plain_content().unwrap(), Limits::MESSAGE).unwrap();
    assert_eq!(content.as_array().unwrap().len(), 1);
    let sealed = Profile { content: Content::Encrypted(Data(vec![0x30, 0])), ..plain };
    assert_eq!(Profile::decode(&sealed.encode()).unwrap(), sealed);
    assert!(sealed.payloads().is_empty() && sealed.plain_content().is_none());
}

#[test]
fn what_is_no_profile_is_refused() {
    let whole = plist::decode_dict(&profile().encode(), Limits::MESSAGE).unwrap();
    for key in ["PayloadType", "PayloadIdentifier", "PayloadUUID"] {
        let mut dict = whole.clone();
        dict.remove(key);
        assert!(Profile::decode(&plist::encode(&Value::Dict(dict))).is_err(), "{key}");
    }
    let odd = whole.clone().with("PayloadContent", "text");
    assert!(Profile::decode(&plist::encode(&Value::Dict(odd))).is_err());
    let nameless = whole.with("PayloadContent", vec![Value::Dict(Dict::new().with("PayloadType", "x"))]);
    assert!(Profile::decode(&plist::encode(&Value::Dict(nameless))).is_err());
}

#[test]
fn the_profile_service_survives() {
    let service = ProfileService {
        url: "https://mdm.example.org/ota".into(),
        attributes: ProfileService::ATTRIBUTES.map(str::to_owned).to_vec(),
        challenge: Some("c".into()),
        identifier: "org.example.ota".into(),
        uuid: "3".into(),
        display_name: Some("Enrol".into()),
        organization: None,
    };
    assert_eq!(ProfileService::decode(&service.encode()).unwrap(), service);
    assert!(ProfileService::decode(&profile().encode()).is_err());
    assert!(Profile::decode(&service.encode()).is_err());
}

#[test]
fn an_enrolment_is_never_changed_in_what_devices_refuse() {
    let mdm = Mdm {
        identity: "i".into(),
        topic: "com.apple.mgmt.x".into(),
        server_url: "https://h/mdm".into(),
        access_rights: Some(access::ALL & !access::ERASE),
        server_capabilities: vec![PER_USER.into()],
        ..Mdm::default()
    };
    let written = plist::to_value(&mdm).unwrap();
    assert_eq!(plist::from_value::<Mdm>(&written).unwrap(), mdm);
    assert_eq!(mdm.refuses(&Mdm { identity: "j".into(), access_rights: Some(1), ..mdm.clone() }), None);
    assert_eq!(mdm.refuses(&Mdm { topic: "y".into(), ..mdm.clone() }), Some("Topic"));
    assert_eq!(mdm.refuses(&Mdm { server_url: "https://h/".into(), ..mdm.clone() }), Some("ServerURL"));
    assert_eq!(mdm.refuses(&Mdm { check_in_url: Some("https://h/".into()), ..mdm.clone() }), Some("CheckInURL"));
    assert_eq!(mdm.refuses(&Mdm { enrollment_mode: Some(Mode::User), ..mdm.clone() }), Some("EnrollmentMode"));
    assert_eq!(mdm.refuses(&Mdm { server_capabilities: vec![], ..mdm.clone() }), Some("ServerCapabilities"));
    assert_eq!(mdm.refuses(&Mdm { access_rights: Some(access::ALL), ..mdm.clone() }), Some("AccessRights"));
    assert!(access::holds(access::ALL) && access::holds(access::DEVICE_INFORMATION));
    assert!(!access::holds(0) && !access::holds(access::CHANGE_PROFILES) && !access::holds(access::ALL + 1));
}

#[test]
fn what_stops_an_enrolment_carries_its_code_and_details() {
    let stop = Stop::SoftwareUpdateRequired { version: "26.1".into(), build: None };
    let expected =
        json!({"code": "com.apple.softwareupdate.required", "description": "m", "message": "m", "details": {"OSVersion": "26.1"}});
    assert_eq!(stop.body("m"), expected);
    let psso = Stop::PlatformSsoRequired {
        profile_url: "https://h/p".into(),
        manifest_url: "https://h/m".into(),
        pins: vec![Data(vec![1])],
        auth_url: "https://h/a".into(),
    };
    assert_eq!(psso.body("m")["details"]["Package"], json!({"ManifestURL": "https://h/m", "PinningCerts": ["AQ=="]}));
    assert!(Stop::UnrecognizedDevice.body("m").get("details").is_none());
    let discovery = serde_json::to_value(Discovery::one(Mode::User, "https://h/e")).unwrap();
    assert_eq!(discovery, json!({"Servers": [{"Version": "mdm-byod", "BaseURL": "https://h/e"}]}));
}

#[test]
fn endpoints_are_read_strictly() {
    let declaration = Endpoint::Declaration(Kind::Configuration, "com.example.a/b".into());
    for endpoint in [Endpoint::Tokens, Endpoint::Items, Endpoint::Status, declaration] {
        assert_eq!(Endpoint::parse(&endpoint.to_string()), Some(endpoint));
    }
    for text in ["", "token", "declaration", "declaration/configuration", "declaration/configuration/", "declaration/other/x", "x/asset/y"]
    {
        assert_eq!(Endpoint::parse(text), None, "{text}");
    }
    assert_eq!(Endpoint::parse(&format!("declaration/asset/{}", "x".repeat(65))), None);
    assert_eq!(Kind::of_type("com.apple.configuration.passcode.settings"), Some(Kind::Configuration));
    assert_eq!(Kind::of_type("com.apple.unknown.x"), None);
}

#[test]
fn a_manifest_writes_its_empty_lists() {
    let text = serde_json::to_value(Manifest { declarations: Items::default(), declarations_token: "t".into() }).unwrap();
    let expected =
        json!({"Declarations": {"Activations": [], "Assets": [], "Configurations": [], "Management": []}, "DeclarationsToken": "t"});
    assert_eq!(text, expected);
}

#[test]
fn status_reports_are_read_item_by_item() {
    let report = json!({
        "StatusItems": {
            "passcode": {"is-present": true},
            "management": {"declarations": {"configurations": [
                {"identifier": "a", "server-token": "1", "active": true, "valid": "invalid", "reasons": [{"code": "Error.X"}]},
                {"identifier": "b", "_removed": true},
                {"no": "identifier"},
                {"identifier": "c", "valid": "perhaps"},
            ]}},
        },
        "Errors": [{"StatusItem": "x", "Reasons": [{"Code": "Error.Y"}]}],
        "FullReport": true,
    });
    let report = StatusReport::decode(report.to_string().as_bytes()).unwrap();
    assert_eq!(report.item("passcode.is-present"), Some(&json!(true)));
    assert_eq!(report.item("passcode.is-compliant"), None);
    let found = report.declarations(Kind::Configuration).unwrap();
    let short: Vec<_> = found.iter().map(|d| (d.identifier.as_str(), d.active, d.valid, d.removed)).collect();
    assert_eq!(short, [("a", true, Valid::Invalid, false), ("b", false, Valid::Unknown, true), ("c", false, Valid::Unknown, false)]);
    assert_eq!(found[0].reasons[0].code, "Error.X");
    assert_eq!(report.declarations(Kind::Asset), None);
    assert!(report.full_report && report.errors[0].reasons[0].code == "Error.Y");
    assert!(StatusReport::decode(b"[]").is_err() && StatusReport::decode(b"{").is_err());
    assert!(StatusReport::decode(format!("{{\"StatusItems\":{}", "[".repeat(100_000)).as_bytes()).is_err());
}

proptest! {
    #[test]
    fn endpoints_never_panic(text in ".{0,80}") {
        if let Some(endpoint) = Endpoint::parse(&text) {
            prop_assert_eq!(endpoint.to_string(), text);
        }
    }

    #[test]
    fn results_never_panic(entries in proptest::collection::vec(("(Status|UDID|CommandUUID|ErrorChain|UserID|X)", "[a-zA-Z]{0,12}"), 0..8)) {
        let dict: Dict = entries.into_iter().collect();
        let bytes = plist::encode(&Value::Dict(dict));
        let _ = Answer::decode(&bytes);
        let _ = CheckIn::decode(&bytes);
        let _ = Profile::decode(&bytes);
    }
}
