//! What a person types or opens to enrol a PC.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{DISCOVERY_PATH, ENROLLMENT_PATH, POLICY_PATH};
use crate::app::App;
use crate::clock::Time;
use crate::config::Config;
use crate::domain::Refusal;
use crate::domain::device::Platform;
use crate::domain::tap::Policy;
use crate::domain::user::User;
use crate::secret::Secret;
use crate::service::directory::By;
use crate::service::identity::tap::{self, NewTap};
use crate::service::identity::token;
use crate::service::{Error, Result};
use crate::store::users;

const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'@');

/// Everything that enrolling a PC takes.
#[derive(Debug)]
pub struct Invitation {
    /// For whom.
    pub user: User,
    /// A fresh pass.
    pub tap: NewTap,
    /// What to type where Windows asks for a server.
    pub discovery_url: String,
    /// Opens the enrolment on a PC.
    pub deep_link: String,
    /// The page that explains it.
    pub page_url: String,
    /// Settings of a provisioning package (Runtime settings, Workplace, Enrollments): name and value. `Secret` is the pass.
    pub package: Vec<(&'static str, String)>,
}

/// What a program needs that enrols a PC.
#[derive(Debug)]
pub struct TokenInvitation {
    /// For whom.
    pub user: User,
    /// The token: `RegisterDeviceWithManagement` takes it as the access token.
    pub token: Secret,
    /// Until when it is good.
    pub expires_at: Time,
    /// Where to enrol.
    pub discovery_url: String,
}

/// Makes a token that enrols one PC for a user.
///
/// # Errors
/// [`Error::NotFound`] without such a user; [`Refusal::AccountDisabled`].
pub async fn invite_with_token(app: &App, upn: &str, lifetime: i64, by: impl Into<By>) -> Result<TokenInvitation> {
    let user = find(app, upn).await?;
    let expires_at = app.now().plus(lifetime);
    let token = token::create_link(app, &user, Platform::Windows, lifetime, &by.into()).await?;
    Ok(TokenInvitation { user, token, expires_at, discovery_url: discovery_url(&app.config) })
}

async fn find(app: &App, upn: &str) -> Result<User> {
    let name = upn.to_owned();
    let user = app.store.read(move |c| users::find_user_by_upn(c, &name)).await?.ok_or(Error::NotFound("user"))?;
    if user.enabled { Ok(user) } else { Err(Refusal::AccountDisabled.into()) }
}

fn discovery_url(config: &Config) -> String {
    format!("{}{DISCOVERY_PATH}", config.web_url())
}

/// Invites a user to enrol a PC: makes a pass and says where to go.
///
/// # Errors
/// [`Error::NotFound`] without such a user; [`Refusal::AccountDisabled`]; what [`tap::create`] says.
pub async fn invite(app: &App, upn: &str, policy: Policy, actor: &str, origin: &str) -> Result<Invitation> {
    let user = find(app, upn).await?;
    let tap = tap::create(app, &user.id, policy, None, actor, origin).await?;
    let discovery_url = discovery_url(&app.config);
    let device = app.config.device_url();
    let package = vec![
        ("UPN", user.upn.clone()),
        ("AuthPolicy", "OnPremise".to_owned()),
        ("DiscoveryServiceFullUrl", discovery_url.clone()),
        ("PolicyServiceFullUrl", format!("{device}{POLICY_PATH}")),
        ("EnrollmentServiceFullUrl", format!("{device}{ENROLLMENT_PATH}")),
        ("Secret", tap.show().to_owned()),
    ];
    let deep_link = deep_link(&app.config, &user.upn);
    let page_url = format!("{}/enroll/windows?username={}", app.config.web_url(), utf8_percent_encode(&user.upn, QUERY));
    Ok(Invitation { user, tap, discovery_url, deep_link, page_url, package })
}

/// The link that opens Windows's enrolment with our server filled in.
#[must_use]
pub fn deep_link(config: &Config, username: &str) -> String {
    let server = discovery_url(config);
    let mut link = format!("ms-device-enrollment:?mode=mdm&servername={}", utf8_percent_encode(&server, QUERY));
    if !username.is_empty() {
        link.push_str(&format!("&username={}", utf8_percent_encode(username, QUERY)));
    }
    link
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_carry_server_and_user_encoded() {
        let config = Config::default();
        let link = deep_link(&config, "a&b@example.org");
        assert!(link.starts_with("ms-device-enrollment:?mode=mdm&servername=https%3A%2F%2F"), "{link}");
        assert!(link.ends_with("&username=a%26b@example.org"), "{link}");
        assert!(!deep_link(&config, "").contains("username"));
    }
}
