//! `pkcs12`: the server makes a key, certifies it and hands it out; and `imported-pfx`: what an administrator brought for the device's user.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Target, fields};
use crate::catalogue::OsVersion;
use crate::catalogue::payload::System;
use crate::clock::Time;
use crate::domain::certificate::{Grant, KeyAlgorithm, Template, Variables};
use crate::domain::pfx::{self, Pfx, Purpose};
use crate::domain::profile::Payload;
use crate::wire::apple::profile::{Content, Profile};
use crate::wire::plist::Data;

pub(super) const PKCS12: &str = "com.apple.security.pkcs12";
/// How many letters of a certificate's hash tell one imported identity from another.
const SHORT: usize = 12;

/// `pkcs12`.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Pkcs12 {
    /// Of the device, or of its user.
    template: Template,
    /// What key is made.
    key: KeyAlgorithm,
    /// How much of the life is left when another one takes its place, in percent.
    pub(super) renew_percent: u32,
    /// The private key may leave the Mac's keychain.
    extractable: bool,
    /// Every program on the Mac may use the key.
    all_apps_access: bool,
}

impl Default for Pkcs12 {
    fn default() -> Self {
        Self { template: Template::default(), key: KeyAlgorithm::Rsa2048, renew_percent: 20, extractable: false, all_apps_access: false }
    }
}

/// A key that has to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The payload's name.
    pub payload: String,
    /// What its certificate says.
    pub grant: Grant,
    /// What key.
    pub key: KeyAlgorithm,
    /// How much of the life is left when another one takes its place, in percent.
    pub renew_percent: u32,
}

impl Pkcs12 {
    fn check(&self) -> Result<(), String> {
        if self.template.key_rules.check(self.key).is_err() {
            return Err("template.key_rules: must accept the key that is made (key)".into());
        }
        if !(1..=90).contains(&self.renew_percent) {
            return Err("renew-percent: 1 to 90".into());
        }
        Ok(())
    }

    /// Everything but file and password.
    pub(super) fn payload(&self, name: &str) -> Value {
        empty(name, self.extractable, self.all_apps_access)
    }
}

/// `imported-pfx`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Imported {
    purpose: Purpose,
    #[serde(default)]
    extractable: bool,
    #[serde(default)]
    all_apps_access: bool,
}

impl Imported {
    /// The parts that it becomes: the identity, its name, and all but file and password.
    pub(super) fn parts<'t>(&self, name: &str, target: &Target<'t>) -> Result<Vec<(&'t Pfx, String, Value)>, String> {
        let chosen = pfx::chosen(target.imported, self.purpose, target.now);
        if chosen.is_empty() {
            return Err(format!("the user has no imported identity for {}", self.purpose));
        }
        let part = |pfx: &'t Pfx| {
            let part = part_name(name, pfx);
            let body = empty(&part, self.extractable, self.all_apps_access);
            (pfx, part, body)
        };
        Ok(chosen.into_iter().map(part).collect())
    }
}

fn empty(name: &str, extractable: bool, all_apps_access: bool) -> Value {
    json!({
        "PayloadContent": "", "Password": "", "PayloadCertificateFileName": format!("{name}.p12"),
        "KeyIsExtractable": extractable, "AllowAllAppsAccess": all_apps_access,
    })
}

fn part_name(name: &str, pfx: &Pfx) -> String {
    format!("{name}-{}", pfx.sha256.get(..SHORT).unwrap_or(&pfx.sha256))
}

/// The part that a payload is meant by, when another payload names it: of several imported identities the one that counts first.
pub(super) fn referred(payload: &Payload, target: &Target<'_>) -> Option<String> {
    if payload.kind != "imported-pfx" {
        return Some(payload.name.clone());
    }
    let imported: Imported = fields(&payload.body).ok()?;
    pfx::chosen(target.imported, imported.purpose, target.now).first().map(|pfx| part_name(&payload.name, pfx))
}

/// Whether a profile hands out identities that were imported for the device's user.
#[must_use]
pub fn imports(payloads: &[Payload]) -> bool {
    payloads.iter().any(|payload| payload.kind == "imported-pfx")
}

/// Whether the user has something for each of a profile's payloads that hand out imported identities.
#[must_use]
pub fn has_imported(payloads: &[Payload], all: &[Pfx], now: Time) -> bool {
    let has = |payload: &Payload| fields::<Imported>(&payload.body).is_ok_and(|own| !pfx::chosen(all, own.purpose, now).is_empty());
    payloads.iter().filter(|payload| payload.kind == "imported-pfx").all(has)
}

/// The keys that a profile has made for the device.
///
/// # Errors
/// The name of the payload and what is wrong with it.
pub fn wanted(payloads: &[Payload], variables: &Variables) -> Result<Vec<Wanted>, (String, String)> {
    let one = |payload: &Payload| {
        let made = fields(&payload.body).and_then(|own: Pkcs12| want(&payload.name, &own, variables));
        made.map_err(|why| (payload.name.clone(), why))
    };
    payloads.iter().filter(|payload| payload.kind == "pkcs12").map(one).collect()
}

/// The key that one of them has made.
pub(super) fn want(name: &str, own: &Pkcs12, variables: &Variables) -> Result<Wanted, String> {
    own.check()?;
    let mut grant = own.template.resolve(variables).map_err(|why| format!("template: {why}"))?;
    grant.payload = Some(name.to_owned());
    Ok(Wanted { payload: name.to_owned(), grant, key: own.key, renew_percent: own.renew_percent })
}

/// Whether a system opens files that are encrypted with AES; older ones take triple DES only.
#[must_use]
pub fn knows_aes(system: System, version: OsVersion) -> bool {
    let since = match system {
        System::Mac => 15,
        System::Ios => 18,
    };
    version.major >= since
}

/// Puts file and password into a payload of a profile that is put together. The profile's UUID does not depend on them: they are others at
/// each delivery of the same identity.
pub fn fill_identity(profile: &mut Profile, part: &str, file: &[u8], password: &str) {
    let name = format!("{}.{part}", profile.identifier);
    let Content::Plain(payloads) = &mut profile.content else { return };
    if let Some(payload) = payloads.iter_mut().find(|payload| payload.kind == PKCS12 && payload.identifier == name) {
        payload.body.insert("PayloadContent", Data(file.to_vec()));
        payload.body.insert("Password", password);
    }
}
