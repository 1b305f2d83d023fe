//! Certificates by SCEP: `windows81SCEPCertificateProfile`, `macOSScepCertificateProfile`, `iosScepCertificateProfile`. The server is this one.

use serde_json::{Map, Value, json};

use super::{Server, Type, only, payload};
use crate::domain::device::Platform;
use crate::domain::profile::Document;
use crate::http::graph::error::{GraphProblem, Result};

const KIND: &str = "scep";
const NAME: &str = "certificate";

const fn of(name: &'static str, platform: Platform) -> Type {
    Type { name, platform, beta: true, fits, write, read }
}

pub(super) const WINDOWS: Type =
    Type { write: write_windows, read: read_windows, ..of("windows81SCEPCertificateProfile", Platform::Windows) };
pub(super) const MACOS: Type = of("macOSScepCertificateProfile", Platform::MacOs);
pub(super) const IOS: Type = of("iosScepCertificateProfile", Platform::Ios);

const PROTECTIONS: [(&str, &str); 4] = [
    ("useTpmKspOtherwiseUseSoftwareKsp", "tpm-else-software"),
    ("useTpmKspOtherwiseFail", "tpm"),
    ("usePassportForWorkKspOtherwiseFail", "hello"),
    ("useSoftwareKsp", "software"),
];
/// Formats of subjects, each as the text that it stands for.
const SUBJECTS: [(&str, &str); 6] = [
    ("commonName", "CN={{UserName}}"),
    ("commonNameIncludingEmail", "CN={{UserName}},E={{EmailAddress}}"),
    ("commonNameAsEmail", "CN={{EmailAddress}}"),
    ("commonNameAsSerialNumber", "CN={{SerialNumber}}"),
    ("commonNameAsIMEI", "CN={{IMEI}}"),
    ("commonNameAsAadDeviceId", "CN={{AAD_Device_ID}}"),
];
const DEVICE_ID: (&str, &str) = ("commonNameAsIntuneDeviceId", "CN={{DeviceId}}");
const CUSTOM: &str = "custom";
const SANS: [(&str, &str); 4] =
    [("userPrincipalName", "upn"), ("emailAddress", "email"), ("domainNameService", "dns"), ("universalResourceIdentifier", "uri")];
const USAGES: [(&str, &str); 5] = [
    ("Client Authentication", "1.3.6.1.5.5.7.3.2"),
    ("Server Authentication", "1.3.6.1.5.5.7.3.1"),
    ("Secure Email", "1.3.6.1.5.5.7.3.4"),
    ("Smart Card Logon", "1.3.6.1.4.1.311.20.2.2"),
    ("Any Purpose", "2.5.29.37.0"),
];
const KEY_USAGES: [(&str, &str); 2] = [("digitalSignature", "digital-signature"), ("keyEncipherment", "key-encipherment")];
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

fn fits(document: &Document) -> bool {
    only(document, KIND).is_some()
}

fn template(document: &Document) -> Map<String, Value> {
    let found = only(document, KIND).and_then(|payload| payload.body.get("template")).and_then(Value::as_object);
    found.cloned().unwrap_or_default()
}

fn format_of(subject: &str) -> &'static str {
    SUBJECTS.iter().chain([&DEVICE_ID]).find(|(_, text)| *text == subject).map_or(CUSTOM, |(word, _)| word)
}

fn write(server: &Server<'_>, document: &Document, whole: &mut Map<String, Value>) {
    let Some(payload) = only(document, KIND) else { return };
    let template = template(document);
    let text = |name: &str| template.get(name).and_then(Value::as_str).unwrap_or_default();
    let subject = text("subject");
    let days = template.get("days").and_then(Value::as_i64).unwrap_or(365);
    let (scale, length) = SCALES.iter().find(|(_, length)| days % length == 0).copied().unwrap_or(("days", 1));
    let san = |san: &Value| {
        let kind = san.get("type").and_then(Value::as_str).unwrap_or_default();
        let word = SANS.iter().find(|(_, own)| *own == kind)?.0;
        Some(json!({ "sanType": word, "name": san.get("value") }))
    };
    let sans: Vec<Value> = template.get("sans").and_then(Value::as_array).into_iter().flatten().filter_map(san).collect();
    let usage = |oid: &Value| {
        let oid = oid.as_str().unwrap_or_default();
        json!({ "name": USAGES.iter().find(|(_, known)| *known == oid).map_or(oid, |(name, _)| name), "objectIdentifier": oid })
    };
    let usages = template.get("extended_key_usages").and_then(Value::as_array).cloned().unwrap_or_else(|| vec![json!("1.3.6.1.5.5.7.3.2")]);
    let size = payload.body.get("key-length").and_then(Value::as_i64).unwrap_or(2048);
    whole.extend([
        ("renewalThresholdPercentage".to_owned(), payload.body.get("renew-percent").cloned().unwrap_or(json!(20))),
        ("subjectNameFormat".to_owned(), json!(format_of(subject))),
        ("subjectNameFormatString".to_owned(), json!(subject)),
        ("subjectAlternativeNameType".to_owned(), json!("none")),
        ("subjectAlternativeNameFormatString".to_owned(), Value::Null),
        ("customSubjectAlternativeNames".to_owned(), json!(sans)),
        (VALUE.to_owned(), json!(days / length)),
        (SCALE.to_owned(), json!(scale)),
        ("certificateStore".to_owned(), json!(if text("scope") == "user" { "user" } else { "machine" })),
        ("keySize".to_owned(), json!(format!("size{size}"))),
        ("keyUsage".to_owned(), json!(key_usage(&template))),
        ("extendedKeyUsages".to_owned(), usages.iter().map(usage).collect()),
        ("scepServerUrls".to_owned(), json!([scep_url(server)])),
    ]);
}

