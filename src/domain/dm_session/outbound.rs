//! Making the next message to the device.

use crate::wire::syncml::{Address, Alert, Command, Data, Format, Group, Header, Item, Markup, Meta, Operation, Status, SyncMl, Verb};
use crate::wire::xml::{escaped_len, is_strict};

use super::inbound::{Reply, next_challenge};
use super::plan::{Answer, Op, OpState, Ref, Stage, Unit, Verdict};
use super::{Manners, Outcome, Phase, Session};

/// A message under construction.
struct Draft {
    message: SyncMl,
    /// Its length as bytes, or no less than that.
    size: usize,
    /// Whether it is the length.
    exact: bool,
    limit: usize,
    /// Commands that are no status.
    commands: usize,
    most: usize,
}

impl Draft {
    /// How many bytes are left. Measured only when somebody asks: most messages are nowhere near their limit.
    fn room(&mut self) -> usize {
        if !self.exact {
            self.size = self.message.encode().len();
            self.exact = true;
        }
        self.limit.saturating_sub(self.size)
    }

    /// Whether so many bytes fit for certain.
    fn surely_takes(&self, most: usize) -> bool {
        self.size.saturating_add(most) <= self.limit
    }

    fn push(&mut self, command: Command, length: usize) {
        self.size = self.size.saturating_add(length);
        self.message.body.push(command);
    }

    /// As [`Self::push`], when the length is not known, but that it is no more than this.
    fn push_unmeasured(&mut self, command: Command, most: usize) {
        self.push(command, most);
        self.exact = false;
    }
}

/// What became of trying to send something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// It is in the message.
    Whole,
    /// A first part is; nothing else may follow.
    Part,
    /// There is no room in this message.
    Full,
    /// There will never be room.
    TooLarge,
}

impl Session {
    /// Makes the answer to the message that was received last. The second value is work that turned out not to fit into any message of
    /// this device; it has failed.
    #[must_use]
    pub fn respond(mut self, manners: &Manners) -> (Self, SyncMl, Vec<Outcome>) {
        let mut draft = self.draft(manners);
        self.write_replies(&mut draft);
        let statuses = draft.message.body.len();
        for code in std::mem::take(&mut self.asks) {
            let alert = Command::Alert(Alert { id: Some(self.id().to_string()), code, ..Alert::default() });
            let length = alert.encoded_len();
            draft.push(alert, length);
        }
        let asked = draft.message.body.len() > statuses;
        let free = self.phase == Phase::Managing && self.complete && self.replies.is_empty() && !self.keep_alive && self.upload.is_none();
        let mut outcomes = Vec::new();
        let mut unfinished = !self.replies.is_empty() || (asked && !(self.complete && self.upload.is_none()));
        if free {
            unfinished |= self.write_commands(&mut draft, statuses > 1 || asked);
            for mut unit in std::mem::take(&mut self.units) {
                match unit.outcome() {
                    Some(outcome) => outcomes.push(outcome),
                    None => self.units.push(unit),
                }
            }
        }
        draft.message.last = !unfinished;
        self.over = draft.commands == 0 && !asked && !unfinished && !self.keep_alive;
        (self, draft.message, outcomes)
    }

    fn id(&mut self) -> u32 {
        let id = self.next_id;
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        id
    }

