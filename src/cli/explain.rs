//! How people are shown what is known of a device and why it is judged as it is. All of it, as the device said it, is in the JSON.

use serde_json::{Map, Value, json};

use super::output::{self, readable, wrap};
use super::page;
use crate::domain::compliance::Status;

/// Why a device is judged as it is: a table for each policy, and what is to be done.
pub(super) fn render(answer: &Value, width: Option<usize>) -> String {
    let reasons = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    if reasons.is_empty() {
        return "nothing: the device was not judged yet, or everything that was asked for is met\n".to_owned();
    }
    let mut policies: Vec<&str> = Vec::new();
    for reason in reasons {
        let policy = text(reason, "policy");
        if !policies.contains(&policy) {
            policies.push(policy);
        }
    }
    let mut shown = Vec::new();
    for policy in policies {
        let mut of_policy: Vec<&Value> = reasons.iter().filter(|reason| text(reason, "policy") == policy).collect();
        of_policy.sort_by_key(|reason| matches!(text(reason, "status"), "compliant" | "notApplicable" | "remediated"));
        let rows = Value::Array(of_policy.iter().map(|reason| row(reason)).collect());
        shown.push(format!("{policy}\n{}", output::render(&rows, width)));
    }
    let advice = reasons.iter().filter_map(|reason| Some((text(reason, "title"), reason.get("advice")?.as_str()?)));
    let advice: String = advice.map(|(title, advice)| wrap(&format!("{title}: {advice}"), readable(width), "  ")).collect();
    if !advice.is_empty() {
        shown.push(format!("What to do\n{advice}"));
    }
    shown.join("\n")
}

/// The devices by name: what is known twice is shown once, and moments to the minute.
pub(super) fn render_list(answer: &Value, width: Option<usize>) -> String {
    let mut answer = answer.clone();
    let rest = page::rest(&mut answer);
    if let Some(rows) = answer.as_array_mut() {
        rows.sort_by_cached_key(|row| text(row, "name").to_lowercase());
    }
    for row in answer.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        never_judged(row);
        row.remove("compliant");
        speak(row, "compliance");
        // The person beside the device, before what a narrow terminal leaves out.
        let all = std::mem::take(row);
        let user = all.get("user").cloned().unwrap_or_default();
        for (name, value) in all.into_iter().filter(|(name, _)| name != "user") {
            let is_name = name == "name";
            row.insert(name, value);
            if is_name {
                row.insert("user".into(), user.clone());
            }
        }
        if let Some(moment) = row.get_mut("last_seen") {
            *moment = minute(moment);
        }
    }
    output::render(&answer, width) + &rest
}

/// A policy or a profile: how far the devices have got, in words.
pub(super) fn render_profile(answer: &Value, width: Option<usize>) -> String {
    let mut answer = answer.clone();
    let devices = answer.get_mut("devices").and_then(Value::as_array_mut);
    for row in devices.into_iter().flatten().filter_map(Value::as_object_mut) {
        speak(row, "status");
    }
    output::render(&answer, width)
}

/// All that is known of a device: first what is not as it should be, then why it is judged as it is, its profiles, and the facts that it has.
pub(super) fn render_device(answer: &Value, width: Option<usize>) -> String {
    let Some(fields) = answer.as_object() else { return output::render(answer, width) };
    let mut fields = fields.clone();
    let mut list = |name: &str| match fields.remove(name) {
        Some(Value::Array(rows)) => rows,
        _ => Vec::new(),
    };
    let (reasons, profiles, facts, notes) = (list("reasons"), list("profiles"), list("facts"), list("notes"));
    never_judged(&mut fields);
    fields.retain(|name, value| name != "compliant" && !value.is_null() && value.as_array().is_none_or(|items| !items.is_empty()));
    speak(&mut fields, "compliance");
    let mut shown = output::render(&Value::Object(fields), width);
    let notes: String = notes.iter().filter_map(Value::as_str).map(|note| wrap(note, readable(width), "  ")).collect();
    if !notes.is_empty() {
        shown.push_str(&format!("\nto know\n{notes}"));
    }
    let open: String = profiles.iter().flat_map(open_settings).map(|line| wrap(&line, readable(width), "  ")).collect();
    if !open.is_empty() {
        shown.push_str(&format!("\nsettings not in place\n{open}"));
    }
    let mut section = |title: &str, rows: Vec<Value>| {
        if !rows.is_empty() {
            shown.push_str(&format!("\n{title}\n{}", output::render(&rows.into(), width)));
        }
    };
    section("profiles", profiles.iter().map(profile_row).collect());
    if !reasons.is_empty() {
        shown.push_str(&format!("\nwhy\n{}", render(&reasons.into(), width)));
    }
    let has_value = |fact: &&Value| !text(fact, "value").is_empty();
    let known: Vec<Value> = facts.iter().filter(has_value).map(|f| json!({ "fact": f.get("fact"), "value": f.get("value") })).collect();
    let missing = facts.len() - known.len();
    if !known.is_empty() {
        shown.push_str(&format!("\nfacts\n{}", output::render(&known.into(), width)));
    }
    if missing > 0 {
        shown.push_str(&format!("\n{missing} facts without a value are left out; --json has them with what the device said\n"));
    }
    shown
}

