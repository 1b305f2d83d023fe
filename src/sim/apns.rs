//! A stand-in for Apple's push service (APNs), and for the portal that makes push certificates: TLS with a client certificate, HTTP/2 by
//! ALPN. It looks at certificate, topic, headers and payload of each push as Apple does, and remembers which device it woke. It can be told
//! to answer something else.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private, Public};
use openssl::ssl::{AlpnError, Ssl, SslAcceptor, SslMethod, SslVerifyMode, SslVersion, select_next_proto};
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name, X509NameRef};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::wire::apple::push::{Wake, is_topic};

/// Largest push that is read, as at Apple's.
const LARGEST: usize = 4096;
/// What Apple calls a push; always the same here.
const ID: &str = "eabeae54-14a8-11e5-b60b-1697f925ec7b";

/// Who makes push certificates: in the real world Apple, by way of its portal. Its own certificate is also that of the service on loopback.
#[derive(Clone, Debug)]
pub struct Authority {
    /// Its certificate.
    pub root: X509,
    key: PKey<Private>,
}

impl Authority {
    /// A fresh one.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn new() -> Result<Self, ErrorStack> {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
        let key = PKey::from_ec_key(EcKey::generate(&group)?)?;
        let mut name = X509Name::builder()?;
        name.append_entry_by_nid(Nid::COMMONNAME, "Simulated push service")?;
        let name = name.build();
        let mut builder = begin(&name, &name)?;
        builder.set_not_before(&*Asn1Time::days_from_now(0)?)?;
        builder.set_not_after(&*Asn1Time::days_from_now(30)?)?;
        builder.set_pubkey(&key)?;
        builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
        let names = SubjectAlternativeName::new().ip("127.0.0.1").build(&builder.x509v3_context(None, None))?;
        builder.append_extension(names)?;
        builder.sign(&key, MessageDigest::sha256())?;
        Ok(Self { root: builder.build(), key })
    }

    /// A push certificate for a topic and that key, good from and to those times, in seconds since 1970.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn push_certificate(&self, key: &PKey<Public>, topic: &str, from: i64, to: i64) -> Result<X509, ErrorStack> {
        push_certificate((&self.root, &self.key), key, topic, from, to)
    }
}

fn begin(subject: &X509NameRef, issuer: &X509NameRef) -> Result<X509Builder, ErrorStack> {
    let mut serial = BigNum::new()?;
    serial.rand(60, MsbOption::MAYBE_ZERO, false)?;
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_serial_number(&*serial.to_asn1_integer()?)?;
    builder.set_subject_name(subject)?;
    builder.set_issuer_name(issuer)?;
    Ok(builder)
}

/// The same by any other issuer.
///
/// # Errors
/// When OpenSSL fails.
pub fn push_certificate(
    (issuer, signer): (&X509, &PKey<Private>),
    key: &PKey<Public>,
    topic: &str,
    from: i64,
    to: i64,
) -> Result<X509, ErrorStack> {
    let mut subject = X509Name::builder()?;
    if !topic.is_empty() {
        subject.append_entry_by_nid(Nid::USERID, topic)?;
    }
    subject.append_entry_by_nid(Nid::COMMONNAME, "APSP:0f1e2d3c")?;
    let mut builder = begin(&subject.build(), issuer.subject_name())?;
    builder.set_not_before(&*Asn1Time::from_unix(from)?)?;
    builder.set_not_after(&*Asn1Time::from_unix(to)?)?;
    builder.set_pubkey(key)?;
    builder.append_extension(ExtendedKeyUsage::new().client_auth().build()?)?;
    builder.sign(signer, MessageDigest::sha256())?;
    Ok(builder.build())
}

/// What it was asked.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Path.
    pub path: String,
    /// Method.
    pub method: String,
    /// Headers.
    pub headers: http::HeaderMap,
    /// Body.
    pub body: Vec<u8>,
    /// The client certificate, DER.
    pub client: Vec<u8>,
    /// Which connection it came over, counted from 1.
    pub connection: usize,
}

impl Seen {
    /// A header's value; empty when there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Looks at it as Apple does: whom it wakes, or the status and the reason of the refusal.
    fn judge(&self) -> Result<(String, String), (u16, &'static str)> {
        let number = |name: &str| self.header(name).parse::<i64>().is_ok();
        if self.method != "POST" {
            return Err((405, "MethodNotAllowed"));
        }
        let token = self.path.strip_prefix("/3/device/").ok_or((404, "BadPath"))?;
        if hex::decode(token).is_ok_and(|bytes| bytes.len() < 32) || hex::decode(token).is_err() {
            return Err((400, "BadDeviceToken"));
        }
        let certificate = X509::from_der(&self.client).map_err(|_| (403, "BadCertificate"))?;
        let topic = certificate.subject_name().entries_by_nid(Nid::USERID).next();
        let topic = topic.and_then(|entry| entry.data().to_string().ok()).unwrap_or_default();
        if !is_topic(&topic) || self.header("apns-topic") != topic {
            return Err((400, "TopicDisallowed"));
        }
        if self.header("apns-push-type") != "mdm" {
            return Err((400, "InvalidPushType"));
        }
        if self.header("apns-priority") != "10" {
            return Err((400, "BadPriority"));
        }
        if !number("apns-expiration") {
            return Err((400, "BadExpirationDate"));
        }
        let wake: Wake = serde_json::from_slice(&self.body).map_err(|_| (400, "PayloadEmpty"))?;
        Ok((token.to_owned(), wake.mdm))
    }
}