    fn draft(&self, manners: &Manners) -> Draft {
        let peer = &self.peer;
        let message = SyncMl {
            dtd: peer.dtd,
            header: Header {
                ver_dtd: peer.ver_dtd.clone(),
                ver_proto: peer.ver_proto.clone(),
                session_id: peer.session_id.clone(),
                msg_id: self.message,
                target: Address::new(peer.device.clone()),
                source: Address::new(peer.server.clone()),
                cred: None,
                meta: Meta::default(),
            },
            body: Vec::new(),
            last: true,
            microsoft: manners.original_errors,
        };
        let theirs = peer.max_message.and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0).unwrap_or(usize::MAX);
        let header = &message.header;
        let texts = [&header.ver_dtd, &header.ver_proto, &header.session_id, &header.target.uri, &header.source.uri];
        Draft {
            size: most_len(texts),
            exact: false,
            message,
            limit: manners.message_bytes.min(theirs),
            commands: 0,
            most: manners.commands.max(1),
        }
    }

    /// Writes the statuses that fit; at least one, so that a session moves on however little the device takes.
    fn write_replies(&mut self, draft: &mut Draft) {
        while let Some(reply) = self.replies.pop_front() {
            let command = status(&reply, self.next_id);
            let most = most_len([&reply.cmd_ref, &reply.cmd].into_iter().chain(&reply.target).chain(&reply.source));
            if reply.next_nonce.is_none() && draft.surely_takes(most) {
                self.id();
                draft.push_unmeasured(command, most);
                continue;
            }
            let length = command.encoded_len();
            if length > draft.room() && !draft.message.body.is_empty() {
                self.replies.push_front(reply);
                return;
            }
            self.id();
            draft.push(command, length);
        }
    }

    /// Writes the commands that fit. True when the message must not end the package: a large object goes on, or the statuses left no room.
    fn write_commands(&mut self, draft: &mut Draft, crowded: bool) -> bool {
        let mut units = std::mem::take(&mut self.units);
        let in_parts = units.iter_mut().flat_map(Unit::pairs_mut).any(|(op, planned)| op.is_partial(planned));
        let mut unfinished = false;
        let longest = self.peer.max_object.and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0).unwrap_or(usize::MAX);
        'all: for unit in &mut units {
            unit.refuse_longer(longest);
            if unit.planned.atomic
                && unit.atomic.is_none()
                && unit.ops.iter().any(|op| unit.is_inside(op) && op.stage == Stage::Queued)
                && !in_parts
            {
                match self.write_atomic(unit, draft) {
                    Sent::Whole => {}
                    Sent::Full => break 'all,
                    Sent::Part | Sent::TooLarge if crowded && draft.commands == 0 => {
                        unfinished = true;
                        break 'all;
                    }
                    Sent::Part | Sent::TooLarge => {
                        for op in unit.ops.iter_mut().filter(|op| op.stage == Stage::Queued) {
                            op.too_large();
                        }
                    }
                }
            }
            let atomic = unit.planned.atomic;
            for (op, planned) in unit.ops.iter_mut().zip(&unit.planned.ops) {
                let wanted = op.stage == Stage::Queued && !(atomic && op.verb != Verb::Get) && (!in_parts || op.offset > 0);
                if !wanted {
                    continue;
                }
                match self.write_op(op, planned, draft) {
                    Sent::Whole => {}
                    Sent::Part => {
                        unfinished = true;
                        break 'all;
                    }
                    Sent::Full => break 'all,
                    Sent::TooLarge if crowded && draft.commands == 0 => {
                        unfinished = true;
                        break 'all;
                    }
                    Sent::TooLarge => op.too_large(),
                }
            }
        }
        self.units = units;
        unfinished
    }

    fn write_atomic(&mut self, unit: &mut Unit, draft: &mut Draft) -> Sent {
        let first = self.next_id;
        let at = Ref { message: self.message, command: self.id() };
        let mut commands = Vec::new();
        let mut ids = Vec::new();
        for (op, planned) in unit.ops.iter().zip(&unit.planned.ops).filter(|(op, _)| unit.is_inside(op) && op.stage == Stage::Queued) {
            let id = self.id();
            ids.push(id);
            commands.push(operation(op.verb, planned, id, planned.data.as_deref(), None, false));
        }
        let count = commands.len().saturating_add(1);
        let group = Command::Atomic(Group { id: Some(at.command.to_string()), meta: Meta::default(), commands });
        let length = group.encoded_len();
        if length > draft.room() || (draft.commands > 0 && draft.commands.saturating_add(count) > draft.most) {
            self.next_id = first;
            return if draft.commands > 0 { Sent::Full } else { Sent::TooLarge };
        }
        draft.push(group, length);
        draft.commands = draft.commands.saturating_add(count);
        unit.atomic = Some(at);
        unit.atomic_answer = None;
        let mut ids = ids.into_iter();
        for (op, planned) in unit.ops.iter_mut().zip(&unit.planned.ops).filter(|(op, _)| op.verb != Verb::Get && op.stage == Stage::Queued)
        {
            if let Some(command) = ids.next() {
                op.sent = true;
                op.stage = Stage::Sent { at: Ref { message: at.message, command }, until: planned.data.as_ref().map_or(0, String::len) };
            }
        }
        Sent::Whole
    }

    fn write_op(&mut self, op: &mut OpState, planned: &Op, draft: &mut Draft) -> Sent {
        if draft.commands >= draft.most {
            return Sent::Full;
        }
        let id = self.next_id;
        let data = planned.data.as_deref().unwrap_or_default();
        let rest = data.get(op.offset..).unwrap_or_default();
        let whole = operation(op.verb, planned, id, planned.data.as_ref().map(|_| rest), None, op.offset > 0);
        let length = whole.encoded_len();
        let (command, length, until) = if length <= draft.room() {
            (whole, length, data.len())
        } else if draft.commands > 0 {
            return Sent::Full;
        } else {
            let size = (op.offset == 0).then_some(data.len() as u64);
            let Some((command, length, taken)) = chunk(op.verb, planned, id, rest, size, draft.room()) else { return Sent::TooLarge };
            (command, length, op.offset.saturating_add(taken))
        };
        self.id();
        draft.push(command, length);
        draft.commands = draft.commands.saturating_add(1);
        op.sent = true;
        op.stage = Stage::Sent { at: Ref { message: self.message, command: id }, until };
        if until < data.len() { Sent::Part } else { Sent::Whole }
    }
}

impl Unit {
    /// Fails what is longer than the longest value that the device takes; with one of an `Atomic` the whole.
    fn refuse_longer(&mut self, longest: usize) {
        let all = self.planned.atomic;
        let queued = |op: &OpState| op.stage == Stage::Queued && op.offset == 0;
        let too_long = |planned: &Op| planned.data.as_ref().is_some_and(|data| data.len() > longest);
        let spoilt = all && self.ops.iter().zip(&self.planned.ops).any(|(op, planned)| queued(op) && too_long(planned));
        for (op, planned) in self.pairs_mut() {
            if queued(op) && too_long(planned) {
                op.too_large();
            } else if queued(op) && spoilt {
                // Nothing of it is sent.
                op.stage = Stage::Settled(Verdict::Failed);
            }
        }
    }
}

