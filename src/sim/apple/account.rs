//! How a simulated device enrols by account: its user types a Managed Apple Account into the settings; the device asks the account's domain
//! where to enrol, describes itself there, shows its user the page that it is sent to, and comes back with the token that it is given.

use openssl::pkey::{PKey, Private};
use openssl::x509::X509;
use reqwest::Url;

use super::machine::hidden;
use super::profiles::Refused;
use super::{Device, Error, Machine, Settings};
use crate::catalogue::payload::System;
use crate::sim::http::{Client, Response};
use crate::wire::Malformed;
use crate::wire::apple::PROFILE;
use crate::wire::apple::enroll::{Discovery, Mode, OUTCOME, sign_in_page};
use crate::wire::cms::{Digest, Signer, sign_with_chain};

/// Redirects that a device follows.
const REDIRECTS: usize = 5;

/// A device on its way.
#[derive(Debug)]
pub struct Journey<'a> {
    /// What it trusts.
    pub roots: &'a [X509],
    /// What it is.
    pub machine: Machine,
    /// What it was made with.
    pub factory: (&'a X509, &'a PKey<Private>),
    /// What its user typed.
    pub account: String,
}

/// What a device is answered that asks for its profile.
#[derive(Debug)]
pub enum Answer {
    /// The profile.
    Profile(Vec<u8>),
    /// Its user has to sign in there.
    SignIn(Url),
}

fn url(text: &str, at: &'static str) -> Result<Url, Malformed> {
    Url::parse(text).ok().filter(|url| url.scheme() == "https").ok_or_else(|| Malformed::new("no https URL", at))
}

