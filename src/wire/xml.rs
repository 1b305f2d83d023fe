//! A bounded, namespace-aware reader and a writer for the small XML documents that devices exchange with us.
//!
//! Two ways to read: [`Reader`] hands out tokens in one pass (SyncML), [`Element`] is the whole document as a tree (SOAP). Both
//! refuse document types, so no entity beyond XML's own five is ever expanded, and both stop at their [`Limits`].

mod strict;
mod tree;
mod writer;

use std::borrow::Cow;

use quick_xml::NsReader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{QName, ResolveResult};

pub use strict::{is_char, is_strict};
pub use tree::{Attribute, Element, Name, Node};
pub use writer::{Writer, escaped, escaped_len};

use super::Malformed;

/// What a document may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest document, in bytes.
    pub bytes: usize,
    /// Deepest nesting of elements.
    pub depth: usize,
    /// Most elements, pieces of text, comments and processing instructions together.
    pub nodes: usize,
    /// Most attributes on one element.
    pub attributes: usize,
}

impl Limits {
    /// Enough for every enrolment message: 256 KiB, 32 levels.
    pub const SOAP: Self = Self { bytes: 256 * 1024, depth: 32, nodes: 10_000, attributes: 32 };
}

/// One step of a document.
#[derive(Debug)]
pub enum Token<'t> {
    /// An element begins.
    Open(Open<'t>),
    /// A piece of text, decoded; one text may come in several pieces.
    Text(Cow<'t, str>),
    /// The innermost element ends.
    Close,
    /// The document ended, well-formed.
    End,
}

/// The beginning of an element.
#[derive(Debug)]
pub struct Open<'t> {
    namespace: &'t str,
    start: BytesStart<'t>,
}

impl Open<'_> {
    /// The namespace, empty for none.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.namespace
    }

    /// The name without its prefix.
    #[must_use]
    pub fn local(&self) -> &str {
        local(self.start.name())
    }

    /// Whether that namespace is declared here, under whatever prefix.
    #[must_use]
    pub fn declares(&self, namespace: &str) -> bool {
        self.start.attributes().flatten().any(|a| a.key.as_namespace_binding().is_some() && a.value == namespace)
    }

    /// The value of an attribute, whether it is written plain or with a prefix; `None` also when it cannot be decoded.
    #[must_use]
    pub fn attribute_anyhow(&self, name: &str) -> Option<String> {
        let found = self.start.attributes().flatten().find(|a| local(a.key) == name)?;
        let value = found.normalized_value(quick_xml::XmlVersion::Explicit1_0).ok()?;
        Some(value.chars().map(allowed).collect())
    }
}

fn local(name: QName<'_>) -> &str {
    name.0.split_once(':').map_or(name.0, |(_, local)| local)
}

/// Reads a document token by token within limits.
#[derive(Debug)]
pub struct Reader<'d> {
    source: &'d str,
    inner: NsReader<&'d [u8]>,
    limits: Limits,
    depth: usize,
    nodes: usize,
    seen_root: bool,
    document_type: bool,
}

impl<'d> Reader<'d> {
    /// Checks what can be checked before the first token: length, UTF-8, forbidden control characters.
    ///
    /// # Errors
    /// When the document is too long, is not UTF-8, or holds characters that XML forbids.
    pub fn new(document: &'d [u8], limits: Limits) -> Result<Self, Malformed> {
        if document.len() > limits.bytes {
            return Err(Malformed::new("document is too long", format!("byte {}", limits.bytes)));
        }
        let source = std::str::from_utf8(document).map_err(|e| Malformed::new("not UTF-8", format!("byte {}", e.valid_up_to())))?;
        let source = source.strip_prefix('\u{feff}').unwrap_or(source);
        let forbidden = |b: u8| b < 0x20 && !matches!(b, b'\t' | b'\n' | b'\r');
        // Almost no document has one: looking for its place byte by byte comes after the look that takes many bytes at once.
        if source.bytes().fold(false, |found, b| found | forbidden(b)) {
            let at = source.bytes().position(forbidden).unwrap_or_default();
            return Err(Malformed::new("forbidden control character", format!("byte {at}")));
        }
        let mut inner = NsReader::from_str(source);
        let config = inner.config_mut();
        config.expand_empty_elements = true;
        config.check_comments = true;
        Ok(Self { source, inner, limits, depth: 0, nodes: 0, seen_root: false, document_type: false })
    }

    /// Lets one document type pass that only names an external definition, which is never fetched. One that declares anything is refused
    /// all the same.
    #[must_use]
    pub fn with_document_type(mut self) -> Self {
        self.document_type = true;
        self
    }

    /// How many bytes of [`Self::source`] have been read: the end of the last token.
    #[must_use]
    pub fn position(&self) -> usize {
        usize::try_from(self.inner.buffer_position()).unwrap_or(usize::MAX)
    }

