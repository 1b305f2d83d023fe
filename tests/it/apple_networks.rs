//! Networks that a device joins with a certificate of its own: Wi-Fi by EAP-TLS and VPN by IKEv2, on a Mac and on an iPhone.

use muster::clock::MINUTE;
use muster::domain::desired::State;
use muster::service::Error;
use muster::service::profile::{self, Draft};
use muster::sim::apple::Machine;
use muster::wire::plist::Value;
use serde_json::json;

use crate::apple_apps::{BUNDLE, add, later, new};
use crate::apple_enroll::{enrolled, live, on};
use crate::support::apple::{Account, judge};
use crate::support::apple_schema::{Target, schema};
use crate::support::windows::{House, by};

fn draft(platform: &str, reference: &str, anchor: &str) -> Draft {
    let cn = "{{DeviceId}}";
    let document = json!({
        "display_name": format!("networks of {platform}"), "kind": "configuration", "platform": platform,
        "document": { "payloads": [
            { "type": "com.apple.wifi.managed", "name": "wifi", "SSID_STR": "office", "EncryptionType": "WPA2",
              "PayloadCertificateUUID": reference, "EAPClientConfiguration": { "AcceptEAPTypes": [13],
                "PayloadCertificateAnchorUUID": [anchor], "TLSTrustedServerNames": ["radius.example.org"], "TLSMinimumVersion": "1.2" } },
            { "type": "com.apple.vpn.managed", "name": "vpn", "VPNType": "IKEv2", "UserDefinedName": "Office",
              "IKEv2": { "RemoteAddress": "vpn.example.org", "LocalIdentifier": "device", "RemoteIdentifier": "vpn.example.org",
                "AuthenticationMethod": "Certificate", "CertificateType": "RSA", "PayloadCertificateUUID": reference,
                "ExtendedAuthEnabled": 1, "OnDemandEnabled": 1, "OnDemandRules": [{ "Action": "Connect", "InterfaceTypeMatch": "WiFi" }] } },
            { "type": "com.apple.mobiledevice.passwordpolicy", "name": "passcode", "forcePIN": true },
            { "type": "scep", "name": "identity", "template": { "subject": format!("CN={cn}") } },
            { "type": "trusted-certificate", "name": "root", "authority": "root" },
        ] },
    });
    Draft::parse(&document.to_string()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_come_before_the_networks_that_name_them() {
    let house = on(House::new().await).await;
    for (platform, machine, target) in
        [("macos", Machine::mac(1), Target::mac("15.1")), ("ios", Machine::iphone(1), Target::iphone("18.1"))]
    {
        let wanted = house.assign(draft(platform, "identity", "root")).await;
        let mut device = enrolled(&house, machine).await;
        let id = live(&house, &device.machine.udid).await.unwrap().device_id;
        Account::open(&mut device);
        device.settle().await.unwrap();
        let installed =
            device.profiles.iter().find(|one| one.profile.payloads().iter().any(|p| p.kind == "com.apple.wifi.managed")).unwrap();
        let payloads = installed.profile.payloads();
        let place = |kind: &str| payloads.iter().position(|payload| payload.kind == kind).unwrap();
        let (root, scep) = (place("com.apple.security.root"), place("com.apple.security.scep"));
        let (wifi, vpn) = (place("com.apple.wifi.managed"), place("com.apple.vpn.managed"));
        assert!(root.max(scep) < wifi.min(vpn), "{platform}: {root} {scep} {wifi} {vpn}");
        assert_eq!(payloads[wifi].body.string("PayloadCertificateUUID"), Some(payloads[scep].uuid.as_str()));
        let anchors = payloads[wifi].body.dict("EAPClientConfiguration").unwrap().array("PayloadCertificateAnchorUUID").unwrap();
        assert_eq!(anchors, [Value::from(payloads[root].uuid.as_str())]);
        assert_eq!(payloads[vpn].body.dict("IKEv2").unwrap().string("PayloadCertificateUUID"), Some(payloads[scep].uuid.as_str()));
        let item = house.items(&id).await.into_iter().find(|loaded| loaded.item.profile_id == wanted).unwrap().item;
        assert_eq!(item.state, State::Verified, "{platform}: {:?}", device.refusals);
        judge(&mut device, target);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_names_no_certificate_that_is_not_there() {
    let house = House::new().await;
    for (reference, anchor, says) in [
        ("nobody", "root", "wifi: PayloadCertificateUUID: the profile has no certificate called nobody"),
        ("passcode", "root", "wifi: PayloadCertificateUUID: the profile has no certificate called passcode"),
        ("identity", "vpn", "wifi: EAPClientConfiguration/PayloadCertificateAnchorUUID: the profile has no certificate called vpn"),
    ] {
        for platform in ["macos", "ios"] {
            match profile::apply(&house.server.app, draft(platform, reference, anchor), &by()).await {
                Err(Error::Invalid(refusal, detail)) => assert_eq!((refusal.code(), detail.as_str()), ("PRF0005", says)),
                other => panic!("{other:?}"),
            }
        }
    }
}

const OFFICE: &str = "4e1d6e0c-6e4b-4d54-9d2a-111111111111";

fn tunnel(platform: &str, more: &serde_json::Value) -> Draft {
    let mut payloads = vec![json!({ "type": "com.apple.vpn.managed.applayer", "name": "office", "VPNUUID": OFFICE, "VPNType": "IKEv2",
        "UserDefinedName": "Office", "OnDemandMatchAppEnabled": true, "SafariDomains": ["intranet.example.org"],
        "IKEv2": { "RemoteAddress": "vpn.example.org", "LocalIdentifier": "device", "RemoteIdentifier": "vpn.example.org",
            "AuthenticationMethod": "SharedSecret", "SharedSecret": "between us" } })];
    payloads.extend(more.as_array().unwrap().clone());
    let name = format!("tunnel of {platform}");
    let document = json!({ "display_name": name, "kind": "configuration", "platform": platform, "document": { "payloads": payloads } });
    Draft::parse(&document.to_string()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_of_an_iphone_speaks_through_the_network_that_it_names_in_either_way() {
    let house = on(House::new().await).await;
    add(&house, b"PK\x03\x04", 3000, new("1.0")).await.unwrap();
    let app = json!([{ "type": "enterprise-app", "name": "broker", "bundle-id": BUNDLE, "package": "broker", "vpn": OFFICE }]);
    let wanted = house.assign(tunnel("ios", &app)).await;
    for (number, version) in [(1, "17.0"), (2, "18.1")] {
        let mut phone = enrolled(&house, Machine { os_version: version.into(), ..Machine::iphone(number) }).await;
        let id = live(&house, &phone.machine.udid).await.unwrap().device_id;
        Account::open(&mut phone);
        phone.settle().await.unwrap();
        later(&house, &mut phone, 6 * MINUTE).await;
        assert_eq!(phone.vpn_of(BUNDLE), Some("Office"), "{version}");
        assert_eq!(phone.ran.contains_key("InstallApplication"), version == "17.0");
        let item = house.items(&id).await.into_iter().find(|loaded| loaded.item.profile_id == wanted).unwrap().item;
        assert_eq!(item.state, State::Verified, "{version}: {:?}", phone.refusals);
        if let Some(schema) = schema() {
            for held in phone.declarations.held.values() {
                let findings = schema.declaration(&serde_json::to_value(&held.declaration).unwrap(), Target::iphone(version));
                assert!(findings.is_empty(), "{findings:#?}");
            }
        }
        let profiles: Vec<_> = phone.profiles.iter().map(|installed| installed.profile.to_value()).collect();
        let findings: Vec<_> = profiles.iter().flat_map(|profile| schema().map(|s| s.profile(profile, Target::iphone(version)))).collect();
        assert!(findings.iter().all(|found| found.iter().all(|what| !what.contains("vpn"))), "{findings:#?}");
        judge(&mut phone, Target::iphone(version));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_of_a_mac_is_mapped_to_its_network() {
    let house = on(House::new().await).await;
    add(&house, b"xar!", 3000, new("1.0")).await.unwrap();
    let more = json!([
        { "type": "enterprise-app", "name": "broker", "bundle-id": BUNDLE, "package": "broker" },
        { "type": "com.apple.vpn.managed.appmapping", "name": "mapping", "AppLayerVPNMapping": [{ "Identifier": BUNDLE, "VPNUUID": OFFICE,
            "DesignatedRequirement": "anchor apple generic", "SigningIdentifier": BUNDLE }] },
    ]);
    house.assign(tunnel("macos", &more)).await;
    let mut mac = enrolled(&house, Machine::mac(1)).await;
    Account::open(&mut mac);
    mac.settle().await.unwrap();
    assert_eq!((mac.vpn_of(BUNDLE), mac.vpn_of("org.example.other")), (Some("Office"), None));
    judge(&mut mac, Target::mac("15.1"));
}

fn always_on(group: i64) -> Draft {
    let parameters = json!({ "DiffieHellmanGroup": group });
    let document = json!({ "display_name": "always", "kind": "configuration", "platform": "ios", "document": { "payloads": [
        { "type": "com.apple.vpn.managed", "name": "vpn", "VPNType": "AlwaysOn", "UserDefinedName": "Always",
          "AlwaysOn": { "UIToggleEnabled": 0, "TunnelConfigurations": [{ "ProtocolType": "IKEv2", "Interfaces": ["Cellular", "WiFi"] }],
            "ServiceExceptions": [{ "ServiceName": "VoiceMail", "Action": "Allow" }],
            "ApplicationExceptions": [{ "BundleIdentifier": "com.example.a", "LimitToProtocols": ["UDP"] }], "AllowCaptiveWebSheet": 1,
            "AllowedCaptiveNetworkPlugins": [{ "BundleIdentifier": "com.example.b" }] },
          "IKEv2": { "RemoteAddress": "vpn.example.org", "LocalIdentifier": "device", "RemoteIdentifier": "vpn.example.org",
            "AuthenticationMethod": "SharedSecret", "SharedSecret": "s", "IKESecurityAssociationParameters": parameters } },
    ] } });
    Draft::parse(&document.to_string()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vpn_that_is_always_on_goes_to_supervised_devices_alone() {
    let house = on(House::new().await).await;
    match profile::apply(&house.server.app, always_on(5), &by()).await {
        Err(Error::Invalid(refusal, detail)) => {
            assert_eq!(refusal.code(), "PRF0005");
            assert!(detail.contains("DiffieHellmanGroup: should be 14 or more"), "{detail}");
        }
        other => panic!("{other:?}"),
    }
    let wanted = house.assign(always_on(19)).await;
    for supervised in [true, false] {
        let mut phone = enrolled(&house, Machine { supervised, ..Machine::iphone(1 + u64::from(supervised)) }).await;
        let id = live(&house, &phone.machine.udid).await.unwrap().device_id;
        Account::open(&mut phone);
        phone.settle().await.unwrap();
        let item = house.items(&id).await.into_iter().find(|loaded| loaded.item.profile_id == wanted).unwrap().item;
        let record = item.detail.records.values().next().unwrap();
        let expected =
            if supervised { (State::Verified, None) } else { (State::Failed, Some("a VPN that is always on is for supervised devices")) };
        assert_eq!((record.state, record.original_error.as_deref()), expected, "{:?}", phone.refusals);
        assert!(phone.refusals.is_empty(), "it was not even tried: {:?}", phone.refusals);
        judge(&mut phone, Target { supervised, ..Target::iphone("18.1") });
    }
}
