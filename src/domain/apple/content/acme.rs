//! `acme`: the device makes a key, in hardware where it can, and has it certified by an ACME server; and what devices want of any payload
//! of that kind.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::scep::{check_template, names};
use super::{AskedByAcme, Target};
use crate::catalogue::payload::System;
use crate::domain::certificate::{Grant, KeyAlgorithm, KeyUsage, Template};
use crate::wire::apple::profile::{Content, Profile};

pub(super) const ACME: &str = "com.apple.security.acme";

/// `acme`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Acme {
    /// The server's directory.
    directory_url: String,
    #[serde(default)]
    template: Template,
    #[serde(default = "p384")]
    key: KeyAlgorithm,
    /// The key is made in the Secure Enclave and stays there.
    #[serde(default = "yes")]
    hardware_bound: bool,
    /// Apple's servers attest key and device.
    #[serde(default = "yes")]
    attest: bool,
    /// The private key may leave the Mac's keychain.
    #[serde(default)]
    extractable: bool,
    /// Every program on the Mac may use the key.
    #[serde(default)]
    all_apps_access: bool,
}

fn p384() -> KeyAlgorithm {
    KeyAlgorithm::P384
}

fn yes() -> bool {
    true
}

impl Acme {
    /// The payload but for the identifier, and the certificate that the device will ask for.
    pub(super) fn asked(&self, name: &str, target: &Target<'_>) -> Result<(Value, AskedByAcme), String> {
        check_template(&self.template, self.key, "key")?;
        let mut grant = self.template.resolve(target.variables).map_err(|why| format!("template: {why}"))?;
        let body = self.payload(&grant, target)?;
        check(body.as_object().ok_or("no table")?)?;
        grant.payload = Some(name.to_owned());
        let asked = AskedByAcme { payload: name.to_owned(), grant, hardware_bound: self.hardware_bound, attest: self.attest };
        Ok((body, asked))
    }

    fn payload(&self, grant: &Grant, target: &Target<'_>) -> Result<Value, String> {
        let (subject, names) = names(grant)?;
        let (kind, size) = match self.key {
            KeyAlgorithm::P256 => ("ECSECPrimeRandom", 256),
            KeyAlgorithm::P384 => ("ECSECPrimeRandom", 384),
            KeyAlgorithm::Rsa2048 => ("RSA", 2048),
            KeyAlgorithm::Rsa3072 => ("RSA", 3072),
            KeyAlgorithm::Rsa4096 => ("RSA", 4096),
        };
        let bit = |usage: &KeyUsage| match usage {
            KeyUsage::DigitalSignature => 1,
            // What an elliptic curve's key cannot do is not asked for.
            KeyUsage::KeyEncipherment => i64::from(kind == "RSA") * 4,
        };
        let usage: i64 = grant.key_usages.iter().map(bit).fold(0, |sum, bit| sum | bit);
        let mut content = json!({
            "DirectoryURL": self.directory_url, "ClientIdentifier": "", "KeyType": kind, "KeySize": size,
            "HardwareBound": self.hardware_bound, "Attest": self.attest, "Subject": subject, "UsageFlags": usage.max(1),
            "ExtendedKeyUsage": grant.extended_key_usages,
        });
        if let Some(content) = content.as_object_mut() {
            if !names.is_empty() {
                content.insert("SubjectAltName".into(), names.into());
            }
            if target.system == System::Mac {
                content.insert("KeyIsExtractable".into(), self.extractable.into());
                content.insert("AllowAllAppsAccess".into(), self.all_apps_access.into());
            }
        }
        Ok(content)
    }
}

/// What has to hold between the keys of a payload: devices refuse the rest, or ask a server for what it cannot give.
pub(super) fn check(body: &Map<String, Value>) -> Result<(), String> {
    let is = |key: &str| body.get(key).and_then(Value::as_bool).unwrap_or_default();
    let size = body.get("KeySize").and_then(Value::as_i64).unwrap_or_default();
    let curve = body.get("KeyType").and_then(Value::as_str) == Some("ECSECPrimeRandom");
    let url = body.get("DirectoryURL").and_then(Value::as_str).unwrap_or_default();
    if !url.strip_prefix("https://").is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/')) {
        return Err("DirectoryURL: https://…".into());
    }
    let bound = is("HardwareBound");
    if bound && !(curve && matches!(size, 256 | 384)) {
        return Err("HardwareBound: needs KeyType ECSECPrimeRandom and KeySize 256 or 384".into());
    }
    if is("Attest") && !bound {
        return Err("Attest: needs HardwareBound".into());
    }
    if bound && is("KeyIsExtractable") {
        return Err("KeyIsExtractable: not with HardwareBound".into());
    }
    let possible = if curve { matches!(size, 256 | 384 | 521) } else { (2048..=4096).contains(&size) && size % 8 == 0 };
    if !possible {
        return Err("KeySize: 256, 384 or 521 for ECSECPrimeRandom, 2048 to 4096 in steps of 8 for RSA".into());
    }
    let flags = body.get("UsageFlags").and_then(Value::as_i64).unwrap_or(1);
    if flags & !5 != 0 || flags == 0 {
        return Err("UsageFlags: 1 (sign), 4 (encrypt) or 5".into());
    }
    let usages = body.get("ExtendedKeyUsage").and_then(Value::as_array).into_iter().flatten();
    match usages.filter_map(Value::as_str).find(|usage| der::asn1::ObjectIdentifier::new(usage).is_err()) {
        Some(usage) => Err(format!("ExtendedKeyUsage: {usage} is no object identifier")),
        None => Ok(()),
    }
}

/// Puts the identifier into a payload of a profile that is put together. The profile's UUID does not depend on it: it is another one at
/// each delivery of the same content.
pub fn fill_client(profile: &mut Profile, payload: &str, identifier: &str) {
    let name = format!("{}.{payload}", profile.identifier);
    let Content::Plain(payloads) = &mut profile.content else { return };
    if let Some(payload) = payloads.iter_mut().find(|payload| payload.kind == ACME && payload.identifier == name) {
        payload.body.insert("ClientIdentifier", identifier);
    }
}
