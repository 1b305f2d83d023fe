//! The OMA-DM session as a pure state machine.
//!
//! One message in, one message out: [`Session::receive`] takes in what the device says (answers to our commands, alerts, reports),
//! [`Session::enqueue`] adds what it shall do, [`Session::respond`] makes the next message. The session is a value that is stored
//! between messages, so any node may answer the next one. A session that has nothing to do needs no storing: its answer depends on
//! the message alone.
//!
//! What the caller keeps apart: who the device is (the certificate), retries and their count, back-off, and the bytes of the last
//! answer ([`arrival()`] says when to send them again).

mod answer;
mod arrival;
mod digest;
mod inbound;
mod outbound;
mod plan;
mod settle;
mod upload;
mod verdict;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::wire::syncml::{Dtd, Header, SyncMl};

use super::Refusal;
use inbound::Reply;
use plan::Unit;
use upload::Upload;

pub use answer::{challenge, refuse};
pub use arrival::{Arrival, Last, arrival};
pub use digest::{Judgement, NONCE_LIFE, Nonce, judge};
pub use inbound::{DevInfo, Notice, Received, Report, UNENROLLED};
pub use plan::{Abandoned, Op, OpOutcome, Outcome, Planned, Value, Verdict};
pub use upload::{Piece, ends_object};

words! {
    /// Who is signed in at the device (`com.microsoft/MDM/LoginStatus`).
    Login {
        /// The user that the enrolment belongs to.
        User = "user",
        /// Other users only.
        Others = "others",
        /// Nobody.
        Nobody = "none",
    }
}

words! {
    /// Whose settings the session is about (`com.microsoft.mdm.synctype`).
    SyncType {
        /// The machine's.
        Device = "device",
        /// Both.
        Mixed = "mixed",
        /// The user's.
        User = "user",
    }
}

words! {
    /// What a session may still do.
    Phase {
        /// Send commands and take answers.
        Managing = "managing",
        /// Take answers, but send no more commands: the device processes none, or has left.
        Draining = "draining",
        /// Nothing: the device gave up.
        Aborted = "aborted",
    }
}

/// What moves a session from one phase to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Status 214, or an unenrolment.
    Stop,
    /// Alert 1223.
    Abort,
}

impl Phase {
    fn step(self, turn: Turn) -> Self {
        match (self, turn) {
            (Self::Managing | Self::Draining, Turn::Stop) => Self::Draining,
            (Self::Managing | Self::Draining | Self::Aborted, Turn::Abort) | (Self::Aborted, Turn::Stop) => Self::Aborted,
        }
    }
}

/// How the device proved who it is, as far as the answer has to say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Proven {
    /// By its certificate: the header is answered with 200.
    #[default]
    Certificate,
    /// By credentials that hold for the session: 212.
    ForSession,
    /// By credentials that are needed again in the next message: 200 with the nonce for them.
    Once {
        /// The next nonce.
        next_nonce: Vec<u8>,
    },
}

/// What the caller knows about a message.
#[derive(Clone, Debug)]
pub struct Context<'c> {
    /// The `DeviceID` of the enrolment that the certificate or the credentials belong to.
    pub device_id: &'c str,
    /// How the device proved that.
    pub proven: Proven,
    /// Whether the enrolment is the machine's and not a person's: nobody knows then whose user commands would be.
    pub shared: bool,
}

/// How answers are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manners {
    /// Longest message of ours, in bytes; the device may ask for less.
    pub message_bytes: usize,
    /// Most commands in one message.
    pub commands: usize,
    /// Whether to ask for original errors (`SyncApplicationVersion` 3.0 and later).
    pub original_errors: bool,
}

impl Default for Manners {
    fn default() -> Self {
        Self { message_bytes: 512 * 1024, commands: 100, original_errors: true }
    }
}

/// A session with one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    peer: Peer,
    phase: Phase,
    login: Option<Login>,
    sync_type: Option<SyncType>,
    /// The enrolment is the machine's, whoever is signed in.
    shared: bool,
    /// The message of the device that the next answer belongs to.
    message: u32,
    /// Whether that message ended its package.
    complete: bool,
    /// Whether that message only said that the device is still at work.
    keep_alive: bool,
    /// Whether the last answer ended the session.
    over: bool,
    /// The next `CmdID`; counts through the whole session.
    next_id: u32,
    replies: VecDeque<Reply>,
    /// Alerts to send: 1222 and 1225.
    asks: Vec<u16>,
    units: Vec<Unit>,
    upload: Option<Upload>,
}

/// What of the device's header is needed for every answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Peer {
    dtd: Dtd,
    ver_dtd: String,
    ver_proto: String,
    session_id: String,
    device: String,
    server: String,
    max_message: Option<u64>,
    /// The longest value that the device takes.
    #[serde(default)]
    max_object: Option<u64>,
}

