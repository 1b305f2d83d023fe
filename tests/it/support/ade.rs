//! A stand-in for the web service of Apple Business Manager: TLS, sessions by a signed request, lists with cursors, profiles; and whatever
//! a test wants it to answer instead.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use openssl::ssl::{Ssl, SslAcceptor, SslMethod};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::ca::{Ca, Leaf};

/// What the token of this service holds.
pub const TOKEN: [(&str, &str); 4] = [
    ("consumer_key", "CK_48dd68d198350f51258e885ce9a5c37a"),
    ("consumer_secret", "CS_secret+/of the consumer"),
    ("access_token", "AT_9267b1a6f0a5cde0"),
    ("access_secret", "AS_secret=of the token"),
];

/// What it was asked.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Value,
}

/// What it says next to a path, in the place of an answer.
pub struct Say {
    pub path: &'static str,
    pub status: u16,
    pub body: String,
    pub header: Option<(&'static str, String)>,
}

impl Say {
    pub fn word(path: &'static str, status: u16, word: &str) -> Self {
        Self { path, status, body: word.to_owned(), header: None }
    }
}

pub struct State {
    /// The server that the token is for.
    pub server: String,
    /// All devices, by serial number.
    pub devices: BTreeMap<String, Value>,
    /// Changes since the beginning, in order.
    pub changes: Vec<Value>,
    /// Most devices of an answer.
    pub page: usize,
    /// What is said instead, in order for each path.
    pub script: VecDeque<Say>,
    pub seen: Vec<Seen>,
    pub profiles: Vec<Value>,
    /// Serial numbers that are not this server's, and those that fail.
    pub foreign: BTreeSet<String>,
    pub failing: BTreeSet<String>,
    /// The session that is good.
    pub session: String,
    nonces: BTreeSet<String>,
    sessions: usize,
    /// Where devices enrol whose domain does not say.
    pub discovery: Option<Value>,
}

impl State {
    /// How often a path was asked.
    pub fn count(&self, path: &str) -> usize {
        self.seen.iter().filter(|seen| seen.path == path).count()
    }

    /// Adds devices, told as changes, too.
    pub fn add(&mut self, serials: impl IntoIterator<Item = String>) {
        for serial in serials {
            let device = json!({
                "serial_number": serial, "model": "MacBook Pro", "device_family": "Mac", "os": "OSX", "color": "SPACE GRAY",
                "profile_status": "empty", "device_assigned_date": "2026-01-02T03:04:05Z", "device_assigned_by": "it@example.org",
            });
            self.change(&device, "added");
            self.devices.insert(serial, device);
        }
    }

    pub fn change(&mut self, device: &Value, kind: &str) {
        let mut change = device.clone();
        change["op_type"] = kind.into();
        self.changes.push(change);
    }

    fn answer(&mut self, request: &Seen) -> (u16, String, Option<(&'static str, String)>) {
        if let Some(at) = self.script.iter().position(|say| say.path == request.path) {
            let say = self.script.remove(at).unwrap();
            return (say.status, say.body, say.header);
        }
        if request.path == "/session" {
            if !self.is_signed(request) {
                return (401, "oauth_problem=signature_invalid".into(), None);
            }
            self.sessions += 1;
            self.session = format!("session-{}", self.sessions);
            return (200, json!({ "auth_session_token": self.session }).to_string(), None);
        }
        if request.headers.get("x-adm-auth-session") != Some(&self.session) {
            return (401, String::new(), None);
        }
        assert_eq!(request.headers["x-server-protocol-version"], "8");
        let cursor = request.body["cursor"].as_str().unwrap_or_default();
        let limit = usize::try_from(request.body["limit"].as_u64().unwrap_or(100)).unwrap().min(self.page);
        let number = |prefix: &str| cursor.strip_prefix(prefix).and_then(|text| text.parse::<usize>().ok());
        let body = match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/account") => json!({ "server_name": "Muster", "server_uuid": self.server, "org_name": "Example", "org_type": "org" }),
            ("POST", "/server/devices") => {
                let from = number("full-").unwrap_or(0);
                let devices: Vec<&Value> = self.devices.values().skip(from).take(limit).collect();
                let to = from + devices.len();
                let more = to < self.devices.len();
                let next = if more { format!("full-{to}") } else { format!("sync-{}", self.changes.len()) };
                json!({ "cursor": next, "more_to_follow": more, "fetched_until": "2026-01-01T00:00:00Z", "devices": devices })
            }
            ("POST", "/devices/sync") => {
                let Some(from) = number("sync-") else { return (400, "\"INVALID_CURSOR\"".into(), None) };
                let devices: Vec<&Value> = self.changes.iter().skip(from).take(limit).collect();
                let to = from + devices.len();
                json!({ "cursor": format!("sync-{to}"), "more_to_follow": to < self.changes.len(), "devices": devices })
            }
            ("POST", "/account-driven-enrollment/profile") => {
                self.discovery = Some(request.body.clone());
                return (200, String::new(), None);
            }
            ("GET", "/account-driven-enrollment/profile") => match &self.discovery {
                Some(known) => known.clone(),
                None => return (404, String::new(), None),
            },
            ("POST", "/profile") => {
                self.profiles.push(request.body.clone());
                json!({ "profile_uuid": format!("profile-{}", self.profiles.len()), "devices": {} })
            }
            ("PUT", "/profile/devices") => {
                let mut answers = serde_json::Map::new();
                for serial in request.body["devices"].as_array().unwrap() {
                    let serial = serial.as_str().unwrap();
                    let word = if self.foreign.contains(serial) || !self.devices.contains_key(serial) {
                        "NOT_ACCESSIBLE"
                    } else if self.failing.contains(serial) {
                        "FAILED"
                    } else {
                        let device = self.devices.get_mut(serial).unwrap();
                        device["profile_uuid"] = request.body["profile_uuid"].clone();
                        device["profile_status"] = "assigned".into();
                        "SUCCESS"
                    };
                    answers.insert(serial.to_owned(), word.into());
                }
                json!({ "devices": answers })
            }
            _ => return (404, String::new(), None),
        };
        (200, body.to_string(), None)
    }

