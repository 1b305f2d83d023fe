//! Bytes to types, in one pass.

use std::borrow::Cow;

use crate::wire::Malformed;
use crate::wire::xml::{Limits, Open, Reader, Token};

use super::types::{
    Address, Alert, Command, Cred, Data, Dtd, Format, Group, Header, Item, Markup, Meta, Operation, Results, Status, SyncMl, Unsupported,
    Verb,
};
use super::{METINF, MICROSOFT};

/// Longest message that is read, in bytes; faces answer HTTP 413 beyond.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Most commands (statuses, results and inner commands included) that one message may hold.
pub const MAX_COMMANDS: usize = 4_000;
/// Most items that one message may hold.
const MAX_ITEMS: usize = 20_000;
/// Longest identifier, address or other short text, in bytes.
const MAX_TEXT: usize = 8 * 1024;

/// How many characters of an original error are read.
const ORIGINAL_ERROR: usize = 64;

const LIMITS: Limits = Limits { bytes: MAX_BYTES, depth: 64, nodes: 1_000_000, attributes: 64 };

impl SyncMl {
    /// Reads a message.
    ///
    /// # Errors
    /// When the bytes are no SyncML message, exceed a limit, or the header lacks what every answer needs (`SessionID`, `MsgID`, `Source`).
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut decoder = Decoder { reader: Reader::new(bytes, LIMITS)?, commands: 0, items: 0 };
        let mut message = Self::default();
        match decoder.reader.next()? {
            Token::Open(root) if root.local() == "SyncML" && root.namespace() == Dtd::V12.namespace() => {
                message.microsoft = root.declares(MICROSOFT);
            }
            Token::Open(root) if root.local() == "SyncML" && root.namespace() == Dtd::V11.namespace() => {
                message.dtd = Dtd::V11;
                message.microsoft = root.declares(MICROSOFT);
            }
            Token::Open(_) | Token::Text(_) | Token::Close | Token::End => return Err(Malformed::new("not a SyncML message", "byte 0")),
        }
        let (mut header, mut body) = (false, false);
        loop {
            let tag = match decoder.reader.next()? {
                Token::Open(open) => {
                    let tag = Tag::of(&open);
                    if tag == Tag::SyncBody && open.declares(MICROSOFT) {
                        message.microsoft = true;
                    }
                    tag
                }
                Token::Text(_) => continue,
                Token::Close | Token::End => break,
            };
            match tag {
                Tag::SyncHdr if !header && !body => {
                    message.header = decoder.header()?;
                    header = true;
                }
                Tag::SyncBody if header && !body => {
                    decoder.body(&mut message)?;
                    body = true;
                }
                Tag::SyncHdr | Tag::SyncBody => return Err(decoder.reader.malformed("one SyncHdr and then one SyncBody are expected")),
                _ => decoder.reader.skip()?,
            }
        }
        if !header || !body {
            return Err(decoder.reader.malformed("SyncHdr or SyncBody is missing"));
        }
        match decoder.reader.next()? {
            Token::End => {
                // Original errors are read under any prefix, and written under ours.
                message.microsoft |= message.body.iter().any(Command::carries_original_error);
                Ok(message)
            }
            Token::Open(_) | Token::Text(_) | Token::Close => Err(decoder.reader.malformed("the message goes on after its end")),
        }
    }
}

/// Declares the element names that the decoder knows.
macro_rules! tags {
    ($($name:ident),+ $(,)?) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Tag { $($name,)+ Unknown }

        impl Tag {
            fn of(open: &Open<'_>) -> Self {
                let namespace = open.namespace();
                if namespace != Dtd::V12.namespace() && namespace != METINF && namespace != Dtd::V11.namespace() {
                    return Self::Unknown;
                }
                match open.local() { $(stringify!($name) => Self::$name,)+ _ => Self::Unknown }
            }
        }
    };
}

tags! {
    Add, Alert, Atomic, Chal, Cmd, CmdID, CmdRef, Copy, Correlator, Cred, Data, Delete, Exec, Final, Format, Get, Item, LocName, LocURI, Map, Mark,
    MaxMsgSize, MaxObjSize, Meta, MoreData, MsgID, MsgRef, NextNonce, Put, Replace, Results, Search, Sequence, SessionID, Size, Source, SourceRef,
    Status, Sync, SyncBody, SyncHdr, Target, TargetRef, Type, VerDTD, VerProto,
}

