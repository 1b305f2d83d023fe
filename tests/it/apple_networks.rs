//! Networks that a device joins with a certificate of its own: Wi-Fi by EAP-TLS and VPN by IKEv2, on a Mac and on an iPhone.

use muster::domain::desired::State;
use muster::service::Error;
use muster::service::profile::{self, Draft};
use muster::sim::apple::Machine;
use muster::wire::plist::Value;
use serde_json::json;

use crate::apple_enroll::{enrolled, live, on};
use crate::support::apple::{Account, judge};
use crate::support::apple_schema::Target;
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
