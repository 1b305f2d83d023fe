//! Apple's own schema of profiles, commands, check-in messages and declarations, and the judge that holds what we emit against it.
//!
//! Beside the schema stands the [`Target`]: which system, which version, which channel, how enrolled. What a target does not know or
//! may not be sent is a finding, as are unknown keys, wrong types, missing keys and values out of range.

mod judge;
mod yaml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use muster::wire::plist::{Dict, Value};
use regex::Regex;
use serde_json::Value as Json;

pub use judge::Form;
use judge::Judge;
use yaml::Node;

use super::tools;

/// What a device is, as far as the schema cares.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// `macOS` or `iOS`, as the schema writes it.
    pub os: &'static str,
    /// The version: `15.1`.
    pub version: &'static str,
    /// The user channel instead of the device's.
    pub user_channel: bool,
    /// Supervised.
    pub supervised: bool,
    /// Enrolled through automated device enrolment.
    pub automated: bool,
    /// A user enrolment.
    pub user_enrollment: bool,
}

impl Target {
    /// A supervised Mac from automated enrolment.
    pub const fn mac(version: &'static str) -> Self {
        Self { os: "macOS", version, user_channel: false, supervised: true, automated: true, user_enrollment: false }
    }

    /// An unsupervised iPhone in a device enrolment.
    pub const fn iphone(version: &'static str) -> Self {
        Self { os: "iOS", version, user_channel: false, supervised: false, automated: false, user_enrollment: false }
    }
}

/// What the schema says of where something exists: `macOS.introduced` to `13.0`, lists joined by commas.
type Support = BTreeMap<String, String>;

/// A key.
#[derive(Clone, Debug)]
pub struct Key {
    name: String,
    kind: String,
    required: bool,
    support: Support,
    values: Vec<String>,
    range: Option<(f64, f64)>,
    repetition: Option<(f64, f64)>,
    format: Option<Regex>,
    /// The assets that it may name, and their media types.
    assets: (Vec<String>, Vec<String>),
    /// `None`: anything goes inside.
    subkeys: Option<Arc<Vec<Self>>>,
}

/// One file: a payload, command, message or declaration.
#[derive(Clone, Debug, Default)]
struct Sheet {
    support: Support,
    keys: Vec<Key>,
    answer: Vec<Key>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Schema {
    profiles: BTreeMap<String, Vec<Sheet>>,
    kerberos: Sheet,
    top_level: Sheet,
    common: Sheet,
    commands: BTreeMap<String, Sheet>,
    check_in: BTreeMap<String, Sheet>,
    declarations: BTreeMap<String, Sheet>,
    /// Status items, by their names with dots.
    status: BTreeMap<String, Sheet>,
    protocol: BTreeMap<String, Sheet>,
    errors: BTreeMap<String, Sheet>,
    credentials: BTreeMap<String, Sheet>,
    other: BTreeMap<String, Sheet>,
}

static SCHEMA: LazyLock<Option<Schema>> = LazyLock::new(|| {
    let folder = tools::shared("apple-device-management")?;
    Some(Schema::load(&folder).unwrap_or_else(|problem| panic!("{problem}")))
});

/// The schema, or `None` after saying that it is missing.
pub fn schema() -> Option<&'static Schema> {
    SCHEMA.as_ref()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "yaml") {
            found.push(path);
        }
    }
}

fn support(node: Option<&Node>, path: &str, into: &mut Support) {
    match node {
        Some(Node::Map(entries)) => {
            for (key, value) in entries {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                support(Some(value), &path, into);
            }
        }
        Some(Node::Scalar(text)) => {
            into.insert(path.to_owned(), text.clone());
        }
        Some(Node::List(items)) => {
            into.insert(path.to_owned(), items.iter().filter_map(|item| item.text()).collect::<Vec<_>>().join(","));
        }
        Some(Node::Again) | None => {}
    }
}

