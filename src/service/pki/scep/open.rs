//! Taking a message apart: everything that needs no database. Runs on a blocking thread.

use std::borrow::Cow;
use std::sync::Arc;

use openssl::pkey::{PKey, Public};
use openssl::sha::sha256;

use super::Rules;
use crate::clock::Time;
use crate::domain::scep::{Reason, accepts_digest, judge_fault};
use crate::secret::{Secret, hmac_sha256};
use crate::service::pki::keys::ServiceKey;
use crate::wire::cms::{CertificateView, Cipher, Digest, EnvelopedData, Identifier, ber};
use crate::wire::pkcs10::Request;
use crate::wire::scep::{FailInfo, Message, MessageType, read_issuer_and_serial};
use crate::wire::{Malformed, asn1};

/// What an answer needs of the message.
#[derive(Clone, Debug)]
pub(super) struct Echo {
    pub(super) transaction_id: String,
    pub(super) transaction_id_raw: Vec<u8>,
    pub(super) nonce: Vec<u8>,
    pub(super) digest: Digest,
    pub(super) cipher: Cipher,
    /// The signer's certificate; empty when the message could not be trusted that far.
    pub(super) signer: Vec<u8>,
    /// The signer's key, when there is a certificate.
    pub(super) signer_key: Option<PKey<Public>>,
    /// SHA-256 of the signer's public key, in hexadecimal; empty as above.
    pub(super) signer_hash: String,
    /// Which of our keys the message was sealed for: the answer is signed with it, since the client knows that one.
    pub(super) registration: usize,
}

/// What is asked for.
#[derive(Debug)]
pub(super) enum Asked {
    Certificate(Box<Enrolment>),
    Poll,
    /// By issuer and serial number; `None` when the payload is nothing of the kind.
    Copy(Option<(Vec<u8>, Vec<u8>)>),
    /// By issuer; `None` as above.
    Crl(Option<Vec<u8>>),
}

/// A certification request that proves possession of its key.
#[derive(Clone, Debug)]
pub(super) struct Enrolment {
    pub(super) renewal: bool,
    pub(super) request: Request,
    pub(super) der: Vec<u8>,
    /// Whether the signer's key is the request's.
    pub(super) own_key: bool,
}

/// Why a message is refused.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) reason: Reason,
    /// What the client is told.
    pub(super) info: FailInfo,
    /// What exactly is refused, for the audit log: short, and nothing of what the message holds.
    pub(super) detail: Cow<'static, str>,
}

/// Why a message is no request that can be decided on.
#[derive(Debug)]
pub(super) enum Unopened {
    /// As far as it says it is sealed for a key that is not known here.
    Foreign,
    /// It is refused.
    Refused(Refused),
}

