//! The SCEP server (RFC 8894): one message in, one answer out. The numbered steps are those of the server algorithm in the PKI notes:
//! 1 form, 2 signature, 3 attributes, 4 recipient, 5 content key, 6 request, 7 authorisation, 8 idempotency, 9 one transaction, 10 nonce.

mod answer;
mod approval;
mod decide;
mod holder;
mod open;

use std::sync::Arc;

use openssl::sha::sha256;
use serde_json::json;

pub use approval::{approve, list_pending, refuse};

use self::answer::{Content, answer};
use self::decide::{Decision, Issue};
use self::open::{Asked, Echo, Enrolment, Refused, open};
use super::authority::{self, Authority};
use super::authorize::scep_challenge::challenge_key;
use super::issue;
use super::keys::ServiceKey;
use crate::app::App;
use crate::clock::{HOUR, Time};
use crate::domain::Refusal;
use crate::domain::audit::Entry;
use crate::domain::authority::{Kind, Status};
use crate::domain::certificate::{Grant, Purpose};
use crate::domain::scep::{Reason, State, Transaction};
use crate::service::{Error, Result};
use crate::store::{audit, certificates, scep};
use crate::wire::cms::degenerate;
use crate::wire::scep::{Capabilities, FailInfo};

/// Name of the authority that issues by default, in addresses.
pub const DEFAULT: &str = "default";
/// How often a request is decided anew when another one came first.
const TRIES: usize = 3;

/// What the configuration allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    allow_sha1: bool,
    allow_3des: bool,
    /// What time it is here.
    now: Time,
    /// By how much a signer's clock may differ, in milliseconds.
    skew: i64,
}

/// The authority that SCEP answers for under this name; `default` is the oldest one that issues and has not ended.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn resolve(app: &App, name: &str) -> Result<Arc<Authority>> {
    let issuing: Vec<_> = authority::list(app).await?.into_iter().filter(|a| a.kind == Kind::Issuing).collect();
    let found = if name == DEFAULT {
        let now = app.now();
        issuing.iter().find(|a| a.status == Status::Active && now < a.not_after).or_else(|| issuing.first())
    } else {
        issuing.iter().find(|a| a.name == name)
    };
    found.map(Arc::clone).ok_or(Error::NotFound("authority"))
}

/// What GetCACaps answers (RFC 8894 3.5.2).
#[must_use]
pub fn capabilities(app: &App) -> Capabilities {
    let mut words = vec!["AES", "POSTPKIOperation", "Renewal", "SCEPStandard", "SHA-256", "SHA-512"];
    if app.config.scep.allow_3des {
        words.push("DES3");
    }
    if app.config.scep.allow_sha1 {
        words.push("SHA-1");
    }
    Capabilities::new(&words)
}

/// What GetCACert answers: the registration authority's certificate, the issuing authority's and those above it, with or without the
/// root, in a message that nobody signed.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Unavailable`] while there is no registration certificate.
pub async fn certificates(app: &App, authority: &str, include_root: bool) -> Result<Vec<u8>> {
    let authority = resolve(app, authority).await?;
    let registration = authority.service_key(Purpose::Registration, app.now())?;
    let chain = authority.chain.iter();
    // The last of a chain of several is the root.
    let above = chain.take(if include_root { usize::MAX } else { authority.chain.len().saturating_sub(1).max(1) });
    let list: Vec<&[u8]> = [&registration.certificate].into_iter().chain(above).map(Vec::as_slice).collect();
    Ok(degenerate(&list, &[]))
}

/// Answers a pkiMessage. Every refusal that can be addressed to the sender is a signed answer.
///
/// # Errors
/// [`Error::Malformed`] when there is nobody to answer to; [`Error::NotFound`] for an unknown authority; else only our own.
pub async fn receive(app: &App, authority: &str, message: Vec<u8>, origin: &str) -> Result<Vec<u8>> {
    let message: Arc<[u8]> = message.into();
    let opened = take_apart(app, authority, Arc::clone(&message)).await?;
    // Another node may have made a registration key that is not known here yet.
    let stale = opened.echo.foreign && super::keys::refresh(app);
    let Opened { authority, echo, asked, key } = if stale { take_apart(app, authority, message).await? } else { opened };
    let request = Incoming { app, authority, echo: Arc::new(echo), key, origin };
    match asked {
        Ok(asked) => request.serve(asked).await,
        Err(refused) => request.fail(refused, None).await,
    }
}

