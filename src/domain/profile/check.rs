//! What a profile's document may hold.

use std::collections::{BTreeMap, BTreeSet};

use super::{Compliance, Custom, Document, Kind, Scope, split_scope};
use crate::catalogue::{Catalogue, Format, Vars, meant};
use crate::domain::Refusal;
use crate::domain::apple::content;
use crate::domain::device::Platform;
use crate::wire::locuri::LocUri;
use crate::wire::xml::{is_char, is_strict};

/// How many settings, custom nodes and payloads a profile may have, and how long a custom value may be, in bytes.
const MAX_SETTINGS: usize = 2_000;
const MAX_CUSTOM: usize = 500;
const MAX_PAYLOADS: usize = 100;
const MAX_VALUE: usize = 256 * 1024;
/// Longest grace, in hours: a year.
const MAX_GRACE: u32 = 8_760;
/// Settings of a least and a greatest value.
pub(in crate::domain) const LIMITS: [(&str, &str); 1] =
    [("passport-for-work.pin-complexity.minimum-pin-length", "passport-for-work.pin-complexity.maximum-pin-length")];
const FORMATS: &str = "the format is one of chr, int, bool, b64, xml, float, date, time";

/// What is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The rule that says no.
    pub refusal: Refusal,
    /// Where, and what is expected.
    pub detail: String,
}

impl Problem {
    /// A problem at that place.
    pub fn new(refusal: Refusal, at: &str, detail: impl std::fmt::Display) -> Self {
        let at: String = at.chars().take(200).collect();
        Self { refusal, detail: format!("{at}: {detail}") }
    }
}

impl Document {
    /// Checks the document against the catalogue. What Windows devices make of its payloads is known to those who give them.
    ///
    /// # Errors
    /// The first problem, by its place.
    pub fn check(&self, kind: Kind, platform: Platform, catalogue: &Catalogue, vars: &Vars<'_>) -> Result<(), Problem> {
        let counts = [
            ("settings", self.settings.len(), MAX_SETTINGS),
            ("custom", self.custom.len(), MAX_CUSTOM),
            ("payloads", self.payloads.len(), MAX_PAYLOADS),
        ];
        if let Some(at) = self.find_mask() {
            return Err(Problem::new(Refusal::ProfileSecretMasked, &at, "the secret's own value is needed"));
        }
        for (at, count, most) in counts {
            if count > most {
                return Err(Problem::new(Refusal::ProfileTooLarge, at, format!("{count}, at most {most}")));
            }
        }
        match (kind, &self.compliance) {
            (Kind::Compliance, Some(policy)) => {
                if !self.settings.is_empty() || !self.custom.is_empty() || !self.payloads.is_empty() {
                    return Err(Problem::new(Refusal::ProfileKindMixed, "compliance", "settings belong into a configuration profile"));
                }
                policy.check(platform, catalogue)?;
            }
            (Kind::Configuration, None) => {}
            (Kind::Compliance, None) => return Err(Problem::new(Refusal::ProfileKindMixed, "compliance", "a compliance policy has rules")),
            (Kind::Configuration, Some(_)) => {
                return Err(Problem::new(Refusal::ProfileKindMixed, "compliance", "rules belong into a compliance policy"));
            }
        }
        if platform != Platform::Windows && !(self.settings.is_empty() && self.custom.is_empty()) {
            let why = format!(
                "they are for windows; a profile for {platform} has payloads, which `muster profile settings --platform {platform}` shows"
            );
            return Err(Problem::new(Refusal::ProfilePlatformUnsupported, "settings", why));
        }
        if self.scope.is_some() && !platform.is_apple() {
            return Err(Problem::new(Refusal::ProfilePlatformUnsupported, "scope", "each setting has its own"));
        }
        self.check_settings(catalogue)?;
        self.check_custom(catalogue, vars)?;
        self.check_payloads()?;
        if platform.is_apple() { self.check_apple(platform, catalogue) } else { Ok(()) }
    }

    /// What Apple devices would refuse, or would take and not do.
    fn check_apple(&self, platform: Platform, catalogue: &Catalogue) -> Result<(), Problem> {
        let for_users = self.scope == Some(Scope::User);
        if for_users && (platform != Platform::MacOs || self.payloads.is_empty()) {
            return Err(Problem::new(Refusal::ProfilePlatformUnsupported, "scope", "only Macs give payloads to their users"));
        }
        content::check(&self.payloads, platform, for_users, catalogue)
            .map_err(|(at, why)| Problem::new(Refusal::ProfilePayloadRefused, at.as_str(), why))
    }

