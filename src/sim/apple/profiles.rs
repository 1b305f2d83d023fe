//! The profiles of a simulated device: what it takes and what it refuses, by the rows of the catalogue and by the rules that Apple's
//! systems have of their own.

use std::collections::{BTreeMap, BTreeSet};

use openssl::stack::Stack;
use openssl::x509::X509;
use openssl::x509::X509StoreContext;
use openssl::x509::store::X509StoreBuilder;

use super::Machine;
use crate::catalogue::catalogue;
use crate::catalogue::payload::{Form, KeyRow, Kind, PayloadRow, System};
use crate::sim::scep::Identity;
use crate::wire::apple::command::Cause;
use crate::wire::apple::enroll::{BOOTSTRAP_TOKEN, MDM, Mdm, Mode, access};
use crate::wire::apple::profile::{Content, Payload, Profile};
use crate::wire::cms::{SignedData, ber};
use crate::wire::plist::{self, Data, Dict, Value};

/// Keys that every payload may have, beside those that the profile's frame reads.
const COMMON: [&str; 3] = ["PayloadDisplayName", "PayloadDescription", "PayloadOrganization"];
/// Keys of the profile itself, beside those that the profile's frame reads.
const FRAME: [&str; 9] = [
    "PayloadDisplayName",
    "PayloadDescription",
    "PayloadOrganization",
    "PayloadScope",
    "PayloadRemovalDisallowed",
    "HasRemovalPasscode",
    "RemovalDate",
    "DurationUntilRemoval",
    "ConsentText",
];

/// Why a device says no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{domain} {code}: {why}")]
pub struct Refused {
    /// Whose number.
    pub domain: &'static str,
    /// The number; servers do not depend on it.
    pub code: i64,
    /// For people.
    pub why: String,
}

impl Refused {
    /// The profile cannot be installed.
    pub(super) fn profile(why: impl Into<String>) -> Self {
        Self { domain: "MCProfileErrorDomain", code: 1000, why: why.into() }
    }

    /// The installation of a payload failed.
    pub(super) fn installation(why: impl Into<String>) -> Self {
        Self { domain: "MCInstallationErrorDomain", code: 4001, why: why.into() }
    }

    /// A command is refused.
    pub(super) fn command(code: i64, why: impl Into<String>) -> Self {
        Self { domain: "MCMDMErrorDomain", code, why: why.into() }
    }

    /// The chain of causes in an answer. Macs leave the English text out.
    pub(super) fn chain(&self, system: System) -> Vec<Cause> {
        let english = (system == System::Ios).then(|| self.why.clone());
        vec![Cause {
            error_code: self.code,
            error_domain: self.domain.into(),
            localized_description: Some(self.why.clone()),
            us_english_description: english,
        }]
    }
}

/// A profile as it came.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The document.
    pub profile: Profile,
    /// The certificate that signed it.
    pub signer: Option<Vec<u8>>,
    /// The signer's certificate chains to something that the device trusts: what Settings shows as verified.
    pub verified: bool,
}

/// What a document holds: its content, who signed it, and whether the signer is trusted.
type Bare = (Vec<u8>, Option<Vec<u8>>, bool);

/// Takes the signature off a document, when it has one.
fn bare(document: &[u8], roots: &[X509]) -> Result<Bare, Refused> {
    let wrong = |what: &str| Refused::profile(format!("the profile cannot be read: {what}"));
    if document.first() != Some(&0x30) {
        return Ok((document.to_vec(), None, false));
    }
    let der = ber::to_der(document).map_err(|e| wrong(&e.to_string()))?;
    let message = SignedData::parse(&der).map_err(|e| wrong(&e.to_string()))?;
    let [signer] = message.signers.as_slice() else { return Err(wrong("not one signer")) };
    let certificate = message.verify(signer).map_err(|e| wrong(&e.to_string()))?.raw.to_vec();
    let verified = chains(&certificate, &message.certificates, roots).unwrap_or(false);
    Ok((message.content.unwrap_or_default().to_vec(), Some(certificate), verified))
}

/// The content of a document that must be signed by somebody whom the device trusts.
///
/// # Errors
/// When it is not.
pub(super) fn signed_content(document: &[u8], roots: &[X509]) -> Result<Vec<u8>, Refused> {
    match bare(document, roots)? {
        (content, Some(_), true) => Ok(content),
        _ => Err(Refused::profile("nobody whom the device trusts signed the document")),
    }
}

