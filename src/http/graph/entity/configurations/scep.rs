//! Certificates by SCEP: `windows81SCEPCertificateProfile`, `macOSScepCertificateProfile`, `iosScepCertificateProfile`. The server is this one.

use serde_json::{Map, Value, json};

use super::template::{self, wrong};
use super::{Server, Type, only, payload};
use crate::domain::device::Platform;
use crate::domain::profile::Document;
use crate::http::graph::error::Result;

const KIND: &str = "scep";
const NAME: &str = "certificate";
/// Where a Mac's payload says that every program may use the key.
pub(super) const ALL_APPS: &str = "all-apps-access";

pub(super) const WINDOWS: Type =
    Type { write: write_windows, read: read_windows, ..of("windows81SCEPCertificateProfile", Platform::Windows) };
pub(super) const MACOS: Type =
    Type { channel: true, write: write_mac, read: read_mac, ..of("macOSScepCertificateProfile", Platform::MacOs) };
pub(super) const IOS: Type = of("iosScepCertificateProfile", Platform::Ios);

const fn of(name: &'static str, platform: Platform) -> Type {
    Type { name, platform, beta: true, channel: false, fits, write: write_apple, read }
}

const PROTECTIONS: [(&str, &str); 4] = [
    ("useTpmKspOtherwiseUseSoftwareKsp", "tpm-else-software"),
    ("useTpmKspOtherwiseFail", "tpm"),
    ("usePassportForWorkKspOtherwiseFail", "hello"),
    ("useSoftwareKsp", "software"),
];
const USAGES: [(&str, &str); 5] = [
    ("Client Authentication", "1.3.6.1.5.5.7.3.2"),
    ("Server Authentication", "1.3.6.1.5.5.7.3.1"),
    ("Secure Email", "1.3.6.1.5.5.7.3.4"),
    ("Smart Card Logon", "1.3.6.1.4.1.311.20.2.2"),
    ("Any Purpose", "2.5.29.37.0"),
];
const KEY_USAGES: [(&str, &str); 2] = [("digitalSignature", "digital-signature"), ("keyEncipherment", "key-encipherment")];

fn fits(document: &Document) -> bool {
    only(document, KIND).is_some()
}

fn write(server: &Server<'_>, document: &Document, apple: bool, whole: &mut Map<String, Value>) {
    let Some(payload) = only(document, KIND) else { return };
    template::write(&payload.body, apple, whole);
    let template = template::of(&payload.body);
    let usage = |oid: &Value| {
        let oid = oid.as_str().unwrap_or_default();
        json!({ "name": USAGES.iter().find(|(_, known)| *known == oid).map_or(oid, |(name, _)| name), "objectIdentifier": oid })
    };
    let usages = template.get("extended_key_usages").and_then(Value::as_array).cloned().unwrap_or_else(|| vec![json!("1.3.6.1.5.5.7.3.2")]);
    let size = payload.body.get("key-length").and_then(Value::as_i64).unwrap_or(2048);
    whole.extend([
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
    write(server, document, false, whole);
    let stored = only(document, KIND).and_then(|payload| payload.body.get("key-protection")).and_then(Value::as_str);
    let stored = stored.unwrap_or("tpm-else-software");
    let word = PROTECTIONS.iter().find(|(_, own)| *own == stored).map_or("useTpmKspOtherwiseUseSoftwareKsp", |(word, _)| word);
    whole.insert("keyStorageProvider".into(), json!(word));
    whole.insert("hashAlgorithm".into(), json!("sha2"));
}

fn write_apple(server: &Server<'_>, document: &Document, whole: &mut Map<String, Value>) {
    write(server, document, true, whole);
}

fn write_mac(server: &Server<'_>, document: &Document, whole: &mut Map<String, Value>) {
    write_apple(server, document, whole);
    whole.insert("hashAlgorithm".into(), json!("sha2"));
    let stored = only(document, KIND).and_then(|payload| payload.body.get(ALL_APPS));
    whole.insert("allowAllAppsAccess".into(), json!(stored.and_then(Value::as_bool).unwrap_or_default()));
}

/// Where devices ask: the issuing authority of this server.
fn scep_url(server: &Server<'_>) -> String {
    format!("{}/scep/issuing", server.config.web_url())
}

fn read(server: &Server<'_>, document: &mut Document, property: &str, value: &Value) -> Result<bool> {
    let body = &mut payload(document, KIND, NAME).body;
    let text = || value.as_str().ok_or_else(|| wrong(property, "a text"));
    let list = || value.as_array().ok_or_else(|| wrong(property, "a list"));
    match property {
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
        "keyUsage" => {
            let words: Vec<&str> = text()?.split(',').map(str::trim).collect();
            if words.iter().any(|word| KEY_USAGES.iter().all(|(known, _)| known != word)) {
                return Err(wrong(property, "digitalSignature, keyEncipherment, or both with a comma"));
            }
            let asked = KEY_USAGES.iter().filter(|(known, _)| words.contains(known)).map(|(_, own)| *own).collect::<Vec<_>>();
            template::entry(body, property)?.insert("key_usages".into(), json!(asked));
        }
        "extendedKeyUsages" => {
            let oid = |usage: &Value| {
                let oid = usage.get("objectIdentifier").and_then(Value::as_str).map(|oid| json!(oid));
                oid.ok_or_else(|| wrong(property, "a list of usages with objectIdentifier"))
            };
            let all: Value = list()?.iter().map(oid).collect::<Result<_>>()?;
            template::entry(body, property)?.insert("extended_key_usages".into(), all);
        }
        _ => return template::read(body, property, value),
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

fn read_mac(server: &Server<'_>, document: &mut Document, property: &str, value: &Value) -> Result<bool> {
    match property {
        "hashAlgorithm" if value.as_str() == Some("sha2") => Ok(true),
        "allowAllAppsAccess" => {
            let allowed = value.as_bool().ok_or_else(|| wrong(property, "true or false"))?;
            payload(document, KIND, NAME).body.insert(ALL_APPS.into(), json!(allowed));
            Ok(true)
        }
        _ => read(server, document, property, value),
    }
}
