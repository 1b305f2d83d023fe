//! The device's management tree: what nodes there are, what may be done with them, and what they hold.
//!
//! Which nodes exist follows from the catalogue's rows and the table in [`schema`]; both are held against the system maker's own
//! description by the test `windows_ddf`. What a device holds is the shared initial state plus its own changes, so that a fleet
//! of thousands costs little.
//!
//! | Asked | Answer |
//! | --- | --- |
//! | Add of a node that is there | 418 |
//! | Get, Replace, Delete, Exec of one that is not; anything of one that the version or edition lacks | 404 |
//! | a verb that the node does not allow; a change outside of an Atomic where one is needed; anything below `./User` without a user | 405 |
//! | another format than the node's | 415 |
//! | a value that the node does not take; an address that is none | 400 |
//! | no value where one is needed | 412 |
//! | more than the device can hold | 420 |

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::hash::MessageDigest;
use openssl::x509::X509;

use crate::catalogue::{Format, OsVersion, Scope, Vars, Verb, catalogue};
use crate::wire::locuri::{LocUri, encode_name};

pub mod schema;

use schema::{Content, Spec};

/// Where the edition's SKU number stands.
pub const EDITION: &str = "./Vendor/MSFT/DeviceStatus/OS/Edition";

/// What is asked of one node.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// What to do.
    pub verb: Verb,
    /// The node, as in the message.
    pub uri: &'a str,
    /// `Meta/Format`, when the message has one.
    pub format: Option<Format>,
    /// `Data`, when the message has it.
    pub data: Option<&'a str>,
}

/// What a command sets off beyond the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A SCEP enrolment shall begin. Its outcome is written with [`Tree::scep_done`] or [`Tree::scep_failed`].
    ScepEnroll {
        /// Machine or user store.
        scope: Scope,
        /// The request's name in the tree.
        id: String,
        /// The leaves below `Install`, by name.
        install: BTreeMap<String, String>,
    },
    /// A command of the catalogue, by identifier: `reboot`, `wipe`, `unenroll`.
    Command(&'static str),
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// SyncML status.
    pub status: u16,
    /// For a Get that succeeded: format and value.
    pub value: Option<(Format, String)>,
    /// What it sets off.
    pub effect: Option<Effect>,
}

impl Answer {
    /// Only a status.
    fn status(status: u16) -> Self {
        Self { status, value: None, effect: None }
    }
}

/// One part of an Atomic.
#[derive(Clone, Debug)]
pub enum Part<'a> {
    /// A request.
    Request(Request<'a>),
    /// Another Atomic, which is refused.
    Atomic,
}

/// How a device misbehaves.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Nodes that answer with a status of their own, for all verbs or one.
    pub refuse: Vec<(LocUri, Option<Verb>, u16)>,
    /// How many more bytes of values fit; `None`: any.
    pub space: Option<usize>,
    /// Whether the user is signed in: without, `./User` answers 405.
    pub user_present: bool,
}

impl Default for Faults {
    fn default() -> Self {
        Self { refuse: Vec::new(), space: None, user_present: true }
    }
}

/// A node that is there. An inner node has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stored {
    /// The name as it was first written.
    name: String,
    value: Option<String>,
}

/// A device's tree.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Changes against the initial state; `None`: removed.
    own: BTreeMap<String, Option<Stored>>,
    os_version: Option<OsVersion>,
    edition: String,
    /// How it misbehaves.
    pub faults: Faults,
}

impl Tree {
    /// The tree of a healthy PC that is enrolled under the name `provider`.
    #[must_use]
    pub fn new(provider: &str) -> Self {
        let mut tree = Self { own: BTreeMap::new(), os_version: None, edition: String::new(), faults: Faults::default() };
        let vars = Vars { tenant: "", provider };
        for fact in catalogue().facts().filter(|fact| fact.uri.contains("{provider}")) {
            if let Some(sample) = &fact.sample {
                tree.set(&fact.locuri(&vars), sample);
            }
        }
        for setting in catalogue().settings().filter(|row| row.uri.contains("{provider}") && !row.access.allows(Verb::Add)) {
            if let (Some(uri), Some(default)) = (setting.locuri(Scope::Device, &vars), &setting.default) {
                tree.set(&uri, default);
            }
        }
        tree.set(&format!("./User/Vendor/MSFT/DMClient/Provider/{}", encode_name(provider)), "");
        tree.note_version();
        tree
    }