/// Reads a profile, signed or plain.
///
/// # Errors
/// When it is no profile, the signature does not hold, or it is encrypted.
pub fn open(document: &[u8], roots: &[X509]) -> Result<Opened, Refused> {
    let wrong = |what: &str| Refused::profile(format!("the profile cannot be read: {what}"));
    let (content, signer, verified) = bare(document, roots)?;
    let profile = Profile::decode(&content).map_err(|e| wrong(&e.to_string()))?;
    if matches!(profile.content, Content::Encrypted(_)) {
        return Err(wrong("it is encrypted to another device"));
    }
    Ok(Opened { profile, signer, verified })
}

fn chains(leaf: &[u8], others: &[&[u8]], roots: &[X509]) -> Result<bool, openssl::error::ErrorStack> {
    let mut store = X509StoreBuilder::new()?;
    for root in roots {
        store.add_cert(root.clone())?;
    }
    let mut chain = Stack::new()?;
    for der in others {
        chain.push(X509::from_der(der)?)?;
    }
    let leaf = X509::from_der(leaf)?;
    X509StoreContext::new()?.init(&store.build(), &leaf, &chain, |context| context.verify_cert())
}

/// What is wrong with a payload or declaration in the eyes of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// There is no such key on this system and version.
    Unknown(String),
    /// Something else, and where.
    Other(String),
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown(at) => write!(f, "{at}: no such key"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// Holds dictionaries against a row of the catalogue.
pub(super) struct Check<'a> {
    /// The row.
    pub(super) row: &'a PayloadRow,
    /// Whose device it is.
    pub(super) machine: &'a Machine,
    /// It is its user's own (user enrolment).
    pub(super) users: bool,
    /// The UUIDs of the profile's payloads; none for a declaration.
    pub(super) uuids: &'a BTreeSet<String>,
}

impl Check<'_> {
    fn has(&self, key: &KeyRow) -> bool {
        let own = match self.machine.system {
            System::Mac => key.macos,
            System::Ios => key.ios,
        };
        own.is_none_or(|range| range.has(self.machine.version())) && !(self.users && key.not_for_users.contains(&self.machine.system))
    }

    pub(super) fn dict(&self, dict: &Dict, within: &str) -> Result<(), Wrong> {
        for (name, value) in dict.iter() {
            if within.is_empty() && self.row.form == Form::Profile && COMMON.contains(&name) {
                continue;
            }
            let at = if within.is_empty() { name.to_owned() } else { format!("{within}/{name}") };
            if self.row.open && within.is_empty() && self.row.key(&at).is_none() {
                continue;
            }
            let key = self.row.key(&at).filter(|key| self.has(key)).ok_or_else(|| Wrong::Unknown(at.clone()))?;
            self.value(key, value)?;
        }
        for key in self.row.keys.iter().filter(|key| key.required && self.has(key)) {
            let (parent, name) = key.at.rsplit_once('/').unwrap_or(("", &key.at));
            if parent == within && dict.get(name).is_none() {
                return Err(Wrong::Other(format!("{}: is missing", key.at)));
            }
        }
        Ok(())
    }

    fn value(&self, key: &KeyRow, value: &Value) -> Result<(), Wrong> {
        let wrong = |what: &str| Wrong::Other(format!("{}: should be {what}, is {}", key.at, value.kind()));
        let items = |what: &str| value.as_array().ok_or_else(|| wrong(what));
        let known = |uuid: &str| self.uuids.contains(uuid);
        let ok = match key.kind {
            Kind::String => {
                value.as_str().is_some_and(|text| key.spelling.is_none_or(|spelling| spelling.fits(text))) && chosen(key, value)
            }
            Kind::Integer => match value {
                Value::Integer(number) => key.range.is_none_or(|(low, high)| (low..=high).contains(number)) && chosen(key, value),
                _ => false,
            },
            Kind::Real => value.as_real().is_some(),
            Kind::Boolean => matches!(value, Value::Boolean(_)),
            Kind::Data if self.row.form == Form::Declaration => value.as_str().is_some(),
            Kind::Data => value.as_data().is_some(),
            Kind::Strings => items("a list of strings")?.iter().all(|item| item.as_str().is_some() && chosen(key, item)),
            Kind::Integers => items("a list of integers")?.iter().all(|item| matches!(item, Value::Integer(_)) && chosen(key, item)),
            Kind::Dict | Kind::Dicts => {
                let below = format!("{}/", key.at);
                let free = !self.row.keys.iter().any(|other| other.at.starts_with(&below));
                let single = std::slice::from_ref(value);
                for item in if key.kind == Kind::Dict { single } else { items("a list of dictionaries")? } {
                    let dict = item.as_dict().ok_or_else(|| wrong("a dictionary"))?;
                    if !free {
                        self.dict(dict, &key.at)?;
                    }
                }
                true
            }
            Kind::Any => true,
            Kind::Reference => value.as_str().is_some_and(known),
            Kind::References => items("a list of payload UUIDs")?.iter().all(|item| item.as_str().is_some_and(known)),
            Kind::Name => {
                let pair = |pair: &Value| pair.as_array().is_some_and(|pair| pair.len() == 2 && pair.iter().all(|p| p.as_str().is_some()));
                items("a name")?.iter().all(|rdn| rdn.as_array().is_some_and(|rdn| rdn.iter().all(pair)))
            }
        };
        if ok { Ok(()) } else { Err(wrong(&format!("{:?}, and a value that is allowed", key.kind))) }
    }
}

