//! Single sign-on extensions: `macOSDeviceFeaturesConfiguration` and `iosDeviceFeaturesConfiguration` with an extension that answers
//! redirects, one that answers challenges, or Apple's own for Kerberos. Platform SSO has its place in the settings catalogue.

use serde_json::{Map, Value, json};

use super::template::wrong;
use super::{Type, only, payload};
use crate::catalogue::payload::HIDDEN;
use crate::domain::apple::sso::PAYLOAD;
use crate::domain::device::Platform;
use crate::domain::profile::Document;
use crate::http::graph::error::{GraphProblem, Result};

pub(super) const MACOS: Type = Type {
    name: "macOSDeviceFeaturesConfiguration",
    platform: Platform::MacOs,
    beta: true,
    channel: false,
    fits,
    write: |_, document, whole| write(&MAC, document, whole),
    read: |_, document, property, value| read(&MAC, document, property, value),
};
pub(super) const IOS: Type = Type {
    name: "iosDeviceFeaturesConfiguration",
    platform: Platform::Ios,
    write: |_, document, whole| write(&PHONE, document, whole),
    read: |_, document, property, value| read(&PHONE, document, property, value),
    ..MACOS
};

/// What the extension of a system is called.
struct Words {
    /// The property that holds it.
    property: &'static str,
    /// With what the names of its types begin.
    prefix: &'static str,
    mac: bool,
}

const MAC: Words = Words { property: "macOSSingleSignOnExtension", prefix: "macOS", mac: true };
const PHONE: Words = Words { property: "iosSingleSignOnExtension", prefix: "ios", mac: false };
const SUFFIX: &str = "SingleSignOnExtension";

/// Apple's extension for Kerberos, and who signed it.
const KERBEROS: (&str, &str) = ("com.apple.AppSSOKerberos.KerberosExtension", "apple");
const DATA: &str = "ExtensionData";
/// What makes Platform SSO of it.
const PLATFORM_SSO: [&str; 3] = ["PlatformSSO", "AuthenticationMethod", "RegistrationToken"];

/// How a property stands in a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Texts,
    Bool,
    /// The opposite.
    Not,
    Number,
}

/// A property, the key that it is, and whether only Macs have it.
type Row = (&'static str, &'static str, Form, bool);

/// Where the extension is and what it answers for; the rest stands in its own data.
const REDIRECT: [Row; 3] = [
    ("extensionIdentifier", "ExtensionIdentifier", Form::Text, false),
    ("teamIdentifier", "TeamIdentifier", Form::Text, false),
    ("urlPrefixes", "URLs", Form::Texts, false),
];
const CREDENTIAL: [Row; 4] = [
    ("extensionIdentifier", "ExtensionIdentifier", Form::Text, false),
    ("teamIdentifier", "TeamIdentifier", Form::Text, false),
    ("realm", "Realm", Form::Text, false),
    ("domains", "Hosts", Form::Texts, false),
];
const OF_REALM: [Row; 2] = [("realm", "Realm", Form::Text, false), ("domains", "Hosts", Form::Texts, false)];
/// Kerberos has a key of its own for each in the data.
const OF_DATA: [Row; 27] = [
    ("activeDirectorySiteCode", "siteCode", Form::Text, false),
    ("blockActiveDirectorySiteAutoDiscovery", "useSiteAutoDiscovery", Form::Not, false),
    ("blockAutomaticLogin", "allowAutomaticLogin", Form::Not, false),
    ("cacheName", "cacheName", Form::Text, false),
    ("credentialBundleIdAccessControlList", "credentialBundleIdACL", Form::Texts, false),
    ("credentialsCacheMonitored", "monitorCredentialsCache", Form::Bool, true),
    ("isDefaultRealm", "isDefaultRealm", Form::Bool, false),
    ("kerberosAppsInBundleIdACLIncluded", "includeKerberosAppsInBundleIdACL", Form::Bool, true),
    ("managedAppsInBundleIdACLIncluded", "includeManagedAppsInBundleIdACL", Form::Bool, false),
    ("modeCredentialUsed", "credentialUseMode", Form::Text, true),
    ("passwordBlockModification", "allowPasswordChange", Form::Not, false),
    ("passwordChangeUrl", "pwChangeURL", Form::Text, false),
    ("passwordEnableLocalSync", "syncLocalPassword", Form::Bool, true),
    ("passwordExpirationDays", "pwExpireOverride", Form::Number, false),
    ("passwordExpirationNotificationDays", "pwNotificationDays", Form::Number, false),
    ("passwordMinimumAgeDays", "pwReqMinAge", Form::Number, false),
    ("passwordMinimumLength", "pwReqLength", Form::Number, false),
    ("passwordPreviousPasswordBlockCount", "pwReqHistory", Form::Number, false),
    ("passwordRequireActiveDirectoryComplexity", "pwReqComplexity", Form::Bool, false),
    ("passwordRequirementsDescription", "pwReqText", Form::Text, false),
    ("preferredKDCs", "preferredKDCs", Form::Texts, true),
    ("requireUserPresence", "requireUserPresence", Form::Bool, false),
    ("signInHelpText", "helpText", Form::Text, false),
    ("tlsForLDAPRequired", "requireTLSForLDAP", Form::Bool, true),
    ("userPrincipalName", "principalName", Form::Text, false),
    ("userSetupDelayed", "delayUserSetup", Form::Bool, true),
    ("usernameLabelCustom", "customUsernameLabel", Form::Text, true),
];

