//! EnvelopedData with RSA key transport (RFC 5652 6).

use std::borrow::Cow;

use openssl::encrypt::{Decrypter, Encrypter};
use openssl::pkey::{PKey, Private, Public};
use openssl::rsa::Padding;
use openssl::symm::{Crypter, Mode, encrypt};
use zeroize::Zeroizing;

use super::super::Malformed;
use super::super::asn1::{self, Element};
use super::{Algorithm, CertificateView, Cipher, DATA, ENVELOPED_DATA, Identifier, RSA_ENCRYPTION, Transport, ber, content_info};
use super::{identifier, wrap};

/// Sizes of RSA keys that an envelope may be addressed to, in bits: smaller ones are weak, larger ones are a way to waste our time.
pub const RSA_KEY_BITS: std::ops::RangeInclusive<u32> = 1024..=8192;
/// How many recipients a message may have.
const RECIPIENTS: usize = 16;

/// An EnvelopedData over the bytes it was read from.
#[derive(Clone, Debug)]
pub struct EnvelopedData<'a> {
    /// The recipients with RSA key transport; others are passed over.
    pub recipients: Vec<Recipient<'a>>,
    /// The content cipher; `None` when we do not know it.
    pub cipher: Option<Cipher>,
    iv: &'a [u8],
    ciphertext: Cow<'a, [u8]>,
}

/// One recipient.
#[derive(Clone, Copy, Debug)]
pub struct Recipient<'a> {
    /// Whose certificate.
    pub identifier: Identifier<'a>,
    /// How the content key is wrapped; `None` when we do not know it.
    pub transport: Option<Transport>,
    /// The content key as it came.
    pub encrypted_key: &'a [u8],
}

impl<'a> EnvelopedData<'a> {
    /// Reads a `ContentInfo` with EnvelopedData, in definite lengths (see [`ber::to_der`]).
    ///
    /// # Errors
    /// [`Malformed`] when it is none.
    pub fn parse(der: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = content_info(der, ENVELOPED_DATA)?.reader();
        fields.expect(asn1::INTEGER, "EnvelopedData version")?;
        fields.optional(asn1::context(0))?;
        let mut list = fields.expect(asn1::SET, "recipientInfos")?.reader();
        let mut encrypted = fields.expect(asn1::SEQUENCE, "encryptedContentInfo")?.reader();
        fields.optional(asn1::context(1))?;
        fields.end()?;
        let mut recipients = Vec::new();
        while !list.is_empty() {
            if recipients.len() == RECIPIENTS {
                return Err(Malformed::new("too many", "recipientInfos"));
            }
            let info = list.element()?;
            if info.tag == asn1::SEQUENCE {
                recipients.push(Recipient::read(&info)?);
            }
        }
        encrypted.expect(asn1::OID, "contentType")?;
        let algorithm = Algorithm::read(&mut encrypted)?;
        let ciphertext = match encrypted.element()? {
            Element { tag: 0x80, value, .. } => Cow::Borrowed(value),
            // BER: the implicit OCTET STRING in chunks.
            Element { tag: 0xa0, value, .. } => Cow::Owned(ber::joined(value)?),
            _ => return Err(Malformed::new("unexpected type", "encryptedContent")),
        };
        encrypted.end()?;
        let iv = algorithm.parameters.filter(|p| p.tag == asn1::OCTET_STRING).map(|p| p.value).unwrap_or_default();
        Ok(Self { recipients, cipher: Cipher::from_oid(algorithm.oid), iv, ciphertext })
    }

