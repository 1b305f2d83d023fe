//! Taking in a message of the device.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::domain::Refusal;
use crate::wire::locuri::{LocUri, same};
use crate::wire::syncml::{Alert, Command, Data, Item, Meta, Operation, Results, Status, SyncMl, Verb, auth};

use super::plan::{Answer, OpState, Outcome, Ref, Stage, Unit, Value, Verdict};
use super::upload::{Fed, Subject, feed};
use super::{Context, Login, Phase, Proven, Session, SyncType, Turn, check};

/// What a message brought.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Received {
    /// Work that is decided.
    pub outcomes: Vec<Outcome>,
    /// Alerts, except those that the session is about itself.
    pub notices: Vec<Notice>,
    /// Values that the device sent by itself: `./DevInfo` in each first message.
    pub reports: Vec<Report>,
    /// Who is signed in, when this message said it.
    pub login: Option<Login>,
    /// Whose settings the session is about, when this message said it.
    pub sync_type: Option<SyncType>,
    /// The user ended the management (alert 1226): no more commands are sent.
    pub unenrolled: bool,
    /// The device gave up the session (alert 1223).
    pub aborted: bool,
    /// The device is still at work and said only that.
    pub keep_alive: bool,
    /// A rollback failed (516): what was reported before may no longer hold.
    pub reread: bool,
    /// Commands of ours that the device calls malformed (400), without what they would have written.
    pub malformed: Vec<String>,
    /// Answers to commands that were never sent.
    pub strays: u32,
    /// What the device said about our header, when that was no success.
    pub header_status: Option<u16>,
}

/// An alert of the device.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The alert code, such as 1224.
    pub code: u16,
    /// What it is about (`Meta/Type`).
    pub kind: Option<String>,
    /// Its severity.
    pub mark: Option<String>,
    /// The node that speaks.
    pub source: Option<String>,
    /// The `Correlator` of the `Exec` that it ends.
    pub correlator: Option<String>,
    /// Its data; may be a token.
    pub data: Option<String>,
}

impl std::fmt::Debug for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Notice({} {:?} from {:?})", self.code, self.kind, self.source)
    }
}

/// A value that the device sent by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The node, as written.
    pub uri: String,
    /// Its value.
    pub value: Value,
}

/// What a device says about itself in its first message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DevInfo {
    /// `./DevInfo/DevId`.
    pub id: Option<String>,
    /// `./DevInfo/Man`.
    pub manufacturer: Option<String>,
    /// `./DevInfo/Mod`.
    pub model: Option<String>,
    /// `./DevInfo/DmV`.
    pub dm_version: Option<String>,
    /// `./DevInfo/Lang`.
    pub language: Option<String>,
}

impl Received {
    /// The device's own description; `None` when this message holds none.
    #[must_use]
    pub fn dev_info(&self) -> Option<DevInfo> {
        let find = |uri: &str| self.reports.iter().find(|report| same(&report.uri, uri)).map(|report| report.value.text.clone());
        let info = DevInfo {
            id: find("./DevInfo/DevId").or_else(|| find("./DevInfo/DevID")),
            manufacturer: find("./DevInfo/Man"),
            model: find("./DevInfo/Mod"),
            dm_version: find("./DevInfo/DmV"),
            language: find("./DevInfo/Lang"),
        };
        (info != DevInfo::default()).then_some(info)
    }
}

/// The type of the alert with which a user ends the management.
pub const UNENROLLED: &str = "com.microsoft:mdm.unenrollment.userrequest";

/// A status that we owe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reply {
    pub(super) message: u32,
    pub(super) cmd_ref: String,
    pub(super) cmd: String,
    pub(super) code: u16,
    pub(super) target: Option<String>,
    pub(super) source: Option<String>,
    /// For the next credentials, base64.
    pub(super) next_nonce: Option<Vec<u8>>,
}

/// Which of our commands an answer is about.
#[derive(Clone, Copy, Debug)]
enum Slot {
    Atomic(usize),
    Op(usize, usize),
}

