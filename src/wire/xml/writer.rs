//! Writing documents.

use std::borrow::Cow;

/// Writes a document into a byte buffer, escaping all text. Names are the caller's and are written as they are.
#[derive(Debug, Default)]
pub struct Writer<'n> {
    out: Vec<u8>,
    open: Vec<&'n str>,
    in_tag: bool,
}

impl<'n> Writer<'n> {
    /// An empty document.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty document with room for that many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes), open: Vec::new(), in_tag: false }
    }

    /// Writes `<?xml version="1.0" encoding="utf-8"?>`.
    pub fn declaration(&mut self) -> &mut Self {
        self.out.extend_from_slice(b"<?xml version=\"1.0\" encoding=\"utf-8\"?>");
        self
    }

    /// Begins an element; attributes may follow.
    pub fn open(&mut self, name: &'n str) -> &mut Self {
        self.end_tag();
        self.out.push(b'<');
        self.out.extend_from_slice(name.as_bytes());
        self.open.push(name);
        self.in_tag = true;
        self
    }

    /// Writes an attribute (or a namespace declaration) of the element that was just opened.
    pub fn attribute(&mut self, name: &str, value: &str) -> &mut Self {
        debug_assert!(self.in_tag, "attributes stand directly after the element's beginning");
        if self.in_tag {
            self.out.push(b' ');
            self.out.extend_from_slice(name.as_bytes());
            self.out.extend_from_slice(b"=\"");
            escape(&mut self.out, value, true);
            self.out.push(b'"');
        }
        self
    }

    /// Writes text, escaped.
    pub fn text(&mut self, text: &str) -> &mut Self {
        if !text.is_empty() {
            self.end_tag();
            escape(&mut self.out, text, false);
        }
        self
    }

    /// Writes markup as it is; the caller vouches for it being well-formed.
    pub fn raw(&mut self, markup: &str) -> &mut Self {
        if !markup.is_empty() {
            self.end_tag();
            self.out.extend_from_slice(markup.as_bytes());
        }
        self
    }

    /// Ends the innermost element.
    pub fn close(&mut self) -> &mut Self {
        if let Some(name) = self.open.pop() {
            if self.in_tag {
                self.out.extend_from_slice(b"/>");
                self.in_tag = false;
            } else {
                self.out.extend_from_slice(b"</");
                self.out.extend_from_slice(name.as_bytes());
                self.out.push(b'>');
            }
        }
        self
    }

    /// Writes an element that holds only text.
    pub fn leaf(&mut self, name: &'n str, text: &str) -> &mut Self {
        self.open(name).text(text).close()
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Ends every open element and returns the document.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        while !self.open.is_empty() {
            self.close();
        }
        self.out
    }

    fn end_tag(&mut self) {
        if self.in_tag {
            self.out.push(b'>');
            self.in_tag = false;
        }
    }
}

/// Text as it stands in a document, escaped; for the length of what will be written and for texts inside texts.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    escape(&mut out, text, false);
    String::from_utf8(out).unwrap_or_default()
}

/// The number of bytes that text takes in a document.
#[must_use]
pub fn escaped_len(text: &str) -> usize {
    text.bytes().map(|b| replacement(b, false).map_or(1, <[u8]>::len)).sum()
}

/// What stands for a byte that cannot stand for itself. `\r` would be read back as `\n`, and in attributes all white space as a blank.
fn replacement(byte: u8, attribute: bool) -> Option<&'static [u8]> {
    match byte {
        b'&' => Some(b"&amp;"),
        b'<' => Some(b"&lt;"),
        b'>' => Some(b"&gt;"),
        b'\r' => Some(b"&#13;"),
        b'"' if attribute => Some(b"&quot;"),
        b'\n' if attribute => Some(b"&#10;"),
        b'\t' if attribute => Some(b"&#9;"),
        0..=8 | 0xb | 0xc | 0xe..=0x1f => Some("\u{fffd}".as_bytes()),
        _ => None,
    }
}

pub(super) fn escape(out: &mut Vec<u8>, text: &str, attribute: bool) {
    let text = held(text);
    let mut rest = text.as_bytes();
    while let Some((at, with)) = rest.iter().enumerate().find_map(|(at, b)| replacement(*b, attribute).map(|with| (at, with))) {
        let (plain, from) = rest.split_at(at);
        out.extend_from_slice(plain);
        out.extend_from_slice(with);
        rest = from.get(1..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

/// The text without the two characters of more than one byte that a document cannot hold, U+FFFE and U+FFFF. What stands for them is as long.
fn held(text: &str) -> Cow<'_, str> {
    // Both begin with 0xEF, which is rare: most texts are looked at once, byte by byte.
    if text.as_bytes().contains(&0xef) && text.contains(['\u{fffe}', '\u{ffff}']) {
        text.replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}").into()
    } else {
        text.into()
    }
}
