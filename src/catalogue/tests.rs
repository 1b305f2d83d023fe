use serde_json::{Value, json};

use super::*;

const VARS: Vars<'static> = Vars { tenant: "9b8f0a61-3a3c-4f0e-8f3c-0d5a5d1f2b77", provider: "Muster" };

fn setting(id: &str) -> &'static Setting {
    catalogue().setting(id).unwrap_or_else(|| panic!("no setting {id}"))
}

#[test]
fn every_row_loads() {
    let catalogue = Catalogue::load().unwrap();
    assert!(catalogue.settings().count() > 20);
}

#[test]
fn an_address_is_filled_in_for_each_scope() {
    let hello = setting("passport-for-work.use-passport-for-work");
    let below = "Vendor/MSFT/PassportForWork/9b8f0a61-3a3c-4f0e-8f3c-0d5a5d1f2b77/Policies/UsePassportForWork";
    assert_eq!(hello.locuri(Scope::Device, &VARS).unwrap(), format!("./Device/{below}"));
    assert_eq!(hello.locuri(Scope::User, &VARS).unwrap(), format!("./User/{below}"));
    assert_eq!(setting("passport-for-work.dynamic-lock.dynamic-lock").locuri(Scope::User, &VARS), None);
}

#[test]
fn the_numbers_of_rows_are_as_expected() {
    let catalogue = catalogue();
    assert!(catalogue.settings().count() > 180, "{}", catalogue.settings().count());
    assert!(catalogue.facts().count() > 60);
    assert!(catalogue.rules().count() >= 27);
    assert!(catalogue.commands().count() > 12);
}

#[test]
fn baselines_name_only_rows_that_exist_with_values_that_are_allowed() {
    let baselines = baselines().unwrap();
    assert!(baselines.iter().any(|b| b.file == "windows-hello-for-business"));
    for baseline in baselines {
        let document = baseline.document.as_object().unwrap();
        for (id, value) in document.get("settings").and_then(Value::as_object).into_iter().flatten() {
            setting(id).encode(value).unwrap_or_else(|problem| panic!("{}: {id}: {problem}", baseline.file));
        }
        let rules = baseline.document.pointer("/compliance/rules").and_then(Value::as_object);
        for (id, value) in rules.into_iter().flatten() {
            catalogue().rule(&baseline.platform, id).unwrap_or_else(|| panic!("no rule {id}")).validate(value).unwrap();
        }
    }
}

#[test]
fn values_are_encoded_or_refused_with_what_is_allowed() {
    let length = setting("passport-for-work.pin-complexity.minimum-pin-length");
    assert_eq!(length.encode(&json!(6)).unwrap(), "6");
    assert_eq!(length.encode(&json!("6")).unwrap(), "6");
    assert!(length.encode(&json!(3)).unwrap_err().contains("from 4 to 127"));
    assert!(length.encode(&json!(true)).is_err());
    assert!(length.encode(&json!(6.5)).is_err());
    let hello = setting("passport-for-work.use-passport-for-work");
    assert_eq!(hello.encode(&json!(true)).unwrap(), "true");
    assert!(hello.encode(&json!(1)).unwrap_err().contains("true or false"));
    let web = setting("authentication.enable-web-sign-in");
    assert!(web.encode(&json!(3)).unwrap_err().contains("0 (decided by the edition), 1 (on), 2 (off)"));
    let urls = setting("authentication.configure-web-sign-in-allowed-urls");
    assert_eq!(urls.encode(&json!(["a.example", "b.example"])).unwrap(), "a.example;b.example");
    assert!(urls.encode(&json!(["a;b"])).is_err());
    assert!(urls.encode(&json!("bell\u{7}")).is_err());
    let group = setting("passport-for-work.device-unlock.group-a");
    assert!(group.encode(&json!("{D6886603-9D2F-4EB2-B667-1971041FA96B}")).is_ok());
    assert!(group.encode(&json!("D6886603")).is_err());
}

#[test]
fn a_report_matches_in_any_spelling() {
    let hello = setting("passport-for-work.use-passport-for-work");
    for spelling in ["true", "True", "1", " TRUE "] {
        assert!(hello.matches(spelling, &json!(true)), "{spelling}");
    }
    assert!(!hello.matches("false", &json!(true)));
    assert!(!hello.matches("", &json!(true)));
    assert!(setting("bitlocker.require-device-encryption").matches("0x1", &json!(1)));
    let urls = setting("authentication.configure-web-sign-in-allowed-urls");
    assert!(urls.matches("a.example; b.example;", &json!(["a.example", "b.example"])));
}

