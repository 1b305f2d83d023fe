//! The settings that the catalogue has: one row each, made of the rows of the payloads that they map to. The ids are Intune's: those of
//! Apple's are the payload's type and the place of the key, those of Windows the address of the node.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::catalogue::payload::{Kind, System};
use crate::catalogue::{Format, PayloadRow, Setting, catalogue};
use crate::domain::apple::sso::PAYLOAD;
use crate::domain::device::Platform;
use crate::domain::profile::is_of_hello;
use crate::http::graph::answer::object;

/// The setting that holds all of a payload.
pub(super) const ROOT: &str = "com.apple.extensiblesso_com.apple.extensiblesso";
/// With what the types of settings begin.
pub(super) const PREFIX: &str = "#microsoft.graph.deviceManagementConfiguration";

/// What there are settings for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Category {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) help: &'static str,
    /// What Graph calls the systems.
    pub(super) platforms: &'static str,
}

const SSO: Category = Category {
    id: "0a5d1c52-0002-4000-8000-000000000001",
    title: "Extensible Single Sign On (SSO)",
    help: "An extension that answers sign-ins, on Macs with Platform SSO.",
    platforms: "macOS",
};
const HELLO: Category = Category {
    id: "0a5d1c52-0002-4000-8000-000000000002",
    title: "Windows Hello For Business",
    help: "Keys in the TPM in the place of passwords.",
    platforms: "windows10",
};
pub(super) const CATEGORIES: [Category; 2] = [SSO, HELLO];

/// One of a setting's values: the end of its id, what is stored, and what it means.
pub(super) type Choice = (String, Value, String);

/// What a setting takes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Form {
    /// One of a few values.
    One(Vec<Choice>),
    /// Some of a few values.
    Some(Vec<Choice>),
    /// A number, from and to.
    Number(Option<(i64, i64)>),
    /// A text.
    Text,
    /// Texts.
    Texts,
    /// Other settings.
    Group,
}

impl Form {
    /// The end of the name of its instances' type.
    pub(super) fn instance(&self) -> &'static str {
        match self {
            Self::One(_) => "ChoiceSettingInstance",
            Self::Some(_) => "ChoiceSettingCollectionInstance",
            Self::Number(_) | Self::Text => "SimpleSettingInstance",
            Self::Texts => "SimpleSettingCollectionInstance",
            Self::Group => "GroupSettingCollectionInstance",
        }
    }

    fn definition(&self) -> &'static str {
        match self {
            Self::One(_) => "ChoiceSettingDefinition",
            Self::Some(_) => "ChoiceSettingCollectionDefinition",
            Self::Number(_) | Self::Text => "SimpleSettingDefinition",
            Self::Texts => "SimpleSettingCollectionDefinition",
            Self::Group => "SettingGroupCollectionDefinition",
        }
    }
}

/// Where a setting stands in a profile's document.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    /// Nowhere: it holds others.
    Nowhere,
    /// At a key of the payload, with slashes.
    Key(String),
    /// Among the settings, by this name.
    Setting(String),
}

/// A setting.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    pub(super) id: String,
    name: String,
    title: String,
    help: String,
    pub(super) form: Form,
    pub(super) place: Place,
    /// The setting that holds it.
    pub(super) parent: Option<String>,
    category: Category,
    platforms: Vec<Platform>,
}

impl Definition {
    /// Whether devices of the platform have it.
    pub(super) fn is_for(&self, platform: Platform) -> bool {
        self.platforms.contains(&platform)
    }

    /// As JSON.
    pub(super) fn json(&self) -> Map<String, Value> {
        let root = std::iter::successors(Some(self), |one| one.parent.as_ref().and_then(|id| ALL.get(id))).last();
        let choice = |(end, value, means): &Choice| {
            let id = format!("{}_{end}", self.id);
            let option = match value {
                Value::Number(_) => json!({ "@odata.type": format!("{PREFIX}IntegerSettingValue"), "value": value }),
                Value::Bool(value) => json!({ "@odata.type": format!("{PREFIX}StringSettingValue"), "value": value.to_string() }),
                value => json!({ "@odata.type": format!("{PREFIX}StringSettingValue"), "value": value }),
            };
            json!({ "itemId": id, "name": means, "displayName": means, "optionValue": option })
        };
        let mut whole = object! {
            "@odata.type": format!("{PREFIX}{}", self.form.definition()),
            "id": self.id,
            "categoryId": self.category.id,
            "description": self.help,
            "displayName": self.title,
            "helpText": self.help,
            "name": self.name,
            "rootDefinitionId": root.map(|root| &root.id),
            "settingUsage": "configuration",
            "visibility": "settingsCatalog",
            "applicability": json!({ "platform": word(self.platforms.first().copied()), "technologies": "mdm" }),
        };
        match &self.form {
            Form::One(choices) | Form::Some(choices) => {
                whole.insert("options".into(), choices.iter().map(choice).collect());
            }
            Form::Number(range) => {
                let (least, most) = range.map_or((None, None), |(least, most)| (Some(least), Some(most)));
                let kind = format!("{PREFIX}IntegerSettingValueDefinition");
                whole.insert("valueDefinition".into(), json!({ "@odata.type": kind, "minimumValue": least, "maximumValue": most }));
            }
            Form::Text | Form::Texts => {
                let kind = format!("{PREFIX}StringSettingValueDefinition");
                whole.insert("valueDefinition".into(), json!({ "@odata.type": kind, "format": "none" }));
            }
            Form::Group => {
                let children: Vec<&String> = ALL.values().filter(|one| one.parent.as_ref() == Some(&self.id)).map(|one| &one.id).collect();
                whole.insert("childIds".into(), json!(children));
                whole.insert("minimumCount".into(), json!(0));
                whole.insert("maximumCount".into(), json!(1));
            }
        }
        whole
    }
}

