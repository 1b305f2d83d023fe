//! Certificates by SCEP: `ClientCertificateInstall/SCEP` (windows.md section 4.4).
//!
//! `Enroll` answers at once and the device fetches the certificate later, so this provider looks at `Status`, `CertThumbprint` and
//! `ErrorCode` until the thumbprint is one that we issued to this very device. Devices do not renew by themselves: before the end a new
//! request is installed, and the old one is deleted when the new certificate is seen.
//!
//! What is known is kept apart: the certificate that is *held*, the *request* under way, and nodes that are *left over*. A request that
//! fails takes nothing of the held one with it, a request whose session died is looked at before another one is begun, and a node is
//! remembered until the device has deleted it.

mod body;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::body::Body;
use super::{CLEAN, Context, Csp, Effect, Part, REMOVE, Step, Turn};
use crate::catalogue::Scope;
use crate::clock::{DAY, HOUR, MINUTE, SECOND, Time};
use crate::domain::certificate::{Certificate, CertificateStatus, RevocationReason, Variables};
use crate::domain::desired::Input;
use crate::domain::desired::record::MAX_TRIES;
use crate::domain::dm_session::{Op, Outcome, Verdict};
use crate::domain::profile::Payload;
use crate::ids::CertificateId;
use crate::service::pki::authorize::scep_challenge::{self, NewChallenge};
use crate::service::round::ISSUES_AGAIN;
use crate::service::windows::plan;
use crate::service::{Error, Result};

/// How long the device gets for the enrolment that it started.
const FIRST_LOOK: i64 = 30 * SECOND;
/// How long until the next look at one that is still pending.
const NEXT_LOOK: i64 = 2 * MINUTE;
/// The same while an administrator decides: the device tells of the end by itself.
const APPROVAL_LOOK: i64 = HOUR;
/// Most nodes that are remembered for deletion.
const LEFTOVERS: usize = 32;

/// `Status` of a request that the CA has not decided on.
const PENDING: &str = "2";

/// Starts a request.
const ENROLL: &str = "enroll";
/// Looks at the request under way.
const STATUS: &str = "status";
/// Looks at the certificate that is held.
const CHECK: &str = "check";

/// The provider.
pub(super) struct Scep;

/// What is remembered of a part.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Memory {
    /// The certificate that the device has.
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<Held>,
    /// The request under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<Request>,
    /// Nodes to be deleted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    leftover: Vec<String>,
    /// Nodes whose deletion is on its way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deleting: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Held {
    /// Its request's node.
    node: String,
    /// Of the payload that asked for it.
    hash: String,
    /// SHA-1, as the device says it.
    thumbprint: String,
    /// The certificate of that thumbprint.
    certificate: CertificateId,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Request {
    /// Its node.
    node: String,
    /// Of the payload that asks.
    hash: String,
    /// When it was sent.
    begun: Time,
    /// Whether the device said that it took it.
    #[serde(default)]
    taken: bool,
}

impl Memory {
    fn of(part: &Part<'_>) -> Self {
        serde_json::from_value(Value::Object(part.record.memory.clone())).unwrap_or_default()
    }

    fn write(&self) -> Result<Map<String, Value>> {
        match serde_json::to_value(self).map_err(Error::internal)? {
            Value::Object(map) => Ok(map),
            _ => Ok(Map::new()),
        }
    }

    fn leave(&mut self, node: String) {
        if !self.leftover.contains(&node) {
            self.leftover.push(node);
        }
        let surplus = self.leftover.len().saturating_sub(LEFTOVERS);
        self.leftover.drain(..surplus);
    }

    /// Every node that may be on the device.
    fn nodes(&self) -> Vec<String> {
        let own = self.held.iter().map(|held| &held.node).chain(self.request.iter().map(|request| &request.node));
        own.chain(&self.leftover).chain(&self.deleting).cloned().collect()
    }

    /// Sends for the deletion of what is left over, unless that is on its way.
    fn clean(&mut self, turn: &mut Turn) {
        if self.deleting.is_empty() && !self.leftover.is_empty() {
            self.deleting = std::mem::take(&mut self.leftover);
            let ops = self.deleting.iter().map(Op::delete).collect();
            turn.steps.push(Step { phase: CLEAN, ops, atomic: false });
        }
    }

    /// Takes note of which deletions the device confirmed.
    fn cleaned(&mut self, outcome: &Outcome) {
        for (at, node) in std::mem::take(&mut self.deleting).into_iter().enumerate() {
            let gone = outcome.ops.get(at).is_some_and(|op| matches!(op.status, 200..=299 | 404));
            if !gone {
                self.leave(node);
            }
        }
    }
}

