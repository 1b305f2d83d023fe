//! Which way a payload of a profile goes to a device: declared where the device has declarations for it, and where not as a configuration
//! profile or as commands. Nowhere else is that decided.

use serde_json::{Map, Value};

use crate::catalogue::payload::{Form, System};
use crate::catalogue::{Catalogue, OsVersion};
use crate::domain::apple::app::{self, App};
use crate::domain::apple::content;
use crate::domain::apple::content::app::PACKAGE;
use crate::domain::profile::Payload;
use crate::wire::apple::ddm::{Capabilities, MANAGED_APPS, PACKAGES};

/// Rules for the passcode, as a declaration.
const PASSCODE: &str = "com.apple.configuration.passcode.settings";
/// The same in a profile.
const PASSCODE_PROFILE: &str = "com.apple.mobiledevice.passwordpolicy";
/// An update that has to be installed by a moment, as a declaration.
pub const UPDATE: &str = "com.apple.configuration.softwareupdate.enforcement.specific";

/// Keys of a passcode's rules, declared and in a profile.
const PASSCODE_KEYS: [(&str, &str); 10] = [
    ("RequirePasscode", "forcePIN"),
    ("RequireAlphanumericPasscode", "requireAlphanumeric"),
    ("MinimumLength", "minLength"),
    ("MinimumComplexCharacters", "minComplexChars"),
    ("MaximumFailedAttempts", "maxFailedAttempts"),
    ("FailedAttemptsResetInMinutes", "minutesUntilFailedLoginReset"),
    ("MaximumGracePeriodInMinutes", "maxGracePeriod"),
    ("MaximumInactivityInMinutes", "maxInactivity"),
    ("MaximumPasscodeAgeInDays", "maxPINAgeInDays"),
    ("PasscodeReuseLimit", "pinHistory"),
];

/// A device, as far as the way depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Device<'a> {
    /// The operating system.
    pub system: System,
    /// Its version; `None`: not known yet.
    pub version: Option<OsVersion>,
    /// What the channel says that it can do; `None`: it has not said it yet.
    pub capabilities: Option<&'a Capabilities>,
}

/// Which way.
#[derive(Clone, Debug, PartialEq)]
pub enum Way {
    /// It is declared.
    Declaration,
    /// In a configuration profile, as this payload.
    Profile(Payload),
    /// By commands, as often as they are needed.
    Commands,
}

/// The first version that knows declarations at all: the command that switches them on, and status reports.
#[must_use]
pub fn declares(system: System, version: OsVersion) -> bool {
    version.major >= if system == System::Mac { 13 } else { 15 }
}

impl Device<'_> {
    /// Whether declarations of a type reach it. Until it has said what it can do, its version decides.
    #[must_use]
    pub fn takes(&self, kind: &str, catalogue: &Catalogue) -> bool {
        let Some(version) = self.version else { return true };
        let known = catalogue.payload(kind).is_some_and(|row| row.supports(self.system, version));
        declares(self.system, version) && known && self.capabilities.is_none_or(|capabilities| capabilities.takes(kind))
    }

    /// Whether an application reaches it by declarations just as its profile asks for it, and it tells what becomes of it.
    fn declares_app(&self, payload: &Payload, catalogue: &Catalogue) -> bool {
        let declared = || App::read(payload, self.system).ok()?.declarations(self.system, self.version?);
        let tells = |kind: &str| {
            let item = if kind == PACKAGE { PACKAGES } else { MANAGED_APPS };
            self.capabilities.is_none_or(|capabilities| capabilities.reports(item))
        };
        declared().is_some_and(|kinds| kinds.iter().all(|kind| self.takes(kind, catalogue) && tells(kind)))
    }

    /// Decides for a payload. What a device takes in no way goes the way on which it shows: its record says what the device lacks.
    #[must_use]
    pub fn way(&self, payload: &Payload, catalogue: &Catalogue) -> Way {
        if app::is_app(payload) {
            return if self.declares_app(payload, catalogue) { Way::Declaration } else { Way::Commands };
        }
        let Some(row) = content::row_of(payload, catalogue).filter(|row| row.form == Form::Declaration) else {
            return Way::Profile(payload.clone());
        };
        if self.takes(&row.id, catalogue) {
            return Way::Declaration;
        }
        match payload.kind.as_str() {
            PASSCODE => Way::Profile(Payload { kind: PASSCODE_PROFILE.into(), name: payload.name.clone(), body: passcode(&payload.body) }),
            UPDATE => Way::Commands,
            _ => Way::Declaration,
        }
    }
}