/// What Graph calls the systems of policies.
pub(super) const PLATFORMS: [(&str, Platform); 3] = [("windows10", Platform::Windows), ("macOS", Platform::MacOs), ("iOS", Platform::Ios)];

/// The word of a system.
pub(super) fn word(platform: Option<Platform>) -> &'static str {
    PLATFORMS.iter().find(|(_, known)| Some(*known) == platform).map_or("none", |(word, _)| word)
}

/// All settings, by their ids.
pub(super) static ALL: LazyLock<BTreeMap<String, Definition>> = LazyLock::new(|| {
    let apple = catalogue().payload(PAYLOAD).into_iter().flat_map(of_apple);
    let windows = catalogue().settings().filter(|row| is_of_hello(&row.id)).flat_map(of_windows);
    apple.chain(windows).map(|one| (one.id.clone(), one)).collect()
});

fn of_apple(row: &PayloadRow) -> Vec<Definition> {
    let root = Definition {
        id: ROOT.into(),
        name: PAYLOAD.into(),
        title: row.title.clone(),
        help: row.help.clone(),
        form: Form::Group,
        place: Place::Nowhere,
        parent: None,
        category: SSO,
        platforms: vec![Platform::MacOs, Platform::Ios],
    };
    let id = |at: &str| format!("{PAYLOAD}_{}", at.to_lowercase().replace('/', "_"));
    let key = |key: &crate::catalogue::payload::KeyRow| {
        // In the order in which Apple has them: the number of a value is part of its id.
        let values = || (0..).zip(&key.choices).filter_map(|(at, value): (usize, _)| Some((at, value.as_str()?)));
        let choices = || values().map(|(at, value)| (at.to_string(), json!(value), value.to_owned())).collect();
        let holds = row.has_keys_below(&key.at);
        let form = match key.kind {
            Kind::String if !key.choices.is_empty() => Form::One(choices()),
            Kind::String => Form::Text,
            Kind::Boolean => truth(),
            Kind::Integer => Form::Number(key.range),
            Kind::Strings if !key.choices.is_empty() => Form::Some(choices()),
            Kind::Strings => Form::Texts,
            Kind::Dict if holds => Form::Group,
            _ => return None,
        };
        let (parent, name) = key.at.rsplit_once('/').map_or((None, key.at.as_str()), |(parent, name)| (Some(parent), name));
        let systems = [(System::Mac, Platform::MacOs), (System::Ios, Platform::Ios)];
        Some(Definition {
            id: id(&key.at),
            name: name.to_owned(),
            title: name.to_owned(),
            help: key.help.clone(),
            form,
            place: Place::Key(key.at.clone()),
            parent: Some(parent.map_or_else(|| ROOT.to_owned(), id)),
            category: SSO,
            platforms: systems.into_iter().filter(|(system, _)| row.is_on(&key.at, *system)).map(|(_, platform)| platform).collect(),
        })
    };
    std::iter::once(root).chain(row.key_rows().iter().filter_map(key)).collect()
}

fn truth() -> Form {
    Form::One([false, true].map(|value| (value.to_string(), json!(value), value.to_string())).to_vec())
}

/// The tenant's part of an address, and the setting that holds what is below it.
const TENANT: &str = "{tenant}";

fn of_windows(row: &Setting) -> Vec<Definition> {
    let form = match row.format {
        Format::Bool => truth(),
        Format::Int if !row.allowed.choices.is_empty() => {
            let choice = |(value, means): (&String, &String)| Some((value.clone(), json!(value.parse::<i64>().ok()?), means.clone()));
            let mut choices: Vec<Choice> = row.allowed.choices.iter().filter_map(choice).collect();
            choices.sort_by_key(|(_, value, _)| value.as_i64());
            Form::One(choices)
        }
        Format::Int => Form::Number(row.allowed.range),
        Format::Chr if row.allowed.list.is_none() && row.allowed.admx.is_none() => Form::Text,
        _ => return Vec::new(),
    };
    let of = |scope: &crate::catalogue::Scope| {
        let id = |address: &str| format!("{scope}_{}", address.to_lowercase().replace('/', "_").replace(TENANT, "{tenantid}"));
        let parent = row.uri.split_once(TENANT).map(|(before, _)| id(&format!("{before}{TENANT}")));
        let own = Definition {
            id: id(&row.uri),
            name: row.uri.rsplit('/').next().unwrap_or_default().to_owned(),
            title: row.title.clone(),
            help: row.help.clone(),
            form: form.clone(),
            place: Place::Setting(if row.scopes.first() == Some(scope) { row.id.clone() } else { format!("{}@{scope}", row.id) }),
            parent: parent.clone(),
            category: HELLO,
            platforms: vec![Platform::Windows],
        };
        let group = parent.map(|id| Definition {
            id,
            name: "TenantId".into(),
            title: "Tenant".into(),
            help: "What holds for the organisation.".into(),
            form: Form::Group,
            place: Place::Nowhere,
            parent: None,
            category: HELLO,
            platforms: vec![Platform::Windows],
        });
        [Some(own), group]
    };
    row.scopes.iter().flat_map(of).flatten().collect()
}
