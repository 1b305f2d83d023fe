//! Payloads of Windows profiles: mistakes are refused before anything changes, and what cannot be built all the same fails alone.

use muster::clock::{DAY, Time};
use muster::domain::assignment::{Mode, Target};
use muster::domain::desired::{Record, State};
use muster::domain::device::Platform;
use muster::domain::profile::{Document, Kind, Profile};
use muster::ids::ProfileId;
use muster::service::Error;
use muster::service::profile::{self, Draft};
use muster::store::profiles;
use serde_json::{Value, json};

use crate::cli::{json as run, refused};
use crate::support::server::Server;
use crate::support::tools;
use crate::support::windows::{House, by};

fn draft(document: &Value) -> Draft {
    let draft = json!({ "display_name": "P", "kind": "configuration", "platform": "windows", "document": document });
    Draft::parse(&draft.to_string()).unwrap()
}

/// A document of one payload, called `p`.
fn payload(kind: &str, fields: &Value) -> Value {
    let mut payload = json!({ "type": kind, "name": "p" });
    payload.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({ "payloads": [payload] })
}

fn scep(fields: &Value) -> Value {
    let mut all = json!({ "template": { "subject": "CN={{DeviceId}}" } });
    all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    payload("scep", &all)
}

fn template(fields: &Value) -> Value {
    let mut all = json!({ "subject": "CN={{DeviceId}}" });
    all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    payload("scep", &json!({ "template": all }))
}