/// What the key is for, as one word of flags; without it a template has both.
fn key_usage(template: &Map<String, Value>) -> String {
    let stored = template.get("key_usages").and_then(Value::as_array);
    let has = |own: &str| stored.is_none_or(|stored| stored.iter().any(|one| one == own));
    KEY_USAGES.iter().filter(|(_, own)| has(own)).map(|(word, _)| *word).collect::<Vec<_>>().join(",")
}

fn write_windows(server: &Server<'_>, document: &Document, whole: &mut Map<String, Value>) {
    write(server, document, whole);
    let stored = only(document, KIND).and_then(|payload| payload.body.get("key-protection")).and_then(Value::as_str);
    let stored = stored.unwrap_or("tpm-else-software");
    let word = PROTECTIONS.iter().find(|(_, own)| *own == stored).map_or("useTpmKspOtherwiseUseSoftwareKsp", |(word, _)| word);
    whole.insert("keyStorageProvider".into(), json!(word));
    whole.insert("hashAlgorithm".into(), json!("sha2"));
}

/// Where devices ask: the issuing authority of this server.
fn scep_url(server: &Server<'_>) -> String {
    format!("{}/scep/issuing", server.config.web_url())
}

fn wrong(property: &str, expected: &str) -> GraphProblem {
    GraphProblem::invalid(format!("{property} is {expected}."))
}

fn read(server: &Server<'_>, document: &mut Document, property: &str, value: &Value) -> Result<bool> {
    let body = &mut payload(document, KIND, NAME).body;
    let text = || value.as_str().ok_or_else(|| wrong(property, "a text"));
    let number = || value.as_i64().ok_or_else(|| wrong(property, "a whole number"));
    let list = || value.as_array().ok_or_else(|| wrong(property, "a list"));
    match property {
        "renewalThresholdPercentage" => {
            body.insert("renew-percent".into(), json!(number()?));
        }
        "keySize" => {
            let bits = match text()? {
                "size2048" => 2048,
                "size4096" => 4096,
                _ => return Err(wrong(property, "size2048 or size4096")),
            };
            body.insert("key-length".into(), json!(bits));
        }
        "scepServerUrls" => {
            let own = server.config.web_url();
            let all_ours = list()?.iter().all(|url| url.as_str().is_some_and(|url| url.starts_with(&format!("{own}/scep/"))));
            if !all_ours {
                return Err(wrong(property, &format!("the SCEP address of this server ({})", scep_url(server))));
            }
        }
        "subjectAlternativeNameFormatString" if value.as_str().is_none_or(str::is_empty) => {}
        "subjectAlternativeNameType" if matches!(text()?, "none" | "customAzureADAttribute") => {}
        _ => {
            let template = body.entry("template").or_insert_with(|| json!({ "scope": "user" }));
            let template = template.as_object_mut().ok_or_else(|| wrong(property, "part of a template"))?;
            return read_template(template, property, value);
        }
    }
    Ok(true)
}

/// The properties that are of the certificate.
fn read_template(template: &mut Map<String, Value>, property: &str, value: &Value) -> Result<bool> {
    let text = || value.as_str().ok_or_else(|| wrong(property, "a text"));
    let list = || value.as_array().ok_or_else(|| wrong(property, "a list"));
    match property {
        "subjectNameFormat" => {
            let word = text()?;
            if word != CUSTOM {
                let known = SUBJECTS.iter().chain([&DEVICE_ID]).find(|(known, _)| *known == word);
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
            template.insert("sans".into(), list()?.iter().map(san).collect::<Result<_>>()?);
        }
        "keyUsage" => {
            let words: Vec<&str> = text()?.split(',').map(str::trim).collect();
            if words.iter().any(|word| KEY_USAGES.iter().all(|(known, _)| known != word)) {
                return Err(wrong(property, "digitalSignature, keyEncipherment, or both with a comma"));
            }
            let asked = KEY_USAGES.iter().filter(|(known, _)| words.contains(known)).map(|(_, own)| *own).collect::<Vec<_>>();
            template.insert("key_usages".into(), json!(asked));
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
        "extendedKeyUsages" => {
            let oid = |usage: &Value| {
                usage
                    .get("objectIdentifier")
                    .and_then(Value::as_str)
                    .map(|oid| json!(oid))
                    .ok_or_else(|| wrong(property, "a list of usages with objectIdentifier"))
            };
            template.insert("extended_key_usages".into(), list()?.iter().map(oid).collect::<Result<_>>()?);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn read_windows(server: &Server<'_>, document: &mut Document, property: &str, value: &Value) -> Result<bool> {
    match property {
        "keyStorageProvider" => {
            let found = PROTECTIONS.iter().find(|(word, _)| value.as_str() == Some(word));
            let (_, own) = found.ok_or_else(|| wrong(property, "one of keyStorageProviderOption"))?;
            payload(document, KIND, NAME).body.insert("key-protection".into(), json!(own));
            Ok(true)
        }
        "hashAlgorithm" if value.as_str() == Some("sha2") => Ok(true),
        _ => read(server, document, property, value),
    }
}