fn refuse(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Unopened {
    Unopened::Refused(Refused { reason, info: reason.fail_info(), detail: detail.into() })
}

/// Opens a message.
///
/// The outer result says whether there is anything to answer to; the inner one whether it is a request that can be decided on.
pub(super) fn open(
    bytes: &[u8],
    keys: &[Arc<ServiceKey>],
    rules: Rules,
    secret: &Secret,
) -> Result<(Echo, Result<Asked, Unopened>), Malformed> {
    // RFC 8894 3.2, step 1: bounded conversion to definite lengths, then the outer form.
    let der = ber::to_der(bytes)?;
    let message = Message::parse(&der)?;
    let digest = message.digest.filter(|digest| accepts_digest(*digest, rules.allow_sha1));
    let mut echo = Echo {
        transaction_id: message.transaction_id.clone(),
        transaction_id_raw: message.transaction_id_raw.to_vec(),
        nonce: message.sender_nonce.get(..message.sender_nonce.len().min(64)).unwrap_or_default().to_vec(),
        digest: digest.unwrap_or(Digest::Sha256),
        cipher: Cipher::Aes128,
        signer: Vec::new(),
        signer_key: None,
        signer_hash: String::new(),
        registration: 0,
    };
    let asked = match digest {
        None => Err(refuse(Reason::AlgorithmRefused, "the digest of the signature")),
        Some(_) => unpack(&message, keys, rules, secret, &mut echo),
    };
    Ok((echo, asked))
}

fn unpack(message: &Message<'_>, keys: &[Arc<ServiceKey>], rules: Rules, secret: &Secret, echo: &mut Echo) -> Result<Asked, Unopened> {
    // Steps 2 and 3: one signer, its certificate, digest and signature; each attribute once.
    let verified = message.verify().map_err(|fault| {
        let (reason, info) = judge_fault(fault);
        Unopened::Refused(Refused { reason, info, detail: fault.to_string().into() })
    })?;
    echo.signer = verified.signer.raw.to_vec();
    echo.signer_hash = hex::encode(sha256(verified.signer.spki));
    echo.signer_key = Some(verified.signer_key.clone());
    if let Some(signed) = verified.signed_at.map(Time::from_seconds).filter(|signed| rules.now.since(*signed).saturating_abs() > rules.skew)
    {
        return Err(refuse(Reason::ClockWrong, format!("signed at {signed}")));
    }
    let broken = |what: &'static str| refuse(Reason::CertificateRequestDecodingFailed, what);
    let content = verified.content.ok_or_else(|| broken("there is no content"))?;
    let inner = ber::to_der(content).map_err(|_| broken("the content is not BER"))?;
    let envelope = EnvelopedData::parse(&inner).map_err(|_| broken("the content is no envelope"))?;
    let cipher = envelope.cipher.filter(|cipher| match cipher {
        Cipher::Des => false,
        Cipher::TripleDes => rules.allow_3des,
        Cipher::Aes128 | Cipher::Aes192 | Cipher::Aes256 => true,
    });
    echo.cipher = cipher.ok_or_else(|| refuse(Reason::AlgorithmRefused, "the cipher of the envelope"))?;
    // Step 4: the recipient is one of our registration keys; a lone recipient is tried even when its name is not ours (a client may hold
    // an older certificate of the same key).
    let views: Vec<_> = keys.iter().map(|key| CertificateView::parse(&key.certificate)).collect::<Result<_, _>>().unwrap_or_default();
    let named = envelope
        .recipients
        .iter()
        .find_map(|recipient| views.iter().position(|view| recipient.identifier.names(view)).map(|position| (recipient, position)));
    if named.is_none() && rules.may_refresh {
        return Err(Unopened::Foreign);
    }
    let lone = match envelope.recipients.as_slice() {
        [only] => Some((only, 0)),
        _ => None,
    };
    let (recipient, position) = named.or(lone).ok_or_else(|| broken("no recipient of the envelope is ours"))?;
    if recipient.transport.is_none() {
        return Err(refuse(Reason::AlgorithmRefused, "the key transport of the envelope"));
    }
    echo.registration = position;
    let key = keys.get(position).ok_or_else(|| broken("there is no registration key"))?;
    // Polls are found by transaction and signer: their payload is not opened, since whatever depended on it would tell a stranger what an
    // envelope holds that he has captured.
    if verified.message_type == MessageType::CertPoll {
        return Ok(Asked::Poll);
    }
    // Step 5: whatever does not open becomes bytes without meaning, and fails below like any other garbage; the same envelope always
    // becomes the same bytes, so that asking again tells nothing either.
    // From here on one text for all: it may not tell either what an envelope holds that somebody has captured.
    let unopened = || broken("the envelope does not open to a sound request");
    let substitute = substitute(secret, recipient.encrypted_key).map_err(|_| unopened())?;
    let plain = envelope.open(recipient, key.key.pkey(), &substitute).map_err(|_| unopened())?;
    match verified.message_type {
        MessageType::PkcsReq | MessageType::RenewalReq => {
            let der = first(&plain);
            let request = Request::parse(der).map_err(|_| unopened())?;
            let own_key = request.spki == verified.signer.spki;
            // A request within somebody else's message may be a captured one, with something behind it that the padding would tell of.
            if !own_key && der.len() != plain.len() {
                return Err(unopened());
            }
            // Step 6: the request proves possession of its key.
            let proven = if own_key { request.verify_by(&verified.signer_key) } else { request.verify() };
            proven.map_err(|_| unopened())?;
            if !request.digest().is_some_and(|digest| accepts_digest(digest, rules.allow_sha1)) {
                return Err(refuse(Reason::AlgorithmRefused, "the digest of the request"));
            }
            let renewal = verified.message_type == MessageType::RenewalReq;
            Ok(Asked::Certificate(Box::new(Enrolment { renewal, own_key, der: der.to_vec(), request })))
        }
        MessageType::GetCert => Ok(Asked::Copy(name(&plain))),
        MessageType::GetCrl => Ok(Asked::Crl(name(&plain).map(|(issuer, _)| issuer))),
        MessageType::CertPoll | MessageType::CertRep => Err(refuse(Reason::SignatureValidationFailed, "the message is an answer")),
    }
}

/// What stands for a content key that does not unwrap.
fn substitute(secret: &Secret, encrypted_key: &[u8]) -> Result<[u8; 32], openssl::error::ErrorStack> {
    // The label keeps these apart from the check values of challenges, which begin with their version.
    hmac_sha256(secret.expose(), &[b"scep content key", encrypted_key].concat())
}

/// Issuer and serial number of a certificate.
fn name(plain: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    match read_issuer_and_serial(first(plain)) {
        Ok(Identifier::IssuerAndSerial { issuer, serial }) => Some((issuer.to_vec(), serial.to_vec())),
        _ => None,
    }
}

/// The first element alone: some clients leave their own padding behind it.
fn first(plain: &[u8]) -> &[u8] {
    asn1::Reader::lenient(plain).element().map_or(plain, |element| element.raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_envelope_always_becomes_the_same_bytes() {
        let (ours, others) = (Secret::new(vec![1; 32]), Secret::new(vec![2; 32]));
        let first = substitute(&ours, b"envelope").unwrap();
        assert_eq!(substitute(&ours, b"envelope").unwrap(), first);
        assert_ne!(substitute(&ours, b"another").unwrap(), first);
        assert_ne!(substitute(&others, b"envelope").unwrap(), first, "nobody else can tell which");
    }
}
