//! Payloads of Apple devices: what a configuration profile or a declaration may say, key by key, and on which versions.
//!
//! A profile's document writes a payload with Apple's own names; the row checks it, leaves out what the device's version does not know,
//! and makes the payload's dictionary. References between payloads are by their names in the document and become UUIDs.

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::OsVersion;
use super::nearest::asked_after;
use crate::clock::Time;
use crate::wire::plist::{Data, Dict, Value};

/// The operating systems of Apple devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub enum System {
    /// macOS.
    #[serde(rename = "macos")]
    Mac,
    /// iOS and iPadOS.
    #[serde(rename = "ios")]
    Ios,
}

/// How a payload gets onto a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Inside a configuration profile.
    Profile,
    /// As a declaration.
    Declaration,
}

/// A range of versions; nothing at all where `since` is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The first version that has it.
    pub since: Option<OsVersion>,
    /// The first version that does not have it any more.
    pub until: Option<OsVersion>,
}

impl Range {
    /// Whether the version is in it.
    #[must_use]
    pub fn has(self, version: OsVersion) -> bool {
        self.since.is_some_and(|since| version >= since) && self.until.is_none_or(|until| version < until)
    }
}

/// What kind of value a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Real,
    /// A truth value.
    Boolean,
    /// Bytes; in documents Base64.
    Data,
    /// A list of texts.
    Strings,
    /// A list of whole numbers.
    Integers,
    /// A dictionary: with the keys that rows below it name, or any.
    Dict,
    /// A list of dictionaries, with the keys that rows below it name.
    Dicts,
    /// Anything.
    Any,
    /// Another payload of the same profile, which brings a certificate: its name in the document, its UUID on the device.
    Reference,
    /// A list of such.
    References,
    /// A distinguished name: in documents a list of pairs (`[["O", "Example"], ["CN", "x"]]`), on the device a list of lists of pairs.
    Name,
}

/// How a text has to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spelling {
    /// A version of a system.
    OsVersion,
    /// A date and a time of day without a zone.
    LocalDateTime,
}

impl Spelling {
    /// How it is written, for people.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::OsVersion => "a version of two or three numbers, such as 15.2 or 15.2.1",
            Self::LocalDateTime => "a date and a time of the device's own clock, yyyy-mm-ddThh:mm:ss without a zone",
        }
    }

    /// Whether a text is written so.
    #[must_use]
    pub fn fits(self, text: &str) -> bool {
        match self {
            Self::OsVersion => {
                let short = |number: &str| (1..=2).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
                let major = text.split('.').next().and_then(|major| major.parse::<u32>().ok());
                (2..=3).contains(&text.split('.').count())
                    && text.split('.').all(short)
                    && major.is_some_and(|major| VERSIONS.contains(&major))
            }
            Self::LocalDateTime => local_date_time(text).is_some(),
        }
    }
}

/// Versions of systems that there are, or will be for as long as this program lasts: Apple counts them by years.
const VERSIONS: std::ops::RangeInclusive<u32> = 10..=60;

/// Reads a date and a time of day without a zone, as if it were of the zone without an offset.
#[must_use]
pub fn local_date_time(text: &str) -> Option<Time> {
    Time::parse(&format!("{text}Z")).filter(|_| text.len() == "yyyy-mm-ddThh:mm:ss".len() && text.get(10..11) == Some("T"))
}

