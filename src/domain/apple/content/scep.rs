//! `scep`: the device makes a key and our authority certifies it.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Asked, Target};
use crate::catalogue::Scope;
use crate::catalogue::payload::System;
use crate::domain::certificate::{Grant, KeyAlgorithm, KeyUsage, San, Template};

/// `scep`.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Scep {
    template: Template,
    /// RSA bits.
    key_length: u32,
    /// How much of the life is left when another certificate is asked for, in percent.
    pub(super) renew_percent: u32,
    /// How often the device asks again while the request is pending.
    retry_count: u32,
    /// Seconds between these.
    retry_delay: u32,
    /// The request waits for an administrator.
    pub(super) needs_approval: bool,
    /// The private key may leave the Mac's keychain.
    extractable: bool,
    /// Every program on the Mac may use the key.
    all_apps_access: bool,
}

impl Default for Scep {
    fn default() -> Self {
        Self {
            template: Template::default(),
            key_length: 2048,
            renew_percent: 20,
            retry_count: 3,
            retry_delay: 10,
            needs_approval: false,
            extractable: false,
            all_apps_access: false,
        }
    }
}

impl Scep {
    fn check(&self) -> Result<(), String> {
        let algorithm = match self.key_length {
            2048 => KeyAlgorithm::Rsa2048,
            4096 => KeyAlgorithm::Rsa4096,
            _ => return Err("key-length: 2048 or 4096".into()),
        };
        check_template(&self.template, algorithm, "key-length")?;
        if !(1..=90).contains(&self.renew_percent) {
            return Err("renew-percent: 1 to 90".into());
        }
        if self.retry_count > 30 || !(1..=3600).contains(&self.retry_delay) {
            return Err("retry-count: 0 to 30; retry-delay: 1 to 3600 seconds".into());
        }
        Ok(())
    }

    /// The certificate that the device will ask for.
    pub(super) fn asked(&self, name: &str, target: &Target<'_>) -> Result<Asked, String> {
        self.check()?;
        let mut grant = self.template.resolve(target.variables).map_err(|why| format!("template: {why}"))?;
        grant.payload = Some(name.to_owned());
        Ok(Asked { payload: name.to_owned(), grant, needs_approval: self.needs_approval })
    }

    pub(super) fn payload(&self, grant: &Grant, target: &Target<'_>) -> Result<Value, String> {
        let (subject, names) = names(grant)?;
        let bit = |usage: &KeyUsage| match usage {
            KeyUsage::DigitalSignature => 1,
            KeyUsage::KeyEncipherment => 4,
        };
        let usage: i64 = grant.key_usages.iter().map(bit).fold(0, |sum, bit| sum | bit);
        let mut content = json!({
            "URL": target.scep_url, "Name": target.authority, "Subject": subject, "Keysize": self.key_length, "Key Type": "RSA",
            "Key Usage": usage, "Retries": self.retry_count, "RetryDelay": self.retry_delay,
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
        Ok(json!({ "PayloadContent": content }))
    }
}

/// What the template of a certificate has to be whose key a device makes; `key`: the setting that says which key.
pub(super) fn check_template(template: &Template, algorithm: KeyAlgorithm, key: &str) -> Result<(), String> {
    if template.key_rules.check(algorithm).is_err() {
        return Err(format!("template.key_rules: must accept the key that the device makes ({key})"));
    }
    if template.scope != Scope::Device {
        return Err("template.scope: device; users get no certificates of their own".into());
    }
    if template.key_usages.is_empty() {
        return Err("template.key_usages: at least one".into());
    }
    Ok(())
}

/// Subject and alternative names of a request, as devices take them.
pub(super) fn names(grant: &Grant) -> Result<(Vec<Value>, Map<String, Value>), String> {
    let mut subject = Vec::new();
    for rdn in &grant.subject {
        let [attribute] = rdn.0.as_slice() else { return Err("template.subject: devices take one attribute in each part".into()) };
        subject.push(json!([attribute.kind.oid(), attribute.value]));
    }
    let mut names = Map::new();
    for san in &grant.sans {
        let key = match san {
            San::Email(_) => "rfc822Name",
            San::Dns(_) => "dNSName",
            San::Uri(_) => "uniformResourceIdentifier",
            San::Upn(_) => "ntPrincipalName",
            San::Ip(_) => return Err("template.sans: devices take email, dns, uri and upn".into()),
        };
        if names.insert(key.to_owned(), san.text().into()).is_some() {
            return Err("template.sans: devices take one name of each kind".into());
        }
    }
    Ok((subject, names))
}
