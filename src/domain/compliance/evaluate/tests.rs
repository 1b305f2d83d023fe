use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::catalogue::catalogue;

const START: Time = Time(1_790_000_000_000);
const TPM: &str = "device-status.tpm-specification-version";
const FIREWALL: &str = "device-status.firewall-status";
const VERSION: &str = "dev-detail.os-version";
const ANTIVIRUS: &str = "device-status.antivirus-status";
const SIGNATURES: &str = "device-status.antivirus-signature-status";
const LENGTH: &str = "device-lock.min-device-password-length";

fn policy(id: &str, grace_hours: u32, rules: Value) -> Policy {
    let rules: BTreeMap<String, Value> = serde_json::from_value(rules).unwrap();
    Policy { id: id.into(), version: 1, platform: Platform::Windows, content: Compliance { rules, grace_hours } }
}

fn fact(facts: &mut Facts, name: &str, value: Option<&str>, status: i64, observed_at: Time) {
    let fact = Fact { name: name.into(), value: value.map(str::to_owned), status, source: "test".into(), observed_at, next_at: None };
    facts.insert(name.into(), fact);
}

/// A device over time.
struct Device {
    facts: Facts,
    /// When it says what it says.
    says_at: Time,
    os_version: Option<&'static str>,
    os_edition: Option<&'static str>,
    enforced: Enforced,
    policies: Vec<Policy>,
    person: Person,
    last_seen_at: Time,
    rules: Rules,
    verdict: Option<Verdict>,
}

impl Device {
    fn new(policies: Vec<Policy>) -> Self {
        let mut facts = Facts::new();
        fact(&mut facts, TPM, Some("2.0"), 200, START);
        fact(&mut facts, FIREWALL, Some("0"), 200, START);
        fact(&mut facts, VERSION, Some("10.0.22631.4317"), 200, START);
        let rules = Rules { secure_by_default: false, validity_days: 30 };
        Self {
            facts,
            says_at: START,
            os_version: None,
            os_edition: None,
            enforced: Enforced::new(),
            policies,
            person: Person::Present,
            last_seen_at: START,
            rules,
            verdict: None,
        }
    }

    fn says(&mut self, name: &str, value: &str) {
        fact(&mut self.facts, name, Some(value), 200, self.says_at);
    }

    fn answers(&mut self, name: &str, status: i64) {
        fact(&mut self.facts, name, None, status, self.says_at);
    }

    /// The verdict `millis` after the start: state and collapsed.
    fn at(&mut self, millis: i64) -> (State, bool) {
        let verdict = evaluate(&Input {
            platform: Platform::Windows,
            os_version: self.os_version,
            os_edition: self.os_edition,
            facts: &self.facts,
            enforced: &self.enforced,
            policies: &self.policies,
            person: self.person,
            cut_off: false,
            last_seen_at: self.last_seen_at,
            previous: self.verdict.as_ref(),
            rules: self.rules,
            catalogue: catalogue(),
            now: START.plus(millis),
        });
        let shown = (verdict.state, verdict.compliant);
        self.verdict = Some(verdict);
        shown
    }

    fn setting(&self, rule: &str) -> &SettingResult {
        self.verdict.as_ref().unwrap().policies.iter().flat_map(|p| &p.settings).find(|s| s.rule == rule).unwrap()
    }
}

fn tpm(grace: u32) -> Policy {
    policy("tpm", grace, json!({"tpmRequired": true}))
}

fn firewall() -> Policy {
    policy("firewall", 0, json!({"activeFirewallRequired": true}))
}

#[test]
fn c1_a_definite_failure_decides_although_another_policy_is_on_hold() {
    let os = policy("os", 0, json!({"osMinimumVersion": "10.0.19045"}));
    let mut device = Device::new(vec![os, tpm(0), firewall()]);
    assert_eq!(device.at(0), (State::Compliant, true));
    device.says(FIREWALL, "3");
    assert_eq!(device.at(1), (State::Error, true));
    device.answers(TPM, 404);
    assert_eq!(device.at(DAY), (State::Noncompliant, false));
    // The failure heals: the error of another setting holds what was in force when it began.
    device.says(TPM, "2.0");
    assert_eq!(device.at(2 * DAY), (State::Error, true));
}