impl Session {
    /// Takes in a message of this session: the caller has asked [`super::arrival()`] and, where needed, [`super::judge`].
    ///
    /// # Errors
    /// [`Refusal::ManagementSourceMismatch`], [`Refusal::ManagementProtocolUnsupported`] or [`Refusal::ManagementSessionUnknown`]: nothing
    /// was taken in; answer with [`super::refuse`].
    pub fn receive(mut self, message: SyncMl, context: &Context<'_>) -> Result<(Self, Received), Refusal> {
        check(&message.header, context.device_id)?;
        if message.header.session_id != self.peer.session_id {
            return Err(Refusal::ManagementSessionUnknown);
        }
        self.begin_message(&message, &context.proven);
        self.shared = context.shared;
        let mut received = Received::default();
        let slots = self.slots();
        let (mut answered, mut next_please, mut alerts) = (false, false, false);
        for command in message.body {
            match command {
                Command::Status(status) => answered |= self.take_status(status, &slots, &mut received),
                Command::Results(results) => {
                    answered = true;
                    self.take_results(results, &slots, &mut received);
                }
                Command::Alert(alert) => {
                    alerts = true;
                    next_please |= alert.code == 1222;
                    self.take_alert(alert, &mut received);
                }
                Command::Operation(operation) => {
                    answered = true;
                    self.take_operation(operation, &mut received);
                }
                Command::Atomic(_) | Command::Sequence(_) | Command::Unsupported(..) => {
                    answered = true;
                    let code = if command.id().is_some() { 406 } else { 400 };
                    self.reply(command.id(), command.name(), code);
                }
            }
        }
        let waiting = self.units.iter().any(Unit::is_waiting);
        received.keep_alive = waiting && alerts && !answered && !next_please && self.phase == Phase::Managing;
        self.keep_alive = received.keep_alive;
        if !self.keep_alive {
            self.check_upload();
        }
        if self.upload.is_some() || !self.complete {
            self.asks.push(1222);
        }
        self.settle(&mut received);
        Ok((self, received))
    }

    fn begin_message(&mut self, message: &SyncMl, proven: &Proven) {
        let header = &message.header;
        self.message = header.msg_id;
        self.complete = message.last;
        self.over = false;
        self.asks.clear();
        self.peer.server.clone_from(&header.target.uri);
        self.peer.max_message = header.meta.max_msg_size.or(self.peer.max_message);
        self.peer.max_object = header.meta.max_obj_size.or(self.peer.max_object);
        let (code, next_nonce) = match proven {
            Proven::Certificate => (200, None),
            Proven::ForSession => (212, None),
            Proven::Once { next_nonce } => (200, Some(next_nonce.clone())),
        };
        self.replies.push_back(Reply {
            message: self.message,
            cmd_ref: "0".to_owned(),
            cmd: "SyncHdr".to_owned(),
            code,
            target: Some(header.target.uri.clone()),
            source: Some(header.source.uri.clone()),
            next_nonce,
        });
    }

    fn reply(&mut self, id: Option<&str>, cmd: &str, code: u16) {
        self.replies.push_back(Reply {
            message: self.message,
            cmd_ref: id.unwrap_or_default().to_owned(),
            cmd: cmd.to_owned(),
            code,
            target: None,
            source: None,
            next_nonce: None,
        });
    }

    /// Everything that waits for an answer.
    fn slots(&self) -> HashMap<Ref, Slot> {
        let mut slots = HashMap::new();
        for (place, unit) in self.units.iter().enumerate() {
            if let Some(at) = unit.atomic {
                slots.insert(at, Slot::Atomic(place));
            }
            for (inner, op) in unit.ops.iter().enumerate() {
                if let Stage::Sent { at, .. } = op.stage {
                    slots.insert(at, Slot::Op(place, inner));
                }
            }
        }
        slots
    }

    fn op(&mut self, slot: Option<&Slot>) -> Option<&mut OpState> {
        match slot {
            Some(Slot::Op(unit, op)) => self.units.get_mut(*unit)?.ops.get_mut(*op),
            Some(Slot::Atomic(_)) | None => None,
        }
    }

