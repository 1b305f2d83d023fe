//! What the payloads of a profile's document become on one device: the parts of a configuration profile, and declarations.
//!
//! A document names payloads of the catalogue by Apple's own types and keys; beside the assets ([`asset`]) seven kinds are ours: `trusted-certificate`, `scep` (the
//! device makes a key and our authority certifies it), `acme` (an ACME server does), `pkcs12` (the server makes the key), `imported-pfx` (somebody brought it),
//! `single-sign-on` (the organisation's extension signs people in at this server) and `mobileconfig` (a profile that was made elsewhere).

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::x509::X509;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use self::acme::{ACME, Acme};
use self::identity::{Imported, PKCS12, Pkcs12};
use self::mobileconfig::Mobileconfig;
use self::scep::Scep;
use self::single_sign_on::IdentityService;
use super::app::App;
use super::profile::{Names, Part};
use super::{privacy, sso, vpn, way};
use crate::catalogue::payload::{Device, Form, System, local_date_time};
use crate::catalogue::{Catalogue, OsVersion, PayloadRow, asked_after};
use crate::clock::Time;
use crate::domain::certificate::{Grant, Variables};
use crate::domain::device::Platform;
use crate::domain::pfx::{Pfx, Purpose};
use crate::domain::profile::{Payload, fields};
use crate::ids::{PfxId, TenantId, UserId};
use crate::wire::apple::profile::{Content, Profile, Scope};
use crate::wire::plist::{self, Dict};

pub mod acme;
pub mod app;
pub mod asset;
mod declare;
pub mod identity;
pub mod legacy;
mod mobileconfig;
mod scep;
pub mod single_sign_on;

pub use declare::declarations;

const ROOT: &str = "com.apple.security.root";
const INTERMEDIATE: &str = "com.apple.security.pkcs1";
const SCEP: &str = "com.apple.security.scep";
const WIFI: &str = "com.apple.wifi.managed";
/// Payloads that bring a certificate: what others name is one of them.
const CERTIFICATES: [&str; 11] =
    ["trusted-certificate", "scep", "acme", "pkcs12", "imported-pfx", ROOT, INTERMEDIATE, "com.apple.security.pem", PKCS12, SCEP, ACME];

/// The device and the server for which payloads are made.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// The operating system.
    pub system: System,
    /// Its version.
    pub version: OsVersion,
    /// It is its user's own (user enrolment).
    pub user_enrollment: bool,
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
    /// The certificate for which recovery keys are encrypted, DER, when there is one.
    pub escrow: Option<&'a [u8]>,
    /// Where SCEP requests go.
    pub scep_url: &'a str,
    /// Where the channel's assets are fetched; their identifiers come behind it.
    pub asset_url: &'a str,
    /// The authority's name.
    pub authority: &'a str,
    /// Where people sign in, and by which extension.
    pub identity_service: &'a IdentityService,
    /// What templates are filled with.
    pub variables: &'a Variables,
    /// The identities that were imported for the device's user.
    pub imported: &'a [Pfx],
    /// The time.
    pub now: Time,
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

/// A certificate that the device will ask an ACME server for.
#[derive(Clone, Debug, PartialEq)]
pub struct AskedByAcme {
    /// The payload's name.
    pub payload: String,
    /// What it may ask for.
    pub grant: Grant,
    /// The key has to be in hardware.
    pub hardware_bound: bool,
    /// Key and device have to be attested.
    pub attest: bool,
}

/// The parts of a profile, and the certificates that come with it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Built {
    /// The parts, in order.
    pub parts: Vec<Part>,
    /// The certificates.
    pub certificates: Vec<Asked>,
    /// What devices may have certified by ACME.
    pub clients: Vec<AskedByAcme>,
    /// The names of parts that take an imported identity, with the identity.
    pub imported: Vec<(String, PfxId)>,
    /// The names of parts that take a token for registering the device.
    pub registrations: Vec<String>,
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