fn bounds(node: Option<&Node>) -> Option<(f64, f64)> {
    let node = node?;
    let end = |name: &str, none: f64| node.get(name).and_then(Node::text).and_then(|text| text.parse().ok()).unwrap_or(none);
    Some((end("min", f64::NEG_INFINITY), end("max", f64::INFINITY)))
}

/// The keys of a list, each with what it inherits.
fn keys(node: Option<&Node>, inherited: &Support) -> Result<Vec<Key>, String> {
    node.map_or(&[][..], Node::list).iter().map(|node| key(node, inherited)).collect()
}

fn key(node: &Node, inherited: &Support) -> Result<Key, String> {
    let text = |name: &str| node.get(name).and_then(Node::text);
    let name = text("key").ok_or("a key without a name")?.to_owned();
    let mut own = inherited.clone();
    support(node.get("supportedOS"), "", &mut own);
    let subkeys = match node.get("subkeys") {
        Some(Node::Again) | None => None,
        list => Some(Arc::new(keys(list, &own)?)),
    };
    let list = |name: &str| -> Vec<String> {
        node.get(name).map_or(&[][..], Node::list).iter().filter_map(|v| v.text()).map(str::to_owned).collect()
    };
    let format = text("format").map(|format| Regex::new(&format!("^(?:{format})$"))).transpose().map_err(|e| e.to_string())?;
    Ok(Key {
        kind: text("type").unwrap_or("<any>").trim_matches(['<', '>']).to_owned(),
        required: text("presence") == Some("required"),
        values: node.get("rangelist").map_or(&[][..], Node::list).iter().filter_map(|v| v.text()).map(str::to_owned).collect(),
        range: bounds(node.get("range")),
        repetition: bounds(node.get("repetition")),
        support: own,
        format,
        assets: (list("assettypes"), list("asset-content-types")),
        subkeys,
        name,
    })
}