/// A key of a payload.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRow {
    /// Its place: names with slashes between them, through lists as well as dictionaries.
    pub at: String,
    /// What it takes.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// It must be there, where its dictionary is.
    #[serde(default)]
    pub required: bool,
    /// What it does, in words, where its name does not say it.
    #[serde(default)]
    pub help: String,
    /// The values that are allowed, when they are numbers from one to another.
    #[serde(default)]
    pub range: Option<(i64, i64)>,
    /// The values that are allowed, when they are few; for lists, of each item.
    #[serde(default)]
    pub choices: Vec<toml::Value>,
    /// How the text has to be written.
    #[serde(default)]
    pub spelling: Option<Spelling>,
    /// The first version of macOS, when it is later than the payload's; `none`: not there.
    #[serde(default, deserialize_with = "range")]
    pub macos: Option<Range>,
    /// The first version of iOS, when it is later than the payload's; `none`: not there.
    #[serde(default, deserialize_with = "range")]
    pub ios: Option<Range>,
    /// The systems on which a user enrolment refuses it.
    #[serde(default)]
    pub not_for_users: Vec<System>,
    /// The value is a secret: never logged or shown.
    #[serde(default)]
    pub secret: bool,
    /// Of a table that takes any key: those whose values are no secrets. With it, others hide their texts only.
    #[serde(default)]
    pub open: Vec<String>,
    /// The value names an asset of the same profile: of which declaration types.
    #[serde(default)]
    pub assets: Vec<String>,
    /// The media types of which the asset has to be one; any when empty.
    #[serde(default)]
    pub media: Vec<String>,
}

/// Reads `14.0`, `14.0-27.0` or `none`.
pub(super) fn range<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Range>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == "none" {
        return Ok(Some(Range::default()));
    }
    let (since, until) = text.split_once('-').map_or((text.as_str(), None), |(since, until)| (since, Some(until)));
    let version = |text: &str| OsVersion::parse(text).ok_or_else(|| serde::de::Error::custom(format!("{text} is not a version")));
    Ok(Some(Range { since: Some(version(since)?), until: until.map(version).transpose()? }))
}

/// A payload.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayloadRow {
    /// Apple's name of it: payload type, or declaration type.
    pub id: String,
    /// Name for people.
    pub title: String,
    /// What it does, in a sentence or two.
    pub help: String,
    /// How it gets onto a device.
    pub form: Form,
    /// Where it exists on Macs.
    #[serde(default, deserialize_with = "range")]
    pub macos: Option<Range>,
    /// Where it exists on iPhones and iPads.
    #[serde(default, deserialize_with = "range")]
    pub ios: Option<Range>,
    /// It is the device's, and no user of a Mac gets one of their own.
    #[serde(default)]
    pub device_only: bool,
    /// On Macs it is for users: the device itself does not take it.
    #[serde(default)]
    pub user_only: bool,
    /// The payload whose keys it has beside its own.
    #[serde(default)]
    pub like: Option<String>,
    /// It may have keys that no row names, with any value.
    #[serde(default)]
    pub open: bool,
    /// The systems on which a user enrolment refuses it.
    #[serde(default)]
    pub not_for_users: Vec<System>,
    /// Place among the payloads of a profile: lower goes first.
    #[serde(default = "middle")]
    pub order: i32,
    /// Its keys.
    #[serde(default, rename = "key")]
    pub keys: Vec<KeyRow>,
}

/// What stands in the place of a secret.
pub const HIDDEN: &str = "(secret)";

fn middle() -> i32 {
    50
}

/// For whom a payload is made.
#[derive(Clone, Copy)]
pub struct Device<'a> {
    /// The operating system.
    pub system: System,
    /// Its version.
    pub version: OsVersion,
    /// It is its user's own (user enrolment).
    pub user_enrollment: bool,
    /// The UUID of another payload of the profile, by its name in the document.
    pub uuid_of: &'a dyn Fn(&str) -> Option<String>,
}

impl std::fmt::Debug for Device<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}{}", self.system, self.version, if self.user_enrollment { " in a user enrolment" } else { "" })
    }
}

impl PayloadRow {
    /// Checks that the row's parts fit each other.
    pub(super) fn check(&self) -> Result<(), String> {
        let fail = |problem: &str| Err(format!("{}: {problem}", self.id));
        if self.id.is_empty() || self.title.is_empty() || self.help.is_empty() {
            return fail("id, title and help must be there");
        }
        if self.macos.is_none() && self.ios.is_none() {
            return fail("exists nowhere");
        }
        for (at, key) in self.keys.iter().enumerate() {
            if self.keys.iter().take(at).any(|other| other.at == key.at) {
                return fail(&format!("{} appears twice", key.at));
            }
            let parent = key.at.rsplit_once('/').map(|(parent, _)| parent);
            let inside = |parent: &str| self.key(parent).is_some_and(|row| matches!(row.kind, Kind::Dict | Kind::Dicts));
            if parent.is_some_and(|parent| !inside(parent)) {
                return fail(&format!("{} is inside nothing", key.at));
            }
            if key.spelling.is_some() && key.kind != Kind::String {
                return fail(&format!("{} has a spelling and is no text", key.at));
            }
            if key.range.is_some() && key.kind != Kind::Integer {
                return fail(&format!("{} has a range and is no integer", key.at));
            }
        }
        Ok(())
    }

