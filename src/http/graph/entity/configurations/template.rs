//! What a certificate says, for the types that have one made: the template of their payload.

use serde_json::{Map, Value, json};

use crate::http::graph::error::{GraphProblem, Result};

/// Formats of subjects, each as the text that it stands for; Apple's types know the first five.
const SUBJECTS: [(&str, &str); 7] = [
    ("commonName", "CN={{UserName}}"),
    ("commonNameIncludingEmail", "CN={{UserName}},E={{EmailAddress}}"),
    ("commonNameAsEmail", "CN={{EmailAddress}}"),
    ("commonNameAsSerialNumber", "CN={{SerialNumber}}"),
    ("commonNameAsIMEI", "CN={{IMEI}}"),
    ("commonNameAsAadDeviceId", "CN={{AAD_Device_ID}}"),
    ("commonNameAsIntuneDeviceId", "CN={{DeviceId}}"),
];
const OF_APPLE: usize = 5;
const CUSTOM: &str = "custom";
const SANS: [(&str, &str); 4] =
    [("userPrincipalName", "upn"), ("emailAddress", "email"), ("domainNameService", "dns"), ("universalResourceIdentifier", "uri")];
const SCALES: [(&str, i64); 3] = [("years", 365), ("months", 30), ("days", 1)];

/// The life of a certificate stands in two properties, which mean something together only.
const VALUE: &str = "certificateValidityPeriodValue";
const SCALE: &str = "certificateValidityPeriodScale";
/// Both of them.
const LIFE: &str = "certificateValidityPeriod";

/// Joins the two halves of the life; one that the body has not stays as it is.
pub(super) fn join_life(body: &mut Map<String, Value>, present: &Map<String, Value>) {
    if body.contains_key(VALUE) || body.contains_key(SCALE) {
        let mut half = |name: &str| body.remove(name).or_else(|| present.get(name).cloned());
        let (value, scale) = (half(VALUE), half(SCALE));
        body.insert(LIFE.to_owned(), json!({ VALUE: value, SCALE: scale }));
    }
}

/// The template of a payload; empty when it has none.
pub(super) fn of(body: &Map<String, Value>) -> Map<String, Value> {
    body.get("template").and_then(Value::as_object).cloned().unwrap_or_default()
}

/// A value that a property does not take.
pub(super) fn wrong(property: &str, expected: &str) -> GraphProblem {
    GraphProblem::invalid(format!("{property} is {expected}."))
}

/// The properties of a payload whose certificate is made by a template.
pub(super) fn write(body: &Map<String, Value>, apple: bool, whole: &mut Map<String, Value>) {
    let template = of(body);
    let text = |name: &str| template.get(name).and_then(Value::as_str).unwrap_or_default();
    let subject = text("subject");
    let known = SUBJECTS.iter().take(if apple { OF_APPLE } else { SUBJECTS.len() });
    let format = known.into_iter().find(|(_, text)| *text == subject).map_or(CUSTOM, |(word, _)| word);
    let days = template.get("days").and_then(Value::as_i64).unwrap_or(365);
    let (scale, length) = SCALES.iter().find(|(_, length)| days % length == 0).copied().unwrap_or(("days", 1));
    let san = |san: &Value| {
        let kind = san.get("type").and_then(Value::as_str).unwrap_or_default();
        let word = SANS.iter().find(|(_, own)| *own == kind)?.0;
        Some(json!({ "sanType": word, "name": san.get("value") }))
    };
    let sans: Vec<Value> = template.get("sans").and_then(Value::as_array).into_iter().flatten().filter_map(san).collect();
    whole.extend([
        ("renewalThresholdPercentage".to_owned(), body.get("renew-percent").cloned().unwrap_or(json!(20))),
        ("subjectNameFormat".to_owned(), json!(format)),
        ("subjectNameFormatString".to_owned(), json!(subject)),
        ("subjectAlternativeNameType".to_owned(), json!("none")),
        ("subjectAlternativeNameFormatString".to_owned(), Value::Null),
        ("customSubjectAlternativeNames".to_owned(), json!(sans)),
        (VALUE.to_owned(), json!(days / length)),
        (SCALE.to_owned(), json!(scale)),
        ("certificateStore".to_owned(), json!(if text("scope") == "user" { "user" } else { "machine" })),
    ]);
}

