//! Declarative management: what devices and server say to each other in JSON, inside check-in messages.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::Malformed;
use super::super::plist::Limits;

/// Longest identifier and server token, in bytes.
pub const LONGEST: usize = 64;

/// The configuration of an application that the device keeps.
pub const MANAGED: &str = "com.apple.configuration.app.managed";
/// The configuration of a package that a Mac installs.
pub const PACKAGE: &str = "com.apple.configuration.package";
/// The status item that lists applications which a device keeps by declaration.
pub const MANAGED_APPS: &str = "app.managed.list";
/// The status item that lists packages which a Mac installed by declaration.
pub const PACKAGES: &str = "package.list";
/// Most entries of one of these lists that are looked at.
const MOST_LISTED: usize = 1_000;

/// The four kinds of declarations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Which configurations hold, and when.
    Activation,
    /// Data that configurations refer to.
    Asset,
    /// A setting, an account, a restriction.
    Configuration,
    /// What the device should know of the organisation and the server.
    Management,
}

impl Kind {
    /// All kinds, in the order of the manifest.
    pub const ALL: [Self; 4] = [Self::Activation, Self::Asset, Self::Configuration, Self::Management];

    /// The word in the endpoint, and in declaration types.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Activation => "activation",
            Self::Asset => "asset",
            Self::Configuration => "configuration",
            Self::Management => "management",
        }
    }

    /// The kind of a declaration type: its third word.
    #[must_use]
    pub fn of_type(kind: &str) -> Option<Self> {
        let word = kind.split('.').nth(2)?;
        Self::ALL.into_iter().find(|known| known.as_str() == word)
    }
}

/// What a device asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Has anything changed? Answered by [`Tokens`].
    Tokens,
    /// What should there be? Answered by [`Manifest`].
    Items,
    /// One declaration. Answered by [`Declaration`].
    Declaration(Kind, String),
    /// A status report comes with it. Answered by an empty body.
    Status,
}

impl Endpoint {
    /// Reads the endpoint of a message; `None` when there is no such endpoint.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "tokens" => Self::Tokens,
            "declaration-items" => Self::Items,
            "status" => Self::Status,
            _ => {
                let mut parts = text.splitn(3, '/');
                let (first, kind, identifier) = (parts.next()?, parts.next()?, parts.next()?);
                let kind = Kind::ALL.into_iter().find(|known| known.as_str() == kind)?;
                let fits = first == "declaration" && !identifier.is_empty() && identifier.len() <= LONGEST;
                return fits.then(|| Self::Declaration(kind, identifier.to_owned()));
            }
        })
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tokens => f.write_str("tokens"),
            Self::Items => f.write_str("declaration-items"),
            Self::Declaration(kind, identifier) => write!(f, "declaration/{}/{identifier}", kind.as_str()),
            Self::Status => f.write_str("status"),
        }
    }
}

/// The token of the whole set of declarations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Tokens {
    /// The tokens.
    pub sync_tokens: SyncTokens,
}

/// The token of the whole set of declarations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SyncTokens {
    /// The same as in the manifest: changes exactly when the manifest does.
    pub declarations_token: String,
    /// When the set last changed: RFC 3339 without fractions.
    pub timestamp: String,
}

/// All declarations of a channel, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Manifest {
    /// The declarations.
    pub declarations: Items,
    /// The token of the whole.
    pub declarations_token: String,
}

/// The declarations of a channel, by kind; lists that are empty are written, too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Items {
    /// Activations.
    pub activations: Vec<Item>,
    /// Assets.
    pub assets: Vec<Item>,
    /// Configurations.
    pub configurations: Vec<Item>,
    /// Management.
    pub management: Vec<Item>,
}

impl Items {
    /// The list of a kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> &[Item] {
        match kind {
            Kind::Activation => &self.activations,
            Kind::Asset => &self.assets,
            Kind::Configuration => &self.configurations,
            Kind::Management => &self.management,
        }
    }

    /// The list of a kind, to add to.
    pub fn of_mut(&mut self, kind: Kind) -> &mut Vec<Item> {
        match kind {
            Kind::Activation => &mut self.activations,
            Kind::Asset => &mut self.assets,
            Kind::Configuration => &mut self.configurations,
            Kind::Management => &mut self.management,
        }
    }
}

/// A declaration in the manifest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Item {
    /// Its name.
    pub identifier: String,
    /// Changes with each change of the declaration.
    pub server_token: String,
}

/// A declaration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Declaration {
    /// What it declares (`com.apple.configuration.passcode.settings`).
    #[serde(rename = "Type")]
    pub kind: String,
    /// Its name.
    pub identifier: String,
    /// Changes with each change.
    pub server_token: String,
    /// What is declared.
    pub payload: Map<String, Value>,
}

/// What a device reports of itself and of its declarations.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct StatusReport {
    /// The items, nested by the words of their names.
    #[serde(default)]
    pub status_items: Map<String, Value>,
    /// Items that could not be reported.
    #[serde(default)]
    pub errors: Vec<ItemError>,
    /// The report replaces all that was reported before.
    #[serde(default)]
    pub full_report: bool,
}

/// An item that could not be reported.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ItemError {
    /// Which.
    #[serde(default)]
    pub status_item: String,
    /// Why.
    #[serde(default, serialize_with = "in_capitals")]
    pub reasons: Vec<Reason>,
}

/// Writes reasons as the report's own parts have them.
fn in_capitals<S: serde::Serializer>(reasons: &[Reason], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(reasons.iter().map(|reason| {
        let mut written = Map::new();
        written.insert("Code".into(), reason.code.as_str().into());
        if let Some(description) = &reason.description {
            written.insert("Description".into(), description.as_str().into());
        }
        if !reason.details.is_empty() {
            written.insert("Details".into(), Value::Object(reason.details.clone()));
        }
        written
    }))
}

