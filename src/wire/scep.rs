//! Simple Certificate Enrolment Protocol (RFC 8894): messages of both sides, and what travels around them.

use std::collections::BTreeSet;

use openssl::pkey::{PKey, Public};

use super::Malformed;
use super::asn1;
use super::cms::{self, Broken, CertificateView, Digest, Identifier, SIGNING_TIME, SignedData, Signer, SignerInfo};

/// The attribute types of RFC 8894 3.2.1: 2.16.840.1.113733.1.9.x.
const fn attribute(last: u8) -> [u8; 10] {
    [0x60, 0x86, 0x48, 0x01, 0x86, 0xf8, 0x45, 0x01, 0x09, last]
}
const MESSAGE_TYPE: [u8; 10] = attribute(2);
const PKI_STATUS: [u8; 10] = attribute(3);
const FAIL_INFO: [u8; 10] = attribute(4);
const SENDER_NONCE: [u8; 10] = attribute(5);
const RECIPIENT_NONCE: [u8; 10] = attribute(6);
const TRANSACTION_ID: [u8; 10] = attribute(7);
/// `id-scep-failInfoText`, 1.3.6.1.5.5.7.24.1.
const FAIL_INFO_TEXT: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 24, 1];
/// Longest transaction identifier and nonce we echo, in octets.
const TRANSACTION: usize = 255;
const NONCE: usize = 64;

/// What a message is (RFC 8894 3.2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageType {
    /// An answer.
    CertRep,
    /// A request signed with the certificate that it renews; type 18 of the drafts is read as this.
    RenewalReq,
    /// A request signed with a self-signed certificate.
    PkcsReq,
    /// A question after a pending request.
    CertPoll,
    /// A question for a certificate.
    GetCert,
    /// A question for a revocation list.
    GetCrl,
}

impl MessageType {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "3" => Self::CertRep,
            "17" | "18" => Self::RenewalReq,
            "19" => Self::PkcsReq,
            "20" => Self::CertPoll,
            "21" => Self::GetCert,
            "22" => Self::GetCrl,
            _ => return None,
        })
    }

    fn text(self) -> &'static str {
        match self {
            Self::CertRep => "3",
            Self::RenewalReq => "17",
            Self::PkcsReq => "19",
            Self::CertPoll => "20",
            Self::GetCert => "21",
            Self::GetCrl => "22",
        }
    }
}

/// Why a request failed (RFC 8894 3.2.1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailInfo {
    /// Algorithm unknown or forbidden.
    BadAlg,
    /// Integrity check failed.
    BadMessageCheck,
    /// Transaction not permitted.
    BadRequest,
    /// The message time was not close to ours.
    BadTime,
    /// No certificate matches.
    BadCertId,
}

impl FailInfo {
    /// All of them, by number.
    pub const ALL: &'static [Self] = &[Self::BadAlg, Self::BadMessageCheck, Self::BadRequest, Self::BadTime, Self::BadCertId];

    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::BadAlg => 0,
            Self::BadMessageCheck => 1,
            Self::BadRequest => 2,
            Self::BadTime => 3,
            Self::BadCertId => 4,
        }
    }

    /// The name in RFC 8894.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadAlg => "badAlg",
            Self::BadMessageCheck => "badMessageCheck",
            Self::BadRequest => "badRequest",
            Self::BadTime => "badTime",
            Self::BadCertId => "badCertId",
        }
    }
}

/// What an answer says (RFC 8894 3.2.1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Granted: the EnvelopedData with the certificates or revocation list.
    Success(Vec<u8>),
    /// Refused.
    Failure(FailInfo, Option<String>),
    /// Not decided yet.
    Pending,
}

/// Why a message that can be answered is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The signature.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// Not exactly one signer.
    #[error("not exactly one signer")]
    Signers,
    /// No message type, or one we do not know.
    #[error("no known message type")]
    MessageType,
    /// No sender nonce, or one of absurd length.
    #[error("no usable sender nonce")]
    Nonce,
    /// An answer whose status, failure or content do not fit together.
    #[error("the parts of the answer do not fit together")]
    Answer,
}

impl Fault {
    /// What to answer.
    #[must_use]
    pub fn fail_info(self) -> FailInfo {
        match self {
            Self::Broken(Broken::Algorithm) => FailInfo::BadAlg,
            Self::Broken(Broken::Attributes | Broken::Unattributed) => FailInfo::BadRequest,
            Self::Broken(Broken::Content | Broken::NoCertificate | Broken::Signature) => FailInfo::BadMessageCheck,
            Self::Signers | Self::MessageType | Self::Nonce | Self::Answer => FailInfo::BadRequest,
        }
    }
}

/// A pkiMessage that has at least what an answer must echo; nothing in it is checked yet.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    signed: SignedData<'a>,
    /// The transaction identifier as text.
    pub transaction_id: String,
    /// The transaction identifier's element as it came, to be echoed.
    pub transaction_id_raw: &'a [u8],
    /// The sender's nonce; empty when there is none.
    pub sender_nonce: &'a [u8],
    /// The digest that the sender uses; `None` when we do not know it.
    pub digest: Option<Digest>,
}

