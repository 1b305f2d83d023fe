//! Which values settings may have.

use std::fmt;
use std::path::Path;

use super::Config;
use super::apple::MODES;
use crate::domain::apple::account::is_name;
use crate::domain::apple::content::single_sign_on::Bundle;
use crate::store::location::{MASK, is_keywords, is_mistyped};

/// A value that is not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The setting's key.
    pub key: String,
    /// The value, when it may be shown.
    pub found: Option<String>,
    /// What is allowed.
    pub allowed: String,
}

impl Wrong {
    pub(super) fn new(key: &str, found: Option<String>, allowed: String) -> Self {
        Self { key: key.to_owned(), found, allowed }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.found {
            Some(found) => write!(f, "{} = {found}: {}", self.key, self.allowed),
            None => write!(f, "{}: {}", self.key, self.allowed),
        }
    }
}

/// Headers in which a proxy may name the client's address.
const PROXY_HEADERS: [&str; 2] = ["x-forwarded-for", "forwarded"];
/// Key algorithms that an authority may have.
const KEY_ALGORITHMS: [&str; 5] = ["rsa-2048", "rsa-3072", "rsa-4096", "p-256", "p-384"];

#[derive(Default)]
struct Findings(Vec<Wrong>);

impl Findings {
    fn range(&mut self, key: &str, value: impl Into<u64>, least: u64, most: u64) {
        let value = value.into();
        if !(least..=most).contains(&value) {
            self.0.push(Wrong::new(key, Some(value.to_string()), format!("must be {least} to {most}")));
        }
    }

    /// A file that is named is one that can be read.
    fn file(&mut self, key: &str, path: Option<&Path>) {
        let Some(path) = path else { return };
        if let Err(error) = std::fs::File::open(path) {
            self.0.push(Wrong::new(key, Some(path.display().to_string()), format!("cannot be read: {error}")));
        }
    }

    fn require(&mut self, right: bool, key: &str, found: &str, allowed: &str) {
        if !right {
            self.0.push(Wrong::new(key, Some(found.to_owned()), allowed.to_owned()));
        }
    }
}

/// All values that are not allowed.
pub(super) fn check(config: &Config) -> Vec<Wrong> {
    let mut found = Findings::default();
    check_base(config, &mut found);
    check_faces(config, &mut found);
    check_ca(config, &mut found);
    found.range("order_days", config.order_days, 1, 3650);
    let apple = &config.apple;
    found.range("apple.give_up_hours", apple.give_up_hours, 1, 8760);
    found.range("apple.identity_days", apple.identity_days, 2, 3650);
    found.range("apple.renewal_days", apple.renewal_days, 1, u64::from(apple.identity_days.max(2)) - 1);
    found.range("apple.drift_hours", apple.drift_hours, 1, 8760);
    found.range("apple.attestation_days", apple.attestation_days, 8, 365);
    found.range("apple.session_minutes", apple.session_minutes, 1, 43_200);
    found.file("apple.attestation_root_file", apple.attestation_root_file.as_deref());
    found.file("apple.automated.device_ca_file", apple.automated.device_ca_file.as_deref());
    found.file("apple.automated.service_root_file", apple.automated.service_root_file.as_deref());
    found.file("apple.content.service_root_file", apple.content.service_root_file.as_deref());
    found.file("apple.apns.root_file", apple.apns.root_file.as_deref());
    check_account(config, &mut found);
    check_automated(config, &mut found);
    check_sso(config, &mut found);
    check_enrollment(config, &mut found);
    check_windows(config, &mut found);
    let apns = &config.apple.apns;
    found.require(outside(&apns.url), "apple.apns.url", &apns.url, "must be an https URL");
    found.range("apple.apns.expiration_hours", apns.expiration_hours, 1, 720);
    found.range("compliance.validity_days", config.compliance.validity_days, 1, 120);
    found.range("signals.retention_hours", config.signals.retention_hours, 1, 720);
    found.range("signals.timeout_seconds", config.signals.timeout_seconds, 1, 120);
    found.0
}

