//! The SCEP client of simulated devices: asks what the server can do and who it is, requests a certificate with a challenge, polls while
//! the request waits, renews with the certificate it has.

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::pkey::{PKey, Private};
use openssl::rand::rand_bytes;
use openssl::rsa::Rsa;
use openssl::sha::sha256;
use openssl::x509::{X509, X509NameBuilder};
use reqwest::Url;

use super::http::{Client, after};
use crate::clock::Time;
use crate::wire::Malformed;
use crate::wire::cms::{CertificateView, Cipher, Digest, EnvelopedData, SignedData, Signer, ber, seal};
use crate::wire::pkcs10::{Wish, build};
use crate::wire::scep::{Capabilities, FailInfo, Message, MessageType, PkiRequest, Status, issuer_and_subject};

/// Bits of a device's key, as the Windows client makes it.
const KEY_BITS: u32 = 2048;

/// Why enrolment failed on the device's side.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server cannot be reached.
    #[error("connection: {0}")]
    Connection(#[from] std::io::Error),
    /// The server answered with that status, and said that.
    #[error("HTTP status {}{}", .0, after(.1))]
    Http(u16, String),
    /// The server's answer does not follow the protocol.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The server said no.
    #[error("refused: {}", .0.as_str())]
    Refused(FailInfo),
    /// The answer does not belong to the question, or is not signed by the registration authority.
    #[error("the answer does not belong to the request")]
    Foreign,
    /// The server did not decide for as long as the device asks.
    #[error("not decided in time")]
    Undecided,
    /// OpenSSL failed.
    #[error("crypto: {0}")]
    Crypto(#[from] openssl::error::ErrorStack),
    /// The URL cannot be parsed.
    #[error("not a URL: {0}")]
    Url(String),
}

/// How a device goes about it.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Content cipher of requests.
    pub cipher: Cipher,
    /// Digest of signatures.
    pub digest: Digest,
}

impl Default for Options {
    fn default() -> Self {
        Self { cipher: Cipher::Aes128, digest: Digest::Sha256 }
    }
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Identity {
    /// The certificate, DER.
    pub certificate: Vec<u8>,
    /// Its key.
    pub key: PKey<Private>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("certificate", &hex::encode(sha256(&self.certificate))).finish_non_exhaustive()
    }
}

/// What came of a request.
#[derive(Debug)]
pub enum Outcome {
    /// The certificate.
    Issued(Identity),
    /// Not decided yet: poll with this.
    Pending(Box<Waiting>),
}

/// A request that waits for a decision.
#[derive(Debug)]
pub struct Waiting {
    transaction_id: String,
    key: PKey<Private>,
    /// Who asked, and has to ask again: the certificate that renews itself, or a wrapper of the new key.
    signer: Identity,
}

/// A server as the device knows it.
#[derive(Clone, Debug)]
pub struct Server {
    url: Url,
    options: Options,
    /// What it can do.
    pub capabilities: Capabilities,
    /// All certificates it named: the registration authority's first.
    pub certificates: Vec<Vec<u8>>,
}

impl Server {
    /// Gets to know the server at `url` (GetCACaps, GetCACert), as Windows appends its suffix to it.
    ///
    /// # Errors
    /// [`Error`] says what went wrong.
    pub async fn discover(http: &mut Client, url: &str, options: Options) -> Result<Self, Error> {
        Self::discover_at(http, &format!("{}/pkiclient.exe", url.trim_end_matches('/')), "default", options).await
    }

    /// The same at exactly that URL, which has no query of its own; `name` goes along as the authority's.
    ///
    /// # Errors
    /// [`Error`] says what went wrong.
    pub async fn discover_at(http: &mut Client, url: &str, name: &str, options: Options) -> Result<Self, Error> {
        let url = Url::parse(url).map_err(|_| Error::Url(url.to_owned()))?;
        let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
        let caps = get(http, &url, &format!("operation=GetCACaps&message={name}")).await?;
        let certificates = get(http, &url, &format!("operation=GetCACert&message={name}")).await?;
        let der = ber::to_der(&certificates)?;
        let certificates = SignedData::parse(&der)?.certificates.iter().map(|raw| raw.to_vec()).collect();
        let mut server = Self { url, options, capabilities: Capabilities::parse(&String::from_utf8_lossy(&caps)), certificates };
        if !(server.capabilities.has("AES") && server.capabilities.has("SHA-256") && server.capabilities.has("POSTPKIOperation")) {
            return Err(Malformed::new("too little for this client", "GetCACaps").into());
        }
        server.find_registration()?;
        Ok(server)
    }

