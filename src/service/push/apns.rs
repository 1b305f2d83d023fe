//! Apple Push Notification service: wakes a device so that it comes for its work. Apple's devices hardly come by themselves; a wake that
//! was lost is sent again while there is work ([`super::due`]).
//!
//! A wake says only the device's own magic word. A token that is dead ends pushing to that channel until the device reports another; it
//! never ends an enrolment. When the service refuses the certificate, no device is to blame: everybody waits and somebody is told.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Certificate as Root, Client, Identity, Response, Url, Version};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::app::App;
use crate::clock::{HOUR, Time};
use crate::domain::apple::push::{Alarm, Certificate, Verdict, judge};
use crate::domain::audit::Entry;
use crate::domain::certificate::KeyAlgorithm;
use crate::ids::EnrollmentId;
use crate::secret::{SealError, Sealer};
use crate::service::outbound::{read_bounded, retry_after};
use crate::service::outbox::{Deliverer, Delivery, Outcome};
use crate::service::pki::keys::SigningKey;
use crate::service::{Error, Result};
use crate::store::apple::channels::{self, Channel};
use crate::store::apple::push;
use crate::store::outbox::{Claim, Lease, Message, enqueue};
use crate::store::sealed::{APPLE_PUSH, APPLE_PUSH_KEY};
use crate::store::{self, Tx};
use crate::wire::apple::push::{Answer, LONGEST_ANSWER, Wake, path};

/// The outbox topic of wakes.
pub const TOPIC: &str = "apns.wake";
/// An idle connection is asked that often whether it still lives; Apple wants it kept open.
const KEEP_ALIVE: Duration = Duration::from_secs(300);

#[derive(Serialize, Deserialize)]
struct Payload {
    enrollment: EnrollmentId,
    user: String,
}

/// Where a channel is pushed to: what a device's `TokenUpdate` says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The token, hex.
    token: String,
    /// The magic word.
    magic: String,
}

impl Address {
    /// Of a token and a magic word.
    #[must_use]
    pub fn new(token: &[u8], magic: &str) -> Self {
        Self { token: hex::encode(token), magic: magic.to_owned() }
    }

    /// The address, sealed for the store (`apple_channels.sealed_push`).
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn seal(&self, sealer: &Sealer) -> Result<Vec<u8>> {
        let text = zeroize::Zeroizing::new(serde_json::to_vec(self).map_err(Error::internal)?);
        Ok(sealer.seal(APPLE_PUSH, &text)?)
    }

    /// The address of the store.
    ///
    /// # Errors
    /// When it does not open.
    pub fn open(sealer: &Sealer, sealed: &[u8]) -> Result<Self> {
        serde_json::from_slice(sealer.open(APPLE_PUSH, sealed)?.expose()).map_err(Error::internal)
    }
}

/// Whether a channel can be pushed to.
fn is_reachable(channel: &Channel) -> bool {
    channel.sealed_push.is_some() && channel.push_dead_at.is_none()
}

/// Puts a wake of a channel into the outbox, in the transaction of the change that gives it work. While one waits, another is not put in.
/// Ring `app.outbox` after the commit.
///
/// # Errors
/// Only the database's own.
pub fn enqueue_wake(tx: &mut Tx<'_>, enrollment: &EnrollmentId, user_key: &str, now: Time) -> store::Result<()> {
    let key = if user_key.is_empty() { format!("apns/{enrollment}") } else { format!("apns/{enrollment}/{user_key}") };
    let payload = serde_json::to_string(&Payload { enrollment: enrollment.clone(), user: user_key.to_owned() })?;
    enqueue(tx, &Message { topic: TOPIC, order_key: key.clone(), dedup_key: key, payload }, now)
}

/// The same for every channel of an enrolment that can be pushed to; whether there was one.
///
/// # Errors
/// Only the database's own.
pub fn enqueue_wakes(tx: &mut Tx<'_>, enrollment: &EnrollmentId, now: Time) -> store::Result<bool> {
    let channels = channels::list_channels(tx.conn(), enrollment)?;
    let mut some = false;
    for channel in channels.iter().filter(|channel| is_reachable(channel)) {
        enqueue_wake(tx, enrollment, &channel.user_key, now)?;
        some = true;
    }
    Ok(some)
}

/// The client of one certificate: it keeps its connection.
struct Line {
    der: Vec<u8>,
    client: Client,
}

/// Wakes devices.
#[derive(Default)]
pub struct ApnsWake {
    line: Mutex<Option<Arc<Line>>>,
}