    fn check_settings(&self, catalogue: &Catalogue) -> Result<(), Problem> {
        let mut taken = BTreeSet::new();
        for (name, value) in &self.settings {
            let (id, scope) = split_scope(name);
            let Some(row) = catalogue.setting(id) else {
                let meant = meant(id, catalogue.settings().map(|row| row.id.as_str()));
                let why = format!("{meant}`muster profile settings` shows those that there are");
                return Err(Problem::new(Refusal::ProfileSettingUnknown, name, why));
            };
            let scope = scope.or_else(|| row.scopes.first().copied()).unwrap_or(Scope::Device);
            if !row.scopes.contains(&scope) {
                let scopes = row.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ");
                return Err(Problem::new(Refusal::ProfileSettingUnknown, name, format!("it exists for: {scopes}")));
            }
            if !taken.insert((id, scope)) {
                return Err(Problem::new(Refusal::ProfileEntryTwice, name, "is there twice"));
            }
            row.check_value(value).map_err(|why| Problem::new(Refusal::ProfileValueRefused, name, why))?;
        }
        self.check_limits(catalogue)
    }

    /// Devices take a least value above the greatest, and then nobody can choose one.
    fn check_limits(&self, catalogue: &Catalogue) -> Result<(), Problem> {
        let of = |wanted: &str, scope: Option<Scope>| {
            let mut named = self.settings.iter().map(|(name, value)| (name, split_scope(name), value));
            named.find_map(|(name, (id, given), value)| {
                let first = catalogue.setting(id).and_then(|row| row.scopes.first().copied());
                (id == wanted && given.or(first) == scope).then_some((name, value.as_i64()?))
            })
        };
        for (least, most) in LIMITS {
            for scope in [Scope::Device, Scope::User] {
                if let (Some((at, least)), Some((_, most))) = (of(least, Some(scope)), of(most, Some(scope)))
                    && least > most
                {
                    return Err(Problem::new(
                        Refusal::ProfileValueRefused,
                        at,
                        format!("at most {most}, which is the greatest that is allowed"),
                    ));
                }
            }
        }
        Ok(())
    }

    fn check_custom(&self, catalogue: &Catalogue, vars: &Vars<'_>) -> Result<(), Problem> {
        if self.custom.is_empty() {
            return Ok(());
        }
        // Two ways to write one node would overwrite each other for ever.
        let rows: BTreeMap<String, &str> = catalogue
            .settings()
            .flat_map(|row| row.scopes.iter().filter_map(|scope| Some((row.locuri(*scope, vars)?, row.id.as_str()))))
            .filter_map(|(address, id)| Some((LocUri::parse(&address).ok()?.key().to_owned(), id)))
            .collect();
        let mut taken = BTreeSet::new();
        for custom in &self.custom {
            let at = custom.uri.as_str();
            let address = Custom::check_address(at)?;
            if let Some(id) = rows.get(address.key()) {
                return Err(Problem::new(Refusal::ProfileAddressRefused, at, format!("the catalogue has this node as the setting {id}")));
            }
            if !taken.insert(address.key().to_owned()) {
                return Err(Problem::new(Refusal::ProfileEntryTwice, at, "is there twice"));
            }
            custom.check()?;
        }
        Ok(())
    }

    fn check_payloads(&self) -> Result<(), Problem> {
        let mut taken = BTreeSet::new();
        for payload in &self.payloads {
            let at = payload.name.as_str();
            let formed = !at.is_empty() && at.len() <= 64 && at.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            if !formed {
                return Err(Problem::new(Refusal::ProfilePayloadRefused, at, "a name is made of 1 to 64 letters, digits and hyphens"));
            }
            if !taken.insert(at) {
                return Err(Problem::new(Refusal::ProfileEntryTwice, at, "is there twice"));
            }
        }
        Ok(())
    }
}

impl Custom {
    /// Reads the address of a node that settings and orders may name.
    ///
    /// # Errors
    /// `PRF0001`.
    pub fn check_address(uri: &str) -> Result<LocUri, Problem> {
        let address = LocUri::parse(uri).map_err(|why| Problem::new(Refusal::ProfileAddressRefused, uri, why))?;
        let root = address.segments().first().map(|s| s.to_ascii_lowercase()).unwrap_or_default();
        if !["device", "user", "vendor"].contains(&root.as_str()) || address.segments().len() < 3 {
            return Err(Problem::new(Refusal::ProfileAddressRefused, uri, "begins with ./Device/, ./User/ or ./Vendor/ and names a node"));
        }
        Ok(address)
    }

