//! What a profile says of a certificate by SCEP, and how Windows reads it.

use openssl::hash::{MessageDigest, hash};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::Context;
use crate::catalogue::Scope;
use crate::clock::{HOUR, MINUTE};
use crate::domain::certificate::{Grant, KeyAlgorithm, KeyUsage, Rdn, San, Template, Variables};
use crate::domain::dm_session::Op;
use crate::domain::profile::fields;
use crate::service::Result;
use crate::wire::syncml::Format;

/// Fields of the payload.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Body {
    /// Names, usages and life of the certificate.
    pub(super) template: Template,
    /// RSA bits: 2048 or 4096 (the device knows no 3072).
    key_length: u32,
    /// Where the key is kept.
    key_protection: KeyProtection,
    /// Name of the Windows Hello container, for keys that are kept there.
    container_name: String,
    /// Which certificate of ours the device looks for before it asks.
    ca_thumbprint: Anchor,
    /// How much of the life is left when it is renewed, in percent.
    pub(super) renew_percent: u32,
    /// How often the device asks again while the request is pending, 0 to 30; default: 3, and 30 when an administrator has to agree.
    retry_count: Option<u32>,
    /// Minutes between these; default: 5, and 180 when an administrator has to agree.
    retry_delay: Option<u32>,
    /// The request waits for an administrator.
    pub(super) needs_approval: bool,
}

impl Default for Body {
    fn default() -> Self {
        Self {
            template: Template::default(),
            key_length: 2048,
            key_protection: KeyProtection::TpmElseSoftware,
            container_name: String::new(),
            ca_thumbprint: Anchor::Issuing,
            renew_percent: 20,
            retry_count: None,
            retry_delay: None,
            needs_approval: false,
        }
    }
}

/// `KeyProtection`.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum KeyProtection {
    /// In the TPM, or not at all.
    Tpm,
    /// In the TPM when there is one.
    TpmElseSoftware,
    /// In software.
    Software,
    /// In the user's Windows Hello container.
    Hello,
}

impl KeyProtection {
    fn value(self) -> &'static str {
        match self {
            Self::Tpm => "1",
            Self::TpmElseSoftware => "2",
            Self::Software => "3",
            Self::Hello => "4",
        }
    }
}

/// Whose thumbprint is `CAThumbprint`.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Anchor {
    Issuing,
    Root,
}