impl Peer {
    fn of(dtd: Dtd, header: &Header) -> Self {
        Self {
            dtd,
            ver_dtd: header.ver_dtd.clone(),
            ver_proto: header.ver_proto.clone(),
            session_id: header.session_id.clone(),
            device: header.source.uri.clone(),
            server: header.target.uri.clone(),
            max_message: header.meta.max_msg_size,
            max_object: header.meta.max_obj_size,
        }
    }
}

impl Session {
    /// A new session, for the first message of one; [`Self::receive`] that message next.
    #[must_use]
    pub fn start(message: &SyncMl) -> Self {
        Self {
            peer: Peer::of(message.dtd, &message.header),
            phase: Phase::Managing,
            login: None,
            sync_type: None,
            shared: false,
            message: 0,
            complete: true,
            keep_alive: false,
            over: false,
            next_id: 1,
            replies: VecDeque::new(),
            asks: Vec::new(),
            units: Vec::new(),
            upload: None,
        }
    }

    /// The device's `SessionID`.
    #[must_use]
    pub fn session_id(&self) -> &str {
        &self.peer.session_id
    }

    /// What the session may still do.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Who is signed in, once the device has said it.
    #[must_use]
    pub fn login(&self) -> Option<Login> {
        self.login
    }

    /// Whose settings the session is about, once the device has said it.
    #[must_use]
    pub fn sync_type(&self) -> Option<SyncType> {
        self.sync_type
    }

    /// Whether commands for `./User` may be sent: never on an enrolment of the machine, where any user may be meant.
    #[must_use]
    pub fn takes_user_commands(&self) -> bool {
        match (self.login, self.sync_type) {
            _ if self.shared => false,
            // Whatever the session is called: the user is not there.
            (Some(Login::Others | Login::Nobody), _) | (_, Some(SyncType::Device)) => false,
            (_, Some(SyncType::User | SyncType::Mixed)) => true,
            (login, None) => login == Some(Login::User),
        }
    }

    /// Whether commands for the machine may be sent.
    #[must_use]
    pub fn takes_device_commands(&self) -> bool {
        self.sync_type != Some(SyncType::User)
    }

    /// Whether the last answer ended the session: store nothing further, and [`Self::abandon`] what is left.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Whether nothing is left to send or to be answered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.units.is_empty() && self.upload.is_none() && self.replies.is_empty()
    }

    /// The keys of everything that has no outcome yet.
    pub fn pending(&self) -> impl Iterator<Item = &str> {
        self.units.iter().map(|unit| unit.planned.key.as_str())
    }

    /// Takes back what was never sent and that `keep` does not name.
    pub fn retain_unsent(&mut self, keep: impl Fn(&str) -> bool) {
        self.units.retain(|unit| unit.was_sent() || keep(&unit.planned.key));
    }

    /// Adds work. What cannot be sent in this session comes back at once: `./User` without its user is [`Verdict::Deferred`], nothing
    /// to do is [`Verdict::Done`], an address that is none is [`Verdict::Failed`].
    pub fn enqueue(&mut self, work: Vec<Planned>) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for planned in work {
            match Unit::new(planned, self.takes_user_commands(), self.takes_device_commands()) {
                Ok(unit) => self.units.push(unit),
                Err(outcome) => outcomes.push(outcome),
            }
        }
        outcomes
    }

    /// Whether a large object of the device is not complete yet. What has come of it is the caller's to keep: [`Self::take_piece`].
    #[must_use]
    pub fn is_receiving(&self) -> bool {
        self.upload.is_some()
    }

    /// The part of a large object that came with the last message, to be kept apart from the session: a session is stored with each
    /// message, and the object need not be.
    #[must_use]
    pub fn take_piece(&mut self) -> Option<Piece> {
        self.upload.as_mut()?.take_piece()
    }

    /// Gives back all that [`Self::take_piece`] gave out of the open object; needed before a message that may end it ([`ends_object`]).
    pub fn resume(&mut self, text: String) {
        if let Some(upload) = &mut self.upload {
            upload.before = text;
        }
    }

    /// Ends the session and sorts what has no outcome.
    #[must_use]
    pub fn abandon(self) -> Abandoned {
        let mut abandoned = Abandoned::default();
        for unit in self.units {
            unit.abandon(&mut abandoned);
        }
        abandoned
    }
}

/// Whether a message can be part of a session with that device.
///
/// # Errors
/// [`Refusal::ManagementSourceMismatch`] when it names another device, [`Refusal::ManagementProtocolUnsupported`] when it is written
/// for a protocol that is not OMA-DM 1.x.
pub fn check(header: &Header, device_id: &str) -> Result<(), Refusal> {
    if !header.source.uri.eq_ignore_ascii_case(device_id) {
        return Err(Refusal::ManagementSourceMismatch);
    }
    if !header.ver_proto.starts_with("DM/1.") || !header.ver_dtd.starts_with("1.") {
        return Err(Refusal::ManagementProtocolUnsupported);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
