//! A signal receiver that verifies what it gets (RFC 8935, SSF 1.0): header, signature by the transmitter's published keys, issuer,
//! audience, one event, no token twice, order and continuity for each device. It can be told to fail.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::sign::Verifier;
use openssl::x509::X509;
use reqwest::Url;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::http::Client;
use super::listener::{Answer, Listener, Request, Tls, listen};
use crate::clock::{Clock, HOUR, Time};
use crate::wire::set::{CONTENT_TYPE, DEVICE_COMPLIANCE_CHANGE, Simple, Subject, Token};

/// For how long published keys are kept without asking again.
const KEYS_KEPT: i64 = HOUR;

/// What a receiver expects.
pub struct Expect {
    /// The transmitter: its metadata is below it.
    pub issuer: String,
    /// The `aud` claim.
    pub audience: String,
    /// What `Authorization` must hold; `None`: there must be none.
    pub authorization: Option<String>,
    /// The roots that the transmitter's TLS certificate must chain to.
    pub roots: Vec<X509>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// A token that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its identifier.
    pub jti: String,
    /// Which key signed it.
    pub kid: String,
    /// The event's type.
    pub kind: String,
    /// The device, for events about one.
    pub device: Option<String>,
    /// The event's members.
    pub members: serde_json::Map<String, Value>,
    /// The token itself.
    pub jws: String,
}

impl Accepted {
    /// `compliant` or `not-compliant`, for a flip of a device's compliance.
    #[must_use]
    pub fn current_status(&self) -> Option<&str> {
        self.members.get("current_status")?.as_str()
    }

    /// Why, in the transmitter's words for administrators.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.members.get("reason_admin")?.as_object()?.values().next()?.as_str()
    }
}

/// A refusal of RFC 8935 section 2.4, to be scripted.
#[must_use]
pub fn refusal(code: &str, description: &str) -> Answer {
    Answer::of(400).json(&json!({ "err": code, "description": description }))
}

#[derive(Default)]
struct State {
    script: VecDeque<Answer>,
    /// How many tokens are taken without a word.
    silent: u32,
    requests: Vec<Request>,
    accepted: Vec<Accepted>,
    duplicates: u64,
    complaints: Vec<String>,
    seen: BTreeSet<String>,
    last: BTreeMap<String, (i64, Value)>,
    keys: Option<(Time, BTreeMap<String, Value>)>,
}

struct Inner {
    expect: Expect,
    state: Mutex<State>,
    /// Rung when a token was accepted.
    arrived: Notify,
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A receiver at work until it is dropped.
pub struct Receiver {
    /// Where to push to.
    pub url: String,
    inner: Arc<Inner>,
    _listener: Listener,
}

impl Receiver {
    /// Starts a receiver on that address, with TLS or without.
    ///
    /// # Errors
    /// When the address is taken, or OpenSSL refuses the certificate.
    pub async fn start(address: SocketAddr, tls: Option<&Tls>, expect: Expect) -> io::Result<Self> {
        let inner = Arc::new(Inner { expect, state: Mutex::default(), arrived: Notify::new() });
        let handler = Arc::clone(&inner);
        let handler = Arc::new(move |request| -> super::listener::Answering {
            let inner = Arc::clone(&handler);
            Box::pin(async move { inner.answer(request).await })
        });
        let listener = listen(address, tls, handler).await?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        Ok(Self { url: format!("{scheme}://{}/events", listener.address), inner, _listener: listener })
    }

    /// The next requests get these answers, whatever they hold; after that the receiver is itself again.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.inner.state().script.extend(answers);
    }

    /// Takes the next `count` tokens that are good without a word, as when the answer gets lost: the transmitter has to send them again.
    pub fn lose_answers(&self, count: u32) {
        self.inner.state().silent = count;
    }

    /// Tokens that were accepted, in order, each once.
    #[must_use]
    pub fn events(&self) -> Vec<Accepted> {
        self.inner.state().accepted.clone()
    }

    /// The first accepted token that is `wanted`, already here or yet to come; `None` when none comes within `patience`.
    pub async fn wait_for(&self, wanted: impl Fn(&Accepted) -> bool, patience: Duration) -> Option<Accepted> {
        let found = async {
            loop {
                let arrived = self.inner.arrived.notified();
                tokio::pin!(arrived);
                // From here on a ring is not lost, also while we look.
                arrived.as_mut().enable();
                let found = self.inner.state().accepted.iter().find(|a| wanted(a)).cloned();
                if let Some(found) = found {
                    return found;
                }
                arrived.await;
            }
        };
        tokio::time::timeout(patience, found).await.ok()
    }

    /// Every request, also those that were made to fail.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.inner.state().requests.clone()
    }

    /// How many tokens came again.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.inner.state().duplicates
    }

    /// What was wrong with what came; empty when all is well.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        self.inner.state().complaints.clone()
    }
}

