//! Certificates whose key the server makes (`macOSPkcsCertificateProfile`, `iosPkcsCertificateProfile`), and those that were brought for a
//! person (`macOSImportedPFXCertificateProfile`, `iosImportedPFXCertificateProfile`).

use serde_json::{Map, Value, json};

use super::scep::ALL_APPS;
use super::template::{self, wrong};
use super::{Server, Type, only, payload};
use crate::domain::device::Platform;
use crate::domain::pfx::Purpose;
use crate::domain::profile::Document;
use crate::http::graph::error::Result;

const MADE: &str = "pkcs12";
const IMPORTED: &str = "imported-pfx";
const NAME: &str = "certificate";
/// What the authority that certifies is called in addresses.
const AUTHORITY: &str = "issuing";

pub(super) const MACOS: Type = Type {
    name: "macOSPkcsCertificateProfile",
    platform: Platform::MacOs,
    beta: true,
    channel: true,
    fits,
    write: write_mac,
    read: read_mac,
};
pub(super) const IOS: Type =
    Type { name: "iosPkcsCertificateProfile", platform: Platform::Ios, beta: true, channel: false, fits, write, read };
pub(super) const IMPORTED_MACOS: Type = Type {
    name: "macOSImportedPFXCertificateProfile",
    platform: Platform::MacOs,
    beta: true,
    channel: true,
    fits: fits_imported,
    write: write_imported,
    read: read_imported,
};
pub(super) const IMPORTED_IOS: Type =
    Type { name: "iosImportedPFXCertificateProfile", platform: Platform::Ios, channel: false, ..IMPORTED_MACOS };

/// What imported identities are for, in the words of Graph.
pub(in crate::http::graph::entity) const PURPOSES: [(&str, Purpose); 4] = [
    ("smimeEncryption", Purpose::SmimeEncryption),
    ("smimeSigning", Purpose::SmimeSigning),
    ("vpn", Purpose::Vpn),
    ("wifi", Purpose::Wifi),
];

fn fits(document: &Document) -> bool {
    only(document, MADE).is_some()
}

fn fits_imported(document: &Document) -> bool {
    only(document, IMPORTED).is_some()
}

fn write(server: &Server<'_>, document: &Document, whole: &mut Map<String, Value>) {
    let Some(payload) = only(document, MADE) else { return };
    template::write(&payload.body, true, whole);
    whole.extend([
        ("certificationAuthority".to_owned(), json!(server.config.web_host())),
        ("certificationAuthorityName".to_owned(), json!(AUTHORITY)),
        ("certificateTemplateName".to_owned(), json!("")),
    ]);
}

fn write_mac(server: &Server<'_>, document: &Document, whole: &mut Map<String, Value>) {
    write(server, document, whole);
    let stored = only(document, MADE).and_then(|payload| payload.body.get(ALL_APPS));
    whole.insert("allowAllAppsAccess".into(), json!(stored.and_then(Value::as_bool).unwrap_or_default()));
}

fn read(server: &Server<'_>, document: &mut Document, property: &str, value: &Value) -> Result<bool> {
    let body = &mut payload(document, MADE, NAME).body;
    let unset = || value.as_str().is_none_or(str::is_empty);
    match property {
        "certificationAuthority" if unset() || value.as_str() == Some(&server.config.web_host()) => Ok(true),
        "certificationAuthority" => Err(wrong(property, &format!("that of this server ({})", server.config.web_host()))),
        "certificationAuthorityName" if unset() || value.as_str() == Some(AUTHORITY) => Ok(true),
        "certificationAuthorityName" => Err(wrong(property, &format!("{AUTHORITY}: another one certifies no keys that are made here"))),
        // There are no templates beside what the profile says.
        "certificateTemplateName" if unset() => Ok(true),
        _ => template::read(body, property, value),
    }
}

fn read_mac(server: &Server<'_>, document: &mut Document, property: &str, value: &Value) -> Result<bool> {
    if property != "allowAllAppsAccess" {
        return read(server, document, property, value);
    }
    let allowed = value.as_bool().ok_or_else(|| wrong(property, "true or false"))?;
    payload(document, MADE, NAME).body.insert(ALL_APPS.into(), json!(allowed));
    Ok(true)
}

fn write_imported(_: &Server<'_>, document: &Document, whole: &mut Map<String, Value>) {
    let stored = only(document, IMPORTED).and_then(|payload| payload.body.get("purpose")).and_then(Value::as_str).and_then(Purpose::parse);
    let word = PURPOSES.iter().find(|(_, purpose)| Some(*purpose) == stored).map_or("unassigned", |(word, _)| word);
    whole.insert("intendedPurpose".into(), json!(word));
}

fn read_imported(_: &Server<'_>, document: &mut Document, property: &str, value: &Value) -> Result<bool> {
    if property != "intendedPurpose" {
        return Ok(false);
    }
    let found = PURPOSES.iter().find(|(word, _)| value.as_str() == Some(word));
    let (_, purpose) = found.ok_or_else(|| wrong(property, "smimeEncryption, smimeSigning, vpn or wifi"))?;
    payload(document, IMPORTED, NAME).body.insert("purpose".into(), json!(purpose));
    Ok(true)
}
