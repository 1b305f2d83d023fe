//! Configuration service providers with behaviour of their own: what a catalogue row cannot say.
//!
//! A payload of a profile is one *part*. When it is due the session asks its provider what to send ([`Csp::begin`]) and hands it the
//! device's answers ([`Csp::answered`]); the provider says how the part's record moves and what else has to happen.

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use crate::app::App;
use crate::catalogue::Scope;
use crate::clock::Time;
use crate::domain::Refusal;
use crate::domain::certificate::Certificate;
use crate::domain::desired::{Input, Record};
use crate::domain::device::Device;
use crate::domain::dm_session::{Op, Outcome};
use crate::domain::enrollment::Enrollment;
use crate::domain::profile::{Payload, Problem};
use crate::domain::user::User;
use crate::ids::ProfileId;
pub use crate::service::effect::Effect;
use crate::service::pki::authority::Authority;
use crate::service::{Error, Result};

/// Declares the providers: the module, and its place in the list.
macro_rules! csps {
    ($($module:ident :: $provider:ident),+ $(,)?) => {
        $(mod $module;)+

        const ALL: &[&dyn Csp] = &[$(&$module::$provider),+];
    };
}

csps! { scep::Scep, trusted_certificate::TrustedCertificate }

/// Whom a part is for, and what providers draw on.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The server.
    pub app: &'a App,
    /// The present moment.
    pub now: Time,
    /// The device.
    pub device: &'a Device,
    /// Its enrolment.
    pub enrollment: &'a Enrollment,
    /// Who enrolled.
    pub user: Option<&'a User>,
    /// Good certificates of the device, the newest first.
    pub certificates: &'a [Certificate],
    /// Whether the session takes commands for the machine.
    pub takes_device: bool,
    /// Whether the session takes commands for the user.
    pub takes_user: bool,
    /// The authority that devices are told of; whether it issues at the moment, it says itself.
    pub authority: &'a Authority,
}

impl Context<'_> {
    /// Whether commands of that scope can be sent now.
    fn takes(&self, scope: Scope) -> bool {
        match scope {
            Scope::Device => self.takes_device,
            Scope::User => self.takes_user,
        }
    }
}

/// One payload of one profile on one device.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// The profile.
    pub profile: &'a ProfileId,
    /// The payload's name in the profile.
    pub name: &'a str,
    /// What is wanted; `None` when it is to be taken away.
    pub payload: Option<&'a Payload>,
    /// How far it has got.
    pub record: &'a Record,
}

impl Part<'_> {
    /// A text that the provider remembers of this part.
    fn memory(&self, key: &str) -> Option<&str> {
        self.record.memory.get(key).and_then(Value::as_str)
    }
}

/// The phase in which all of a part is taken away, whosever it is.
pub const REMOVE: &str = "remove";
/// The phase in which what is left over of before is taken away. The answers of both are about what was there, whatever is wanted by now.
pub const CLEAN: &str = "clean";

/// The provider of a payload type.
#[must_use]
pub fn find(kind: &str) -> Option<&'static dyn Csp> {
    ALL.iter().copied().find(|csp| csp.kind() == kind)
}

/// Judges the payloads of a profile by what gives them to devices.
///
/// # Errors
/// `PRF0005` with the payload's name, the field and what is allowed.
pub fn check(payloads: &[Payload]) -> std::result::Result<(), Problem> {
    for payload in payloads {
        let refuse = |why: String| Problem::new(Refusal::ProfilePayloadRefused, &payload.name, why);
        let known = || ALL.iter().map(|csp| csp.kind()).collect::<Vec<_>>().join(", ");
        let csp =
            find(&payload.kind).ok_or_else(|| refuse(format!("there is no payload of the type {}, but {}", payload.kind, known())))?;
        csp.check(&payload.body).map_err(refuse)?;
    }
    Ok(())
}

/// What becomes of a part that a rule keeps from the device: it fails, and nothing else does.
///
/// # Errors
/// What concerns more than this part: the database, or our own faults.
pub fn alone(turn: Result<Turn>) -> Result<Turn> {
    match turn {
        Err(Error::Refused(refusal)) => Ok(Turn::refused(refusal.to_string())),
        Err(Error::Invalid(refusal, detail)) => Ok(Turn::refused(format!("{detail}: {refusal}"))),
        Err(Error::Malformed(malformed)) => Ok(Turn::refused(malformed.to_string())),
        other => other,
    }
}

/// Whether an alert of that type says that something of a provider has ended.
#[must_use]
pub fn has_alert(kind: &str) -> bool {
    ALL.iter().any(|csp| csp.alert() == Some(kind))
}

/// Operations that are answered together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The provider's own name for it; comes back with the answer.
    pub phase: &'static str,
    /// What to send.
    pub ops: Vec<Op>,
    /// All or nothing.
    pub atomic: bool,
}

/// What a provider wants to happen.
#[derive(Debug, Default)]
pub struct Turn {
    /// What to send next.
    pub steps: Vec<Step>,
    /// How the record moves, in order.
    pub inputs: Vec<Input>,
    /// What to remember from now on; `None` leaves it as it is.
    pub memory: Option<Map<String, Value>>,
    /// What else to store.
    pub effects: Vec<Effect>,
}

impl Turn {
    fn moved(input: Input) -> Self {
        Self { inputs: vec![input], ..Self::default() }
    }

    /// Nothing is sent, for that reason.
    fn refused(why: String) -> Self {
        Self::moved(Input::Unmet { why })
    }

    fn send(phase: &'static str, ops: Vec<Op>) -> Self {
        Self { steps: vec![Step { phase, ops, atomic: false }], ..Self::default() }
    }
}

/// A provider.
pub trait Csp: Sync {
    /// Which payload type it serves.
    fn kind(&self) -> &'static str;

    /// Judges a payload's fields: reads them as [`Csp::begin`] does.
    ///
    /// # Errors
    /// What is wrong, for the person who wrote the profile.
    fn check(&self, body: &Map<String, Value>) -> std::result::Result<(), String>;

    /// The type of the alert (1226) with which a device says that something of this provider has ended: then it is looked at at once.
    fn alert(&self) -> Option<&'static str> {
        None
    }

    /// What to send for a part that is due.
    ///
    /// # Errors
    /// When the server itself cannot prepare it.
    fn begin<'a>(&'a self, context: &'a Context<'_>, part: &'a Part<'_>) -> BoxFuture<'a, Result<Turn>>;

    /// What follows from the device's answer to the step of that phase.
    ///
    /// # Errors
    /// When the server itself cannot go on.
    fn answered(&self, context: &Context<'_>, part: &Part<'_>, phase: &str, outcome: &Outcome) -> Result<Turn>;
}