    /// Checks the signature as RFC 5849 section 3.2 has servers do it.
    fn is_signed(&mut self, request: &Seen) -> bool {
        let Some(value) = request.headers.get("authorization").and_then(|value| value.strip_prefix("OAuth ")) else { return false };
        let mut parameters: BTreeMap<&str, &str> =
            value.split(',').filter_map(|part| part.trim().split_once('=')).map(|(name, text)| (name, text.trim_matches('"'))).collect();
        let (Some(signature), Some("ADM")) = (parameters.remove("oauth_signature"), parameters.remove("realm")) else { return false };
        let of = |name: &str| TOKEN.iter().find(|(known, _)| *known == name).unwrap().1;
        let fresh = parameters.get("oauth_nonce").is_some_and(|nonce| self.nonces.insert((*nonce).to_owned()));
        let named =
            parameters.get("oauth_consumer_key") == Some(&of("consumer_key")) && parameters.get("oauth_token") == Some(&of("access_token"));
        let pairs: Vec<String> = parameters.iter().map(|(name, text)| format!("{name}={text}")).collect();
        let url = format!("https://{}/session", request.headers["host"]);
        let base = format!("GET&{}&{}", percent(&url), percent(&pairs.join("&")));
        let key = PKey::hmac(format!("{}&{}", percent(of("consumer_secret")), percent(of("access_secret"))).as_bytes()).unwrap();
        let expected = STANDARD.encode(Signer::new(MessageDigest::sha1(), &key).unwrap().sign_oneshot_to_vec(base.as_bytes()).unwrap());
        fresh && named && percent(&expected) == signature
    }
}

fn percent(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    text.chars().map(|c| if plain(c) { c.to_string() } else { format!("%{:02X}", u32::from(c)) }).collect()
}

/// The stand-in; it answers until the runtime ends.
pub struct Ade {
    pub address: SocketAddr,
    /// The root of its own certificate.
    pub root_pem: Vec<u8>,
    pub state: Arc<Mutex<State>>,
}

impl Ade {
    pub async fn start() -> Self {
        let own = Ca::new("Business manager root");
        let Leaf { certificate, key } = own.leaf("Business manager", &["127.0.0.1".to_owned()]);
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        acceptor.set_certificate(&certificate).unwrap();
        acceptor.set_private_key(&key).unwrap();
        let acceptor = Arc::new(acceptor.build());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            server: "server-a".into(),
            devices: BTreeMap::new(),
            changes: Vec::new(),
            page: 1000,
            script: VecDeque::new(),
            seen: Vec::new(),
            profiles: Vec::new(),
            foreign: BTreeSet::new(),
            failing: BTreeSet::new(),
            session: String::new(),
            nonces: BTreeSet::new(),
            sessions: 0,
            discovery: None,
        }));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&acceptor), Arc::clone(&shared)));
            }
        });
        Self { address, root_pem: own.root.to_pem().unwrap(), state }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

async fn serve(stream: TcpStream, acceptor: Arc<SslAcceptor>, state: Arc<Mutex<State>>) {
    let mut stream = tokio_openssl::SslStream::new(Ssl::new(acceptor.context()).unwrap(), stream).unwrap();
    if std::pin::Pin::new(&mut stream).accept().await.is_err() {
        return;
    }
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        let (status, body, header) = {
            let mut state = state.lock().unwrap();
            state.seen.push(request.clone());
            state.answer(&request)
        };
        let more = header.map(|(name, value)| format!("{name}: {value}\r\n")).unwrap_or_default();
        let head = format!("HTTP/1.1 {status} Word\r\ncontent-type: application/json\r\n{more}content-length: {}\r\n\r\n", body.len());
        if stream.write_all(format!("{head}{body}").as_bytes()).await.is_err() {
            return;
        }
        let _ = stream.flush().await;
    }
}

async fn read(stream: &mut BufReader<tokio_openssl::SslStream<TcpStream>>) -> Option<Seen> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Seen { method, path, headers, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
}