/// A part under way: what is remembered of it and what is to be done.
struct Course<'a> {
    context: &'a Context<'a>,
    part: &'a Part<'a>,
    memory: Memory,
    turn: Turn,
}

impl<'a> Course<'a> {
    fn new(context: &'a Context<'a>, part: &'a Part<'a>) -> Self {
        Self { context, part, memory: Memory::of(part), turn: Turn::default() }
    }

    fn finish(mut self) -> Result<Turn> {
        self.turn.memory = Some(self.memory.write()?);
        Ok(self.turn)
    }

    fn moves(&mut self, input: Input) {
        self.turn.inputs.push(input);
    }

    fn asks(&mut self, phase: &'static str, ops: Vec<Op>) {
        self.turn.steps.push(Step { phase, ops, atomic: false });
    }

    /// Asks how far a request has got.
    fn look(&mut self, phase: &'static str, node: &str) {
        let get = |name: &str| Op::get(format!("{node}/{name}"));
        self.asks(phase, vec![get("Status"), get("CertThumbprint"), get("ErrorCode")]);
    }

    /// Nothing more may come of what was asked for.
    fn withdraw(&mut self) {
        let (profile, payload) = (self.part.profile.clone(), self.part.name.to_owned());
        self.turn.effects.push(Effect::Withdraw { profile, payload });
    }

    /// No certificate of this part is good any more but that one.
    fn revoke_but(&mut self, keep: Option<CertificateId>, reason: RevocationReason) {
        let (profile, payload) = (self.part.profile.clone(), self.part.name.to_owned());
        self.turn.effects.push(Effect::Revoke { profile, payload, keep, reason });
    }

