//! Writing documents.

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
const fn replacement(byte: u8, attribute: bool) -> Option<&'static [u8]> {
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

/// Bytes that stand for themselves wherever they are. 0xEF is looked at closer: U+FFFE and U+FFFF, which no document can hold, begin with it.
#[allow(clippy::indexing_slicing, reason = "the compiler does it, and would stop")]
const PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut byte = 0;
    while byte <= u8::MAX as usize {
        plain[byte] = byte != 0xef && replacement(byte as u8, true).is_none();
        byte += 1;
    }
    plain
};

pub(super) fn escape(out: &mut Vec<u8>, text: &str, attribute: bool) {
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|b| !PLAIN.get(usize::from(*b)).is_some_and(|plain| *plain)) {
        let (plain, from) = rest.split_at(at);
        out.extend_from_slice(plain);
        let (taken, with) = match from {
            [0xef, 0xbf, 0xbe | 0xbf, ..] => (3, "\u{fffd}".as_bytes()),
            [byte, ..] => (1, replacement(*byte, attribute).unwrap_or(std::slice::from_ref(byte))),
            [] => return,
        };
        out.extend_from_slice(with);
        rest = from.get(taken..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}