    /// Checks that the value is of its format.
    ///
    /// # Errors
    /// `PRF0010`.
    pub fn check(&self) -> Result<(), Problem> {
        self.check_value().map_err(|why| Problem::new(Refusal::ProfileValueRefused, &self.uri, why))
    }

    fn check_value(&self) -> Result<(), String> {
        if self.value.len() > MAX_VALUE {
            return Err(format!("longer than {MAX_VALUE} bytes"));
        }
        let carried = |c: char| is_char(c) && (!c.is_control() || matches!(c, '\t' | '\n' | '\r'));
        if !self.value.chars().all(carried) {
            return Err("holds characters that XML cannot carry".into());
        }
        let format = Format::parse(&self.format).ok_or(FORMATS)?;
        let value = self.value.trim();
        let holds = match format {
            Format::Chr => true,
            // A piece is sent as it is, a whole document with its declaration as a text.
            Format::Xml => value.contains('<') && is_strict(without_declaration(value)),
            Format::Date => is_date(value),
            Format::Time => is_time(value),
            Format::Int => value.parse::<i64>().is_ok(),
            Format::Float => value.parse::<f64>().is_ok_and(f64::is_finite),
            Format::Bool => matches!(value, "true" | "false"),
            Format::B64 => {
                use base64::Engine as _;
                base64::engine::general_purpose::STANDARD.decode(value.split_whitespace().collect::<String>()).is_ok()
            }
            Format::Bin | Format::Null | Format::Node => return Err(FORMATS.into()),
        };
        if holds { Ok(()) } else { Err(format!("the value is not of the format {}", format.as_str())) }
    }
}

/// The document without `<?xml …?>` at its beginning.
fn without_declaration(document: &str) -> &str {
    let begun = document.strip_prefix("<?xml").filter(|rest| rest.starts_with([' ', '\t', '\n', '\r']));
    let rest = begun.and_then(|rest| rest.split_once("?>"));
    rest.map_or(document, |(_, rest)| rest.trim_start())
}

/// Numbers of two digits, the first perhaps of more, side by side or with `between` between them.
fn numbers(text: &str, between: char, first: usize) -> Option<Vec<u32>> {
    let parts: Vec<&str> = match text.split_once(between) {
        Some(_) => text.split(between).collect(),
        None => [text.get(..first)?, text.get(first..first + 2)?, text.get(first + 2..)?].into(),
    };
    let formed = parts.iter().enumerate().all(|(at, part)| part.len() == if at == 0 { first } else { 2 });
    let digits = parts.iter().all(|part| part.bytes().all(|b| b.is_ascii_digit()));
    if formed && digits { parts.iter().map(|part| part.parse().ok()).collect() } else { None }
}

/// A day as ISO 8601 writes it, `20261126` or `2026-11-26` (SyncML Meta-Information 1.2, section 5.4).
fn is_date(text: &str) -> bool {
    matches!(numbers(text, '-', 4).as_deref(), Some([_, 1..=12, 1..=31]))
}

/// A time as ISO 8601 writes it, `092500` or `09:25:00`, perhaps with `Z` after it.
fn is_time(text: &str) -> bool {
    matches!(numbers(text.strip_suffix('Z').unwrap_or(text), ':', 2).as_deref(), Some([0..=23, 0..=59, 0..=60]))
}

impl Compliance {
    fn check(&self, platform: Platform, catalogue: &Catalogue) -> Result<(), Problem> {
        if self.grace_hours > MAX_GRACE {
            return Err(Problem::new(Refusal::ProfileValueRefused, "grace_hours", format!("a whole number from 0 to {MAX_GRACE}")));
        }
        for (id, wanted) in &self.rules {
            let Some(rule) = catalogue.rule(platform.as_str(), id) else {
                let known = catalogue.rules().filter(|rule| rule.platform == platform.as_str()).map(|rule| rule.id.as_str());
                let others = catalogue.rules().filter(|rule| rule.id == *id).map(|rule| rule.platform.as_str()).collect::<Vec<_>>();
                let elsewhere = if others.is_empty() { String::new() } else { format!("it is for {}; ", others.join(" and ")) };
                let why = format!(
                    "{}{elsewhere}`muster policy settings --platform {platform}` shows those that there are for {platform}",
                    meant(id, known)
                );
                return Err(Problem::new(Refusal::ProfileRuleUnknown, id, why));
            };
            rule.validate(wanted).map_err(|why| Problem::new(Refusal::ProfileValueRefused, id, why))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