impl Journey<'_> {
    async fn get(&self, at: &Url) -> Result<Response, Error> {
        Ok(Client::new(self.roots, None)?.send("GET", at, &[], &[]).await?)
    }

    /// Asks the account's domain where to enrol. `site` stands for that domain: what the DNS and its web server lead to.
    ///
    /// # Errors
    /// [`Error::Http`] when it is not here; [`Error::Malformed`] for a document that Apple does not describe.
    pub async fn discover(&self, site: &Url) -> Result<(Mode, Url), Error> {
        let family = match self.machine.system {
            System::Mac => "Mac",
            System::Ios if self.machine.product.starts_with("iPad") => "iPad",
            System::Ios => "iPhone",
        };
        let mut at = site.join("/.well-known/com.apple.remotemanagement").map_err(std::io::Error::other)?;
        at.query_pairs_mut().append_pair("user-identifier", &self.account).append_pair("model-family", family);
        let mut answer = self.get(&at).await?;
        for _ in 0..REDIRECTS {
            let Some(location) = answer.header("location").filter(|_| matches!(answer.status, 301 | 302 | 307 | 308)) else { break };
            // As it is written there: the question is not put in again.
            at = at.join(location).map_err(std::io::Error::other)?;
            answer = self.get(&at).await?;
        }
        let wrong = |what| Malformed::new(what, "com.apple.remotemanagement");
        if answer.status != 200 {
            return Err(Error::Http(answer.status, answer.said()));
        }
        if answer.header("content-type") != Some("application/json") {
            return Err(wrong("not application/json").into());
        }
        let document: Discovery = serde_json::from_slice(&answer.body).map_err(|_| wrong("not the document"))?;
        let [server] = document.servers.as_slice() else { return Err(wrong("not one server").into()) };
        let mode = [Mode::User, Mode::Device].into_iter().find(|mode| mode.version() == server.version);
        Ok((mode.ok_or_else(|| wrong("another version"))?, url(&server.base_url, "BaseURL")?))
    }

    /// What the device says of itself, signed.
    ///
    /// # Errors
    /// Never for the identities of devices.
    pub fn describe(&self, mode: Mode) -> Result<Vec<u8>, Error> {
        let info = self.machine.info();
        let said = if mode == Mode::User { hidden(info) } else { info };
        let (certificate, key) = (self.factory.0.to_der()?, self.factory.1);
        Ok(sign_with_chain(&said.encode()?, &Signer { certificate: &certificate, key, digest: Digest::Sha1 }, &[])?)
    }

    /// Asks for the profile, with the token of a sign-in or without.
    ///
    /// # Errors
    /// [`Error::Http`] for a no; [`Error::Malformed`] for an answer with which a device gives up.
    pub async fn ask(&self, at: &Url, message: &[u8], bearer: Option<&str>) -> Result<Answer, Error> {
        let bearer = bearer.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("Content-Type", "application/pkcs7-signature")];
        headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
        let answer = Client::new(self.roots, None)?.send("POST", at, &headers, message).await?;
        match answer.status {
            200 if answer.header("content-type") == Some(PROFILE) => Ok(Answer::Profile(answer.body)),
            200 => Err(Malformed::new("no profile", "BaseURL").into()),
            401 => {
                let challenge = answer.header("www-authenticate").ok_or_else(|| Malformed::new("is missing", "WWW-Authenticate"))?;
                Ok(Answer::SignIn(url(sign_in_page(challenge)?, "WWW-Authenticate")?))
            }
            status => Err(Error::Http(status, answer.said())),
        }
    }

    /// The user signs in on the page: the token.
    ///
    /// # Errors
    /// [`Error::Http`] when that fails; [`Error::Malformed`] for a page without a form, and for an answer that leads elsewhere.
    pub async fn sign_in(&self, page: &Url, user: &str, pass: &str) -> Result<String, Error> {
        let mut shown = page.clone();
        shown.query_pairs_mut().append_pair("user-identifier", &self.account);
        let answer = self.get(&shown).await?;
        if answer.status != 200 {
            return Err(Error::Http(answer.status, answer.said()));
        }
        let text = String::from_utf8_lossy(&answer.body);
        let action = text.split("action=\"").nth(1).and_then(|rest| rest.split('"').next());
        let action = action.ok_or_else(|| Malformed::new("no form", "sign-in"))?;
        let target = page.join(action).map_err(std::io::Error::other)?;
        let mut form = target.clone();
        form.query_pairs_mut().append_pair("user_name", user).append_pair("pass", pass);
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        let body = form.query().unwrap_or_default().as_bytes();
        let answer = Client::new(self.roots, None)?.send("POST", &target, &headers, body).await?;
        if answer.status != 308 {
            return Err(Error::Http(answer.status, answer.said()));
        }
        let token = answer.header("location").and_then(|location| location.strip_prefix(OUTCOME)).filter(|token| !token.is_empty());
        Ok(token.ok_or_else(|| Malformed::new("no token", "Location"))?.to_owned())
    }
}

impl Device {
    /// Enrols by account as the user of `journey` does, who signs in with user name and pass. `site` stands for the domain of the account.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn enroll_by_account(
        journey: Journey<'_>,
        site: &Url,
        (user, pass): (&str, &str),
        key: &PKey<Private>,
    ) -> Result<Self, Error> {
        let (mode, at) = journey.discover(site).await?;
        let message = journey.describe(mode)?;
        let Answer::SignIn(page) = journey.ask(&at, &message, None).await? else {
            return Err(Refused::profile("a profile for nobody").into());
        };
        let token = journey.sign_in(&page, user, pass).await?;
        match journey.ask(&at, &message, Some(&token)).await? {
            Answer::Profile(profile) => {
                let signed_in = SignedIn { mode, bearer: token };
                Self::enroll_with(journey.roots, &profile, journey.machine, Settings::default(), key, Some(signed_in)).await
            }
            Answer::SignIn(_) => Err(Refused::profile("the sign-in did not help").into()),
        }
    }
}

/// How the user of a device signed in.
pub(super) struct SignedIn {
    /// What the device was told to become.
    pub(super) mode: Mode,
    /// The token.
    pub(super) bearer: String,
}
