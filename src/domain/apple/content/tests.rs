use super::*;
use crate::catalogue::catalogue;

fn payloads(json: Value) -> Vec<Payload> {
    serde_json::from_value(json).unwrap()
}

fn refused(json: Value, platform: Platform) -> String {
    let (at, why) = check(&payloads(json), platform, false, catalogue()).unwrap_err();
    format!("{at}: {why}")
}

const OTHER: &str = r#"<?xml version="1.0" encoding="UTF-8"?><plist version="1.0"><dict>
    <key>PayloadType</key><string>Configuration</string><key>PayloadVersion</key><integer>1</integer>
    <key>PayloadIdentifier</key><string>x</string><key>PayloadUUID</key><string>A</string>
    <key>PayloadContent</key><array>
    <dict><key>PayloadType</key><string>com.apple.security.root</string><key>PayloadVersion</key><integer>1</integer>
    <key>PayloadIdentifier</key><string>x.1</string><key>PayloadUUID</key><string>B</string>
    <key>PayloadContent</key><data>MAA=</data></dict>
    <dict><key>PayloadType</key><string>com.example.app</string><key>PayloadVersion</key><integer>1</integer>
    <key>PayloadIdentifier</key><string>x.2</string><key>PayloadUUID</key><string>C</string>
    <key>Anchors</key><array><string>B</string></array></dict>
    </array></dict></plist>"#;

#[test]
fn what_devices_refuse_is_found_in_the_document() {
    let scep = json!({"type": "scep", "name": "id", "template": {"subject": "CN={{DeviceId}}"}});
    check(&payloads(json!([scep])), Platform::Ios, false, catalogue()).unwrap();
    assert!(refused(json!([{"type": "com.apple.nothing", "name": "a"}]), Platform::MacOs).contains("no payload of the type"));
    assert!(refused(json!([{"type": "com.apple.wifi.managed", "name": "a", "SSID": 1}]), Platform::MacOs).contains("no such key"));
    assert!(
        refused(json!([{"type": "com.apple.wifi.managed", "name": "a", "SSID_ST": "x"}]), Platform::MacOs)
            .contains("did you mean SSID_STR?")
    );
    assert!(
        refused(json!([{"type": "com.apple.wifi.manged", "name": "a"}]), Platform::Ios).contains("did you mean com.apple.wifi.managed?")
    );
    assert!(
        refused(json!([{"type": "com.apple.wifi.managed", "name": "a", "EncryptionType": "None"}]), Platform::Ios)
            .contains("SSID_STR: is missing")
    );
    let sso = json!([{"type": "com.apple.extensiblesso", "name": "sso", "ExtensionIdentifier": "x", "Type": "Redirect"}]);
    assert!(refused(sso, Platform::MacOs).contains("TeamIdentifier"));
    let user = json!([{"type": "scep", "name": "id", "template": {"scope": "user", "subject": "CN={{UserName}}"}}]);
    assert!(refused(user, Platform::MacOs).contains("template.scope"));
    assert!(refused(json!([{"type": "mobileconfig", "name": "m", "content": "<plist/>"}]), Platform::Ios).contains("content"));
    let own = |key: &str, rules: Value| {
        json!([{"type": "pkcs12", "name": "id", "key": key, "template": {"scope": "user", "subject": "CN={{UserName}}", "key_rules": rules}},
            {"type": "com.apple.wifi.managed", "name": "net", "SSID_STR": "x", "PayloadCertificateUUID": "id"}])
    };
    check(&payloads(own("p-384", json!({}))), Platform::Ios, false, catalogue()).unwrap();
    assert!(refused(own("p-384", json!({"allowed": ["rsa-2048"]})), Platform::Ios).contains("key_rules"));
    assert!(refused(own("rsa-1024", json!({})), Platform::Ios).contains("rsa-1024"));
    let imported = |purpose: &str| {
        json!([{"type": "imported-pfx", "name": "id", "purpose": purpose},
            {"type": "com.apple.wifi.managed", "name": "net", "SSID_STR": "x", "PayloadCertificateUUID": "id"}])
    };
    check(&payloads(imported("wifi")), Platform::Ios, false, catalogue()).unwrap();
    assert!(refused(imported("everything"), Platform::Ios).contains("everything"));
}