fn check_base(config: &Config, found: &mut Findings) {
    // What `config print` writes in the place of a secret is none.
    let masked = [
        ("database", config.database.as_deref().unwrap_or_default().contains(MASK)),
        ("windows.wns.client_secret", config.windows.wns.client_secret.expose() == MASK),
    ];
    for (key, _) in masked.into_iter().filter(|(_, masked)| *masked) {
        found.require(false, key, MASK, "the secret itself: this is what config print shows in its place");
    }
    found.require(!config.data_dir.as_os_str().is_empty(), "data_dir", "", "must be a folder");
    if let Some(database) = &config.database {
        // The URL may hold a password: it is not shown.
        let other = database.contains("://") && !["postgres://", "postgresql://", "sqlite://"].iter().any(|s| database.starts_with(s));
        if other || database.is_empty() || is_keywords(database) || is_mistyped(database) {
            found.0.push(Wrong::new("database", None, "must be a postgres:// URL or the path of a SQLite file".into()));
        }
    }
    found.range("database_connections", config.database_connections, 1, 500);
    found.range("database_wait_seconds", config.database_wait_seconds, 1, 3600);
    let length = config.organisation.chars().count();
    found.require((1..=64).contains(&length), "organisation", &config.organisation, "must have 1 to 64 characters");
    let known = PROXY_HEADERS.contains(&config.proxy_header.as_str());
    found.require(known, "proxy_header", &config.proxy_header, &format!("must be one of {}", PROXY_HEADERS.join(", ")));
    found.range("workers", u64::try_from(config.workers).unwrap_or(u64::MAX), 0, 1024);
    for (key, burst, rate) in [
        ("limits.anonymous_burst", config.limits.anonymous_burst, config.limits.anonymous_per_second),
        ("limits.api_burst", config.limits.api_burst, config.limits.api_per_second),
    ] {
        found.range(key, burst, u64::from(rate > 0), 1_000_000);
    }
}

fn check_faces(config: &Config, found: &mut Findings) {
    for (key, face, scheme) in
        [("web.url", &config.web, "https"), ("device.url", &config.device, "https"), ("pki.url", &config.pki, "http")]
    {
        let Some(url) = &face.url else { continue };
        let right = reqwest::Url::parse(url).is_ok_and(|u| {
            let bare = u.username().is_empty() && u.query().is_none() && u.fragment().is_none() && u.path() == "/";
            u.scheme() == scheme && u.has_host() && bare
        });
        found.require(right, key, url, &format!("must be {scheme}://host or {scheme}://host:port, without a path"));
    }
    if config.single_port {
        found.require(
            config.web.url.is_some() && config.device.url.is_some() && !config.web_host().eq_ignore_ascii_case(&config.device_host()),
            "single_port",
            "true",
            "needs web.url and device.url with different host names",
        );
    }
    let both = config.tls.certificate_file.is_some() == config.tls.key_file.is_some();
    found.require(both, "tls.key_file", "", "must be given together with tls.certificate_file");
    for name in &config.tls.extra_names {
        let label = |l: &str| (1..=63).contains(&l.len()) && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        found.require(name.len() <= 253 && name.split('.').all(label), "tls.extra_names", name, "must be DNS names");
    }
}

