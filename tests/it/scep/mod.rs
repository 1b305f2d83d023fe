//! SCEP: the numbered cases of the PKI notes (rows 1 to 24), by our own messages and by clients from outside.

mod clients;
mod held;
mod http;
mod keys;
mod messages;
mod oracles;
mod pending;
mod races;
mod signers;

use muster::app::App;
use muster::clock::Time;
use muster::domain::certificate::{Grant, Purpose};
use muster::service::pki::authorize::scep_challenge::{self, NewChallenge};
use muster::service::pki::{authority, scep};
use muster::store::{audit, certificates};
use muster::wire::cms::{CertificateView, Cipher, Digest, EnvelopedData, SignedData, Signer, seal};
use muster::wire::pkcs10::{Wish, build};
use muster::wire::scep::{FailInfo, Message, MessageType, PkiRequest, Status};
use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::pkey::{PKey, Private};
use openssl::x509::{X509, X509NameBuilder};

use crate::support::server::{Options, Server};

/// A server with a CA.
pub async fn start(options: Options) -> Server {
    let server = Server::with(options).await;
    authority::create_hierarchy(&server.app, "test", "local").await.unwrap();
    server
}

/// A challenge for this grant.
pub async fn mint(app: &App, grant: Grant, needs_approval: bool) -> String {
    mint_at(app, scep::DEFAULT, grant, needs_approval).await
}

/// The same of an authority.
pub async fn mint_at(app: &App, authority: &str, grant: Grant, needs_approval: bool) -> String {
    let authority = scep::resolve(app, authority).await.unwrap().id.clone();
    let new = NewChallenge { authority, grant, device: None, user: None, enrollment: None, profile: None, needs_approval, expires: None };
    let text = scep_challenge::mint(app, new, "test", "local").await.unwrap();
    String::from_utf8(text.expose().to_vec()).unwrap()
}

pub fn grant(name: &str) -> Grant {
    Grant::client(Purpose::Authentication, name, 30)
}

pub fn rsa(bits: u32) -> PKey<Private> {
    PKey::from_rsa(openssl::rsa::Rsa::generate(bits).unwrap()).unwrap()
}

/// A certificate that wraps a first request, with a serial number of that many octets.
pub fn wrapper(key: &PKey<Private>, serial: usize, now: Time) -> Vec<u8> {
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "wrapper").unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&Asn1Integer::from_bn(&BigNum::from_slice(&vec![0x5a; serial]).unwrap()).unwrap()).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_not_before(&Asn1Time::from_unix(now.seconds() - 60).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::from_unix(now.seconds() + 86_400).unwrap()).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.sign(key, openssl::hash::MessageDigest::sha256()).unwrap();
    builder.build().to_der().unwrap()
}

/// A device that speaks SCEP message by message.
pub struct Device {
    pub key: PKey<Private>,
    pub certificate: Vec<u8>,
    pub transaction: String,
    pub message_type: MessageType,
    pub cipher: Cipher,
    pub digest: Digest,
}

impl Device {
    pub fn new(app: &App) -> Self {
        Self::with_key(app, rsa(2048))
    }

    pub fn with_key(app: &App, key: PKey<Private>) -> Self {
        let certificate = wrapper(&key, 16, app.now());
        let transaction = hex::encode(openssl::sha::sha256(&key.public_key_to_der().unwrap()));
        Self { key, certificate, transaction, message_type: MessageType::PkcsReq, cipher: Cipher::Aes128, digest: Digest::Sha256 }
    }

    /// The request of a common name with a challenge.
    pub fn csr(&self, name: &str, challenge: &str) -> Vec<u8> {
        self.csr_of(&Wish { challenge: Some(challenge.into()), ..Wish::common_name(name) })
    }

    pub fn csr_of(&self, wish: &Wish) -> Vec<u8> {
        build(wish, &self.key, Digest::Sha256).unwrap()
    }

    pub fn seal(&self, payload: &[u8], registration: &[u8]) -> Vec<u8> {
        let registration = CertificateView::parse(registration).unwrap();
        let (key, iv) = (vec![7; self.cipher.key_length()], vec![9; self.cipher.block()]);
        seal(payload, &registration, self.cipher, &key, &iv).unwrap()
    }