    /// Whether the status was about a command.
    fn take_status(&mut self, status: Status, slots: &HashMap<Ref, Slot>, received: &mut Received) -> bool {
        if status.cmd_ref == "0" {
            received.header_status = Some(status.code).filter(|code| !(200..300).contains(code));
            return false;
        }
        let slot = reference(status.msg_ref, &status.cmd_ref).and_then(|at| slots.get(&at));
        // "Still in progress" decides nothing.
        if (100..200).contains(&status.code) && slot.is_some() {
            return true;
        }
        let answer = Answer { code: status.code, original_error: status.original_error };
        match slot {
            Some(Slot::Atomic(unit)) => {
                if let Some(unit) = self.units.get_mut(*unit) {
                    unit.atomic_answer.get_or_insert(answer);
                }
            }
            Some(Slot::Op(..)) => {
                if let Some(op) = self.op(slot) {
                    op.answer.get_or_insert(answer);
                }
            }
            None => received.strays = received.strays.saturating_add(1),
        }
        true
    }

    fn take_results(&mut self, results: Results, slots: &HashMap<Ref, Slot>, received: &mut Received) {
        let at = reference(results.msg_ref, &results.cmd_ref);
        let (Some(at), Some(Slot::Op(unit, op))) = (at, at.and_then(|at| slots.get(&at))) else {
            received.strays = received.strays.saturating_add(1);
            return;
        };
        let Some(asked) = self.units.get(*unit).and_then(|unit| unit.planned.ops.get(*op)).map(|op| op.uri.clone()) else { return };
        let from = results.source_ref.or(results.target_ref);
        for mut item in results.items {
            let uri = item.source.take().or_else(|| item.target.take()).map(|address| address.uri).or_else(|| from.clone());
            // A Get of a whole tree brings items of other nodes.
            if uri.is_some_and(|uri| !same(&uri, &asked)) {
                continue;
            }
            let meta = merge(&mut item.meta, &results.meta);
            let (fed, dropped) = feed(&mut self.upload, Subject { of: Some(at), uri: asked.clone() }, item, meta);
            self.drop_upload(dropped.as_ref());
            let (code, verdict) = match fed {
                Fed::Whole(value) => {
                    if let Some(op) = self.op(slots.get(&at)) {
                        op.value = Some(value);
                    }
                    continue;
                }
                Fed::More => (213, None),
                Fed::NoSize => (412, Some(Verdict::Retry)),
                Fed::Mismatch => (424, Some(Verdict::Retry)),
                Fed::TooLarge { .. } => (413, Some(Verdict::Failed)),
            };
            // Results are answered only where large objects need it.
            if let Some(id) = &results.id {
                self.reply(Some(id), "Results", code);
            }
            if let Some((op, verdict)) = self.op(slots.get(&at)).zip(verdict) {
                op.fail(code, verdict);
            }
        }
    }

    fn take_operation(&mut self, operation: Operation, received: &mut Received) {
        let name = operation.verb.as_str();
        let code = match (operation.id.as_deref(), operation.verb) {
            (None, _) => 400,
            (Some(_), Verb::Add | Verb::Delete | Verb::Exec | Verb::Get) => 406,
            (Some(_), Verb::Replace) => {
                let uris: Vec<_> = operation.items.iter().map(|item| item.source.as_ref().or(item.target.as_ref())).collect();
                if uris.is_empty() || uris.iter().any(|uri| uri.is_none_or(|uri| LocUri::parse(&uri.uri).is_err())) {
                    400
                } else {
                    self.take_reports(operation.items, &operation.meta, received)
                }
            }
        };
        self.reply(operation.id.as_deref(), name, code);
    }