/// A pkiMessage whose signature holds.
#[derive(Clone, Debug)]
pub struct Verified<'a> {
    /// What it is.
    pub message_type: MessageType,
    /// The signer's certificate: genuine as to the key, nothing else is known of it.
    pub signer: CertificateView<'a>,
    /// The key in that certificate.
    pub signer_key: PKey<Public>,
    /// The digest that the sender uses.
    pub digest: Digest,
    /// When the sender says to have signed, in seconds since 1970.
    pub signed_at: Option<i64>,
    /// The EnvelopedData.
    pub content: Option<&'a [u8]>,
    /// Whose nonce an answer answers; empty in requests.
    pub recipient_nonce: &'a [u8],
    /// What an answer says; `None` in requests.
    pub status: Option<Status>,
}

impl<'a> Message<'a> {
    /// Reads a pkiMessage in definite lengths (see [`cms::ber::to_der`]).
    ///
    /// # Errors
    /// [`Malformed`] when it is none, or has no transaction identifier to answer under.
    pub fn parse(der: &'a [u8]) -> Result<Self, Malformed> {
        let signed = SignedData::parse(der)?;
        let signer = signed.signers.first().ok_or_else(|| Malformed::new("nobody signed", "pkiMessage"))?;
        let id = signer.attribute(&TRANSACTION_ID).ok_or_else(|| Malformed::new("missing", "transactionID"))?;
        let text = asn1::string(&id).filter(|text| (1..=TRANSACTION).contains(&text.len()));
        let text = text.filter(|text| text.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
        let transaction_id = text.ok_or_else(|| Malformed::new("not 1 to 255 printable characters", "transactionID"))?;
        let sender_nonce = octets(signer, &SENDER_NONCE);
        Ok(Self { transaction_id, transaction_id_raw: id.raw, sender_nonce, digest: signer.digest, signed })
    }

    /// Checks form and signature.
    ///
    /// # Errors
    /// [`Fault`] says what is wrong.
    pub fn verify(&self) -> Result<Verified<'a>, Fault> {
        let [signer] = self.signed.signers.as_slice() else { return Err(Fault::Signers) };
        let digest = signer.digest.filter(|d| *d != Digest::Md5).ok_or(Broken::Algorithm)?;
        let (certificate, signer_key) = self.signed.verify_with_key(signer)?;
        let text = |oid: &[u8]| signer.attribute(oid).as_ref().and_then(asn1::string);
        let message_type = text(&MESSAGE_TYPE).and_then(|t| MessageType::parse(&t)).ok_or(Fault::MessageType)?;
        if self.sender_nonce.is_empty() || self.sender_nonce.len() > NONCE {
            return Err(Fault::Nonce);
        }
        let status = match (message_type, text(&PKI_STATUS).as_deref(), self.signed.content) {
            (MessageType::CertRep, Some("0"), Some(content)) => Some(Status::Success(content.to_vec())),
            (MessageType::CertRep, Some("3"), None) => Some(Status::Pending),
            (MessageType::CertRep, Some("2"), None) => {
                let number = text(&FAIL_INFO).and_then(|n| n.parse().ok());
                let info = FailInfo::ALL.iter().find(|info| Some(info.number()) == number).ok_or(Fault::Answer)?;
                Some(Status::Failure(*info, text(FAIL_INFO_TEXT)))
            }
            (MessageType::CertRep, ..) => return Err(Fault::Answer),
            _ => None,
        };
        Ok(Verified {
            message_type,
            signer: certificate,
            signer_key,
            digest,
            signed_at: signer.attribute(SIGNING_TIME).and_then(|value| value.time().ok()),
            content: self.signed.content,
            recipient_nonce: octets(signer, &RECIPIENT_NONCE),
            status,
        })
    }
}

fn octets<'a>(signer: &SignerInfo<'a>, oid: &[u8]) -> &'a [u8] {
    signer.attribute(oid).filter(|value| value.tag == asn1::OCTET_STRING).map(|value| value.value).unwrap_or_default()
}

fn printable(text: &str) -> Vec<u8> {
    asn1::tlv(asn1::PRINTABLE_STRING, text.as_bytes())
}

/// An answer.
#[derive(Clone, Debug)]
pub struct CertRep<'a> {
    /// The request's transaction identifier, as [`Message::transaction_id_raw`] has it.
    pub transaction_id_raw: &'a [u8],
    /// The request's sender nonce; left out when empty.
    pub recipient_nonce: &'a [u8],
    /// Sixteen fresh random octets.
    pub sender_nonce: &'a [u8],
    /// What it says.
    pub status: &'a Status,
}