fn setting(id: &str, value: &Value) -> Value {
    json!({ "settings": { id: value } })
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_payloads_and_settings_are_refused_with_their_place_and_what_is_allowed() {
    let server = Server::start().await;
    let trusted = |fields: Value| payload("trusted-certificate", &fields);
    let root = String::from_utf8(server.root_pem.clone()).unwrap();
    let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let broken = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    let methods = |os: Value| {
        let mut all = json!({ "EncryptionMethodWithXtsFdvDropDown_Name": 7, "EncryptionMethodWithXtsRdvDropDown_Name": 4 });
        all["EncryptionMethodWithXtsOsDropDown_Name"] = os;
        setting("bitlocker.encryption-method-by-drive-type", &all)
    };
    let good = [
        scep(&json!({})),
        scep(&json!({ "retry-count": 30, "renew-percent": 90, "key-length": 4096 })),
        template(&json!({ "scope": "user", "sans": [{ "type": "upn", "value": "{{UserPrincipalName}}" }] })),
        trusted(json!({ "authority": "root" })),
        trusted(json!({ "certificate": root })),
        methods(json!(7)),
        setting("passport-for-work.pin-complexity.minimum-pin-length", &json!(8)),
    ];
    for document in &good {
        profile::apply(&server.app, draft(document), &by()).await.unwrap_or_else(|why| panic!("{document}: {why}"));
    }
    let last = json!(good[6]);
    let mistakes: Vec<(Value, &str, &[&str])> = vec![
        (payload("word-macro", &json!({})), "PRF0005", &["p: there is no payload of the type word-macro", "scep", "trusted-certificate"]),
        (scep(&json!({ "retry-coutn": 4 })), "PRF0005", &["p: retry-coutn: unknown field", "`retry-count`"]),
        (scep(&json!({ "retry-count": "3" })), "PRF0005", &["p: retry-count: ", "\"3\"", "a whole number"]),
        (scep(&json!({ "retry-count": 31 })), "PRF0005", &["p: retry-count: 0 to 30"]),
        (scep(&json!({ "retry-delay": 0 })), "PRF0005", &["p: retry-delay: 1 to 1440 minutes"]),
        (scep(&json!({ "renew-percent": 0 })), "PRF0005", &["p: renew-percent: 1 to 90"]),
        (scep(&json!({ "needs-approval": "yes" })), "PRF0005", &["p: needs-approval: ", "true or false"]),
        (scep(&json!({ "key-protection": "tpn" })), "PRF0005", &["p: key-protection: ", "`tpm`", "`hello`"]),
        (
            scep(&json!({ "key-protection": "hello", "container-name": "c" })),
            "PRF0005",
            &["p: key-protection: ", "template.scope = \"user\""],
        ),
        (scep(&json!({ "container-name": "c" })), "PRF0005", &["p: container-name: "]),
        (scep(&json!({ "key-length": 3072 })), "PRF0005", &["p: key-length: 2048 or 4096"]),
        (scep(&json!({ "key-length": 1024 })), "PRF0005", &["p: key-length: 2048 or 4096"]),
        (scep(&json!({ "ca-thumbprint": "rot" })), "PRF0005", &["p: ca-thumbprint: ", "`issuing` or `root`"]),
        (template(&json!({ "dayz": 4 })), "PRF0005", &["p: template.dayz: unknown field", "`days`"]),
        (template(&json!({ "days": 4 })), "PRF0005", &["p: template: ", "days: 4, not 5 to 1095"]),
        (template(&json!({ "days": "4" })), "PRF0005", &["p: template.days: ", "a whole number"]),
        (template(&json!({ "scope": "machine" })), "PRF0005", &["p: template.scope: ", "`device`", "`user`"]),
        (template(&json!({ "key_usages": ["digitalSignature"] })), "PRF0005", &["p: template.key_usages[0]: ", "`digital-signature`"]),
        (template(&json!({ "key_usages": [] })), "PRF0005", &["p: template.key_usages: at least one"]),
        (template(&json!({ "key_rules": { "allowed": ["p-256"] } })), "PRF0005", &["p: template.key_rules: "]),
        (template(&json!({ "key_rules": { "min_bits": 1 } })), "PRF0005", &["p: template.key_rules.min_bits: ", "`min_rsa_bits`"]),
        (template(&json!({ "extended_key_usages": ["clientAuth"] })), "PRF0005", &["p: template: CRT0046", "clientAuth"]),
        (template(&json!({ "extended_key_usages": ["2.5.29.37.0"] })), "PRF0005", &["p: template: CRT0014", "2.5.29.37.0"]),
        (
            template(&json!({ "sans": [{ "type": "dns", "value": "a" }, { "type": "dsn", "value": "b" }] })),
            "PRF0005",
            &["p: template.sans[1]: ", "`dns`"],
        ),
        (template(&json!({ "subject": "CN={{Nope}}" })), "PRF0005", &["p: template: CRT0023", "Nope"]),
        (template(&json!({ "subject": "CN={{UserName}}" })), "PRF0005", &["p: template: CRT0022", "UserName"]),
        (template(&json!({ "subject": "" })), "PRF0005", &["p: template: CRT0016"]),
        (payload("scep", &json!({})), "PRF0005", &["p: template: CRT0016"]),
        (trusted(json!({})), "PRF0005", &["p: exactly one of authority and certificate"]),
        (trusted(json!({ "authority": "root", "certificate": root })), "PRF0005", &["p: exactly one of authority and certificate"]),
        (trusted(json!({ "authority": "rot" })), "PRF0005", &["p: authority: ", "`root` or `issuing`"]),
        (trusted(json!({ "authority": "root", "store": "Rot" })), "PRF0005", &["p: store: ", "`Root`", "`CA`"]),
        (trusted(json!({ "certificate": "x" })), "PRF0005", &["p: certificate: one certificate in PEM"]),
        (trusted(json!({ "certificate": key })), "PRF0005", &["p: certificate: one certificate in PEM"]),
        (trusted(json!({ "certificate": broken })), "PRF0005", &["p: certificate: one certificate in PEM"]),
        (trusted(json!({ "certificate": format!("{root}{root}") })), "PRF0005", &["p: certificate: one certificate in PEM"]),
        (
            setting("passport-for-work.pin-complexity.minimum-pin-length", &json!("8")),
            "PRF0010",
            &["minimum-pin-length: ", "\"8\"", "from 4 to 127"],
        ),
        (setting("passport-for-work.use-passport-for-work", &json!("true")), "PRF0010", &["use-passport-for-work: ", "true or false"]),
        (
            methods(json!(5)),
            "PRF0010",
            &["encryption-method-by-drive-type: EncryptionMethodWithXtsOsDropDown_Name: expected one of 3, 4, 6, 7"],
        ),
        (
            setting("bitlocker.encryption-method-by-drive-type", &json!({ "EncryptionMethodWithXtsOsDropDown_Name": 7 })),
            "PRF0010",
            &["encryption-method-by-drive-type: EncryptionMethodWithXtsFdvDropDown_Name is missing"],
        ),
        (
            setting("bitlocker.encryption-method-by-drive-type", &json!({ "EncryptionMethod": 7 })),
            "PRF0010",
            &["encryption-method-by-drive-type: ", "EncryptionMethodWithXtsOsDropDown_Name"],
        ),
        (
            setting("passport-for-work.pin-complexity.minimum-pin-lenght", &json!(8)),
            "PRF0008",
            &["did you mean passport-for-work.pin-complexity.minimum-pin-length?"],
        ),
    ];
    for (document, code, words) in mistakes {
        match profile::apply(&server.app, draft(&document), &by()).await {
            Err(Error::Invalid(refusal, detail)) => {
                assert_eq!(refusal.code(), code, "{document}: {detail}");
                assert!(words.iter().all(|word| detail.contains(word)), "{document}: {detail}");
            }
            other => panic!("{document}: {other:?}"),
        }
    }
    let same = profile::apply(&server.app, draft(&last), &by()).await.unwrap();
    assert!(same.changes.is_empty(), "nothing of the refused documents has been stored");
}

/// A node of one's own with that value.
fn custom(format: &str, value: &str) -> Value {
    json!({ "custom": [{ "uri": "./Device/Vendor/MSFT/Own/Node", "format": format, "value": value }] })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_parser_has_to_take_is_refused_and_what_is_sent_every_parser_takes() {
    let house = House::new().await;
    let app = &house.server.app;
    let wrong = [
        (custom("chr", "a\u{fffe}b"), "PRF0010"),
        (custom("chr", "a\u{ffff}b"), "PRF0010"),
        (custom("xml", "<a>\u{fffe}</a>"), "PRF0010"),
        (custom("xml", "<a>]]></a>"), "PRF0010"),
        (custom("xml", "<1a/>"), "PRF0010"),
        (custom("xml", "<a:b:c xmlns:a=\"u\"/>"), "PRF0010"),
        (custom("xml", "<x:a/>"), "PRF0010"),
        (custom("xml", "no element"), "PRF0010"),
        (custom("xml", "<!DOCTYPE a><a/>"), "PRF0010"),
        (custom("date", "notadate"), "PRF0010"),
        (custom("date", "20261301"), "PRF0010"),
        (custom("time", "24:00:00"), "PRF0010"),
        (setting("passport-for-work.dynamic-lock.plugins", &json!("a\u{fffe}")), "PRF0010"),
        (template(&json!({ "subject": "CN=a\u{fffe}b" })), "PRF0005"),
        (template(&json!({ "scope": "user", "sans": [{ "type": "upn", "value": "a\u{ffff}@b" }] })), "PRF0005"),
    ];
    for (document, code) in wrong {
        match profile::apply(app, draft(&document), &by()).await {
            Err(Error::Invalid(refusal, detail)) => assert_eq!(refusal.code(), code, "{document}: {detail}"),
            other => panic!("{document}: {other:?}"),
        }
    }
    let right =
        ["<a b='1'>]] &gt; &#x20AC;<![CDATA[<]]></a>", "<?xml version=\"1.0\"?>\n<a xmlns=\"u\"><é/></a>", "<p:a xmlns:p='u'/> text"];
    let values = right
        .iter()
        .enumerate()
        .map(|(at, value)| json!({ "uri": format!("./Device/Vendor/MSFT/Own/Xml{at}"), "format": "xml", "value": value }));
    let more = [("date", "2026-11-26"), ("date", "20261126"), ("time", "09:25:00Z"), ("chr", "a & <b> ]]> \u{1F600}")];
    let more = more
        .iter()
        .enumerate()
        .map(|(at, (format, value))| json!({ "uri": format!("./Device/Vendor/MSFT/Own/More{at}"), "format": format, "value": value }));
    house.assign(draft(&json!({ "custom": values.chain(more).collect::<Vec<_>>() }))).await;
    let mut device = house.enroll(1).await;
    device.heard = Some(Vec::new());
    device.settle().await.unwrap();
    let heard = device.heard.take().unwrap();
    let whole = heard.iter().filter(|answer| String::from_utf8_lossy(answer).contains("MSFT/Own/")).count();
    assert!(whole > 0);
    let Some(xmllint) = tools::find("xmllint", "libxml2-utils") else { return };
    let folder = tempfile::tempdir().unwrap();
    for (at, answer) in heard.iter().enumerate() {
        let path = folder.path().join(format!("{at}.xml"));
        std::fs::write(&path, answer).unwrap();
        let judged = std::process::Command::new(&xmllint).arg("--noout").arg(&path).output().unwrap();
        assert!(judged.status.success() && judged.stderr.is_empty(), "{}", String::from_utf8_lossy(&judged.stderr));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_that_cannot_be_built_fails_alone() {
    let house = House::new().await;
    let app = &house.server.app;
    house.assign_baseline("trusted-root").await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    // As an older version of the program, or another hand, may have left it.
    let document = json!({
        "settings": { "passport-for-work.pin-complexity.history": 3 },
        "payloads": [
            { "type": "trusted-certificate", "name": "bad", "certificate": "x" },
            { "type": "scep", "name": "misspelt", "retry-coutn": 4, "template": { "subject": "CN={{DeviceId}}" } },
            { "type": "scep", "name": "nameless", "template": { "subject": "CN={{IMEI}}" } },
            { "type": "no-such", "name": "unknown" },
            { "type": "trusted-certificate", "name": "good", "store": "CA", "authority": "issuing" },
        ],
    });
    let profile = Profile {
        id: ProfileId::new(),
        display_name: "By another hand".into(),
        kind: Kind::Configuration,
        platform: Platform::Windows,
        version: 1,
        document: serde_json::from_value::<Document>(document).unwrap(),
    };
    let (id, sealer) = (profile.id.clone(), app.sealer());
    let stored = app.store.write(move |tx| profiles::insert_profile(tx, &sealer, &profile, Time(1)));
    stored.await.unwrap();
    profile::assign(app, &id, Mode::Include, Target::AllDevices, &by()).await.unwrap();
    house.assign(draft(&setting("passport-for-work.pin-complexity.expiration", &json!(90)))).await;
    device.settle().await.unwrap();
    let device_id = house.device_ids().await.remove(0);
    for loaded in house.items(&device_id).await {
        let broken = loaded.item.profile_id == id;
        assert_eq!(loaded.item.state, if broken { State::Failed } else { State::Verified }, "{}", loaded.name);
        if !broken {
            continue;
        }
        let of = |name: &str| -> &Record { &loaded.item.detail.records[&format!("payload:{id}/{name}")] };
        for (name, why) in [
            ("bad", "certificate: one certificate in PEM"),
            ("misspelt", "retry-coutn: unknown field"),
            ("nameless", "CRT0021"),
            ("unknown", "no provider for no-such"),
        ] {
            assert_eq!(of(name).state, State::Failed, "{name}");
            assert!(of(name).original_error.as_deref().is_some_and(|said| said.contains(why)), "{name}: {:?}", of(name));
        }
        assert_eq!(of("good").state, State::Verified);
        assert_eq!(loaded.item.detail.records["setting:passport-for-work.pin-complexity.history@device"].state, State::Verified);
    }
    // Nothing is due, and taking the profile away leaves nothing behind.
    house.server.clock.advance(2 * DAY);
    device.settle().await.unwrap();
    profile::delete(app, &id, &by()).await.unwrap();
    device.settle().await.unwrap();
    assert!(house.items(&device_id).await.iter().all(|loaded| loaded.item.profile_id != id && loaded.item.state == State::Verified));
}

#[test]
fn a_bad_file_is_named_and_not_the_line_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    run(path, &["init"]);
    std::fs::write(path.join("wifi.toml"), "display_name = \"Wi-Fi\"\nkind = \"configuration\"\nplatfrom = \"windows\"\n").unwrap();
    let said = refused(path, &["profile", "apply", "wifi.toml"]);
    assert!(said.starts_with("error: wifi.toml: the profile does not parse: ") && said.contains("platfrom"), "{said}");
    assert!(!said.contains("conflict") && !said.contains("invalid value"), "{said}");
    let said = refused(path, &["profile", "apply", "bitlokcer"]);
    assert!(said.contains("did you mean bitlocker?"), "{said}");
    let policy = "display_name = \"P\"\nkind = \"compliance\"\nplatform = \"windows\"\n[document.compliance.rules]\nosMinimumVersion = ";
    for (version, allowed) in [("11", false), ("22631", false), ("10.0.22000", true)] {
        std::fs::write(path.join("policy.toml"), format!("{policy}\"{version}\"\n")).unwrap();
        if allowed {
            run(path, &["policy", "apply", "policy.toml"]);
        } else {
            let said = refused(path, &["policy", "apply", "policy.toml"]);
            assert!(said.contains("PRF0010") && said.contains("10.0.22000"), "{said}");
        }
    }
}