    /// The code for the whole command: the worst of its items.
    fn take_reports(&mut self, items: Vec<Item>, common: &Meta, received: &mut Received) -> u16 {
        let mut code = 200;
        for mut item in items {
            let Some(uri) = item.source.take().or_else(|| item.target.take()).map(|address| address.uri) else { continue };
            let meta = merge(&mut item.meta, common);
            let (fed, dropped) = feed(&mut self.upload, Subject { of: None, uri: uri.clone() }, item, meta);
            self.drop_upload(dropped.as_ref());
            let one = match fed {
                Fed::Whole(value) => {
                    received.reports.push(Report { uri, value });
                    200
                }
                Fed::More => 213,
                Fed::NoSize => 412,
                Fed::Mismatch => 424,
                Fed::TooLarge { .. } => 413,
            };
            code = code.max(one);
        }
        code
    }

    fn take_alert(&mut self, alert: Alert, received: &mut Received) {
        let usable = alert.id.is_some() && alert.code > 0;
        self.reply(alert.id.as_deref(), "Alert", if usable { 200 } else { 400 });
        if !usable {
            return;
        }
        match alert.code {
            1200 | 1201 | 1222 => {}
            1223 => {
                received.aborted = true;
                self.phase = self.phase.step(Turn::Abort);
            }
            1225 => {
                for (op, _) in self.units.iter_mut().flat_map(Unit::pairs_mut).filter(|(op, planned)| op.is_partial(planned)) {
                    op.fail(424, Verdict::Retry);
                }
            }
            code => {
                let correlator = alert.correlator;
                let plain = Notice { code, correlator, ..Notice::default() };
                if alert.items.is_empty() {
                    received.notices.push(plain.clone());
                }
                for item in alert.items {
                    let notice = Notice {
                        kind: item.meta.kind,
                        mark: item.meta.mark,
                        source: item.source.or(item.target).map(|address| address.uri),
                        data: item.data.map(Data::into_string),
                        ..plain.clone()
                    };
                    self.understand(&notice, received);
                    received.notices.push(notice);
                }
            }
        }
    }

    fn understand(&mut self, notice: &Notice, received: &mut Received) {
        let Some(kind) = notice.kind.as_deref() else { return };
        let word = notice.data.as_deref().map(|data| data.trim().to_ascii_lowercase()).unwrap_or_default();
        if kind.eq_ignore_ascii_case("com.microsoft/MDM/LoginStatus") {
            received.login = Login::parse(&word);
            self.login = received.login.or(self.login);
        } else if kind.eq_ignore_ascii_case("com.microsoft.mdm.synctype") {
            received.sync_type = SyncType::parse(&word);
            self.sync_type = received.sync_type.or(self.sync_type);
        } else if notice.code == 1226 && kind.eq_ignore_ascii_case(UNENROLLED) {
            received.unenrolled = true;
            self.phase = self.phase.step(Turn::Stop);
        }
    }

    /// The end of an object is missing when a message says nothing more about it.
    fn check_upload(&mut self) {
        if self.upload.as_ref().is_some_and(super::Upload::is_stale) {
            let dropped = self.upload.take().map(|upload| upload.subject);
            self.drop_upload(dropped.as_ref());
        }
        if let Some(upload) = &mut self.upload {
            upload.mark();
        }
    }

    fn drop_upload(&mut self, dropped: Option<&Subject>) {
        let Some(subject) = dropped else { return };
        self.asks.push(1225);
        let op = self
            .units
            .iter_mut()
            .flat_map(|unit| &mut unit.ops)
            .find(|op| matches!(op.stage, Stage::Sent { at, .. } if Some(at) == subject.of));
        if let Some(op) = op {
            op.fail(424, Verdict::Retry);
        }
    }
}

fn reference(message: u32, command: &str) -> Option<Ref> {
    Some(Ref { message, command: command.parse().ok()? })
}

fn merge(own: &mut Meta, common: &Meta) -> Meta {
    let mut meta = std::mem::take(own);
    meta.format = meta.format.or(common.format);
    meta.kind = meta.kind.or_else(|| common.kind.clone());
    meta.size = meta.size.or(common.size);
    meta
}

/// A challenge for the next credentials of an accepted message.
pub(super) fn next_challenge(reply: &Reply) -> Option<Meta> {
    reply.next_nonce.as_deref().map(auth::challenge)
}