    pub fn sign(&self, content: &[u8]) -> Vec<u8> {
        let request = PkiRequest { message_type: self.message_type, transaction_id: &self.transaction, sender_nonce: &[4; 16], content };
        request.sign(&Signer { certificate: &self.certificate, key: &self.key, digest: self.digest }).unwrap()
    }

    pub async fn message(&self, app: &App, payload: &[u8]) -> Vec<u8> {
        self.sign(&self.seal(payload, &registration(app).await))
    }

    /// Sends a payload and reads the answer.
    pub async fn send(&self, app: &App, payload: &[u8]) -> Result<Vec<u8>, Answer> {
        self.send_to(app, scep::DEFAULT, payload).await
    }

    /// The same to an authority.
    pub async fn send_to(&self, app: &App, authority: &str, payload: &[u8]) -> Result<Vec<u8>, Answer> {
        let message = self.sign(&self.seal(payload, &registration_of(app, authority).await));
        self.read(&scep::receive(app, authority, message, "test").await.unwrap())
    }

    /// Signs from now on with the certificate that it was given.
    pub fn holding(self, certificate: Vec<u8>, message_type: MessageType) -> Self {
        Self { certificate, message_type, ..self }
    }

    /// Asks for that name with another key, under a transaction of its own.
    pub async fn ask_for_key(&mut self, app: &App, authority: &str, wish: &Wish, key: &PKey<Private>) -> Result<Vec<u8>, Answer> {
        let csr = build(wish, key, Digest::Sha256).unwrap();
        self.transaction = hex::encode(openssl::sha::sha256(&csr));
        self.send_to(app, authority, &csr).await
    }

    /// The certificate (or list) in an answer, or what it says instead.
    pub fn read(&self, answer: &[u8]) -> Result<Vec<u8>, Answer> {
        let message = Message::parse(answer).unwrap();
        let verified = message.verify().unwrap();
        assert_eq!(verified.recipient_nonce, [4; 16]);
        assert_ne!(message.sender_nonce, [4; 16], "a nonce of its own");
        assert_eq!(message.transaction_id, self.transaction);
        match verified.status.unwrap() {
            Status::Failure(info, _) => Err(Answer::Failure(info)),
            Status::Pending => Err(Answer::Pending),
            Status::Success(envelope) => {
                let sealed = EnvelopedData::parse(&envelope).unwrap();
                assert_eq!(sealed.cipher, Some(self.cipher), "the client's own cipher");
                let plain = sealed.open(&sealed.recipients[0], &self.key, &[0; 32]).unwrap();
                let carried = SignedData::parse(&plain).unwrap();
                Ok(carried.certificates.first().or(carried.crls.first()).unwrap().to_vec())
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Failure(FailInfo),
    Pending,
}

pub async fn registration(app: &App) -> Vec<u8> {
    registration_of(app, scep::DEFAULT).await
}

pub async fn registration_of(app: &App, authority: &str) -> Vec<u8> {
    let authority = scep::resolve(app, authority).await.unwrap();
    authority.service_key(Purpose::Registration, app.now()).unwrap().certificate.clone()
}

/// How many certificates devices were given.
pub async fn issued(app: &App) -> usize {
    let all = app.store.read(|c| certificates::list_certificates(c, &certificates::Search::default(), 1000)).await.unwrap();
    all.iter().filter(|certificate| certificate.grant.purpose == Purpose::Authentication).count()
}

/// The reason in the newest audit row, which must be a refusal.
pub async fn reason(app: &App) -> String {
    refused(app).await["reason"].as_str().unwrap().to_owned()
}

/// What exactly a message had wrong, by the newest audit row, which must be a refusal.
pub async fn detail(app: &App) -> String {
    refused(app).await["detail"].as_str().unwrap().to_owned()
}

async fn refused(app: &App) -> serde_json::Value {
    let rows = app.store.read(|c| audit::list(c, 0, 10_000)).await.unwrap();
    let last = rows.last().unwrap();
    assert_eq!(last.action, "scep.refused");
    serde_json::from_str(last.after.as_deref().unwrap()).unwrap()
}