fn profile_row(profile: &Value) -> Value {
    let settings = profile.get("settings").and_then(Value::as_array).map_or(0, Vec::len);
    json!({
        "profile": profile.get("profile"), "state": profile.get("state"), "wanted": profile.get("wanted"), "given": profile.get("given"),
        "settings": settings, "due": profile.get("due").map(minute),
    })
}

/// A device without a verdict is not one of which its rules know nothing.
fn never_judged(row: &mut Map<String, Value>) {
    if row.get("compliant").is_some_and(Value::is_null) && row.contains_key("compliance") {
        row.insert("compliance".into(), "notJudged".into());
    }
}

/// Puts a state of compliance into people's words.
fn speak(row: &mut Map<String, Value>, name: &str) {
    if let Some(word) = row.get_mut(name) {
        *word = spoken(word);
    }
}

fn spoken(word: &Value) -> Value {
    word.as_str().map_or_else(|| word.clone(), |word| output::spoken(word).into())
}

/// The settings of a profile that a device has not been seen to have, and why, each in a line.
fn open_settings(profile: &Value) -> Vec<String> {
    let settings = profile.get("settings").and_then(Value::as_array).into_iter().flatten();
    let open = settings.filter_map(|setting| {
        let record = setting.get("record")?;
        (text(record, "state") != "verified").then(|| {
            // A payload is known by its name; the profile is named before it.
            let name = text(setting, "setting");
            let name = name.strip_prefix("payload:").and_then(|rest| rest.split_once('/')).map_or(name, |(_, name)| name);
            let why = why_open(record).as_str().map(|why| format!(", {why}")).unwrap_or_default();
            format!("{}, {name}: {}{why}", text(profile, "profile"), text(record, "state"))
        })
    });
    open.collect()
}

/// Why a setting is not in place: what the device lacks, what is waited for, or what the device answered.
fn why_open(record: &Value) -> Value {
    let known = match (text(record, "lacks"), text(record, "note")) {
        ("version", _) => Some("needs a later version of the system"),
        ("edition", _) => Some("needs another edition of the system"),
        (_, "waits-for-approval") => Some("waits for approval"),
        (_, "certificate-revoked") => Some("the certificate was revoked, another one is asked for"),
        _ => record.get("winner").is_some_and(Value::is_string).then_some("another profile goes before this one"),
    };
    if let Some(known) = known {
        return known.into();
    }
    let status = record.get("status").and_then(Value::as_i64);
    let meaning = match status {
        Some(401 | 407 | 425) => "no right to it",
        Some(404) => "not there",
        Some(405) => "not possible there",
        Some(406) => "not supported",
        Some(415) => "wrong format",
        Some(418) => "there already",
        Some(420) => "no space left",
        Some(200..=299) => "taken, not seen yet",
        Some(_) => "the device's error",
        None => "",
    };
    let said = record.get("original_error").and_then(Value::as_str);
    match (status, said) {
        // Nothing was sent: the server's own reason, or no answer yet.
        (Some(0), Some(said)) => said.into(),
        (Some(0), None) => "no answer yet".into(),
        (Some(code), Some(said)) => format!("{meaning} ({code}, {said})").into(),
        (Some(code), None) => format!("{meaning} ({code})").into(),
        (None, Some(said)) => said.into(),
        (None, None) => Value::Null,
    }
}

