//! Large objects from the device: chunks become one value again. What has come is kept apart from the session, piece by piece, so that
//! each message stores only what it brought.

use serde::{Deserialize, Serialize};

use crate::wire::locuri::same;
use crate::wire::syncml::{Command, Item, Meta, SyncMl, Verb};

use super::plan::{Ref, Value};

/// Longest value that a device may send in chunks, in bytes.
const MAX_OBJECT: u64 = 8 * 1024 * 1024;
/// Most chunks of one value.
const MAX_CHUNKS: u32 = 4096;

/// What a chunk belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Subject {
    /// The `Get` that is answered; `None` for what the device sends by itself.
    pub(super) of: Option<Ref>,
    /// The node.
    pub(super) uri: String,
}

impl Subject {
    fn is(&self, other: &Self) -> bool {
        self.of == other.of && same(&self.uri, &other.uri)
    }
}

/// An object that is not complete yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Upload {
    pub(super) subject: Subject,
    size: u64,
    format: Option<crate::wire::syncml::Format>,
    mime: Option<String>,
    /// How many bytes have come.
    length: u64,
    /// It is too large: what comes is dropped.
    overflow: bool,
    /// How many chunks have come, and how many had come by the end of the last message.
    chunks: u32,
    known: u32,
    /// How many pieces the caller keeps.
    pieces: u32,
    /// What the caller has given back of them.
    #[serde(skip)]
    pub(super) before: String,
    /// What the caller has not taken yet.
    #[serde(skip)]
    fresh: String,
}

/// A part of a large object, for the caller to keep.
#[derive(Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its place in the object; the first, 0, takes the place of everything kept before.
    pub number: u32,
    /// The part.
    pub text: String,
}

impl std::fmt::Debug for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Piece {} ({} bytes)", self.number, self.text.len())
    }
}

/// Whether a message may end a large object, which then has to be whole.
#[must_use]
pub fn ends_object(message: &SyncMl) -> bool {
    message.body.iter().any(|command| match command {
        Command::Results(results) => results.items.iter().any(|item| !item.more),
        Command::Operation(operation) => operation.verb == Verb::Replace && operation.items.iter().any(|item| !item.more),
        Command::Alert(_) | Command::Atomic(_) | Command::Sequence(_) | Command::Status(_) | Command::Unsupported(..) => false,
    })
}

impl Upload {
    /// Whether no chunk has come since [`Self::mark`].
    pub(super) fn is_stale(&self) -> bool {
        self.chunks == self.known
    }

    pub(super) fn take_piece(&mut self) -> Option<Piece> {
        self.before = String::new();
        if self.fresh.is_empty() {
            return None;
        }
        let number = self.pieces;
        self.pieces = self.pieces.saturating_add(1);
        Some(Piece { number, text: std::mem::take(&mut self.fresh) })
    }

    /// The end of a message.
    pub(super) fn mark(&mut self) {
        self.known = self.chunks;
    }
}

/// What became of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fed {
    /// The value is complete.
    Whole(Value),
    /// More chunks are needed: 213 and 1222.
    More,
    /// The first chunk did not say how large the object is: 412.
    NoSize,
    /// It is not, or will not be, as long as announced: 424.
    Mismatch,
    /// It is longer than we take: 413; `last` when it ended.
    TooLarge { last: bool },
}

/// Takes an item in. The second value is the object that was dropped because this item belongs to another: 1225.
pub(super) fn feed(open: &mut Option<Upload>, subject: Subject, item: Item, meta: Meta) -> (Fed, Option<Subject>) {
    let text = item.data.map(crate::wire::syncml::Data::into_string).unwrap_or_default();
    let (mut upload, dropped) = match open.take() {
        Some(upload) if upload.subject.is(&subject) => (upload, None),
        other => {
            let dropped = other.map(|upload| upload.subject);
            if !item.more {
                return (Fed::Whole(Value { format: meta.format, mime: meta.kind, text }), dropped);
            }
            let Some(size) = meta.size else { return (Fed::NoSize, dropped) };
            (
                Upload {
                    subject,
                    size,
                    format: meta.format,
                    mime: meta.kind,
                    length: 0,
                    overflow: size > MAX_OBJECT,
                    chunks: 0,
                    known: 0,
                    pieces: 0,
                    before: String::new(),
                    fresh: String::new(),
                },
                dropped,
            )
        }
    };
    upload.chunks = upload.chunks.saturating_add(1);
    if upload.chunks > MAX_CHUNKS {
        upload.overflow = true;
    }
    if upload.overflow {
        upload.before = String::new();
        upload.fresh = String::new();
        if item.more {
            *open = Some(upload);
        }
        return (Fed::TooLarge { last: !item.more }, dropped);
    }
    upload.length = upload.length.saturating_add(text.len() as u64);
    if upload.length > upload.size {
        return (Fed::Mismatch, dropped);
    }
    upload.fresh.push_str(&text);
    if item.more {
        *open = Some(upload);
        return (Fed::More, dropped);
    }
    let text = upload.before + &upload.fresh;
    if upload.length != upload.size || text.len() as u64 != upload.size {
        return (Fed::Mismatch, dropped);
    }
    (Fed::Whole(Value { format: upload.format, mime: upload.mime, text }), dropped)
}