    /// The key at a place.
    #[must_use]
    pub fn key(&self, at: &str) -> Option<&KeyRow> {
        self.keys.iter().find(|key| key.at == at)
    }

    /// Its keys, in their order.
    #[must_use]
    pub fn key_rows(&self) -> &[KeyRow] {
        &self.keys
    }

    /// Whether there are keys inside the one at that place.
    #[must_use]
    pub fn has_keys_below(&self, at: &str) -> bool {
        let below = format!("{at}/");
        self.keys.iter().any(|key| key.at.starts_with(&below))
    }

    /// Whether the key at that place is there in any version of the system: it, and everything around it.
    #[must_use]
    pub fn is_on(&self, at: &str, system: System) -> bool {
        let there = |at: &str| {
            let range = self.key(at).and_then(|key| match system {
                System::Mac => key.macos,
                System::Ios => key.ios,
            });
            range.is_none_or(|range| range.since.is_some())
        };
        there(at) && at.match_indices('/').all(|(end, _)| at.get(..end).is_some_and(there))
    }

    /// Whether a device of that version has the payload.
    #[must_use]
    pub fn supports(&self, system: System, version: OsVersion) -> bool {
        self.range(system).has(version)
    }

    /// Whether it may be given to a device that is its user's own.
    #[must_use]
    pub fn is_for_users(&self, system: System) -> bool {
        !self.not_for_users.contains(&system)
    }

    /// What a document says, without the values of secret keys, and without what the row does not describe: it may be a secret, too.
    #[must_use]
    pub fn redacted(&self, body: &Map<String, Json>) -> Map<String, Json> {
        self.redacted_within(body, "")
    }

    fn redacted_within(&self, body: &Map<String, Json>, within: &str) -> Map<String, Json> {
        let shown = |(name, json): (&String, &Json)| {
            let at = if within.is_empty() { name.clone() } else { format!("{within}/{name}") };
            let below = format!("{at}/");
            let value = match (self.key(&at), json) {
                (Some(key), Json::Object(body)) if !key.secret && self.keys.iter().any(|key| key.at.starts_with(&below)) => {
                    Json::Object(self.redacted_within(body, &at))
                }
                (Some(key), Json::Object(body)) if !key.secret && !key.open.is_empty() => {
                    let open = |name: &String, json: &Json| json.is_number() || json.is_boolean() || key.open.contains(name);
                    let one = |(name, json): (&String, &Json)| (name.clone(), if open(name, json) { json.clone() } else { HIDDEN.into() });
                    Json::Object(body.iter().map(one).collect())
                }
                (Some(key), Json::Array(items)) if !key.secret && key.kind == Kind::Dicts => {
                    let item = |item: &Json| match item {
                        Json::Object(body) => Json::Object(self.redacted_within(body, &at)),
                        _ => HIDDEN.into(),
                    };
                    Json::Array(items.iter().map(item).collect())
                }
                (Some(key), json) if !key.secret && !matches!(key.kind, Kind::Dict | Kind::Any) => json.clone(),
                _ => HIDDEN.into(),
            };
            (name.clone(), value)
        };
        body.iter().map(shown).collect()
    }

    fn range(&self, system: System) -> Range {
        match system {
            System::Mac => self.macos,
            System::Ios => self.ios,
        }
        .unwrap_or_default()
    }