fn row(reason: &Value) -> Value {
    let mut row = Map::new();
    row.insert("status".into(), reason.get("status").map(spoken).unwrap_or_default());
    row.insert("rule".into(), reason.get("title").cloned().unwrap_or_default());
    row.insert("wanted".into(), wanted(reason));
    row.insert("got".into(), got(reason));
    for (name, of) in [("when", "observed"), ("source", "source")] {
        if let Some(told) = reason.get(of).filter(|told| !told.is_null()) {
            row.insert(name.into(), minute(told));
        }
    }
    Value::Object(row)
}

fn wanted(reason: &Value) -> Value {
    match reason.get("expected") {
        Some(Value::Bool(truth)) => yes(*truth).into(),
        other => other.cloned().unwrap_or_default(),
    }
}

/// What the device reported, in the type of what was asked for: where that is a yes or no, so is this, with the device's own word beside it.
fn got(reason: &Value) -> Value {
    let said = reason.get("got").and_then(Value::as_str);
    let code = reason.get("code").and_then(Value::as_i64);
    let raw = match (said, code) {
        (Some(said), _) => Some(said.to_owned()),
        (None, Some(404)) => Some("not there (404)".to_owned()),
        (None, Some(code)) => Some(format!("no value ({code})")),
        (None, None) => None,
    };
    let met = match reason.get("status").and_then(Value::as_str).and_then(Status::parse) {
        Some(Status::Compliant | Status::Remediated) => Some(true),
        Some(Status::NonCompliant) => Some(false),
        _ => None,
    };
    match (reason.get("expected"), met, raw) {
        (Some(Value::Bool(wanted)), Some(met), Some(raw)) => {
            let answer = yes(met == *wanted);
            let same = matches!((raw.to_ascii_lowercase().as_str(), answer), ("true", "yes") | ("false", "no"));
            if same { answer.into() } else { format!("{answer} ({raw})").into() }
        }
        (_, _, Some(raw)) if reason.get("rule").and_then(Value::as_str) == Some("isActive") => minute(&raw.into()),
        (_, _, raw) => json!(raw),
    }
}

fn yes(truth: bool) -> &'static str {
    if truth { "yes" } else { "no" }
}

