//! Certification requests (PKCS #10, RFC 2986), read as real clients write them: extension requests under the standard and Microsoft's
//! identifier, challenge passwords in any string type, illegal characters in PrintableStrings, unknown attributes.
//!
//! What a request asks for is for *comparison* with what was granted; certificates are made from the grant.

mod build;
mod name;

pub use build::{Wish, build};
pub use name::{GeneralName, NamePart};

use openssl::pkey::{Id, PKey, Public};

use super::Malformed;
use super::asn1::{self, Element};
use super::cms::{Algorithm, Attribute, Digest};
use super::public_key;

/// Largest request, in bytes.
pub const SIZE: usize = 64 * 1024;
/// Largest challenge password, in bytes.
pub const CHALLENGE: usize = 8 * 1024;

/// `challengePassword`, 1.2.840.113549.1.9.7.
const CHALLENGE_PASSWORD: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 7];
/// `extensionRequest`, 1.2.840.113549.1.9.14.
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];
/// `szOID_RSA_certExtensions`, 1.3.6.1.4.1.311.2.1.14.
const MICROSOFT_EXTENSIONS: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x01, 0x0e];

/// Key usage bits, as [`Request::key_usage`] has them (bit 0 of RFC 5280 4.2.1.3 is the lowest).
pub mod key_usage {
    /// digitalSignature.
    pub const DIGITAL_SIGNATURE: u16 = 1;
    /// nonRepudiation.
    pub const NON_REPUDIATION: u16 = 1 << 1;
    /// keyEncipherment.
    pub const KEY_ENCIPHERMENT: u16 = 1 << 2;
    /// dataEncipherment.
    pub const DATA_ENCIPHERMENT: u16 = 1 << 3;
    /// keyAgreement.
    pub const KEY_AGREEMENT: u16 = 1 << 4;
    /// keyCertSign.
    pub const KEY_CERT_SIGN: u16 = 1 << 5;
    /// cRLSign.
    pub const CRL_SIGN: u16 = 1 << 6;
}

/// A certification request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The subject's Name element as it came.
    pub subject_raw: Vec<u8>,
    /// The subject, in order; the parts of one RDN share its number.
    pub subject: Vec<NamePart>,
    /// The SubjectPublicKeyInfo element.
    pub spki: Vec<u8>,
    /// The challenge password: a secret, never logged.
    pub challenge: Option<crate::secret::Secret>,
    /// Requested subject alternative names.
    pub san: Vec<GeneralName>,
    /// Requested extended key usages, dotted.
    pub ext_key_usage: Vec<String>,
    /// Requested key usage, see [`key_usage`].
    pub key_usage: Option<u16>,
    /// Whether basic constraints with CA:TRUE are asked for.
    pub wants_ca: bool,
    /// All requested extensions: dotted identifier and value.
    pub extensions: Vec<(String, Vec<u8>)>,
    info: Vec<u8>,
    signature_algorithm: Vec<u8>,
    signature: Vec<u8>,
}

/// Why a request's own signature does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// The signature algorithm is unknown, forbidden or does not suit the key.
    #[error("signature algorithm not supported")]
    Algorithm,
    /// The public key cannot be used.
    #[error("public key not supported")]
    Key,
    /// The signature is wrong.
    #[error("the signature is wrong")]
    Signature,
}

impl Request {
    /// Reads a DER request.
    ///
    /// # Errors
    /// [`Malformed`] when it is none, or asks in a way that cannot be read (attributes twice, two values, a challenge beyond 8 KiB).
    pub fn parse(der: &[u8]) -> Result<Self, Malformed> {
        if der.len() > SIZE {
            return Err(Malformed::new("too large", "CertificationRequest"));
        }
        let mut outer = asn1::single(der, asn1::SEQUENCE, "CertificationRequest")?.reader();
        let info = outer.expect(asn1::SEQUENCE, "CertificationRequestInfo")?;
        let signature_algorithm = Algorithm::read(&mut outer)?.oid.to_vec();
        let signature = outer.expect(asn1::BIT_STRING, "signature")?.value;
        outer.end()?;
        let signature = signature.strip_prefix(&[0]).ok_or_else(|| Malformed::new("unused bits", "signature"))?.to_vec();
        let mut fields = info.reader();
        fields.expect(asn1::INTEGER, "version")?;
        let subject = fields.expect(asn1::SEQUENCE, "subject")?;
        let spki = fields.expect(asn1::SEQUENCE, "subjectPKInfo")?.raw.to_vec();
        let attributes = match fields.optional(asn1::context(0))? {
            Some(list) => Attribute::list(list.reader())?,
            None => Vec::new(),
        };
        fields.end()?;
        let mut request = Self {
            subject_raw: subject.raw.to_vec(),
            subject: name::read_name(&subject)?,
            spki,
            challenge: None,
            san: Vec::new(),
            ext_key_usage: Vec::new(),
            key_usage: None,
            wants_ca: false,
            extensions: Vec::new(),
            info: info.raw.to_vec(),
            signature_algorithm,
            signature,
        };
        for attribute in &attributes {
            request.take_attribute(attribute)?;
        }
        Ok(request)
    }

