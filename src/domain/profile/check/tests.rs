use serde_json::{Value, json};

use super::*;
use crate::catalogue::catalogue;
use crate::domain::profile::{Change, diff};

const VARS: Vars<'static> = Vars { tenant: "0b7c2f0e-6f0b-4b55-9a3e-2d7f0c9f1a11", provider: "Muster" };

fn configuration(value: Value) -> Result<(), String> {
    let document: Document = serde_json::from_value(value).unwrap();
    document.check(Kind::Configuration, Platform::Windows, catalogue(), &VARS).map_err(|p| p.refusal.code().to_owned())
}

fn custom(uri: &str, format: &str, value: &str) -> Value {
    json!({"custom": [{"uri": uri, "format": format, "value": value}]})
}

#[test]
fn settings_are_held_against_the_catalogue() {
    let id = "passport-for-work.pin-complexity.minimum-pin-length";
    let user = format!("{id}@user");
    assert_eq!(configuration(json!({"settings": {id: 6}})), Ok(()));
    assert_eq!(configuration(json!({"settings": {id: 6, user.as_str(): 8}})), Ok(()));
    assert_eq!(configuration(json!({"settings": {id: 3}})), Err("PRF0010".into()));
    assert_eq!(configuration(json!({"settings": {"no.such": 3}})), Err("PRF0008".into()));
    let device = format!("{id}@device");
    assert_eq!(configuration(json!({"settings": {id: 6, device.as_str(): 8}})), Err("PRF0002".into()));
    let longest = "passport-for-work.pin-complexity.maximum-pin-length";
    assert_eq!(configuration(json!({"settings": {id: 6, longest: 6}})), Ok(()));
    assert_eq!(configuration(json!({"settings": {id: 8, longest: 6}})), Err("PRF0010".into()));
    let longest_of_user = format!("{longest}@user");
    assert_eq!(configuration(json!({"settings": {id: 8, longest_of_user.as_str(): 6}})), Ok(()), "two trees");
    let document: Document = serde_json::from_value(json!({"settings": {id: 6}})).unwrap();
    let refused = document.check(Kind::Configuration, Platform::MacOs, catalogue(), &VARS).unwrap_err();
    assert_eq!(refused.refusal.code(), "PRF0006");
    assert!(refused.detail.contains("`muster profile settings --platform macos`"), "{}", refused.detail);
}

#[test]
fn custom_nodes_keep_to_addresses_that_may_be_written() {
    let node = "./Device/Vendor/MSFT/Policy/Config/Camera/AllowCamera";
    assert_eq!(configuration(custom(node, "int", "0")), Ok(()));
    for uri in [
        "./Device/Vendor/../MSFT/Camera",
        "./Device/Vendor/%2e%2e/MSFT/Camera",
        "Device/Vendor/MSFT/Camera",
        "./SyncML/DMAcc/x",
        "./Device",
    ] {
        assert_eq!(configuration(custom(uri, "int", "0")), Err("PRF0001".into()), "{uri}");
    }
    let ours = format!("./Vendor/MSFT/PassportForWork/{}/Policies/PINComplexity/minimumpinlength", VARS.tenant);
    assert_eq!(configuration(custom(&ours, "int", "6")), Err("PRF0001".into()));
    assert_eq!(configuration(custom(node, "int", "x")), Err("PRF0010".into()));
    assert_eq!(configuration(custom(node, "bool", "yes")), Err("PRF0010".into()));
    assert_eq!(configuration(custom(node, "node", "")), Err("PRF0010".into()));
    assert_eq!(configuration(custom(node, "chr", "a\u{0}")), Err("PRF0010".into()));
    let twice = json!({"custom": [
        {"uri": node, "format": "int", "value": "0"},
        {"uri": node.replace("./Device/Vendor", "./Vendor"), "format": "int", "value": "1"}
    ]});
    assert_eq!(configuration(twice), Err("PRF0002".into()));
}

#[test]
fn payloads_have_names_of_their_own() {
    let payload = |kind: &str, name: &str| json!({"payloads": [{"type": kind, "name": name}]});
    assert_eq!(configuration(payload("scep", "device-certificate")), Ok(()));
    assert_eq!(configuration(payload("scep", "a/b")), Err("PRF0005".into()));
    let twice = json!({"payloads": [{"type": "scep", "name": "a"}, {"type": "trusted-certificate", "name": "a"}]});
    assert_eq!(configuration(twice), Err("PRF0002".into()));
}

#[test]
fn rules_and_settings_do_not_mix() {
    assert_eq!(configuration(json!({"compliance": {"rules": {}}})), Err("PRF0003".into()));
    let empty = Document::default().check(Kind::Compliance, Platform::Windows, catalogue(), &VARS).unwrap_err();
    assert_eq!(empty.refusal.code(), "PRF0003");
}

#[test]
fn a_grace_is_at_most_a_year_and_rules_exist() {
    let policy = |value: Value| {
        let document: Document = serde_json::from_value(json!({"compliance": value})).unwrap();
        document.check(Kind::Compliance, Platform::Windows, catalogue(), &VARS).map_err(|p| p.refusal.code().to_owned())
    };
    assert_eq!(policy(json!({"rules": {}, "grace_hours": 8760})), Ok(()));
    assert_eq!(policy(json!({"rules": {}, "grace_hours": 8761})), Err("PRF0010".into()));
    assert_eq!(policy(json!({"rules": {"noSuchRule": true}})), Err("PRF0007".into()));
    let foreign: Document = serde_json::from_value(json!({"compliance": {"rules": {"bitLockerEnabled": true}}})).unwrap();
    let refused = foreign.check(Kind::Compliance, Platform::Ios, catalogue(), &VARS).unwrap_err();
    assert!(refused.detail.contains("it is for windows; `muster policy settings --platform ios`"), "{}", refused.detail);
}

#[test]
fn a_profile_has_a_bounded_number_of_entries() {
    let many: Vec<_> = (0..501).map(|n| json!({"uri": format!("./Device/Vendor/n{n}"), "format": "int", "value": "0"})).collect();
    assert_eq!(configuration(json!({"custom": many})), Err("PRF0009".into()));
}

#[test]
fn a_difference_names_its_place() {
    let document = |pin: u32| -> Document { serde_json::from_value(json!({"settings": {"pin": pin, "same": 1}})).unwrap() };
    assert_eq!(diff(&document(4), &document(4)), []);
    let change = Change { at: "/settings/pin".into(), before: json!(4), after: json!(6) };
    assert_eq!(diff(&document(4), &document(6)), [change]);
}
