//! What we send to Windows devices exists there: every row of the catalogue and every node of the simulated device is held against the
//! system maker's own description.

use muster::catalogue::{Access, Family, Format, Scope, Vars, Verb, catalogue};
use muster::sim::windows::tree::schema;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use crate::support::ddf::{Ddf, Node, number, same};

const VARS: Vars<'static> = Vars { tenant: "9b8f0a61-3a3c-4f0e-8f3c-0d5a5d1f2b77", provider: "Muster" };
const VERBS: [(Verb, &str); 5] =
    [(Verb::Add, "Add"), (Verb::Delete, "Delete"), (Verb::Get, "Get"), (Verb::Replace, "Replace"), (Verb::Exec, "Exec")];

/// Defaults that the description gives outside of its own allowed values; our rows have none there.
const NO_DEFAULT: &[&str] = &[
    "device-lock.max-inactivity-time-device-lock-with-external-display",
    "device-lock.minimum-password-length-audit",
    // A word of the maker's own network, not a server address.
    "update.update-service-url",
];
/// Editions of every company: Enterprise, Enterprise N, Pro, Pro N, Education, Education N.
const EDITIONS: &[u32] = &[4, 27, 48, 49, 121, 122];
/// Its description has no mark for it, and says in its text that it must be inside of an Atomic.
const IN_ATOMIC_BY_ITS_TEXT: &str = "device-lock.max-device-password-failed-attempts";
/// Described as bool, with numbers as its values.
const NUMBER_IN_BOOL: &str = "dm-client.force-aad-token";

/// The first edition that we take to have, or to lack, a node other than described; `named`: those that the row speaks of.
fn edition(node: &Node, named: &[u32], ours: impl Fn(&str) -> bool) -> Option<String> {
    let skus = node.skus();
    let has = |sku: &u32| skus.as_ref().is_none_or(|all| all.contains(sku));
    let families = [Family::Home, Family::MultiSession].into_iter().flat_map(Family::skus);
    let wrong = EDITIONS.iter().chain(families).copied().chain(named.iter().copied()).find(|sku| ours(&sku.to_string()) != has(sku))?;
    Some(format!("edition {wrong}, described {skus:?}"))
}

fn verbs(access: Access) -> Vec<&'static str> {
    VERBS.iter().filter(|(verb, _)| access.allows(*verb)).map(|(_, name)| *name).collect()
}

fn since(node: &Node, ours: &[muster::catalogue::OsVersion]) -> bool {
    let parse = |text: &String| muster::catalogue::OsVersion::parse(text).unwrap();
    let mut theirs: Vec<_> = node.released().iter().map(parse).collect();
    let mut ours = ours.to_vec();
    theirs.sort();
    ours.sort();
    theirs == ours
}

