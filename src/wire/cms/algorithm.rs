//! Digests, ciphers and key transports that CMS messages name (RFC 5754, RFC 3565, RFC 3370), the forbidden ones included, so that they
//! can be refused by name.

use openssl::hash::MessageDigest;
use openssl::symm::Cipher as OpenSslCipher;

use super::super::Malformed;
use super::super::asn1::{self, Element, Reader};

/// `rsaEncryption`, 1.2.840.113549.1.1.1.
pub const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
/// `id-RSAES-OAEP`, 1.2.840.113549.1.1.7.
const RSAES_OAEP: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 7];
/// `id-mgf1`, 1.2.840.113549.1.1.8.
const MGF1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 8];

/// A digest algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    /// MD5: never accepted.
    Md5,
    /// SHA-1: only for clients that know no better.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Digest {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Md5, Self::Sha1, Self::Sha224, Self::Sha256, Self::Sha384, Self::Sha512];

    /// Contents of the digest's OBJECT IDENTIFIER.
    #[must_use]
    pub fn oid(self) -> &'static [u8] {
        match self {
            Self::Md5 => &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 5],
            Self::Sha1 => &[0x2b, 0x0e, 0x03, 0x02, 0x1a],
            Self::Sha224 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x04],
            Self::Sha256 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01],
            Self::Sha384 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02],
            Self::Sha512 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03],
        }
    }

    /// Contents of the OBJECT IDENTIFIER of RSASSA-PKCS1-v1_5 with this digest.
    #[must_use]
    pub fn rsa_oid(self) -> [u8; 9] {
        let last = match self {
            Self::Md5 => 4,
            Self::Sha1 => 5,
            Self::Sha224 => 14,
            Self::Sha256 => 11,
            Self::Sha384 => 12,
            Self::Sha512 => 13,
        };
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, last]
    }

    /// Contents of the OBJECT IDENTIFIER of ECDSA with this digest; empty for MD5, which has none.
    #[must_use]
    pub fn ecdsa_oid(self) -> &'static [u8] {
        match self {
            Self::Md5 => &[],
            Self::Sha1 => &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01],
            Self::Sha224 => &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x01],
            Self::Sha256 => &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02],
            Self::Sha384 => &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03],
            Self::Sha512 => &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04],
        }
    }

    /// The digest of that OBJECT IDENTIFIER.
    #[must_use]
    pub fn from_oid(oid: &[u8]) -> Option<Self> {
        Self::ALL.iter().copied().find(|digest| digest.oid() == oid)
    }

    /// The digest that a signature algorithm names (RSASSA-PKCS1-v1_5 or ECDSA); `None` for `rsaEncryption`, which names none, and for
    /// unknown ones.
    #[must_use]
    pub fn from_signature_oid(oid: &[u8]) -> Option<Self> {
        Self::ALL.iter().copied().find(|digest| digest.rsa_oid() == oid || digest.ecdsa_oid() == oid)
    }

    /// OpenSSL's name of it.
    #[must_use]
    pub fn openssl(self) -> MessageDigest {
        match self {
            Self::Md5 => MessageDigest::md5(),
            Self::Sha1 => MessageDigest::sha1(),
            Self::Sha224 => MessageDigest::sha224(),
            Self::Sha256 => MessageDigest::sha256(),
            Self::Sha384 => MessageDigest::sha384(),
            Self::Sha512 => MessageDigest::sha512(),
        }
    }

    /// AlgorithmIdentifier of the digest, with NULL parameters.
    #[must_use]
    pub fn identifier(self) -> Vec<u8> {
        identifier(self.oid(), &[asn1::NULL, 0])
    }

    /// The digest of `data`; empty when OpenSSL does not offer the algorithm.
    #[must_use]
    pub fn of(self, data: &[u8]) -> Vec<u8> {
        openssl::hash::hash(self.openssl(), data).map(|bytes| bytes.to_vec()).unwrap_or_default()
    }
}

/// A content cipher, in CBC mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    /// DES: never accepted.
    Des,
    /// Triple DES with three keys.
    TripleDes,
    /// AES-128.
    Aes128,
    /// AES-192.
    Aes192,
    /// AES-256.
    Aes256,
}

impl Cipher {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Des, Self::TripleDes, Self::Aes128, Self::Aes192, Self::Aes256];

    /// Contents of the OBJECT IDENTIFIER.
    #[must_use]
    pub fn oid(self) -> &'static [u8] {
        match self {
            Self::Des => &[0x2b, 0x0e, 0x03, 0x02, 0x07],
            Self::TripleDes => &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x03, 0x07],
            Self::Aes128 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x02],
            Self::Aes192 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x16],
            Self::Aes256 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a],
        }
    }

    /// The cipher of that OBJECT IDENTIFIER.
    #[must_use]
    pub fn from_oid(oid: &[u8]) -> Option<Self> {
        Self::ALL.iter().copied().find(|cipher| cipher.oid() == oid)
    }

    /// Octets of a key.
    #[must_use]
    pub fn key_length(self) -> usize {
        match self {
            Self::Des => 8,
            Self::Aes128 => 16,
            Self::TripleDes | Self::Aes192 => 24,
            Self::Aes256 => 32,
        }
    }

    /// Octets of a block, which is also the length of the initialisation vector.
    #[must_use]
    pub fn block(self) -> usize {
        match self {
            Self::Des | Self::TripleDes => 8,
            Self::Aes128 | Self::Aes192 | Self::Aes256 => 16,
        }
    }

    /// OpenSSL's name of it; `None` for DES, which we never run.
    pub(super) fn openssl(self) -> Option<OpenSslCipher> {
        match self {
            Self::Des => None,
            Self::TripleDes => Some(OpenSslCipher::des_ede3_cbc()),
            Self::Aes128 => Some(OpenSslCipher::aes_128_cbc()),
            Self::Aes192 => Some(OpenSslCipher::aes_192_cbc()),
            Self::Aes256 => Some(OpenSslCipher::aes_256_cbc()),
        }
    }
}