/// What it says next.
#[derive(Clone, Debug)]
pub enum Say {
    /// A status and a body.
    Answer(u16, String),
    /// GOAWAY: it takes no more of this connection.
    GoAway,
}

impl Say {
    /// A status with Apple's word for it.
    #[must_use]
    pub fn reason(status: u16, reason: &str) -> Self {
        Self::Answer(status, format!("{{\"reason\":\"{reason}\"}}"))
    }
}

/// What it knows.
#[derive(Debug, Default)]
pub struct State {
    /// Everything that it was asked.
    pub seen: Vec<Seen>,
    /// What is said next, whatever comes.
    pub script: VecDeque<Say>,
    /// Connections so far.
    pub connections: usize,
    /// What was wrong with what came; empty when all is well.
    pub complaints: Vec<String>,
    /// How often each address was woken: token in hex and magic word.
    wakes: BTreeMap<(String, String), usize>,
}

struct Inner {
    state: Mutex<State>,
    /// Rung when somebody is woken.
    woken: Notify,
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The service at work until it is dropped.
pub struct Apns {
    /// Where it listens.
    pub address: SocketAddr,
    /// The root of its own certificate.
    pub root_pem: Vec<u8>,
    inner: Arc<Inner>,
    task: JoinHandle<()>,
}

impl Drop for Apns {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Apns {
    /// As Apple runs it: HTTP/2, TLS 1.3, and push certificates of that authority only.
    ///
    /// # Errors
    /// When there is no port, or OpenSSL fails.
    pub async fn start(authority: &Authority) -> io::Result<Self> {
        Self::with(authority, &authority.root, true, SslVersion::TLS1_3).await
    }

    /// It shows the authority's own certificate, and takes client certificates of `clients` only. Without `http2` it chooses no protocol,
    /// and speaks HTTP/1.1. Up to TLS 1.2 it refuses a certificate within the handshake.
    ///
    /// # Errors
    /// Those of [`Apns::start`].
    pub async fn with(own: &Authority, clients: &X509, http2: bool, tls: SslVersion) -> io::Result<Self> {
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
        acceptor.set_max_proto_version(Some(tls))?;
        acceptor.set_certificate(&own.root)?;
        acceptor.set_private_key(&own.key)?;
        acceptor.cert_store_mut().add_cert(clients.clone())?;
        acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        acceptor
            .set_alpn_select_callback(move |_, offered| select_next_proto(b"\x02h2", offered).filter(|_| http2).ok_or(AlpnError::NOACK));
        let acceptor = Arc::new(acceptor.build());
        let listener = TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).await?;
        let address = listener.local_addr()?;
        let inner = Arc::new(Inner { state: Mutex::default(), woken: Notify::new() });
        let shared = Arc::clone(&inner);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, shared) = (Arc::clone(&acceptor), Arc::clone(&shared));
                tokio::spawn(async move {
                    if let Err(error) = serve(stream, &acceptor, shared).await {
                        tracing::debug!(%error, "a connection to the push service broke");
                    }
                });
            }
        });
        Ok(Self { address, root_pem: own.root.to_pem()?, inner, task })
    }

    /// The base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// What it knows.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state()
    }

    /// The next pushes get these answers, whatever they hold; after that it is itself again.
    pub fn say(&self, what: impl IntoIterator<Item = Say>) {
        self.state().script.extend(what);
    }

    /// How often it was asked.
    #[must_use]
    pub fn count(&self) -> usize {
        self.state().seen.len()
    }

    /// How often a device was woken, by its token and magic word.
    #[must_use]
    pub fn wakes(&self, (token, magic): (&[u8], &str)) -> usize {
        self.state().wakes.get(&(hex::encode(token), magic.to_owned())).copied().unwrap_or(0)
    }

    /// Waits until a device was woken more than `before` times; whether that came within `patience`.
    pub async fn wait_for(&self, address: (&[u8], &str), before: usize, patience: Duration) -> bool {
        let woken = async {
            loop {
                let rung = self.inner.woken.notified();
                tokio::pin!(rung);
                // From here on a ring is not lost, also while we look.
                rung.as_mut().enable();
                if self.wakes(address) > before {
                    return;
                }
                rung.await;
            }
        };
        tokio::time::timeout(patience, woken).await.is_ok()
    }
}

