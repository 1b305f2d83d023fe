//! Taking a message apart: everything that needs no database. Runs on a blocking thread.

use std::sync::Arc;

use openssl::sha::sha256;

use super::Rules;
use crate::domain::scep::{Reason, accepts_digest, judge_fault};
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
    /// Which of our keys the message was sealed for: the answer is signed with it, since the client knows that one.
    pub(super) registration: usize,
}

impl Echo {
    /// SHA-256 of the signer's public key, in hexadecimal.
    pub(super) fn signer_hash(&self) -> String {
        CertificateView::parse(&self.signer).map(|view| hex::encode(sha256(view.spki))).unwrap_or_default()
    }
}

/// What is asked for.
#[derive(Debug)]
pub(super) enum Asked {
    Certificate(Box<Enrolment>),
    Poll,
    Copy { issuer: Vec<u8>, serial: Vec<u8> },
    Crl { issuer: Vec<u8> },
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

/// Why a message is refused, and what the client is told.
pub(super) type Refused = (Reason, FailInfo);

fn refuse(reason: Reason) -> Refused {
    (reason, reason.fail_info())
}

/// Opens a message.
///
/// The outer result says whether there is anything to answer to; the inner one whether it is a request that can be decided on.
pub(super) fn open(
    bytes: &[u8],
    keys: &[Arc<ServiceKey>],
    rules: Rules,
    substitute: &[u8; 32],
) -> Result<(Echo, Result<Asked, Refused>), Malformed> {
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
        registration: 0,
    };
    let asked = match digest {
        None => Err(refuse(Reason::AlgorithmRefused)),
        Some(_) => unpack(&message, keys, rules, substitute, &mut echo),
    };
    Ok((echo, asked))
}

fn unpack(message: &Message<'_>, keys: &[Arc<ServiceKey>], rules: Rules, substitute: &[u8; 32], echo: &mut Echo) -> Result<Asked, Refused> {
    // Steps 2 and 3: one signer, its certificate, digest and signature; each attribute once.
    let verified = message.verify().map_err(judge_fault)?;
    echo.signer = verified.signer.raw.to_vec();
    let broken = || refuse(Reason::CertificateRequestDecodingFailed);
    let content = verified.content.ok_or_else(broken)?;
    let inner = ber::to_der(content).map_err(|_| broken())?;
    let envelope = EnvelopedData::parse(&inner).map_err(|_| broken())?;
    let cipher = envelope.cipher.filter(|cipher| match cipher {
        Cipher::Des => false,
        Cipher::TripleDes => rules.allow_3des,
        Cipher::Aes128 | Cipher::Aes192 | Cipher::Aes256 => true,
    });
    echo.cipher = cipher.ok_or_else(|| refuse(Reason::AlgorithmRefused))?;
    // Step 4: the recipient is one of our registration keys; a lone recipient is tried even when its name is not ours (a client may hold
    // an older certificate of the same key).
    let views: Vec<_> = keys.iter().map(|key| CertificateView::parse(&key.certificate)).collect::<Result<_, _>>().unwrap_or_default();
    let named = envelope
        .recipients
        .iter()
        .find_map(|recipient| views.iter().position(|view| recipient.identifier.names(view)).map(|position| (recipient, position)));
    let lone = match envelope.recipients.as_slice() {
        [only] => Some((only, 0)),
        _ => None,
    };
    let (recipient, position) = named.or(lone).ok_or_else(broken)?;
    if recipient.transport.is_none() {
        return Err(refuse(Reason::AlgorithmRefused));
    }
    echo.registration = position;
    let key = keys.get(position).ok_or_else(broken)?;
    // Step 5: whatever does not open becomes bytes without meaning, and fails below like any other garbage.
    let plain = envelope.open(recipient, key.key.pkey(), substitute).map_err(|_| broken())?;
    match verified.message_type {
        MessageType::PkcsReq | MessageType::RenewalReq => {
            let own_key = |request: &Request| request.spki == verified.signer.spki;
            let der = exact(&plain);
            let request = Request::parse(der).map_err(|_| broken())?;
            // Step 6: the request proves possession of its key.
            request.verify().map_err(|_| broken())?;
            if !request.digest().is_some_and(|digest| accepts_digest(digest, rules.allow_sha1)) {
                return Err(refuse(Reason::AlgorithmRefused));
            }
            let renewal = verified.message_type == MessageType::RenewalReq;
            let own_key = own_key(&request);
            Ok(Asked::Certificate(Box::new(Enrolment { renewal, own_key, der: der.to_vec(), request })))
        }
        MessageType::CertPoll => {
            // Polls are found by transaction and signer; the names inside only have to be there.
            asn1::single(exact(&plain), asn1::SEQUENCE, "IssuerAndSubject").map_err(|_| broken())?;
            Ok(Asked::Poll)
        }
        MessageType::GetCert | MessageType::GetCrl => {
            let Ok(Identifier::IssuerAndSerial { issuer, serial }) = read_issuer_and_serial(exact(&plain)) else {
                return Err(broken());
            };
            let (issuer, serial) = (issuer.to_vec(), serial.to_vec());
            Ok(if verified.message_type == MessageType::GetCert { Asked::Copy { issuer, serial } } else { Asked::Crl { issuer } })
        }
        MessageType::CertRep => Err(refuse(Reason::SignatureValidationFailed)),
    }
}

/// The first element alone: some clients leave their own padding behind it.
fn exact(plain: &[u8]) -> &[u8] {
    asn1::Reader::lenient(plain).element().map_or(plain, |element| element.raw)
}
