//! Push delivery (RFC 8935).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;

use super::caep::{self, Payload};
use super::{issuer, receiver};
use crate::app::App;
use crate::clock::{DAY, HOUR, Time};
use crate::domain::signal::{Receiver, ReceiverStatus};
use crate::ids::ReceiverId;
use crate::service::directory::By;
use crate::service::outbound::{check_url, read_bounded, retry_after, unanswered};
use crate::service::outbox::{Aftermath, Deliverer, Delivery, Outcome};
use crate::service::{Error, Result, signing_keys};
use crate::store::outbox::{Claim, Lease};
use crate::store::{self, receivers, sealed};
use crate::wire::set::{self, Claims, Complex, Simple, Subject, Token};

/// Longest answer that is looked at.
const MAX_ANSWER: usize = 16 * 1024;
/// How long signals are held for a paused receiver, in milliseconds.
const HELD: i64 = 7 * DAY;
/// How many refusals of who we are, in a row, pause a receiver.
const PAUSE_AFTER: u32 = 3;
const PAUSE_AFTER_KEY_ERRORS: u32 = 2;

/// Pushes signals to receivers.
pub struct SignalPush {
    client: Client,
    /// Refusals in a row: a hint, so it may be lost with the process.
    refusals: Mutex<HashMap<ReceiverId, u32>>,
}

impl SignalPush {
    /// With a client that cannot be led elsewhere.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, refusals: Mutex::default() }
    }

    async fn try_once(&self, app: &App, lease: &Lease, claim: &Claim) -> Result<Outcome> {
        let payload: Payload = serde_json::from_str(&claim.payload).map_err(Error::internal)?;
        let id = payload.receiver.clone();
        let Some(receiver) = app.store.read(move |c| receivers::find_receiver(c, &id)).await? else {
            return Ok(Outcome::Rejected("the receiver was removed".into()));
        };
        if receiver.status == ReceiverStatus::Paused {
            return Ok(held("the receiver is paused", false));
        }
        let lane = claim.order_key.clone();
        let missed = app.store.read(move |c| store::outbox::missed::find_missed(c, &lane)).await?;
        let Some(payload) = payload.news(missed.as_ref()) else { return Ok(Outcome::Skipped) };
        let url = match check_url(&app.config, &receiver.endpoint_url) {
            Ok(url) => url,
            Err(refusal) => return Ok(Outcome::Rejected(refusal.to_string())),
        };
        let Some(jws) = signed(app, lease, claim, payload, &receiver).await? else {
            return Ok(later("the lease was lost", None));
        };
        let mut request = self.client.post(url).header(CONTENT_TYPE, set::CONTENT_TYPE).header(ACCEPT, "application/json").body(jws);
        if let Some(sealed_value) = &receiver.sealed_authorization {
            let value = app.sealer().open(sealed::RECEIVER_AUTHORIZATION, sealed_value)?;
            let mut header = HeaderValue::from_bytes(value.expose()).map_err(Error::internal)?;
            header.set_sensitive(true);
            request = request.header(AUTHORIZATION, header);
        }
        match request.send().await {
            Ok(response) => self.judge(app, &receiver, response).await,
            Err(error) => Ok(later(&unanswered(&error), None)),
        }
    }

    async fn judge(&self, app: &App, receiver: &Receiver, mut response: Response) -> Result<Outcome> {
        let status = response.status();
        if matches!(status, StatusCode::ACCEPTED | StatusCode::OK | StatusCode::NO_CONTENT) {
            self.count(&receiver.id, false);
            return Ok(Outcome::Done);
        }
        if status == StatusCode::BAD_REQUEST {
            let answer: Refused = serde_json::from_slice(&read_bounded(&mut response, MAX_ANSWER).await).unwrap_or_default();
            if matches!(answer.err.as_str(), "authentication_failed" | "invalid_key") {
                self.refused(app, receiver, PAUSE_AFTER_KEY_ERRORS, &answer.err).await?;
            } else {
                self.count(&receiver.id, false);
            }
            return Ok(Outcome::Rejected(answer.reason()));
        }
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            self.refused(app, receiver, PAUSE_AFTER, status.as_str()).await?;
        }
        let reason = if status.is_redirection() {
            format!("{status}: redirects are not followed; configure the receiver's final URL")
        } else {
            status.to_string()
        };
        Ok(later(&reason, retry_after(response.headers(), app.now())))
    }

    /// Counts refusals of who we are; returns how many there were in a row.
    fn count(&self, receiver: &ReceiverId, refused: bool) -> u32 {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if !refused {
            refusals.remove(receiver);
            return 0;
        }
        let count = refusals.entry(receiver.clone()).or_default();
        *count += 1;
        *count
    }

    /// A receiver that takes nothing until a signal's retention ends is paused: what waits for it is held, and somebody has to look at it.
    async fn expired(&self, app: &App, claim: &Claim, outcome: Outcome) -> Result<Outcome> {
        let hours = app.config.signals.retention_hours;
        match outcome {
            Outcome::Retry { reason, destination: true, .. } if app.now() >= claim.queued_at.plus(self.retention(app)) => {
                let payload: Payload = serde_json::from_str(&claim.payload).map_err(Error::internal)?;
                let why = format!("not delivered within {hours} hours; last: {reason}");
                tracing::error!(receiver = %payload.receiver, reason, "the receiver takes no signals and is paused");
                receiver::set_status(app, &payload.receiver, ReceiverStatus::Paused, Some(why.clone()), &By::local("system")).await?;
                Ok(held(&why, true))
            }
            other => Ok(other),
        }
    }

    async fn refused(&self, app: &App, receiver: &Receiver, limit: u32, what: &str) -> Result<()> {
        if self.count(&receiver.id, true) >= limit {
            self.count(&receiver.id, false);
            tracing::error!(receiver = receiver.name, reason = what, "the receiver keeps refusing our signals and is paused");
            let reason = format!("refused us {limit} times: {what}");
            receiver::set_status(app, &receiver.id, ReceiverStatus::Paused, Some(reason), &By::local("system")).await?;
        }
        Ok(())
    }
}

