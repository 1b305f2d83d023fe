//! Managed Device Attestation: Apple's servers say what a device is, in a certificate below a root of Apple's own.
//!
//! A chain counts when it leads to that root, each certificate in its time, and is for a code that this server gave to this enrolment.
//! Whatever else comes is no evidence, and what is not proven is not met.

use openssl::stack::Stack;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::{X509VerifyFlags, X509VerifyParam};
use openssl::x509::{X509, X509PurposeId, X509StoreContext};

use super::turn::Turn;
use crate::app::App;
use crate::clock::Time;
use crate::config::Config;
use crate::domain::apple::attestation::{Expected, Fault, Nonce, judge, judge_key};
use crate::domain::device::{Device, Platform};
use crate::secret::random;
use crate::service::effect::Effect;
use crate::service::{Error, Result};
use crate::store::apple::nonces;
use crate::wire::apple::attestation::{Properties, certificates, chain_of};
use crate::wire::apple::command::Answer;
use crate::wire::plist::Value;

/// Apple Enterprise Attestation Root CA: the only one.
pub const APPLE_ROOT: &str = include_str!("apple_attestation_root.pem");
/// Where a Mac says which UDID its attestations have.
pub(super) const PROVISIONING_UDID: &str = "apple.provisioning-udid";

/// The root that attestations lead to.
///
/// # Errors
/// When the file of another one cannot be read.
pub fn root(config: &Config) -> Result<X509> {
    let pem = match &config.apple.attestation_root_file {
        Some(path) => std::fs::read_to_string(path).map_err(Error::internal)?,
        None => APPLE_ROOT.to_owned(),
    };
    Ok(X509::from_pem(pem.as_bytes())?)
}

/// Verifies a chain (DER, the leaf first) up to the root at that time; what its leaf says, and the leaf.
///
/// # Errors
/// [`Fault::Missing`], [`Fault::Malformed`], [`Fault::Chain`].
pub fn verify(chain: &[Vec<u8>], root: &X509, now: Time) -> std::result::Result<(Properties, X509), Fault> {
    if chain.is_empty() {
        return Err(Fault::Missing);
    }
    let parsed = certificates(chain).map_err(|_| Fault::Malformed)?;
    let (Some((leaf, above)), Some(first)) = (parsed.split_first(), chain.first()) else { return Err(Fault::Missing) };
    if !chains(leaf, above, root, now).unwrap_or(false) {
        return Err(Fault::Chain);
    }
    let properties = Properties::read(first).map_err(|_| Fault::Malformed)?;
    Ok((properties, leaf.clone()))
}

fn chains(leaf: &X509, above: &[X509], root: &X509, now: Time) -> std::result::Result<bool, openssl::error::ErrorStack> {
    // The root itself is no attestation.
    if leaf.to_der()? == root.to_der()? {
        return Ok(false);
    }
    let mut parameters = X509VerifyParam::new()?;
    parameters.set_flags(X509VerifyFlags::CHECK_SS_SIGNATURE)?;
    parameters.set_time(now.seconds());
    let mut store = X509StoreBuilder::new()?;
    store.add_cert(root.clone())?;
    store.set_param(&parameters)?;
    store.set_purpose(X509PurposeId::ANY)?;
    let mut others = Stack::new()?;
    for certificate in above {
        others.push(certificate.clone())?;
    }
    X509StoreContext::new()?.init(&store.build(), leaf, &others, |context| context.verify_cert())
}

/// Judges an attestation object that an ACME client sent for the challenge `device-attest-01` with that token, for the device, and for the
/// key of its request (SubjectPublicKeyInfo, DER).
///
/// # Errors
/// Our own, when the root cannot be read; the inner result says why there is no evidence.
pub fn judge_object(
    app: &App,
    object: &[u8],
    token: &str,
    device: &Device,
    provisioning_udid: Option<&str>,
    requested: &[u8],
) -> Result<std::result::Result<Properties, Fault>> {
    let root = root(&app.config)?;
    let judged = || {
        let chain = chain_of(object).map_err(|_| Fault::Malformed)?;
        let (properties, leaf) = verify(&chain, &root, app.now())?;
        let attested = leaf.public_key().and_then(|key| key.public_key_to_der()).map_err(|_| Fault::Malformed)?;
        judge_key(&properties, &expected(device, provisioning_udid), token, &attested, requested)?;
        Ok(properties)
    };
    Ok(judged())
}

/// What attestations of a device say of it.
fn expected<'d>(device: &'d Device, provisioning_udid: Option<&'d str>) -> Expected<'d> {
    let udid = match device.platform {
        Platform::MacOs => provisioning_udid,
        _ => device.hardware_id.as_deref(),
    };
    Expected { serial: device.serial_number.as_deref(), udid }
}

/// The chain in an answer, if there is one.
fn chain_in(answer: &Answer) -> Option<Vec<Vec<u8>>> {
    let chain = answer.body.dict("QueryResponses")?.array("DevicePropertiesAttestation")?;
    Some(chain.iter().filter_map(Value::as_data).map(<[u8]>::to_vec).collect())
}

impl Turn<'_> {
    /// Reads what an attestation in the answer is held against.
    pub(super) async fn read_nonces(&mut self, answer: &Answer) -> Result<()> {
        if chain_in(answer).is_some() {
            let id = self.known.enrollment.id.clone();
            self.nonces = self.app.store.read(move |conn| nonces::list_nonces(conn, &id)).await?;
        }
        Ok(())
    }

    /// A fresh code for this enrolment.
    pub(super) fn new_nonce(&mut self) -> Result<Vec<u8>> {
        let nonce = random::<32>()?.to_vec();
        let given = Nonce { nonce: nonce.clone(), issued_at: self.now };
        let enrollment = self.known.enrollment.id.clone();
        self.effects.push(Effect::Nonce { enrollment, nonce: given });
        Ok(nonce)
    }

    /// Judges the attestation in an answer.
    pub(super) fn judge_attestation(&self, answer: &Answer) -> Result<std::result::Result<Properties, Fault>> {
        let Some(chain) = chain_in(answer) else { return Ok(Err(Fault::Missing)) };
        let root = root(&self.app.config)?;
        let judged = || {
            let (properties, _) = verify(&chain, &root, self.now)?;
            let expected = expected(&self.device, self.fact(PROVISIONING_UDID));
            judge(&properties, &expected, &self.nonces, self.app.config.apple.attestation_days, self.now)?;
            Ok(properties)
        };
        Ok(judged())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_apples() {
        let root = X509::from_pem(APPLE_ROOT.as_bytes()).unwrap();
        let digest = hex::encode(openssl::sha::sha256(&root.to_der().unwrap()));
        assert_eq!(digest, "ccf59ef8fcb3017d97f8b5fa6fa90e7a3f9283f76b55ac6cf6eda8b8b949f05b");
        let now = Time::from_seconds(1_790_000_000);
        assert_eq!(verify(&[root.to_der().unwrap()], &root, now).unwrap_err(), Fault::Chain);
        assert_eq!(verify(&[], &root, now).unwrap_err(), Fault::Missing);
        assert_eq!(verify(&[vec![0x30, 0]], &root, now).unwrap_err(), Fault::Malformed);
    }
}