impl Schema {
    fn load(folder: &Path) -> Result<Self, String> {
        let mut schema = Self::default();
        let mut found = Vec::new();
        files(folder, &mut found);
        let newer = folder.join("newer");
        // A newer file takes the place of the older one of the same name.
        let older: Vec<_> = found.iter().filter(|path| !path.starts_with(&newer)).cloned().collect();
        let replaced = |path: &Path| path.strip_prefix(folder).is_ok_and(|rest| newer.join(rest).is_file());
        let all = older.into_iter().filter(|path| !replaced(path)).chain(found.into_iter().filter(|path| path.starts_with(&newer)));
        for path in all {
            let rest = path.strip_prefix(&newer).or_else(|_| path.strip_prefix(folder)).unwrap_or(&path).to_owned();
            if rest.starts_with("docs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).map_err(|e| e.to_string())?;
            let fail = |problem: String| format!("{}: {problem}", path.display());
            schema.add(&rest, &*Node::read(&text).map_err(fail)?).map_err(fail)?;
        }
        schema.extend("com.apple.vpn.managed.applayer", "com.apple.vpn.managed");
        Ok(schema)
    }

    /// Gives a payload the keys of another that it has beside its own, as Apple's text says and the schema does not: each where the payload is.
    fn extend(&mut self, id: &str, like: &str) {
        fn moved(keys: &[Key], from: &Support, to: &Support) -> Vec<Key> {
            let one = |key: &Key| {
                let mut support = to.clone();
                support
                    .extend(key.support.iter().filter(|(name, value)| from.get(*name) != Some(value)).map(|(n, v)| (n.clone(), v.clone())));
                let subkeys = key.subkeys.as_ref().map(|keys| Arc::new(moved(keys, from, to)));
                Key { support, subkeys, ..key.clone() }
            };
            keys.iter().map(one).collect()
        }
        let Some(other) = self.profiles.get(like).and_then(|sheets| sheets.first()).cloned() else { return };
        if let Some(sheet) = self.profiles.get_mut(id).and_then(|sheets| sheets.first_mut()) {
            sheet.keys.extend(moved(&other.keys, &other.support, &sheet.support.clone()));
        }
    }

    fn add(&mut self, path: &Path, node: &Node) -> Result<(), String> {
        let payload = node.get("payload");
        let mut sheet = Sheet::default();
        support(payload.and_then(|p| p.get("supportedOS")), "", &mut sheet.support);
        sheet.keys = keys(node.get("payloadkeys"), &sheet.support)?;
        sheet.answer = keys(node.get("responsekeys"), &sheet.support)?;
        let name = |field: &str| payload.and_then(|p| p.get(field)).and_then(Node::text).unwrap_or_default().to_owned();
        let file = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default().to_owned();
        let place = path.parent().and_then(Path::to_str).unwrap_or_default();
        match place {
            "mdm/profiles" if file == "TopLevel" => self.top_level = sheet,
            "mdm/profiles" if file == "CommonPayloadKeys" => self.common = sheet,
            "mdm/profiles" if file == "com.apple.extensiblesso(kerberos)" => self.kerberos = sheet,
            "mdm/profiles" => self.profiles.entry(name("payloadtype")).or_default().push(sheet),
            "mdm/commands" => drop(self.commands.insert(name("requesttype"), sheet)),
            "mdm/checkin" => drop(self.check_in.insert(name("requesttype"), sheet)),
            "mdm/errors" => drop(self.errors.insert(file, sheet)),
            "declarative/protocol" => drop(self.protocol.insert(file, sheet)),
            "declarative/declarations/assets/credentials" => drop(self.credentials.insert(file, sheet)),
            "declarative/status" if !name("statusitemtype").is_empty() => drop(self.status.insert(name("statusitemtype"), sheet)),
            "other" => drop(self.other.insert(file, sheet)),
            _ if place.starts_with("declarative/declarations") => drop(self.declarations.insert(name("declarationtype"), sheet)),
            _ => {}
        }
        Ok(())
    }

    /// How many payloads, commands and declarations it knows.
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.profiles.len(), self.commands.len(), self.declarations.len())
    }

    /// The keys of a payload or declaration, by their places: names with slashes, without the names of list items. `None`: not known.
    pub fn keys_of(&self, id: &str) -> Option<(Described, BTreeMap<String, Described>)> {
        let sheets: &[Sheet] = match self.profiles.get(id) {
            Some(sheets) => sheets,
            None => std::slice::from_ref(self.declarations.get(id)?),
        };
        let sheet = sheets.first()?;
        let (assets, media) = <_>::default();
        let whole = Described { kind: "dictionary".into(), required: true, assets, media, support: sheet.support.clone() };
        let mut all = BTreeMap::new();
        for sheet in sheets {
            describe(&sheet.keys, "", &mut all);
        }
        Some((whole, all))
    }

    /// What is wrong with a configuration profile and each of its payloads.
    pub fn profile(&self, profile: &Value, target: Target) -> Vec<String> {
        let Some(dict) = profile.as_dict() else { return vec!["a profile is a dictionary".into()] };
        let mut judge = Judge::new(target, Form::Plist);
        let mut top = dict.clone();
        top.insert("PayloadContent", Value::Array(Vec::new()));
        judge.sheet(&self.top_level, &self.top_level.keys, &top, "");
        let mut findings = judge.findings;
        for (at, payload) in dict.array("PayloadContent").unwrap_or_default().iter().enumerate() {
            let Some(payload) = payload.as_dict() else { continue };
            let kind = payload.string("PayloadType").unwrap_or_default();
            findings.extend(self.payload(payload, target).into_iter().map(|what| format!("PayloadContent/{at} ({kind})/{what}")));
        }
        findings
    }

    /// What is wrong with one payload of a profile.
    pub fn payload(&self, payload: &Dict, target: Target) -> Vec<String> {
        let kind = payload.string("PayloadType").unwrap_or_default();
        let kerberos = payload.string("ExtensionIdentifier") == Some("com.apple.AppSSOKerberos.KerberosExtension");
        let own = if kind == "com.apple.extensiblesso" && kerberos {
            std::slice::from_ref(&self.kerberos)
        } else {
            match self.profiles.get(kind) {
                Some(sheets) => sheets.as_slice(),
                None => return vec![format!("PayloadType: no payload is called {kind}")],
            }
        };
        let mut judge = Judge::new(target, Form::Plist);
        let mut keys: Vec<Key> = own.iter().flat_map(|sheet| sheet.keys.clone()).collect();
        for common in &self.common.keys {
            if keys.iter().all(|key| key.name != common.name) {
                keys.push(common.clone());
            }
        }
        // What the schema forgot.
        if kind.starts_with("com.apple.vpn.managed") {
            for key in &mut keys {
                if key.name == "VPN"
                    && let Some(subkeys) = &key.subkeys
                {
                    let mut subkeys = (**subkeys).clone();
                    subkeys.push(Key::text("RemoteAddress", &key.support));
                    key.subkeys = Some(Arc::new(subkeys));
                }
            }
        }
        // Several sheets of one type: the payload is right where one of them is.
        let mut closed = Vec::new();
        for sheet in own {
            let mut one = Judge::new(target, Form::Plist);
            one.available(&sheet.support, "");
            closed.push(one.findings);
        }
        if closed.iter().all(|findings| !findings.is_empty()) {
            judge.findings.extend(closed.into_iter().next().unwrap_or_default());
        }
        judge.dict(&keys, payload, "");
        judge.findings
    }

    /// What is wrong with a command, with its envelope.
    pub fn command(&self, command: &Value, target: Target) -> Vec<String> {
        let Some(dict) = command.as_dict() else { return vec!["a command is a dictionary".into()] };
        let mut findings: Vec<String> =
            dict.keys().filter(|key| !["CommandUUID", "Command"].contains(key)).map(|key| format!("{key}: unknown key")).collect();
        if dict.string("CommandUUID").is_none_or(str::is_empty) {
            findings.push("CommandUUID: is missing".into());
        }
        let Some(request) = dict.dict("Command") else {
            findings.push("Command: is missing".into());
            return findings;
        };
        let mut request = request.clone();
        let kind = match request.remove("RequestType") {
            Some(Value::String(kind)) => kind,
            _ => String::new(),
        };
        let Some(sheet) = self.commands.get(&kind) else {
            findings.push(format!("RequestType: no command is called {kind}"));
            return findings;
        };
        let mut judge = Judge::new(target, Form::Plist);
        judge.sheet(sheet, &sheet.keys, &request, &kind);
        findings.extend(judge.findings);
        findings
    }

    /// The commands that the channel of a Mac's user takes.
    pub fn commands_for_users(&self) -> Vec<&str> {
        let of_users = |sheet: &Sheet| sheet.support.get("macOS.userchannel").map(String::as_str) == Some("true");
        self.commands.iter().filter(|(_, sheet)| of_users(sheet)).map(|(name, _)| name.as_str()).collect()
    }

    /// What is wrong with the result of a command: only the command's own keys, without the envelope.
    pub fn result(&self, request_type: &str, body: &Dict, target: Target) -> Vec<String> {
        let Some(sheet) = self.commands.get(request_type) else { return vec![format!("no command is called {request_type}")] };
        let mut judge = Judge::new(target, Form::Plist);
        judge.sheet(sheet, &sheet.answer, body, request_type);
        judge.findings
    }

    /// What is wrong with a check-in message, as a device sends it.
    pub fn check_in(&self, message: &Dict, target: Target) -> Vec<String> {
        let kind = message.string("MessageType").unwrap_or_default();
        let Some(sheet) = self.check_in.get(kind) else { return vec![format!("no message is called {kind}")] };
        let mut judge = Judge::new(target, Form::Plist);
        judge.sheet(sheet, &sheet.keys, message, kind);
        judge.findings
    }

    /// What is wrong with the answer to a check-in message.
    pub fn check_in_answer(&self, message: &str, answer: &Value, target: Target) -> Vec<String> {
        let (Some(sheet), Some(answer)) = (self.check_in.get(message), answer.as_dict()) else {
            return vec![format!("no message is called {message}, or its answer is no dictionary")];
        };
        let mut judge = Judge::new(target, Form::Plist);
        judge.sheet(sheet, &sheet.answer, answer, message);
        judge.findings
    }

    /// What is wrong with a declaration, with its envelope.
    pub fn declaration(&self, declaration: &Json, target: Target) -> Vec<String> {
        let Some(Value::Dict(dict)) = Value::from_json(declaration) else { return vec!["a declaration is an object".into()] };
        let kind = dict.string("Type").unwrap_or_default();
        let (Some(base), Some(sheet)) = (self.declarations.get("any"), self.declarations.get(kind)) else {
            return vec![format!("Type: no declaration is called {kind}")];
        };
        let mut judge = Judge::new(target, Form::Json);
        let mut envelope = dict.clone();
        envelope.insert("Payload", Dict::new());
        judge.dict(&base.keys, &envelope, "");
        for key in ["Identifier", "ServerToken"] {
            if dict.string(key).is_some_and(|text| text.is_empty() || text.len() > 64) {
                judge.findings.push(format!("{key}: not 1 to 64 octets"));
            }
        }
        judge.sheet(sheet, &sheet.keys, dict.dict("Payload").unwrap_or(&Dict::new()), "Payload");
        if kind == "com.apple.configuration.management.status-subscriptions" {
            let items = dict.dict("Payload").and_then(|payload| payload.array("StatusItems")).unwrap_or_default();
            for name in items.iter().filter_map(|item| item.as_dict()?.string("Name")) {
                judge.findings.extend(self.status_item(name, target));
            }
        }
        judge.findings
    }

    /// What keeps a status item from being reported by a target.
    pub fn status_item(&self, name: &str, target: Target) -> Option<String> {
        let Some(sheet) = self.status.get(name) else { return Some(format!("no status item is called {name}")) };
        let mut judge = Judge::new(target, Form::Json);
        judge.available(&sheet.support, name);
        judge.findings.pop()
    }

    /// What is wrong with a device's report: its frame, and items that the target does not have.
    pub fn report(&self, document: &Json, target: Target) -> Vec<String> {
        let mut findings = self.protocol("statusreport", document, target);
        let mut words = Vec::new();
        self.items(document.get("StatusItems").unwrap_or(&Json::Null), &mut words, target, &mut findings);
        findings
    }

    fn items(&self, value: &Json, words: &mut Vec<String>, target: Target, findings: &mut Vec<String>) {
        let name = words.join(".");
        match value {
            Json::Object(inner) if !self.status.contains_key(&name) => {
                for (word, value) in inner {
                    words.push(word.clone());
                    self.items(value, words, target, findings);
                    words.pop();
                }
            }
            _ => findings.extend(self.status_item(&name, target)),
        }
    }

    /// Why the answer to a request does not hold a key (names with slashes, numbers for items of lists) on a target; `None`: it does.
    pub fn answers(&self, request: &str, at: &str, target: Target) -> Option<String> {
        let Some(sheet) = self.commands.get(request) else { return Some(format!("no command is called {request}")) };
        let mut judge = Judge::new(target, Form::Plist);
        judge.available(&sheet.support, request);
        let mut keys = sheet.answer.as_slice();
        for word in at.split('/') {
            // The item of a list has a name of its own there.
            let item = word.bytes().all(|b| b.is_ascii_digit());
            let Some(key) = keys.iter().find(|key| item || key.name == word) else { return Some(format!("{at}: no such key")) };
            judge.available(&key.support, at);
            keys = key.subkeys.as_deref().map_or(&[][..], Vec::as_slice);
        }
        judge.findings.pop()
    }

    /// What is wrong with a document of the declarative protocol, by the schema's file: `tokensresponse`, `declarationitemsresponse`,
    /// `statusreport`.
    pub fn protocol(&self, file: &str, document: &Json, target: Target) -> Vec<String> {
        document_of(&self.protocol, file, document, target)
    }

    /// What is wrong with the body of a 403 answer: `softwareupdate.required`, `psso.required`, `unrecognized.device`, …
    pub fn error(&self, file: &str, document: &Json, target: Target) -> Vec<String> {
        document_of(&self.errors, file, document, target)
    }

    /// What is wrong with the document of a credential asset: `acme`, `scep`, `identity`, `usernameandpassword`.
    pub fn credential(&self, file: &str, document: &Json, target: Target) -> Vec<String> {
        document_of(&self.credentials, file, document, target)
    }

    /// What is wrong with another document in JSON: `esso`.
    pub fn other(&self, file: &str, document: &Json, target: Target) -> Vec<String> {
        document_of(&self.other, file, document, target)
    }

    /// What is wrong with another document in a property list: `machineinfo`, `manifesturl`, `passwordhash`.
    pub fn other_plist(&self, file: &str, document: &Dict, target: Target) -> Vec<String> {
        let Some(sheet) = self.other.get(file) else { return vec![format!("no sheet is called {file}")] };
        let mut judge = Judge::new(target, Form::Plist);
        judge.sheet(sheet, &sheet.keys, document, "");
        // What the schema forgot: every server calls the application itself a software package.
        judge.findings.retain(|finding| !(file == "manifesturl" && finding.contains("software-package")));
        judge.findings
    }
}