/// How a content key is wrapped for an RSA key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// RSAES-PKCS1-v1_5.
    Pkcs1,
    /// RSAES-OAEP with its digest and that of its mask; the label is empty.
    Oaep(Digest, Digest),
}

impl Transport {
    /// Reads the AlgorithmIdentifier of a key transport (RFC 3370 4.2.1, RFC 4055 4.1); `None` when it is another algorithm.
    pub(super) fn read(algorithm: &Algorithm<'_>) -> Result<Option<Self>, Malformed> {
        if algorithm.oid == RSA_ENCRYPTION {
            return Ok(Some(Self::Pkcs1));
        }
        if algorithm.oid != RSAES_OAEP {
            return Ok(None);
        }
        let (mut digest, mut mask) = (Some(Digest::Sha1), Some(Digest::Sha1));
        let Some(parameters) = algorithm.parameters.filter(|p| p.tag == asn1::SEQUENCE) else {
            return Ok(Some(Self::Oaep(Digest::Sha1, Digest::Sha1)));
        };
        let mut fields = parameters.reader();
        if let Some(hash) = fields.optional(asn1::context(0))? {
            digest = Digest::from_oid(Algorithm::read(&mut hash.reader())?.oid);
        }
        if let Some(generator) = fields.optional(asn1::context(1))? {
            let generator = Algorithm::read(&mut generator.reader())?;
            let inner = generator.parameters.filter(|_| generator.oid == MGF1);
            mask = match inner {
                Some(hash) => Digest::from_oid(Algorithm::of(&hash)?.oid),
                None => None,
            };
        }
        if fields.optional(asn1::context(2))?.is_some() {
            return Ok(None);
        }
        Ok(digest.zip(mask).filter(|(d, m)| *d != Digest::Md5 && *m != Digest::Md5).map(|(d, m)| Self::Oaep(d, m)))
    }
}

/// An AlgorithmIdentifier as it came.
#[derive(Clone, Copy, Debug)]
pub struct Algorithm<'a> {
    /// Contents of the OBJECT IDENTIFIER.
    pub oid: &'a [u8],
    /// Parameters, if any.
    pub parameters: Option<Element<'a>>,
}

impl<'a> Algorithm<'a> {
    /// Reads the next element as an AlgorithmIdentifier.
    ///
    /// # Errors
    /// [`Malformed`] when it is none.
    pub fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Self::of(&reader.expect(asn1::SEQUENCE, "AlgorithmIdentifier")?)
    }

    /// Reads the element as an AlgorithmIdentifier.
    ///
    /// # Errors
    /// [`Malformed`] when it is none.
    pub fn of(element: &Element<'a>) -> Result<Self, Malformed> {
        let mut fields = element.reader();
        let oid = fields.expect(asn1::OID, "AlgorithmIdentifier")?.value;
        let parameters = if fields.is_empty() { None } else { Some(fields.element()?) };
        Ok(Self { oid, parameters })
    }
}

/// An AlgorithmIdentifier with these parameters (an encoded element, or nothing).
#[must_use]
pub fn identifier(oid: &[u8], parameters: &[u8]) -> Vec<u8> {
    asn1::wrap(asn1::SEQUENCE, &[&asn1::tlv(asn1::OID, oid), parameters])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oaep_parameters_are_read_with_their_defaults() {
        let read = |parameters: &[u8]| {
            let encoded = identifier(RSAES_OAEP, parameters);
            Transport::read(&Algorithm::read(&mut Reader::lenient(&encoded)).unwrap()).unwrap()
        };
        assert_eq!(read(&[]), Some(Transport::Oaep(Digest::Sha1, Digest::Sha1)));
        assert_eq!(read(&[0x30, 0]), Some(Transport::Oaep(Digest::Sha1, Digest::Sha1)));
        let hash = asn1::tlv(asn1::context(0), &Digest::Sha256.identifier());
        let mask = asn1::tlv(asn1::context(1), &identifier(MGF1, &Digest::Sha256.identifier()));
        assert_eq!(read(&asn1::wrap(asn1::SEQUENCE, &[&hash, &mask])), Some(Transport::Oaep(Digest::Sha256, Digest::Sha256)));
        let label = asn1::tlv(asn1::context(2), &[0x30, 0]);
        assert_eq!(read(&asn1::wrap(asn1::SEQUENCE, &[&label])), None);
    }

    #[test]
    fn every_algorithm_is_found_by_its_identifier() {
        for digest in Digest::ALL {
            assert_eq!(Digest::from_oid(digest.oid()), Some(*digest));
            assert_eq!(Digest::from_signature_oid(&digest.rsa_oid()), Some(*digest));
        }
        for cipher in Cipher::ALL {
            assert_eq!(Cipher::from_oid(cipher.oid()), Some(*cipher));
        }
        assert_eq!(Digest::from_signature_oid(RSA_ENCRYPTION), None);
    }
}
