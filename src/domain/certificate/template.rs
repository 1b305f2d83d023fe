//! Templates: names with `{{Variables}}`, resolved for one user and device into a grant.
//!
//! The administrator's text is taken apart first and the values are put in afterwards, so that no value, whatever characters it has,
//! can add a name of its own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::name::{Component, components};
use super::{Attribute, Grant, KeyRules, KeyUsage, Purpose, Rdn, SID_URI_PREFIX, San, is_sid_uri, parse_name, usage};
use crate::domain::Refusal;
use crate::domain::device::Device;
use crate::domain::profile::Scope;
use crate::domain::user::User;

/// The variables: each row is one value under all its names; the flag says that it belongs to the user.
const VARIABLES: &[(&[&str], bool)] = &[
    (&["UserName"], true),
    (&["UserPrincipalName"], true),
    (&["EmailAddress"], true),
    (&["OnPrem_Distinguished_Name"], true),
    (&["OnPremisesSamAccountName"], true),
    (&["OnPremisesSecurityIdentifier"], true),
    (&["AAD_Device_ID", "AzureADDeviceId"], false),
    (&["DeviceId"], false),
    (&["SerialNumber", "Device_Serial"], false),
    (&["IMEI", "IMEINumber", "Device_IMEI"], false),
    (&["MEID"], false),
    (&["WiFiMacAddress"], false),
    (&["DeviceName"], false),
    (&["FullyQualifiedDomainName"], false),
];

const DISTINGUISHED_NAME: &str = "OnPrem_Distinguished_Name";
const SID: &str = "OnPremisesSecurityIdentifier";
const HOST_NAME: &str = "FullyQualifiedDomainName";

fn variable(name: &str) -> Option<(&'static str, bool)> {
    let (names, of_user) = VARIABLES.iter().find(|(names, _)| names.iter().any(|known| known.eq_ignore_ascii_case(name)))?;
    names.first().map(|first| (*first, *of_user))
}

/// Whether that variable tells of the user, not of the device.
#[must_use]
pub fn is_of_user(name: &str) -> bool {
    variable(name).is_some_and(|(_, of_user)| of_user)
}

/// The values that templates are resolved with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables(BTreeMap<&'static str, String>);

impl Variables {
    /// The values that the directory knows of a user and a device.
    #[must_use]
    pub fn of(user: Option<&User>, device: Option<&Device>) -> Self {
        let mut values = Self::default();
        if let Some(user) = user {
            values.put("UserPrincipalName", Some(&user.upn));
            values.put("UserName", user.upn.split('@').next());
            values.put("EmailAddress", user.mail.as_deref());
            values.put(DISTINGUISHED_NAME, user.distinguished_name.as_deref());
            values.put("OnPremisesSamAccountName", user.sam_account_name.as_deref());
            values.put(SID, user.security_identifier.as_deref());
        }
        if let Some(device) = device {
            values.put("DeviceId", Some(device.id.as_str()));
            values.put("AAD_Device_ID", Some(device.entra_device_id.as_deref().unwrap_or(device.id.as_str())));
            values.put("SerialNumber", device.serial_number.as_deref());
            values.put("DeviceName", Some(&device.display_name));
        }
        values
    }

    /// A made-up value for each variable: shows what is wrong with a template itself.
    #[must_use]
    pub fn samples() -> Self {
        let mut values = Self::default();
        for (names, _) in VARIABLES {
            let Some(name) = names.first() else { continue };
            let sample = match *name {
                DISTINGUISHED_NAME => "CN=Sample,DC=example,DC=org",
                SID => "S-1-5-21-1-2-3-1001",
                "UserPrincipalName" | "EmailAddress" => "sample@example.org",
                _ => "sample",
            };
            values.put(name, Some(sample));
        }
        values
    }

    /// The same without what is known of a person.
    #[must_use]
    pub fn of_device(mut self) -> Self {
        self.0.retain(|name, _| !is_of_user(name));
        self
    }

