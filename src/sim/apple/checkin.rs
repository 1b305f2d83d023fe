//! Check-in and transport of a simulated device.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::rand::rand_bytes;
use reqwest::Url;

use super::{Device, Error};
use crate::catalogue::payload::System;
use crate::sim::http::Response;
use crate::wire::apple::checkin::{Authenticate, CheckIn, CheckOut, GetBootstrapToken, Message, SetBootstrapToken, TokenUpdate};
use crate::wire::apple::enroll::BOOTSTRAP_TOKEN;
use crate::wire::apple::{CHECKIN, COMMAND, checkin};
use crate::wire::cms::{self, Digest};
use crate::wire::plist::Data;
use crate::wire::{Malformed, asn1};

/// The code with which a server tells a device to go.
const UNRECOGNIZED: &str = "com.apple.unrecognized.device";

impl Device {
    /// Makes the device known with its identity: `Authenticate`, then `TokenUpdate`.
    pub(super) async fn introduce(&mut self) -> Result<(), Error> {
        let mac = self.machine.system == System::Mac;
        let hidden = self.enrollment_id.is_some();
        let machine = self.machine.clone();
        let authenticate = Authenticate {
            topic: self.enrollment.mdm.topic.clone(),
            os_version: Some(machine.os_version),
            build_version: Some(machine.build),
            product_name: Some(machine.product.clone()),
            serial_number: (!hidden).then_some(machine.serial),
            imei: None,
            meid: None,
            device_name: mac.then_some(machine.name),
            model: mac.then_some(machine.product),
            model_name: mac.then_some(machine.model_name),
        };
        self.check_in(Message::Authenticate(authenticate)).await?;
        self.update_token().await
    }

