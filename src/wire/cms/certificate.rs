//! The parts of a certificate that CMS needs, read without judging the rest: wrapper certificates of SCEP clients have serial numbers of
//! 32 and 33 octets, illegal names and no extensions.

use openssl::pkey::{PKey, Public};

use super::super::Malformed;
use super::super::{asn1, public_key};
use super::{Algorithm, RSA_ENCRYPTION};

/// Contents of the OBJECT IDENTIFIER `id-ce-subjectKeyIdentifier`.
const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x0e];

/// A look at a certificate's bytes (RFC 5280 4.1).
#[derive(Clone, Copy, Debug)]
pub struct CertificateView<'a> {
    /// The whole certificate.
    pub raw: &'a [u8],
    /// Contents of the serial number.
    pub serial: &'a [u8],
    /// The issuer's Name element.
    pub issuer: &'a [u8],
    /// The subject's Name element.
    pub subject: &'a [u8],
    /// The SubjectPublicKeyInfo element.
    pub spki: &'a [u8],
    /// The subject key identifier, if there is one.
    pub key_identifier: Option<&'a [u8]>,
}

impl<'a> CertificateView<'a> {
    /// Reads one certificate.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes do not have the shape of one.
    pub fn parse(raw: &'a [u8]) -> Result<Self, Malformed> {
        let mut outer = asn1::single(raw, asn1::SEQUENCE, "Certificate")?.reader();
        let mut fields = outer.expect(asn1::SEQUENCE, "TBSCertificate")?.reader();
        fields.optional(asn1::context(0))?;
        let serial = fields.expect(asn1::INTEGER, "serialNumber")?.value;
        fields.expect(asn1::SEQUENCE, "signature")?;
        let issuer = fields.expect(asn1::SEQUENCE, "issuer")?.raw;
        fields.expect(asn1::SEQUENCE, "validity")?;
        let subject = fields.expect(asn1::SEQUENCE, "subject")?.raw;
        let spki = fields.expect(asn1::SEQUENCE, "subjectPublicKeyInfo")?.raw;
        let mut key_identifier = None;
        while !fields.is_empty() {
            let part = fields.element()?;
            if part.tag == asn1::context(3) {
                key_identifier = find_key_identifier(part.value)?;
            }
        }
        Ok(Self { raw, serial, issuer, subject, spki, key_identifier })
    }

    /// The public key.
    ///
    /// # Errors
    /// [`Malformed`] when OpenSSL does not know it.
    pub fn public_key(&self) -> Result<PKey<Public>, Malformed> {
        public_key::read(self.spki).ok_or_else(|| Malformed::new("unusable public key", "Certificate"))
    }

    /// The length of the key's modulus in bits, when it is an RSA key: read off the bytes, which costs far less than building the key.
    #[must_use]
    pub fn rsa_bits(&self) -> Option<u32> {
        let mut fields = asn1::single(self.spki, asn1::SEQUENCE, "subjectPublicKeyInfo").ok()?.reader();
        if Algorithm::read(&mut fields).ok()?.oid != RSA_ENCRYPTION {
            return None;
        }
        let bits = fields.expect(asn1::BIT_STRING, "subjectPublicKey").ok()?.value;
        let mut key = asn1::single(bits.strip_prefix(&[0])?, asn1::SEQUENCE, "RSAPublicKey").ok()?.reader();
        let modulus = key.expect(asn1::INTEGER, "modulus").ok()?.value;
        let zeros = modulus.iter().take_while(|octet| **octet == 0).count();
        let first = modulus.get(zeros)?;
        u32::try_from((modulus.len() - zeros) * 8).ok()?.checked_sub(first.leading_zeros())
    }

    /// The certificate's `IssuerAndSerialNumber`.
    #[must_use]
    pub fn issuer_and_serial(&self) -> Vec<u8> {
        asn1::wrap(asn1::SEQUENCE, &[self.issuer, &asn1::tlv(asn1::INTEGER, self.serial)])
    }
}

fn find_key_identifier(extensions: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    let mut list = asn1::single(extensions, asn1::SEQUENCE, "extensions")?.reader();
    while !list.is_empty() {
        let mut extension = list.expect(asn1::SEQUENCE, "Extension")?.reader();
        let oid = extension.expect(asn1::OID, "Extension")?.value;
        extension.optional(asn1::BOOLEAN)?;
        let value = extension.expect(asn1::OCTET_STRING, "Extension")?.value;
        if oid == SUBJECT_KEY_IDENTIFIER {
            return Ok(asn1::single(value, asn1::OCTET_STRING, "subjectKeyIdentifier").ok().map(|id| id.value));
        }
    }
    Ok(None)
}