#[test]
fn a_group_policy_value_is_its_state() {
    let methods = setting("bitlocker.encryption-method-by-drive-type");
    let wanted = json!({ "EncryptionMethodWithXtsOsDropDown_Name": 7, "EncryptionMethodWithXtsFdvDropDown_Name": "6", "EncryptionMethodWithXtsRdvDropDown_Name": 4 });
    let text = methods.encode(&wanted).unwrap();
    assert_eq!(
        text,
        r#"<enabled/><data id="EncryptionMethodWithXtsFdvDropDown_Name" value="6"/><data id="EncryptionMethodWithXtsOsDropDown_Name" value="7"/><data id="EncryptionMethodWithXtsRdvDropDown_Name" value="4"/>"#
    );
    let reported = "<Enabled/> <data id='EncryptionMethodWithXtsOsDropDown_Name' value='7' />\n<data id='EncryptionMethodWithXtsFdvDropDown_Name' value='6'></data><data id='EncryptionMethodWithXtsRdvDropDown_Name' value='4'/>";
    assert!(methods.matches(reported, &wanted));
    assert_eq!(methods.encode(&json!(text)).unwrap(), text);
    assert!(methods.encode(&json!({ "Other": 1 })).unwrap_err().contains("EncryptionMethodWithXts"));
    assert_eq!(methods.encode(&json!(false)).unwrap(), "<disabled/>");
    assert!(methods.encode(&json!(true)).unwrap_err().contains("all of"), "devices take all elements or none");
    assert!(methods.encode(&json!({ "EncryptionMethodWithXtsOsDropDown_Name": 7 })).unwrap_err().contains("FdvDropDown_Name is missing"));
    let mut unknown = wanted;
    unknown["EncryptionMethodWithXtsOsDropDown_Name"] = json!(5);
    assert!(methods.encode(&unknown).unwrap_err().contains("OsDropDown_Name: expected one of 3, 4, 6, 7"));
    assert!(methods.encode(&json!("<enabled/><script/>")).is_err());
    assert!(methods.encode(&json!("<disabled/><data id=\"x\" value=\"y\"/>")).is_err());
    let quoted = setting("credential-providers.allow-pin-logon").encode(&json!({ "a": "<\"&" })).unwrap();
    assert_eq!(quoted, r#"<enabled/><data id="a" value="&lt;&quot;&amp;"/>"#);
}

#[test]
fn a_version_has_what_its_branch_got() {
    let cloud_trust = setting("passport-for-work.use-cloud-trust-for-on-prem-auth");
    for (version, has) in [
        ("10.0.26100.4349", true),
        ("10.0.22621.1", true),
        ("10.0.22000.527", true),
        ("10.0.22000.526", false),
        ("10.0.19045.1566", true),
        ("10.0.19045.1000", false),
        ("10.0.19044.1566", true),
        ("10.0.19043.9999", false),
        ("10.0.17763.1", false),
        ("not known", true),
    ] {
        assert_eq!(cloud_trust.supports(version), has, "{version}");
    }
    assert_eq!(OsVersion::parse("10.0.22631").unwrap(), OsVersion::parse("10.0.22631.0").unwrap());
    assert_eq!(OsVersion::parse("10.0.22631.1.2"), None);
    assert_eq!(OsVersion::parse("10.0.x"), None);
}

#[test]
fn the_stricter_value_is_known_where_there_is_one() {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let rank = |id: &str, a: Value, b: Value| setting(id).rank(&a, &b);
    assert_eq!(rank("passport-for-work.pin-complexity.minimum-pin-length", json!(8), json!(6)), Some(Greater));
    assert_eq!(rank("device-lock.device-password-enabled", json!(0), json!(1)), Some(Greater));
    assert_eq!(rank("device-lock.max-inactivity-time-device-lock", json!(0), json!(5)), Some(Less));
    assert_eq!(rank("device-lock.max-inactivity-time-device-lock", json!(5), json!(15)), Some(Greater));
    assert_eq!(rank("passport-for-work.require-security-device", json!(true), json!(true)), Some(Equal));
    assert_eq!(rank("authentication.enable-web-sign-in", json!(1), json!(2)), None);
}

#[test]
fn what_takes_a_setting_back_follows_from_its_node() {
    assert_eq!(setting("passport-for-work.use-passport-for-work").withdraw(), Withdraw::Delete);
    assert_eq!(setting("firewall.public-profile.enable-firewall").withdraw(), Withdraw::Default);
    assert_eq!(setting("dm-client.upn").withdraw(), Withdraw::Keep);
}

#[test]
fn settings_go_in_the_order_that_windows_needs() {
    let order = |id: &str| setting(id).order;
    assert!(order("passport-for-work.pin-complexity.maximum-pin-length") < order("passport-for-work.pin-complexity.minimum-pin-length"));
    assert!(order("device-lock.device-password-enabled") < order("device-lock.min-device-password-length"));
    let last = catalogue().settings().filter(|s| s.area == "PassportForWork").max_by_key(|s| s.order).unwrap();
    assert_eq!(last.id, "passport-for-work.use-passport-for-work");
}

#[test]
fn rules_judge_readings_as_the_reference_says() {
    let judge = |id: &str, wanted: Value, reading: Reading<'static>| catalogue().rule("windows", id).unwrap().judge(&wanted, |_| reading).0;
    let value = Reading::Value;
    assert_eq!(judge("bitLockerEnabled", json!(true), value("0")), Judgement::Holds);
    assert_eq!(judge("bitLockerEnabled", json!(true), value("65536")), Judgement::Fails);
    assert_eq!(judge("bitLockerEnabled", json!(false), value("65536")), Judgement::NotEvaluated);
    assert_eq!(judge("bitLockerEnabled", json!(true), Reading::Unknown), Judgement::Unknown);
    assert_eq!(judge("bitLockerEnabled", json!(true), Reading::Status(404)), Judgement::Fails);
    assert_eq!(judge("bitLockerEnabled", json!(true), Reading::Status(405)), Judgement::NotApplicable);
    assert_eq!(judge("bitLockerEnabled", json!(true), Reading::Status(500)), Judgement::Error);
    assert_eq!(judge("memoryIntegrityEnabled", json!(true), Reading::Status(404)), Judgement::NotApplicable);
    assert_eq!(judge("activeFirewallRequired", json!(true), value("3")), Judgement::Error);
    assert_eq!(judge("activeFirewallRequired", json!(true), value("1")), Judgement::Fails);
    assert_eq!(judge("storageRequireEncryption", json!(true), value("1")), Judgement::Holds);
    assert_eq!(judge("storageRequireEncryption", json!(true), value("False")), Judgement::Fails);
    assert_eq!(judge("tpmRequired", json!(true), value("not available")), Judgement::Fails);
    assert_eq!(judge("tpmRequired", json!(true), value("2.0")), Judgement::Holds);
    assert_eq!(judge("osMinimumVersion", json!("10.0.22631"), value("10.0.22631.4317")), Judgement::Holds);
    assert_eq!(judge("osMinimumVersion", json!("10.0.22631.10"), value("10.0.22631.9")), Judgement::Fails);
    assert_eq!(judge("osMaximumVersion", json!("10.0.22631.9"), value("10.0.22631.10")), Judgement::Fails);
    let ranges = json!([{ "lowestVersion": "10.0.19045", "highestVersion": "10.0.19045.9999" }, { "lowestVersion": "10.0.26100", "highestVersion": "10.0.26100.9999" }]);
    assert_eq!(judge("validOperatingSystemBuildRanges", ranges.clone(), value("10.0.26100.4349")), Judgement::Holds);
    assert_eq!(judge("validOperatingSystemBuildRanges", ranges, value("10.0.22631.1")), Judgement::Fails);
    assert_eq!(judge("passwordExpirationDays", json!(60), value("0")), Judgement::Fails);
    assert_eq!(judge("passwordExpirationDays", json!(60), value("30")), Judgement::Holds);
    assert_eq!(judge("passwordRequiredType", json!("numeric"), value("0")), Judgement::Holds);
    assert_eq!(judge("passwordRequiredType", json!("deviceDefault"), value("2")), Judgement::NotEvaluated);
    assert_eq!(judge("signatureOutOfDate", json!(true), value("true")), Judgement::Fails);
    assert_eq!(judge("osMinimumVersion", json!("10.0.1"), value("unreadable")), Judgement::Error);
}

#[test]
fn a_rule_with_two_facts_takes_the_worse_and_says_which() {
    let rule = catalogue().rule("windows", "antivirusRequired").unwrap();
    let read = |fact: &str| Reading::Value(if fact == "device-status.antivirus-status" { "0" } else { " 0 " });
    let (judgement, check) = rule.judge(&json!(true), read);
    assert_eq!(judgement, Judgement::Fails);
    assert_eq!(check.unwrap().fact, "device-status.antivirus-signature-status");
}

#[test]
fn a_password_rule_knows_its_setting() {
    let (setting, value) = catalogue().rule("windows", "passwordRequired").unwrap().enforced(catalogue(), &json!(true)).unwrap();
    assert_eq!((setting.id.as_str(), value), ("device-lock.device-password-enabled", json!(0)));
    let (_, length) = catalogue().rule("windows", "passwordMinimumLength").unwrap().enforced(catalogue(), &json!(8)).unwrap();
    assert_eq!(length, json!(8));
    assert!(catalogue().rule("windows", "passwordRequired").unwrap().enforced(catalogue(), &json!(false)).is_none());
}

#[test]
fn policies_say_only_what_their_rules_take() {
    let validate = |id: &str, value: Value| catalogue().rule("windows", id).unwrap().validate(&value);
    assert!(validate("bitLockerEnabled", json!("yes")).is_err());
    assert!(validate("passwordMinimumLength", json!(3)).unwrap_err().contains("from 4 to 16"));
    assert!(validate("osMinimumVersion", json!("eleven")).unwrap_err().contains("such as 10.0."));
    let of_phones = catalogue().rule("ios", "osMinimumVersion").unwrap().validate(&json!("eleven"));
    assert_eq!(of_phones.unwrap_err(), "expected a version such as 26.1 or 18.7.2");
    assert!(validate("passwordRequiredType", json!("smiley")).unwrap_err().contains("alphanumeric"));
    assert!(validate("validOperatingSystemBuildRanges", json!([{ "lowestVersion": "10.0.2", "highestVersion": "10.0.1" }])).is_err());
}

#[test]
fn wrong_rows_are_refused_by_name() {
    let refuse = |row: &str| Catalogue::default().add(row).unwrap_err();
    let row = |rest: &str| format!("area = \"X\"\n[[setting]]\nid = \"x.y\"\ntitle = \"T\"\n{rest}");
    assert!(refuse(&row("uri = \"A/{nobody}\"\nformat = \"int\"")).contains("not an address"));
    assert!(refuse(&row("uri = \"A//B\"\nformat = \"int\"")).contains("not an address"));
    assert!(refuse(&row("uri = \"A\"\nformat = \"int\"\ndefault = 9\nallowed.range = [1, 2]")).contains("default 9"));
    assert!(refuse(&row("uri = \"A\"\nformat = \"bool\"\nallowed.range = [1, 2]")).contains("do not fit"));
    assert!(refuse(&row("uri = \"A\"\nformat = \"bool\"\naccess = \"GR\"\nwithdraw = \"delete\"")).contains("cannot be deleted"));
    assert!(refuse(&row("uri = \"A\"\nformat = \"bool\"\ncolour = 1")).contains("colour"));
    assert!(refuse(&format!("{0}\n{0}", row("uri = \"A\"\nformat = \"bool\"").replace("area = \"X\"", ""))).contains("x.y"));
}

proptest::proptest! {
    #[test]
    fn texts_from_devices_never_panic_and_match_only_themselves(text in "[<>/a-z\"'=& 0-9.\u{f000}-]{0,60}") {
        let _ = OsVersion::parse(&text);
        for id in ["bitlocker.encryption-method-by-drive-type", "passport-for-work.pin-complexity.history", "authentication.configure-web-sign-in-allowed-urls"] {
            let row = setting(id);
            let wanted = Value::String(text.clone());
            if let Ok(encoded) = row.encode(&wanted) {
                proptest::prop_assert!(row.matches(&encoded, &wanted));
            }
        }
        for rule in catalogue().rules() {
            let _ = rule.judge(&json!(true), |_| Reading::Value(&text));
        }
    }

    #[test]
    fn group_policy_elements_come_back_as_they_were(id in "[A-Za-z_]{1,12}", value in "[ -~]{0,20}") {
        let row = setting("kerberos.allow-forest-search-order");
        let wanted = json!({ (id): value });
        let text = row.encode(&wanted).unwrap();
        proptest::prop_assert!(row.matches(&text, &wanted));
        proptest::prop_assert_eq!(row.encode(&json!(text)).unwrap(), text);
    }
}