/// The rules of a declaration as a profile writes them.
fn passcode(body: &Map<String, Value>) -> Map<String, Value> {
    let mut rules: Map<String, Value> =
        PASSCODE_KEYS.iter().filter_map(|(ours, theirs)| Some(((*theirs).to_owned(), body.get(*ours)?.clone()))).collect();
    if body.get("RequireComplexPasscode").and_then(Value::as_bool) == Some(true) {
        rules.insert("allowSimple".into(), false.into());
    }
    rules.extend(body.get("ChangeAtNextAuth").map(|change| ("changeAtNextAuth".to_owned(), change.clone())));
    if let Some(custom) = body.get("CustomRegex").and_then(Value::as_object) {
        let keys = [("Regex", "passwordContentRegex"), ("Description", "passwordContentDescription")];
        let inner: Map<String, Value> =
            keys.iter().filter_map(|(ours, theirs)| Some(((*theirs).to_owned(), custom.get(*ours)?.clone()))).collect();
        rules.insert("customRegex".into(), inner.into());
    }
    rules
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::catalogue::catalogue;
    use crate::wire::apple::ddm::SupportedPayloads;

    fn payload(kind: &str, body: &Value) -> Payload {
        Payload { kind: kind.into(), name: "x".into(), body: body.as_object().unwrap().clone() }
    }

    /// For each type and version: declared (d), in a profile (p), or by commands (c).
    #[test]
    fn each_version_gets_each_payload_one_way() {
        let macs = ["11.0", "12.7", "13.0", "14.0", "15.1", "26.0", "27.0"];
        let phones = ["14.8", "15.0", "16.2", "17.0", "18.1", "26.0", "27.0"];
        for (kind, on_macs, on_phones) in [
            ("com.apple.mobiledevice.passwordpolicy", "ppppppp", "ppppppp"),
            ("com.apple.wifi.managed", "ppppppp", "ppppppp"),
            ("trusted-certificate", "ppppppp", "ppppppp"),
            ("scep", "ppppppp", "ppppppp"),
            ("mobileconfig", "ppppppp", "ppppppp"),
            (PASSCODE, "ppddddd", "pdddddd"),
            (UPDATE, "cccdddd", "cccdddd"),
            (app::ENTERPRISE, "ccccccc", "ccccccc"),
            (app::STORE, "ccccccc", "ccccccc"),
            // There is no other way for these.
            ("com.apple.configuration.management.test", "ddddddd", "ddddddd"),
            ("com.apple.configuration.softwareupdate.settings", "ddddddd", "ddddddd"),
            ("com.apple.asset.credential.certificate", "ddddddd", "ddddddd"),
            ("certificate-asset", "ddddddd", "ddddddd"),
            ("scep-asset", "ddddddd", "ddddddd"),
            ("declared-profile", "ddddddd", "ddddddd"),
        ] {
            for (system, versions, expected) in [(System::Mac, macs, on_macs), (System::Ios, phones, on_phones)] {
                let letter = |version: &&str| {
                    let device = Device { system, version: OsVersion::parse(version), capabilities: None };
                    match device.way(&payload(kind, &json!({})), catalogue()) {
                        Way::Declaration => 'd',
                        Way::Profile(_) => 'p',
                        Way::Commands => 'c',
                    }
                };
                assert_eq!(versions.iter().map(letter).collect::<String>(), expected, "{kind} {system:?}");
            }
        }
    }

    /// For each application and version: declared (d), or by commands (c).
    #[test]
    fn an_application_is_declared_where_that_says_all_that_its_profile_says() {
        let macs = ["15.1", "26.0", "27.0"];
        let phones = ["16.2", "17.2", "18.1", "18.4", "26.0"];
        let store = |more: Value| (app::STORE, json!({ "bundle-id": "a", "store-id": 1 }), more);
        let own = |more: Value| (app::ENTERPRISE, json!({ "bundle-id": "a", "package": "p" }), more);
        for ((kind, body, more), on_macs, on_phones) in [
            (store(json!({})), "cdd", "cdddd"),
            (store(json!({ "licence": false })), "ccc", "ccccc"),
            (store(json!({ "configuration": { "k": 1 } })), "ccd", "cccdd"),
            (own(json!({})), "ccd", "cdddd"),
            (own(json!({ "keep": true })), "ccc", "ccccc"),
            (own(json!({ "keep-after-management": true })), "ccc", "ccccc"),
            (own(json!({ "configuration": { "k": 1 } })), "ccd", "cccdd"),
            // What only Macs know is no application of an iPhone.
            (own(json!({ "team-id": "ABCDE12345" })), "cdd", "ccccc"),
            (own(json!({ "managed": false })), "cdd", "ccccc"),
        ] {
            let mut body = body;
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            for (system, versions, expected) in [(System::Mac, &macs[..], on_macs), (System::Ios, &phones[..], on_phones)] {
                let letter = |version: &&str| {
                    let device = Device { system, version: OsVersion::parse(version), capabilities: None };
                    if device.way(&payload(kind, &body), catalogue()) == Way::Declaration { 'd' } else { 'c' }
                };
                assert_eq!(versions.iter().map(letter).collect::<String>(), expected, "{kind} {more} {system:?}");
            }
        }
        // A device that does not tell what becomes of its applications is not left to itself.
        let mut payloads = SupportedPayloads::default();
        payloads.declarations.configurations = vec![content::app::MANAGED.into()];
        let (_, body, _) = own(json!({}));
        for (items, way) in [(vec![], Way::Commands), (vec![MANAGED_APPS.to_owned()], Way::Declaration)] {
            payloads.status_items = items;
            let says = Capabilities { supported_payloads: payloads.clone(), ..Capabilities::default() };
            let device = Device { system: System::Ios, version: OsVersion::parse("18.1"), capabilities: Some(&says) };
            assert_eq!(device.way(&payload(app::ENTERPRISE, &body), catalogue()), way);
        }
    }

    #[test]
    fn what_a_device_says_that_it_can_do_goes_before_its_version() {
        let mut payloads = SupportedPayloads::default();
        payloads.declarations.configurations = vec![UPDATE.into()];
        let says = Capabilities { supported_payloads: payloads, ..Capabilities::default() };
        let of = |version: &str| Device { system: System::Mac, version: OsVersion::parse(version), capabilities: Some(&says) };
        assert_eq!(of("15.1").way(&payload(UPDATE, &json!({})), catalogue()), Way::Declaration);
        assert!(matches!(of("15.1").way(&payload(PASSCODE, &json!({})), catalogue()), Way::Profile(_)));
        assert_eq!(of("12.0").way(&payload(UPDATE, &json!({})), catalogue()), Way::Commands, "it cannot have said that");
        let unknown = Device { version: None, capabilities: None, ..of("1.0") };
        assert_eq!(unknown.way(&payload(PASSCODE, &json!({})), catalogue()), Way::Declaration);
    }

    #[test]
    fn declared_rules_say_the_same_in_a_profile() {
        let body = json!({ "RequirePasscode": true, "MinimumLength": 8, "RequireComplexPasscode": true, "ChangeAtNextAuth": true,
            "CustomRegex": { "Regex": ".*", "Description": { "default": "x" } } });
        let device = Device { system: System::Mac, version: OsVersion::parse("12.0"), capabilities: None };
        let Way::Profile(made) = device.way(&payload(PASSCODE, &body), catalogue()) else { panic!() };
        assert_eq!((made.kind.as_str(), made.name.as_str()), (PASSCODE_PROFILE, "x"));
        let expected = json!({ "forcePIN": true, "minLength": 8, "allowSimple": false, "changeAtNextAuth": true,
            "customRegex": { "passwordContentRegex": ".*", "passwordContentDescription": { "default": "x" } } });
        assert_eq!(Value::Object(made.body.clone()), expected);
        let uuid_of = |_: &str| None;
        let to = crate::catalogue::payload::Device {
            system: System::Mac,
            version: OsVersion::parse("12.0").unwrap(),
            user_enrollment: false,
            uuid_of: &uuid_of,
        };
        catalogue().payload(PASSCODE_PROFILE).unwrap().encode(&made.body, &to).unwrap();
    }
}
