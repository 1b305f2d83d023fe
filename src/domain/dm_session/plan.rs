//! What a device shall do, and what became of it.

use serde::{Deserialize, Serialize};

use crate::wire::locuri::{LocUri, Scope};
use crate::wire::syncml::{Format, Verb};

use super::verdict::{Judged, is_guilty, judge};

/// One piece of work: commands that succeed or fail together in the caller's eyes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// The caller's name for it; comes back in the [`Outcome`].
    pub key: String,
    /// Whose part of the tree it is about. An operation on `./User` makes it the user's in any case.
    pub scope: Scope,
    /// The operations, in order.
    pub ops: Vec<Op>,
    /// Whether the device shall do all or nothing; `Get`s follow after the `Atomic`, which may not hold them.
    pub atomic: bool,
}

/// One operation on one node.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Op {
    /// What to do.
    pub verb: Verb,
    /// The node.
    pub uri: String,
    /// How the data is written.
    pub format: Option<Format>,
    /// The media type of the data.
    pub mime: Option<String>,
    /// The data. With [`Format::Xml`] it is embedded as markup when it is well-formed, otherwise it is escaped.
    pub data: Option<String>,
}

impl std::fmt::Debug for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} ({} bytes)", self.verb.as_str(), self.uri, self.data.as_ref().map_or(0, String::len))
    }
}

impl Op {
    /// Reads a node.
    #[must_use]
    pub fn get(uri: impl Into<String>) -> Self {
        Self { verb: Verb::Get, uri: uri.into(), format: None, mime: None, data: None }
    }

    /// Removes a node.
    #[must_use]
    pub fn delete(uri: impl Into<String>) -> Self {
        Self { verb: Verb::Delete, uri: uri.into(), format: None, mime: None, data: None }
    }

    /// Changes a node.
    #[must_use]
    pub fn replace(uri: impl Into<String>, format: Format, data: impl Into<String>) -> Self {
        Self { verb: Verb::Replace, uri: uri.into(), format: Some(format), mime: None, data: Some(data.into()) }
    }

    /// Creates a node with a value.
    #[must_use]
    pub fn add(uri: impl Into<String>, format: Format, data: impl Into<String>) -> Self {
        Self { verb: Verb::Add, uri: uri.into(), format: Some(format), mime: None, data: Some(data.into()) }
    }

    /// Creates an interior node.
    #[must_use]
    pub fn add_node(uri: impl Into<String>) -> Self {
        Self { verb: Verb::Add, uri: uri.into(), format: Some(Format::Node), mime: None, data: None }
    }

    /// Runs a node that needs no data.
    #[must_use]
    pub fn exec(uri: impl Into<String>) -> Self {
        Self { verb: Verb::Exec, uri: uri.into(), format: Some(Format::Null), mime: None, data: None }
    }
}

words! {
    /// What became of work. The worst of its operations decides, in this order.
    Verdict {
        /// Everything was accepted (which is not yet *applied* for what the device does later).
        Done = "done",
        /// The device's edition or build does not have the feature.
        NotApplicable = "not_applicable",
        /// Not now: the user is not there, or the device stopped. Does not count as an attempt.
        Deferred = "deferred",
        /// Try again later; counting the attempts is the caller's.
        Retry = "retry",
        /// It will not work.
        Failed = "failed",
    }
}

/// What became of one piece of work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The caller's name for the work.
    pub key: String,
    /// The whole.
    pub verdict: Verdict,
    /// One per operation, in their order; empty when nothing was sent.
    pub ops: Vec<OpOutcome>,
    /// Which operation is to blame when the verdict is not [`Verdict::Done`].
    pub culprit: Option<usize>,
}

/// What became of one operation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpOutcome {
    /// The device's last status code; 413 or 400 when we could not even send it, 424 when its answer was damaged, 0 when there is none.
    pub status: u16,
    /// `msft:originalerror`.
    pub original_error: Option<String>,
    /// What a `Get` brought; `None` when the node has no value.
    pub value: Option<Value>,
}

/// A value that a device reports.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value {
    /// How it is written.
    pub format: Option<Format>,
    /// Its media type.
    pub mime: Option<String>,
    /// The text, decoded.
    pub text: String,
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Value({:?}, {} bytes)", self.format, self.text.len())
    }
}

/// What a dead session leaves behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Abandoned {
    /// Never sent.
    pub unsent: Vec<Planned>,
    /// Sent, in part or whole, without an answer; all of it may be sent again.
    pub resend: Vec<Planned>,
    /// An `Exec` of it was sent: find out what the device did before sending it again.
    pub uncertain: Vec<Planned>,
}

/// A command of ours, as the device refers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Ref {
    pub(super) message: u32,
    pub(super) command: u32,
}

/// A status that arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) original_error: Option<String>,
}

/// Where an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// To be sent.
    Queued,
    /// Sent; of a large object the data up to `until`.
    Sent { at: Ref, until: usize },
    /// Decided.
    Settled(Verdict),
}

/// An operation under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct OpState {
    /// The verb to send: 418 and 404 change it once.
    pub(super) verb: Verb,
    pub(super) switched: bool,
    /// Whether it was ever sent.
    pub(super) sent: bool,
    pub(super) stage: Stage,
    /// How much of the data the device has.
    pub(super) offset: usize,
    pub(super) answer: Option<Answer>,
    pub(super) value: Option<Value>,
}