/// What kind of extension a payload has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Redirect,
    Credential,
    Kerberos,
}

impl Kind {
    const ALL: [(&str, Self); 3] = [("Redirect", Self::Redirect), ("Credential", Self::Credential), ("Kerberos", Self::Kerberos)];

    fn of(body: &Map<String, Value>) -> Self {
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        match (text("ExtensionIdentifier"), text("Type")) {
            (Some(identifier), _) if identifier == KERBEROS.0 => Self::Kerberos,
            (_, Some("Credential")) => Self::Credential,
            _ => Self::Redirect,
        }
    }

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| word)
    }

    /// The properties that are keys of the payload itself.
    fn rows(self) -> &'static [Row] {
        match self {
            Self::Redirect => &REDIRECT,
            Self::Credential => &CREDENTIAL,
            Self::Kerberos => &OF_REALM,
        }
    }
}

fn fits(document: &Document) -> bool {
    only(document, PAYLOAD).is_some_and(|payload| !PLATFORM_SSO.iter().any(|key| payload.body.contains_key(*key)))
}

fn write(words: &Words, document: &Document, whole: &mut Map<String, Value>) {
    let Some(body) = only(document, PAYLOAD).map(|payload| &payload.body) else { return };
    let kind = Kind::of(body);
    let kind_name = format!("#microsoft.graph.{}{}{SUFFIX}", words.prefix, kind.word());
    let mut shown = Map::from_iter([("@odata.type".to_owned(), json!(kind_name))]);
    show(kind.rows(), words.mac, body, &mut shown);
    let none = Map::new();
    let data = body.get(DATA).and_then(Value::as_object).unwrap_or(&none);
    if kind == Kind::Kerberos {
        show(&OF_DATA, words.mac, data, &mut shown);
    } else {
        shown.insert("configurations".into(), data.iter().filter_map(|(key, value)| pair(key, value)).collect());
    }
    whole.insert(words.property.into(), Value::Object(shown));
}

fn show(rows: &[Row], mac: bool, stored: &Map<String, Value>, shown: &mut Map<String, Value>) {
    for (property, key, form, _) in rows.iter().filter(|(.., mac_only)| mac || !mac_only) {
        let value = match (form, stored.get(*key)) {
            (Form::Text | Form::Number, value) => value.cloned().unwrap_or(Value::Null),
            (Form::Texts, value) => value.cloned().unwrap_or_else(|| json!([])),
            // Graph has no null here, and false would be a setting when it is sent back.
            (Form::Bool | Form::Not, None) => continue,
            (Form::Bool, Some(value)) => value.clone(),
            (Form::Not, Some(value)) => value.as_bool().map_or(Value::Null, |value| json!(!value)),
        };
        shown.insert((*property).to_owned(), value);
    }
}

/// A key of the extension's data; lists and tables have no pair.
fn pair(key: &str, value: &Value) -> Option<Value> {
    let kind = match value {
        Value::String(_) => "String",
        Value::Bool(_) => "Boolean",
        Value::Number(number) if number.is_f64() => "Real",
        Value::Number(_) => "Integer",
        _ => return None,
    };
    Some(json!({ "@odata.type": format!("#microsoft.graph.key{kind}ValuePair"), "key": key, "value": value }))
}