#[test]
fn c2_an_error_holds_the_verdict_for_seven_days() {
    let mut device = Device::new(vec![firewall()]);
    device.at(0);
    device.answers(FIREWALL, 500);
    assert_eq!(device.at(0), (State::Error, true));
    assert_eq!(device.verdict.as_ref().unwrap().reevaluate_at, Some(START.plus(7 * DAY)));
    assert_eq!(device.at(6 * DAY + 23 * HOUR), (State::Error, true));
    assert_eq!(device.at(7 * DAY + 1000), (State::Noncompliant, false));
    device.says(FIREWALL, "0");
    assert_eq!(device.at(7 * DAY + 2000), (State::Compliant, true));
}

#[test]
fn c3_a_failure_inside_the_grace_is_forgiven_until_it_ends() {
    let mut device = Device::new(vec![tpm(72)]);
    device.at(0);
    device.answers(TPM, 404);
    assert_eq!(device.at(HOUR), (State::InGracePeriod, true));
    let verdict = device.verdict.clone().unwrap();
    assert_eq!(verdict.grace_expires_at, Some(START.plus(73 * HOUR)));
    assert_eq!(verdict.reevaluate_at, Some(START.plus(73 * HOUR)));
    assert_eq!(device.at(73 * HOUR - 1), (State::InGracePeriod, true));
    assert_eq!(device.at(73 * HOUR), (State::Noncompliant, false));
}

#[test]
fn c4_the_grace_starts_anew_after_the_policy_was_followed() {
    let mut device = Device::new(vec![tpm(72)]);
    device.answers(TPM, 404);
    device.at(0);
    device.says(TPM, "2.0");
    assert_eq!(device.at(10 * HOUR), (State::Compliant, true));
    device.answers(TPM, 404);
    device.at(20 * HOUR);
    assert_eq!(device.verdict.as_ref().unwrap().grace_expires_at, Some(START.plus(92 * HOUR)));
}

#[test]
fn an_edit_of_the_policy_does_not_start_the_grace_anew() {
    let mut device = Device::new(vec![tpm(72)]);
    device.answers(TPM, 404);
    device.at(0);
    device.policies[0].version = 2;
    device.at(10 * HOUR);
    assert_eq!(device.verdict.as_ref().unwrap().grace_expires_at, Some(START.plus(72 * HOUR)));
}

#[test]
fn c5_without_a_policy_the_organisations_default_decides() {
    let mut device = Device::new(Vec::new());
    assert_eq!(device.at(0), (State::Compliant, true));
    device.rules.secure_by_default = true;
    assert_eq!(device.at(1), (State::Noncompliant, false));
    assert_eq!(device.setting("hasPolicy").status, Status::NonCompliant);
}

#[test]
fn c6_a_silent_device_fails_after_the_validity_period() {
    let mut device = Device::new(vec![tpm(0)]);
    assert_eq!(device.at(30 * DAY), (State::Compliant, true));
    assert_eq!(device.at(30 * DAY + 1000), (State::Noncompliant, false));
    assert_eq!(device.setting("isActive").status, Status::NonCompliant);
}

#[test]
fn c7_a_policy_for_another_platform_is_no_policy() {
    let mut device = Device::new(vec![Policy { platform: Platform::Ios, ..tpm(0) }]);
    assert_eq!(device.at(0), (State::Compliant, true));
    device.rules.secure_by_default = true;
    assert_eq!(device.at(1), (State::Noncompliant, false));
    let verdict = device.verdict.as_ref().unwrap();
    assert_eq!(verdict.policies[1].status, Status::NotApplicable);
    assert_eq!(device.setting("hasPolicy").got.as_deref(), Some("0 applicable of 1 assigned"));
}

#[test]
fn c10_versions_are_compared_as_numbers() {
    let mut device = Device::new(vec![policy("os", 0, json!({"osMinimumVersion": "10.0.22631.4317"}))]);
    assert_eq!(device.at(0), (State::Compliant, true));
    device.says(VERSION, "10.0.22631.999");
    assert_eq!(device.at(1), (State::Noncompliant, false));
    assert_eq!(device.setting("osMinimumVersion").got.as_deref(), Some("10.0.22631.999"));
}

#[test]
fn c11_a_firewall_that_is_still_starting_never_fails_the_device() {
    let mut device = Device::new(vec![firewall()]);
    device.says(FIREWALL, "3");
    assert_eq!(device.at(0), (State::Error, true));
    device.says(FIREWALL, "0");
    assert_eq!(device.at(1), (State::Compliant, true));
    assert_eq!(device.verdict.as_ref().unwrap().held, None);
}