    /// Opens the envelope with a recipient's key.
    ///
    /// What does not open comes back as bytes without meaning, in the same time and by the same way as what does: a wrong wrapping is
    /// replaced by `substitute` (random bytes), and wrong padding is left where it is, so that no answer tells one from the other.
    ///
    /// # Errors
    /// [`Malformed`] for what the sender could see himself: an unknown cipher or wrapping, a vector or ciphertext of impossible length.
    pub fn open(&self, recipient: &Recipient<'_>, key: &PKey<Private>, substitute: &[u8; 32]) -> Result<Zeroizing<Vec<u8>>, Malformed> {
        let (Some(cipher), Some(transport)) = (self.cipher, recipient.transport) else {
            return Err(Malformed::new("unknown algorithm", "EnvelopedData"));
        };
        let engine = cipher.openssl().ok_or_else(|| Malformed::new("forbidden cipher", "EnvelopedData"))?;
        if self.iv.len() != cipher.block() || self.ciphertext.is_empty() || !self.ciphertext.len().is_multiple_of(cipher.block()) {
            return Err(Malformed::new("impossible length", "encryptedContent"));
        }
        let substitute = substitute.get(..cipher.key_length()).unwrap_or_default();
        let content_key = match transport {
            Transport::Pkcs1 => unwrap_pkcs1(key, recipient.encrypted_key, substitute),
            Transport::Oaep(..) => unwrap_oaep(key, transport, recipient.encrypted_key)
                .filter(|found| found.len() == substitute.len())
                .unwrap_or_else(|| Zeroizing::new(substitute.to_vec())),
        };
        let failed = |_| Malformed::new("OpenSSL does not decrypt", "EnvelopedData");
        let mut crypter = Crypter::new(engine, Mode::Decrypt, &content_key, Some(self.iv)).map_err(failed)?;
        crypter.pad(false);
        let mut plain = Zeroizing::new(vec![0; self.ciphertext.len() + cipher.block()]);
        let mut used = crypter.update(&self.ciphertext, &mut plain).map_err(failed)?;
        used += crypter.finalize(plain.get_mut(used..).unwrap_or_default()).map_err(failed)?;
        plain.truncate(used);
        let padding = usize::from(plain.last().copied().unwrap_or(0));
        let right = (1..=cipher.block()).contains(&padding)
            && plain.iter().rev().take(padding).fold(0, |sum, byte| sum | (usize::from(*byte) ^ padding)) == 0;
        if right {
            plain.truncate(used - padding);
        }
        Ok(plain)
    }
}

impl<'a> Recipient<'a> {
    fn read(info: &Element<'a>) -> Result<Self, Malformed> {
        let mut fields = info.reader();
        fields.expect(asn1::INTEGER, "RecipientInfo version")?;
        let identifier = Identifier::of(&fields.element()?)?;
        let transport = Transport::read(&Algorithm::read(&mut fields)?)?;
        let encrypted_key = fields.expect(asn1::OCTET_STRING, "encryptedKey")?.value;
        fields.end()?;
        Ok(Self { identifier, transport, encrypted_key })
    }
}

/// Takes the key out of an RSAES-PKCS1-v1_5 block of known length in constant shape (RFC 3218 2.3.2): the raw RSA result is compared octet by
/// octet without branching, and either its tail or the substitute is chosen by mask.
fn unwrap_pkcs1(key: &PKey<Private>, wrapped: &[u8], substitute: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut chosen = Zeroizing::new(substitute.to_vec());
    let Ok(rsa) = key.rsa() else { return chosen };
    let size = usize::try_from(rsa.size()).unwrap_or(0);
    let mut block = Zeroizing::new(vec![0; size]);
    // Both failures are visible to the sender: a length that is not the key's, a number beyond the modulus.
    if wrapped.len() != size || rsa.private_decrypt(wrapped, &mut block, Padding::NONE).is_err() {
        return chosen;
    }
    let Some(padding_end) = size.checked_sub(substitute.len() + 1) else { return chosen };
    let (head, tail) = block.split_at(padding_end + 1);
    let mut wrong = 0u8;
    for (at, octet) in head.iter().enumerate() {
        wrong |= match at {
            0 => *octet,
            1 => *octet ^ 2,
            at if at == padding_end => *octet,
            // 1 when the octet is zero, without a branch.
            _ => u8::try_from((u16::from(*octet).wrapping_sub(1) >> 8) & 1).unwrap_or(1),
        };
    }
    let take = u8::try_from((u16::from(wrong).wrapping_sub(1) >> 8) & 1).unwrap_or(0).wrapping_neg();
    for (octet, found) in chosen.iter_mut().zip(tail) {
        *octet = (*octet & !take) | (found & take);
    }
    chosen
}