    /// Adds a value that the device reported, such as `IMEI`; names that are no variable are ignored.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.put(name, Some(value));
        self
    }

    /// Puts the values into a text of any kind: what stands in `{{` and `}}` is a variable, all else stays.
    ///
    /// # Errors
    /// When a variable does not exist or has no value.
    pub fn fill(&self, text: &str) -> Result<String, Unresolved> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) = after.split_once("}}").ok_or_else(|| Unresolved::new(Refusal::TemplateInvalid, text))?;
            filled.push_str(before);
            filled.push_str(self.get(name, Scope::User)?);
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    fn put(&mut self, name: &str, value: Option<&str>) {
        if let (Some((canonical, _)), Some(value)) = (variable(name), value.filter(|v| !v.trim().is_empty())) {
            self.0.insert(canonical, value.to_owned());
        }
    }

    fn get(&self, name: &str, scope: Scope) -> Result<&str, Unresolved> {
        let (canonical, of_user) = variable(name).ok_or_else(|| Unresolved::new(Refusal::TemplateVariableUnknown, name))?;
        if of_user && scope == Scope::Device {
            return Err(Unresolved::new(Refusal::TemplateVariableOfUser, canonical));
        }
        self.0.get(canonical).map(String::as_str).ok_or_else(|| Unresolved::new(Refusal::TemplateVariableMissing, canonical))
    }
}

/// Why a template could not be resolved, and over what: the name of a variable or the text that does not parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{refusal} ({subject})")]
pub struct Unresolved {
    /// The refusal.
    pub refusal: Refusal,
    /// What it is about.
    pub subject: String,
}

impl Unresolved {
    fn new(refusal: Refusal, subject: &str) -> Self {
        Self { refusal, subject: subject.to_owned() }
    }
}

impl From<Unresolved> for Refusal {
    fn from(unresolved: Unresolved) -> Self {
        unresolved.refusal
    }
}

/// How certificates of one kind look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Template {
    /// Whether it is for a device (device variables only) or for a user on a device.
    pub scope: Scope,
    /// The subject as RFC 4514 text with variables, such as `CN={{DeviceId}},O=Example`; encoded in the order as written.
    /// `{{OnPrem_Distinguished_Name}}` alone stands for all names of the directory's distinguished name.
    pub subject: String,
    /// Subject alternative names with variables.
    pub sans: Vec<San>,
    /// Extended key usages, dotted; default: client authentication.
    pub extended_key_usages: Vec<String>,
    /// Key usages; default: digital signature and key encipherment.
    pub key_usages: Vec<KeyUsage>,
    /// Life in days, 5 to 1095.
    pub days: u32,
    /// Puts the user's SID into the security extension when the user has one.
    pub sid_extension: bool,
    /// Allows values longer than RFC 5280's bounds (64 characters for a common name).
    pub long_names: bool,
    /// Which keys are accepted.
    pub key_rules: KeyRules,
}

impl Default for Template {
    fn default() -> Self {
        Self {
            scope: Scope::Device,
            subject: String::new(),
            sans: Vec::new(),
            extended_key_usages: vec![usage::CLIENT_AUTH.to_owned()],
            key_usages: vec![KeyUsage::DigitalSignature, KeyUsage::KeyEncipherment],
            days: 365,
            sid_extension: false,
            long_names: false,
            key_rules: KeyRules::default(),
        }
    }
}

impl Template {
    /// The grant of this template for one user and device. The caller adds the ids of what it is for.
    ///
    /// # Errors
    /// [`Refusal::TemplateVariableMissing`], [`Refusal::TemplateVariableUnknown`] and [`Refusal::TemplateVariableOfUser`] name the
    /// variable, as does [`Refusal::TemplateValueRefused`]; [`Refusal::TemplateInvalid`] and [`Refusal::CertificateNameTooLong`] the text; else what [`Grant::check`] says.
    pub fn resolve(&self, variables: &Variables) -> Result<Grant, Unresolved> {
        if !(5..=1095).contains(&self.days) {
            return Err(Unresolved::new(Refusal::TemplateInvalid, &format!("days: {}, not 5 to 1095", self.days)));
        }
        let subject = self.subject(variables)?;
        if let Some(long) = subject.iter().find(|rdn| !self.long_names && !rdn.is_within_bounds()) {
            return Err(Unresolved::new(Refusal::CertificateNameTooLong, &super::show_name(std::slice::from_ref(long))));
        }
        let mut sans = Vec::with_capacity(self.sans.len());
        for san in &self.sans {
            match self.fill_name(san, variables) {
                Ok(filled) => sans.push(filled),
                // An account that lives in the cloud only has no SID: then its certificates carry none.
                Err(missing)
                    if missing.refusal == Refusal::TemplateVariableMissing
                        && missing.subject == SID
                        && san.text().starts_with(SID_URI_PREFIX) => {}
                Err(other) => return Err(other),
            }
        }
        let sid = if self.sid_extension && self.scope == Scope::User { variables.0.get(SID).cloned() } else { None };
        let grant = Grant {
            purpose: Purpose::Authentication,
            subject,
            sans,
            extended_key_usages: self.extended_key_usages.clone(),
            key_usages: self.key_usages.clone(),
            days: self.days,
            sid,
            key_rules: self.key_rules.clone(),
            device_id: None,
            user_id: None,
            enrollment_id: None,
            profile_id: None,
            payload: None,
            renewal: None,
        };
        match grant.find_fault() {
            Some((refusal, what)) => Err(Unresolved::new(refusal, &what)),
            None => Ok(grant),
        }
    }