impl ApnsWake {
    /// The line of the certificate in force; another certificate gets a new one.
    async fn line(&self, app: &App, certificate: &Certificate) -> Result<Arc<Line>> {
        let mut held = self.line.lock().await;
        if let Some(line) = held.as_ref().filter(|line| line.der == certificate.der) {
            return Ok(Arc::clone(line));
        }
        let key = SigningKey::open(&app.sealer(), APPLE_PUSH_KEY, &certificate.sealed_key, KeyAlgorithm::Rsa2048)?;
        let key = zeroize::Zeroizing::new(key.pkey().private_key_to_pem_pkcs8()?);
        let shown = crate::service::pki::authority::pem(&certificate.der);
        let identity = Identity::from_pkcs8_pem(shown.as_bytes(), &key).map_err(Error::internal)?;
        let mut builder = Client::builder()
            .identity(identity)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .https_only(true)
            .timeout(Duration::from_secs(u64::from(app.config.signals.timeout_seconds.max(1))))
            .pool_idle_timeout(None)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_while_idle(true)
            .user_agent("muster");
        if let Some(file) = &app.config.apple.apns.root_file {
            let unreadable = |why: &dyn std::fmt::Display| Error::Unavailable(format!("apple.apns.root_file {}: {why}", file.display()));
            let pem = std::fs::read(file).map_err(|e| unreadable(&e))?;
            builder = builder.tls_certs_only(Root::from_pem_bundle(&pem).map_err(|e| unreadable(&e))?);
        }
        let line = Arc::new(Line { der: certificate.der.clone(), client: builder.build().map_err(Error::internal)? });
        *held = Some(Arc::clone(&line));
        Ok(line)
    }

    async fn try_once(&self, app: &App, claim: &Claim) -> Result<Outcome> {
        let payload: Payload = serde_json::from_str(&claim.payload).map_err(Error::internal)?;
        let found =
            app.store.read(move |c| Ok((push::find_certificate(c)?, channels::find_channel(c, &payload.enrollment, &payload.user)?)));
        let (certificate, channel) = found.await?;
        let Some((channel, sealed)) = channel.filter(is_reachable).and_then(|c| c.sealed_push.clone().map(|sealed| (c, sealed))) else {
            // Gone, or its token is dead: the device's next TokenUpdate wakes it.
            return Ok(Outcome::Skipped);
        };
        let Some(certificate) = certificate else {
            return Ok(Outcome::Retry { reason: "there is no push certificate".into(), after: None, destination: true });
        };
        if channel.topic != certificate.topic {
            // The certificate was replaced by one of another topic: only a new enrolment helps.
            tracing::warn!(enrollment = %channel.enrollment_id, channel.topic, "the device listens to another push topic");
            metrics::counter!("muster_apns_total", "answer" => "other-topic").increment(1);
            return Ok(Outcome::Skipped);
        }
        let address = match Address::open(&app.sealer(), &sealed) {
            Err(Error::Internal(why)) if matches!(why.downcast_ref(), Some(SealError::UnknownKey(_))) => {
                return Ok(Outcome::Retry { reason: why.to_string(), after: None, destination: true });
            }
            other => other?,
        };
        let line = self.line(app, &certificate).await?;
        let response = match push_once(app, &line.client, &certificate.topic, &address).await? {
            Ok(response) => response,
            Err(error) => return self.unreachable(app, &certificate, &error).await,
        };
        self.settle(app, &certificate, &channel, response).await
    }

    /// No answer came. The service says at the handshake that it does not like a certificate; in TLS 1.3 that comes after it, and may be
    /// lost with the connection.
    async fn unreachable(&self, app: &App, certificate: &Certificate, error: &reqwest::Error) -> Result<Outcome> {
        let mut reason = String::from("APNs");
        let mut cause = error.source();
        while let Some(why) = cause {
            reason.push_str(&format!(": {why}"));
            cause = why.source();
        }
        if error.is_timeout() {
            reason.push_str(": no answer in time");
        }
        metrics::counter!("muster_apns_total", "answer" => "unreachable").increment(1);
        if certificate.not_after <= app.now() {
            raise(app, certificate, "the certificate has ended").await?;
        } else if reason.contains(" alert ") && (reason.contains("certificate") || reason.contains("unknown ca")) {
            raise(app, certificate, "the handshake failed at the client certificate").await?;
        }
        Ok(Outcome::Retry { reason, after: None, destination: true })
    }

