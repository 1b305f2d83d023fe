//! How a simulated device enrols over the air: it describes itself, signed by the identity that it was made with, gets an identity, and
//! describes itself again with that.

use openssl::pkey::{PKey, Private};
use openssl::x509::X509;
use reqwest::Url;

use super::enroll::introduce;
use super::profiles::{Refused, signed_content};
use super::{Device, Error, Machine};
use crate::sim::http::Client;
use crate::sim::scep::Identity;
use crate::wire::Malformed;
use crate::wire::apple::machine_info::DeviceAttributes;
use crate::wire::apple::profile::ProfileService;
use crate::wire::cms::{Digest, Signer, sign_with_chain};

/// A device on its way through the phases.
#[derive(Debug)]
pub struct Journey<'a> {
    /// What it trusts.
    pub roots: &'a [X509],
    /// What it is.
    pub machine: Machine,
    /// What it was asked.
    pub service: ProfileService,
}

impl<'a> Journey<'a> {
    /// Begins with the first document.
    ///
    /// # Errors
    /// When the document is not signed by somebody whom the device trusts, or is another one.
    pub fn begin(roots: &'a [X509], document: &[u8], machine: Machine) -> Result<Self, Error> {
        let service = ProfileService::decode(&signed_content(document, roots)?)?;
        Ok(Self { roots, machine, service })
    }

    /// What the device says of itself, signed by that identity.
    ///
    /// # Errors
    /// Never for the identities of devices.
    pub fn describe(&self, certificate: &[u8], key: &PKey<Private>) -> Result<Vec<u8>, Malformed> {
        let asked = |name: &str, value: &str| self.service.attributes.iter().any(|asked| asked == name).then(|| value.to_owned());
        let said = DeviceAttributes {
            udid: asked("UDID", &self.machine.udid),
            version: asked("VERSION", &self.machine.build),
            product: asked("PRODUCT", &self.machine.product),
            serial: asked("SERIAL", &self.machine.serial),
            challenge: self.service.challenge.clone(),
            ..DeviceAttributes::default()
        };
        sign_with_chain(&said.encode()?, &Signer { certificate, key, digest: Digest::Sha1 }, &[])
    }

    /// Sends a message; the answer.
    ///
    /// # Errors
    /// [`Error::Connection`], [`Error::Http`].
    pub async fn send(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let url = Url::parse(&self.service.url).map_err(|_| Refused::profile("the URL is none"))?;
        let answer = Client::new(self.roots, None)?.send("POST", &url, &[("content-type", "application/pkcs7-signature")], message).await?;
        if answer.status == 200 { Ok(answer.body) } else { Err(Error::Http(answer.status, answer.said())) }
    }

    /// The first message, signed by the factory's identity: the identity that it leads to.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn introduce(&self, factory: (&X509, &PKey<Private>)) -> Result<Identity, Error> {
        let answer = self.send(&self.describe(&factory.0.to_der()?, factory.1)?).await?;
        introduce(&answer, self.roots, &self.machine).await
    }
}

impl Device {
    /// Enrols over the air, beginning with the first document. `factory` is what the device was made with.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn enroll_over_the_air(
        roots: &[X509],
        document: &[u8],
        machine: Machine,
        factory: (&X509, &PKey<Private>),
        key: &PKey<Private>,
    ) -> Result<Self, Error> {
        let journey = Journey::begin(roots, document, machine)?;
        let identity = journey.introduce(factory).await?;
        let profile = journey.send(&journey.describe(&identity.certificate, &identity.key)?).await?;
        Self::enroll(roots, &profile, journey.machine, key).await
    }
}
