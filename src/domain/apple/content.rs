//! What the payloads of a profile's document become on one device: the parts of a configuration profile, and declarations.
//!
//! A document names payloads of the catalogue by Apple's own types and keys; three kinds are ours: `trusted-certificate`, `scep` (the
//! device makes a key and our authority certifies it) and `mobileconfig` (a profile that was made elsewhere).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::x509::X509;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::declarations::{Wanted, identifier};
use super::profile::{Names, Part};
use super::sso;
use crate::catalogue::payload::{Device, Form, System};
use crate::catalogue::{Catalogue, OsVersion, PayloadRow, Scope};
use crate::domain::certificate::{Grant, KeyAlgorithm, KeyUsage, San, Template, Variables};
use crate::domain::device::Platform;
use crate::domain::profile::Payload;
use crate::ids::TenantId;
use crate::wire::apple::ddm::Kind;
use crate::wire::apple::profile::{Content, Profile};
use crate::wire::plist::{self, Dict};

const ROOT: &str = "com.apple.security.root";
const INTERMEDIATE: &str = "com.apple.security.pkcs1";
const SCEP: &str = "com.apple.security.scep";
/// The enrolment itself: nothing that a profile may bring.
const ENROLMENT: [&str; 2] = ["com.apple.mdm", "Configuration"];

/// The device and the server for which payloads are made.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// The operating system.
    pub system: System,
    /// Its version.
    pub version: OsVersion,
    /// The organisation's names.
    pub names: &'a Names,
    /// The profile's identifier on the device.
    pub identifier: &'a str,
    /// Which generation of a payload, by its name.
    pub generation: &'a (dyn Fn(&str) -> String + Sync),
    /// The authority's root, DER.
    pub root: &'a [u8],
    /// The authority's own certificate, DER.
    pub issuing: &'a [u8],
    /// The certificate for which recovery keys are encrypted, DER.
    pub escrow: &'a [u8],
    /// Where SCEP requests go.
    pub scep_url: &'a str,
    /// The authority's name.
    pub authority: &'a str,
    /// What templates are filled with.
    pub variables: &'a Variables,
}

/// A certificate that the device will ask for.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The payload's name.
    pub payload: String,
    /// What it may ask for.
    pub grant: Grant,
    /// Whether an administrator has to agree.
    pub needs_approval: bool,
}

/// The parts of a profile, and the certificates that come with it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Built {
    /// The parts, in order.
    pub parts: Vec<Part>,
    /// The certificates.
    pub certificates: Vec<Asked>,
}

/// The system of a platform; `None` for those that are not Apple's.
#[must_use]
pub fn system(platform: Platform) -> Option<System> {
    match platform {
        Platform::MacOs => Some(System::Mac),
        Platform::Ios => Some(System::Ios),
        Platform::Windows | Platform::Android => None,
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Which {
    Root,
    Issuing,
    Escrow,
}

/// `trusted-certificate`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Trusted {
    /// One of our own authorities …
    #[serde(default)]
    authority: Option<Which>,
    /// … or a certificate as PEM.
    #[serde(default)]
    certificate: Option<String>,
}

/// `scep`.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Scep {
    template: Template,
    /// RSA bits.
    key_length: u32,
    /// How much of the life is left when another certificate is asked for, in percent.
    renew_percent: u32,
    /// How often the device asks again while the request is pending.
    retry_count: u32,
    /// Seconds between these.
    retry_delay: u32,
    /// The request waits for an administrator.
    needs_approval: bool,
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

/// `mobileconfig`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mobileconfig {
    /// The document, as XML or as Base64 of it; without a signature.
    content: String,
}

fn fields<T: DeserializeOwned>(body: &Map<String, Value>) -> Result<T, String> {
    serde_json::from_value(Value::Object(body.clone())).map_err(|error| error.to_string())
}

