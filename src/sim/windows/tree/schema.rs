//! Which nodes a Windows device has: the catalogue's rows, and the providers that have behaviour of their own.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::Stored;
use crate::catalogue::{Access, Format, OsVersion, Scope, Setting, Verb, catalogue};
use crate::wire::locuri::LocUri;

/// What a leaf holds or does.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// An inner node.
    Inner,
    /// Any value of its format.
    Any,
    /// A catalogue setting's value.
    Setting(&'static str),
    /// A trusted certificate.
    Certificate,
    /// The system's version.
    Version,
    /// Starts a SCEP enrolment.
    ScepEnroll,
    /// Runs a catalogue command.
    Command(&'static str),
}

/// A node that a device may have.
#[derive(Clone, Debug)]
pub struct Spec {
    /// What may be done with it.
    pub access: Access,
    /// Its format.
    pub format: Format,
    /// What it holds or does.
    pub content: Content,
    /// The Windows versions that have it.
    pub since: &'static [OsVersion],
    /// It may be changed inside of an `Atomic` only.
    pub atomic: bool,
}

impl Spec {
    /// Whether the node takes the value.
    pub(super) fn takes(&self, data: &str) -> bool {
        if let Content::Setting(id) = self.content {
            return catalogue().setting(id).is_some_and(|row: &Setting| row.encode(&Value::String(data.to_owned())).is_ok());
        }
        match self.format {
            Format::Int => data.trim().parse::<i64>().is_ok(),
            Format::Bool => matches!(data.trim().to_ascii_lowercase().as_str(), "true" | "false"),
            Format::B64 | Format::Bin => STANDARD.decode(data.split_whitespace().collect::<String>()).is_ok(),
            _ => true,
        }
    }
}

/// Nodes that the catalogue has no rows for. `*` is any name, `{D,U}` the scopes; the last word is what the leaf does.
const NODES: &[(&str, &str, Format, Content)] = &[
    // Inner nodes that servers may make or remove; all others may only be read.
    ("{D,U}/Vendor/MSFT/PassportForWork/*", "ADG", Format::Node, Content::Inner),
    ("{D,U}/Vendor/MSFT/PassportForWork/*/Policies", "ADG", Format::Node, Content::Inner),
    ("{D,U}/Vendor/MSFT/PassportForWork/*/Policies/PINComplexity", "ADG", Format::Node, Content::Inner),
    ("{D}/Vendor/MSFT/PassportForWork/*/Policies/ExcludeSecurityDevices", "ADG", Format::Node, Content::Inner),
    ("{D}/Vendor/MSFT/PassportForWork/*/Policies/Remote", "ADG", Format::Node, Content::Inner),
    ("{D,U}/Vendor/MSFT/DMClient/Provider/*", "ADG", Format::Node, Content::Inner),
    ("{D}/Vendor/MSFT/DMClient/Provider/*/Push", "ADG", Format::Node, Content::Inner),
    ("{D}/Vendor/MSFT/DMClient/Provider/*/Poll", "ADG", Format::Node, Content::Inner),
    ("{D}/Vendor/MSFT/DMClient/Provider/*/ConfigRefresh", "ADG", Format::Node, Content::Inner),
    ("{D}/Vendor/MSFT/DMClient/Unenroll", "GX", Format::Null, Content::Command("unenroll")),
    // RootCATrustedCertificates; users have no Root.
    ("{D}/Vendor/MSFT/RootCATrustedCertificates/Root/*", "DG", Format::Node, Content::Inner),
    ("{D}/Vendor/MSFT/RootCATrustedCertificates/Root/*/EncodedCertificate", "AGR", Format::B64, Content::Certificate),
    ("{D}/Vendor/MSFT/RootCATrustedCertificates/Root/*/IssuedTo", "G", Format::Chr, Content::Any),
    ("{D}/Vendor/MSFT/RootCATrustedCertificates/Root/*/IssuedBy", "G", Format::Chr, Content::Any),
    ("{D}/Vendor/MSFT/RootCATrustedCertificates/Root/*/ValidFrom", "G", Format::Chr, Content::Any),
    ("{D}/Vendor/MSFT/RootCATrustedCertificates/Root/*/ValidTo", "G", Format::Chr, Content::Any),
    ("{D}/Vendor/MSFT/RootCATrustedCertificates/Root/*/TemplateName", "G", Format::Chr, Content::Any),
    ("{D,U}/Vendor/MSFT/RootCATrustedCertificates/CA/*", "DG", Format::Node, Content::Inner),
    ("{D,U}/Vendor/MSFT/RootCATrustedCertificates/CA/*/EncodedCertificate", "AGR", Format::B64, Content::Certificate),
    ("{D,U}/Vendor/MSFT/RootCATrustedCertificates/CA/*/IssuedTo", "G", Format::Chr, Content::Any),
    ("{D,U}/Vendor/MSFT/RootCATrustedCertificates/CA/*/IssuedBy", "G", Format::Chr, Content::Any),
    ("{D,U}/Vendor/MSFT/RootCATrustedCertificates/CA/*/ValidFrom", "G", Format::Chr, Content::Any),
    ("{D,U}/Vendor/MSFT/RootCATrustedCertificates/CA/*/ValidTo", "G", Format::Chr, Content::Any),
    ("{D,U}/Vendor/MSFT/RootCATrustedCertificates/CA/*/TemplateName", "G", Format::Chr, Content::Any),
    ("{D,U}/Vendor/MSFT/RootCATrustedCertificates/TrustedPublisher/*", "DG", Format::Node, Content::Inner),
    ("{D,U}/Vendor/MSFT/RootCATrustedCertificates/TrustedPublisher/*/EncodedCertificate", "AGR", Format::B64, Content::Certificate),
    ("{D,U}/Vendor/MSFT/RootCATrustedCertificates/TrustedPeople/*", "DG", Format::Node, Content::Inner),
    ("{D,U}/Vendor/MSFT/RootCATrustedCertificates/TrustedPeople/*/EncodedCertificate", "AGR", Format::B64, Content::Certificate),
    // ClientCertificateInstall/SCEP.
    ("{D,U}/Vendor/MSFT/ClientCertificateInstall/SCEP/*", "ADGR", Format::Node, Content::Inner),
    ("{D,U}/Vendor/MSFT/ClientCertificateInstall/SCEP/*/Install", "ADGR", Format::Node, Content::Inner),
    ("{D,U}/Vendor/MSFT/ClientCertificateInstall/SCEP/*/Install/ServerURL", "ADGR", Format::Chr, Content::Any),
    ("{D,U}/Vendor/MSFT/ClientCertificateInstall/SCEP/*/Install/Challenge", "ADGR", Format::Chr, Content::Any),
    ("{D,U}/Vendor/MSFT/ClientCertificateInstall/SCEP/*/Install/EKUMapping", "ADGR", Format::Chr, Content::Any),
    ("{D,U}/Vendor/MSFT/ClientCertificateInstall/SCEP/*/Install/KeyUsage", "ADGR", Format::Int, Content::Any),
    ("{D,U}/Vendor/MSFT/ClientCertificateInstall/SCEP/*/Install/SubjectName", "ADGR", Format::Chr, Content::Any),
    ("{D,U}/Vendor/MSFT/ClientCertificateInstall/SCEP/*/Install/SubjectAlternativeNames", "ADGR", Format::Chr, Content::Any),
    ("{D,U}/Vendor/MSFT/ClientCertificateInstall/SCEP/*/Install/KeyProtection", "ADGR", Format::Int, Content::Any),
    ("{D,U}/Vendor/MSFT/ClientCertificateInstall/SCEP/*/Install/ContainerName", "ADGR", Format::Chr, Content::Any),
    ("{D,U}/Vendor/MSFT/ClientCertificateInstall/SCEP/*/Install/CustomTextToShowInPrompt", "ADGR", Format::Chr, Content::Any),
    ("{D,U}/Vendor/MSFT/ClientCertificateInstall/SCEP/*/Install/KeyLength", "ADGR", Format::Int, Content::Any),
    ("{D,U}/Vendor/MSFT/ClientCertificateInstall/SCEP/*/Install/HashAlgorithm", "ADGR", Format::Chr, Content::Any),
    ("{D,U}/Vendor/MSFT/ClientCertificateInstall/SCEP/*/Install/CAThumbprint", "ADGR", Format::Chr, Content::Any),
    ("{D,U}/Vendor/MSFT/ClientCertificateInstall/SCEP/*/Install/RetryCount", "ADGR", Format::Int, Content::Any),
    ("{D,U}/Vendor/MSFT/ClientCertificateInstall/SCEP/*/Install/RetryDelay", "ADGR", Format::Int, Content::Any),
    ("{D,U}/Vendor/MSFT/ClientCertificateInstall/SCEP/*/Install/TemplateName", "ADGR", Format::Chr, Content::Any),
    ("{D,U}/Vendor/MSFT/ClientCertificateInstall/SCEP/*/Install/ValidPeriod", "ADGR", Format::Chr, Content::Any),
    ("{D,U}/Vendor/MSFT/ClientCertificateInstall/SCEP/*/Install/ValidPeriodUnits", "ADGR", Format::Int, Content::Any),
    ("{D,U}/Vendor/MSFT/ClientCertificateInstall/SCEP/*/Install/AADKeyIdentifierList", "ADGR", Format::Chr, Content::Any),
    ("{D,U}/Vendor/MSFT/ClientCertificateInstall/SCEP/*/Install/Enroll", "X", Format::Null, Content::ScepEnroll),
    ("{D,U}/Vendor/MSFT/ClientCertificateInstall/SCEP/*/CertThumbprint", "G", Format::Chr, Content::Any),
    ("{D,U}/Vendor/MSFT/ClientCertificateInstall/SCEP/*/Status", "G", Format::Int, Content::Any),
    ("{D,U}/Vendor/MSFT/ClientCertificateInstall/SCEP/*/ErrorCode", "G", Format::Int, Content::Any),
    ("{D,U}/Vendor/MSFT/ClientCertificateInstall/SCEP/*/RespondentServerUrl", "G", Format::Chr, Content::Any),
    // Renewal of the management certificate.
    ("{D}/Vendor/MSFT/CertificateStore", "ADG", Format::Node, Content::Inner),
    ("{D}/Vendor/MSFT/CertificateStore/MY/WSTEP/Renew/RenewPeriod", "ADGR", Format::Int, Content::Any),
    ("{D}/Vendor/MSFT/CertificateStore/MY/WSTEP/Renew/RetryInterval", "ADGR", Format::Int, Content::Any),
    ("{D}/Vendor/MSFT/CertificateStore/MY/WSTEP/Renew/ServerURL", "ADGR", Format::Chr, Content::Any),
    ("{D}/Vendor/MSFT/CertificateStore/MY/WSTEP/Renew/ROBOSupport", "ADGR", Format::Bool, Content::Any),
    ("{D}/Vendor/MSFT/CertificateStore/MY/WSTEP/Renew/Status", "G", Format::Int, Content::Any),
    ("{D}/Vendor/MSFT/CertificateStore/MY/WSTEP/Renew/ErrorCode", "G", Format::Int, Content::Any),
];

/// Nodes below this one are changed inside of an `Atomic` only.
const IN_ATOMIC: &str = "/SCEP/*/Install/";
/// Facts that servers may write as well: name to access.
const WRITABLE: &[(&str, &str)] = &[("dev-detail.device-name", "GR"), ("dev-detail.dns-computer-name", "GR")];
/// Inner nodes that servers may change although all rows below them are ordinary.
const AREAS: &[(&str, &str)] = &[
    ("device/vendor/msft/devicemanageability", "ADG"),
    ("device/vendor/msft/policy/config", "ADG"),
    ("user/vendor/msft/policy/config", "ADG"),
];
/// Commands whose node can be read as well.
const READABLE_COMMANDS: &[&str] =
    &["reboot", "lock", "unenroll", "defender-quick-scan", "defender-full-scan", "defender-update-signatures"];

#[derive(Default)]
struct Place {
    named: HashMap<String, Self>,
    any: Option<Box<Self>>,
    spec: Option<Spec>,
}

struct Schema {
    top: Place,
    initial: BTreeMap<String, Stored>,
    listed: Vec<(String, Spec)>,
}

static SCHEMA: LazyLock<Schema> = LazyLock::new(build);

/// The node at a folded address ([`LocUri::key`]).
#[must_use]
pub fn find(key: &str) -> Option<&'static Spec> {
    let mut place = &SCHEMA.top;
    for segment in key.split('/') {
        place = place.named.get(segment).or(place.any.as_deref())?;
    }
    place.spec.as_ref()
}

