//! Trusted root certificates: `windows81TrustedRootCertificate`, `macOSTrustedRootCertificate`, `iosTrustedRootCertificate`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{Server, Type, only, payload};
use crate::domain::device::Platform;
use crate::domain::profile::Document;
use crate::http::graph::error::{GraphProblem, Result};

const KIND: &str = "trusted-certificate";
const STORES: [(&str, &str); 2] = [("computerCertStoreRoot", "Root"), ("computerCertStoreIntermediate", "CA")];

const fn of(name: &'static str, platform: Platform) -> Type {
    Type { name, platform, beta: true, channel: false, fits, write, read }
}

pub(super) const WINDOWS: Type =
    Type { write: write_windows, read: read_windows, ..of("windows81TrustedRootCertificate", Platform::Windows) };
pub(super) const MACOS: Type = Type { channel: true, ..of("macOSTrustedRootCertificate", Platform::MacOs) };
pub(super) const IOS: Type = of("iosTrustedRootCertificate", Platform::Ios);

fn fits(document: &Document) -> bool {
    only(document, KIND).is_some_and(|payload| payload.body.contains_key("certificate"))
}

fn write(_: &Server<'_>, document: &Document, whole: &mut Map<String, Value>) {
    let Some(payload) = only(document, KIND) else { return };
    let pem = payload.body.get("certificate").and_then(Value::as_str).unwrap_or_default();
    // What is between the lines of a PEM file is DER in base64.
    let der: String = pem.lines().filter(|line| !line.starts_with("-----")).flat_map(str::chars).filter(|c| !c.is_whitespace()).collect();
    whole.insert("trustedRootCertificate".into(), json!(der));
    whole.insert("certFileName".into(), json!(format!("{}.cer", payload.name)));
}

fn write_windows(server: &Server<'_>, document: &Document, whole: &mut Map<String, Value>) {
    write(server, document, whole);
    let stored = only(document, KIND).and_then(|payload| payload.body.get("store")).and_then(Value::as_str).unwrap_or("Root");
    let word = STORES.iter().find(|(_, own)| *own == stored).map_or("computerCertStoreRoot", |(word, _)| word);
    whole.insert("destinationStore".into(), json!(word));
}

fn read(_: &Server<'_>, document: &mut Document, property: &str, value: &Value) -> Result<bool> {
    match property {
        "trustedRootCertificate" => {
            let wrong = || GraphProblem::invalid("trustedRootCertificate is a certificate (DER or PEM) in base64.");
            let bytes = value.as_str().and_then(|text| STANDARD.decode(text).ok()).ok_or_else(wrong)?;
            let pem = match std::str::from_utf8(&bytes) {
                Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => text.to_owned(),
                _ => {
                    crate::wire::x509::Parts::parse(&bytes).map_err(|_| wrong())?;
                    let encoded = STANDARD.encode(&bytes);
                    let lines: Vec<&str> = encoded.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
                    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
                }
            };
            payload(document, KIND, "root").body.insert("certificate".into(), json!(pem));
        }
        "certFileName" => {
            let name = value.as_str().unwrap_or_default();
            let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
            let clean: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(64).collect();
            if !clean.is_empty() {
                payload(document, KIND, "root").name = clean;
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn read_windows(server: &Server<'_>, document: &mut Document, property: &str, value: &Value) -> Result<bool> {
    if property != "destinationStore" {
        return read(server, document, property, value);
    }
    let found = STORES.iter().find(|(word, _)| value.as_str() == Some(word));
    let (_, store) =
        found.ok_or_else(|| GraphProblem::invalid("destinationStore is computerCertStoreRoot or computerCertStoreIntermediate."))?;
    payload(document, KIND, "root").body.insert("store".into(), json!(store));
    Ok(true)
}