fn chosen(key: &KeyRow, value: &Value) -> bool {
    let says = |choice: &toml::Value| match (choice, value) {
        (toml::Value::String(choice), Value::String(text)) => choice == text,
        (toml::Value::Integer(choice), Value::Integer(number)) => choice == number,
        _ => false,
    };
    key.choices.is_empty() || key.choices.iter().any(says)
}

/// Holds a profile against the rules: each payload known and well-formed, each UUID and identifier once, references inside. `users`: the
/// device is its user's own (user enrolment).
///
/// # Errors
/// The first thing that is wrong.
pub fn check(profile: &Profile, machine: &Machine, users: bool) -> Result<(), Refused> {
    if let Some(key) = profile.body.keys().find(|key| !FRAME.contains(key)) {
        return Err(Refused::profile(format!("{key}: no such key")));
    }
    if profile.body.string("PayloadScope").is_some_and(|scope| !["System", "User"].contains(&scope)) {
        return Err(Refused::profile("PayloadScope: System or User"));
    }
    let payloads = profile.payloads();
    let uuids: BTreeSet<String> = payloads.iter().map(|payload| payload.uuid.clone()).collect();
    let names: BTreeSet<&str> = payloads.iter().map(|payload| payload.identifier.as_str()).collect();
    if uuids.len() != payloads.len() || uuids.contains(&profile.uuid) {
        return Err(Refused::profile("two payloads with one PayloadUUID"));
    }
    if names.len() != payloads.len() {
        return Err(Refused::profile("two payloads with one PayloadIdentifier"));
    }
    for payload in payloads {
        let wrong = |what: &str| Refused::profile(format!("{} ({}): {what}", payload.identifier, payload.kind));
        if payload.kind == MDM {
            let mdm = mdm_of(payload).map_err(|why| wrong(&why))?;
            if !uuids.contains(&mdm.identity) {
                return Err(wrong("IdentityCertificateUUID: no such payload"));
            }
            continue;
        }
        let row = catalogue().payload(&payload.kind).filter(|row| row.form == Form::Profile);
        let row = row.filter(|row| row.supports(machine.system, machine.version())).ok_or_else(|| wrong("not known on this system"))?;
        if users && !row.is_for_users(machine.system) {
            return Err(wrong("not in a user enrolment"));
        }
        Check { row, machine, users, uuids: &uuids }.dict(&payload.body, "").map_err(|why| wrong(&why.to_string()))?;
        if payload.body.string("VPNType") == Some("AlwaysOn") && !machine.supervised {
            return Err(wrong("only on supervised devices"));
        }
    }
    Ok(())
}

/// The payload that makes a device managed, held against what a device wants of it.
pub(super) fn mdm_of(payload: &Payload) -> Result<Mdm, String> {
    let mdm: Mdm = plist::from_dict(&payload.body).map_err(|e| e.to_string())?;
    let https = |url: &str| url.starts_with("https://");
    if !https(&mdm.server_url) || mdm.check_in_url.as_deref().is_some_and(|url| !https(url)) {
        return Err("ServerURL: not https".into());
    }
    if !mdm.topic.starts_with("com.apple.mgmt.") {
        return Err("Topic: not one of device management".into());
    }
    if mdm.enrollment_mode.is_some() != mdm.account.as_ref().is_some_and(|account| account.contains('@')) {
        return Err("AssignedManagedAppleID: not what this kind of enrolment takes".into());
    }
    match (mdm.enrollment_mode, mdm.access_rights) {
        (Some(Mode::User), None) if mdm.server_capabilities.iter().all(|capability| capability != BOOTSTRAP_TOKEN) => Ok(mdm),
        (None | Some(Mode::Device), Some(rights)) if access::holds(rights) => Ok(mdm),
        _ => Err("AccessRights, ServerCapabilities: not what this kind of enrolment takes".into()),
    }
}