#[test]
fn c12_a_missing_tpm_fails_and_an_unsupported_node_does_not_apply() {
    let mut device = Device::new(vec![tpm(0)]);
    device.answers(TPM, 404);
    assert_eq!(device.at(0), (State::Noncompliant, false));
    device.answers(TPM, 405);
    assert_eq!(device.at(1), (State::Compliant, true));
    assert_eq!(device.setting("tpmRequired").status, Status::NotApplicable);
    assert_eq!(device.setting("tpmRequired").code, Some(405));
}

#[test]
fn a_new_device_is_unknown_until_it_reports() {
    let mut device = Device::new(vec![tpm(0)]);
    device.facts.clear();
    assert_eq!(device.at(0), (State::Unknown, true));
    device.verdict = None;
    device.rules.secure_by_default = true;
    assert_eq!(device.at(0), (State::Unknown, false));
}

#[test]
fn a_disabled_user_fails_the_device() {
    let mut device = Device::new(vec![tpm(0)]);
    device.person = Person::Missing;
    assert_eq!(device.at(0), (State::Noncompliant, false));
    device.person = Person::Nobody;
    assert_eq!(device.at(1), (State::Compliant, true));
}

#[test]
fn a_fact_that_the_build_does_not_have_counts_as_absent() {
    let bitlocker = policy("bitlocker", 0, json!({"bitLockerEnabled": true}));
    let memory = policy("memory", 0, json!({"memoryIntegrityEnabled": true}));
    let mut device = Device::new(vec![bitlocker, memory, tpm(0)]);
    device.os_version = Some("10.0.10586.1");
    assert_eq!(device.at(0), (State::Noncompliant, false), "the tpm rule would hide an unknown one");
    assert_eq!(device.setting("bitLockerEnabled").code, Some(404));
    assert_eq!(device.setting("memoryIntegrityEnabled").status, Status::NotApplicable);
    device.os_version = Some("10.0.22631.4317");
    assert_eq!(device.setting("bitLockerEnabled").observed_at, None);
    device.at(1);
    assert_eq!(device.setting("bitLockerEnabled").status, Status::Unknown, "not asked yet");
}

#[test]
fn a_rule_keeps_its_result_until_the_device_had_time_to_obey() {
    let length = |least: u32| policy("password", 0, json!({"passwordMinimumLength": least}));
    let mut device = Device::new(vec![length(6)]);
    let setting = "device-lock.min-device-password-length".to_owned();
    device.says(LENGTH, "6");
    device.enforced.insert(setting.clone(), Some(START));
    assert_eq!(device.at(0), (State::Compliant, true));
    // The edit: the new value is on its way.
    device.policies = vec![Policy { version: 2, ..length(8) }];
    device.enforced.insert(setting.clone(), None);
    assert_eq!(device.at(HOUR), (State::Compliant, true));
    assert_eq!(device.setting("passwordMinimumLength").expected, json!(8));
    assert!(device.verdict.as_ref().unwrap().waits_for_device());
    // It is there, but was not read since.
    device.enforced.insert(setting.clone(), Some(START.plus(2 * HOUR)));
    assert_eq!(device.at(2 * HOUR), (State::Compliant, true));
    device.says_at = START.plus(3 * HOUR);
    device.says(LENGTH, "6");
    assert_eq!(device.at(3 * HOUR), (State::Noncompliant, false));
    device.says(LENGTH, "8");
    assert_eq!(device.at(4 * HOUR), (State::Compliant, true));
    // A device that never takes it is not believed for ever.
    device.policies = vec![Policy { version: 3, ..length(10) }];
    device.enforced.insert(setting, None);
    assert_eq!(device.at(5 * HOUR), (State::Compliant, true));
    assert_eq!(device.verdict.as_ref().unwrap().reevaluate_at, Some(START.plus(5 * HOUR + 7 * DAY)));
    assert_eq!(device.at(5 * HOUR + 7 * DAY), (State::Noncompliant, false));
    assert_eq!(device.at(6 * HOUR + 7 * DAY), (State::Noncompliant, false));
}

#[test]
fn a_fact_that_grew_old_fails_the_device_that_still_calls() {
    let mut device = Device::new(vec![tpm(0)]);
    device.last_seen_at = START.plus(20 * DAY);
    assert_eq!(device.at(20 * DAY), (State::Compliant, true));
    assert_eq!(device.verdict.as_ref().unwrap().reevaluate_at, Some(START.plus(30 * DAY + 1)));
    assert_eq!(device.at(30 * DAY + 1), (State::Noncompliant, false));
    assert_eq!(device.setting("isActive").got, Some(START.to_string()));
    device.says_at = START.plus(20 * DAY);
    device.says(TPM, "2.0");
    assert_eq!(device.at(30 * DAY + 2), (State::Compliant, true));
}

