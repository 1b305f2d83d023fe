//! Custom configurations: `windows10CustomConfiguration` with nodes of Windows, `macOSCustomConfiguration` and `iosCustomConfiguration` with a
//! profile of Apple. They also stand for profiles that no other type has a shape for: of those name, description and assignments are changed
//! here, and what is in them by the command line.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{Server, Type};
use crate::catalogue::payload::HIDDEN;
use crate::domain::device::Platform;
use crate::domain::profile::{Custom, Document};
use crate::http::graph::error::{GraphProblem, Result};

pub(super) const WINDOWS: Type =
    Type { name: "windows10CustomConfiguration", platform: Platform::Windows, beta: false, channel: false, fits: |_| true, write, read };
pub(super) const MACOS: Type =
    Type { name: "macOSCustomConfiguration", platform: Platform::MacOs, channel: true, write: write_apple, read: read_apple, ..WINDOWS };
pub(super) const IOS: Type = Type { name: "iosCustomConfiguration", platform: Platform::Ios, channel: false, ..MACOS };

/// The payload that holds a whole profile.
const APPLE: &str = "mobileconfig";

/// The types of a node's value, each with its format in OMA-DM.
const FORMATS: [(&str, &str); 7] = [
    ("omaSettingString", "chr"),
    ("omaSettingInteger", "int"),
    ("omaSettingBoolean", "bool"),
    ("omaSettingFloatingPoint", "float"),
    ("omaSettingDateTime", "time"),
    ("omaSettingBase64", "b64"),
    ("omaSettingStringXml", "xml"),
];

fn write(_: &Server<'_>, document: &Document, whole: &mut Map<String, Value>) {
    let show = |node: &Custom| {
        let word = FORMATS.iter().find(|(_, format)| *format == node.format).map_or("omaSettingString", |(word, _)| word);
        let value = match node.format.as_str() {
            "int" => node.value.parse::<i64>().map_or(Value::Null, Value::from),
            "bool" => json!(node.value == "true"),
            "float" => node.value.parse::<f64>().map_or(Value::Null, Value::from),
            "xml" if node.value != HIDDEN => json!(STANDARD.encode(&node.value)),
            _ => json!(node.value),
        };
        json!({
            "@odata.type": format!("#microsoft.graph.{word}"),
            "displayName": node.name,
            "description": null,
            "omaUri": node.uri,
            "value": value,
        })
    };
    whole.insert("omaSettings".into(), document.custom.iter().map(show).collect());
}

fn read(_: &Server<'_>, document: &mut Document, property: &str, value: &Value) -> Result<bool> {
    if property != "omaSettings" {
        return Ok(false);
    }
    let wrong = |what: &str| GraphProblem::invalid(format!("omaSettings: {what}."));
    let all = value.as_array().ok_or_else(|| wrong("a list"))?;
    let node = |one: &Value| {
        let text = |name: &str| one.get(name).and_then(Value::as_str);
        let kind = text("@odata.type").unwrap_or_default().trim_start_matches('#').trim_start_matches("microsoft.graph.");
        let (_, format) =
            FORMATS.iter().find(|(word, _)| *word == kind).ok_or_else(|| wrong("each has an @odata.type such as omaSettingString"))?;
        let value = match (*format, one.get("value")) {
            ("xml", Some(Value::String(encoded))) => {
                let bytes = STANDARD.decode(encoded).map_err(|_| wrong("the value of omaSettingStringXml is base64"))?;
                String::from_utf8(bytes).map_err(|_| wrong("the value of omaSettingStringXml is UTF-8"))?
            }
            (_, Some(Value::String(text))) => text.clone(),
            (_, Some(value @ (Value::Number(_) | Value::Bool(_)))) => value.to_string(),
            _ => return Err(wrong("each has a value")),
        };
        let uri = text("omaUri").ok_or_else(|| wrong("each has an omaUri"))?.to_owned();
        Ok(Custom { name: text("displayName").unwrap_or_default().to_owned(), uri, format: (*format).to_owned(), value })
    };
    document.custom = all.iter().map(node).collect::<Result<_>>()?;
    Ok(true)
}

fn write_apple(_: &Server<'_>, document: &Document, whole: &mut Map<String, Value>) {
    let payload = document.payloads.iter().find(|payload| payload.kind == APPLE);
    let content = payload.and_then(|payload| payload.body.get("content")).and_then(Value::as_str).filter(|content| *content != HIDDEN);
    whole.insert("payloadName".into(), json!(payload.map(|payload| payload.name.clone())));
    whole.insert("payloadFileName".into(), json!(payload.map(|payload| format!("{}.mobileconfig", payload.name))));
    whole.insert("payload".into(), json!(content.map(|content| STANDARD.encode(content))));
}

fn read_apple(_: &Server<'_>, document: &mut Document, property: &str, value: &Value) -> Result<bool> {
    match property {
        "payload" => {
            let wrong = || GraphProblem::invalid("payload is a configuration profile in base64.");
            let bytes = value.as_str().and_then(|text| STANDARD.decode(text).ok()).ok_or_else(wrong)?;
            let text = String::from_utf8(bytes).map_err(|_| wrong())?;
            super::payload(document, APPLE, "profile").body.insert("content".into(), json!(text));
        }
        "payloadName" | "payloadFileName" => {}
        _ => return Ok(false),
    }
    Ok(true)
}
