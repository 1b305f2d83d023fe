//! What a device says of itself before it enrols, signed by the identity that Apple gave it in the factory.
//!
//! The signature proves that *a* device of Apple's said so, and the identifiers in it are what the enrolment is bound to; it is no
//! attestation, because a device whose protection is broken can sign any serial number.

use openssl::x509::X509;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::app::App;
use crate::domain::Refusal;
use crate::service::{Error, Result};
use crate::wire::apple::machine_info::MachineInfo;
use crate::wire::cms::{CONTENT_TYPE, CertificateView, DATA, Digest, SignedData, ber};

/// Apple iPhone Device CA. It ended in 2014 and still signs what devices are made with: its dates count for nothing.
pub const APPLE_DEVICE_CA: &str = include_str!("apple_iphone_device_ca.pem");
/// Most certificates between a device's and the CA.
const DEPTH: usize = 4;

/// A message of one signer, whose signature holds.
pub(super) struct Message {
    /// What was signed.
    pub(super) content: Vec<u8>,
    /// The signer's certificate: SHA-256 in lower-case hex.
    pub(super) signer: String,
    /// The signer is a device that Apple made.
    pub(super) from_factory: bool,
}

/// The CA of devices.
fn device_ca(file: Option<&std::path::Path>) -> Result<String> {
    match file {
        Some(path) => std::fs::read_to_string(path).map_err(Error::internal),
        None => Ok(APPLE_DEVICE_CA.to_owned()),
    }
}

/// Opens a message and tells whether a device's factory key signed it.
///
/// # Errors
/// [`Refusal::MachineInfoInvalid`].
pub(super) async fn inspect(app: &App, message: Vec<u8>) -> Result<Message> {
    let file = app.config.apple.automated.device_ca_file.clone();
    let opening = move || judge(&message, &device_ca(file.as_deref())?);
    tokio::task::spawn_blocking(opening).await.map_err(Error::internal)?
}

/// Opens a device's description of itself.
///
/// # Errors
/// [`Refusal::MachineInfoInvalid`], [`Refusal::MachineInfoForeign`]; [`Error::Malformed`] when the content is no machine info.
pub(super) async fn read(app: &App, message: Vec<u8>) -> Result<MachineInfo> {
    let file = app.config.apple.automated.device_ca_file.clone();
    let opening = move || Ok(MachineInfo::decode(&open(&message, &device_ca(file.as_deref())?)?)?);
    tokio::task::spawn_blocking(opening).await.map_err(Error::internal)?
}

/// The content of a message (CMS SignedData, also in BER, also with SHA-1) that one device signed whose certificate, dates aside, comes
/// from the CA in `ca` (PEM).
///
/// # Errors
/// [`Refusal::MachineInfoInvalid`], [`Refusal::MachineInfoForeign`]; [`Error::Internal`] when `ca` cannot be read.
pub fn open(message: &[u8], ca: &str) -> Result<Vec<u8>> {
    let message = judge(message, ca)?;
    if message.from_factory { Ok(message.content) } else { Err(Refusal::MachineInfoForeign.into()) }
}

fn judge(message: &[u8], ca: &str) -> Result<Message> {
    let ca = X509::from_pem(ca.as_bytes()).and_then(|ca| ca.to_der()).map_err(Error::internal)?;
    let ca = CertificateView::parse(&ca).map_err(Error::internal)?;
    let invalid = |_| Refusal::MachineInfoInvalid;
    let der = ber::to_der(message).map_err(invalid)?;
    let signed = SignedData::parse(&der).map_err(invalid)?;
    let [signer] = signed.signers.as_slice() else { return Err(Refusal::MachineInfoInvalid.into()) };
    let digest = matches!(signer.digest, Some(Digest::Sha1 | Digest::Sha256 | Digest::Sha384 | Digest::Sha512));
    let plain = signer.attribute(CONTENT_TYPE).is_none_or(|kind| kind.value == DATA);
    let content = signed.content.filter(|_| digest && plain).ok_or(Refusal::MachineInfoInvalid)?;
    let device = signed.verify_bare(signer).map_err(|broken| {
        tracing::info!(%broken, "a device's description of itself does not hold");
        Refusal::MachineInfoInvalid
    })?;
    let signer = hex::encode(openssl::sha::sha256(device.raw));
    Ok(Message { content: content.to_vec(), signer, from_factory: comes_from(device, &signed.certificates, &ca) })
}

/// Whether a certificate was issued by the CA, or by one that was, with the certificates of a message between them. The CA's own key
/// decides, whatever the message calls by its name.
fn comes_from(device: CertificateView<'_>, certificates: &[&[u8]], ca: &CertificateView<'_>) -> bool {
    let mut below = device;
    for _ in 0..=DEPTH {
        if is_issued(&below, ca) {
            return true;
        }
        let others = certificates.iter().filter_map(|raw| CertificateView::parse(raw).ok());
        let issuer = others.filter(|other| other.raw != below.raw && is_authority(other.raw)).find(|other| is_issued(&below, other));
        let Some(issuer) = issuer else { return false };
        below = issuer;
    }
    false
}

fn is_issued(certificate: &CertificateView<'_>, issuer: &CertificateView<'_>) -> bool {
    let (Ok(parsed), Ok(key)) = (X509::from_der(certificate.raw), issuer.public_key()) else { return false };
    certificate.issuer == issuer.subject && parsed.verify(&key).unwrap_or(false)
}

fn is_authority(certificate: &[u8]) -> bool {
    let parsed = X509Certificate::from_der(certificate).ok();
    parsed.is_some_and(|(_, parsed)| parsed.basic_constraints().ok().flatten().is_some_and(|constraints| constraints.value.ca))
}