    fn take_attribute(&mut self, attribute: &Attribute<'_>) -> Result<(), Malformed> {
        let value = || match attribute.values.as_slice() {
            [value] => Ok(*value),
            _ => Err(Malformed::new("not one value", "attribute")),
        };
        if attribute.oid == CHALLENGE_PASSWORD {
            let value = value()?;
            let text = asn1::string(&value).filter(|_| value.value.len() <= CHALLENGE);
            let text = text.ok_or_else(|| Malformed::new("not a text, or too long", "challengePassword"))?;
            if self.challenge.replace(crate::secret::Secret::new(text.into_bytes())).is_some() {
                return Err(Malformed::new("twice", "challengePassword"));
            }
        } else if attribute.oid == EXTENSION_REQUEST || attribute.oid == MICROSOFT_EXTENSIONS {
            let mut list = value()?.reader();
            while !list.is_empty() {
                self.take_extension(&list.expect(asn1::SEQUENCE, "Extension")?)?;
            }
        }
        Ok(())
    }

    fn take_extension(&mut self, extension: &Element<'_>) -> Result<(), Malformed> {
        let mut fields = extension.reader();
        let oid = fields.expect(asn1::OID, "Extension")?.value;
        fields.optional(asn1::BOOLEAN)?;
        let value = fields.expect(asn1::OCTET_STRING, "Extension")?.value;
        fields.end()?;
        let text = asn1::oid_text(oid).ok_or_else(|| Malformed::new("bad identifier", "Extension"))?;
        // The same extension under both identifiers is what some Windows tools send; a different second one is a trick.
        let known = self.extensions.iter().any(|(oid, _)| *oid == text);
        match text.as_str() {
            "2.5.29.17" => {
                let names = name::read_general_names(value)?;
                if known && names != self.san {
                    return Err(Malformed::new("twice", "subjectAltName"));
                }
                self.san = names;
            }
            "2.5.29.15" => {
                let usage = read_key_usage(value)?;
                if known && self.key_usage != Some(usage) {
                    return Err(Malformed::new("twice", "keyUsage"));
                }
                self.key_usage = Some(usage);
            }
            "2.5.29.37" => {
                let mut list = asn1::single(value, asn1::SEQUENCE, "extKeyUsage")?.reader();
                while !list.is_empty() {
                    let purpose = asn1::oid_text(list.expect(asn1::OID, "extKeyUsage")?.value);
                    let purpose = purpose.ok_or_else(|| Malformed::new("bad identifier", "extKeyUsage"))?;
                    if !self.ext_key_usage.contains(&purpose) {
                        self.ext_key_usage.push(purpose);
                    }
                }
            }
            "2.5.29.19" => {
                let mut fields = asn1::single(value, asn1::SEQUENCE, "basicConstraints")?.reader();
                self.wants_ca |= fields.optional(asn1::BOOLEAN)?.is_some_and(|flag| flag.value.iter().any(|b| *b != 0));
            }
            _ => {}
        }
        self.extensions.push((text, value.to_vec()));
        Ok(())
    }

    /// The public key.
    ///
    /// # Errors
    /// [`Unproven::Key`].
    pub fn public_key(&self) -> Result<PKey<Public>, Unproven> {
        public_key::read(&self.spki).ok_or(Unproven::Key)
    }

    /// The digest of the request's own signature.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        Digest::from_signature_oid(&self.signature_algorithm)
    }

    /// Checks the request's own signature, which proves possession of the key.
    ///
    /// # Errors
    /// [`Unproven`] says what is wrong; MD5 is never accepted, SHA-1 is (callers judge [`Request::digest`]).
    pub fn verify(&self) -> Result<(), Unproven> {
        self.verify_by(&self.public_key()?)
    }

    /// The same by [`Request::public_key`], for a caller that has it already.
    ///
    /// # Errors
    /// Those of [`Request::verify`].
    pub fn verify_by(&self, key: &PKey<Public>) -> Result<(), Unproven> {
        let digest = self.digest().filter(|d| *d != Digest::Md5).ok_or(Unproven::Algorithm)?;
        let rsa_named = digest.rsa_oid() == *self.signature_algorithm;
        if !matches!((key.id(), rsa_named), (Id::RSA, true) | (Id::EC, false)) {
            return Err(Unproven::Algorithm);
        }
        let mut verifier = openssl::sign::Verifier::new(digest.openssl(), key).map_err(|_| Unproven::Key)?;
        match verifier.verify_oneshot(&self.signature, &self.info) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Unproven::Signature),
        }
    }

    /// The first subject part of that type (dotted), such as `2.5.4.3`.
    #[must_use]
    pub fn subject_value(&self, oid: &str) -> Option<&str> {
        self.subject.iter().find(|part| part.oid == oid).map(|part| part.value.as_str())
    }
}

/// The named bits of a key usage.
fn read_key_usage(value: &[u8]) -> Result<u16, Malformed> {
    let bits = asn1::single(value, asn1::BIT_STRING, "keyUsage")?.value;
    let octets = bits.get(1..).filter(|o| o.len() <= 2).ok_or_else(|| Malformed::new("bad bits", "keyUsage"))?;
    let mut usage = 0u16;
    for (at, octet) in octets.iter().enumerate() {
        usage |= u16::from(octet.reverse_bits()) << (8 * at);
    }
    Ok(usage)
}

#[cfg(test)]
mod tests;