    fn subject(&self, variables: &Variables) -> Result<Vec<Rdn>, Unresolved> {
        let invalid = |text: &str| Unresolved::new(Refusal::TemplateInvalid, &format!("subject: {text}"));
        let mut subject = Vec::new();
        for component in components(&self.subject).ok_or_else(|| invalid(&self.subject))? {
            match component {
                Component::Rdn(rdn) => {
                    let fill = |a: Attribute| Ok(Attribute { value: self.fill("subject", &a.value, variables)?, kind: a.kind });
                    subject.push(Rdn(rdn.0.into_iter().map(fill).collect::<Result<_, Unresolved>>()?));
                }
                Component::Bare(text) => {
                    let name = text.strip_prefix("{{").and_then(|t| t.strip_suffix("}}")).ok_or_else(|| invalid(&text))?;
                    if variable(name).is_none_or(|(canonical, _)| canonical != DISTINGUISHED_NAME) {
                        return Err(invalid(&text));
                    }
                    subject.extend(parse_name(variables.get(name, self.scope)?).ok_or_else(|| invalid(&text))?);
                }
            }
        }
        Ok(subject)
    }

    /// Puts the values into an alternative name, whose written-out parts alone say what kind of name it is.
    fn fill_name(&self, san: &San, variables: &Variables) -> Result<San, Unresolved> {
        let template = san.text();
        let text = match san {
            San::Dns(_) => self.fill_with(san.kind(), template, variables, gives_labels)?,
            _ => self.fill(san.kind(), template, variables)?,
        };
        // Whoever holds a device says what it is called: nothing but the directory says whose account a certificate is for.
        let account = || template.eq_ignore_ascii_case(&format!("{SID_URI_PREFIX}{{{{{SID}}}}}"));
        if matches!(san, San::Uri(_)) && template.contains("{{") && is_sid_uri(&text) && !account() {
            return Err(Unresolved::new(Refusal::TemplateValueRefused, template));
        }
        Ok(san.with_text(text))
    }

    /// Puts the values into one text of that field.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn fill(&self, field: &str, text: &str, variables: &Variables) -> Result<String, Unresolved> {
        self.fill_with(field, text, variables, |_, _| true)
    }

    /// Puts the values into one text, each if it may be there: judged by the variable and the value.
    fn fill_with(&self, field: &str, text: &str, variables: &Variables, may: fn(&str, &str) -> bool) -> Result<String, Unresolved> {
        let invalid = || Unresolved::new(Refusal::TemplateInvalid, &format!("{field}: {text}"));
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) = after.split_once("}}").ok_or_else(invalid)?;
            filled.push_str(plain(before).ok_or_else(invalid)?);
            let value = variables.get(name, self.scope)?;
            if !may(name, value) {
                return Err(Unresolved::new(Refusal::TemplateValueRefused, name));
            }
            filled.push_str(value);
            rest = after;
        }
        filled.push_str(plain(rest).ok_or_else(invalid)?);
        if filled.is_empty() {
            return Err(invalid());
        }
        Ok(filled)
    }
}

/// Whether a value may be a part of a host name: one label or a part of one, or, of a variable that is a host name, several; never a
/// wildcard.
fn gives_labels(name: &str, value: &str) -> bool {
    let whole = variable(name).is_some_and(|(canonical, _)| canonical == HOST_NAME);
    !value.contains('*') && (whole || !value.contains('.'))
}