#[test]
fn a_failed_check_is_not_hidden_by_one_that_cannot_be_judged() {
    let mut device = Device::new(vec![policy("antivirus", 0, json!({"antivirusRequired": true}))]);
    device.says(ANTIVIRUS, "3");
    device.says(SIGNATURES, "1");
    assert_eq!(device.at(0), (State::Error, true));
    device.says(SIGNATURES, "0");
    assert_eq!(device.at(1), (State::Noncompliant, false));
}

#[test]
fn a_missing_reading_does_not_start_the_grace_anew() {
    let mut device = Device::new(vec![policy("both", 72, json!({"tpmRequired": true, "activeFirewallRequired": true}))]);
    device.answers(TPM, 404);
    device.at(0);
    device.answers(TPM, 204);
    device.at(10 * HOUR);
    device.answers(TPM, 404);
    assert_eq!(device.at(20 * HOUR), (State::InGracePeriod, true));
    assert_eq!(device.verdict.as_ref().unwrap().grace_expires_at, Some(START.plus(72 * HOUR)));
}

#[test]
fn a_new_life_inherits_no_clock() {
    let mut device = Device::new(vec![tpm(72), firewall()]);
    device.answers(TPM, 404);
    device.answers(FIREWALL, 500);
    device.at(0);
    device.verdict = device.verdict.take().map(Verdict::of_new_life);
    device.at(100 * HOUR);
    assert_eq!(device.verdict.as_ref().unwrap().grace_expires_at, Some(START.plus(172 * HOUR)));
    assert_eq!(device.setting("activeFirewallRequired").error_since, Some(START.plus(100 * HOUR)));
}

#[test]
fn the_words_are_those_of_the_interface() {
    let states: Vec<_> = State::ALL.iter().map(|s| s.as_str()).collect();
    assert_eq!(states, ["unknown", "compliant", "noncompliant", "conflict", "error", "inGracePeriod", "configManager"]);
    assert_eq!(Status::NonCompliant.as_str(), "nonCompliant");
}

fn reports() -> impl Strategy<Value = Vec<(i64, [u8; 4])>> {
    proptest::collection::vec((1..48_i64, proptest::array::uniform4(0..8_u8)), 1..20)
}

fn report(device: &mut Device, name: &str, choice: u8, good: &str, bad: &str) {
    match choice {
        0 | 1 => device.says(name, good),
        2 => device.says(name, bad),
        3 => device.answers(name, 404),
        4 => device.answers(name, 500),
        5 => device.answers(name, 204),
        6 => {
            device.facts.remove(name);
        }
        _ => device.answers(name, 406),
    }
}

proptest! {
    #[test]
    fn the_worst_wins_and_time_never_heals(steps in reports(), grace in 0..100_u32) {
        let several = policy("several", grace, json!({"tpmRequired": true, "antivirusRequired": true}));
        let mut device = Device::new(vec![several, firewall()]);
        let mut at = 0;
        for (hours, [tpm, firewall, antivirus, signatures]) in steps {
            at += hours * HOUR;
            (device.last_seen_at, device.says_at) = (START.plus(at), START.plus(at));
            report(&mut device, TPM, tpm, "2.0", "Not available");
            report(&mut device, FIREWALL, firewall, "0", "1");
            report(&mut device, ANTIVIRUS, antivirus, "0", "1");
            report(&mut device, SIGNATURES, signatures, "1", "0");
            let (state, compliant) = device.at(at);
            let verdict = device.verdict.clone().unwrap();
            // A definite failure without grace is never covered by anything.
            let failed = verdict.policies.iter().any(|p| p.fails_now() && p.grace_expires_at.is_none());
            prop_assert_eq!(failed && state != State::Noncompliant, false);
            prop_assert_eq!(state == State::Noncompliant && compliant, false);
            prop_assert_eq!(state == State::Compliant && !compliant, false);
            // The grace never ends later than its length after now.
            if let Some(ends) = verdict.grace_expires_at {
                prop_assert!(ends.since(START.plus(at)) <= i64::from(grace) * HOUR);
            }
            // Nothing changes before the time that was announced, and judging twice changes nothing.
            let next = verdict.reevaluate_at.unwrap();
            prop_assert!(next > START.plus(at));
            device.at(next.since(START) - 1);
            prop_assert_eq!(device.verdict.as_ref().map(|v| (v.state, v.compliant)), Some((state, compliant)));
            device.verdict = Some(verdict.clone());
            device.at(at);
            prop_assert_eq!(device.verdict.as_ref(), Some(&verdict));
        }
    }
}
