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

pub use approval::{Waiting, approve, approve_for, list_pending, list_waiting, refuse};

use self::answer::{Content, answer};
use self::decide::{Decision, Issue, record};
use self::open::{Asked, Echo, Enrolment, Unopened, open};
use super::authority::{self, Authority};
use super::authorize::scep_challenge::challenge_key;
use super::issue;
use super::keys::ServiceKey;
use crate::app::App;
use crate::clock::{HOUR, Time};
use crate::config::Config;
use crate::domain::Refusal;
use crate::domain::audit::Entry;
use crate::domain::authority::{Kind, Status};
use crate::domain::certificate::{Certificate, Grant, Purpose};
use crate::domain::scep::{Reason, State, Transaction};
use crate::ids::TenantId;
use crate::secret::{Sealer, Secret};
use crate::service::{Error, Result};
use crate::store::{self, Store, Tx, audit, scep};
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
    /// Whether a message for a key that is not known here is worth another look at what keys there are.
    may_refresh: bool,
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
/// A message is read, decided on and answered in one go on a blocking thread; what it changes is then written, and the answer leaves after
/// that is durable.
///
/// # Errors
/// [`Error::Malformed`] when there is nobody to answer to; [`Error::NotFound`] for an unknown authority; [`Refusal::ScepBusy`] when others
/// kept coming first; else only our own.
pub async fn receive(app: &App, authority: &str, message: Vec<u8>, origin: &str) -> Result<Vec<u8>> {
    let message: Arc<[u8]> = message.into();
    // Another node may have made a registration key that is not known here yet.
    let mut may_refresh = super::keys::may_refresh(app);
    for _ in 0..TRIES {
        let desk = Desk::new(app, authority, may_refresh, origin).await?;
        let bytes = Arc::clone(&message);
        let draft = match tokio::task::spawn_blocking(move || desk.turn(&bytes)).await.map_err(Error::internal)?? {
            Turn::Foreign => {
                app.keys.invalidate();
                may_refresh = false;
                continue;
            }
            Turn::Answer(bytes) => return Ok(bytes),
            Turn::Record(draft) => *draft,
        };
        if let Some(reason) = draft.refused {
            metrics::counter!("muster_scep_refusals_total", "reason" => reason.as_str()).increment(1);
            // Anybody can send what is refused, again and again.
            if !app.strangers.note(origin, reason.as_str(), app.now()) {
                return Ok(draft.answer);
            }
        }
        let (record, live, now) = (draft.record, app.config.scep.live_certificates, app.now());
        match app.store.write(move |tx| record.write(tx, live, now)).await {
            Ok(true) => return Ok(draft.answer),
            // Another request used the challenge or took the transaction's name first: decided anew.
            Ok(false) | Err(store::Error::Conflict(_)) => {}
            // Paused or revoked by another node: what is kept of the authorities here is out of date.
            Err(store::Error::Refused(Refusal::AuthorityNotActive)) => app.keys.invalidate(),
            Err(error) => return Err(error.into()),
        }
    }
    Err(Refusal::ScepBusy.into())
}

/// What it takes to answer a message, away from the async threads.
struct Desk {
    store: Store,
    config: Arc<Config>,
    tenant: TenantId,
    authority: Arc<Authority>,
    /// The registration keys: the newest first; older ones read what was sealed for them until they end.
    keys: Vec<Arc<ServiceKey>>,
    challenge_key: Secret,
    sealer: Arc<Sealer>,
    rules: Rules,
    origin: String,
}

/// What comes of a message.
enum Turn {
    /// It is sealed for a key that is not known here.
    Foreign,
    /// An answer that changes nothing.
    Answer(Vec<u8>),
    /// An answer that may leave after something is recorded.
    Record(Box<Draft>),
}

/// An answer, and what has to be recorded before it leaves.
struct Draft {
    record: Record,
    answer: Vec<u8>,
    /// Why the request is refused, if it is.
    refused: Option<Reason>,
}

/// What is recorded of a message.
struct Record {
    /// All that is left of a refusal.
    entry: Entry,
    /// A request that was granted, or waits until an administrator decides.
    request: Option<(Issue, Transaction)>,
    certificate: Option<Certificate>,
}

impl Record {
    /// Writes all of it (step 9: challenge, certificate, transaction and audit row together or not at all); false, and nothing is written,
    /// when another request came first.
    fn write(&self, tx: &mut Tx<'_>, live: u32, now: Time) -> store::Result<bool> {
        if let Some((order, transaction)) = &self.request {
            if !order.claim(tx, live, now)? {
                return Ok(false);
            }
            // The certificate's row comes first: the transaction names it.
            if let Some(certificate) = &self.certificate {
                record(tx, certificate, order.renews.as_ref(), now)?;
            }
            scep::insert_transaction(tx, transaction, order.replaces, now)?;
        }
        audit::append(tx, &self.entry, now)?;
        Ok(true)
    }
}

impl Desk {
    async fn new(app: &App, authority: &str, may_refresh: bool, origin: &str) -> Result<Self> {
        let authority = resolve(app, authority).await?;
        let now = app.now();
        let keys = authority
            .service_keys
            .iter()
            .filter(|key| key.purpose == Purpose::Registration && key.not_before <= now && now <= key.not_after)
            .map(Arc::clone)
            .collect();
        let scep = &app.config.scep;
        let skew = i64::from(scep.clock_skew_hours) * HOUR;
        let rules = Rules { allow_sha1: scep.allow_sha1, allow_3des: scep.allow_3des, now, skew, may_refresh };
        Ok(Self {
            store: app.store.clone(),
            sealer: app.sealer(),
            config: Arc::clone(&app.config),
            tenant: app.tenant.clone(),
            authority,
            keys,
            challenge_key: challenge_key(app).await?,
            rules,
            origin: origin.to_owned(),
        })
    }