struct Decoder<'d> {
    reader: Reader<'d>,
    commands: usize,
    items: usize,
}

impl<'d> Decoder<'d> {
    /// The next element inside the current one; `None` at its end.
    fn child(&mut self) -> Result<Option<Tag>, Malformed> {
        loop {
            match self.reader.next()? {
                Token::Open(open) => return Ok(Some(Tag::of(&open))),
                Token::Text(_) => {}
                Token::Close | Token::End => return Ok(None),
            }
        }
    }

    /// A short text without the white space around it.
    fn text(&mut self) -> Result<String, Malformed> {
        Ok(self.short()?.trim().to_owned())
    }

    fn short(&mut self) -> Result<Cow<'d, str>, Malformed> {
        let text = self.reader.text()?;
        if text.len() > MAX_TEXT { Err(self.reader.malformed("text is too long")) } else { Ok(text) }
    }

    fn number<N: std::str::FromStr>(&mut self) -> Result<Option<N>, Malformed> {
        Ok(self.short()?.trim().parse().ok())
    }

    fn header(&mut self) -> Result<Header, Malformed> {
        let mut header = Header::default();
        let (mut message, mut source) = (None, None);
        while let Some(tag) = self.child()? {
            match tag {
                Tag::VerDTD => header.ver_dtd = self.text()?,
                Tag::VerProto => header.ver_proto = self.text()?,
                Tag::SessionID => header.session_id = self.text()?,
                Tag::MsgID => message = self.number()?,
                Tag::Target => header.target = self.address()?,
                Tag::Source => source = Some(self.address()?),
                Tag::Cred => header.cred = Some(self.cred()?),
                Tag::Meta => self.meta(&mut header.meta)?,
                _ => self.reader.skip()?,
            }
        }
        header.msg_id = message.filter(|id| *id > 0).ok_or_else(|| Malformed::new("missing or not a number above 0", "SyncHdr/MsgID"))?;
        header.source = source.filter(|source| !source.uri.is_empty()).ok_or_else(|| Malformed::new("missing", "SyncHdr/Source/LocURI"))?;
        if header.session_id.is_empty() || header.session_id.len() > 64 {
            return Err(Malformed::new("missing or longer than 64 bytes", "SyncHdr/SessionID"));
        }
        Ok(header)
    }

    fn body(&mut self, message: &mut SyncMl) -> Result<(), Malformed> {
        while let Some(tag) = self.child()? {
            if tag == Tag::Final {
                message.last = true;
                self.reader.skip()?;
            } else if let Some(command) = self.command(tag)? {
                message.body.push(command);
            }
        }
        Ok(())
    }

    /// The command that begins with that tag; `None` when the tag begins something else, which is skipped.
    fn command(&mut self, tag: Tag) -> Result<Option<Command>, Malformed> {
        let command = match tag {
            Tag::Alert => Command::Alert(self.alert()?),
            Tag::Atomic => Command::Atomic(self.group()?),
            Tag::Sequence => Command::Sequence(self.group()?),
            Tag::Add => Command::Operation(self.operation(Verb::Add)?),
            Tag::Delete => Command::Operation(self.operation(Verb::Delete)?),
            Tag::Exec => Command::Operation(self.operation(Verb::Exec)?),
            Tag::Get => Command::Operation(self.operation(Verb::Get)?),
            Tag::Replace => Command::Operation(self.operation(Verb::Replace)?),
            Tag::Results => Command::Results(self.results()?),
            Tag::Status => Command::Status(self.status()?),
            Tag::Copy => Command::Unsupported(Unsupported::Copy, self.only_id()?),
            Tag::Map => Command::Unsupported(Unsupported::Map, self.only_id()?),
            Tag::Put => Command::Unsupported(Unsupported::Put, self.only_id()?),
            Tag::Search => Command::Unsupported(Unsupported::Search, self.only_id()?),
            Tag::Sync => Command::Unsupported(Unsupported::Sync, self.only_id()?),
            _ => {
                self.reader.skip()?;
                return Ok(None);
            }
        };
        self.commands += 1;
        if self.commands > MAX_COMMANDS {
            return Err(self.reader.malformed("too many commands"));
        }
        Ok(Some(command))
    }

    fn id(&mut self) -> Result<Option<String>, Malformed> {
        Ok(Some(self.text()?).filter(|id| !id.is_empty()))
    }

    fn only_id(&mut self) -> Result<Option<String>, Malformed> {
        let mut id = None;
        while let Some(tag) = self.child()? {
            match tag {
                Tag::CmdID => id = self.id()?,
                _ => self.reader.skip()?,
            }
        }
        Ok(id)
    }

    fn alert(&mut self) -> Result<Alert, Malformed> {
        let mut alert = Alert::default();
        while let Some(tag) = self.child()? {
            match tag {
                Tag::CmdID => alert.id = self.id()?,
                Tag::Data => alert.code = self.number()?.unwrap_or(0),
                Tag::Correlator => alert.correlator = Some(self.text()?),
                Tag::Item => alert.items.push(self.item()?),
                _ => self.reader.skip()?,
            }
        }
        Ok(alert)
    }

    fn group(&mut self) -> Result<Group, Malformed> {
        let mut group = Group::default();
        while let Some(tag) = self.child()? {
            match tag {
                Tag::CmdID => group.id = self.id()?,
                Tag::Meta => self.meta(&mut group.meta)?,
                _ => group.commands.extend(self.command(tag)?),
            }
        }
        Ok(group)
    }

    fn operation(&mut self, verb: Verb) -> Result<Operation, Malformed> {
        let mut operation = Operation { id: None, verb, meta: Meta::default(), correlator: None, items: Vec::new() };
        while let Some(tag) = self.child()? {
            match tag {
                Tag::CmdID => operation.id = self.id()?,
                Tag::Meta => self.meta(&mut operation.meta)?,
                Tag::Correlator => operation.correlator = Some(self.text()?),
                Tag::Item => operation.items.push(self.item()?),
                _ => self.reader.skip()?,
            }
        }
        Ok(operation)
    }

    fn results(&mut self) -> Result<Results, Malformed> {
        let mut results = Results::default();
        while let Some(tag) = self.child()? {
            match tag {
                Tag::CmdID => results.id = self.id()?,
                Tag::MsgRef => results.msg_ref = self.number()?.unwrap_or(0),
                Tag::CmdRef => results.cmd_ref = self.text()?,
                Tag::Meta => self.meta(&mut results.meta)?,
                Tag::TargetRef => results.target_ref = Some(self.text()?),
                Tag::SourceRef => results.source_ref = Some(self.text()?),
                Tag::Item => results.items.push(self.item()?),
                _ => self.reader.skip()?,
            }
        }
        Ok(results)
    }

    fn status(&mut self) -> Result<Status, Malformed> {
        let mut status = Status::default();
        loop {
            let (tag, original_error) = match self.reader.next()? {
                Token::Open(open) => {
                    let tag = Tag::of(&open);
                    (tag, if tag == Tag::Data { open.attribute_anyhow("originalerror").map(short) } else { None })
                }
                Token::Text(_) => continue,
                Token::Close | Token::End => return Ok(status),
            };
            match tag {
                Tag::CmdID => status.id = self.id()?,
                Tag::MsgRef => status.msg_ref = self.number()?.unwrap_or(0),
                Tag::CmdRef => status.cmd_ref = self.text()?,
                Tag::Cmd => status.cmd = known_name(self.short()?.trim()),
                Tag::TargetRef => status.target_refs.push(self.text()?),
                Tag::SourceRef => status.source_refs.push(self.text()?),
                Tag::Chal => status.chal = Some(self.chal()?),
                Tag::Data => {
                    status.code = self.number()?.unwrap_or(0);
                    status.original_error = original_error;
                }
                Tag::Item => status.items.push(self.item()?),
                _ => self.reader.skip()?,
            }
        }
    }

    fn chal(&mut self) -> Result<Meta, Malformed> {
        let mut meta = Meta::default();
        while let Some(tag) = self.child()? {
            match tag {
                Tag::Meta => self.meta(&mut meta)?,
                _ => self.reader.skip()?,
            }
        }
        Ok(meta)
    }

    fn cred(&mut self) -> Result<Cred, Malformed> {
        let mut cred = Cred::default();
        while let Some(tag) = self.child()? {
            match tag {
                Tag::Meta => self.meta(&mut cred.meta)?,
                Tag::Data => cred.data = self.text()?,
                _ => self.reader.skip()?,
            }
        }
        Ok(cred)
    }

    fn address(&mut self) -> Result<Address, Malformed> {
        let mut address = Address::default();
        while let Some(tag) = self.child()? {
            match tag {
                Tag::LocURI => address.uri = self.text()?,
                Tag::LocName => address.name = Some(self.text()?),
                _ => self.reader.skip()?,
            }
        }
        Ok(address)
    }

    fn meta(&mut self, meta: &mut Meta) -> Result<(), Malformed> {
        while let Some(tag) = self.child()? {
            self.meta_part(tag, meta)?;
        }
        Ok(())
    }

    fn meta_part(&mut self, tag: Tag, meta: &mut Meta) -> Result<(), Malformed> {
        match tag {
            Tag::Format => meta.format = Format::parse(self.short()?.trim()),
            Tag::Type => meta.kind = Some(self.text()?),
            Tag::Mark => meta.mark = Some(self.text()?),
            Tag::Size => meta.size = self.number()?,
            Tag::NextNonce => meta.next_nonce = Some(self.text()?),
            Tag::MaxMsgSize => meta.max_msg_size = self.number()?,
            Tag::MaxObjSize => meta.max_obj_size = self.number()?,
            _ => self.reader.skip()?,
        }
        Ok(())
    }

    fn item(&mut self) -> Result<Item, Malformed> {
        self.items += 1;
        if self.items > MAX_ITEMS {
            return Err(self.reader.malformed("too many items"));
        }
        let mut item = Item::default();
        while let Some(tag) = self.child()? {
            match tag {
                Tag::Target => item.target = Some(self.address()?),
                Tag::Source => item.source = Some(self.address()?),
                Tag::Meta => self.meta(&mut item.meta)?,
                Tag::Data => item.data = Some(self.data()?),
                Tag::MoreData => {
                    item.more = true;
                    self.reader.skip()?;
                }
                // Windows writes the type of some alerts beside an empty Meta.
                Tag::Type | Tag::Format | Tag::Mark => self.meta_part(tag, &mut item.meta)?,
                _ => self.reader.skip()?,
            }
        }
        Ok(item)
    }

    fn data(&mut self) -> Result<Data, Malformed> {
        let start = self.reader.position();
        let mut text = String::new();
        let mut markup = false;
        loop {
            let before = self.reader.position();
            match self.reader.next()? {
                Token::Text(piece) if text.is_empty() => text = piece.into_owned(),
                Token::Text(piece) => text.push_str(&piece),
                Token::Open(_) => {
                    markup = true;
                    self.reader.skip()?;
                }
                Token::Close | Token::End => {
                    return if markup {
                        let piece = self.reader.source().get(start..before).unwrap_or_default();
                        let piece = if piece.contains('\r') {
                            Cow::Owned(piece.replace("\r\n", "\n").replace('\r', "\n"))
                        } else {
                            Cow::Borrowed(piece)
                        };
                        Ok(Data::Markup(Markup::parse(&piece)?))
                    } else {
                        Ok(Data::Text(text))
                    };
                }
            }
        }
    }
}

/// An error code is a short thing: what a device says beyond that is not one.
fn short(error: String) -> String {
    match error.char_indices().nth(ORIGINAL_ERROR) {
        Some((end, _)) => error.get(..end).unwrap_or_default().to_owned(),
        None => error,
    }
}

/// Keeps the names of commands without allocating them anew.
fn known_name(name: &str) -> Cow<'static, str> {
    const NAMES: [&str; 10] = ["Replace", "Add", "Get", "Exec", "Delete", "SyncHdr", "Alert", "Atomic", "Sequence", "Results"];
    NAMES.iter().find(|known| **known == name).map_or_else(|| Cow::Owned(name.to_owned()), |known| Cow::Borrowed(*known))
}