/// Static text, which has none of the characters that Intune keeps to itself.
fn plain(text: &str) -> Option<&str> {
    (!text.contains(['{', '}', '|', ';'])).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::certificate::AttributeType;
    use crate::domain::device::{Platform, State};
    use crate::domain::user::Details;
    use crate::ids::{DeviceId, UserId};

    fn ana() -> User {
        User {
            id: UserId::new(),
            upn: "ana@example.org".into(),
            display_name: "Ana".into(),
            mail: None,
            sam_account_name: Some("ana".into()),
            security_identifier: Some("S-1-5-21-1-2-3-1001".into()),
            distinguished_name: Some(r"CN=Ana\, B.,OU=Staff,OU=All,DC=contoso,DC=com".into()),
            enabled: true,
            details: Details::default(),
        }
    }

    fn pc(serial: Option<&str>) -> Device {
        Device {
            id: DeviceId::new(),
            display_name: "PC-1".into(),
            platform: Platform::Windows,
            user_id: None,
            hardware_id: None,
            entra_device_id: None,
            serial_number: serial.map(str::to_owned),
            manufacturer: None,
            model: None,
            os_version: None,
            os_edition: None,
            state: State::Managed,
        }
    }

    fn template(subject: &str) -> Template {
        Template { scope: Scope::User, subject: subject.into(), ..Template::default() }
    }

    fn values(name: &[Rdn]) -> Vec<(AttributeType, &str)> {
        name.iter().flat_map(|r| &r.0).map(|a| (a.kind, a.value.as_str())).collect()
    }

    #[test]
    fn names_are_found_in_any_case_and_by_their_aliases() {
        let variables = Variables::of(Some(&ana()), Some(&pc(Some("S1"))));
        let grant = template("CN={{userprincipalname}},OU=x {{Device_Serial}} y,OU={{SERIALNUMBER}}").resolve(&variables).unwrap();
        let wanted = [
            (AttributeType::CommonName, "ana@example.org"),
            (AttributeType::OrganizationalUnit, "x S1 y"),
            (AttributeType::OrganizationalUnit, "S1"),
        ];
        assert_eq!(values(&grant.subject), wanted);
    }

    #[test]
    fn a_missing_or_unknown_variable_refuses_by_name() {
        let variables = Variables::of(Some(&ana()), Some(&pc(None)));
        let missing = template("CN={{imeinumber}}").resolve(&variables).unwrap_err();
        assert_eq!((missing.refusal.code(), missing.subject.as_str()), ("CRT0021", "IMEI"));
        let unknown = template("CN={{ShoeSize}}").resolve(&variables).unwrap_err();
        assert_eq!((unknown.refusal.code(), unknown.subject.as_str()), ("CRT0023", "ShoeSize"));
        let device = Template { scope: Scope::Device, ..template("CN={{UserName}}") };
        assert_eq!(device.resolve(&variables).unwrap_err().refusal.code(), "CRT0022");
    }

    #[test]
    fn values_never_add_names_of_their_own() {
        for evil in ["a,OU=Admins", "a+OU=Admins", "\"a", "a\\", " lead", "#00", "é😀", "{{DeviceId}}", "a\u{202e}b"] {
            let mut device = pc(Some("S1"));
            device.display_name = evil.into();
            let grant = template("CN={{DeviceName}},O=Example").resolve(&Variables::of(None, Some(&device))).unwrap();
            assert_eq!(values(&grant.subject), [(AttributeType::CommonName, evil), (AttributeType::Organization, "Example")]);
        }
        let mut device = pc(None);
        device.display_name = "a\0b".into();
        let refused = template("CN={{DeviceName}}").resolve(&Variables::of(None, Some(&device))).unwrap_err();
        assert_eq!(refused.refusal.code(), "CRT0015");
    }

    #[test]
    fn the_directory_name_becomes_several_names() {
        let grant = template("{{OnPrem_Distinguished_Name}},O=Example").resolve(&Variables::of(Some(&ana()), None)).unwrap();
        let shown: Vec<_> = values(&grant.subject).iter().map(|(kind, value)| format!("{kind}={value}")).collect();
        assert_eq!(shown, ["CN=Ana, B.", "OU=Staff", "OU=All", "DC=contoso", "DC=com", "O=Example"]);
        assert_eq!(template("{{DeviceName}}").resolve(&Variables::default()).unwrap_err().refusal.code(), "CRT0020");
    }

    #[test]
    fn the_sid_goes_in_when_there_is_one_and_both_carriers_stay_out_when_not() {
        let mut template = template("CN={{UserName}}");
        template.sid_extension = true;
        template.sans = vec![San::Uri(format!("{SID_URI_PREFIX}{{{{OnPremisesSecurityIdentifier}}}}"))];
        let with = template.resolve(&Variables::of(Some(&ana()), None)).unwrap();
        assert_eq!(with.sid.as_deref(), Some("S-1-5-21-1-2-3-1001"));
        assert_eq!(with.sans, [San::Uri("tag:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-1001".into())]);
        let mut cloud = ana();
        cloud.security_identifier = None;
        let without = template.resolve(&Variables::of(Some(&cloud), None)).unwrap();
        assert_eq!((without.sid, without.sans), (None, vec![]));
    }

    #[test]
    fn a_value_gives_one_label_of_a_host_name_unless_it_is_one() {
        let resolve = |name: &str, value: &str, text: &str| {
            let template = Template { sans: vec![San::Dns(text.into())], ..template("CN=a") };
            template.resolve(&Variables::default().with(name, value)).map(|grant| grant.sans[0].text().to_owned())
        };
        for (name, value, text, wanted) in [
            ("DeviceName", "PC-1", "{{DeviceName}}", "PC-1"),
            ("DeviceName", "PC-1", "{{devicename}}.pcs.example.org", "PC-1.pcs.example.org"),
            ("DeviceName", "1", "*.pc{{DeviceName}}.example.org", "*.pc1.example.org"),
            ("FullyQualifiedDomainName", "pc.example.org", "{{FullyQualifiedDomainName}}", "pc.example.org"),
        ] {
            assert_eq!(resolve(name, value, text).unwrap(), wanted);
        }
        for (name, value, text) in [
            ("DeviceName", "dc.example.org", "{{DeviceName}}"),
            ("DeviceName", "evil.example", "{{DeviceName}}.example.org"),
            ("DeviceName", "*", "{{DeviceName}}.example.org"),
            ("SerialNumber", "*.", "{{Device_Serial}}example.org"),
            ("FullyQualifiedDomainName", "*.example.org", "{{FullyQualifiedDomainName}}"),
        ] {
            let refused = resolve(name, value, text).unwrap_err();
            assert_eq!(refused.refusal.code(), "CRT0043", "{value} in {text}");
        }
        assert_eq!(resolve("DeviceName", "a b", "{{DeviceName}}").unwrap_err().refusal.code(), "CRT0015");
    }

    #[test]
    fn no_device_names_itself_after_an_account_or_a_second_mailbox() {
        let resolve = |san: San, name: &str| {
            let template = Template { sans: vec![san], ..template("CN=a") };
            template.resolve(&Variables::default().with("DeviceName", name)).map_err(|refused| refused.refusal.code())
        };
        let (sid, uri) = ("S-1-5-21-1-2-3-500", |text: &str| San::Uri(text.into()));
        for (text, name) in [
            ("{{DeviceName}}", format!("{SID_URI_PREFIX}{sid}")),
            ("{{DeviceName}}", format!("{}{sid}", SID_URI_PREFIX.to_uppercase())),
            ("tag:microsoft.com,2022-09-14:sid:{{DeviceName}}", sid.to_owned()),
            ("tag:microsoft.com,2022-09-14:{{DeviceName}}", format!("sid:{sid}")),
        ] {
            assert_eq!(resolve(uri(text), &name).unwrap_err(), "CRT0043", "{text}");
        }
        assert!(resolve(uri("urn:device:{{DeviceName}}"), "PC-1").is_ok());
        assert!(resolve(uri(&format!("{SID_URI_PREFIX}{sid}")), "PC-1").is_ok(), "written out by the administrator");
        assert_eq!(resolve(San::Email("{{DeviceName}}@example.org".into()), "boss@example.com").unwrap_err(), "CRT0015");
    }

    #[test]
    fn texts_that_cannot_be_templates_are_refused() {
        let variables = Variables::of(Some(&ana()), Some(&pc(Some("S1"))));
        for bad in ["CN={{UserName}", "CN=a;b", "CN={a}", "XX=1", "CN=a|b", "CN=", "CN={{UserName}}}}"] {
            assert_eq!(template(bad).resolve(&variables).unwrap_err().refusal.code(), "CRT0020", "{bad}");
        }
        let days = Template { days: 4, ..template("CN=a") };
        assert_eq!(days.resolve(&variables).unwrap_err().refusal.code(), "CRT0020");
        let long = template(&format!("CN={}", "x".repeat(70)));
        assert_eq!(long.resolve(&variables).unwrap_err().refusal.code(), "CRT0017");
        assert!(Template { long_names: true, ..long }.resolve(&variables).is_ok());
    }
}