fn check_ca(config: &Config, found: &mut Findings) {
    let ca = &config.ca;
    let known = KEY_ALGORITHMS.contains(&ca.key_algorithm.as_str());
    found.require(known, "ca.key_algorithm", &ca.key_algorithm, &format!("must be one of {}", KEY_ALGORITHMS.join(", ")));
    found.range("ca.root_days", ca.root_days, 30, 36_500);
    found.range("ca.issuing_days", ca.issuing_days, 30, u64::from(ca.root_days.max(30)));
    found.range("ca.crl_hours", ca.crl_hours, 2, 8760);
    // A list that is renewed only when it ends leaves a moment without a valid one.
    found.range("ca.crl_refresh_hours", ca.crl_refresh_hours, 1, u64::from(ca.crl_hours.saturating_sub(1).max(1)));
    found.range("ca.ocsp_hours", ca.ocsp_hours, 1, 720);
    found.range("ca.ocsp_responder_days", ca.ocsp_responder_days, 1, 398);
    found.range("ca.ra_days", ca.ra_days, 7, 1100);
    found.range("scep.challenge_minutes", config.scep.challenge_minutes, 1, 525_600);
    found.range("scep.renewal_percent", config.scep.renewal_percent, 1, 100);
    found.range("scep.clock_skew_hours", config.scep.clock_skew_hours, 1, 876_000);
    found.range("scep.live_certificates", config.scep.live_certificates, 2, 1000);
}

fn check_version(key: &str, version: &str, found: &mut Findings) {
    let parts = version.is_empty() || version.split('.').count() <= 4 && version.split('.').all(|p| p.parse::<u32>().is_ok());
    found.require(parts, key, version, "must be empty or numbers with dots such as 10.0.19041");
}

fn check_enrollment(config: &Config, found: &mut Findings) {
    let enrollment = &config.enrollment;
    found.range("enrollment.give_up_days", enrollment.give_up_days, 1, 3650);
    found.range("enrollment.unfinished_days", enrollment.unfinished_days, 1, 3650);
    for (name, rules) in [("windows", &enrollment.windows), ("macos", &enrollment.macos), ("ios", &enrollment.ios)] {
        check_version(&format!("enrollment.{name}.minimum_os_version"), &rules.minimum_os_version, found);
        check_version(&format!("enrollment.{name}.maximum_os_version"), &rules.maximum_os_version, found);
    }
    for serial in &enrollment.serial_numbers {
        let plain = (1..=64).contains(&serial.len()) && serial.bytes().all(|b| b.is_ascii_graphic());
        found.require(plain, "enrollment.serial_numbers", serial, "must be serial numbers of 1 to 64 letters and digits");
    }
}

fn check_account(config: &Config, found: &mut Findings) {
    let account = &config.apple.account;
    for (key, word) in [("macos", &account.macos), ("ios", &account.ios)] {
        let known = MODES.iter().any(|(known, _)| known == word);
        found.require(known, &format!("apple.account.{key}"), word, "must be off, user or device");
        let placed = word == "off" || !account.domains.is_empty();
        found.require(placed, "apple.account.domains", "", &format!("must name a domain for apple.account.{key}"));
    }
    let domain = |name: &str| {
        let label = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        name.len() <= 253 && name.contains('.') && name.split('.').all(label)
    };
    for name in &account.domains {
        found.require(domain(name), "apple.account.domains", name, "must be domains in lower-case letters, such as example.org");
    }
    let other = &account.apple_domain;
    found.require(
        other.is_empty() || domain(other),
        "apple.account.apple_domain",
        other,
        "must be empty or a domain in lower-case letters",
    );
}

fn check_sso(config: &Config, found: &mut Findings) {
    let sso = &config.apple.sso;
    for (key, text) in [("apple.sso.macos_extension", &sso.macos_extension), ("apple.sso.ios_extension", &sso.ios_extension)] {
        let bundle = text.is_empty() || Bundle::parse(text).is_some();
        found.require(bundle, key, text, "must be empty or TEAMID.bundle.id, such as ABCDE12345.org.example.app.sso");
    }
    for app in &sso.apps {
        found.require(Bundle::parse(app).is_some(), "apple.sso.apps", app, "must be TEAMID.bundle.id, such as ABCDE12345.org.example.app");
    }
    found.range("apple.sso.token_days", sso.token_days, 1, 30);
}

