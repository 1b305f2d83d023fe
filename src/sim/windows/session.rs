//! Management sessions as the device sees them (OMA-DM 1.2, MS-MDM): package 1, then answers until the server has nothing more to ask.

use std::collections::BTreeMap;

use super::manners::Watch;
use super::tree::{Effect, Part, Request, Tree};
use crate::wire::Malformed;
use crate::wire::syncml::{Address, Alert, Command, Data, Dtd, Format, Header, Item, Meta, Operation, Results, Status, SyncMl, Verb, auth};

/// How many messages a session has at most before the device gives up: a server that never ends is broken.
const MAX_MESSAGES: u32 = 400;

/// Who sits at the device (`com.microsoft/MDM/LoginStatus`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Login {
    /// The enrolled user.
    #[default]
    User,
    /// Somebody else.
    Others,
    /// Nobody.
    None,
}

impl Login {
    fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Others => "others",
            Self::None => "none",
        }
    }
}

/// What a session starts with.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Started by the server (alert 1200) instead of the device (1201).
    pub by_server: bool,
    /// Who sits there.
    pub login: Login,
    /// Generic alerts (1226) that are waiting: type and data.
    pub alerts: Vec<(String, String)>,
    /// Largest message that this device takes; none: no limit said.
    pub max_message: Option<u64>,
    /// Longest value that this device takes; none: no limit said.
    pub max_object: Option<u64>,
}

/// MD5 credentials, when the account has some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Md5 {
    /// User name.
    pub user: String,
    /// Secret.
    pub secret: String,
}

/// One session of a device.
#[derive(Debug)]
pub struct Session {
    id: String,
    source: String,
    target: String,
    start: Start,
    md5: Option<Md5>,
    nonce: Option<Vec<u8>>,
    msg_id: u32,
    /// Values that the server is sending in chunks, by node: how long they will be, and what has come.
    incoming: BTreeMap<String, (u64, String)>,
    /// The rest of a value that the device is sending: what was asked, and the chunks.
    outgoing: Vec<Results>,
    ended: bool,
    watch: Watch,
    /// Commands that were carried out.
    pub commands: usize,
    /// Chunks of values that came and were not the last.
    pub chunks: usize,
    /// What commands started that outlives the session.
    pub effects: Vec<Effect>,
}

impl Session {
    /// A session with `id` between `source` (the device's id) and `target` (the server's address).
    #[must_use]
    pub fn new(id: &str, source: &str, target: &str, start: Start, md5: Option<Md5>) -> Self {
        Self {
            id: id.to_owned(),
            source: source.to_owned(),
            target: target.to_owned(),
            start,
            md5,
            nonce: None,
            msg_id: 0,
            incoming: BTreeMap::new(),
            outgoing: Vec::new(),
            ended: false,
            watch: Watch::default(),
            commands: 0,
            chunks: 0,
            effects: Vec::new(),
        }
    }

    /// Number of the last message sent.
    #[must_use]
    pub fn messages(&self) -> u32 {
        self.msg_id
    }

    fn header(&mut self) -> Header {
        self.msg_id += 1;
        let cred = match (&self.md5, &self.nonce) {
            (Some(md5), Some(nonce)) => auth::md5_ha1(&md5.user, &md5.secret).and_then(|ha1| auth::md5_cred(&ha1, nonce)).ok(),
            _ => None,
        };
        Header {
            ver_dtd: "1.2".into(),
            ver_proto: "DM/1.2".into(),
            session_id: self.id.clone(),
            msg_id: self.msg_id,
            target: Address::new(self.target.clone()),
            source: Address { uri: self.source.clone(), name: self.md5.as_ref().map(|md5| md5.user.clone()) },
            cred,
            meta: Meta { max_msg_size: self.start.max_message, max_obj_size: self.start.max_object, ..Meta::default() },
        }
    }