/// What every device holds before anyone wrote to it, by folded address.
pub(super) fn initial() -> &'static BTreeMap<String, Stored> {
    &SCHEMA.initial
}

/// All nodes, for the test that holds them against the maker's description: address with `X` for any name, and what it is.
#[must_use]
pub fn nodes() -> &'static [(String, Spec)] {
    &SCHEMA.listed
}

fn build() -> Schema {
    let mut schema = Schema { top: Place::default(), initial: BTreeMap::new(), listed: Vec::new() };
    for row in catalogue().settings() {
        let spec = Spec {
            access: row.access,
            format: row.format,
            content: Content::Setting(&row.id),
            since: &row.since,
            atomic: row.atomic.is_some(),
        };
        for scope in &row.scopes {
            let permanent = !row.access.allows(Verb::Add);
            schema.add(&address(&row.uri, *scope), &spec, row.default.as_deref().filter(|_| permanent));
        }
    }
    for row in catalogue().commands().filter(|row| row.is_of("windows")) {
        let letters = if READABLE_COMMANDS.contains(&row.id.as_str()) { "GX" } else { "X" };
        // Its node takes nothing, although the command names the provider.
        let format = if row.id == "unenroll" { Format::Null } else { row.format };
        let spec = Spec { access: access(letters), format, content: Content::Command(&row.id), since: &row.since, atomic: false };
        schema.add(&address(&row.uri, Scope::Device), &spec, None);
    }
    for row in catalogue().facts().filter(|row| row.is_of("windows")) {
        let letters = WRITABLE.iter().find(|(name, _)| *name == row.name).map_or("G", |(_, letters)| letters);
        let content = if row.name == "dev-detail.os-version" { Content::Version } else { Content::Any };
        let spec = Spec { access: access(letters), format: row.format, content, since: &row.since, atomic: false };
        schema.add(&address(&row.uri, row.scope), &spec, row.sample.as_deref());
    }
    for (path, letters, format, content) in NODES {
        let (scopes, below) = path.split_once('/').unwrap_or_default();
        let atomic = path.contains(IN_ATOMIC);
        let spec = Spec { access: access(letters), format: *format, content: content.clone(), since: &[], atomic };
        for (letter, scope) in [('D', Scope::Device), ('U', Scope::User)] {
            if scopes.contains(letter) {
                schema.add(&address(below, scope), &spec, None);
            }
        }
    }
    schema
}