/// A moment to the minute; anything else as it is.
fn minute(moment: &Value) -> Value {
    match moment.as_str() {
        Some(text) if text.get(10..11) == Some("T") => text.get(..16).unwrap_or(text).replace('T', " ").into(),
        _ => moment.clone(),
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(status: &str, expected: &Value, got: &Value, code: &Value) -> Value {
        json!({
            "policy": "Windows compliance", "rule": "bitLockerEnabled", "title": "BitLocker", "status": status, "expected": expected,
            "got": got, "code": code, "advice": if status == "nonCompliant" { json!("Turn on BitLocker.") } else { Value::Null },
        })
    }

    #[test]
    fn what_was_asked_for_and_what_was_got_are_of_one_type() {
        let shown = |status, expected: Value, said: Value, code: Value| got(&reason(status, &expected, &said, &code));
        assert_eq!(shown("compliant", json!(true), json!("0"), Value::Null), "yes (0)");
        assert_eq!(shown("nonCompliant", json!(true), json!("65536"), Value::Null), "no (65536)");
        assert_eq!(shown("compliant", json!(true), json!("true"), Value::Null), "yes");
        assert_eq!(shown("nonCompliant", json!(true), json!("False"), Value::Null), "no");
        assert_eq!(shown("nonCompliant", json!(true), Value::Null, json!(404)), "no (not there (404))");
        assert_eq!(shown("compliant", json!("10.0.1.0"), json!("10.0.2.0"), Value::Null), "10.0.2.0");
        assert_eq!(shown("unknown", json!(true), Value::Null, Value::Null), Value::Null);
        assert_eq!(shown("error", json!(true), Value::Null, json!(500)), "no value (500)");
    }

    #[test]
    fn reasons_are_short_tables_by_policy_with_advice_below() {
        let reasons = json!([reason("nonCompliant", &json!(true), &json!("65536"), &Value::Null)]);
        let shown = render(&reasons, Some(80));
        assert!(
            shown.starts_with("Windows compliance\nSTATUS         RULE       WANTED  GOT\nnot compliant  BitLocker  yes     no (65536)\n"),
            "{shown}"
        );
        let mut told = reason("compliant", &json!("10.0.1.0"), &json!("10.0.2.0"), &Value::Null);
        (told["observed"], told["source"]) = (json!("2026-11-26T07:44:20.431Z"), json!("oma-dm"));
        assert!(render(&json!([told]), None).contains("2026-11-26 07:44  oma-dm"));
        assert!(shown.ends_with("What to do\n  BitLocker: Turn on BitLocker.\n"), "{shown}");
    }

    #[test]
    fn what_is_not_in_place_says_why() {
        let why = |record: Value| why_open(&record).as_str().unwrap_or("-").to_owned();
        assert_eq!(why(json!({ "state": "failed", "status": 404 })), "not there (404)");
        assert_eq!(
            why(json!({ "state": "failed", "status": 405, "original_error": "0x86000002" })),
            "not possible there (405, 0x86000002)"
        );
        assert_eq!(why(json!({ "state": "pending", "lacks": "edition", "status": 404 })), "needs another edition of the system");
        assert_eq!(why(json!({ "state": "pending", "note": "waits-for-approval" })), "waits for approval");
        assert_eq!(why(json!({ "state": "superseded", "winner": "x" })), "another profile goes before this one");
        assert_eq!(why(json!({ "state": "pending" })), "-");
        assert_eq!(why(json!({ "state": "failed", "status": 0, "original_error": "certificate: one" })), "certificate: one");
        assert_eq!(why(json!({ "state": "pending", "status": 0 })), "no answer yet");
    }

    #[test]
    fn what_fails_comes_first_within_its_policy() {
        let met = json!({ "policy": "P", "title": "Met", "status": "compliant" });
        let failed = json!({ "policy": "P", "title": "Failed", "status": "nonCompliant" });
        let shown = render(&json!([met, failed]), None);
        assert!(shown.find("Failed").unwrap() < shown.find("Met").unwrap(), "{shown}");
    }

    #[test]
    fn a_device_without_a_verdict_is_not_judged_yet() {
        let device = |compliant: Value| json!({ "name": "a", "compliance": "unknown", "compliant": compliant, "notes": ["it is lost"] });
        let shown = render_device(&device(Value::Null), Some(80));
        assert!(shown.contains("not judged yet") && shown.contains("\nto know\n  it is lost\n"), "{shown}");
        assert!(render_list(&json!([device(Value::Null)]), Some(80)).contains("not judged yet"));
        assert!(render_device(&device(json!(true)), Some(80)).contains("unknown"));
    }

    #[test]
    fn devices_are_listed_by_name_with_their_users() {
        let row = |name: &str, user: Value| json!({ "name": name, "state": "managed", "id": "x", "compliant": true, "user": user });
        let shown = render_list(&json!([row("b", json!("ana@example.org")), row("A", Value::Null)]), Some(80));
        let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines, [["NAME", "USER", "STATE", "ID"], ["A", "-", "managed", "x"], ["b", "ana@example.org", "managed", "x"]]);
    }

    #[test]
    fn facts_without_a_value_are_counted_and_left_out() {
        let device = json!({
            "id": "x", "reasons": [],
            "profiles": [{
                "profile": "P", "kind": "configuration", "wanted": 1, "given": null, "state": "failed", "due": null,
                "settings": [
                    { "setting": "good", "record": { "state": "verified" } },
                    { "setting": "bad", "record": { "state": "failed", "status": 500 } },
                ],
            }],
            "facts": [
                { "fact": "a.b", "value": "1", "status": null, "observed": "2026-11-26T07:44:20.431Z" },
                { "fact": "c.d", "value": null, "status": 404, "observed": "2026-11-26T07:44:20.431Z" },
            ],
        });
        let shown = render_device(&device, Some(80));
        assert!(shown.contains("FACT  VALUE\na.b   1\n"), "{shown}");
        assert!(shown.contains("PROFILE  STATE   WANTED  GIVEN  SETTINGS  DUE\nP        failed  1       -      2         -\n"), "{shown}");
        assert!(shown.contains("settings not in place\n  P, bad: failed, the device's error (500)\n"), "{shown}");
        assert!(!shown.contains("good"), "{shown}");
        assert!(shown.contains("1 facts without a value are left out") && !shown.contains("c.d"), "{shown}");
    }
}
