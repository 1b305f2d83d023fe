//! Large objects from the device: chunks become one value again.

use serde::{Deserialize, Serialize};

use crate::wire::locuri::same;
use crate::wire::syncml::{Item, Meta};

use super::plan::{Ref, Value};

/// Longest value that a device may send in chunks, in bytes.
const MAX_OBJECT: u64 = 8 * 1024 * 1024;

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
    text: String,
    /// It is too large: what comes is dropped.
    overflow: bool,
    /// How many chunks have come, and how many had come by the end of the last message.
    chunks: u32,
    known: u32,
}

impl Upload {
    /// Whether no chunk has come since [`Self::mark`].
    pub(super) fn is_stale(&self) -> bool {
        self.chunks == self.known
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
    /// It is not as long as announced: 424.
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
                    text: String::new(),
                    overflow: size > MAX_OBJECT,
                    chunks: 0,
                    known: 0,
                },
                dropped,
            )
        }
    };
    upload.chunks = upload.chunks.saturating_add(1);
    if upload.text.len() as u64 + text.len() as u64 > MAX_OBJECT {
        upload.overflow = true;
    }
    if upload.overflow {
        upload.text = String::new();
        if item.more {
            *open = Some(upload);
        }
        return (Fed::TooLarge { last: !item.more }, dropped);
    }
    upload.text.push_str(&text);
    if item.more {
        *open = Some(upload);
        return (Fed::More, dropped);
    }
    if upload.text.len() as u64 != upload.size {
        return (Fed::Mismatch, dropped);
    }
    (Fed::Whole(Value { format: upload.format, mime: upload.mime, text: upload.text }), dropped)
}
