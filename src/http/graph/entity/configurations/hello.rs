//! `windowsIdentityProtectionConfiguration`: Windows Hello for Business.

use serde_json::{Map, Value, json};

use super::{Server, Type};
use crate::domain::device::Platform;
use crate::domain::profile::Document;
use crate::http::graph::error::{GraphProblem, Result};

pub(super) const TYPE: Type =
    Type { name: "windowsIdentityProtectionConfiguration", platform: Platform::Windows, beta: true, channel: false, fits, write, read };

/// How a property stands in a setting.
enum Form {
    /// As it is.
    Bool,
    /// The opposite.
    Not,
    /// 0 or 1.
    Number01,
    /// A number.
    Number,
    /// allowed 0, required 1, blocked 2; `notConfigured` is none.
    Usage,
}

/// The properties, each with its setting.
const ROWS: [(&str, &str, Form); 14] = [
    ("enhancedAntiSpoofingForFacialFeaturesEnabled", "passport-for-work.biometrics.facial-features-use-enhanced-anti-spoofing", Form::Bool),
    ("pinExpirationInDays", "passport-for-work.pin-complexity.expiration", Form::Number),
    ("pinLowercaseCharactersUsage", "passport-for-work.pin-complexity.lowercase-letters", Form::Usage),
    ("pinMaximumLength", "passport-for-work.pin-complexity.maximum-pin-length", Form::Number),
    ("pinMinimumLength", "passport-for-work.pin-complexity.minimum-pin-length", Form::Number),
    ("pinPreviousBlockCount", "passport-for-work.pin-complexity.history", Form::Number),
    ("pinRecoveryEnabled", "passport-for-work.enable-pin-recovery", Form::Bool),
    ("pinSpecialCharactersUsage", "passport-for-work.pin-complexity.special-characters", Form::Usage),
    ("pinUppercaseCharactersUsage", "passport-for-work.pin-complexity.uppercase-letters", Form::Usage),
    ("securityDeviceRequired", "passport-for-work.require-security-device", Form::Bool),
    ("unlockWithBiometricsEnabled", "passport-for-work.biometrics.use-biometrics", Form::Bool),
    ("useCertificatesForOnPremisesAuthEnabled", "passport-for-work.use-certificate-for-on-prem-auth", Form::Bool),
    ("useSecurityKeyForSignin", "passport-for-work.security-key.use-security-key-for-signin", Form::Number01),
    ("windowsHelloForBusinessBlocked", "passport-for-work.use-passport-for-work", Form::Not),
];

const USAGES: [&str; 3] = ["allowed", "required", "blocked"];
const NOT_CONFIGURED: &str = "notConfigured";

fn fits(document: &Document) -> bool {
    let hello = |id: &String| id.starts_with("passport-for-work.") || id.starts_with("kerberos.");
    document.payloads.is_empty()
        && document.custom.is_empty()
        && document.settings.keys().any(|id| id.starts_with("passport-for-work."))
        && document.settings.keys().all(hello)
}

fn write(_: &Server<'_>, document: &Document, whole: &mut Map<String, Value>) {
    for (property, setting, form) in &ROWS {
        let value = document.settings.get(*setting);
        let shown = match (form, value) {
            (Form::Usage, None) => json!(NOT_CONFIGURED),
            (Form::Number | Form::Not, None) => Value::Null,
            // Graph has no null here, and false would be a setting when it is sent back.
            (Form::Bool | Form::Number01, None) => continue,
            (Form::Bool | Form::Number, Some(value)) => value.clone(),
            (Form::Not, Some(value)) => value.as_bool().map_or(Value::Null, |value| json!(!value)),
            (Form::Number01, Some(value)) => json!(value.as_i64() == Some(1)),
            (Form::Usage, Some(value)) => {
                let word = value.as_u64().and_then(|number| usize::try_from(number).ok()).and_then(|number| USAGES.get(number));
                json!(word.unwrap_or(&NOT_CONFIGURED))
            }
        };
        whole.insert((*property).to_owned(), shown);
    }
}

fn read(_: &Server<'_>, document: &mut Document, property: &str, value: &Value) -> Result<bool> {
    let Some((_, setting, form)) = ROWS.iter().find(|(name, ..)| *name == property) else { return Ok(false) };
    if value.is_null() || value.as_str() == Some(NOT_CONFIGURED) {
        document.settings.remove(*setting);
        return Ok(true);
    }
    let wrong = |expected: &str| GraphProblem::invalid(format!("{property} is {expected}."));
    let truth = || value.as_bool().ok_or_else(|| wrong("true or false"));
    let stored = match form {
        Form::Bool => json!(truth()?),
        Form::Not => json!(!truth()?),
        Form::Number01 => json!(i64::from(truth()?)),
        Form::Number => json!(value.as_i64().ok_or_else(|| wrong("a whole number"))?),
        Form::Usage => {
            let word = value.as_str().and_then(|word| USAGES.iter().position(|known| *known == word));
            json!(word.ok_or_else(|| wrong("allowed, required, blocked or notConfigured"))?)
        }
    };
    document.settings.insert((*setting).to_owned(), stored);
    Ok(true)
}
