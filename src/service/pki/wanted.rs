//! What an administrator wants a certificate to be like.

use crate::domain::Refusal;
use crate::domain::certificate::{Grant, KeyUsage, Purpose, San, Template, Unresolved, Variables, usage};
use crate::domain::device::Device;
use crate::domain::profile::Scope;
use crate::domain::user::User;

/// How many alternative names, and how many usages, a certificate has at most.
pub const MOST_NAMES: usize = 100;

/// What is wanted: names and usages, or a template in their place.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Instead of the names and usages.
    pub template: Option<Template>,
    /// Subject, RFC 4514 text with variables.
    pub subject: String,
    /// Alternative names: host names.
    pub dns: Vec<String>,
    /// Alternative names: mail addresses.
    pub email: Vec<String>,
    /// Alternative names: user principal names.
    pub upn: Vec<String>,
    /// Alternative names: URIs.
    pub uri: Vec<String>,
    /// Alternative names: addresses.
    pub ip: Vec<String>,
    /// Extended key usages, dotted; empty: client authentication.
    pub eku: Vec<String>,
    /// Life in days.
    pub days: u32,
    /// Puts the user's SID into the security extension.
    pub sid: bool,
    /// Whom it is for; fills variables.
    pub user: Option<User>,
    /// What it is for; fills variables.
    pub device: Option<Device>,
}

impl Wanted {
    /// The permission for it.
    ///
    /// # Errors
    /// [`Refusal::CertificateSidMissing`]; [`Refusal::TemplateInvalid`] for too many names or usages; by name what [`Template::resolve`] says.
    pub fn grant(self) -> Result<Grant, Unresolved> {
        if let Some(user) = self.user.as_ref().filter(|user| self.sid && user.security_identifier.is_none()) {
            return Err(Unresolved { refusal: Refusal::CertificateSidMissing, subject: user.upn.clone() });
        }
        let (user, device) = (self.user.clone(), self.device.clone());
        let template = self.template();
        for (what, count) in [("alternative names", template.sans.len()), ("extended key usages", template.extended_key_usages.len())] {
            if count > MOST_NAMES {
                let subject = format!("{what}: {count}, not at most {MOST_NAMES}");
                return Err(Unresolved { refusal: Refusal::TemplateInvalid, subject });
            }
        }
        let mut grant = template.resolve(&Variables::of(user.as_ref(), device.as_ref()))?;
        grant.purpose = Purpose::Manual;
        grant.user_id = user.map(|user| user.id);
        grant.device_id = device.map(|device| device.id);
        Ok(grant)
    }

    fn template(self) -> Template {
        if let Some(template) = self.template {
            return template;
        }
        let names = [
            self.dns.into_iter().map(San::Dns).collect::<Vec<_>>(),
            self.email.into_iter().map(San::Email).collect(),
            self.upn.into_iter().map(San::Upn).collect(),
            self.uri.into_iter().map(San::Uri).collect(),
            self.ip.into_iter().map(San::Ip).collect(),
        ];
        Template {
            scope: if self.user.is_some() { Scope::User } else { Scope::Device },
            subject: self.subject,
            sans: names.concat(),
            extended_key_usages: if self.eku.is_empty() { vec![usage::CLIENT_AUTH.to_owned()] } else { self.eku },
            key_usages: vec![KeyUsage::DigitalSignature, KeyUsage::KeyEncipherment],
            days: self.days,
            sid_extension: self.sid,
            ..Template::default()
        }
    }
}