    /// Tells where to push to.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn update_token(&mut self) -> Result<(), Error> {
        let phone = self.machine.system == System::Ios && self.enrollment_id.is_none() && self.user.is_none();
        let awaits = match &self.user {
            Some(user) => self.settings.waiting_users.contains(user),
            None => self.machine.awaiting,
        };
        let update = TokenUpdate {
            topic: self.enrollment.mdm.topic.clone(),
            token: Data(self.push_token.clone()),
            push_magic: self.push_magic.clone(),
            unlock_token: phone.then(|| Data(self.unlock_token.clone())),
            awaiting_configuration: awaits.then_some(true),
        };
        self.check_in(Message::TokenUpdate(update)).await.map(drop)
    }

    /// The push service gives the device another address.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn change_token(&mut self) -> Result<(), Error> {
        rand_bytes(&mut self.push_token)?;
        self.update_token().await
    }

    /// Address and text of a push to the device.
    #[must_use]
    pub fn push_address(&self) -> (&[u8], &str) {
        (&self.push_token, &self.push_magic)
    }

    /// A Mac gives its bootstrap token to a server that keeps them.
    pub(super) async fn hand_over_bootstrap_token(&mut self) -> Result<(), Error> {
        let kept = self.enrollment.mdm.server_capabilities.iter().any(|capability| capability == BOOTSTRAP_TOKEN);
        if !kept || self.machine.system != System::Mac {
            return Ok(());
        }
        let mut token = vec![0u8; 32];
        rand_bytes(&mut token)?;
        let set = SetBootstrapToken { bootstrap_token: Some(Data(token.clone())), awaiting_configuration: None };
        self.check_in(Message::SetBootstrapToken(set)).await?;
        self.bootstrap_token = Some(token);
        Ok(())
    }

    /// Asks for the bootstrap token; whether the server gave back the one that it was given.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn recalls_bootstrap_token(&mut self) -> Result<bool, Error> {
        let answer = self.check_in(Message::GetBootstrapToken(GetBootstrapToken::default())).await?;
        let given = match answer {
            Some(checkin::Answer::BootstrapToken(token)) if !token.is_empty() => Some(token.0),
            _ => None,
        };
        Ok(given.is_some() && given == self.bootstrap_token)
    }

    /// The user removes the enrolment profile.
    ///
    /// # Errors
    /// [`Error`]; the device has left nevertheless.
    pub async fn leave(&mut self) -> Result<(), Error> {
        let farewell = Message::CheckOut(CheckOut { topic: self.enrollment.mdm.topic.clone() });
        let said = if self.enrollment.mdm.check_out_when_removed { self.check_in(farewell).await.map(drop) } else { Ok(()) };
        self.forget();
        said
    }

    /// Drops everything that came from the server.
    pub(super) fn forget(&mut self) {
        self.left = true;
        self.profiles.installed.clear();
        self.declarations = super::declarations::Declarations::default();
        self.apps.leave();
        self.unsent = None;
        self.successor = None;
        (self.user, self.others) = (None, std::collections::BTreeMap::new());
    }

    /// Sends a check-in message and reads the answer.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn check_in(&mut self, message: Message) -> Result<Option<checkin::Answer>, Error> {
        let body = self.check_in_raw(message.clone()).await?;
        Ok(checkin::Answer::decode(&message, &body)?)
    }

    /// The same for answers that are no property lists.
    pub(super) async fn check_in_raw(&mut self, message: Message) -> Result<Vec<u8>, Error> {
        let body = CheckIn { who: self.who(), message }.encode()?;
        let mdm = &self.enrollment.mdm;
        let url = mdm.check_in_url.as_ref().unwrap_or(&mdm.server_url).clone();
        self.send("PUT", &url, CHECKIN, &body).await
    }

    /// Sends a message of the command channel.
    pub(super) async fn command_channel(&mut self, body: &[u8]) -> Result<Vec<u8>, Error> {
        let url = self.enrollment.mdm.server_url.clone();
        let answer = self.send("PUT", &url, COMMAND, body).await?;
        if let Some(heard) = &mut self.heard {
            heard.push(answer.clone());
        }
        Ok(answer)
    }

    /// Fetches something from the server, as itself.
    pub(super) async fn get(&mut self, url: &str) -> Result<Response, Error> {
        self.exchange("GET", url, "", &[]).await
    }

    async fn send(&mut self, method: &str, url: &str, media: &'static str, body: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(self.exchange(method, url, media, body).await?.body)
    }

    async fn exchange(&mut self, method: &str, url: &str, media: &'static str, body: &[u8]) -> Result<Response, Error> {
        if let Some(said) = self.said.as_mut().filter(|_| !body.is_empty()) {
            said.push((media, body.to_vec()));
        }
        let url = Url::parse(url).map_err(|_| Malformed::new("not a URL", "profile"))?;
        let signature = if self.enrollment.mdm.sign_message { Some(self.sign(body)?) } else { None };
        let mut headers = vec![("User-Agent", "MDM-OSX/1.0 mdmclient/1776")];
        headers.extend((!media.is_empty()).then_some(("Content-Type", media)));
        headers.extend(signature.as_deref().map(|signature| ("Mdm-Signature", signature)));
        let bearer = self.bearer.as_ref().map(|token| format!("Bearer {token}"));
        headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
        let mut urls = vec![url.clone()];
        if !self.nodes.is_empty() {
            urls = self.nodes.iter().filter_map(|node| at_node(&url, node)).collect();
            let turns = self.calls.checked_rem(urls.len()).unwrap_or(0);
            urls.rotate_left(turns);
            self.calls += 1;
        }
        let mut failed = Error::Dropped;
        for url in urls {
            match self.enrollment.client.send(method, &url, &headers, body).await {
                Ok(response) if response.status == 200 => return Ok(response),
                Ok(response) => {
                    let code = serde_json::from_slice::<serde_json::Value>(&response.body).ok();
                    let told = code.is_some_and(|body| body.get("code").and_then(|code| code.as_str()) == Some(UNRECOGNIZED));
                    // Any 401 ends management, whoever said it.
                    if response.status == 401 || (response.status == 403 && told) {
                        self.forget();
                        return Err(Error::Unenrolled);
                    }
                    return Err(Error::Http(response.status, response.said()));
                }
                Err(error) => failed = error.into(),
            }
        }
        Err(failed)
    }

    /// The `Mdm-Signature` header of a message.
    ///
    /// # Errors
    /// When OpenSSL cannot sign.
    pub fn sign(&self, body: &[u8]) -> Result<String, Error> {
        let identity = &self.enrollment.identity;
        let signer = cms::Signer { certificate: &identity.certificate, key: &identity.key, digest: Digest::Sha256 };
        let time = asn1::time(self.now().seconds());
        Ok(STANDARD.encode(cms::sign_detached(body, &[(cms::SIGNING_TIME, time)], &signer)?))
    }
}

/// The same resource at another node.
fn at_node(url: &Url, node: &Url) -> Option<Url> {
    let mut moved = url.clone();
    moved.set_host(node.host_str()).ok()?;
    moved.set_port(node.port()).ok()?;
    Some(moved)
}