/// The template of a payload, to be changed. Without a word of it a certificate is the user's, as `scope` says.
///
/// # Errors
/// 400 when the payload has something else there.
pub(super) fn entry<'a>(body: &'a mut Map<String, Value>, property: &str) -> Result<&'a mut Map<String, Value>> {
    let template = body.entry("template").or_insert_with(|| json!({ "scope": "user" }));
    template.as_object_mut().ok_or_else(|| wrong(property, "part of a template"))
}

/// Writes a property over a payload; `false` when certificates have no such property.
pub(super) fn read(body: &mut Map<String, Value>, property: &str, value: &Value) -> Result<bool> {
    let text = || value.as_str().ok_or_else(|| wrong(property, "a text"));
    match property {
        "renewalThresholdPercentage" => {
            let percent = value.as_i64().ok_or_else(|| wrong(property, "a whole number"))?;
            body.insert("renew-percent".into(), json!(percent));
        }
        "subjectAlternativeNameFormatString" if value.as_str().is_none_or(str::is_empty) => {}
        "subjectAlternativeNameType" if matches!(text()?, "none" | "customAzureADAttribute") => {}
        _ => return read_template(entry(body, property)?, property, value),
    }
    Ok(true)
}

fn read_template(template: &mut Map<String, Value>, property: &str, value: &Value) -> Result<bool> {
    let text = || value.as_str().ok_or_else(|| wrong(property, "a text"));
    match property {
        "subjectNameFormat" => {
            let word = text()?;
            if word != CUSTOM {
                let known = SUBJECTS.iter().find(|(known, _)| *known == word);
                let (_, subject) = known.ok_or_else(|| wrong(property, "one of the formats, or custom with subjectNameFormatString"))?;
                template.insert("subject".into(), json!(subject));
            }
        }
        "subjectNameFormatString" => {
            if let Some(subject) = value.as_str().filter(|subject| !subject.is_empty()) {
                template.insert("subject".into(), json!(subject));
            }
        }
        "customSubjectAlternativeNames" => {
            let san = |san: &Value| {
                let word = san.get("sanType").and_then(Value::as_str).unwrap_or_default();
                let (_, kind) =
                    SANS.iter().find(|(known, _)| *known == word).ok_or_else(|| wrong("sanType", "a type that is supported"))?;
                Ok(json!({ "type": kind, "value": san.get("name").and_then(Value::as_str).ok_or_else(|| wrong("name", "a text"))? }))
            };
            let all = value.as_array().ok_or_else(|| wrong(property, "a list"))?;
            template.insert("sans".into(), all.iter().map(san).collect::<Result<_>>()?);
        }
        LIFE => {
            let part = |name| value.get(name).filter(|part| !part.is_null());
            let count = part(VALUE).and_then(Value::as_i64).filter(|count| (1..=1095).contains(count));
            let count = count.ok_or_else(|| wrong(VALUE, "a whole number"))?;
            let found = SCALES.iter().find(|(word, _)| part(SCALE).and_then(Value::as_str) == Some(word));
            let (_, length) = found.ok_or_else(|| wrong(SCALE, "days, months or years"))?;
            template.insert("days".into(), json!(count.saturating_mul(*length)));
        }
        "certificateStore" => {
            let scope = match text()? {
                "user" => "user",
                "machine" => "device",
                _ => return Err(wrong(property, "user or machine")),
            };
            template.insert("scope".into(), json!(scope));
        }
        _ => return Ok(false),
    }
    Ok(true)
}
