//! What a certificate is to be like, on the command line: for `muster ca issue` and `muster ca scep challenge`.

use serde::{Deserialize, Serialize};

use super::ca::read_file;
use super::find;
use crate::app::App;
use crate::domain::Refusal;
use crate::domain::certificate::{Grant, Template, Unresolved, is_of_user};
use crate::domain::device::Device;
use crate::domain::user::User;
use crate::service::pki::wanted;
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
        let (of_user, of_device) = (user.is_some(), device.is_some());
        let wanted = wanted::Wanted {
            template: self.template,
            subject: self.subject,
            dns: self.dns,
            email: self.email,
            upn: self.upn,
            uri: self.uri,
            ip: self.ip,
            eku: self.eku,
            days: self.days,
            sid: self.sid,
            user,
            device,
        };
        wanted.grant().map_err(|why| whose(why, of_user, of_device))
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