#[test]
fn every_setting_is_described_with_its_verbs_format_values_default_and_versions() {
    let Some(ddf) = Ddf::load() else { return };
    let mut wrong = Vec::new();
    for row in catalogue().settings() {
        let mut say = |problem: String| wrong.push(format!("{}: {problem}", row.id));
        for scope in [Scope::Device, Scope::User] {
            let path = row.uri.strip_prefix("./").map_or_else(|| format!("{}/{}", scope.root(), row.uri), |rest| format!("./{rest}"));
            let path = path.replace("{tenant}", VARS.tenant).replace("{provider}", VARS.provider);
            let described = ddf.find(&path).is_some_and(|node| node.format != "node");
            if !row.uri.starts_with("./") && described != row.scopes.contains(&scope) {
                say(format!("described in the scope {scope}: {described}"));
            }
        }
        for uri in row.scopes.iter().map(|scope| row.locuri(*scope, &VARS).unwrap()) {
            let Some(node) = ddf.find(&uri) else {
                say(format!("{uri} is not described"));
                continue;
            };
            let mut theirs: Vec<&str> = node.access.iter().map(String::as_str).collect();
            theirs.sort_unstable();
            if verbs(row.access) != theirs {
                say(format!("allows {:?}, described {theirs:?}", verbs(row.access)));
            }
            if row.id != NUMBER_IN_BOOL && row.format.as_str() != node.format {
                say(format!("format {}, described {}", row.format.as_str(), node.format));
            }
            if !since(node, &row.since) {
                say(format!("since {:?}, described {:?}", row.since, node.released()));
            }
            if row.deprecated != node.deprecated {
                say(format!("deprecated, described: {}", node.deprecated));
            }
            let default = node.default.as_deref().filter(|_| !NO_DEFAULT.contains(&row.id.as_str()));
            if !matches!((row.default.as_deref(), default), (None, None))
                && !row.default.as_deref().zip(default).is_some_and(|(a, b)| same(a, b))
            {
                say(format!("default {:?}, described {default:?}", row.default));
            }
            if row.allowed.list != node.allowed.list {
                say(format!("list {:?}, described {:?}", row.allowed.list, node.allowed.list));
            }
            if row.allowed.admx.is_some() != (node.allowed.kind == "ADMX") {
                say(format!("kind of values is described as {}", node.allowed.kind));
            }
            let limited = row.allowed.range.is_some()
                || !row.allowed.choices.is_empty()
                || row.allowed.pattern.is_some()
                || row.format == Format::Bool;
            if matches!(node.allowed.kind.as_str(), "Range" | "ENUM" | "RegEx" | "Flag") && !limited {
                say(format!("takes anything, described as {} {:?}", node.allowed.kind, node.allowed.values));
            }
            if let Some(range) = row.allowed.range
                && node.allowed.kind == "Range"
                && !node.ranges().iter().any(|(least, most)| *least <= range.0 && range.1 <= *most)
            {
                say(format!("range {range:?}, described {:?}", node.allowed.values));
            }
            for choice in row.allowed.choices.keys() {
                let inside = number(choice).is_some_and(|n| node.ranges().iter().any(|(least, most)| (*least..=*most).contains(&n)));
                if !inside && !node.allowed.values.iter().any(|value| same(choice, value)) {
                    say(format!("choice {choice}, described {:?}", node.allowed.values));
                }
            }
            if row.allowed.choices.len() < node.allowed.values.len() && node.allowed.kind == "ENUM" && row.format == Format::Int {
                say(format!("has {} choices, described {:?}", row.allowed.choices.len(), node.allowed.values));
            }
            if let Some(pattern) = &row.allowed.pattern {
                let pattern = pattern.as_str().trim_start_matches('^').trim_end_matches('$');
                let texts = proptest::string::string_regex(pattern).unwrap();
                let mut runner = TestRunner::deterministic();
                for _ in 0..64 {
                    let text = texts.new_tree(&mut runner).unwrap().current();
                    if text.is_ascii()
                        && let Err(problem) = node.takes(&text)
                    {
                        say(problem);
                        break;
                    }
                }
            }
            if let Some(problem) = edition(node, &row.editions, |sku| row.has_edition(sku)) {
                say(problem);
            }
            if row.atomic.is_some() != (node.atomic || row.id == IN_ATOMIC_BY_ITS_TEXT) {
                say(format!("in an Atomic: {:?}, described {}", row.atomic, node.atomic));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_fact_is_described_and_can_be_read() {
    let Some(ddf) = Ddf::load() else { return };
    let mut wrong = Vec::new();
    for row in catalogue().facts().filter(|row| row.is_of("windows")) {
        let uri = row.locuri(&VARS);
        if let Err(problem) = ddf.check("Get", &uri, None, None) {
            wrong.push(format!("{}: {problem}", row.name));
            continue;
        }
        let node = ddf.find(&uri).unwrap();
        let result = uri.contains("/Policy/Result/");
        let described = if result { ddf.find(&uri.replace("/Result/", "/Config/")).unwrap() } else { node };
        if row.format.as_str() != described.format || !since(described, &row.since) {
            wrong.push(format!(
                "{}: {} {:?}, described {} {:?}",
                row.name,
                row.format.as_str(),
                row.since,
                described.format,
                described.since
            ));
        }
        if let Some(problem) = edition(described, &row.editions, |sku| row.has_edition(sku)) {
            wrong.push(format!("{}: {problem}", row.name));
        }
        if let Some(sample) = &row.sample
            && let Err(problem) = node.takes(sample)
        {
            wrong.push(format!("{}: {problem}", row.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_value_that_we_explain_or_judge_by_is_one_that_the_fact_can_have() {
    let Some(ddf) = Ddf::load() else { return };
    let mut wrong = Vec::new();
    for fact in catalogue().facts().filter(|row| row.is_of("windows")) {
        let node = ddf.find(&fact.locuri(&VARS)).unwrap();
        let rules = catalogue().rules().filter(|rule| rule.platform == "windows");
        let checks =
            rules.flat_map(|rule| rule.check.iter().map(move |check| (&rule.id, check))).filter(|(_, check)| check.fact == fact.name);
        let judged = checks.flat_map(|(rule, check)| {
            let accepted = check.accept.values().flatten().chain(&check.retry);
            accepted.map(move |value| (rule.as_str(), value))
        });
        for (who, value) in fact.values.keys().map(|value| ("its meanings", value)).chain(judged) {
            if let Err(problem) = node.takes(value) {
                wrong.push(format!("{}: {who}: {problem}", fact.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_command_is_described_as_we_send_it() {
    let Some(ddf) = Ddf::load() else { return };
    for row in catalogue().commands().filter(|row| row.is_of("windows")) {
        let uri = row.locuri(&VARS);
        ddf.check("Exec", &uri, Some(row.format.as_str()), row.data(&VARS).as_deref()).unwrap();
        assert!(since(ddf.find(&uri).unwrap(), &row.since), "{}", row.id);
        assert_eq!(edition(ddf.find(&uri).unwrap(), &row.editions, |sku| row.has_edition(sku)), None, "{}", row.id);
    }
}

#[test]
fn providers_that_the_catalogue_covers_are_covered_in_full() {
    let Some(ddf) = Ddf::load() else { return };
    let ours: Vec<String> = catalogue()
        .settings()
        .flat_map(|row| row.scopes.iter().map(|scope| row.locuri(*scope, &Vars { tenant: "X", provider: "X" }).unwrap().to_lowercase()))
        .collect();
    let mut missing = Vec::new();
    for file in [
        "PassportForWork",
        "Authentication_AreaDDF",
        "DeviceLock_AreaDDF",
        "Kerberos_AreaDDF",
        "CredentialProviders_AreaDDF",
        "ADMX_CredentialProviders_AreaDDF",
        "WindowsLogon_AreaDDF",
        "Security_AreaDDF",
        "Accounts_AreaDDF",
        "FederatedAuthentication_AreaDDF",
        "LocalUsersAndGroups_AreaDDF",
        "BitLocker",
        "LAPS",
    ] {
        let leaves = ddf.leaves(file);
        assert!(!leaves.is_empty(), "{file} has no leaves");
        let writable = leaves.into_iter().filter(|(_, node)| node.access.iter().any(|verb| verb == "Replace"));
        missing.extend(writable.map(|(uri, _)| uri).filter(|uri| !ours.contains(&uri.to_lowercase())));
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn the_simulated_device_has_only_nodes_that_are_described_and_allows_the_same() {
    let Some(ddf) = Ddf::load() else { return };
    let mut wrong = Vec::new();
    for (uri, spec) in schema::nodes() {
        let Some(node) = ddf.find(uri) else {
            // Above the providers nothing is described.
            if uri.split('/').count() > 4 && !uri.ends_with("/MSFT") {
                wrong.push(format!("{uri} is not described"));
            }
            continue;
        };
        let excepted = uri.contains("/Policy/Result/") || uri.ends_with("/ForceAadToken");
        if spec.format.as_str() != node.format && !excepted {
            wrong.push(format!("{uri}: format {}, described {}", spec.format.as_str(), node.format));
        }
        let mut theirs: Vec<&str> = node.access.iter().map(String::as_str).collect();
        theirs.sort_unstable();
        let mut ours = verbs(spec.access);
        ours.sort_unstable();
        if spec.atomic && !(node.atomic || uri.ends_with("/MaxDevicePasswordFailedAttempts")) {
            wrong.push(format!("{uri}: not described as one for an Atomic"));
        }
        if ours != theirs {
            wrong.push(format!("{uri}: allows {ours:?}, described {theirs:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_judge_of_commands_refuses_what_a_device_would() {
    let Some(ddf) = Ddf::load() else { return };
    let hello = "./Device/Vendor/MSFT/PassportForWork/9b8f0a61-3a3c-4f0e-8f3c-0d5a5d1f2b77/Policies/UsePassportForWork";
    let length = hello.replace("UsePassportForWork", "PINComplexity/MinimumPINLength");
    let check = |verb, uri: &str, format, data| ddf.check(verb, uri, format, data);
    assert!(check("Replace", hello, Some("bool"), Some("true")).is_ok());
    assert!(check("Replace", hello, Some("int"), Some("1")).unwrap_err().contains("format"));
    assert!(check("Exec", hello, None, None).unwrap_err().contains("allows"));
    assert!(check("Replace", &length, Some("int"), Some("3")).unwrap_err().contains("outside"));
    assert!(check("Get", "./Vendor/MSFT/Nothing", None, None).unwrap_err().contains("not described"));
    assert!(check("Add", &hello.replace("UsePassportForWork", "X"), Some("bool"), Some("true")).is_err());
    assert!(check("Get", &length, None, Some("3")).is_err());
    let group = "./Device/Vendor/MSFT/PassportForWork/DeviceUnlock/GroupA";
    assert!(check("Add", group, Some("chr"), Some("{D6886603-9D2F-4EB2-B667-1971041FA96B}")).is_ok());
    assert!(check("Add", group, Some("chr"), Some("face")).is_err());
}