fn access(letters: &str) -> Access {
    Access::parse(letters).unwrap_or_default()
}

/// A row's address with `*` for its variables.
fn address(template: &str, scope: Scope) -> String {
    let path = template.replace("{tenant}", "*").replace("{provider}", "*");
    if path.starts_with("./") { path } else { format!("{}/{path}", scope.root()) }
}

impl Schema {
    /// Adds a node, the nodes above it, and what it holds at first. Nodes without a variable above them are always there.
    fn add(&mut self, address: &str, spec: &Spec, value: Option<&str>) {
        let inner = Spec { access: Access::GET, format: Format::Node, content: Content::Inner, since: &[], atomic: false };
        let mut names: Vec<&str> = address.trim_start_matches("./").split('/').collect();
        if names.first().is_some_and(|first| *first == "Vendor") {
            names.insert(0, "Device");
        }
        let mut place = &mut self.top;
        let mut shown = String::from(".");
        for (depth, name) in names.iter().enumerate() {
            place = match *name {
                "*" => place.any.get_or_insert_with(Box::default),
                name => place.named.entry(name.to_lowercase()).or_default(),
            };
            shown.push('/');
            shown.push_str(if *name == "*" { "X" } else { name });
            let last = depth + 1 == names.len();
            let fixed = !names.iter().take(depth + 1).any(|name| *name == "*");
            if fixed
                && (!last || value.is_some() || spec.format == Format::Node)
                && let Ok(uri) = LocUri::parse(&shown)
            {
                let node = Stored { name: (*name).to_owned(), value: value.filter(|_| last).map(str::to_owned) };
                let slot = self.initial.entry(uri.key().to_owned()).or_insert_with(|| node.clone());
                if last {
                    *slot = node;
                }
            }
            let here = if last {
                spec.clone()
            } else {
                let key = shown.trim_start_matches("./").to_lowercase();
                let letters = AREAS.iter().find(|(area, _)| *area == key);
                Spec { access: letters.map_or(Access::GET, |(_, letters)| access(letters)), ..inner.clone() }
            };
            if last || place.spec.is_none() {
                self.listed.retain(|(known, _)| *known != shown);
                self.listed.push((shown.clone(), here.clone()));
                place.spec = Some(here);
            }
        }
    }
}