/// The error of RFC 8935 section 2.4.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Refused {
    err: String,
    description: String,
}

impl Refused {
    fn reason(&self) -> String {
        match (self.err.as_str(), self.description.as_str()) {
            ("", "") => "400, without saying why".into(),
            ("", why) | (why, "") => format!("400 {why}"),
            (err, description) => format!("400 {err}: {description}"),
        }
    }
}

fn held(reason: &str, sent: bool) -> Outcome {
    Outcome::Held { reason: reason.to_owned(), keep: HELD, sent }
}

fn later(reason: &str, after: Option<i64>) -> Outcome {
    Outcome::Retry { reason: reason.to_owned(), after, destination: true }
}

/// The signed token of a payload: the stored one while its key is published, else a new one with the same `jti`, stored before it is
/// used. `None` when the lane is not ours any more.
async fn signed(app: &App, lease: &Lease, claim: &Claim, payload: Payload, receiver: &Receiver) -> Result<Option<String>> {
    if let Some(jws) = &payload.jws {
        let kid = Token::decode(jws)?.kid;
        if signing_keys::is_published(app, &kid).await? {
            return Ok(payload.jws);
        }
    }
    let key = signing_keys::active(app).await?;
    let input = set::signing_input(&key.kid, &claims(app, &payload, receiver, app.now()));
    let jws = set::compact(&input, &key.sign(input.clone()).await?);
    let stored = serde_json::to_string(&Payload { jws: Some(jws.clone()), ..payload }).map_err(Error::internal)?;
    let (row, lease) = (claim.clone(), lease.clone());
    let held = app.store.write(move |tx| store::outbox::update_payload(tx, &row, &lease, &stored)).await?;
    Ok(held.then_some(jws))
}

fn claims(app: &App, payload: &Payload, receiver: &Receiver, now: Time) -> Claims {
    let iss = issuer(&app.config);
    let sub_id = match &payload.subject {
        Some(subject) => Subject::Complex(Complex::new(
            Simple::IssSub { iss: iss.clone(), sub: subject.device.to_string() },
            subject.user.clone().map(|email| Simple::Email { email }),
            Simple::Opaque { id: app.tenant.to_string() },
        )),
        None => Subject::Simple(Simple::Opaque { id: receiver.id.to_string() }),
    };
    Claims {
        iss,
        aud: receiver.audience.clone(),
        iat: now.seconds(),
        jti: payload.jti.clone(),
        txn: Some(payload.txn.clone()),
        sub_id,
        event: payload.event.clone(),
    }
}

impl Deliverer for SignalPush {
    fn topic(&self) -> &'static str {
        caep::TOPIC
    }

    fn aftermath(&self) -> Option<Aftermath> {
        Some(caep::settled)
    }

    fn retention(&self, app: &App) -> i64 {
        HOUR * i64::from(app.config.signals.retention_hours)
    }

    fn deliver<'a>(&'a self, app: &'a App, lease: &'a Lease, claim: &'a Claim) -> Delivery<'a> {
        Box::pin(async move {
            let tried = async { self.expired(app, claim, self.try_once(app, lease, claim).await?).await };
            tried.await.unwrap_or_else(|error| Outcome::Retry { reason: error.to_string(), after: None, destination: false })
        })
    }
}
