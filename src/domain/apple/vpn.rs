//! What belongs together in the payloads of virtual private networks, beyond their keys: the type and its settings, and the identifiers by
//! which applications name theirs.

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::catalogue::payload::System;
use crate::domain::profile::Payload;

/// A network of the whole device.
const DEVICE: &str = "com.apple.vpn.managed";
/// A network of some applications.
const APPS: &str = "com.apple.vpn.managed.applayer";
/// Which applications of a Mac use which.
const MAPPING: &str = "com.apple.vpn.managed.appmapping";
/// The least Diffie-Hellman group of a network that is always on.
const LEAST_GROUP: i64 = 14;

/// Whether a text can identify a network for applications.
#[must_use]
pub fn is_identifier(text: &str) -> bool {
    Uuid::try_parse(text).is_ok() && text.len() == 36
}

fn text<'b>(body: &'b Map<String, Value>, name: &str) -> Option<&'b str> {
    body.get(name).and_then(Value::as_str)
}

/// Whether a payload is a network without which a device has none at all: only supervised devices take it.
#[must_use]
pub fn is_always_on(payload: &Payload) -> bool {
    payload.kind == DEVICE && text(&payload.body, "VPNType") == Some("AlwaysOn")
}

/// Checks a payload, when it is of a network. Its keys have been checked.
///
/// # Errors
/// What does not belong together, and where.
pub fn check(payload: &Payload, system: System) -> Result<(), String> {
    let identified = |body: &Map<String, Value>| {
        if text(body, "VPNUUID").is_some_and(is_identifier) { Ok(()) } else { Err("VPNUUID: should be a UUID".to_owned()) }
    };
    match payload.kind.as_str() {
        DEVICE => network(&payload.body, system),
        APPS if text(&payload.body, "VPNType") == Some("AlwaysOn") => Err("VPNType: a network for applications is not always on".into()),
        APPS => identified(&payload.body).and_then(|()| network(&payload.body, system)),
        MAPPING => {
            let all = payload.body.get("AppLayerVPNMapping").and_then(Value::as_array).into_iter().flatten();
            all.filter_map(Value::as_object).try_for_each(identified)
        }
        _ => Ok(()),
    }
}

fn network(body: &Map<String, Value>, system: System) -> Result<(), String> {
    let has = |name: &str| body.get(name).is_some_and(Value::is_object);
    let kind = text(body, "VPNType").unwrap_or_default();
    let sub = text(body, "VPNSubType").unwrap_or_default();
    match (kind, system) {
        ("AlwaysOn", System::Mac) => return Err("VPNType: AlwaysOn is for iPhones and iPads".into()),
        ("TransparentProxy", System::Ios) => return Err("VPNType: TransparentProxy is for Macs".into()),
        ("VPN" | "TransparentProxy", _) if sub.is_empty() => {
            return Err("VPNSubType: is missing; it is the bundle identifier of the application that builds the tunnel".into());
        }
        ("IKEv2", _) if !sub.is_empty() => return Err("VPNSubType: is not for IKEv2".into()),
        _ => {}
    }
    let needed: &[&str] = match kind {
        "AlwaysOn" => &["AlwaysOn", "IKEv2"],
        "IKEv2" => &["IKEv2"],
        "IPSec" => &["IPSec"],
        "L2TP" => &["PPP", "IPSec"],
        _ => &[],
    };
    if let Some(missing) = needed.iter().find(|name| !has(name)) {
        return Err(format!("{missing}: is missing for {kind}"));
    }
    if let Some(ike) = body.get("IKEv2").and_then(Value::as_object) {
        let method = text(ike, "AuthenticationMethod").unwrap_or_default();
        let (needs, what) = match method {
            "Certificate" => ("PayloadCertificateUUID", "the name of a payload that brings the certificate, such as one of the type scep"),
            "SharedSecret" => ("SharedSecret", "the secret that both sides know"),
            _ => ("", ""),
        };
        if !needs.is_empty() && text(ike, needs).is_none() {
            return Err(format!("IKEv2/{needs}: is missing for AuthenticationMethod = \"{method}\": {what}"));
        }
    }
    if kind != "AlwaysOn" {
        return if has("AlwaysOn") { Err("AlwaysOn: is for the type AlwaysOn".into()) } else { Ok(()) };
    }
    let whole = Value::Object(body.clone());
    for parameters in ["IKESecurityAssociationParameters", "ChildSecurityAssociationParameters"] {
        let group = whole.pointer(&format!("/IKEv2/{parameters}/DiffieHellmanGroup")).and_then(Value::as_i64);
        if group.is_some_and(|group| group < LEAST_GROUP) {
            return Err(format!("IKEv2/{parameters}/DiffieHellmanGroup: should be {LEAST_GROUP} or more"));
        }
    }
    Ok(())
}