/// A name as Windows reads it (CertStrToName): values with special characters are quoted, quotes in them doubled.
fn windows_name(name: &[Rdn]) -> String {
    let value = |text: &str| {
        let special = text.contains([',', '=', '+', ';', '"', '\n', '<', '>', '#']) || text.starts_with(' ') || text.ends_with(' ');
        if special { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
    };
    let rdn = |rdn: &Rdn| rdn.0.iter().map(|a| format!("{}={}", a.kind, value(&a.value))).collect::<Vec<_>>().join("+");
    name.iter().map(rdn).collect::<Vec<_>>().join(",")
}

/// `type+value` in the numbers of `CERT_ALT_NAME`; `None` for what has none, or would look like several names.
fn alternative(san: &San) -> Option<String> {
    let number = match san {
        San::Email(_) => 2,
        San::Dns(_) => 3,
        San::Uri(_) => 7,
        San::Upn(_) => 11,
        San::Ip(_) => return None,
    };
    (!san.text().contains(';')).then(|| format!("{number}+{}", san.text()))
}

impl Body {
    /// Reads the fields of a payload.
    ///
    /// # Errors
    /// What is wrong, for the person who wrote the profile.
    pub(super) fn read(body: &Map<String, Value>) -> std::result::Result<Self, String> {
        let body: Self = fields(body)?;
        body.check()?;
        Ok(body)
    }

    fn check(&self) -> std::result::Result<(), String> {
        let algorithm = match self.key_length {
            2048 => KeyAlgorithm::Rsa2048,
            4096 => KeyAlgorithm::Rsa4096,
            _ => return Err("key-length: 2048 or 4096".into()),
        };
        if self.template.key_rules.check(algorithm).is_err() {
            return Err("template.key_rules: must accept the RSA key that the device makes (key-length)".into());
        }
        if !(1..=90).contains(&self.renew_percent) {
            return Err("renew-percent: 1 to 90".into());
        }
        if self.retry_count() > 30 {
            return Err("retry-count: 0 to 30".into());
        }
        if !(1..=1440).contains(&self.retry_delay()) {
            return Err("retry-delay: 1 to 1440 minutes".into());
        }
        if self.template.sans.iter().any(|san| alternative(san).is_none()) {
            return Err("template.sans: devices take email, dns, uri and upn, without semicolons".into());
        }
        if self.template.key_usages.is_empty() {
            return Err("template.key_usages: at least one".into());
        }
        if self.template.extended_key_usages.is_empty() {
            return Err("template.extended_key_usages: at least one".into());
        }
        let hello = self.key_protection == KeyProtection::Hello;
        if hello && (self.template.scope != Scope::User || self.key_length != 2048) {
            return Err("key-protection: hello is for certificates of users (template.scope = \"user\") with 2048 bits".into());
        }
        if hello == self.container_name.is_empty() {
            return Err("container-name: needed with key-protection hello, and only then".into());
        }
        // Resolved with made-up values: what is wrong with the template itself shows.
        match self.template.resolve(&Variables::samples()) {
            Ok(_) => Ok(()),
            Err(unresolved) => Err(format!("template: {unresolved}")),
        }
    }

    /// A device that gives up forgets the key that it asked for: where people decide it asks for a long weekend.
    fn retry_count(&self) -> u32 {
        self.retry_count.unwrap_or(if self.needs_approval { 30 } else { 3 })
    }

    fn retry_delay(&self) -> u32 {
        self.retry_delay.unwrap_or(if self.needs_approval { 180 } else { 5 })
    }

    /// How long a request may go on before it counts as lost, in milliseconds: as long as the device asks again, and a day at least.
    pub(super) fn patience(&self) -> i64 {
        (i64::from(self.retry_count()) * i64::from(self.retry_delay()) * MINUTE + HOUR).max(24 * HOUR)
    }

    /// The operations that install a request at `base` and start it (windows.md section 4.4): one Atomic, `Enroll` last.
    ///
    /// # Errors
    /// In the inner result, what of the grant Windows cannot be told; in the outer only our own.
    pub(super) fn install(
        &self,
        context: &Context<'_>,
        base: &str,
        grant: &Grant,
        challenge: &str,
    ) -> Result<std::result::Result<Vec<Op>, String>> {
        let Some(sans) = grant.sans.iter().map(alternative).collect::<Option<Vec<String>>>() else {
            return Ok(Err("an alternative name has a semicolon in it".into()));
        };
        let leaf = |name: &str, format, value: &str| Op::add(format!("{base}/Install/{name}"), format, value);
        let usage = |usage: &KeyUsage| match usage {
            KeyUsage::DigitalSignature => 0x80,
            KeyUsage::KeyEncipherment => 0x20,
        };
        let usage: u32 = self.template.key_usages.iter().map(usage).fold(0, |sum, bit| sum | bit);
        let anchor = match self.ca_thumbprint {
            Anchor::Issuing => &context.authority.certificate,
            Anchor::Root => match context.authority.chain.last() {
                Some(root) => root,
                None => return Ok(Err("ca-thumbprint: there is no root".into())),
            },
        };
        let thumbprint = hex::encode_upper(hash(MessageDigest::sha1(), anchor)?);
        let server = format!("{}/scep/{}", context.app.config.web_url(), context.authority.name);
        let mut ops = vec![
            Op::add_node(base),
            leaf("ServerURL", Format::Chr, &server),
            leaf("Challenge", Format::Chr, challenge),
            leaf("EKUMapping", Format::Chr, &self.template.extended_key_usages.join("+")),
            leaf("KeyUsage", Format::Int, &usage.to_string()),
            leaf("SubjectName", Format::Chr, &windows_name(&grant.subject)),
            leaf("KeyProtection", Format::Int, self.key_protection.value()),
            leaf("KeyLength", Format::Int, &self.key_length.to_string()),
            leaf("HashAlgorithm", Format::Chr, "SHA-2"),
            leaf("CAThumbprint", Format::Chr, &thumbprint),
            leaf("RetryCount", Format::Int, &self.retry_count().to_string()),
            leaf("RetryDelay", Format::Int, &self.retry_delay().to_string()),
        ];
        if !self.container_name.is_empty() {
            ops.push(leaf("ContainerName", Format::Chr, &self.container_name));
        }
        if !sans.is_empty() {
            ops.push(leaf("SubjectAlternativeNames", Format::Chr, &sans.join(";")));
        }
        ops.push(Op::exec(format!("{base}/Install/Enroll")));
        Ok(Ok(ops))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::certificate::AttributeType;

    #[test]
    fn names_are_quoted_as_windows_wants_them() {
        let name = [
            Rdn::new(AttributeType::CommonName, "Test User (Company, \"LLC\")"),
            Rdn::new(AttributeType::OrganizationalUnit, "Sales"),
        ];
        assert_eq!(windows_name(&name), "CN=\"Test User (Company, \"\"LLC\"\")\",OU=Sales");
    }

    #[test]
    fn a_name_with_a_semicolon_does_not_become_two() {
        assert_eq!(alternative(&San::Upn("ana@example.org".into())).as_deref(), Some("11+ana@example.org"));
        assert_eq!(alternative(&San::Upn("ana@example.org;11+boss@example.org".into())), None);
    }

    #[test]
    fn what_devices_would_not_take_is_found_in_the_profile() {
        let judge = |text: &str| {
            let table: toml::Table = toml::from_str(text).unwrap();
            let Value::Object(body) = serde_json::to_value(table).unwrap() else { panic!("no table") };
            Body::read(&body).map(|_| ())
        };
        let user = "[template]\nscope = \"user\"\nsubject = \"CN=x\"";
        assert_eq!(judge(&format!("key-protection = \"hello\"\ncontainer-name = \"c\"\nca-thumbprint = \"root\"\n{user}")), Ok(()));
        for (wrong, word) in [
            ("key-length = 3072\n[template]\nsubject = \"CN=x\"".to_owned(), "key-length"),
            ("retry-delay = 0\n[template]\nsubject = \"CN=x\"".to_owned(), "retry-delay"),
            (format!("key-protection = \"hello\"\n{user}"), "container-name"),
            (format!("container-name = \"c\"\n{user}"), "container-name"),
            ("key-protection = \"hello\"\ncontainer-name = \"c\"\n[template]\nsubject = \"CN=x\"".to_owned(), "key-protection"),
            ("[template]\nsubject = \"CN=x\"\nextended_key_usages = []".to_owned(), "extended_key_usages"),
        ] {
            assert!(judge(&wrong).is_err_and(|why| why.contains(word)), "{wrong}");
        }
    }
}