impl Trusted {
    /// The type of its payload, and the certificate.
    fn resolve(&self, target: &Target<'_>) -> Result<(&'static str, Vec<u8>), String> {
        match (self.authority, &self.certificate) {
            (Some(Which::Root), None) => Ok((ROOT, target.root.to_vec())),
            (Some(Which::Issuing), None) => Ok((INTERMEDIATE, target.issuing.to_vec())),
            (Some(Which::Escrow), None) => Ok((INTERMEDIATE, target.escrow.ok_or("authority: there is no escrow certificate")?.to_vec())),
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

/// How much of the life of a payload's certificate is left when another one is asked for, in percent; `None` for other payloads.
#[must_use]
pub fn renewal(payload: &Payload) -> Option<u32> {
    match payload.kind.as_str() {
        "scep" | "scep-asset" => Some(fields::<Scep>(&payload.body).map_or(20, |scep| scep.renew_percent)),
        "pkcs12" | "pkcs12-asset" => Some(fields::<Pkcs12>(&payload.body).map_or(20, |own| own.renew_percent)),
        _ => None,
    }
}

/// Whether an administrator has to agree to each certificate that a device asks for by a payload.
#[must_use]
pub fn needs_approval(payload: &Payload) -> bool {
    payload.kind == "scep" && fields::<Scep>(&payload.body).is_ok_and(|scep| scep.needs_approval)
}

/// The catalogue's row of what a payload becomes; `None` for kinds of ours that are more than their row.
#[must_use]
pub fn row_of<'c>(payload: &Payload, catalogue: &'c Catalogue) -> Option<&'c PayloadRow> {
    let own = match payload.kind.as_str() {
        legacy::KIND => Some(legacy::type_of(payload)),
        _ if single_sign_on::is_own(payload) => Some(sso::PAYLOAD),
        kind => asset::type_of(kind),
    };
    catalogue.payload(own.unwrap_or(&payload.kind))
}

/// Whether a payload brings a certificate that others may name.
fn brings_certificate(payload: &Payload) -> bool {
    CERTIFICATES.contains(&payload.kind.as_str())
}

/// Whether a device of that version can have all of the payloads.
#[must_use]
pub fn supports(payloads: &[Payload], system: System, version: OsVersion, catalogue: &Catalogue) -> bool {
    payloads.iter().filter_map(|payload| row_of(payload, catalogue)).all(|row| row.supports(system, version))
}

/// Whether all of the payloads may be given to a device that is its user's own.
#[must_use]
pub fn is_for_users(payloads: &[Payload], system: System, catalogue: &Catalogue) -> bool {
    payloads.iter().filter_map(|payload| row_of(payload, catalogue)).all(|row| row.is_for_users(system))
}

/// Makes the parts of a profile.
///
/// # Errors
/// The name of the payload and what is wrong with it.
pub fn build(payloads: &[Payload], target: &Target<'_>, catalogue: &Catalogue) -> Result<Built, (String, String)> {
    let uuid_of = |name: &str| {
        let known = payloads.iter().find(|payload| payload.name == name && brings_certificate(payload))?;
        let part = identity::referred(known, target)?;
        Some(target.names.payload_uuid(target.identifier, &part, &(target.generation)(name)))
    };
    let device = Device { system: target.system, version: target.version, user_enrollment: target.user_enrollment, uuid_of: &uuid_of };
    let row = |kind: &str| catalogue.payload(kind).filter(|row| row.form == Form::Profile);
    let mut built = Built::default();
    let mut parts: Vec<(i32, Part)> = Vec::new();
    for payload in &single_sign_on::expanded(payloads, target.identity_service, target.system)? {
        let mut one = || -> Result<(), String> {
            let mut add_as = |name: &str, kind: &str, body: &Value| {
                let row = row(kind).ok_or_else(|| format!("there is no payload of the type {kind}{}", nearest_type(kind, catalogue)))?;
                let part = Part {
                    kind: kind.to_owned(),
                    name: name.to_owned(),
                    generation: (target.generation)(&payload.name),
                    body: encode(row, body.as_object().ok_or("no table")?, &device)?,
                };
                parts.push((row.order, part));
                Ok::<_, String>(())
            };
            let mut add = |kind: &str, body: &Value| add_as(&payload.name, kind, body);
            match payload.kind.as_str() {
                "trusted-certificate" => {
                    let (kind, der) = fields::<Trusted>(&payload.body)?.resolve(target)?;
                    add(kind, &json!({ "PayloadContent": STANDARD.encode(der) }))
                }
                "scep" => {
                    let scep: Scep = fields(&payload.body)?;
                    let asked = scep.asked(&payload.name, target)?;
                    add(SCEP, &scep.payload(&asked.grant, target)?)?;
                    built.certificates.push(asked);
                    Ok(())
                }
                "pkcs12" => {
                    let own: Pkcs12 = fields(&payload.body)?;
                    identity::want(&payload.name, &own, target.variables)?;
                    add(PKCS12, &own.payload(&payload.name))
                }
                "imported-pfx" => {
                    for (pfx, part, body) in fields::<Imported>(&payload.body)?.parts(&payload.name, target)? {
                        add_as(&part, PKCS12, &body)?;
                        built.imported.push((part, pfx.id.clone()));
                    }
                    Ok(())
                }
                "acme" => {
                    let own: Acme = fields(&payload.body)?;
                    let (body, asked) = own.asked(&payload.name, target)?;
                    add(ACME, &body)?;
                    built.clients.push(asked);
                    Ok(())
                }
                ACME => {
                    acme::check(&payload.body)?;
                    add(ACME, &Value::Object(payload.body.clone()))
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
    let own = |part: &&Part| payloads.iter().any(|payload| single_sign_on::is_own(payload) && payload.name == part.name);
    let registers = built.parts.iter().filter(own).filter(|part| single_sign_on::takes_token(&part.body));
    built.registrations = registers.map(|part| part.name.clone()).collect();
    Ok(built)
}

/// A question after the type that may have been meant.
fn nearest_type(kind: &str, catalogue: &Catalogue) -> String {
    let meant = asked_after(kind, catalogue.payloads().map(|row| row.id.as_str()));
    format!("{meant}; `muster profile settings --platform macos` (or `ios`) shows those that there are")
}

fn encode(row: &PayloadRow, body: &Map<String, Value>, device: &Device<'_>) -> Result<Dict, String> {
    Ok(row.encode(body, device)?.with("PayloadDisplayName", row.title.as_str()))
}

/// What keeps a payload from the channel: those of the device, and of the users of a Mac, take different ones.
fn misplaced(payload: &Payload, for_users: bool, system: System, catalogue: &Catalogue) -> Option<String> {
    let row = row_of(payload, catalogue);
    // Whose login an imported identity's owner has on a Mac nobody here knows.
    if for_users
        && (payload.kind == "imported-pfx"
            || single_sign_on::is_own(payload)
            || super::app::is_app(payload)
            || row.is_some_and(|row| row.device_only))
    {
        return Some(format!("{} is for the device, not for its users", payload.kind));
    }
    let for_users_only = system == System::Mac && row.is_some_and(|row| row.user_only);
    (for_users_only && !for_users).then(|| format!("{} is for the users of a Mac (scope = \"user\"), not for the device", payload.kind))
}

/// Checks the payloads of a document: with the newest version, that knows every key, and with sample values for what is only known later.
///
/// # Errors
/// The name of the payload and what is wrong with it.
pub fn check(payloads: &[Payload], platform: Platform, for_users: bool, catalogue: &Catalogue) -> Result<(), (String, String)> {
    let Some(system) = system(platform) else { return Ok(()) };
    let newest = OsVersion { major: 99, minor: 0, build: 0, revision: 0 };
    let names = Names::new(TenantId::from_store("check".into()), "check");
    // Nobody here knows who of those that are named a user of a Mac is.
    let variables = if for_users { Variables::samples().of_device() } else { Variables::samples() };
    let is_declaration = |payload: &&Payload| row_of(payload, catalogue).is_some_and(|row| row.form == Form::Declaration);
    let (apps, others): (Vec<&Payload>, Vec<&Payload>) = payloads.iter().partition(|payload| super::app::is_app(payload));
    let mut bundles = BTreeSet::new();
    for app in apps {
        let read = App::read(app, system).map_err(|why| (app.name.clone(), why))?;
        if !bundles.insert(read.bundle_id) {
            return Err((app.name.clone(), "bundle-id: the profile has this application twice".into()));
        }
    }
    if let Some(second) = others.iter().filter(|payload| payload.kind == way::UPDATE).nth(1) {
        return Err((second.name.clone(), "the profile enforces two updates: a device installs one".into()));
    }
    let (declared, profile): (Vec<&Payload>, Vec<&Payload>) = others.into_iter().partition(is_declaration);
    let profile: Vec<Payload> = profile.into_iter().cloned().collect();
    let declared: Vec<Payload> = declared.into_iter().cloned().collect();
    let service = IdentityService::samples();
    let target = Target {
        system,
        version: newest,
        user_enrollment: false,
        names: &names,
        identifier: "check",
        generation: &|_| String::new(),
        root: &[],
        issuing: &[],
        escrow: Some(&[]),
        scep_url: "https://check/scep",
        asset_url: "https://check/asset",
        authority: "check",
        identity_service: &service,
        variables: &variables,
        imported: &samples(),
        now: Time(0),
    };
    build(&profile, &target, catalogue)?;
    declarations(&declared, "check", "check", &target, catalogue)?;
    let mut identifiers = BTreeSet::new();
    for payload in declared.iter().filter(|payload| payload.kind == legacy::KIND) {
        let scope = if for_users { Scope::User } else { Scope::System };
        let identifier = legacy::check(payload, scope).map_err(|why| (payload.name.clone(), why))?;
        if !identifiers.insert(identifier) {
            return Err((payload.name.clone(), "content: the profile has this PayloadIdentifier twice".into()));
        }
    }
    for payload in payloads {
        if let Some(why) = misplaced(payload, for_users, system, catalogue) {
            return Err((payload.name.clone(), why));
        }
    }
    let profile = single_sign_on::expanded(&profile, &service, system)?;
    let sso = |payload: &&Payload| payload.kind == sso::PAYLOAD;
    let place = sso::Place { mac: system == System::Mac, user_channel: for_users };
    for payload in profile.iter().filter(sso) {
        sso::check(&payload.body, place).map_err(|why| (payload.name.clone(), why))?;
    }
    for payload in declared.iter().filter(|payload| payload.kind == sso::DECLARATION) {
        sso::check_declared(&payload.body, place).map_err(|why| (payload.name.clone(), why))?;
    }
    for payload in &profile {
        if payload.kind == WIFI && !payload.body.contains_key("SSID_STR") {
            return Err((payload.name.clone(), "SSID_STR: is missing: the name of the network".into()));
        }
        let checked = vpn::check(payload, system).and_then(|()| privacy::check(&payload.kind, &payload.body));
        checked.map_err(|why| (payload.name.clone(), why))?;
    }
    if let Some(twice) = vpn::doubled(&profile) {
        return Err(("com.apple.vpn.managed.applayer".into(), format!("VPNUUID: two networks are {twice}")));
    }
    match sso::doubled(sso::extensions(profile.iter().chain(&declared))) {
        Some(address) => Err((sso::PAYLOAD.into(), format!("two extensions answer for {address}"))),
        None => Ok(()),
    }
}

/// What a document says that can be done, and yet may not be what was meant: enforced updates whose moment is past (taken as of the zone
/// without an offset), and policies of single sign-on that can lock people out, by the payloads' names.
#[must_use]
pub fn remarks(payloads: &[Payload], now: Time) -> Vec<String> {
    let moment = |payload: &&Payload| payload.body.get("TargetLocalDateTime").and_then(Value::as_str).and_then(local_date_time);
    let updates = payloads.iter().filter(|payload| payload.kind == way::UPDATE);
    let past = updates.filter(|payload| moment(payload).is_some_and(|at| at <= now));
    let past =
        past.map(|payload| format!("{}: the moment (TargetLocalDateTime) is past: devices install the update at once", payload.name));
    let mac = sso::Place { mac: true, user_channel: false };
    let risks = |payload: &Payload| match payload.kind.as_str() {
        sso::PAYLOAD => sso::check(&payload.body, mac).unwrap_or_default(),
        sso::DECLARATION => sso::check_declared(&payload.body, mac).unwrap_or_default(),
        _ => Vec::new(),
    };
    let risky = payloads.iter().flat_map(|payload| risks(payload).into_iter().map(move |risk| format!("{}: {risk}", payload.name)));
    past.chain(risky).collect()
}

/// An imported identity for each purpose: shows what is wrong with the rest of a profile.
fn samples() -> Vec<Pfx> {
    let sample = |purpose: &Purpose| Pfx {
        id: PfxId::new(),
        user_id: UserId::new(),
        purpose: *purpose,
        sha256: "0".repeat(64),
        thumbprint: "0".repeat(40),
        subject: String::new(),
        not_before: Time(0),
        not_after: Time(1),
        sent: None,
        created_at: Time(0),
        updated_at: Time(0),
    };
    Purpose::ALL.iter().map(sample).collect()
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
