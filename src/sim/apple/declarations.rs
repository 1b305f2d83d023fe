//! The client of declarative management: asks whether something changed, fetches what did, puts it into force, and reports.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json, json};

use super::assets::Material;
use super::enroll::Way;
use super::profiles::{Check, Wrong};
use super::{Device, Error, Machine, answers, declared_apps};
use crate::catalogue::payload::{Form, System};
use crate::catalogue::{PayloadRow, catalogue};
use crate::sim::scep::Identity;
use crate::wire::Malformed;
use crate::wire::apple::checkin::{DeclarativeManagement, Message};
use crate::wire::apple::ddm::{
    Capabilities, Declaration, DeclarationStatus, Endpoint, ItemError, Kind, MANAGED, Manifest, PACKAGE, Reason, StatusReport,
    SupportedPayloads, Tokens, Valid,
};
use crate::wire::apple::predicate;
use crate::wire::plist::{Data, Value};

/// How often tokens and manifest may disagree before the device gives up for now.
const DISAGREEMENTS: usize = 3;
/// Which configurations hold.
const ACTIVATION: &str = "com.apple.activation.simple";
/// A configuration profile by declaration.
const LEGACY: &str = "com.apple.configuration.legacy";
/// Values for conditions.
const PROPERTIES: &str = "com.apple.management.properties";
/// What to report.
const SUBSCRIPTIONS: &str = "com.apple.configuration.management.status-subscriptions";

/// What is tried again at each look.
const RETRIED: [&str; 2] = ["Error.AssetCannotBeDownloaded", "Error.MissingAssets"];

/// What both systems report.
const ITEMS: [&str; 8] = [
    "device.identifier.serial-number",
    "device.identifier.udid",
    "device.model.family",
    "device.model.identifier",
    "device.model.marketing-name",
    "device.operating-system.build-version",
    "device.operating-system.family",
    "device.operating-system.version",
];
/// What iPhones and iPads report: no Mac tells of a passcode.
const PHONE_ITEMS: [&str; 2] = ["passcode.is-compliant", "passcode.is-present"];
/// What Macs report.
const MAC_ITEM: &str = "diskmanagement.filevault.enabled";

/// A declaration that the device has.
#[derive(Clone, Debug)]
pub struct Held {
    /// It.
    pub declaration: Declaration,
    /// How it stands with it.
    pub status: DeclarationStatus,
    /// The profile that it installed, and with which server token.
    profile: Option<(String, String)>,
    /// What was fetched for it, and with which server token.
    pub(super) material: Option<(String, Material)>,
    /// In which version it was put into force with its assets, and the identity that it made of them.
    pub(super) used: Option<(String, Option<Identity>)>,
}

/// All that a device knows of declarative management.
#[derive(Clone, Debug, Default)]
pub struct Declarations {
    /// Whether the server has switched it on.
    pub enabled: bool,
    /// The declarations, by kind and identifier.
    pub held: BTreeMap<(Kind, String), Held>,
    token: String,
    due: Option<Option<Tokens>>,
    reported: bool,
    last: BTreeMap<(Kind, String), DeclarationStatus>,
    said_can: Option<Capabilities>,
    items: BTreeMap<String, Json>,
}

impl Declarations {
    /// The server wants the device to look; it may say the tokens at once.
    pub(super) fn ask(&mut self, tokens: Option<Tokens>) {
        self.enabled = true;
        self.due = Some(tokens);
    }