    /// Package 1: who starts, who sits there, waiting alerts, and the five `DevInfo` nodes.
    #[must_use]
    pub fn first(&mut self, tree: &Tree) -> Vec<u8> {
        let header = self.header();
        let mut ids = 1..;
        let mut next = || ids.next().map(|n: u32| n.to_string());
        let mut body = vec![
            Command::Alert(Alert { id: next(), code: if self.start.by_server { 1200 } else { 1201 }, ..Alert::default() }),
            Command::Alert(Alert {
                id: next(),
                code: 1224,
                items: vec![Item {
                    meta: Meta { kind: Some("com.microsoft/MDM/LoginStatus".into()), ..Meta::default() },
                    data: Some(Data::Text(self.start.login.word().into())),
                    ..Item::default()
                }],
                ..Alert::default()
            }),
        ];
        for (kind, data) in &self.start.alerts {
            body.push(Command::Alert(Alert {
                id: next(),
                code: 1226,
                items: vec![Item {
                    meta: Meta { kind: Some(kind.clone()), format: Some(Format::Int), ..Meta::default() },
                    data: Some(Data::Text(data.clone())),
                    ..Item::default()
                }],
                ..Alert::default()
            }));
        }
        let mut items = Vec::new();
        for name in ["DevId", "Man", "Mod", "DmV", "Lang"] {
            let uri = format!("./DevInfo/{name}");
            let value = tree.get(&uri).unwrap_or_default().to_owned();
            items.push(Item { source: Some(Address::new(uri)), data: Some(Data::Text(value)), ..Item::default() });
        }
        body.push(Command::Operation(Operation { id: next(), verb: Verb::Replace, meta: Meta::default(), correlator: None, items }));
        self.watch.sent(self.msg_id, &body);
        SyncMl { dtd: Dtd::V12, header, body, last: true, microsoft: true }.encode()
    }

    /// Takes the server's answer in and makes the next message; `None` when the session is over.
    ///
    /// # Errors
    /// When the answer is no SyncML, or the server does not let the session end.
    pub fn answer(&mut self, bytes: &[u8], tree: &mut Tree) -> Result<Option<Vec<u8>>, Malformed> {
        let message = SyncMl::decode(bytes)?;
        self.watch.judge(bytes, &message, (self.start.max_message, self.start.max_object))?;
        if self.msg_id >= MAX_MESSAGES {
            return Err(Malformed::new("a session without end", "SyncBody"));
        }
        let msg_ref = message.header.msg_id;
        let mut reply = Reply::new(msg_ref, &message.header);
        let mut asked = false;
        let mut challenged = false;
        for command in &message.body {
            match command {
                Command::Status(status) if status.cmd_ref == "0" && matches!(status.code, 401 | 407) => {
                    let nonce = status.chal.as_ref().and_then(auth::nonce);
                    if self.md5.is_none() || (self.nonce.is_some() && status.code == 407) {
                        return Err(Malformed::new("credentials refused", "Status"));
                    }
                    challenged = nonce.is_some();
                    self.nonce = nonce;
                }
                Command::Status(status) => {
                    if let Some(next) = status.chal.as_ref().and_then(auth::nonce) {
                        self.nonce = Some(next);
                    }
                }
                Command::Results(_) | Command::Unsupported(..) => {}
                Command::Alert(alert) => {
                    asked = true;
                    reply.status(alert.id.as_deref(), "Alert", 200, None);
                    if alert.code == 1222
                        && let Some(chunk) = self.outgoing.pop()
                    {
                        reply.results.push(chunk);
                    }
                }
                Command::Operation(_) | Command::Atomic(_) | Command::Sequence(_) => {
                    asked = true;
                    self.execute(command, tree, &mut reply);
                    if self.ended {
                        // An unenrolment ends everything at once: no status for it.
                        return Ok(None);
                    }
                }
            }
        }
        if challenged {
            // Package 1 again, with credentials.
            return Ok(Some(self.first(tree)));
        }
        if !asked && message.last {
            return Ok(None);
        }
        let header = self.header();
        let mut body = reply.statuses;
        if reply.more_wanted {
            body.push(Command::Alert(Alert { id: None, code: 1222, ..Alert::default() }));
        }
        for results in reply.results {
            self.push_results(results, &mut body);
        }
        let last = !reply.more_wanted && self.outgoing.is_empty();
        for (at, command) in body.iter_mut().enumerate() {
            set_id(command, (at + 1).to_string());
        }
        self.watch.sent(self.msg_id, &body);
        Ok(Some(SyncMl { dtd: Dtd::V12, header, body, last, microsoft: true }.encode()))
    }