fn read(words: &Words, document: &mut Document, property: &str, value: &Value) -> Result<bool> {
    if property != words.property {
        return Ok(false);
    }
    let types = || {
        let names = Kind::ALL.map(|(word, _)| format!("{}{word}{SUFFIX}", words.prefix));
        wrong(property, &format!("one of {}", names.join(", ")))
    };
    let given = value.as_object().ok_or_else(types)?;
    let name = given.get("@odata.type").and_then(Value::as_str).unwrap_or_default().trim_start_matches('#');
    let word = name.trim_start_matches("microsoft.graph.").strip_prefix(words.prefix).and_then(|rest| rest.strip_suffix(SUFFIX));
    let (_, kind) = Kind::ALL.into_iter().find(|(known, _)| word == Some(known)).ok_or_else(types)?;
    let body = &mut payload(document, PAYLOAD, "sso").body;
    let before = body.get(DATA).and_then(Value::as_object).cloned().unwrap_or_default();
    // What the object does not say is not there any more; keys that it has no property for stay.
    for (_, key, ..) in REDIRECT.iter().chain(&CREDENTIAL) {
        body.remove(*key);
    }
    let mut data = match kind {
        Kind::Kerberos => before.iter().filter(|(key, _)| OF_DATA.iter().all(|(_, known, ..)| known != key)).map(own).collect(),
        _ => before.iter().filter(|(key, value)| pair(key, value).is_none()).map(own).collect::<Map<_, _>>(),
    };
    for (name, value) in given.iter().filter(|(name, value)| !name.contains('@') && !value.is_null()) {
        let find = |rows: &'static [Row]| rows.iter().find(|(known, .., mac_only)| known == name && (words.mac || !mac_only));
        if let Some((_, key, form, _)) = find(kind.rows()) {
            store(body, key, *form, name, value)?;
        } else if let Some((_, key, form, _)) = find(&OF_DATA).filter(|_| kind == Kind::Kerberos) {
            store(&mut data, key, *form, name, value)?;
        } else if name == "configurations" && kind != Kind::Kerberos {
            read_pairs(&mut data, &before, value)?;
        } else if value.as_array().is_none_or(|all| !all.is_empty()) {
            let name: String = name.chars().take(60).collect();
            return Err(GraphProblem::invalid(format!("{property} has no property '{name}' here.")));
        }
    }
    if kind == Kind::Kerberos {
        body.insert("ExtensionIdentifier".into(), json!(KERBEROS.0));
        body.insert("TeamIdentifier".into(), json!(KERBEROS.1));
    }
    body.insert("Type".into(), json!(if kind == Kind::Redirect { "Redirect" } else { "Credential" }));
    body.remove(DATA);
    if !data.is_empty() {
        body.insert(DATA.into(), Value::Object(data));
    }
    Ok(true)
}

fn own((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

fn store(into: &mut Map<String, Value>, key: &str, form: Form, name: &str, value: &Value) -> Result<()> {
    let fits = match form {
        Form::Text => value.is_string(),
        Form::Texts => value.as_array().is_some_and(|all| all.iter().all(Value::is_string)),
        Form::Bool | Form::Not => value.is_boolean(),
        Form::Number => value.is_i64() || value.is_u64(),
    };
    if !fits {
        let expected = match form {
            Form::Text => "a text",
            Form::Texts => "a list of texts",
            Form::Bool | Form::Not => "true or false",
            Form::Number => "a whole number",
        };
        return Err(wrong(name, expected));
    }
    let stored = match (form, value) {
        (Form::Not, Value::Bool(value)) => json!(!value),
        (Form::Texts, Value::Array(all)) if all.is_empty() => return Ok(()),
        _ => value.clone(),
    };
    into.insert(key.to_owned(), stored);
    Ok(())
}

/// The pairs of an extension's data. A text that comes back as it was shown, hidden, stays what it was.
fn read_pairs(data: &mut Map<String, Value>, before: &Map<String, Value>, value: &Value) -> Result<()> {
    let expected =
        || wrong("configurations", "a list of keyStringValuePair, keyBooleanValuePair, keyIntegerValuePair and keyRealValuePair");
    for one in value.as_array().ok_or_else(expected)? {
        let key = one.get("key").and_then(Value::as_str).filter(|key| !key.is_empty()).ok_or_else(expected)?;
        let kind = one.get("@odata.type").and_then(Value::as_str).unwrap_or_default().trim_start_matches('#');
        let value = one.get("value").ok_or_else(expected)?;
        let stored = match kind.trim_start_matches("microsoft.graph.") {
            "keyStringValuePair" if value.as_str() == Some(HIDDEN) && before.contains_key(key) => before.get(key).cloned(),
            "keyStringValuePair" if value.is_string() => Some(value.clone()),
            "keyBooleanValuePair" if value.is_boolean() => Some(value.clone()),
            "keyIntegerValuePair" if value.is_i64() => Some(value.clone()),
            "keyRealValuePair" => value.as_f64().map(|number| json!(number)),
            _ => None,
        };
        if data.insert(key.to_owned(), stored.ok_or_else(expected)?).is_some() {
            return Err(wrong("configurations", "a list in which each key is once"));
        }
    }
    Ok(())
}
