//! What a certificate is to be like, on the command line: for `muster ca issue` and `muster ca scep challenge`.

use serde::{Deserialize, Serialize};

use super::ca::read_file;
use super::find;
use crate::app::App;
use crate::domain::Refusal;
use crate::domain::certificate::{Grant, KeyUsage, Purpose, San, Template, Unresolved, Variables, is_of_user, usage};
use crate::domain::device::Device;
use crate::domain::profile::Scope;
use crate::domain::user::User;
use crate::service::{Error, Result};

/// What the certificate is to be like.
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(super) struct Wanted {
    /// File with a template as payloads have it (TOML), instead of the names and usages below
    #[arg(long, value_name = "FILE", value_parser = read_template, conflicts_with_all = ["subject", "dns", "email", "upn", "uri", "ip", "eku", "days", "sid"])]
    template: Option<Template>,
    /// Subject, such as CN={{UserPrincipalName}},O=Example
    #[arg(long, default_value = "")]
    subject: String,
    /// Alternative name: host name
    #[arg(long)]
    dns: Vec<String>,
    /// Alternative name: mail address
    #[arg(long)]
    email: Vec<String>,
    /// Alternative name: user principal name
    #[arg(long)]
    upn: Vec<String>,
    /// Alternative name: URI
    #[arg(long)]
    uri: Vec<String>,
    /// Alternative name: address
    #[arg(long)]
    ip: Vec<String>,
    /// Extended key usage, dotted; default: client authentication
    #[arg(long, value_name = "OID")]
    eku: Vec<String>,
    /// Life in days
    #[arg(long, default_value_t = 365)]
    days: u32,
    /// Fills variables of a user (name or id), whom the certificate is then for
    #[arg(long, value_name = "UPN|ID")]
    user: Option<String>,
    /// Fills variables of a device (id, name or serial number), which the certificate is then for
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Puts the user's SID into the security extension
    #[arg(long, requires = "user")]
    sid: bool,
    /// Who issues; default: the authority that issues to devices
    #[arg(long)]
    pub(super) authority: Option<String>,
}

fn read_template(path: &str) -> std::result::Result<Template, String> {
    toml::from_str(&read_file(path)?).map_err(|error| error.to_string())
}

impl Wanted {
    /// The permission for it.
    ///
    /// # Errors
    /// Who is not found; [`Refusal::CertificateSidMissing`]; by name what [`Template::resolve`] says.
    pub(super) async fn grant(self, app: &App) -> Result<Grant> {
        let user = user_of(app, self.user.as_deref()).await?;
        let device = device_of(app, self.device.as_deref()).await?;
        if self.sid && user.as_ref().is_some_and(|user| user.security_identifier.is_none()) {
            return Err(Refusal::CertificateSidMissing.into());
        }
        let template = self.template(user.is_some());
        let resolved = template.resolve(&Variables::of(user.as_ref(), device.as_ref()));
        let mut grant = resolved.map_err(|why| whose(why, user.is_some(), device.is_some()))?;
        grant.purpose = Purpose::Manual;
        grant.user_id = user.map(|user| user.id);
        grant.device_id = device.map(|device| device.id);
        Ok(grant)
    }

    fn template(self, of_user: bool) -> Template {
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
            scope: if of_user { Scope::User } else { Scope::Device },
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

/// Says how a variable gets its value that nobody was named for.
fn whose(why: Unresolved, user: bool, device: bool) -> Error {
    let of_user = [Refusal::TemplateVariableOfUser, Refusal::TemplateVariableMissing].contains(&why.refusal) && is_of_user(&why.subject);
    match why.refusal {
        refusal if of_user && !user => Error::Invalid(refusal, format!("{}: name the user with --user", why.subject)),
        refusal @ Refusal::TemplateVariableMissing if !of_user && !device => {
            Error::Invalid(refusal, format!("{}: name the device with --device", why.subject))
        }
        _ => why.into(),
    }
}

pub(super) async fn device_of(app: &App, text: Option<&str>) -> Result<Option<Device>> {
    let Some(text) = text else { return Ok(None) };
    find::device(app, text).await.map(Some)
}

pub(super) async fn user_of(app: &App, text: Option<&str>) -> Result<Option<User>> {
    let Some(text) = text else { return Ok(None) };
    find::user(app, text).await.map(Some)
}