    /// Puts the registration authority's certificate first: the one that may both sign and encipher keys.
    fn find_registration(&mut self) -> Result<(), Error> {
        let usable = |der: &Vec<u8>| {
            let text = X509::from_der(der).and_then(|certificate| certificate.to_text()).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            text.contains("Digital Signature") && text.contains("Key Encipherment") && !text.contains("CA:TRUE")
        };
        let at = self.certificates.iter().position(usable).ok_or_else(|| Malformed::new("no registration authority", "GetCACert"))?;
        self.certificates.swap(0, at);
        Ok(())
    }

    fn registration(&self) -> &[u8] {
        self.certificates.first().map(Vec::as_slice).unwrap_or_default()
    }

    /// Asks for a certificate with a fresh key and a self-signed wrapper (PKCSReq); the challenge is in the wish.
    ///
    /// # Errors
    /// [`Error`] says what went wrong.
    pub async fn enroll(&self, http: &mut Client, wish: &Wish, now: Time) -> Result<Outcome, Error> {
        self.first(http, wish, new_key().await?, None, now).await
    }

    /// The same with a key that may have been used before: many devices of a load run share a few.
    ///
    /// # Errors
    /// [`Error`] says what went wrong.
    pub async fn enroll_with(&self, http: &mut Client, wish: &Wish, key: &PKey<Private>, now: Time) -> Result<Outcome, Error> {
        // The hash of the key would not tell the requests apart.
        let mut random = [0u8; 32];
        rand_bytes(&mut random)?;
        self.first(http, wish, key.clone(), Some(&hex::encode_upper(random)), now).await
    }

    async fn first(
        &self,
        http: &mut Client,
        wish: &Wish,
        key: PKey<Private>,
        transaction_id: Option<&str>,
        now: Time,
    ) -> Result<Outcome, Error> {
        let wrapper = self_signed(&key, now)?;
        let csr = build(wish, &key, self.options.digest)?;
        let signer = Identity { certificate: wrapper, key: key.clone() };
        self.ask(http, MessageType::PkcsReq, &csr, &signer, key, transaction_id).await
    }

    /// Asks for a certificate with a fresh key in place of the one the device has (RenewalReq).
    ///
    /// # Errors
    /// [`Error`] says what went wrong.
    pub async fn renew(&self, http: &mut Client, wish: &Wish, current: &Identity) -> Result<Outcome, Error> {
        let key = new_key().await?;
        let csr = build(wish, &key, self.options.digest)?;
        self.ask(http, MessageType::RenewalReq, &csr, current, key, None).await
    }

    /// Asks again after a request that waits (CertPoll).
    ///
    /// # Errors
    /// [`Error`] says what went wrong.
    pub async fn poll(&self, http: &mut Client, waiting: &Waiting) -> Result<Outcome, Error> {
        let subject = CertificateView::parse(&waiting.signer.certificate)?.subject;
        let payload = issuer_and_subject(CertificateView::parse(self.registration())?.issuer, subject);
        self.ask(http, MessageType::CertPoll, &payload, &waiting.signer, waiting.key.clone(), Some(&waiting.transaction_id)).await
    }