/// A reason. Written in capitals in the report's own parts, in small letters inside items.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// The code (`Error.UnknownPayloadKeys`).
    #[serde(default, alias = "Code")]
    pub code: String,
    /// For people.
    #[serde(default, alias = "Description", skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// More about it.
    #[serde(default, alias = "Details", skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Value>,
}

/// Whether a declaration is well-formed in the device's eyes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Valid {
    /// It is.
    Valid,
    /// It is not: it has failed, even when the device calls it active.
    Invalid,
    /// The device has not looked at it.
    #[default]
    #[serde(other)]
    Unknown,
}

/// How it stands with a declaration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DeclarationStatus {
    /// Which.
    pub identifier: String,
    /// Which version of it; a report about another version than the current one is stale.
    #[serde(default)]
    pub server_token: String,
    /// Whether it is in force.
    #[serde(default)]
    pub active: bool,
    /// Whether it is well-formed.
    #[serde(default)]
    pub valid: Valid,
    /// Why not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// The device does not have it any more.
    #[serde(default, rename = "_removed", skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
}

/// An application or package that a device was given by declaration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Listed {
    /// Its bundle identifier, or the package's own.
    pub identifier: String,
    /// The declaration that it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declaration_identifier: Option<String>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its version as people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_version: Option<String>,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// The device does not have it any more.
    #[serde(default, rename = "_removed", skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
}

impl StatusReport {
    /// Reads a report.
    ///
    /// # Errors
    /// When it is too long or no JSON, or its frame is another.
    pub fn decode(json: &[u8]) -> Result<Self, Malformed> {
        if json.len() > Limits::RESULT.bytes {
            return Err(Malformed::new("the status report is too long", "Data"));
        }
        let broken = |error: serde_json::Error| {
            let at = format!("line {} column {}", error.line(), error.column());
            Malformed::new("not a status report", at)
        };
        // By way of an object: a list in its order would do for the fields of the type, too.
        let frame: Map<String, Value> = serde_json::from_slice(json).map_err(broken)?;
        serde_json::from_value(Value::Object(frame)).map_err(broken)
    }

    /// The value of an item by its name with dots; `None` when the report does not hold it.
    #[must_use]
    pub fn item(&self, name: &str) -> Option<&Value> {
        let mut words = name.split('.');
        let first = self.status_items.get(words.next()?)?;
        words.try_fold(first, |value, word| value.as_object()?.get(word))
    }

    /// Whether what was reported of an item before does not count any more: the report holds everything, and nothing of it, or the device
    /// says that it cannot tell.
    #[must_use]
    pub fn retracts(&self, name: &str) -> bool {
        self.item(name).is_none() && (self.full_report || self.errors.iter().any(|error| error.status_item == name))
    }

    /// How it stands with the declarations of a kind; `None` when the report says nothing of them. Entries that cannot be read are
    /// passed over.
    #[must_use]
    pub fn declarations(&self, kind: Kind) -> Option<Vec<DeclarationStatus>> {
        let name = match kind {
            Kind::Activation => "management.declarations.activations",
            Kind::Asset => "management.declarations.assets",
            Kind::Configuration => "management.declarations.configurations",
            Kind::Management => "management.declarations.management",
        };
        let items = self.item(name)?.as_array()?;
        Some(items.iter().filter_map(|item| DeclarationStatus::deserialize(item).ok()).collect())
    }

    /// The entries of one of the lists of applications and packages; `None` when the report does not hold it. Entries that cannot be read
    /// are passed over.
    #[must_use]
    pub fn listed(&self, item: &str) -> Option<Vec<Listed>> {
        let items = self.item(item)?.as_array()?;
        Some(items.iter().take(MOST_LISTED).filter_map(|item| Listed::deserialize(item).ok()).collect())
    }

    /// What the device can do, when the report says so.
    #[must_use]
    pub fn capabilities(&self) -> Option<Capabilities> {
        Capabilities::deserialize(self.item("management.client-capabilities")?).ok()
    }
}

/// What a device can do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Capabilities {
    /// Versions of the protocol.
    #[serde(default)]
    pub supported_versions: Vec<String>,
    /// Features of the protocol.
    #[serde(default)]
    pub supported_features: Map<String, Value>,
    /// What may be declared and subscribed to.
    #[serde(default)]
    pub supported_payloads: SupportedPayloads,
}

/// What may be declared and subscribed to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SupportedPayloads {
    /// Types of declarations, by kind.
    #[serde(default)]
    pub declarations: SupportedDeclarations,
    /// Status items.
    #[serde(default)]
    pub status_items: Vec<String>,
}

/// Types of declarations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupportedDeclarations {
    /// Activations.
    #[serde(default)]
    pub activations: Vec<String>,
    /// Assets.
    #[serde(default)]
    pub assets: Vec<String>,
    /// Configurations.
    #[serde(default)]
    pub configurations: Vec<String>,
    /// Management.
    #[serde(default)]
    pub management: Vec<String>,
}

impl Capabilities {
    /// Whether the device takes declarations of that type.
    #[must_use]
    pub fn takes(&self, kind: &str) -> bool {
        let declarations = &self.supported_payloads.declarations;
        let list = match Kind::of_type(kind) {
            Some(Kind::Activation) => &declarations.activations,
            Some(Kind::Asset) => &declarations.assets,
            Some(Kind::Configuration) => &declarations.configurations,
            Some(Kind::Management) => &declarations.management,
            None => return false,
        };
        list.iter().any(|known| known == kind)
    }

    /// Whether the device reports that item.
    #[must_use]
    pub fn reports(&self, item: &str) -> bool {
        self.supported_payloads.status_items.iter().any(|known| known == item)
    }
}