    /// How it stands with a declaration.
    #[must_use]
    pub fn status(&self, kind: Kind, identifier: &str) -> Option<&DeclarationStatus> {
        self.held.get(&(kind, identifier.to_owned())).map(|held| &held.status)
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Held> {
        self.held.iter().filter(move |((known, _), _)| *known == kind).map(|(_, held)| held)
    }

    /// The items that configurations in force subscribe to.
    fn subscribed(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for held in self.of(Kind::Configuration).filter(|held| held.status.active && held.declaration.kind == SUBSCRIPTIONS) {
            let items = held.declaration.payload.get("StatusItems").and_then(Json::as_array).into_iter().flatten();
            names.extend(items.filter_map(|item| item.get("Name")?.as_str().map(str::to_owned)));
        }
        names
    }
}

/// What a device of that version can do; `users`: one that is its user's own (user enrolment).
#[must_use]
pub fn capabilities(machine: &Machine, users: bool) -> Capabilities {
    let mut payloads = SupportedPayloads::default();
    let known = |row: &&PayloadRow| {
        row.supports(machine.system, machine.version()) && (!users || row.is_for_users(machine.system)) && !unsupervised(&row.id, machine)
    };
    for row in catalogue().payloads().filter(|row| row.form == Form::Declaration).filter(known) {
        let declarations = &mut payloads.declarations;
        match Kind::of_type(&row.id) {
            Some(Kind::Activation) => declarations.activations.push(row.id.clone()),
            Some(Kind::Asset) => declarations.assets.push(row.id.clone()),
            Some(Kind::Configuration) => declarations.configurations.push(row.id.clone()),
            Some(Kind::Management) => declarations.management.push(row.id.clone()),
            None => {}
        }
    }
    payloads.status_items = ITEMS.iter().map(|name| (*name).to_owned()).collect();
    match machine.system {
        System::Ios => payloads.status_items.extend(PHONE_ITEMS.map(str::to_owned)),
        System::Mac if !users => payloads.status_items.push(MAC_ITEM.into()),
        System::Mac => {}
    }
    if capable(machine) {
        let items = declared_apps::items(machine.system == System::Mac, machine.version());
        payloads.status_items.extend(items.iter().map(|name| (*name).to_owned()));
    }
    payloads.status_items.extend(["management.client-capabilities".into(), "management.declarations".into()]);
    Capabilities { supported_versions: vec!["1.0.0".into()], supported_features: Map::new(), supported_payloads: payloads }
}

/// Whether a device of its kind keeps applications by declaration: of Macs, those that are supervised.
fn capable(machine: &Machine) -> bool {
    machine.system == System::Ios || machine.supervised
}

/// Whether a declaration is not for this device as long as it is not supervised.
fn unsupervised(kind: &str, machine: &Machine) -> bool {
    [MANAGED, PACKAGE].contains(&kind) && !capable(machine)
}

fn reason(code: &str, description: impl Into<String>) -> Vec<Reason> {
    vec![Reason { code: code.into(), description: Some(description.into()), details: Map::new() }]
}

impl Device {
    /// Fetches what changed and reports; whether there was anything to say.
    pub(super) async fn declare(&mut self) -> Result<bool, Error> {
        if !self.declarations.enabled {
            return Ok(false);
        }
        if let Some(tokens) = self.declarations.due.clone() {
            self.synchronise(tokens).await?;
            self.declarations.due = None;
        }
        self.evaluate().await;
        self.keep_apps().await;
        self.report().await
    }

    async fn ask<T: DeserializeOwned>(&mut self, endpoint: Endpoint) -> Result<T, Error> {
        let message = DeclarativeManagement { endpoint: endpoint.to_string(), data: None };
        let body = self.check_in_raw(Message::DeclarativeManagement(message)).await?;
        let broken = |problem: serde_json::Error| Malformed::new("not what was asked for", format!("{endpoint}: {problem}"));
        Ok(serde_json::from_slice(&body).map_err(broken)?)
    }

    async fn synchronise(&mut self, given: Option<Tokens>) -> Result<(), Error> {
        let mut tokens = given;
        for _ in 0..DISAGREEMENTS {
            let known: Tokens = match tokens.take() {
                Some(tokens) => tokens,
                None => self.ask(Endpoint::Tokens).await?,
            };
            if known.sync_tokens.declarations_token == self.declarations.token {
                return Ok(());
            }
            let manifest: Manifest = self.ask(Endpoint::Items).await?;
            if manifest.declarations_token != known.sync_tokens.declarations_token {
                continue;
            }
            let mut complete = true;
            let listed: BTreeMap<(Kind, String), String> = Kind::ALL
                .into_iter()
                .flat_map(|kind| manifest.declarations.of(kind).iter().map(move |item| (kind, item)))
                .map(|(kind, item)| ((kind, item.identifier.clone()), item.server_token.clone()))
                .collect();
            self.drop_unlisted(&listed);
            for ((kind, identifier), token) in listed {
                let key = (kind, identifier.clone());
                if self.declarations.held.get(&key).is_some_and(|held| held.declaration.server_token == token) {
                    continue;
                }
                match self.ask::<Declaration>(Endpoint::Declaration(kind, identifier.clone())).await {
                    Ok(declaration) if declaration.identifier == identifier && declaration.server_token == token => {
                        self.take_in(kind, declaration);
                    }
                    // What is gone again or has changed meanwhile is asked for the next time.
                    Ok(_) | Err(Error::Http(404, _)) => complete = false,
                    Err(error) => return Err(error),
                }
            }
            if complete {
                self.declarations.token = manifest.declarations_token;
                return Ok(());
            }
        }
        Err(Malformed::new("tokens, manifest and declarations do not agree", "declaration-items").into())
    }