impl CertRep<'_> {
    /// Signs the answer.
    ///
    /// # Errors
    /// [`Malformed`] when the signer cannot sign.
    pub fn sign(&self, signer: &Signer<'_>) -> Result<Vec<u8>, Malformed> {
        let (number, content) = match self.status {
            Status::Success(content) => ("0", Some(content.as_slice())),
            Status::Failure(..) => ("2", None),
            Status::Pending => ("3", None),
        };
        let mut attributes: Vec<(&[u8], Vec<u8>)> = vec![
            (&TRANSACTION_ID, self.transaction_id_raw.to_vec()),
            (&MESSAGE_TYPE, printable(MessageType::CertRep.text())),
            (&PKI_STATUS, printable(number)),
            (&SENDER_NONCE, asn1::tlv(asn1::OCTET_STRING, self.sender_nonce)),
        ];
        if !self.recipient_nonce.is_empty() {
            attributes.push((&RECIPIENT_NONCE, asn1::tlv(asn1::OCTET_STRING, self.recipient_nonce)));
        }
        if let Status::Failure(info, text) = self.status {
            attributes.push((&FAIL_INFO, printable(&info.number().to_string())));
            if let Some(text) = text {
                attributes.push((FAIL_INFO_TEXT, asn1::tlv(asn1::UTF8_STRING, text.as_bytes())));
            }
        }
        cms::sign(content, &attributes, signer)
    }
}

/// A request.
#[derive(Clone, Debug)]
pub struct PkiRequest<'a> {
    /// What it is.
    pub message_type: MessageType,
    /// Names the transaction.
    pub transaction_id: &'a str,
    /// Sixteen fresh random octets.
    pub sender_nonce: &'a [u8],
    /// The EnvelopedData.
    pub content: &'a [u8],
}

impl PkiRequest<'_> {
    /// Signs the request.
    ///
    /// # Errors
    /// [`Malformed`] when the signer cannot sign.
    pub fn sign(&self, signer: &Signer<'_>) -> Result<Vec<u8>, Malformed> {
        let attributes: [(&[u8], Vec<u8>); 3] = [
            (&TRANSACTION_ID, printable(self.transaction_id)),
            (&MESSAGE_TYPE, printable(self.message_type.text())),
            (&SENDER_NONCE, asn1::tlv(asn1::OCTET_STRING, self.sender_nonce)),
        ];
        cms::sign(Some(self.content), &attributes, signer)
    }
}

/// The payload of a CertPoll (RFC 8894 3.3.3): issuer and subject as encoded Names.
#[must_use]
pub fn issuer_and_subject(issuer: &[u8], subject: &[u8]) -> Vec<u8> {
    asn1::wrap(asn1::SEQUENCE, &[issuer, subject])
}

/// Reads the payload of GetCert and GetCRL (RFC 8894 3.3.4, 3.3.5).
///
/// # Errors
/// [`Malformed`] when it is no IssuerAndSerialNumber.
pub fn read_issuer_and_serial(der: &[u8]) -> Result<Identifier<'_>, Malformed> {
    Identifier::issuer_and_serial(&asn1::single(der, asn1::SEQUENCE, "IssuerAndSerialNumber")?)
}

/// What a server can do (RFC 8894 3.5.2): the keywords of GetCACaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(BTreeSet<String>);

impl Capabilities {
    /// The capabilities with these keywords.
    #[must_use]
    pub fn new(words: &[&str]) -> Self {
        Self(words.iter().map(|word| (*word).to_owned()).collect())
    }

    /// Reads the answer to GetCACaps; unknown keywords are kept, blank lines passed over.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self(text.lines().map(str::trim).filter(|line| !line.is_empty()).take(64).map(str::to_owned).collect())
    }

    /// Whether the server can do that. `SCEPStandard` implies AES, POST and SHA-256.
    #[must_use]
    pub fn has(&self, word: &str) -> bool {
        let standard = matches!(word, "AES" | "POSTPKIOperation" | "SHA-256") && self.0.contains("SCEPStandard");
        standard || self.0.contains(word)
    }

    /// One keyword a line, with neither blank line nor line end after the last: strongSwan compares by the *line's* length, so that an empty
    /// line would turn every capability on.
    #[must_use]
    pub fn text(&self) -> String {
        self.0.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

/// Reads the `message` of a GET request, percent-decoded already: base64 in either alphabet, with or without padding, with white space for
/// unescaped `+` and line breaks in between, as clients send it.
///
/// # Errors
/// [`Malformed`] when it is no base64.
pub fn decode_get_message(text: &[u8]) -> Result<Vec<u8>, Malformed> {
    use base64::Engine as _;
    use base64::alphabet::STANDARD;
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true),
    );
    let plain: Vec<u8> = text
        .iter()
        .filter(|byte| !matches!(byte, b'\r' | b'\n' | b'\t'))
        .map(|byte| match byte {
            b' ' | b'-' => b'+',
            b'_' => b'/',
            other => *other,
        })
        .collect();
    LENIENT.decode(plain).map_err(|_| Malformed::new("not base64", "message"))
}

#[cfg(test)]
mod tests;
