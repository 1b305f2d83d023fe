//! `muster profile settings` and `muster policy settings`: what profiles and policies can say, from the catalogue. Needs no instance.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::output::{readable, wrap};
use crate::catalogue::payload::{Form, Kind as Takes, Range};
use crate::catalogue::{Family, Format, PayloadRow, RuleRow, Setting, ValueType, catalogue};
use crate::domain::device::Platform;
use crate::domain::profile::Kind;

/// Which settings.
#[derive(Debug, clap::Args, Deserialize, Serialize)]
pub struct Settings {
    /// windows, macos or ios
    #[arg(long, default_value = "windows", value_parser = ["windows", "macos", "ios"])]
    platform: String,
    /// Only those that have all of these words in their name, description or address
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
}

impl Settings {
    /// Those of configuration profiles, or the rules of compliance policies.
    pub(super) fn list(&self, kind: Kind) -> Value {
        let platform = self.platform.as_str();
        let apple = Platform::parse(platform).is_some_and(Platform::is_apple);
        let rows: Vec<Value> = match kind {
            Kind::Compliance => catalogue().rules().filter(|row| row.platform == platform).map(rule).collect(),
            Kind::Configuration if apple => {
                let of_platform = |row: &&PayloadRow| if platform == "ios" { row.ios } else { row.macos }.is_some();
                catalogue().payloads().filter(of_platform).map(|row| payload(row, platform)).collect()
            }
            Kind::Configuration => catalogue().settings().map(setting).collect(),
        };
        let words: Vec<String> = self.search.iter().flat_map(|text| text.split_whitespace()).map(str::to_lowercase).collect();
        let has = |row: &Value| {
            let told = ["id", "title", "help", "uri", "keys"].iter().filter_map(|name| row.get(*name)).map(ToString::to_string);
            let text = told.collect::<Vec<_>>().join(" ").to_lowercase();
            words.iter().all(|word| text.contains(word))
        };
        Value::Array(rows.into_iter().filter(has).collect())
    }
}

fn setting(row: &Setting) -> Value {
    let kind = match row.format {
        _ if row.allowed.admx.is_some() => "group policy",
        _ if row.allowed.list.is_some() => "text or list of texts",
        Format::Int => "whole number",
        Format::Bool => "true or false",
        Format::B64 | Format::Bin => "Base64",
        Format::Xml => "XML",
        _ => "text",
    };
    let lacking = row.lacking.iter().map(|family| match family {
        Family::Home => "Home",
        Family::MultiSession => "Enterprise multi-session",
    });
    json!({
        "id": row.id, "title": row.title, "help": row.help, "type": kind, "values": row.expects(), "default": row.default,
        "scopes": row.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>(),
        "since": row.since.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "not_in": lacking.collect::<Vec<_>>(), "only_in_sku": row.editions, "together_with": row.atomic, "deprecated": row.deprecated,
        "uri": row.uri,
    })
}

fn rule(row: &RuleRow) -> Value {
    let (kind, values) = match row.value {
        ValueType::Boolean => ("true or false", "true asks for it; false asks for nothing".to_owned()),
        ValueType::Integer => {
            let (least, most) = row.range.unwrap_or((0, i64::from(i32::MAX)));
            ("whole number", format!("a whole number from {least} to {most}"))
        }
        ValueType::Version if row.platform == Platform::Windows.as_str() => {
            ("version", "a version of up to four numbers, such as 10.0.22631.4317".to_owned())
        }
        ValueType::Version => ("version", "a version of up to four numbers, such as 26.1 or 18.7.2".to_owned()),
        ValueType::Choice => {
            let choices: Vec<String> = row.choices.iter().map(|(value, means)| format!("{value} ({means})")).collect();
            ("choice", format!("one of {}", choices.join(", ")))
        }
        ValueType::BuildRanges => ("list of versions", "a list of { lowestVersion, highestVersion, description }".to_owned()),
    };
    json!({
        "id": row.id, "title": row.title, "help": row.help, "type": kind, "values": values,
        "sets": row.enforce.as_ref().map(|enforce| enforce.setting.clone()), "self_reported": row.self_reported,
    })
}

fn payload(row: &PayloadRow, platform: &str) -> Value {
    let own = if platform == "ios" { row.ios } else { row.macos };
    let keys = row.keys.iter().filter_map(|key| {
        let range = if platform == "ios" { key.ios } else { key.macos };
        // A key without a version of its own is there as long as its payload is; one with none is not there at all.
        if range.is_some_and(|range| range.since.is_none()) {
            return None;
        }
        let values = match (key.range, key.spelling, key.choices.as_slice()) {
            (Some((least, most)), ..) => Some(format!("{least} to {most}")),
            (None, Some(spelling), _) => Some(spelling.says().to_owned()),
            (None, None, []) => None,
            (None, None, choices) => Some(format!("one of {}", choices.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))),
        };
        Some(json!({
            "key": key.at, "type": takes(key.kind), "values": values, "required": key.required, "since": since(range), "help": key.help,
        }))
    });
    json!({
        "id": row.id, "title": row.title, "help": row.help,
        "type": if row.form == Form::Profile { "payload" } else { "declaration" },
        "since": since(own), "keys": keys.collect::<Vec<_>>(),
    })
}

fn since(range: Option<Range>) -> Vec<String> {
    range.and_then(|range| range.since).iter().map(|version| format!("{}.{}", version.major, version.minor)).collect()
}