/// A message taken apart, and by whom.
struct Opened {
    authority: Arc<Authority>,
    echo: Echo,
    asked: std::result::Result<Asked, Refused>,
    key: Arc<ServiceKey>,
}

async fn take_apart(app: &App, authority: &str, message: Arc<[u8]>) -> Result<Opened> {
    let authority = resolve(app, authority).await?;
    let now = app.now();
    // The newest key first; older ones read what was sealed for them until they end.
    let keys: Vec<Arc<ServiceKey>> = authority
        .service_keys
        .iter()
        .filter(|key| key.purpose == Purpose::Registration && key.not_before <= now && now <= key.not_after)
        .map(Arc::clone)
        .collect();
    let skew = i64::from(app.config.scep.clock_skew_hours) * HOUR;
    let rules = Rules { allow_sha1: app.config.scep.allow_sha1, allow_3des: app.config.scep.allow_3des, now, skew };
    let secret = challenge_key(app).await?;
    let ((echo, asked), keys) = blocking(move || Ok((open(&message, &keys, rules, &secret)?, keys))).await?;
    let key = keys.get(echo.registration).ok_or_else(|| Error::Unavailable("no registration certificate".into()))?;
    Ok(Opened { authority, echo, asked, key: Arc::clone(key) })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
}

/// A message that is being answered.
struct Incoming<'a> {
    app: &'a App,
    authority: Arc<Authority>,
    echo: Arc<Echo>,
    key: Arc<ServiceKey>,
    origin: &'a str,
}