    fn drop_unlisted(&mut self, listed: &BTreeMap<(Kind, String), String>) {
        let gone: Vec<_> = self.declarations.held.keys().filter(|key| !listed.contains_key(*key)).cloned().collect();
        for key in gone {
            if let Some((profile, _)) = self.declarations.held.remove(&key).and_then(|held| held.profile) {
                self.profiles.installed.remove(&profile);
            }
        }
    }

    fn take_in(&mut self, kind: Kind, declaration: Declaration) {
        let verdict = examine(kind, &declaration, &self.machine, self.is_users(), self.user.is_some());
        let status = DeclarationStatus {
            identifier: declaration.identifier.clone(),
            server_token: declaration.server_token.clone(),
            valid: if verdict.is_empty() { Valid::Valid } else { Valid::Invalid },
            reasons: verdict,
            ..DeclarationStatus::default()
        };
        let key = (kind, declaration.identifier.clone());
        let profile = self.declarations.held.remove(&key).and_then(|held| held.profile);
        self.declarations.held.insert(key, Held { declaration, status, profile, material: None, used: None });
    }

    /// Decides what is in force.
    async fn evaluate(&mut self) {
        let mut wanted: BTreeSet<String> = BTreeSet::new();
        let keys: Vec<(Kind, String)> = self.declarations.held.keys().cloned().collect();
        for key in keys.iter().filter(|(kind, _)| *kind == Kind::Activation) {
            let Some(mut held) = self.declarations.held.get(key).cloned() else { continue };
            if held.status.valid == Valid::Valid {
                let condition = held.declaration.payload.get("Predicate").and_then(Json::as_str);
                held.status.active = condition.is_none_or(|text| self.holds(text));
                held.status.reasons = if held.status.active { Vec::new() } else { reason("Info.Predicate", "the predicate does not hold") };
                let list = held.declaration.payload.get("StandardConfigurations").and_then(Json::as_array).into_iter().flatten();
                wanted.extend(list.filter(|_| held.status.active).filter_map(Json::as_str).map(str::to_owned));
            }
            self.declarations.held.insert(key.clone(), held);
        }
        for key in keys.iter().filter(|(kind, _)| *kind != Kind::Activation) {
            let Some(mut held) = self.declarations.held.get(key).cloned() else { continue };
            let referenced = match key.0 {
                Kind::Configuration => wanted.contains(&key.1),
                Kind::Asset => self.declarations.of(Kind::Configuration).any(|other| mentions(&other.declaration.payload, &key.1)),
                Kind::Activation | Kind::Management => true,
            };
            let missing = if key.0 == Kind::Asset { "Info.NotReferencedByConfiguration" } else { "Info.NotReferencedByActivation" };
            if held.status.valid == Valid::Valid || held.status.reasons.iter().any(|reason| RETRIED.contains(&reason.code.as_str())) {
                held.status.valid = Valid::Valid;
                held.status.active = referenced;
                held.status.reasons = if referenced { Vec::new() } else { reason(missing, "nothing refers to it") };
                let done = match key.0 {
                    Kind::Asset if referenced && held.declaration.payload.contains_key("Reference") => self.obtain(&mut held).await,
                    Kind::Configuration if referenced => self.use_assets(&mut held).await,
                    Kind::Configuration => {
                        held.used = None;
                        Ok(())
                    }
                    _ => Ok(()),
                };
                if let Err((code, why)) = done {
                    held.status.valid = Valid::Invalid;
                    held.status.active = false;
                    held.status.reasons = reason(code, why);
                } else if held.declaration.kind == LEGACY {
                    self.apply_profile(&mut held).await;
                }
            }
            self.declarations.held.insert(key.clone(), held);
        }
    }