fn takes(kind: Takes) -> &'static str {
    match kind {
        Takes::String => "text",
        Takes::Integer => "whole number",
        Takes::Real => "number",
        Takes::Boolean => "true or false",
        Takes::Data => "Base64",
        Takes::Strings => "list of texts",
        Takes::Integers => "list of whole numbers",
        Takes::Dict => "table",
        Takes::Dicts => "list of tables",
        Takes::Any => "anything",
        Takes::Reference => "name of another payload",
        Takes::References => "names of other payloads",
        Takes::Name => "distinguished name: a list of pairs",
    }
}

/// The answer for people: a paragraph each, wrapped to `width`.
pub(super) fn render(answer: &Value, width: Option<usize>) -> String {
    let rows = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        return "nothing is called so there; --platform names another (windows, macos, ios), without --search all are shown\n".to_owned();
    }
    let width = readable(width);
    rows.iter().map(|row| paragraph(row, width)).collect::<Vec<_>>().join("\n")
}

fn paragraph(row: &Value, width: usize) -> String {
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
    let list =
        |name: &str| -> Vec<&str> { row.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect() };
    let mut lines = vec![format!("{}. {}", text("title"), text("help")).trim_end().trim_end_matches('.').to_owned() + "."];
    let values = if text("values").is_empty() { text("type") } else { text("values") };
    let mut facts = vec![if text("type") == "group policy" { format!("group policy: {values}") } else { values.to_owned() }];
    facts.extend(row.get("default").and_then(Value::as_str).map(|default| {
        let shown = if default.is_empty() { "empty" } else { default };
        format!("default {shown}")
    }));
    lines.push(facts.join("; "));
    let mut facts = Vec::new();
    if !list("scopes").is_empty() {
        facts.push(list("scopes").join(" or "));
    }
    if !list("since").is_empty() {
        facts.push(format!("since {}", list("since").join(", ")));
    }
    if !list("not_in").is_empty() {
        facts.push(format!("not in {}", list("not_in").join(", ")));
    }
    let skus: Vec<String> = row.get("only_in_sku").and_then(Value::as_array).into_iter().flatten().map(ToString::to_string).collect();
    if !skus.is_empty() {
        facts.push(format!("only in SKU {}", skus.join(", ")));
    }
    if row.get("deprecated") == Some(&Value::Bool(true)) {
        facts.push("deprecated".into());
    }
    if row.get("self_reported") == Some(&Value::Bool(true)) {
        facts.push("the device says so of itself".into());
    }
    if !text("sets").is_empty() {
        facts.push(format!("writes {}", text("sets")));
    }
    if !facts.is_empty() {
        lines.push(facts.join("; "));
    }
    for key in row.get("keys").and_then(Value::as_array).into_iter().flatten() {
        let text = |name: &str| key.get(name).and_then(Value::as_str).unwrap_or_default();
        let required = if key.get("required") == Some(&Value::Bool(true)) { ", required" } else { "" };
        let values = if text("values").is_empty() { String::new() } else { format!(", {}", text("values")) };
        let help = if text("help").is_empty() { String::new() } else { format!(". {}", text("help").trim_end_matches('.')) };
        lines.push(format!("{}: {}{values}{required}{help}", text("key"), text("type")));
    }
    let mut shown = format!("{}\n", text("id"));
    for line in lines {
        shown.push_str(&wrap(&line, width, "    "));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(kind: Kind, platform: &str, search: &str) -> Value {
        Settings { platform: platform.into(), search: Some(search.into()) }.list(kind)
    }

    #[test]
    fn a_setting_says_what_it_does_what_it_takes_where_and_since_when() {
        let found = find(Kind::Configuration, "windows", "PIN-complexity minimum-PIN-length");
        let row = &found[0];
        assert_eq!((&row["id"], &row["type"]), (&json!("passport-for-work.pin-complexity.minimum-pin-length"), &json!("whole number")));
        assert!(row["values"].as_str().unwrap().starts_with("a whole number from 4"), "{row}");
        let shown = render(&found, Some(80));
        for part in ["passport-for-work.pin-complexity.minimum-pin-length\n", "a whole number from 4", "device", "since 10.0."] {
            assert!(shown.contains(part), "{part}\n{shown}");
        }
        assert!(find(Kind::Configuration, "windows", "no such thing at all")[0].is_null());
    }

    #[test]
    fn every_row_is_shown_and_fits_a_narrow_terminal() {
        for platform in ["windows", "macos", "ios"] {
            for kind in [Kind::Configuration, Kind::Compliance] {
                let all = Settings { platform: platform.into(), search: None }.list(kind);
                assert!(!all.as_array().unwrap().is_empty(), "{platform}");
                let shown = render(&all, Some(80));
                // Words that are longer than the line, such as forms of texts, stay whole.
                let long = |line: &&str| line.chars().count() > 80 && line.trim().contains(' ');
                assert!(!shown.lines().any(|line| long(&line)), "{:?}", shown.lines().find(long));
            }
        }
        let all = Settings { platform: "windows".into(), search: None }.list(Kind::Configuration);
        assert_eq!(all.as_array().unwrap().len(), catalogue().settings().count());
    }

    #[test]
    fn rules_and_payloads_are_listed_too() {
        let rules = find(Kind::Compliance, "windows", "bitlocker");
        assert_eq!(rules[0]["id"], "bitLockerEnabled");
        let payloads = find(Kind::Configuration, "macos", "com.apple.mobiledevice.passwordpolicy");
        assert!(render(&payloads, Some(80)).contains("minLength: whole number, 0 to 16. The least number of characters\n"));
        let versions = render(&find(Kind::Compliance, "ios", "oldest system version"), Some(80));
        assert!(versions.contains("such as 26.1") && !versions.contains("10.0."), "{versions}");
    }
}