    /// Carries a request out that stands by itself.
    pub fn execute(&mut self, request: &Request<'_>) -> Answer {
        self.carry_out(request, false)
    }

    fn carry_out(&mut self, request: &Request<'_>, in_atomic: bool) -> Answer {
        let Ok(uri) = LocUri::parse(request.uri) else { return Answer::status(400) };
        if uri.scope() == Scope::User && !self.faults.user_present {
            return Answer::status(405);
        }
        let refused = |(node, verb, _): &&(LocUri, Option<Verb>, u16)| uri.is_within(node) && verb.is_none_or(|verb| verb == request.verb);
        if let Some((_, _, status)) = self.faults.refuse.iter().find(refused) {
            return Answer::status(*status);
        }
        let Some(spec) = schema::find(uri.key()).filter(|spec| self.has(spec)) else {
            return Answer::status(404);
        };
        if spec.atomic && !in_atomic && request.verb != Verb::Get {
            return Answer::status(405);
        }
        match request.verb {
            Verb::Get => self.read(&uri, spec),
            Verb::Add | Verb::Replace => self.write(&uri, spec, request),
            Verb::Delete => self.delete(&uri, spec),
            Verb::Exec => self.run(&uri, spec, request),
        }
    }

    /// Carries the parts of an Atomic out: all or none. The first status is the Atomic's own, 200 or 507; the answers are in order:
    /// what was done and taken back 216, what was not tried 215, what failed its own status.
    pub fn atomic(&mut self, parts: &[Part<'_>]) -> (u16, Vec<Answer>) {
        let before = self.own.clone();
        let mut answers: Vec<Answer> = Vec::with_capacity(parts.len());
        for part in parts {
            let answer = match part {
                Part::Request(request) if request.verb != Verb::Get => self.carry_out(request, true),
                Part::Request(_) | Part::Atomic => Answer::status(500),
            };
            let failed = answer.status >= 300;
            answers.push(answer);
            if failed {
                break;
            }
        }
        if answers.last().is_none_or(|last| last.status < 300) {
            return (200, answers);
        }
        self.own = before;
        let guilty = answers.len().saturating_sub(1);
        for done in answers.iter_mut().take(guilty) {
            *done = Answer::status(216);
        }
        answers.resize(parts.len(), Answer::status(215));
        (507, answers)
    }

    fn read(&self, uri: &LocUri, spec: &Spec) -> Answer {
        if !spec.access.allows(Verb::Get) {
            return Answer::status(405);
        }
        // What the system made of its policies: with one source, what that source wrote.
        let effective = uri.key().replacen("/policy/result/", "/policy/config/", 1);
        if spec.format == Format::Node {
            if !self.exists(uri.key()) {
                return Answer::status(404);
            }
            let names: Vec<String> = self.children(uri.key()).iter().map(|name| encode_name(name)).collect();
            return Answer { status: 200, value: Some((Format::Node, names.join("/"))), effect: None };
        }
        match self.stored(&effective).and_then(|node| node.value.clone()) {
            Some(value) => Answer { status: 200, value: Some((spec.format, value)), effect: None },
            None => Answer::status(404),
        }
    }

    fn write(&mut self, uri: &LocUri, spec: &Spec, request: &Request<'_>) -> Answer {
        let there = self.exists(uri.key());
        match request.verb {
            Verb::Add if there => return Answer::status(418),
            verb if !spec.access.allows(verb) => return Answer::status(405),
            Verb::Replace if !there => return Answer::status(404),
            _ => {}
        }
        let format = request.format.unwrap_or(if spec.format == Format::Node { Format::Node } else { Format::Chr });
        if !same_format(format, spec.format) {
            return Answer::status(415);
        }
        if spec.format == Format::Node {
            if request.data.is_some_and(|data| !data.is_empty()) {
                return Answer::status(400);
            }
            self.insert(uri, None);
            return Answer::status(200);
        }
        let data = match request.data {
            Some(data) => data,
            None if spec.format == Format::Chr => "",
            None => return Answer::status(412),
        };
        if !spec.takes(data) {
            return Answer::status(400);
        }
        if let Some(space) = &mut self.faults.space {
            match space.checked_sub(data.len()) {
                Some(left) => *space = left,
                None => return Answer::status(420),
            }
        }
        if spec.content == Content::Certificate && !self.describe_certificate(uri, data) {
            return Answer::status(400);
        }
        self.insert(uri, Some(data.to_owned()));
        if matches!(spec.content, Content::Version) {
            self.note_version();
        }
        Answer::status(200)
    }

    fn delete(&mut self, uri: &LocUri, spec: &Spec) -> Answer {
        if !self.exists(uri.key()) {
            return Answer::status(404);
        }
        if !spec.access.allows(Verb::Delete) {
            return Answer::status(405);
        }
        self.remove(uri);
        Answer::status(200)
    }

    fn run(&mut self, uri: &LocUri, spec: &Spec, request: &Request<'_>) -> Answer {
        if !spec.access.allows(Verb::Exec) {
            return Answer::status(405);
        }
        let data = request.data.filter(|data| !data.is_empty());
        let effect = match &spec.content {
            Content::ScepEnroll => {
                let Some((id, install)) = self.scep_request(uri) else { return Answer::status(404) };
                self.put_beside(uri, "Status", "2");
                Effect::ScepEnroll { scope: uri.scope(), id, install }
            }
            Content::Command(id) => Effect::Command(id),
            _ => return Answer::status(406),
        };
        let format = request.format.unwrap_or(Format::Null);
        // Ending the enrolment names the provider, although its node says that it takes nothing.
        let named = spec.content == Content::Command("unenroll") && format == Format::Chr;
        if !named && (!same_format(format, spec.format) || (spec.format == Format::Null && data.is_some())) {
            return Answer::status(415);
        }
        Answer { status: 200, value: None, effect: Some(effect) }
    }

    /// The name of a SCEP request and what its `Install` holds.
    fn scep_request(&self, enroll: &LocUri) -> Option<(String, BTreeMap<String, String>)> {
        let install = enroll.parent()?;
        let id = install.parent()?.name().to_owned();
        let leaves = self.children(install.key()).into_iter().filter_map(|name| {
            let value = self.stored(install.join(&name).ok()?.key())?.value.clone()?;
            Some((name, value))
        });
        let leaves: BTreeMap<String, String> = leaves.collect();
        let complete = ["ServerURL", "Challenge", "SubjectName", "KeyLength"].iter().all(|name| leaves.contains_key(*name));
        complete.then_some((id, leaves))
    }

    /// Writes a leaf of the SCEP request that `enroll` (its `Install/Enroll`) belongs to.
    fn put_beside(&mut self, enroll: &LocUri, leaf: &str, value: &str) {
        if let Some(node) = enroll.parent().and_then(|install| install.parent()).and_then(|request| request.join(leaf).ok()) {
            self.insert(&node, Some(value.to_owned()));
        }
    }

    /// Whether a SCEP request is there.
    pub(super) fn has_scep(&self, scope: Scope, id: &str) -> bool {
        self.get(&scep_leaf(scope, id, "Status")).is_some()
    }

    /// Notes that a SCEP enrolment gave a certificate (SHA-1 thumbprint in hexadecimal), unless its request was deleted meanwhile.
    pub fn scep_done(&mut self, scope: Scope, id: &str, thumbprint: &str, server: &str) {
        if self.get(&scep_leaf(scope, id, "Status")).is_none() {
            return;
        }
        self.set(&scep_leaf(scope, id, "Status"), "1");
        self.set(&scep_leaf(scope, id, "ErrorCode"), "0");
        self.set(&scep_leaf(scope, id, "CertThumbprint"), &thumbprint.to_uppercase());
        self.set(&scep_leaf(scope, id, "RespondentServerUrl"), server);
    }

    /// Notes that a SCEP enrolment failed, with its `HRESULT`, unless its request was deleted meanwhile.
    pub fn scep_failed(&mut self, scope: Scope, id: &str, error: i32) {
        if self.get(&scep_leaf(scope, id, "Status")).is_none() {
            return;
        }
        self.set(&scep_leaf(scope, id, "Status"), "16");
        self.set(&scep_leaf(scope, id, "ErrorCode"), &error.to_string());
    }

    /// Reads a trusted certificate's leaves out of it; `false` when it is none or not the one that its address names.
    fn describe_certificate(&mut self, uri: &LocUri, data: &str) -> bool {
        let Ok(der) = STANDARD.decode(data.split_whitespace().collect::<String>()) else { return false };
        let (Ok(certificate), Some(node)) = (X509::from_der(&der), uri.parent()) else { return false };
        if !certificate.digest(MessageDigest::sha1()).is_ok_and(|digest| hex::encode(digest).eq_ignore_ascii_case(node.name())) {
            return false;
        }
        let name = |name: &openssl::x509::X509NameRef| {
            let parts = name
                .entries()
                .filter_map(|entry| Some(format!("{}={}", entry.object().nid().short_name().ok()?, entry.data().to_string().ok()?)));
            parts.collect::<Vec<_>>().join(", ")
        };
        let leaves = [
            ("IssuedTo", name(certificate.subject_name())),
            ("IssuedBy", name(certificate.issuer_name())),
            ("ValidFrom", certificate.not_before().to_string()),
            ("ValidTo", certificate.not_after().to_string()),
            ("TemplateName", String::new()),
        ];
        for (leaf, value) in leaves {
            if let Ok(leaf) = node.join(leaf) {
                self.insert(&leaf, Some(value));
            }
        }
        true
    }

    /// Sets a value from inside the device, whatever servers may do with the node. An address that is none does nothing.
    pub fn set(&mut self, uri: &str, value: &str) {
        let Ok(uri) = LocUri::parse(uri) else { return };
        let inner = schema::find(uri.key()).is_some_and(|spec| spec.format == Format::Node);
        self.insert(&uri, (!inner).then(|| value.to_owned()));
        self.note_version();
    }

    /// Sets a fact from inside the device, by its catalogue name; one that needs the provider's name takes it from `provider`.
    /// `false` when no fact is called so.
    pub fn set_fact(&mut self, name: &str, value: &str, provider: &str) -> bool {
        let Some(fact) = catalogue().fact(name) else { return false };
        self.set(&fact.locuri(&Vars { tenant: "", provider }), value);
        true
    }

    /// Turns BitLocker on or off, with all that tells of it.
    pub fn switch_bitlocker(&mut self, on: bool) {
        self.set_fact("bitlocker.device-encryption-status", if on { "0" } else { "65536" }, "");
        self.set_fact("device-status.encryption-compliance", if on { "true" } else { "false" }, "");
    }

    /// Removes a node and what is below it from inside the device.
    pub fn unset(&mut self, uri: &str) {
        if let Ok(uri) = LocUri::parse(uri) {
            self.remove(&uri);
        }
    }

    /// The value of a leaf, as the device itself sees it.
    #[must_use]
    pub fn get(&self, uri: &str) -> Option<&str> {
        self.stored(LocUri::parse(uri).ok()?.key())?.value.as_deref()
    }

    /// All leaves below a node, as the device itself sees them: address to value.
    #[must_use]
    pub fn leaves(&self, uri: &str) -> BTreeMap<String, String> {
        let Ok(node) = LocUri::parse(uri) else { return BTreeMap::new() };
        let mut found = BTreeMap::new();
        let mut open = vec![node];
        while let Some(node) = open.pop() {
            if let Some(value) = self.stored(node.key()).and_then(|stored| stored.value.clone()) {
                found.insert(node.to_string(), value);
            }
            open.extend(self.children(node.key()).iter().filter_map(|name| node.join(name).ok()));
        }
        found
    }

    fn note_version(&mut self) {
        self.os_version = self.get("./DevDetail/SwV").and_then(OsVersion::parse);
        self.edition = self.get(EDITION).unwrap_or_default().to_owned();
    }

    /// Whether the device's version and edition have the node.
    fn has(&self, spec: &Spec) -> bool {
        let edition = || match spec.content {
            Content::Setting(id) => catalogue().setting(id).is_none_or(|row| row.has_edition(&self.edition)),
            _ => true,
        };
        self.os_version.is_none_or(|version| version.has(spec.since)) && edition()
    }

    fn stored(&self, key: &str) -> Option<&Stored> {
        match self.own.get(key) {
            Some(own) => own.as_ref(),
            None => schema::initial().get(key),
        }
    }

    fn exists(&self, key: &str) -> bool {
        self.stored(key).is_some() || !self.children(key).is_empty()
    }

    /// The names of the nodes directly below.
    fn children(&self, key: &str) -> Vec<String> {
        let below = format!("{key}/");
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        let own = self.own.range(below.clone()..).take_while(|(at, _)| at.starts_with(&below));
        let shared = schema::initial().range(below.clone()..).take_while(|(at, _)| at.starts_with(&below));
        let there = own.filter_map(|(at, node)| Some((at, node.as_ref()?))).chain(shared.filter(|(at, _)| !self.own.contains_key(*at)));
        for (at, node) in there {
            let rest = at.get(below.len()..).unwrap_or_default();
            match rest.split_once('/') {
                // A deeper node shows that this one is there; its spelling comes from itself where it is stored.
                Some((name, _)) => {
                    names.entry(name.to_owned()).or_insert_with(|| name.to_owned());
                }
                None => {
                    names.insert(rest.to_owned(), node.name.clone());
                }
            }
        }
        names.into_values().collect()
    }

    /// Puts a node in, and the nodes above it.
    fn insert(&mut self, uri: &LocUri, value: Option<String>) {
        let mut above = uri.parent();
        while let Some(node) = above {
            if self.stored(node.key()).is_none() {
                self.own.insert(node.key().to_owned(), Some(Stored { name: node.name().to_owned(), value: None }));
            }
            above = node.parent();
        }
        self.own.insert(uri.key().to_owned(), Some(Stored { name: uri.name().to_owned(), value }));
    }

    fn remove(&mut self, uri: &LocUri) {
        let (key, below) = (uri.key().to_owned(), format!("{}/", uri.key()));
        self.own.retain(|at, _| *at != key && !at.starts_with(&below));
        let shared: Vec<&String> = schema::initial().range(key.clone()..).map(|(at, _)| at).take_while(|at| at.starts_with(&key)).collect();
        for at in shared.into_iter().filter(|at| **at == key || at.starts_with(&below)) {
            self.own.insert(at.clone(), None);
        }
    }
}

fn scep_leaf(scope: Scope, id: &str, leaf: &str) -> String {
    format!("{}/Vendor/MSFT/ClientCertificateInstall/SCEP/{}/{leaf}", scope.root(), encode_name(id))
}

/// Whether data that says it has the one format can be a value of the other: bytes travel as base64.
fn same_format(said: Format, node: Format) -> bool {
    said == node || matches!((said, node), (Format::B64, Format::Bin) | (Format::Chr, Format::Xml | Format::Time))
}

#[cfg(test)]
mod tests;