fn check_automated(config: &Config, found: &mut Findings) {
    let automated = &config.apple.automated;
    check_version("apple.automated.macos_version", &automated.macos_version, found);
    check_version("apple.automated.ios_version", &automated.ios_version, found);
    found.range("apple.automated.await_minutes", automated.await_minutes, 1, 240);
    let urls = [
        ("apple.automated.platform_sso_profile_url", &automated.platform_sso_profile_url),
        ("apple.automated.platform_sso_manifest_url", &automated.platform_sso_manifest_url),
    ];
    for (key, url) in urls {
        found.require(url.is_empty() || outside(url), key, url, "must be empty or an https URL");
    }
    let content = &config.apple.content.service_url;
    found.require(outside(content), "apple.content.service_url", content, "must be an https URL");
    found.require(outside(&automated.service_url), "apple.automated.service_url", &automated.service_url, "must be an https URL");
    let profile = &automated.profile;
    let named = |text: &str, most: usize| text.len() <= most && !text.chars().any(char::is_control);
    found.require(
        !profile.name.is_empty() && named(&profile.name, 125),
        "apple.automated.profile.name",
        &profile.name,
        "must have 1 to 125 characters",
    );
    for (key, text) in [
        ("department", &profile.department),
        ("support_phone_number", &profile.support_phone_number),
        ("support_email_address", &profile.support_email_address),
    ] {
        found.require(named(text, 250), &format!("apple.automated.profile.{key}"), text, "must have at most 250 characters");
    }
    for (key, text) in [("language", &profile.language), ("region", &profile.region)] {
        let code = text.len() <= 16 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        found.require(code, &format!("apple.automated.profile.{key}"), text, "must be a code such as en or DE");
    }
    let placed = !profile.auto_advance || !profile.language.is_empty() && !profile.region.is_empty();
    found.require(placed, "apple.automated.profile.auto_advance", "true", "needs language and region");
    for pane in &profile.skip_setup_items {
        let word = (1..=64).contains(&pane.len()) && pane.bytes().all(|b| b.is_ascii_alphanumeric());
        found.require(word, "apple.automated.profile.skip_setup_items", pane, "must be skip keys of letters and digits, such as AppleID");
    }
    let administrator = &automated.administrator;
    found.require(
        administrator.name.is_empty() || is_name(&administrator.name),
        "apple.automated.administrator.name",
        &administrator.name,
        "must be empty or up to 31 small letters, digits, _, - and ., a letter first",
    );
    let full = &administrator.full_name;
    found.require(named(full, 250), "apple.automated.administrator.full_name", full, "must have at most 250 characters");
    let both = automated.platform_sso_profile_url.is_empty() == automated.platform_sso_manifest_url.is_empty();
    found.require(both, "apple.automated.platform_sso_manifest_url", "", "must be given together with the profile's URL");
}