    /// The certificate of that SHA-1 thumbprint, if we issued it for this part and it is good.
    fn issued(&self, thumbprint: &str) -> Option<&'a Certificate> {
        let of_part = |c: &&Certificate| {
            c.grant.profile_id.as_ref() == Some(self.part.profile) && c.grant.payload.as_deref() == Some(self.part.name)
        };
        self.context.certificates.iter().filter(of_part).find(|c| c.sha1.eq_ignore_ascii_case(thumbprint))
    }

    fn held(&self) -> Option<&'a Certificate> {
        self.issued(&self.memory.held.as_ref()?.thumbprint)
    }

    /// Gives the request up: nothing comes of it, and what may have come of it is worth nothing.
    fn drop_request(&mut self) {
        let Some(request) = self.memory.request.take() else { return };
        self.memory.leave(request.node);
        self.withdraw();
        self.revoke_but(self.memory.held.as_ref().map(|held| held.certificate.clone()), RevocationReason::Superseded);
    }

    /// The request failed. While a good certificate is held it is tried again for ever, at last once a day.
    fn fail(&mut self, status: i64, error: Option<String>) {
        self.drop_request();
        let last = self.part.record.tries.saturating_add(1) >= MAX_TRIES;
        self.moves(if last && self.held().is_some() {
            Input::Deferred { until: self.context.now.plus(DAY) }
        } else {
            Input::Retry { status, original_error: error }
        });
    }

    /// What is asked for. When that cannot be read nothing comes of a request under way; a certificate that is held stays.
    fn read(&mut self, payload: &Payload) -> Option<Body> {
        let read = Body::read(&payload.body);
        if let Err(why) = &read {
            self.drop_request();
            self.moves(Input::Unmet { why: why.clone() });
        }
        read.ok()
    }

    /// Everything is taken away.
    fn remove(&mut self) {
        self.withdraw();
        let nodes = self.memory.nodes();
        if nodes.is_empty() {
            self.revoke_but(None, RevocationReason::CessationOfOperation);
            self.moves(Input::Removed);
        } else {
            self.asks(REMOVE, nodes.into_iter().map(Op::delete).collect());
        }
    }

    async fn begin(&mut self) -> Result<()> {
        // A deletion that nobody answered in its session is asked for again.
        for node in std::mem::take(&mut self.memory.deleting) {
            self.memory.leave(node);
        }
        let Some(payload) = self.part.payload else {
            self.remove();
            return Ok(());
        };
        let Some(body) = self.read(payload) else { return Ok(()) };
        let hash = &self.part.record.value_hash;
        match self.memory.request.clone() {
            // Sent before: `Enroll` is not repeated blindly.
            Some(request) if request.hash == *hash => self.look(STATUS, &request.node),
            other => {
                if other.is_some() {
                    self.drop_request();
                }
                match (self.memory.held.clone(), self.held()) {
                    // One that is on hold is neither replaced nor renewed.
                    (Some(held), Some(certificate))
                        if certificate.status == CertificateStatus::Held
                            || held.hash == *hash && self.context.now < certificate.renews_from(body.renew_percent) =>
                    {
                        self.look(CHECK, &held.node);
                    }
                    // None yet, another one is wanted, near its end, or revoked.
                    _ => self.enroll(&body).await?,
                }
            }
        }
        self.memory.clean(&mut self.turn);
        Ok(())
    }

    /// A new request: challenge, and the one Atomic that installs it.
    async fn enroll(&mut self, body: &Body) -> Result<()> {
        let context = self.context;
        let scope = body.template.scope;
        // A challenge is made when it can be sent and somebody will honour it, not sooner.
        if !context.takes(scope) {
            self.moves(Input::Postponed { until: context.now.plus(plan::USER_WAIT) });
            return Ok(());
        }
        if !context.authority.issues(context.now) {
            self.moves(Input::Postponed { until: context.now.plus(ISSUES_AGAIN) });
            return Ok(());
        }
        let mut grant = match body.template.resolve(&Variables::of(context.user, Some(context.device))) {
            Ok(grant) => grant,
            // A variable without a value fails the profile on this device, by name.
            Err(unresolved) => {
                self.moves(Input::Unmet { why: unresolved.to_string() });
                return Ok(());
            }
        };
        grant.payload = Some(self.part.name.to_owned());
        let challenge = scep_challenge::prepare(
            context.app,
            NewChallenge {
                authority: context.authority.id.clone(),
                device: Some(context.device.id.clone()),
                user: context.enrollment.user_id.clone(),
                enrollment: Some(context.enrollment.id.clone()),
                profile: Some(self.part.profile.clone()),
                needs_approval: body.needs_approval,
                expires: None,
                grant,
            },
        )
        .await?;
        let root = match scope {
            Scope::Device => "./Device",
            Scope::User => "./User",
        };
        let node = format!("{root}/Vendor/MSFT/ClientCertificateInstall/SCEP/{}", uuid::Uuid::now_v7());
        let text = std::str::from_utf8(challenge.text.expose()).map_err(Error::internal)?;
        let ops = match body.install(context, &node, &challenge.row.grant, text)? {
            Ok(ops) => ops,
            Err(why) => {
                self.moves(Input::Unmet { why });
                return Ok(());
            }
        };
        self.memory.request = Some(Request { node, hash: self.part.record.value_hash.clone(), begun: context.now, taken: false });
        self.turn.steps.push(Step { phase: ENROLL, ops, atomic: true });
        // It takes the place of challenges that were not used.
        self.withdraw();
        self.turn.effects.push(Effect::Challenge(Box::new(challenge.row)));
        self.moves(Input::Sent);
        Ok(())
    }

    fn enrolled(&mut self, outcome: &Outcome) {
        match outcome.verdict {
            Verdict::Done => {
                if let Some(request) = &mut self.memory.request {
                    request.taken = true;
                }
                self.moves(Input::Taken { status: plan::status(outcome) });
                if self.part.payload.is_some() {
                    self.moves(Input::Deferred { until: self.context.now.plus(FIRST_LOOK) });
                }
            }
            verdict => {
                self.drop_request();
                if !outcome.ops.is_empty() {
                    self.memory.clean(&mut self.turn);
                }
                let input = plan::input(verdict, outcome, self.context.now);
                self.moves(match input {
                    // What is held has to be taken away some day, so the record must not be forgotten.
                    Input::NotApplicable { status } if self.memory.held.is_some() => Input::Refused { status, original_error: None },
                    input => input,
                });
            }
        }
    }

    /// The state of the request under way.
    fn looked(&mut self, body: &Body, outcome: &Outcome) {
        let Some(request) = self.memory.request.clone() else { return };
        let value = |at: usize| plan::value(outcome, at).map(str::trim).filter(|v| !v.is_empty());
        let thumbprint = value(1).unwrap_or_default();
        match value(0) {
            Some("1") => match self.issued(thumbprint) {
                Some(certificate) => {
                    let id = certificate.id.clone();
                    let held = Held { node: request.node, hash: request.hash, thumbprint: thumbprint.to_owned(), certificate: id.clone() };
                    self.memory.request = None;
                    if let Some(old) = self.memory.held.replace(held) {
                        self.memory.leave(old.node);
                    }
                    self.withdraw();
                    self.revoke_but(Some(id), RevocationReason::Superseded);
                    self.moves(Input::Matches);
                }
                // A certificate that we did not issue to this device is not what the profile asked for.
                None => self.fail(1, Some(format!("unknown certificate {thumbprint}"))),
            },
            Some("16") => self.fail(16, value(2).map(str::to_owned)),
            // Pending, or unknown.
            Some(status) => {
                if self.context.now.since(request.begun) > body.patience() {
                    self.fail(status.parse().unwrap_or_default(), Some("the request does not end".into()));
                } else if body.needs_approval && status == PENDING {
                    self.moves(Input::AwaitsApproval { until: self.context.now.plus(APPROVAL_LOOK), asks: true });
                } else {
                    self.moves(Input::Deferred { until: self.context.now.plus(NEXT_LOOK) });
                }
            }
            // The device never had it: the session died before. Another one is begun at once.
            None if !request.taken => {
                self.drop_request();
                self.moves(Input::Deferred { until: self.context.now });
            }
            None => self.fail(404, Some("the request is gone".into())),
        }
        self.memory.clean(&mut self.turn);
    }

    /// The state of the certificate that is held.
    fn checked(&mut self, outcome: &Outcome) {
        let Some(held) = self.memory.held.clone() else { return };
        let value = |at: usize| plan::value(outcome, at).map(str::trim).filter(|v| !v.is_empty());
        let thumbprint = value(1).unwrap_or_default();
        match (value(0), self.issued(thumbprint)) {
            (Some("1"), Some(certificate)) => {
                let certificate = certificate.id.clone();
                self.memory.held = Some(Held { thumbprint: thumbprint.to_owned(), certificate, ..held });
                self.moves(Input::Matches);
            }
            (status, _) => {
                let found = status.map(|status| format!("status {status}, certificate {thumbprint}"));
                self.memory.held = None;
                self.memory.leave(held.node);
                self.moves(Input::Differs { found });
            }
        }
        self.memory.clean(&mut self.turn);
    }

    fn removed(&mut self, outcome: &Outcome) {
        let verdict = outcome.verdict;
        // Without its user the device was not even asked. Otherwise the certificates end here, whether or not it obeyed.
        if verdict != Verdict::Deferred {
            self.withdraw();
            self.revoke_but(None, RevocationReason::CessationOfOperation);
        }
        self.moves(if verdict == Verdict::Done { Input::Removed } else { plan::input(verdict, outcome, self.context.now) });
    }

    fn answered(&mut self, phase: &str, outcome: &Outcome) -> Result<()> {
        match (phase, self.part.payload) {
            (ENROLL, _) => self.enrolled(outcome),
            (CLEAN, _) => {
                // What was left over meanwhile goes next; what the device refused waits for another session.
                let fresh = std::mem::take(&mut self.memory.leftover);
                self.memory.cleaned(outcome);
                let refused = std::mem::replace(&mut self.memory.leftover, fresh);
                self.memory.clean(&mut self.turn);
                for node in refused {
                    self.memory.leave(node);
                }
            }
            (REMOVE, None) => self.removed(outcome),
            // Wanted again while it was being taken away: what is there is found out.
            (REMOVE, Some(_)) => {
                for node in self.memory.nodes() {
                    self.memory.leave(node);
                }
                self.memory = Memory { leftover: std::mem::take(&mut self.memory.leftover), ..Memory::default() };
                self.moves(Input::Deferred { until: self.context.now });
            }
            // Not wanted any more while it was looked at.
            (_, None) => self.moves(Input::Deferred { until: self.context.now }),
            (STATUS | CHECK, Some(_)) if outcome.verdict != Verdict::Done => {
                self.moves(plan::input(outcome.verdict, outcome, self.context.now));
            }
            (STATUS, Some(payload)) => {
                if let Some(body) = self.read(payload) {
                    self.looked(&body, outcome);
                }
            }
            (CHECK, Some(_)) => self.checked(outcome),
            _ => {}
        }
        Ok(())
    }
}

impl Csp for Scep {
    fn kind(&self) -> &'static str {
        "scep"
    }

    fn alert(&self) -> Option<&'static str> {
        Some("com.microsoft:mdm.SCEPcertinstall.result")
    }

    fn check(&self, body: &Map<String, Value>) -> std::result::Result<(), String> {
        Body::read(body).map(|_| ())
    }

    fn begin<'a>(&'a self, context: &'a Context<'_>, part: &'a Part<'_>) -> BoxFuture<'a, Result<Turn>> {
        async move {
            let mut course = Course::new(context, part);
            course.begin().await?;
            course.finish()
        }
        .boxed()
    }

    fn answered(&self, context: &Context<'_>, part: &Part<'_>, phase: &str, outcome: &Outcome) -> Result<Turn> {
        let mut course = Course::new(context, part);
        course.answered(phase, outcome)?;
        course.finish()
    }
}