    /// Whether a device of that version has the key: it, and everything around it.
    fn has(&self, key: &KeyRow, device: &Device<'_>) -> bool {
        let own = match device.system {
            System::Mac => key.macos,
            System::Ios => key.ios,
        };
        own.is_none_or(|range| range.has(device.version)) && !(device.user_enrollment && key.not_for_users.contains(&device.system))
    }

    /// As [`Self::encode`], for a declaration: in JSON, where bytes are Base64.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_json(&self, body: &Map<String, Json>, device: &Device<'_>) -> Result<Map<String, Json>, String> {
        match Value::Dict(self.encode(body, device)?).to_json() {
            Json::Object(payload) => Ok(payload),
            _ => Err(format!("{} is no object", self.id)),
        }
    }

    /// The payload's dictionary for a device, from what the document says. Keys that the device's version or enrolment does not have are left out.
    ///
    /// # Errors
    /// Says what is wrong and where: a payload or key that does not exist, a value that is not allowed, something that is missing.
    pub fn encode(&self, body: &Map<String, Json>, device: &Device<'_>) -> Result<Dict, String> {
        if !self.supports(device.system, device.version) || device.user_enrollment && !self.is_for_users(device.system) {
            return Err(self.absent(device));
        }
        self.dict(body, "", device)
    }

    /// Why a device does not have the payload.
    fn absent(&self, device: &Device<'_>) -> String {
        let (own, here, other, there) = match device.system {
            System::Mac => (self.macos, "Macs", self.ios, "iPhones and iPads (platform ios)"),
            System::Ios => (self.ios, "iPhones and iPads", self.macos, "Macs (platform macos)"),
        };
        let since = |range: Option<Range>| range.and_then(|range| range.since);
        let why = match (since(own), since(other)) {
            (None, Some(_)) => format!("{here} have no such payload; it is for {there}"),
            (Some(least), _) if device.version < least => format!("{here} have it from version {}.{} on", least.major, least.minor),
            (Some(_), _) if device.user_enrollment => format!("{here} that are their user's own do not take it"),
            _ => format!("{here} of version {} do not have it", device.version),
        };
        format!("{} ({}): {why}", self.id, self.title)
    }

    fn dict(&self, body: &Map<String, Json>, within: &str, device: &Device<'_>) -> Result<Dict, String> {
        let mut dict = Dict::new();
        for (name, json) in body {
            let at = if within.is_empty() { name.clone() } else { format!("{within}/{name}") };
            if self.open && within.is_empty() && self.key(&at).is_none() {
                dict.insert(name.as_str(), Value::from_json(json).ok_or_else(|| format!("{at}: should not be empty"))?);
                continue;
            }
            let key = self.key(&at).ok_or_else(|| self.no_key(&at, device.system))?;
            let value = self.value(key, json, device).map_err(|why| if why.contains(": ") { why } else { format!("{at}: {why}") })?;
            if self.has(key, device) {
                dict.insert(name.as_str(), value);
            }
        }
        for key in self.keys.iter().filter(|key| key.required && self.has(key, device)) {
            let (parent, name) = key.at.rsplit_once('/').unwrap_or(("", &key.at));
            if parent == within && dict.get(name).is_none() {
                return Err(format!("{}: is missing", key.at));
            }
        }
        Ok(dict)
    }

    /// That there is no such key, and where those that there are can be seen.
    fn no_key(&self, at: &str, system: System) -> String {
        let platform = if system == System::Mac { "macos" } else { "ios" };
        let meant = self.nearest_key(at);
        format!("{at}: {0} has no such key{meant}; `muster profile settings --platform {platform} --search {0}` shows its keys", self.id)
    }

    /// A question after the key of the same table that may have been meant.
    fn nearest_key(&self, at: &str) -> String {
        let (within, name) = at.rsplit_once('/').unwrap_or(("", at));
        let beside = self.keys.iter().map(|key| key.at.rsplit_once('/').unwrap_or(("", &key.at)));
        asked_after(name, beside.filter(|(parent, _)| *parent == within).map(|(_, name)| name))
    }

    fn value(&self, key: &KeyRow, json: &Json, device: &Device<'_>) -> Result<Value, String> {
        let expected = |what: &str| format!("should be {what}");
        let items = |what: &str| json.as_array().ok_or_else(|| expected(what));
        let text = |json: &Json| json.as_str().map(str::to_owned).ok_or_else(|| expected("text"));
        let uuid = |name: &Json| {
            let name = text(name)?;
            (device.uuid_of)(&name).ok_or_else(|| format!("the profile has no certificate called {name}"))
        };
        Ok(match key.kind {
            Kind::String => {
                let text = text(json)?;
                key.choose(json)?;
                if let Some(spelling) = key.spelling.filter(|spelling| !spelling.fits(&text)) {
                    return Err(format!("{}: should be {}", key.at, spelling.says()));
                }
                Value::String(text)
            }
            Kind::Integer => {
                let number = json.as_i64().ok_or_else(|| expected("a whole number"))?;
                if let Some((low, high)) = key.range.filter(|(low, high)| !(*low..=*high).contains(&number)) {
                    return Err(expected(&format!("from {low} to {high}")));
                }
                key.choose(json)?;
                Value::Integer(number)
            }
            Kind::Real => Value::Real(json.as_f64().ok_or_else(|| expected("a number"))?),
            Kind::Boolean => Value::Boolean(json.as_bool().ok_or_else(|| expected("true or false"))?),
            Kind::Data => {
                use base64::Engine as _;
                let compact: String = text(json)?.split_whitespace().collect();
                let bytes = base64::engine::general_purpose::STANDARD.decode(compact).map_err(|_| expected("Base64"))?;
                Value::Data(Data(bytes))
            }
            Kind::Strings => {
                let mut all = Vec::new();
                for item in items("a list of texts")? {
                    key.choose(item)?;
                    all.push(Value::String(text(item)?));
                }
                Value::Array(all)
            }
            Kind::Integers => {
                let mut all = Vec::new();
                for item in items("a list of whole numbers")? {
                    key.choose(item)?;
                    all.push(Value::Integer(item.as_i64().ok_or_else(|| expected("a list of whole numbers"))?));
                }
                Value::Array(all)
            }
            Kind::Dict => {
                let body = json.as_object().ok_or_else(|| expected("a table"))?;
                let below = format!("{}/", key.at);
                if self.keys.iter().any(|other| other.at.starts_with(&below)) {
                    Value::Dict(self.dict(body, &key.at, device)?)
                } else {
                    Value::from_json(json).ok_or_else(|| expected("a table"))?
                }
            }
            Kind::Dicts => {
                let mut all = Vec::new();
                for item in items("a list of tables")? {
                    let body = item.as_object().ok_or_else(|| expected("a list of tables"))?;
                    all.push(Value::Dict(self.dict(body, &key.at, device)?));
                }
                Value::Array(all)
            }
            Kind::Any => Value::from_json(json).ok_or_else(|| expected("a value"))?,
            Kind::Reference => Value::String(uuid(json)?),
            Kind::References => {
                let all = items("a list of payload names")?.iter().map(|name| Ok(Value::String(uuid(name)?)));
                Value::Array(all.collect::<Result<_, String>>()?)
            }
            Kind::Name => {
                let mut name = Vec::new();
                for pair in items("a list of pairs")? {
                    let Some([kind, value]) = pair.as_array().map(Vec::as_slice) else { return Err(expected("a list of pairs")) };
                    name.push(Value::Array(vec![Value::Array(vec![text(kind)?.into(), text(value)?.into()])]));
                }
                Value::Array(name)
            }
        })
    }
}

impl KeyRow {
    fn choose(&self, json: &Json) -> Result<(), String> {
        let says = |choice: &toml::Value| match choice {
            toml::Value::String(text) => json.as_str() == Some(text),
            toml::Value::Integer(number) => json.as_i64() == Some(*number),
            _ => false,
        };
        if self.choices.is_empty() || self.choices.iter().any(says) {
            return Ok(());
        }
        let all: Vec<String> = self.choices.iter().map(ToString::to_string).collect();
        Err(format!("should be one of {}", all.join(", ")))
    }
}