/// A key as the schema describes it.
#[derive(Clone, Debug)]
pub struct Described {
    /// The type's word; for lists `array of <item>`.
    pub kind: String,
    pub required: bool,
    /// The declaration types of assets that it may name.
    pub assets: Vec<String>,
    /// Their media types.
    pub media: Vec<String>,
    support: Support,
}

impl Described {
    /// What the schema says of a system: `userchannel`, `allowed-scopes`, `userenrollment.mode`.
    pub fn says(&self, os: &str, what: &str) -> Option<&str> {
        self.support.get(&format!("{os}.{what}")).map(String::as_str)
    }

    /// The first version of a system; `None`: not there.
    pub fn since(&self, os: &str) -> Option<&str> {
        self.support.get(&format!("{os}.introduced")).map(String::as_str).filter(|since| *since != "n/a")
    }
}

fn describe(keys: &[Key], within: &str, all: &mut BTreeMap<String, Described>) {
    for key in keys {
        let at = if within.is_empty() { key.name.clone() } else { format!("{within}/{}", key.name) };
        let inner = key.subkeys.as_deref().map_or(&[][..], Vec::as_slice);
        let item = inner.first().filter(|_| key.kind == "array");
        let kind = item.map_or_else(|| key.kind.clone(), |item| format!("array of {}", item.kind));
        let below = item.map_or(inner, |item| item.subkeys.as_deref().map_or(&[][..], Vec::as_slice));
        describe(below, &at, all);
        let (assets, media) = key.assets.clone();
        all.insert(at, Described { kind, required: key.required, assets, media, support: key.support.clone() });
    }
}

impl Key {
    fn text(name: &str, support: &Support) -> Self {
        Self {
            name: name.to_owned(),
            kind: "string".into(),
            required: false,
            support: support.clone(),
            values: Vec::new(),
            range: None,
            repetition: None,
            format: None,
            assets: <_>::default(),
            subkeys: None,
        }
    }
}

fn document_of(sheets: &BTreeMap<String, Sheet>, file: &str, document: &Json, target: Target) -> Vec<String> {
    let (Some(sheet), Some(Value::Dict(dict))) = (sheets.get(file), Value::from_json(document)) else {
        return vec![format!("no sheet is called {file}, or the document is no object")];
    };
    let mut judge = Judge::new(target, Form::Json);
    judge.sheet(sheet, &sheet.keys, &dict, "");
    judge.findings
}