fn unwrap_oaep(key: &PKey<Private>, transport: Transport, wrapped: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let Transport::Oaep(digest, mask) = transport else { return None };
    let mut engine = Decrypter::new(key).ok()?;
    engine.set_rsa_padding(Padding::PKCS1_OAEP).ok()?;
    engine.set_rsa_oaep_md(digest.openssl()).ok()?;
    engine.set_rsa_mgf1_md(mask.openssl()).ok()?;
    let mut plain = Zeroizing::new(vec![0; engine.decrypt_len(wrapped).ok()?]);
    let length = engine.decrypt(wrapped, &mut plain).ok()?;
    plain.truncate(length);
    Some(plain)
}

/// Seals `content` for the owner of a certificate (RSA), under a fresh content key and vector that the caller brings: `key` of the
/// cipher's key length and `iv` of its block. The wrapping is RSAES-PKCS1-v1_5, which every client understands.
///
/// # Errors
/// [`Malformed`] when the recipient's key is not RSA of a usable size, or the lengths are wrong.
pub fn seal(content: &[u8], recipient: &CertificateView<'_>, cipher: Cipher, key: &[u8], iv: &[u8]) -> Result<Vec<u8>, Malformed> {
    seal_by(content, recipient, &recipient.public_key()?, cipher, key, iv)
}

/// The same by the public key of the recipient's certificate, for a caller that has it already.
///
/// # Errors
/// Those of [`seal`].
pub fn seal_by(
    content: &[u8],
    recipient: &CertificateView<'_>,
    public: &PKey<Public>,
    cipher: Cipher,
    key: &[u8],
    iv: &[u8],
) -> Result<Vec<u8>, Malformed> {
    let failed = |_| Malformed::new("OpenSSL does not encrypt", "EnvelopedData");
    let engine = cipher.openssl().ok_or_else(|| Malformed::new("forbidden cipher", "EnvelopedData"))?;
    if key.len() != cipher.key_length() || iv.len() != cipher.block() {
        return Err(Malformed::new("key or vector of wrong length", "EnvelopedData"));
    }
    if public.id() != openssl::pkey::Id::RSA || !RSA_KEY_BITS.contains(&public.bits()) {
        return Err(Malformed::new("the recipient's key is not RSA of a usable size", "EnvelopedData"));
    }
    let mut wrapper = Encrypter::new(public).map_err(failed)?;
    wrapper.set_rsa_padding(Padding::PKCS1).map_err(failed)?;
    let mut wrapped = vec![0; wrapper.encrypt_len(key).map_err(failed)?];
    let length = wrapper.encrypt(key, &mut wrapped).map_err(failed)?;
    wrapped.truncate(length);
    let ciphertext = encrypt(engine, key, Some(iv), content).map_err(failed)?;
    let info = asn1::wrap(
        asn1::SEQUENCE,
        &[
            &asn1::number(0),
            &recipient.issuer_and_serial(),
            &identifier(RSA_ENCRYPTION, &[asn1::NULL, 0]),
            &asn1::tlv(asn1::OCTET_STRING, &wrapped),
        ],
    );
    let encrypted = asn1::wrap(
        asn1::SEQUENCE,
        &[
            &asn1::tlv(asn1::OID, DATA),
            &identifier(cipher.oid(), &asn1::tlv(asn1::OCTET_STRING, iv)),
            &asn1::tlv(asn1::context_primitive(0), &ciphertext),
        ],
    );
    let body = asn1::wrap(asn1::SEQUENCE, &[&asn1::number(0), &asn1::tlv(asn1::SET, &info), &encrypted]);
    Ok(wrap(ENVELOPED_DATA, &body))
}