    async fn settle(&self, app: &App, certificate: &Certificate, channel: &Channel, mut response: Response) -> Result<Outcome> {
        let (status, version) = (response.status(), response.version());
        let after = retry_after(response.headers(), app.now());
        if version != Version::HTTP_2 {
            // ALPN did not choose it: something between us and Apple ends TLS. Nothing that it says counts.
            raise(app, certificate, "the service was reached without HTTP/2").await?;
            return Ok(Outcome::Retry { reason: format!("{version:?} in place of HTTP/2"), after, destination: true });
        }
        let answer = Answer::read(&read_bounded(&mut response, LONGEST_ANSWER).await);
        let text = format!("{} {}", status.as_u16(), answer.reason);
        metrics::counter!("muster_apns_total", "answer" => status.as_u16().to_string()).increment(1);
        let token_at = channel.token_updated_at.unwrap_or_default();
        let verdict = judge(status.as_u16(), &answer.reason, answer.timestamp, token_at);
        if certificate.alarm.is_some() && !matches!(verdict, Verdict::Certificate | Verdict::Wait { .. }) {
            calm(app, certificate).await?;
        }
        Ok(match verdict {
            Verdict::Accepted | Verdict::Stale => Outcome::Done,
            Verdict::Dead => {
                bury(app, channel, text).await?;
                Outcome::Done
            }
            Verdict::Certificate => {
                raise(app, certificate, &text).await?;
                Outcome::Retry { reason: text, after, destination: true }
            }
            Verdict::Wait { whole } => Outcome::Retry { reason: text, after, destination: whole },
            Verdict::Wrong => Outcome::Rejected(text),
        })
    }
}

/// Sends one wake.
async fn push_once(app: &App, client: &Client, topic: &str, address: &Address) -> Result<std::result::Result<Response, reqwest::Error>> {
    let apns = &app.config.apple.apns;
    let token = hex::decode(&address.token).map_err(Error::internal)?;
    let url = Url::parse(&apns.url).and_then(|url| url.join(&path(&token))).map_err(Error::internal)?;
    let body = serde_json::to_vec(&Wake { mdm: address.magic.clone() }).map_err(Error::internal)?;
    let expiration = app.now().plus(i64::from(apns.expiration_hours).saturating_mul(HOUR)).seconds();
    let request = client
        .post(url)
        .header("apns-topic", topic)
        .header("apns-push-type", "mdm")
        .header("apns-priority", "10")
        .header("apns-expiration", expiration)
        .header(CONTENT_TYPE, "application/json")
        .body(body);
    // The address holds the token: it does not belong into logs.
    Ok(request.send().await.map_err(reqwest::Error::without_url))
}

/// Ends pushing to a channel, unless the device has reported another token meanwhile.
async fn bury(app: &App, channel: &Channel, answer: String) -> Result<()> {
    let (channel, now) = (channel.clone(), app.now());
    app.store
        .write(move |tx| {
            if channels::update_push_dead(tx, &channel, &answer, now)? {
                let target = format!("enrollment:{}", channel.enrollment_id);
                let after = serde_json::json!({ "reason": answer, "user": channel.user_key });
                store::audit::append(tx, &Entry::new("system", "enrollment.channel_drop", target, "apns").after(&after), now)?;
            }
            Ok(())
        })
        .await?;
    Ok(())
}

/// Notes once that the service refuses the certificate.
async fn raise(app: &App, certificate: &Certificate, reason: &str) -> Result<()> {
    metrics::gauge!("muster_apns_alarm").set(1.0);
    let (der, now) = (certificate.der.clone(), app.now());
    let alarm = Alarm { reason: reason.to_owned(), since: now };
    let raised = app
        .store
        .write(move |tx| {
            let raised = push::claim_alarm(tx, &der, Some(&alarm))?;
            if raised {
                let after = serde_json::json!({ "reason": alarm.reason });
                store::audit::append(tx, &Entry::new("system", "apple.push_alarm", "apple-push:certificate", "apns").after(&after), now)?;
            }
            Ok(raised)
        })
        .await?;
    if raised {
        tracing::error!(topic = certificate.topic, reason, "the push service refuses the Apple push certificate: no device is woken");
    }
    Ok(())
}

/// The service takes the certificate again.
async fn calm(app: &App, certificate: &Certificate) -> Result<()> {
    metrics::gauge!("muster_apns_alarm").set(0.0);
    let (der, now) = (certificate.der.clone(), app.now());
    app.store
        .write(move |tx| {
            if push::claim_alarm(tx, &der, None)? {
                store::audit::append(tx, &Entry::new("system", "apple.push_calm", "apple-push:certificate", "apns"), now)?;
            }
            Ok(())
        })
        .await?;
    Ok(())
}

impl Deliverer for ApnsWake {
    fn topic(&self) -> &'static str {
        TOPIC
    }

    fn coalesces(&self) -> bool {
        true
    }

    /// By then the device was due for the next wake.
    fn retention(&self, app: &App) -> i64 {
        HOUR.saturating_mul(i64::from(app.config.apple.apns.expiration_hours))
    }

    fn deliver<'a>(&'a self, app: &'a App, _lease: &'a Lease, claim: &'a Claim) -> Delivery<'a> {
        Box::pin(async move {
            self.try_once(app, claim).await.unwrap_or_else(|error| Outcome::Retry {
                reason: error.to_string(),
                after: None,
                destination: true,
            })
        })
    }
}