    /// Puts a result in, in chunks when this device sends in chunks.
    fn push_results(&mut self, results: Results, body: &mut Vec<Command>) {
        let limit = self.start.max_message.map_or(usize::MAX, |max| usize::try_from(max / 4).unwrap_or(usize::MAX).max(16));
        let text = results.items.first().and_then(|item| item.data.as_ref()).map(|data| data.as_str().to_owned()).unwrap_or_default();
        if text.len() <= limit || !self.outgoing.is_empty() {
            body.push(Command::Results(results));
            return;
        }
        let mut chunks: Vec<String> = Vec::new();
        for letter in text.chars() {
            match chunks.last_mut() {
                Some(chunk) if chunk.len() + letter.len_utf8() <= limit => chunk.push(letter),
                _ => chunks.push(letter.to_string()),
            }
        }
        let count = chunks.len();
        let parts = chunks.into_iter().enumerate().map(|(at, chunk)| {
            let mut part = results.clone();
            if let Some(item) = part.items.first_mut() {
                item.data = Some(Data::Text(chunk));
                item.more = at + 1 < count;
                item.meta.size = (at == 0).then_some(text.len() as u64);
            }
            part
        });
        let mut parts: Vec<Results> = parts.collect();
        parts.reverse();
        if let Some(first) = parts.pop() {
            body.push(Command::Results(first));
        }
        self.outgoing = parts;
    }

    fn execute(&mut self, command: &Command, tree: &mut Tree, reply: &mut Reply) {
        match command {
            Command::Operation(operation) => {
                if operation.id.as_deref().is_none_or(|id| id.is_empty() || id == "0") {
                    reply.status(operation.id.as_deref(), operation.verb.as_str(), 400, None);
                    return;
                }
                for item in &operation.items {
                    let status = self.run(operation, item, tree, reply);
                    if self.ended {
                        return;
                    }
                    reply.item_status(operation, item, status);
                }
                self.commands += 1;
            }
            Command::Atomic(group) => {
                let operations = group.commands.iter().map(|inner| match inner {
                    Command::Operation(operation) => operation.items.first().and_then(|item| {
                        let target = item.target.as_ref()?;
                        let format = item.meta.format.or(operation.meta.format);
                        let data = item.data.as_ref().map(Data::as_str);
                        Some(Part::Request(Request { verb: operation.verb, uri: &target.uri, format, data }))
                    }),
                    _ => None,
                });
                let parts: Vec<Part<'_>> = operations.map(|part| part.unwrap_or(Part::Atomic)).collect();
                let (status, answers) = tree.atomic(&parts);
                reply.status(group.id.as_deref(), "Atomic", status, None);
                for (inner, answer) in group.commands.iter().zip(answers) {
                    reply.status(inner.id(), inner.name(), answer.status, None);
                    self.effects.extend(answer.effect);
                }
                self.commands += group.commands.len();
            }
            Command::Sequence(group) => {
                reply.status(group.id.as_deref(), "Sequence", 200, None);
                for one in &group.commands {
                    self.execute(one, tree, reply);
                }
            }
            Command::Alert(_) | Command::Results(_) | Command::Status(_) | Command::Unsupported(..) => {}
        }
    }