impl Incoming<'_> {
    async fn serve(&self, asked: Asked) -> Result<Vec<u8>> {
        for _ in 0..TRIES {
            let done = match decide::decide(self, &asked).await? {
                Decision::Answer(content) => Some(self.answer(content).await?),
                Decision::Refuse(reason) => Some(self.fail((reason, reason.fail_info()), reason.refusal().map(Refusal::code)).await?),
                Decision::Park(order) => self.park(&asked, *order).await?,
                Decision::Issue(order) => self.issue(&asked, *order).await?,
            };
            if let Some(answer) = done {
                return Ok(answer);
            }
        }
        Err(Error::Unavailable("others kept coming first".into()))
    }

    async fn answer(&self, content: Content) -> Result<Vec<u8>> {
        let (echo, key) = (Arc::clone(&self.echo), Arc::clone(&self.key));
        blocking(move || answer(&echo, &key, &content)).await
    }

    /// Refuses: leaves an audit row and nothing else.
    async fn fail(&self, (reason, info): Refused, detail: Option<&'static str>) -> Result<Vec<u8>> {
        let after = json!({
            "reason": reason, "failInfo": info.as_str(), "detail": detail, "authority": self.authority.id, "signer": self.echo.signer_hash(),
        });
        let target = format!("scep-transaction:{}", self.echo.transaction_id);
        let entry = Entry::new("anonymous", "scep.refused", target, self.origin).after(&after);
        let now = self.app.now();
        self.app.store.write(move |tx| audit::append(tx, &entry, now)).await?;
        self.answer(Content::Failure(info)).await
    }

    /// The transaction's record.
    fn transaction(&self, enrolment: &Enrolment, order: &Issue, state: State) -> Transaction {
        let now = self.app.now();
        Transaction {
            authority_id: self.authority.id.clone(),
            transaction_id: self.echo.transaction_id.clone(),
            signer_hash: self.echo.signer_hash(),
            request_hash: hex::encode(sha256(&enrolment.der)),
            challenge_id: order.challenge_id.clone(),
            state,
            request: enrolment.der.clone(),
            grant: order.grant.clone(),
            certificate_id: None,
            created_at: now,
            decided_at: (state != State::Pending).then_some(now),
            decided_by: None,
        }
    }

    /// Keeps the request until an administrator decides; `None` when another request came first.
    async fn park(&self, asked: &Asked, order: Issue) -> Result<Option<Vec<u8>>> {
        let Asked::Certificate(enrolment) = asked else { return Ok(None) };
        let transaction = self.transaction(enrolment, &order, State::Pending);
        let target = format!("scep-transaction:{}", transaction.transaction_id);
        let after = json!({ "authority": transaction.authority_id, "challenge": order.challenge_id, "request": transaction.request_hash });
        let entry = Entry::new(actor(&order.grant), "scep.pending", target, self.origin).after(&after);
        let (live, now) = (self.app.config.scep.live_certificates, self.app.now());
        let stored = self.app.store.write(move |tx| {
            if !order.claim(tx, live, now)? {
                return Ok(false);
            }
            scep::insert_transaction(tx, &transaction, now)?;
            audit::append(tx, &entry, now)?;
            Ok(true)
        });
        match stored.await {
            Ok(true) => self.answer(Content::Pending).await.map(Some),
            Ok(false) | Err(crate::store::Error::Conflict(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Issues; `None` when another request used the challenge or took the transaction's name first. The answer is ready before the
    /// transaction begins and leaves the process after it is durable.
    async fn issue(&self, asked: &Asked, order: Issue) -> Result<Option<Vec<u8>>> {
        let Asked::Certificate(enrolment) = asked else { return Ok(None) };
        let (authority, echo, key) = (Arc::clone(&self.authority), Arc::clone(&self.echo), Arc::clone(&self.key));
        let (grant, spki, now) = (order.grant.clone(), enrolment.request.spki.clone(), self.app.now());
        let made = blocking(move || {
            let issued = issue::prepare_now(&authority, &grant, &spki, now)?;
            let bytes = answer(&echo, &key, &Content::Certificate(issued.der))?;
            Ok((issued.certificate, bytes))
        });
        let (certificate, bytes) = match made.await {
            Ok(made) => made,
            Err(Error::Refused(refusal)) => {
                return self.fail((Reason::NotIssued, FailInfo::BadRequest), Some(refusal.code())).await.map(Some);
            }
            Err(error) => return Err(error),
        };
        let mut transaction = self.transaction(enrolment, &order, State::Issued);
        transaction.certificate_id = Some(certificate.id.clone());
        let mut entry = issue::audit(&certificate, &actor(&order.grant), self.origin);
        entry.before = Some(
            json!({
                "front": "scep", "transaction": transaction.transaction_id, "request": transaction.request_hash,
                "challenge": order.challenge_id, "renews": order.renews,
            })
            .to_string(),
        );
        let live = self.app.config.scep.live_certificates;
        // Step 9: challenge, certificate, transaction and audit row together or not at all.
        let stored = self.app.store.write(move |tx| {
            if !order.claim(tx, live, now)? {
                return Ok(false);
            }
            certificates::insert_certificate(tx, &certificate, now)?;
            scep::insert_transaction(tx, &transaction, now)?;
            if let Some(older) = &order.renews {
                certificates::update_superseded(tx, older, &certificate.id)?;
            }
            audit::append(tx, &entry, now)?;
            Ok(true)
        });
        match stored.await {
            Ok(true) => Ok(Some(bytes)),
            Ok(false) | Err(crate::store::Error::Conflict(_)) => Ok(None),
            // Paused or revoked by another node: what is kept of the authorities here is out of date.
            Err(crate::store::Error::Refused(Refusal::AuthorityNotActive)) => {
                self.app.keys.invalidate();
                let reason = Reason::AuthorityPaused;
                self.fail((reason, reason.fail_info()), None).await.map(Some)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Who a grant is for, as audit rows name actors.
fn actor(grant: &Grant) -> String {
    grant.device_id.as_ref().map_or_else(|| "anonymous".into(), |id| format!("device:{id}"))
}