/// The addresses for which a profile's extensions sign people in; scheme and host are the same in any case.
pub(super) fn addresses(profile: &Profile) -> Vec<String> {
    let folded = |url: &str| {
        let (host, path) = url.splitn(4, '/').nth(3).map_or((url, ""), |path| url.split_at(url.len().saturating_sub(path.len())));
        format!("{}/{path}", host.trim_end_matches('/').to_ascii_lowercase())
    };
    let own = profile.payloads().iter().filter(|payload| payload.kind == "com.apple.extensiblesso");
    let listed = own.flat_map(|payload| ["URLs", "Hosts"].into_iter().filter_map(|key| payload.body.array(key)).flatten());
    listed.filter_map(Value::as_str).map(folded).collect()
}

/// A profile that is installed.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The document.
    pub profile: Profile,
    /// The certificate that signed it.
    pub signer: Option<Vec<u8>>,
    /// It came by a declaration.
    pub declared: bool,
    /// The identities of its payloads, by `PayloadUUID`.
    pub identities: BTreeMap<String, Identity>,
    /// The certificates of its payloads, by `PayloadUUID`.
    pub certificates: BTreeMap<String, Vec<u8>>,
    /// The certificates that its SCEP servers named.
    pub chain: Vec<Vec<u8>>,
}

/// The profiles of a device, by their identifiers.
#[derive(Clone, Debug, Default)]
pub struct Store {
    pub(super) installed: BTreeMap<String, Installed>,
}

impl Store {
    /// The profile of that identifier.
    #[must_use]
    pub fn get(&self, identifier: &str) -> Option<&Installed> {
        self.installed.get(identifier)
    }

    /// Somebody takes a profile away by hand; whether there was one.
    pub fn remove(&mut self, identifier: &str) -> bool {
        self.installed.remove(identifier).is_some()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Installed> {
        self.installed.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.installed.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.installed.is_empty()
    }

    /// All payloads of a kind.
    pub fn payloads<'s>(&'s self, kind: &'s str) -> impl Iterator<Item = &'s Payload> {
        self.iter().flat_map(|installed| installed.profile.payloads()).filter(move |payload| payload.kind == kind)
    }

    /// All identities.
    pub fn identities(&self) -> impl Iterator<Item = &Identity> {
        self.iter().flat_map(|installed| installed.identities.values())
    }

    /// What `ProfileList` answers.
    #[must_use]
    pub fn list(&self, system: System) -> Value {
        Value::Array(self.iter().map(|installed| Value::Dict(installed.entry(system))).collect())
    }

    /// What `CertificateList` answers.
    #[must_use]
    pub fn certificates(&self) -> Value {
        let entry = |der: &[u8], identity: bool| {
            let certificate = X509::from_der(der).ok();
            let name = certificate.as_ref().and_then(|certificate| {
                let entry = certificate.subject_name().entries_by_nid(openssl::nid::Nid::COMMONNAME).last()?;
                entry.data().to_string().ok()
            });
            let name = name.unwrap_or_default();
            Value::Dict(Dict::new().with("CommonName", name).with("Data", Data(der.to_vec())).with("IsIdentity", identity))
        };
        let mut all = Vec::new();
        for installed in self.iter() {
            all.extend(installed.identities.values().map(|identity| entry(&identity.certificate, true)));
            all.extend(installed.certificates.values().map(|der| entry(der, false)));
        }
        Value::Array(all)
    }
}

impl Installed {
    fn entry(&self, system: System) -> Dict {
        let profile = &self.profile;
        let payloads = profile.payloads().iter().map(|payload| {
            let mut entry = Dict::new()
                .with("PayloadType", payload.kind.as_str())
                .with("PayloadVersion", 1)
                .with("PayloadIdentifier", payload.identifier.as_str())
                .with("PayloadUUID", payload.uuid.as_str());
            for key in COMMON {
                entry.insert_some(key, payload.body.string(key));
            }
            Value::Dict(entry)
        });
        let mut entry = Dict::new()
            .with("PayloadIdentifier", profile.identifier.as_str())
            .with("PayloadUUID", profile.uuid.as_str())
            .with("PayloadVersion", 1)
            .with("HasRemovalPasscode", profile.body.boolean("HasRemovalPasscode").unwrap_or(false))
            .with("PayloadRemovalDisallowed", profile.body.boolean("PayloadRemovalDisallowed").unwrap_or(false))
            .with("IsEncrypted", false)
            .with("PayloadContent", payloads.collect::<Vec<_>>());
        for key in COMMON {
            entry.insert_some(key, profile.body.string(key));
        }
        entry.insert_some("IsManaged", (system == System::Ios).then_some(true));
        if let Some(signer) = &self.signer {
            entry.insert("SignerCertificates", vec![Value::Data(Data(signer.clone()))]);
        }
        if self.declared {
            entry.insert("Source", "Declarative Device Management");
        }
        entry
    }
}