/// Work under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Unit {
    pub(super) planned: Planned,
    pub(super) scope: Scope,
    /// Whether nobody says that the user is signed in.
    #[serde(default)]
    pub(super) absent: bool,
    pub(super) ops: Vec<OpState>,
    /// The `Atomic` around the operations, once sent.
    pub(super) atomic: Option<Ref>,
    pub(super) atomic_answer: Option<Answer>,
}

impl OpState {
    /// Whether its data goes in parts, and the last of them is not acknowledged yet.
    pub(super) fn is_partial(&self, planned: &Op) -> bool {
        match self.stage {
            Stage::Queued => self.offset > 0,
            Stage::Sent { until, .. } => self.offset > 0 || until < planned.data.as_ref().map_or(0, String::len),
            Stage::Settled(_) => false,
        }
    }
}

impl Unit {
    /// The operations with what was planned for them.
    pub(super) fn pairs_mut(&mut self) -> impl Iterator<Item = (&mut OpState, &Op)> {
        self.ops.iter_mut().zip(&self.planned.ops)
    }

    pub(super) fn new(planned: Planned, user: bool, device: bool) -> Result<Self, Outcome> {
        let at_once = |planned: Planned, verdict, ops, culprit| Outcome { key: planned.key, verdict, ops, culprit };
        if planned.ops.is_empty() {
            return Err(at_once(planned, Verdict::Done, Vec::new(), None));
        }
        let mut scope = planned.scope;
        for (place, op) in planned.ops.iter().enumerate() {
            match LocUri::parse(&op.uri).map(|uri| uri.scope()) {
                Ok(Scope::Device) => {}
                Ok(Scope::User) => scope = Scope::User,
                Err(_) => {
                    let mut ops = vec![OpOutcome::default(); planned.ops.len()];
                    if let Some(one) = ops.get_mut(place) {
                        one.status = 400;
                    }
                    return Err(at_once(planned, Verdict::Failed, ops, Some(place)));
                }
            }
        }
        let allowed = match scope {
            Scope::User => user,
            Scope::Device => device,
        };
        if !allowed {
            return Err(at_once(planned, Verdict::Deferred, Vec::new(), None));
        }
        let ops = planned.ops.iter().map(|op| OpState {
            verb: op.verb,
            switched: false,
            sent: false,
            stage: Stage::Queued,
            offset: 0,
            answer: None,
            value: None,
        });
        Ok(Self { scope, absent: false, ops: ops.collect(), planned, atomic: None, atomic_answer: None })
    }

    /// Whether that operation goes inside the `Atomic`.
    pub(super) fn is_inside(&self, op: &OpState) -> bool {
        self.planned.atomic && op.verb != Verb::Get
    }

    /// What the answer means when it is this operation that spoilt the whole, rather than one that fell with it.
    pub(super) fn guilt(&self, op: &OpState, planned: &Op) -> Option<Judged> {
        let code = op.answer.as_ref().map_or(0, |answer| answer.code);
        let judged = judge(op.verb, planned.format, self.scope, self.absent, op.switched, code);
        (is_guilty(code) && judged != Judged::Settled(Verdict::Done)).then_some(judged)
    }

    /// The outcome, once every operation is decided.
    pub(super) fn outcome(&mut self) -> Option<Outcome> {
        let mut verdict = Verdict::Done;
        let mut culprit = None;
        for (place, op) in self.ops.iter().enumerate() {
            match op.stage {
                Stage::Settled(one) => {
                    if one > verdict {
                        verdict = one;
                        culprit = Some(place);
                    }
                }
                Stage::Queued | Stage::Sent { .. } => return None,
            }
        }
        // In an Atomic the others only fell with the one that failed.
        if self.planned.atomic && verdict != Verdict::Done {
            let guilty = self.ops.iter().zip(&self.planned.ops).position(|(op, planned)| self.guilt(op, planned).is_some());
            let accepted = self.atomic_answer.as_ref().is_none_or(|answer| answer.code < 300);
            let silent = self.ops.iter().position(|op| op.answer.is_none()).filter(|_| accepted);
            culprit = guilty.or(silent).or(culprit.filter(|_| self.atomic_answer.is_none()));
        }
        // A child without an answer of its own fell with the whole.
        let shared = self.atomic_answer.as_ref().filter(|answer| self.planned.atomic && answer.code >= 300);
        let ops = self.ops.iter_mut().map(|op| {
            let answer = op.answer.take().or_else(|| shared.filter(|_| op.verb != Verb::Get).cloned());
            let (status, original_error) = answer.map_or((0, None), |answer| (answer.code, answer.original_error));
            OpOutcome { status, original_error, value: op.value.take() }
        });
        Some(Outcome { key: self.planned.key.clone(), verdict, ops: ops.collect(), culprit })
    }

    /// Whether any of it is, or was, in a message.
    pub(super) fn was_sent(&self) -> bool {
        self.ops.iter().any(|op| op.sent)
    }

    pub(super) fn abandon(self, abandoned: &mut Abandoned) {
        let ran = self.ops.iter().any(|op| op.sent && op.verb == Verb::Exec);
        let list = match (ran, self.was_sent()) {
            (true, _) => &mut abandoned.uncertain,
            (false, true) => &mut abandoned.resend,
            (false, false) => &mut abandoned.unsent,
        };
        list.push(self.planned);
    }
}