impl OpState {
    fn too_large(&mut self) {
        self.answer = Some(Answer { code: 413, original_error: None });
        self.stage = Stage::Settled(Verdict::Failed);
    }
}

/// The most bytes that a header or a status with these texts takes.
fn most_len<'t>(texts: impl IntoIterator<Item = &'t String>) -> usize {
    /// More than all tags and numbers of either.
    const FRAME: usize = 700;
    /// `&amp;` and `&#13;` are the longest that stands for a byte.
    const ESCAPED: usize = 5;
    texts.into_iter().fold(FRAME, |most, text| most.saturating_add(text.len().saturating_mul(ESCAPED)))
}

fn status(reply: &Reply, id: u32) -> Command {
    Command::Status(Status {
        id: Some(id.to_string()),
        msg_ref: reply.message,
        cmd_ref: reply.cmd_ref.clone(),
        cmd: reply.cmd.clone().into(),
        target_refs: reply.target.iter().cloned().collect(),
        source_refs: reply.source.iter().cloned().collect(),
        chal: next_challenge(reply),
        code: reply.code,
        original_error: None,
        items: Vec::new(),
    })
}

/// The command for an operation; in a later chunk the data is plain text, and the object was described with the first.
fn operation(verb: Verb, planned: &Op, id: u32, data: Option<&str>, size: Option<u64>, chunk: bool) -> Command {
    let (meta, data) = match verb {
        Verb::Get | Verb::Delete => (Meta::default(), None),
        Verb::Add | Verb::Exec | Verb::Replace => {
            let markup = if planned.format == Some(Format::Xml) && size.is_none() && !chunk {
                // What only some parsers take goes as a text.
                data.filter(|data| is_strict(data)).and_then(|data| Markup::parse(data).ok())
            } else {
                None
            };
            let data = markup.map(Data::Markup).or_else(|| data.map(|data| Data::Text(data.to_owned())));
            (Meta { format: planned.format, kind: planned.mime.clone(), size, ..Meta::default() }, data)
        }
    };
    let item = Item { target: Some(Address::new(planned.uri.clone())), meta, data, ..Item::default() };
    Command::Operation(Operation { id: Some(id.to_string()), verb, meta: Meta::default(), correlator: None, items: vec![item] })
}

/// The command for as much of the data as fits into `room`, its length, and how many bytes of the data it holds; `None` when not even one
/// character fits, or when there is nothing to cut.
fn chunk(verb: Verb, planned: &Op, id: u32, rest: &str, size: Option<u64>, room: usize) -> Option<(Command, usize, usize)> {
    let build = |text: &str| {
        let mut command = operation(verb, planned, id, Some(text), size, true);
        if let Command::Operation(Operation { items, .. }) = &mut command {
            for item in items {
                item.more = true;
            }
        }
        command
    };
    match verb {
        Verb::Get | Verb::Delete => return None,
        Verb::Add | Verb::Exec | Verb::Replace => {}
    }
    // `<Data></Data>` instead of `<Data/>`: the frame is measured with one character in it.
    let frame = build("x").encoded_len().saturating_sub(1);
    let mut left = room.checked_sub(frame)?;
    let mut taken = 0;
    for (at, character) in rest.char_indices() {
        let end = at.saturating_add(character.len_utf8());
        let length = rest.get(at..end).map_or(0, escaped_len);
        if length > left {
            break;
        }
        left -= length;
        taken = end;
    }
    // All of it fits only without the marks of a chunk, which the caller has tried.
    if taken == 0 || taken == rest.len() {
        taken = rest.char_indices().next_back().map(|(at, _)| at.min(taken)).filter(|at| *at > 0)?;
    }
    let command = build(rest.get(..taken)?);
    let length = command.encoded_len();
    Some((command, length, taken))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::syncml::Dtd;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_header_and_no_status_is_longer_than_the_most(
            texts in proptest::collection::vec("[\\x00-\\x20&<>\"a\u{fffe}]{0,40}", 5), number in any::<u32>(), code in any::<u16>()
        ) {
            let [a, b, c, d, e] = <[String; 5]>::try_from(texts).unwrap();
            let reply = Reply {
                message: number, cmd_ref: a.clone(), cmd: b.clone(), code, target: Some(c.clone()), source: Some(d.clone()), next_nonce: None,
            };
            prop_assert!(status(&reply, number).encoded_len() <= most_len([&a, &b, &c, &d]));
            let most = most_len([&a, &b, &c, &d, &e]);
            let header = Header {
                ver_dtd: a, ver_proto: b, session_id: c, msg_id: number, target: Address::new(d), source: Address::new(e), cred: None,
                meta: Meta::default(),
            };
            let message = SyncMl { dtd: Dtd::V12, header, body: Vec::new(), last: true, microsoft: true };
            prop_assert!(message.encode().len() <= most);
        }
    }
}