    /// The document that is read, without a byte order mark.
    #[must_use]
    pub fn source(&self) -> &'d str {
        self.source
    }

    /// Names what is wrong at the current place.
    #[must_use]
    pub fn malformed(&self, what: impl Into<Cow<'static, str>>) -> Malformed {
        Malformed::new(what, format!("byte {}", self.position()))
    }

    /// The next token.
    ///
    /// # Errors
    /// When the document is not well-formed, declares a document type or unknown prefixes, or exceeds a limit.
    // Not an iterator: a token borrows the reader, and an error ends the document.
    #[allow(clippy::should_implement_trait, reason = "a lending iterator cannot implement Iterator")]
    pub fn next(&mut self) -> Result<Token<'_>, Malformed> {
        loop {
            // The library's own words repeat names of the document.
            let Ok(event) = self.inner.read_event() else { return Err(self.malformed("not well-formed")) };
            if !matches!(event, Event::End(_) | Event::Eof) {
                self.nodes += 1;
                if self.nodes > self.limits.nodes {
                    return Err(self.malformed("too many nodes"));
                }
            }
            match event {
                Event::Start(start) | Event::Empty(start) => return self.open(start),
                Event::End(_) => {
                    self.depth = self.depth.saturating_sub(1);
                    return Ok(Token::Close);
                }
                Event::Text(text) => {
                    let text = text.xml10_content();
                    if self.depth == 0 {
                        if !text.trim_ascii().is_empty() {
                            return Err(self.malformed("text outside the root element"));
                        }
                    } else if !text.is_empty() {
                        return Ok(Token::Text(text));
                    }
                }
                Event::CData(data) => {
                    if self.depth == 0 {
                        return Err(self.malformed("text outside the root element"));
                    }
                    return Ok(Token::Text(data.xml10_content()));
                }
                Event::GeneralRef(reference) => {
                    if self.depth == 0 {
                        return Err(self.malformed("text outside the root element"));
                    }
                    return match reference.resolve_char_ref() {
                        Ok(Some(c)) => Ok(Token::Text(Cow::Owned(allowed(c).to_string()))),
                        Ok(None) => match resolve_predefined_entity(&reference.xml10_content()) {
                            Some(text) => Ok(Token::Text(Cow::Borrowed(text))),
                            None => Err(self.malformed("undeclared entity")),
                        },
                        Err(_) => Err(self.malformed("bad character reference")),
                    };
                }
                Event::Decl(declaration) => {
                    if self.seen_root {
                        return Err(self.malformed("declaration inside the document"));
                    }
                    let known = match declaration.encoding() {
                        None => true,
                        Some(Ok(name)) => name.eq_ignore_ascii_case("utf-8") || name.eq_ignore_ascii_case("us-ascii"),
                        Some(Err(_)) => false,
                    };
                    if !known {
                        return Err(self.malformed("encoding is not UTF-8"));
                    }
                }
                Event::DocType(declared) => {
                    if self.seen_root || !std::mem::take(&mut self.document_type) || declared.xml10_content().contains('[') {
                        return Err(self.malformed("document type declarations are refused"));
                    }
                }
                Event::Comment(_) | Event::PI(_) => {}
                Event::Eof => {
                    return if self.depth > 0 || !self.seen_root { Err(self.malformed("document ends early")) } else { Ok(Token::End) };
                }
            }
        }
    }

    fn open(&mut self, start: BytesStart<'d>) -> Result<Token<'_>, Malformed> {
        if self.depth == 0 && self.seen_root {
            return Err(self.malformed("second root element"));
        }
        self.seen_root = true;
        self.depth += 1;
        if self.depth > self.limits.depth {
            return Err(self.malformed("nested too deeply"));
        }
        let position = self.position();
        match self.inner.resolver().resolve_element(start.name()).0 {
            ResolveResult::Bound(namespace) => Ok(Token::Open(Open { namespace: namespace.0, start })),
            ResolveResult::Unbound => Ok(Token::Open(Open { namespace: "", start })),
            ResolveResult::Unknown(_) => Err(Malformed::new("undeclared namespace prefix", format!("byte {position}"))),
        }
    }

    /// Skips to the end of the element that was opened last.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn skip(&mut self) -> Result<(), Malformed> {
        let outer = self.depth.saturating_sub(1);
        while self.depth > outer {
            self.next()?;
        }
        Ok(())
    }

    /// The text of the element that was opened last, up to its end.
    ///
    /// # Errors
    /// As [`Self::next`]; also when the element holds elements.
    pub fn text(&mut self) -> Result<String, Malformed> {
        let mut out = String::new();
        loop {
            match self.next()? {
                Token::Text(piece) if out.is_empty() => out = piece.into_owned(),
                Token::Text(piece) => out.push_str(&piece),
                Token::Close => return Ok(out),
                Token::Open(_) | Token::End => return Err(self.malformed("text expected")),
            }
        }
    }
}

/// A character as XML can carry it: what XML 1.0 forbids becomes the replacement character, so that odd firmware strings do not make
/// a whole message unreadable.
fn allowed(c: char) -> char {
    if is_char(c) { c } else { char::REPLACEMENT_CHARACTER }
}

#[cfg(test)]
mod tests;