#[test]
fn a_profile_from_elsewhere_keeps_its_references() {
    let payloads = payloads(json!([{"type": "mobileconfig", "name": "m", "content": OTHER}]));
    check(&payloads, Platform::MacOs, false, catalogue()).unwrap();
    let names = Names::new(TenantId::from_store("t".into()), "org.example");
    let variables = Variables::samples();
    let target = Target {
        system: System::Mac,
        version: OsVersion::parse("15.0").unwrap(),
        user_enrollment: false,
        names: &names,
        identifier: "p",
        generation: &|_| String::new(),
        root: &[],
        issuing: &[],
        escrow: Some(&[]),
        asset_url: "https://mdm.example.org/apple/asset/device",
        scep_url: "",
        authority: "",
        identity_service: &IdentityService::samples(),
        variables: &variables,
        imported: &[],
        now: Time(0),
    };
    let built = build(&payloads, &target, catalogue()).unwrap();
    let other = built.parts.iter().find(|part| part.kind == "com.example.app").unwrap();
    let root = built.parts.iter().find(|part| part.kind == ROOT).unwrap();
    let uuid = names.payload_uuid("p", &root.name, "");
    assert_eq!(other.body.array("Anchors").unwrap()[0].as_str(), Some(uuid.as_str()));
}

#[test]
fn keys_of_acme_payloads_have_to_fit_each_other() {
    let own = |extra: Value| {
        let mut payload = json!({"type": "acme", "name": "id", "directory-url": "https://acme.example.org/directory",
            "template": {"subject": "CN={{SerialNumber}}", "sans": [{"type": "uri", "value": "urn:x"}]}});
        payload.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!([payload])
    };
    for good in [json!({}), json!({"key": "p-256"}), json!({"key": "rsa-3072", "hardware-bound": false, "attest": false})] {
        check(&payloads(own(good)), Platform::MacOs, false, catalogue()).unwrap();
    }
    let raw = |extra: Value| {
        let mut payload = json!({"type": "com.apple.security.acme", "name": "id", "DirectoryURL": "https://acme.example.org/directory",
            "ClientIdentifier": "c", "KeyType": "ECSECPrimeRandom", "KeySize": 384, "HardwareBound": true, "Attest": true,
            "Subject": [["CN", "x"]], "UsageFlags": 1, "ExtendedKeyUsage": ["1.3.6.1.5.5.7.3.2"]});
        payload.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!([payload])
    };
    check(&payloads(raw(json!({}))), Platform::Ios, false, catalogue()).unwrap();
    check(&payloads(raw(json!({"KeySize": 521, "HardwareBound": false, "Attest": false}))), Platform::Ios, false, catalogue()).unwrap();
    for (wrong, why) in [
        (own(json!({"key": "rsa-2048"})), "HardwareBound"),
        (own(json!({"hardware-bound": false})), "Attest"),
        (own(json!({"extractable": true})), "KeyIsExtractable"),
        (own(json!({"directory-url": "http://acme.example.org"})), "DirectoryURL"),
        (own(json!({"template": {"scope": "user", "subject": "CN={{UserName}}"}})), "template.scope"),
        (raw(json!({"DirectoryURL": "https:///"})), "DirectoryURL"),
        (raw(json!({"KeyType": "RSA", "KeySize": 2048})), "HardwareBound"),
        (raw(json!({"KeySize": 521})), "HardwareBound"),
        (raw(json!({"HardwareBound": false})), "Attest"),
        (raw(json!({"KeyType": "RSA", "KeySize": 1024, "HardwareBound": false, "Attest": false})), "KeySize"),
        (raw(json!({"KeySize": 192, "HardwareBound": false, "Attest": false})), "KeySize"),
        (raw(json!({"UsageFlags": 2})), "UsageFlags"),
        (raw(json!({"ExtendedKeyUsage": ["client"]})), "ExtendedKeyUsage"),
    ] {
        let said = refused(wrong, Platform::MacOs);
        assert!(said.contains(why), "{said}");
    }
}