    /// Installs or removes the profile of a declaration.
    async fn apply_profile(&mut self, held: &mut Held) {
        let token = held.declaration.server_token.clone();
        match &held.profile {
            Some((profile, _)) if !held.status.active => {
                self.profiles.installed.remove(profile);
                held.profile = None;
                return;
            }
            Some((_, installed)) if *installed == token => return,
            None if !held.status.active => return,
            _ => {}
        }
        let url = held.declaration.payload.get("ProfileURL").and_then(Json::as_str).unwrap_or_default().to_owned();
        let done = match self.get(&url).await {
            Ok(document) => self.install(&document.body, Way::Declaration).await.map_err(|refused| refused.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match done {
            Ok(profile) => {
                if let Some((old, _)) = held.profile.replace((profile.clone(), token)).filter(|(old, _)| *old != profile) {
                    self.profiles.installed.remove(&old);
                }
            }
            Err(why) => {
                held.status.active = false;
                held.status.valid = Valid::Invalid;
                held.status.reasons = reason("Error.ConfigurationCannotBeApplied", why);
            }
        }
    }

    /// A value that the server gave the device under that name.
    fn property(&self, name: &str) -> Option<Json> {
        let all = self.declarations.of(Kind::Management).filter(|held| held.declaration.kind == PROPERTIES);
        all.filter(|held| held.status.valid == Valid::Valid).find_map(|held| held.declaration.payload.get(name).cloned())
    }

    /// Whether a predicate holds. The device knows one comparison of a status item or a property with a text, and takes anything else as not
    /// fulfilled.
    fn holds(&self, text: &str) -> bool {
        let compared = |operator: &str, equal: bool| {
            let (item, literal) = text.split_once(operator)?;
            let (item, literal) = (item.trim().strip_suffix(')')?, literal.trim().trim_matches(['\'', '"']));
            let value = match (item.strip_prefix("@status("), item.strip_prefix("@property(")) {
                (Some(item), _) => self.item(item.trim())?,
                (None, Some(name)) => self.property(name.trim())?,
                (None, None) => return None,
            };
            Some((value.as_str() == Some(literal)) == equal)
        };
        text.trim() == "TRUEPREDICATE" || compared("==", true).or_else(|| compared("!=", false)).unwrap_or(false)
    }

    /// The value of a status item.
    fn item(&self, name: &str) -> Option<Json> {
        let (machine, settings) = (&self.machine, &self.settings);
        let mac = machine.system == System::Mac;
        Some(match name {
            "device.identifier.serial-number" => json!(machine.serial),
            "device.identifier.udid" => json!(machine.udid),
            "device.model.family" => json!(if mac { "Mac" } else { "iPhone" }),
            "device.model.identifier" => json!(machine.product),
            "device.model.marketing-name" => json!(machine.model_name),
            "device.operating-system.build-version" => json!(machine.build),
            "device.operating-system.family" => json!(if mac { "macOS" } else { "iOS" }),
            "device.operating-system.version" => json!(machine.os_version),
            "passcode.is-present" if !mac => json!(settings.passcode.is_some()),
            "passcode.is-compliant" if !mac => json!(answers::is_compliant(settings, &self.profiles)),
            MAC_ITEM if mac => json!(settings.filevault),
            list if declared_apps::items(mac, machine.version()).contains(&list) => self.apps.declared.item(list)?,
            _ => return None,
        })
    }

    /// Reports what has changed since the last report; whether there was anything.
    async fn report(&mut self) -> Result<bool, Error> {
        let first = !self.declarations.reported;
        let now: BTreeMap<_, _> = self.declarations.held.iter().map(|(key, held)| (key.clone(), held.status.clone())).collect();
        let mut status_items = Map::new();
        if first || now != self.declarations.last {
            let mut lists = Map::new();
            for (kind, name) in Kind::ALL.into_iter().zip(["activations", "assets", "configurations", "management"]) {
                let mut list: Vec<DeclarationStatus> =
                    now.iter().filter(|(key, _)| key.0 == kind).map(|(_, status)| status.clone()).collect();
                let gone = self.declarations.last.iter().filter(|(key, _)| key.0 == kind && !now.contains_key(*key));
                list.extend(gone.map(|(_, status)| DeclarationStatus { removed: true, active: false, ..status.clone() }));
                lists.insert(name.into(), json!(list));
            }
            put(&mut status_items, "management.declarations", Json::Object(lists));
        }
        let can = capabilities(&self.machine, self.is_users());
        if self.declarations.said_can.as_ref() != Some(&can) {
            put(&mut status_items, "management.client-capabilities", json!(can));
        }
        let mut items = BTreeMap::new();
        let mut errors = Vec::new();
        for name in self.declarations.subscribed() {
            match self.item(&name) {
                Some(value) => {
                    let before = self.declarations.items.get(&name);
                    if before != Some(&value) {
                        put(&mut status_items, &name, declared_apps::changes(before, &value));
                    }
                    items.insert(name, value);
                }
                None if !self.declarations.items.contains_key(&name) => {
                    errors.push(ItemError { status_item: name.clone(), reasons: reason("Error.NotSupported", "not known on this device") });
                    items.insert(name, Json::Null);
                }
                None => {
                    items.insert(name, Json::Null);
                }
            }
        }
        if status_items.is_empty() && errors.is_empty() {
            return Ok(false);
        }
        let report = StatusReport { status_items, errors, full_report: first };
        let data = serde_json::to_vec(&report).map_err(|problem| Malformed::new("cannot be written", problem.to_string()))?;
        let message = DeclarativeManagement { endpoint: Endpoint::Status.to_string(), data: Some(Data(data)) };
        self.check_in_raw(Message::DeclarativeManagement(message)).await?;
        self.declarations.reported = true;
        self.declarations.last = now;
        self.declarations.said_can = Some(can);
        self.declarations.items = items;
        Ok(true)
    }
}

/// What is wrong with a declaration. `users`: the device is its user's own; `for_user`: it is declared to one of its users.
fn examine(kind: Kind, declaration: &Declaration, machine: &Machine, users: bool, for_user: bool) -> Vec<Reason> {
    let row = catalogue().payload(&declaration.kind).filter(|row| row.form == Form::Declaration);
    let row = row.filter(|row| Kind::of_type(&declaration.kind) == Some(kind) && row.supports(machine.system, machine.version()));
    let Some(row) = row.filter(|row| (!users || row.is_for_users(machine.system)) && !unsupervised(&row.id, machine)) else {
        return reason("Error.ConfigurationNotSupported", format!("{} is not known on this device", declaration.kind));
    };
    if machine.system == System::Mac && (row.device_only && for_user || row.user_only && !for_user) {
        return reason("Error.ConfigurationNotSupported", format!("{} is for another channel", declaration.kind));
    }
    let payload = Value::from_json(&Json::Object(declaration.payload.clone()));
    let Some(Value::Dict(payload)) = payload else { return reason("Error.InvalidPayload", "no dictionary") };
    match (Check { row, machine, users, uuids: &BTreeSet::new() }).dict(&payload, "") {
        Ok(()) => {}
        Err(wrong @ Wrong::Unknown(_)) => return reason("Error.UnknownPayloadKeys", wrong.to_string()),
        Err(Wrong::Other(what)) => return reason("Error.ConfigurationIsInvalid", what),
    }
    if let Some(what) = declared_apps::wrong(declaration, machine.system == System::Mac, machine.version().major) {
        return reason("Error.ConfigurationIsInvalid", what);
    }
    match declaration.payload.get("Predicate").and_then(Json::as_str).filter(|_| declaration.kind == ACTIVATION).map(predicate::check) {
        Some(Err(problem)) => reason("Error.UnableToParsePredicate", problem.to_string()),
        _ => Vec::new(),
    }
}

/// Whether a payload refers to a declaration.
fn mentions(payload: &Map<String, Json>, identifier: &str) -> bool {
    payload.values().any(|value| match value {
        Json::String(text) => text == identifier,
        Json::Array(items) => items.iter().any(|item| item.as_str() == Some(identifier)),
        Json::Object(inner) => mentions(inner, identifier),
        _ => false,
    })
}

/// Puts a value where the words of an item's name lead.
fn put(items: &mut Map<String, Json>, name: &str, value: Json) {
    match name.split_once('.') {
        None => {
            items.insert(name.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = items.entry(first.to_owned()).or_insert_with(|| Json::Object(Map::new()));
            if let Json::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}