fn check_windows(config: &Config, found: &mut Findings) {
    let windows = &config.windows;
    let id = &windows.provider_id;
    let plain = (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    found.require(plain, "windows.provider_id", id, "must have 1 to 64 letters, digits, '-', '_' or '.'");
    found.range("windows.identity_days", windows.identity_days, 2, 3650);
    found.range("windows.renewal_days", windows.renewal_days, 1, u64::from(windows.identity_days.max(2)) - 1);
    found.range("windows.poll_minutes", windows.poll_minutes, 1, 44_640);
    found.range("windows.give_up_polls", windows.give_up_polls, 1, 1000);
    found.range("windows.commands_per_message", u64::try_from(windows.commands_per_message).unwrap_or(u64::MAX), 1, 1000);
    found.range("windows.drift_hours", windows.drift_hours, 1, 8760);
    for tenant in &windows.entra {
        let named = ![&tenant.tenant_id, &tenant.issuer, &tenant.audience].iter().any(|t| t.is_empty());
        found.require(named, "windows.entra", &tenant.tenant_id, "needs tenant_id, issuer and audience");
        found.require(outside(&tenant.jwks_uri), "windows.entra.jwks_uri", &tenant.jwks_uri, "must be an https URL");
    }
    let wns = &windows.wns;
    found.require(outside(&wns.token_url), "windows.wns.token_url", &wns.token_url, "must be an https URL");
    if !wns.client_id.is_empty() {
        found.require(!wns.package_family_name.is_empty(), "windows.wns.package_family_name", "", "is needed beside windows.wns.client_id");
        if wns.client_secret.expose().is_empty() {
            found.0.push(Wrong::new("windows.wns.client_secret", None, "is needed beside windows.wns.client_id".into()));
        }
    }
    for ending in &wns.channel_hosts {
        found.require(ending.len() > 1, "windows.wns.channel_hosts", ending, "must be endings of host names");
    }
}

/// `https`, or `http` on this machine (local stand-ins of outside services).
fn outside(url: &str) -> bool {
    reqwest::Url::parse(url).is_ok_and(|u| match u.scheme() {
        "https" => u.has_host(),
        "http" => u.host_str().is_some_and(|h| matches!(h, "localhost" | "127.0.0.1" | "[::1]")),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_right() {
        assert_eq!(check(&Config::default()), []);
    }

    #[test]
    fn each_rule_names_its_key() {
        let keys = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            check(&config).into_iter().map(|w| w.key).collect::<Vec<_>>()
        };
        assert_eq!(keys(|c| c.organisation.clear()), ["organisation"]);
        assert_eq!(keys(|c| c.single_port = true), ["single_port"]);
        assert_eq!(keys(|c| c.proxy_header = "x-real-ip".into()), ["proxy_header"]);
        assert_eq!(keys(|c| c.web.url = Some("http://x".into())), ["web.url"]);
        assert_eq!(keys(|c| c.web.url = Some("https://x/path".into())), ["web.url"]);
        assert_eq!(keys(|c| c.apple.apns.root_file = Some("/no/such/file.pem".into())), ["apple.apns.root_file"]);
        assert_eq!(keys(|c| c.tls.key_file = Some("k".into())), ["tls.key_file"]);
        assert_eq!(keys(|c| c.ca.issuing_days = c.ca.root_days + 1), ["ca.issuing_days"]);
        assert_eq!(keys(|c| c.ca.crl_refresh_hours = c.ca.crl_hours), ["ca.crl_refresh_hours"]);
        assert_eq!(keys(|c| c.windows.renewal_days = c.windows.identity_days), ["windows.renewal_days"]);
        assert_eq!(keys(|c| c.windows.provider_id = "a b".into()), ["windows.provider_id"]);
        assert_eq!(keys(|c| c.enrollment.ios.minimum_os_version = "ten".into()), ["enrollment.ios.minimum_os_version"]);
        assert_eq!(keys(|c| c.enrollment.serial_numbers = vec!["a b".into()]), ["enrollment.serial_numbers"]);
        assert_eq!(keys(|c| c.apple.automated.macos_version = "latest".into()), ["apple.automated.macos_version"]);
        let half = keys(|c| c.apple.automated.platform_sso_profile_url = "https://sso.example.org/p".into());
        assert_eq!(half, ["apple.automated.platform_sso_manifest_url"]);
        let account = keys(|c| (c.apple.account.domains, c.apple.account.ios) = (vec!["Example.org".into(), "a.b".into()], "both".into()));
        assert_eq!(account, ["apple.account.ios", "apple.account.domains"]);
        let sso = keys(|c| (c.apple.sso.macos_extension, c.apple.sso.apps) = ("org.example".into(), vec!["x".into()]));
        assert_eq!(sso, ["apple.sso.macos_extension", "apple.sso.apps"]);
        assert_eq!(keys(|c| c.apple.sso.token_days = 31), ["apple.sso.token_days"]);
        assert_eq!(keys(|c| c.apple.account.macos = "user".into()), ["apple.account.domains"]);
        assert_eq!(keys(|c| c.apple.account.apple_domain = "here".into()), ["apple.account.apple_domain"]);
        assert_eq!(keys(|c| c.database = Some("mysql://x".into())), ["database"]);
        assert_eq!(keys(|c| c.database = Some("host=db password=hunter2".into())), ["database"]);
        assert_eq!(keys(|c| c.windows.wns.client_id = "ms-app://s".into()).len(), 2);
    }
}