    /// Carries one item out and says its status; values go into the reply.
    fn run(&mut self, operation: &Operation, item: &Item, tree: &mut Tree, reply: &mut Reply) -> u16 {
        let Some(target) = &item.target else { return 400 };
        let format = item.meta.format.or(operation.meta.format);
        let data = item.data.as_ref().map(|data| data.as_str().to_owned());
        let data = if item.more {
            let size = item.meta.size.or(operation.meta.size);
            let known = self.incoming.get(&target.uri).map(|(size, _)| *size);
            let Some(size) = known.or(size) else { return 411 };
            let (_, text) = self.incoming.entry(target.uri.clone()).or_insert_with(|| (size, String::new()));
            text.push_str(data.as_deref().unwrap_or_default());
            self.chunks += 1;
            reply.more_wanted = true;
            return 213;
        } else {
            match self.incoming.remove(&target.uri) {
                Some((size, mut whole)) => {
                    whole.push_str(data.as_deref().unwrap_or_default());
                    if whole.len() as u64 != size {
                        return 424;
                    }
                    Some(whole)
                }
                None => data,
            }
        };
        let answer = tree.execute(&Request { verb: operation.verb, uri: &target.uri, format, data: data.as_deref() });
        if let Some(effect) = answer.effect {
            self.ended |= effect == Effect::Command("unenroll");
            self.effects.push(effect);
        }
        if operation.verb == Verb::Get
            && answer.status == 200
            && let Some((format, value)) = answer.value
        {
            reply.results.push(Results {
                msg_ref: reply.msg_ref,
                cmd_ref: operation.id.clone().unwrap_or_default(),
                items: vec![Item {
                    source: Some(Address::new(target.uri.clone())),
                    meta: Meta::format(format),
                    data: Some(Data::Text(value)),
                    ..Item::default()
                }],
                ..Results::default()
            });
        }
        answer.status
    }
}

/// The answer that is being written.
struct Reply {
    msg_ref: u32,
    statuses: Vec<Command>,
    results: Vec<Results>,
    more_wanted: bool,
}

impl Reply {
    fn new(msg_ref: u32, header: &Header) -> Self {
        let status = Status {
            msg_ref,
            cmd_ref: "0".into(),
            cmd: "SyncHdr".into(),
            target_refs: vec![header.target.uri.clone()],
            source_refs: vec![header.source.uri.clone()],
            code: 200,
            ..Status::default()
        };
        Self { msg_ref, statuses: vec![Command::Status(status)], results: Vec::new(), more_wanted: false }
    }

    fn status(&mut self, cmd_ref: Option<&str>, cmd: &'static str, code: u16, target: Option<&str>) {
        self.statuses.push(Command::Status(Status {
            msg_ref: self.msg_ref,
            cmd_ref: cmd_ref.unwrap_or_default().to_owned(),
            cmd: cmd.into(),
            target_refs: target.map(str::to_owned).into_iter().collect(),
            code,
            // Windows names its own error beside a failure when Microsoft's namespace was declared.
            original_error: (code >= 400 && code != 418).then(|| format!("0x8600{code:04x}")),
            ..Status::default()
        }));
    }

    fn item_status(&mut self, operation: &Operation, item: &Item, code: u16) {
        // A command of one item is answered without naming the node again, as Windows does.
        let target = if operation.items.len() > 1 { item.target.as_ref().map(|t| t.uri.as_str()) } else { None };
        self.status(operation.id.as_deref(), operation.verb.as_str(), code, target);
    }
}

fn set_id(command: &mut Command, id: String) {
    match command {
        Command::Alert(alert) => alert.id = Some(id),
        Command::Atomic(group) | Command::Sequence(group) => group.id = Some(id),
        Command::Operation(operation) => operation.id = Some(id),
        Command::Results(results) => results.id = Some(id),
        Command::Status(status) => status.id = Some(id),
        Command::Unsupported(_, slot) => *slot = Some(id),
    }
}