    fn now(&self) -> Time {
        self.rules.now
    }

    fn turn(&self, message: &[u8]) -> Result<Turn> {
        let (echo, asked) = open(message, &self.keys, self.rules, &self.challenge_key)?;
        let asked = match asked {
            Err(Unopened::Foreign) => return Ok(Turn::Foreign),
            Err(Unopened::Refused(refused)) => Err(refused),
            Ok(asked) => Ok(asked),
        };
        let key = self.keys.get(echo.registration).ok_or_else(|| Error::Unavailable("no registration certificate".into()))?;
        let request = Incoming { desk: self, echo, key };
        match asked {
            Ok(asked) => request.serve(&asked),
            Err(refused) => request.fail(refused.reason, refused.info, Some(&refused.detail)),
        }
    }
}

/// A message that is being answered.
struct Incoming<'a> {
    desk: &'a Desk,
    echo: Echo,
    key: &'a ServiceKey,
}

impl Incoming<'_> {
    fn serve(&self, asked: &Asked) -> Result<Turn> {
        match (decide::decide(self, asked)?, asked) {
            (Decision::Answer(content), _) => Ok(Turn::Answer(self.answer(&content)?)),
            (Decision::Refuse(reason), _) => self.fail(reason, reason.fail_info(), reason.refusal().map(Refusal::code)),
            (Decision::Park(order), Asked::Certificate(enrolment)) => self.park(enrolment, *order),
            (Decision::Issue(order), Asked::Certificate(enrolment)) => self.issue(enrolment, *order),
            (Decision::Park(_) | Decision::Issue(_), _) => Err(Error::internal(anyhow::anyhow!("nothing was asked for"))),
        }
    }

    fn answer(&self, content: &Content) -> Result<Vec<u8>> {
        answer(&self.echo, self.key, content)
    }

    fn record(&self, record: Record, content: &Content) -> Result<Turn> {
        Ok(Turn::Record(Box::new(Draft { record, answer: self.answer(content)?, refused: None })))
    }

    fn fail(&self, reason: Reason, info: FailInfo, detail: Option<&str>) -> Result<Turn> {
        let after = json!({
            "reason": reason, "failInfo": info.as_str(), "detail": detail, "authority": self.desk.authority.id,
            "signer": self.echo.signer_hash,
        });
        let target = format!("scep-transaction:{}", self.echo.transaction_id);
        let entry = Entry::new("anonymous", "scep.refused", target, &self.desk.origin).after(&after);
        let record = Record { entry, request: None, certificate: None };
        Ok(Turn::Record(Box::new(Draft { record, answer: self.answer(&Content::Failure(info))?, refused: Some(reason) })))
    }

    /// The transaction's record.
    fn transaction(&self, enrolment: &Enrolment, order: &Issue, state: State) -> Transaction {
        let now = self.desk.now();
        Transaction {
            authority_id: self.desk.authority.id.clone(),
            transaction_id: self.echo.transaction_id.clone(),
            signer_hash: self.echo.signer_hash.clone(),
            request_hash: hex::encode(sha256(&enrolment.der)),
            challenge_id: order.challenge_id.clone(),
            state,
            request: if state == State::Pending { enrolment.der.clone() } else { Vec::new() },
            grant: order.grant.clone(),
            certificate_id: None,
            created_at: now,
            decided_at: (state != State::Pending).then_some(now),
            decided_by: None,
            renews: order.renews.clone(),
        }
    }

    /// Keeps the request until an administrator decides.
    fn park(&self, enrolment: &Enrolment, order: Issue) -> Result<Turn> {
        let transaction = self.transaction(enrolment, &order, State::Pending);
        let target = format!("scep-transaction:{}", transaction.transaction_id);
        let after = json!({ "authority": transaction.authority_id, "challenge": order.challenge_id, "request": transaction.request_hash });
        let entry = Entry::new(actor(&order.grant), "scep.pending", target, &self.desk.origin).after(&after);
        self.record(Record { entry, request: Some((order, transaction)), certificate: None }, &Content::Pending)
    }

    fn issue(&self, enrolment: &Enrolment, order: Issue) -> Result<Turn> {
        let issued = match issue::prepare_now(&self.desk.authority, &order.grant, &enrolment.request.spki, self.desk.now()) {
            Ok(issued) => issued,
            Err(Error::Refused(refusal)) => return self.fail(Reason::NotIssued, FailInfo::BadRequest, Some(refusal.code())),
            Err(error) => return Err(error),
        };
        let mut transaction = self.transaction(enrolment, &order, State::Issued);
        transaction.certificate_id = Some(issued.certificate.id.clone());
        let mut entry = issue::audit(&issued.certificate, &actor(&order.grant), &self.desk.origin);
        entry.before = Some(
            json!({
                "front": "scep", "transaction": transaction.transaction_id, "request": transaction.request_hash,
                "challenge": order.challenge_id, "renews": order.renews,
            })
            .to_string(),
        );
        let record = Record { entry, request: Some((order, transaction)), certificate: Some(issued.certificate) };
        self.record(record, &Content::Certificate(issued.der))
    }
}

/// Who a grant is for, as audit rows name actors.
fn actor(grant: &Grant) -> String {
    grant.device_id.as_ref().map_or_else(|| "anonymous".into(), |id| format!("device:{id}"))
}
