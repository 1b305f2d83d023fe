//! Cryptographic Message Syntax (RFC 5652), as SCEP, WSTEP renewal and EST use it.
//!
//! Names, serial numbers, certificates and signed attributes are kept as the bytes that came: a signature is checked over
//! `0x31 ‖ length ‖ original bytes` (RFC 5652 5.4), never over attributes that were decoded and encoded again.

mod algorithm;
pub mod ber;
mod certificate;
mod enveloped;
mod signed;

pub use algorithm::{Algorithm, Cipher, Digest, RSA_ENCRYPTION, Transport, identifier};
pub use certificate::CertificateView;
pub use enveloped::{EnvelopedData, RSA_KEY_BITS, Recipient, seal, seal_by};
pub use signed::{
    Attribute, Broken, CONTENT_TYPE, SIGNING_TIME, SignedData, Signer, SignerInfo, degenerate, sign, sign_detached, sign_with_chain,
};

use super::Malformed;
use super::asn1::{self, Element};

/// Contents of the OBJECT IDENTIFIER `id-data`, 1.2.840.113549.1.7.1.
pub const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
/// Contents of the OBJECT IDENTIFIER `id-signedData`, 1.2.840.113549.1.7.2.
pub const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
/// Contents of the OBJECT IDENTIFIER `id-envelopedData`, 1.2.840.113549.1.7.3.
pub const ENVELOPED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 3];

/// Whom a signature or an envelope names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identifier<'a> {
    /// The certificate's issuer (the Name element as it came) and serial number (the contents as they came).
    IssuerAndSerial {
        /// The whole Name element.
        issuer: &'a [u8],
        /// Contents of the INTEGER.
        serial: &'a [u8],
    },
    /// The certificate's subject key identifier.
    KeyIdentifier(&'a [u8]),
}

impl<'a> Identifier<'a> {
    /// Reads `IssuerAndSerialNumber` or `[0] SubjectKeyIdentifier`.
    fn of(element: &Element<'a>) -> Result<Self, Malformed> {
        match element.tag {
            asn1::SEQUENCE => Self::issuer_and_serial(element),
            0x80 => Ok(Self::KeyIdentifier(element.value)),
            // Some senders mark the implicit OCTET STRING as explicit.
            0xa0 => Ok(Self::KeyIdentifier(asn1::single(element.value, asn1::OCTET_STRING, "SubjectKeyIdentifier")?.value)),
            _ => Err(Malformed::new("neither issuer and serial number nor key identifier", "CMS")),
        }
    }

    /// Reads `IssuerAndSerialNumber`.
    ///
    /// # Errors
    /// [`Malformed`] when it is none.
    pub fn issuer_and_serial(element: &Element<'a>) -> Result<Self, Malformed> {
        let mut fields = element.reader();
        let issuer = fields.expect(asn1::SEQUENCE, "IssuerAndSerialNumber")?.raw;
        let serial = fields.expect(asn1::INTEGER, "IssuerAndSerialNumber")?.value;
        fields.end()?;
        Ok(Self::IssuerAndSerial { issuer, serial })
    }

    /// Whether it names this certificate.
    #[must_use]
    pub fn names(&self, certificate: &CertificateView<'_>) -> bool {
        match self {
            Self::IssuerAndSerial { issuer, serial } => *issuer == certificate.issuer && *serial == certificate.serial,
            Self::KeyIdentifier(id) => certificate.key_identifier == Some(*id),
        }
    }
}

/// The contents of a `ContentInfo` of that type.
pub(super) fn content_info<'a>(der: &'a [u8], content_type: &[u8]) -> Result<Element<'a>, Malformed> {
    let mut fields = asn1::single(der, asn1::SEQUENCE, "ContentInfo")?.reader();
    if fields.expect(asn1::OID, "contentType")?.value != content_type {
        return Err(Malformed::new("another content type", "ContentInfo"));
    }
    let content = fields.expect(asn1::context(0), "content")?;
    fields.end()?;
    asn1::single(content.value, asn1::SEQUENCE, "content")
}

/// A `ContentInfo` around an encoded element.
fn wrap(content_type: &[u8], content: &[u8]) -> Vec<u8> {
    asn1::wrap(asn1::SEQUENCE, &[&asn1::tlv(asn1::OID, content_type), &asn1::tlv(asn1::context(0), content)])
}