    async fn ask(
        &self,
        http: &mut Client,
        message_type: MessageType,
        payload: &[u8],
        signer: &Identity,
        key: PKey<Private>,
        transaction_id: Option<&str>,
    ) -> Result<Outcome, Error> {
        let mut random = [0u8; 64];
        rand_bytes(&mut random)?;
        let (content_key, rest) = random.split_at(32);
        let (iv, nonce) = rest.split_at(16);
        let cipher = self.options.cipher;
        let content_key = content_key.get(..cipher.key_length()).unwrap_or_default();
        let iv = iv.get(..cipher.block()).unwrap_or_default();
        let content = seal(payload, &CertificateView::parse(self.registration())?, cipher, content_key, iv)?;
        let fresh = hex::encode_upper(sha256(&key.public_key_to_der()?));
        let transaction_id = transaction_id.unwrap_or(&fresh);
        let request = PkiRequest { message_type, transaction_id, sender_nonce: nonce, content: &content };
        let message = request.sign(&Signer { certificate: &signer.certificate, key: &signer.key, digest: self.options.digest })?;
        let mut url = self.url.clone();
        url.set_query(Some("operation=PKIOperation"));
        let response = http.send("POST", &url, &[("Content-Type", "application/x-pki-message")], &message).await?;
        if response.status != 200 {
            return Err(Error::Http(response.status, response.said()));
        }
        let der = ber::to_der(&response.body)?;
        let answer = Message::parse(&der)?;
        let verified = answer.verify().map_err(|_| Error::Foreign)?;
        let ours = verified.signer.raw == self.registration()
            && verified.recipient_nonce == nonce
            && answer.transaction_id == transaction_id
            && answer.sender_nonce != nonce;
        if !ours {
            return Err(Error::Foreign);
        }
        match verified.status {
            Some(Status::Success(envelope)) => {
                let certificate = open_certificate(&envelope, signer, &key)?;
                Ok(Outcome::Issued(Identity { certificate, key }))
            }
            Some(Status::Pending) => {
                Ok(Outcome::Pending(Box::new(Waiting { transaction_id: transaction_id.to_owned(), signer: signer.clone(), key })))
            }
            Some(Status::Failure(info, _)) => Err(Error::Refused(info)),
            None => Err(Error::Foreign),
        }
    }
}

/// The certificate for `key` in an answer's envelope.
fn open_certificate(envelope: &[u8], signer: &Identity, key: &PKey<Private>) -> Result<Vec<u8>, Error> {
    let der = ber::to_der(envelope)?;
    let sealed = EnvelopedData::parse(&der)?;
    let recipient = sealed.recipients.first().ok_or_else(|| Malformed::new("nobody", "recipientInfos"))?;
    let plain = sealed.open(recipient, &signer.key, &[0; 32])?;
    let spki = key.public_key_to_der()?;
    let carried = SignedData::parse(&plain)?;
    let found = carried.certificates.iter().find(|raw| CertificateView::parse(raw).is_ok_and(|view| view.spki == spki));
    found.map(|raw| raw.to_vec()).ok_or_else(|| Malformed::new("no certificate for our key", "CertRep").into())
}

async fn get(http: &mut Client, url: &Url, query: &str) -> Result<Vec<u8>, Error> {
    let mut url = url.clone();
    url.set_query(Some(query));
    let response = http.send("GET", &url, &[], &[]).await?;
    if response.status == 200 { Ok(response.body) } else { Err(Error::Http(response.status, response.said())) }
}

/// A fresh key, made off the async threads.
async fn new_key() -> Result<PKey<Private>, Error> {
    let made = tokio::task::spawn_blocking(|| Rsa::generate(KEY_BITS).and_then(PKey::from_rsa)).await;
    Ok(made.map_err(std::io::Error::other)??)
}

/// The certificate that wraps a first request: signed with the very key that is asked to be certified (RFC 8894 2.3).
fn self_signed(key: &PKey<Private>, now: Time) -> Result<Vec<u8>, Error> {
    let mut name = X509NameBuilder::new()?;
    name.append_entry_by_text("CN", "SCEP Protocol Certificate")?;
    let name = name.build();
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    let mut serial = [0u8; 16];
    rand_bytes(&mut serial)?;
    let serial = Asn1Integer::from_bn(&*BigNum::from_slice(&serial)?)?;
    builder.set_serial_number(&serial)?;
    builder.set_subject_name(&name)?;
    builder.set_issuer_name(&name)?;
    builder.set_not_before(&*Asn1Time::from_unix(now.seconds() - 3600)?)?;
    builder.set_not_after(&*Asn1Time::from_unix(now.seconds() + 7 * 86_400)?)?;
    builder.set_pubkey(key)?;
    builder.sign(key, openssl::hash::MessageDigest::sha256())?;
    Ok(builder.build().to_der()?)
}