impl Trusted {
    /// The type of its payload, and the certificate.
    fn resolve(&self, target: &Target<'_>) -> Result<(&'static str, Vec<u8>), String> {
        match (self.authority, &self.certificate) {
            (Some(Which::Root), None) => Ok((ROOT, target.root.to_vec())),
            (Some(Which::Issuing), None) => Ok((INTERMEDIATE, target.issuing.to_vec())),
            (Some(Which::Escrow), None) => Ok((INTERMEDIATE, target.escrow.to_vec())),
            (None, Some(pem)) => {
                let wrong = |_| "certificate: not a certificate in PEM".to_owned();
                let certificate = X509::from_pem(pem.as_bytes()).map_err(wrong)?;
                let order = certificate.subject_name().try_cmp(certificate.issuer_name()).map_err(wrong)?;
                Ok((if order.is_eq() { ROOT } else { INTERMEDIATE }, certificate.to_der().map_err(wrong)?))
            }
            _ => Err("exactly one of authority and certificate is needed".into()),
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
        if self.template.key_rules.check(algorithm).is_err() {
            return Err("template.key_rules: must accept the RSA key that the device makes (key-length)".into());
        }
        if !(1..=90).contains(&self.renew_percent) {
            return Err("renew-percent: 1 to 90".into());
        }
        if self.retry_count > 30 || !(1..=3600).contains(&self.retry_delay) {
            return Err("retry-count: 0 to 30; retry-delay: 1 to 3600 seconds".into());
        }
        if self.template.scope != Scope::Device {
            return Err("template.scope: certificates of users need their user channel; device".into());
        }
        if self.template.key_usages.is_empty() {
            return Err("template.key-usages: at least one".into());
        }
        Ok(())
    }

    fn payload(&self, grant: &Grant, target: &Target<'_>) -> Result<Value, String> {
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

impl Mobileconfig {
    fn read(&self) -> Result<Profile, String> {
        let text = self.content.trim();
        let document = if text.starts_with('<') {
            text.as_bytes().to_vec()
        } else {
            let compact: String = text.split_whitespace().collect();
            STANDARD.decode(compact).map_err(|_| "content: neither XML nor Base64".to_owned())?
        };
        let profile =
            Profile::decode(&document).map_err(|why| format!("content: {why}; a signed profile has to be given without its signature"))?;
        if matches!(profile.content, Content::Encrypted(_)) {
            return Err("content: the profile is encrypted to some device".into());
        }
        if profile.payloads().is_empty() {
            return Err("content: the profile has no payloads".into());
        }
        match profile.payloads().iter().find(|payload| ENROLMENT.contains(&payload.kind.as_str())) {
            Some(payload) => Err(format!("content: {} cannot come with a profile", payload.kind)),
            None => Ok(profile),
        }
    }

    /// The payloads under names of ours. What names another payload by its UUID names it by the new one.
    fn parts(&self, name: &str, target: &Target<'_>) -> Result<Vec<Part>, String> {
        let profile = self.read()?;
        let generation = (target.generation)(name);
        let named = |at: usize| format!("{name}-{}", at + 1);
        let renamed: BTreeMap<String, String> = profile
            .payloads()
            .iter()
            .enumerate()
            .map(|(at, payload)| (payload.uuid.clone(), target.names.payload_uuid(target.identifier, &named(at), &generation)))
            .collect();
        let part = |(at, payload): (usize, &crate::wire::apple::profile::Payload)| Part {
            kind: payload.kind.clone(),
            name: named(at),
            generation: generation.clone(),
            body: payload.body.iter().map(|(key, value)| (key.to_owned(), rename(value, &renamed))).collect(),
        };
        Ok(profile.payloads().iter().enumerate().map(part).collect())
    }
}

fn rename(value: &plist::Value, renamed: &BTreeMap<String, String>) -> plist::Value {
    match value {
        plist::Value::String(text) => plist::Value::String(renamed.get(text).unwrap_or(text).clone()),
        plist::Value::Array(items) => plist::Value::Array(items.iter().map(|item| rename(item, renamed)).collect()),
        plist::Value::Dict(dict) => plist::Value::Dict(dict.iter().map(|(key, value)| (key.to_owned(), rename(value, renamed))).collect()),
        other => other.clone(),
    }
}

/// How much of the life of a payload's certificate is left when another one is asked for, in percent; `None` for other payloads.
#[must_use]
pub fn renewal(payload: &Payload) -> Option<u32> {
    (payload.kind == "scep").then(|| fields::<Scep>(&payload.body).map_or(20, |scep| scep.renew_percent))
}

/// Whether a device of that version can have all of the payloads.
#[must_use]
pub fn supports(payloads: &[Payload], system: System, version: OsVersion, catalogue: &Catalogue) -> bool {
    payloads.iter().filter_map(|payload| catalogue.payload(&payload.kind)).all(|row| row.supports(system, version))
}

/// Makes the parts of a profile.
///
/// # Errors
/// The name of the payload and what is wrong with it.
pub fn build(payloads: &[Payload], target: &Target<'_>, catalogue: &Catalogue) -> Result<Built, (String, String)> {
    let uuid_of = |name: &str| {
        let known = payloads.iter().find(|payload| payload.name == name)?;
        Some(target.names.payload_uuid(target.identifier, &known.name, &(target.generation)(name)))
    };
    let device = Device { system: target.system, version: target.version, uuid_of: &uuid_of };
    let row = |kind: &str| catalogue.payload(kind).filter(|row| row.form == Form::Profile);
    let mut built = Built::default();
    let mut parts: Vec<(i32, Part)> = Vec::new();
    for payload in payloads {
        let mut one = || -> Result<(), String> {
            let mut add = |kind: &str, body: &Value| {
                let row = row(kind).ok_or_else(|| format!("there is no payload of the type {kind}"))?;
                let part = Part {
                    kind: kind.to_owned(),
                    name: payload.name.clone(),
                    generation: (target.generation)(&payload.name),
                    body: encode(row, body.as_object().ok_or("no table")?, &device)?,
                };
                parts.push((row.order, part));
                Ok::<_, String>(())
            };
            match payload.kind.as_str() {
                "trusted-certificate" => {
                    let (kind, der) = fields::<Trusted>(&payload.body)?.resolve(target)?;
                    add(kind, &json!({ "PayloadContent": STANDARD.encode(der) }))
                }
                "scep" => {
                    let scep: Scep = fields(&payload.body)?;
                    scep.check()?;
                    let mut grant = scep.template.resolve(target.variables).map_err(|why| format!("template: {why}"))?;
                    add(SCEP, &scep.payload(&grant, target)?)?;
                    grant.payload = Some(payload.name.clone());
                    built.certificates.push(Asked { payload: payload.name.clone(), grant, needs_approval: scep.needs_approval });
                    Ok(())
                }
                "mobileconfig" => {
                    let own = fields::<Mobileconfig>(&payload.body)?.parts(&payload.name, target)?;
                    parts.extend(own.into_iter().map(|part| (row(&part.kind).map_or(50, |row| row.order), part)));
                    Ok(())
                }
                kind => add(kind, &Value::Object(payload.body.clone())),
            }
        };
        one().map_err(|why| (payload.name.clone(), why))?;
    }
    parts.sort_by_key(|(order, _)| *order);
    built.parts = parts.into_iter().map(|(_, part)| part).collect();
    Ok(built)
}

fn encode(row: &PayloadRow, body: &Map<String, Value>, device: &Device<'_>) -> Result<Dict, String> {
    Ok(row.encode(body, device)?.with("PayloadDisplayName", row.title.as_str()))
}

/// Makes the declarations of a profile, with their identifiers. Where a key names an asset of the same profile it becomes its identifier.
///
/// # Errors
/// The name of the payload and what is wrong with it.
pub fn declarations(
    payloads: &[Payload],
    profile: &str,
    prefix: &str,
    device: &Device<'_>,
    catalogue: &Catalogue,
) -> Result<Vec<(String, Wanted)>, (String, String)> {
    let named = |payload: &Payload| {
        let kind = Kind::of_type(&payload.kind).unwrap_or(Kind::Configuration);
        identifier(prefix, kind, &format!("{profile}.{}", payload.name))
    };
    let names: BTreeMap<&str, String> = payloads.iter().map(|payload| (payload.name.as_str(), named(payload))).collect();
    let mut made = Vec::new();
    for payload in payloads {
        let fail = |why: String| (payload.name.clone(), why);
        let row = catalogue.payload(&payload.kind).filter(|row| row.form == Form::Declaration);
        let row = row.ok_or_else(|| fail(format!("there is no declaration of the type {}", payload.kind)))?;
        let mut body = row.encode_json(&payload.body, device).map_err(fail)?;
        for (key, value) in &mut body {
            if key.ends_with("AssetReference")
                && let Some(identifier) = value.as_str().and_then(|name| names.get(name))
            {
                *value = identifier.as_str().into();
            }
        }
        made.push((named(payload), Wanted { kind: payload.kind.clone(), payload: body, behind: String::new() }));
    }
    Ok(made)
}

/// Checks the payloads of a document: with the newest version, that knows every key, and with sample values for what is only known later.
///
/// # Errors
/// The name of the payload and what is wrong with it.
pub fn check(payloads: &[Payload], platform: Platform, catalogue: &Catalogue) -> Result<(), (String, String)> {
    let Some(system) = system(platform) else { return Ok(()) };
    let newest = OsVersion { major: 99, minor: 0, build: 0, revision: 0 };
    let names = Names::new(TenantId::from_store("check".into()), "check");
    let variables = Variables::samples();
    let is_declaration = |payload: &&Payload| catalogue.payload(&payload.kind).is_some_and(|row| row.form == Form::Declaration);
    let (declared, profile): (Vec<&Payload>, Vec<&Payload>) = payloads.iter().partition(is_declaration);
    let profile: Vec<Payload> = profile.into_iter().cloned().collect();
    let declared: Vec<Payload> = declared.into_iter().cloned().collect();
    let target = Target {
        system,
        version: newest,
        names: &names,
        identifier: "check",
        generation: &|_| String::new(),
        root: &[],
        issuing: &[],
        escrow: &[],
        scep_url: "https://check/scep",
        authority: "check",
        variables: &variables,
    };
    build(&profile, &target, catalogue)?;
    let device = Device { system, version: newest, uuid_of: &|_| None };
    declarations(&declared, "check", "check", &device, catalogue)?;
    let sso = |payload: &&Payload| payload.kind == "com.apple.extensiblesso";
    let place = sso::Place { mac: system == System::Mac, user_channel: false };
    for payload in profile.iter().filter(sso) {
        sso::check(&payload.body, place).map_err(|why| (payload.name.clone(), why))?;
    }
    match sso::doubled(profile.iter().filter(sso).map(|payload| &payload.body)) {
        Some(address) => Err(("com.apple.extensiblesso".into(), format!("two extensions answer for {address}"))),
        None => Ok(()),
    }
}

/// Puts the challenge into a payload of a profile that is put together. The profile's UUID does not depend on it: it is another one at
/// each delivery of the same content.
pub fn fill_challenge(profile: &mut Profile, payload: &str, challenge: &str) {
    let name = format!("{}.{payload}", profile.identifier);
    let Content::Plain(payloads) = &mut profile.content else { return };
    if let Some(payload) = payloads.iter_mut().find(|payload| payload.kind == SCEP && payload.identifier == name)
        && let Some(plist::Value::Dict(mut content)) = payload.body.remove("PayloadContent")
    {
        content.insert("Challenge", challenge);
        payload.body.insert("PayloadContent", content);
    }
}

#[cfg(test)]
mod tests;