/// An identifier that two networks of a profile have.
#[must_use]
pub fn doubled(payloads: &[Payload]) -> Option<&str> {
    let mut own = payloads.iter().filter(|payload| payload.kind == APPS).filter_map(|payload| text(&payload.body, "VPNUUID"));
    let mut seen = Vec::new();
    own.find(|identifier| {
        let twice = seen.iter().any(|known: &&str| known.eq_ignore_ascii_case(identifier));
        seen.push(*identifier);
        twice
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_does_not_belong_together_is_said_with_the_place() {
        let ike = json!({ "RemoteAddress": "h" });
        let certified = json!({ "RemoteAddress": "h", "AuthenticationMethod": "Certificate" });
        let named = json!({ "RemoteAddress": "h", "AuthenticationMethod": "Certificate", "PayloadCertificateUUID": "scep" });
        let shared = json!({ "RemoteAddress": "h", "AuthenticationMethod": "SharedSecret" });
        let weak = json!({ "IKESecurityAssociationParameters": { "DiffieHellmanGroup": 5 } });
        let on = json!({ "TunnelConfigurations": [{ "ProtocolType": "IKEv2" }] });
        let id = "4e1d6e0c-6e4b-4d54-9d2a-111111111111";
        for (kind, system, body, says) in [
            (DEVICE, System::Ios, json!({ "VPNType": "IKEv2", "IKEv2": ike }), ""),
            (DEVICE, System::Ios, json!({ "VPNType": "IKEv2" }), "IKEv2: is missing"),
            (DEVICE, System::Ios, json!({ "VPNType": "IKEv2", "IKEv2": ike, "VPNSubType": "a" }), "VPNSubType: is not"),
            (DEVICE, System::Ios, json!({ "VPNType": "IKEv2", "IKEv2": ike, "AlwaysOn": on }), "AlwaysOn: is for"),
            (DEVICE, System::Ios, json!({ "VPNType": "IKEv2", "IKEv2": certified }), "IKEv2/PayloadCertificateUUID: is missing for"),
            (DEVICE, System::Ios, json!({ "VPNType": "IKEv2", "IKEv2": named }), ""),
            (DEVICE, System::Ios, json!({ "VPNType": "IKEv2", "IKEv2": shared }), "IKEv2/SharedSecret: is missing for"),
            (DEVICE, System::Mac, json!({ "VPNType": "VPN" }), "VPNSubType: is missing"),
            (DEVICE, System::Mac, json!({ "VPNType": "VPN", "VPNSubType": "a" }), ""),
            (DEVICE, System::Mac, json!({ "VPNType": "L2TP", "PPP": {} }), "IPSec: is missing for L2TP"),
            (DEVICE, System::Ios, json!({ "VPNType": "TransparentProxy", "VPNSubType": "a" }), "is for Macs"),
            (DEVICE, System::Mac, json!({ "VPNType": "AlwaysOn", "AlwaysOn": on, "IKEv2": ike }), "for iPhones"),
            (DEVICE, System::Ios, json!({ "VPNType": "AlwaysOn", "IKEv2": ike }), "AlwaysOn: is missing"),
            (DEVICE, System::Ios, json!({ "VPNType": "AlwaysOn", "AlwaysOn": on }), "IKEv2: is missing"),
            (DEVICE, System::Ios, json!({ "VPNType": "AlwaysOn", "AlwaysOn": on, "IKEv2": weak }), "DiffieHellmanGroup: should be 14"),
            (DEVICE, System::Ios, json!({ "VPNType": "AlwaysOn", "AlwaysOn": on, "IKEv2": ike }), ""),
            (APPS, System::Ios, json!({ "VPNType": "IKEv2", "IKEv2": ike, "VPNUUID": id }), ""),
            (APPS, System::Ios, json!({ "VPNType": "IKEv2", "IKEv2": ike, "VPNUUID": "office" }), "VPNUUID: should be"),
            (APPS, System::Ios, json!({ "VPNType": "AlwaysOn", "VPNUUID": id }), "not always on"),
            (MAPPING, System::Mac, json!({ "AppLayerVPNMapping": [{ "VPNUUID": id }, { "VPNUUID": "x" }] }), "VPNUUID: should be"),
        ] {
            let payload = Payload { kind: kind.into(), name: "vpn".into(), body: body.as_object().unwrap().clone() };
            match check(&payload, system) {
                Ok(()) => assert_eq!(says, "", "{body}"),
                Err(why) => assert!(!says.is_empty() && why.contains(says), "{body}: {why}"),
            }
        }
        let one = |id: &str| Payload { kind: APPS.into(), name: "v".into(), body: json!({ "VPNUUID": id }).as_object().unwrap().clone() };
        assert_eq!(doubled(&[one(id), one("4E1D6E0C-6E4B-4D54-9D2A-222222222222")]), None);
        assert_eq!(doubled(&[one(id), one(&id.to_uppercase())]), Some(id.to_uppercase().as_str()));
    }
}