/// Why a token is refused: the code of RFC 8935 section 2.4, and words.
struct Refusal(&'static str, String);

impl Inner {
    async fn answer(&self, request: Request) -> Answer {
        let scripted = {
            let mut state = self.state();
            state.requests.push(request.clone());
            state.script.pop_front()
        };
        if let Some(answer) = scripted {
            return answer;
        }
        if request.header("authorization") != self.expect.authorization.as_deref() {
            self.state().complaints.push("Authorization is not what was agreed".into());
            return Answer::of(401);
        }
        match self.accept(&request).await {
            Ok(()) => {
                let mut state = self.state();
                if state.silent == 0 {
                    return Answer::of(202);
                }
                state.silent -= 1;
                Answer::silence()
            }
            Err(Refusal(code, text)) => {
                self.state().complaints.push(format!("{code}: {text}"));
                refusal(code, &text)
            }
        }
    }

    async fn accept(&self, request: &Request) -> Result<(), Refusal> {
        let invalid = |text: String| Refusal("invalid_request", text);
        if request.method != "POST" || request.header("content-type") != Some(CONTENT_TYPE) {
            return Err(invalid("not a pushed token".into()));
        }
        let jws = std::str::from_utf8(&request.body).map_err(|e| invalid(e.to_string()))?;
        let token = Token::decode(jws).map_err(|e| invalid(e.to_string()))?;
        self.verify(&token).await?;
        let claims = &token.claims;
        if claims.iss != self.expect.issuer {
            return Err(Refusal("invalid_issuer", claims.iss.clone()));
        }
        if claims.aud != self.expect.audience {
            return Err(Refusal("invalid_audience", claims.aud.clone()));
        }
        if claims.iat > self.expect.clock.now().seconds() {
            return Err(invalid("iat is in the future".into()));
        }
        self.keep(token, jws)
    }

    fn keep(&self, token: Token, jws: &str) -> Result<(), Refusal> {
        let claims = token.claims;
        let mut state = self.state();
        if state.seen.contains(&claims.jti) {
            state.duplicates += 1;
            // Only another key may make another token of the same event.
            if state.accepted.iter().any(|known| known.jti == claims.jti && known.kid == token.kid && known.jws != jws) {
                return Err(Refusal("invalid_request", "a retry with other bytes".into()));
            }
            return Ok(());
        }
        let device = match &claims.sub_id {
            Subject::Complex(complex) => match &complex.device {
                Simple::IssSub { sub, .. } => Some(sub.clone()),
                _ => None,
            },
            Subject::Simple(_) => None,
        };
        if claims.event.kind == DEVICE_COMPLIANCE_CHANGE {
            let member = |name| claims.event.members.get(name).cloned().unwrap_or_default();
            let (previous, current) = (member("previous_status"), member("current_status"));
            let at = member("event_timestamp").as_i64().unwrap_or_default();
            let known = |v: &Value| matches!(v.as_str(), Some("compliant" | "not-compliant"));
            let Some(device) = device.clone().filter(|_| known(&previous) && known(&current) && previous != current) else {
                return Err(Refusal("invalid_request", "not a flip of a device".into()));
            };
            if let Some((before, last)) = state.last.insert(device.clone(), (at, current))
                && (before > at || last != previous)
            {
                state.complaints.push(format!("{device}: out of order"));
            }
        }
        state.seen.insert(claims.jti.clone());
        let (kind, members) = (claims.event.kind, claims.event.members);
        state.accepted.push(Accepted { jti: claims.jti, kid: token.kid, kind, device, members, jws: jws.to_owned() });
        drop(state);
        self.arrived.notify_waiters();
        Ok(())
    }

    async fn verify(&self, token: &Token) -> Result<(), Refusal> {
        let invalid = |text: &str| Refusal("invalid_key", text.to_owned());
        let now = self.expect.clock.now();
        let held = self.state().keys.clone().filter(|(at, _)| now.since(*at) < KEYS_KEPT);
        let keys = match held {
            Some((_, keys)) => keys,
            None => {
                let keys = self.fetch().await.map_err(|e| Refusal("invalid_key", e))?;
                self.state().keys = Some((now, keys.clone()));
                keys
            }
        };
        let jwk = keys.get(&token.kid).ok_or_else(|| invalid("the kid is not among the published keys"))?;
        let part = |name: &str| jwk.get(name).and_then(Value::as_str).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        let (Some(n), Some(e)) = (part("n"), part("e")) else { return Err(invalid("not an RSA key")) };
        let check = || -> Result<bool, openssl::error::ErrorStack> {
            let key = PKey::from_rsa(Rsa::from_public_components(BigNum::from_slice(&n)?, BigNum::from_slice(&e)?)?)?;
            Verifier::new(MessageDigest::sha256(), &key)?.verify_oneshot(&token.signature, token.signed.as_bytes())
        };
        match check() {
            Ok(true) => Ok(()),
            _ => Err(invalid("the signature is wrong")),
        }
    }

    /// The published keys, found by way of the metadata.
    async fn fetch(&self) -> Result<BTreeMap<String, Value>, String> {
        let mut client = Client::new(&self.expect.roots, None).map_err(|e| e.to_string())?;
        let metadata = get(&mut client, &format!("{}/.well-known/ssf-configuration", self.expect.issuer)).await?;
        if metadata.get("issuer").and_then(Value::as_str) != Some(self.expect.issuer.as_str()) {
            return Err("the metadata names another issuer".into());
        }
        let uri = metadata.get("jwks_uri").and_then(Value::as_str).ok_or("no jwks_uri")?;
        let set = get(&mut client, uri).await?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or("no keys")?;
        Ok(keys.iter().filter_map(|k| Some((k.get("kid")?.as_str()?.to_owned(), k.clone()))).collect())
    }
}

async fn get(client: &mut Client, url: &str) -> Result<Value, String> {
    let target = Url::parse(url).map_err(|e| e.to_string())?;
    let answer = client.send("GET", &target, &[("Accept", "application/json")], b"").await.map_err(|e| format!("{url}: {e}"))?;
    if answer.status != 200 {
        return Err(format!("{url}: {}", answer.status));
    }
    serde_json::from_slice(&answer.body).map_err(|e| format!("{url}: {e}"))
}