async fn serve(stream: TcpStream, acceptor: &SslAcceptor, inner: Arc<Inner>) -> io::Result<()> {
    let mut stream = tokio_openssl::SslStream::new(Ssl::new(acceptor.context())?, stream)?;
    if Pin::new(&mut stream).accept().await.is_err() {
        // What is left unread would reset the connection, and the alert with it.
        let stream = stream.get_mut();
        stream.shutdown().await?;
        stream.read_to_end(&mut Vec::new()).await?;
        return Ok(());
    }
    let client = stream.ssl().peer_certificate().ok_or(io::ErrorKind::PermissionDenied)?.to_der()?;
    let connection = {
        let mut state = inner.state();
        state.connections += 1;
        state.connections
    };
    if stream.ssl().selected_alpn_protocol() != Some(b"h2") {
        let mut bytes = [0; 4096];
        let _ = stream.read(&mut bytes).await?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await?;
        return stream.shutdown().await;
    }
    let mut http = h2::server::handshake(stream).await.map_err(io::Error::other)?;
    while let Some(Ok((request, respond))) = http.accept().await {
        let said = inner.state().script.pop_front();
        if matches!(said, Some(Say::GoAway)) {
            http.abrupt_shutdown(h2::Reason::NO_ERROR);
            continue;
        }
        let (inner, client) = (Arc::clone(&inner), client.clone());
        tokio::spawn(async move {
            if let Err(error) = answer(request, respond, said, (client, connection), &inner).await {
                tracing::debug!(%error, "a push broke");
            }
        });
    }
    Ok(())
}

async fn answer(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    said: Option<Say>,
    (client, connection): (Vec<u8>, usize),
    inner: &Inner,
) -> Result<(), h2::Error> {
    let (head, mut incoming) = request.into_parts();
    let mut body = Vec::new();
    while let Some(chunk) = incoming.data().await {
        // A push whose sender is gone is no push: there is nothing to judge.
        let chunk = chunk?;
        body.extend_from_slice(&chunk);
        if body.len() > LARGEST {
            break;
        }
        incoming.flow_control().release_capacity(chunk.len())?;
    }
    let (path, method) = (head.uri.path().to_owned(), head.method.to_string());
    let seen = Seen { path, method, headers: head.headers, body, client, connection };
    let (status, text) = match said {
        Some(Say::Answer(status, text)) => (status, text),
        _ => inner.take(&seen),
    };
    inner.state().seen.push(seen);
    inner.woken.notify_waiters();
    let mut response = http::Response::new(());
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert("apns-id", http::HeaderValue::from_static(ID));
    let mut stream = respond.send_response(response, text.is_empty())?;
    if !text.is_empty() {
        stream.send_data(text.into_bytes().into(), true)?;
    }
    Ok(())
}

impl Inner {
    /// Wakes the device, or says why not.
    fn take(&self, seen: &Seen) -> (u16, String) {
        let mut state = self.state();
        match seen.judge() {
            Ok(address) => {
                *state.wakes.entry(address).or_default() += 1;
                (200, String::new())
            }
            Err((status, reason)) => {
                state.complaints.push(format!("{status} {reason}"));
                (status, format!("{{\"reason\":\"{reason}\"}}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_is_judged_as_apple_does() {
        let authority = Authority::new().unwrap();
        let key = PKey::public_key_from_der(&authority.key.public_key_to_der().unwrap()).unwrap();
        let certificate = authority.push_certificate(&key, "com.apple.mgmt.External.x", 0, 9_000_000_000).unwrap();
        let mut headers = http::HeaderMap::new();
        for (name, value) in
            [("apns-topic", "com.apple.mgmt.External.x"), ("apns-push-type", "mdm"), ("apns-priority", "10"), ("apns-expiration", "1")]
        {
            headers.insert(name, http::HeaderValue::from_static(value));
        }
        let good = Seen {
            path: format!("/3/device/{}", "ab".repeat(32)),
            method: "POST".into(),
            headers,
            body: br#"{"mdm":"MAGIC"}"#.to_vec(),
            client: certificate.to_der().unwrap(),
            connection: 1,
        };
        assert_eq!(good.judge(), Ok(("ab".repeat(32), "MAGIC".into())));
        let other = |name: &'static str, value: &'static str| {
            let mut changed = good.clone();
            changed.headers.insert(name, http::HeaderValue::from_static(value));
            changed.judge().unwrap_err().1
        };
        assert_eq!(other("apns-topic", "com.apple.mgmt.External.y"), "TopicDisallowed");
        assert_eq!(other("apns-push-type", "alert"), "InvalidPushType");
        assert_eq!(other("apns-priority", "5"), "BadPriority");
        assert_eq!(other("apns-expiration", "soon"), "BadExpirationDate");
        let alert = Seen { body: br#"{"mdm":"MAGIC","aps":{}}"#.to_vec(), ..good.clone() };
        assert_eq!(alert.judge().unwrap_err().1, "PayloadEmpty");
        let short = Seen { path: "/3/device/ab".into(), ..good.clone() };
        assert_eq!(short.judge().unwrap_err().1, "BadDeviceToken");
        let root = Seen { client: authority.root.to_der().unwrap(), ..good };
        assert_eq!(root.judge().unwrap_err().1, "TopicDisallowed");
    }
}
