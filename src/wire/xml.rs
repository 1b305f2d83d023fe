//! A bounded, namespace-aware reader and a writer for the small XML documents that devices exchange with us.
//!
//! Two ways to read: [`Reader`] hands out tokens in one pass (SyncML), [`Element`] is the whole document as a tree (SOAP). Both
//! refuse document types, so no entity beyond XML's own five is ever expanded, and both stop at their [`Limits`].

mod strict;
mod token;
mod tree;
mod writer;

use std::borrow::Cow;

pub use strict::{is_char, is_strict};
pub use tree::{Attribute, Element, Name, Node};
pub use writer::{Writer, escaped, escaped_len};

use super::Malformed;
use token::{Broken, Piece, Pieces, Tag, attributes, qualified};

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

/// The namespace of the prefix that is never declared.
const XML: &str = "http://www.w3.org/XML/1998/namespace";
/// The namespace of the prefix that declares.
const XMLNS: &str = "http://www.w3.org/2000/xmlns/";
/// Most namespaces that are declared in one place, each of which is looked at for each name.
const MOST_NAMESPACES: usize = 64;

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
    local: &'t str,
    attributes: &'t str,
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
        self.local
    }

    /// Whether that namespace is declared here, under whatever prefix.
    #[must_use]
    pub fn declares(&self, namespace: &str) -> bool {
        attributes(self.attributes).any(|(name, value)| value == namespace && declared_prefix(name).is_some())
    }

    /// The value of an attribute, whatever its prefix and the case of its name; `None` also when it cannot be decoded.
    #[must_use]
    pub fn attribute_anyhow(&self, local: &str) -> Option<String> {
        let is = |name: &str| qualified(name).is_some_and(|(_, found)| found.eq_ignore_ascii_case(local));
        let (_, value) = attributes(self.attributes).find(|(name, _)| is(name))?;
        Some(decoded(value, true).ok()?.into_owned())
    }
}

/// The prefix that an attribute of that name declares, empty for the namespace of names without one.
fn declared_prefix(attribute: &str) -> Option<&str> {
    match attribute.strip_prefix("xmlns")? {
        "" => Some(""),
        rest => rest.strip_prefix(':'),
    }
}

/// A step of a document, before its namespace is looked at.
enum Step<'d> {
    Open { prefix: &'d str, local: &'d str, attributes: &'d str },
    Text(Cow<'d, str>),
    Close,
    End,
}

/// An element that was opened.
#[derive(Debug)]
struct Scope<'d> {
    name: &'d str,
    /// How many namespaces were declared around it.
    outside: usize,
}

/// Reads a document token by token within limits.
#[derive(Debug)]
pub struct Reader<'d> {
    source: &'d str,
    pieces: Pieces<'d>,
    limits: Limits,
    /// The elements around the current place, from the outermost.
    open: Vec<Scope<'d>>,
    /// Prefixes and their namespaces at the current place, the innermost last.
    namespaces: Vec<(&'d str, Cow<'d, str>)>,
    /// Names of the attributes of one element, to find one that occurs twice.
    names: Vec<&'d str>,
    /// The element that was opened last was written as one tag.
    empty: bool,
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
        Ok(Self {
            source,
            pieces: Pieces::new(source),
            limits,
            open: Vec::new(),
            namespaces: Vec::new(),
            names: Vec::new(),
            empty: false,
            nodes: 0,
            seen_root: false,
            document_type: false,
        })
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
        self.source.len() - self.pieces.left()
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
        Ok(match self.step()? {
            Step::Open { prefix, local, attributes } => {
                Token::Open(Open { namespace: self.namespace(prefix).unwrap_or_default(), local, attributes })
            }
            Step::Text(text) => Token::Text(text),
            Step::Close => Token::Close,
            Step::End => Token::End,
        })
    }

    fn step(&mut self) -> Result<Step<'d>, Malformed> {
        if std::mem::take(&mut self.empty) {
            self.leave();
            return Ok(Step::Close);
        }
        loop {
            let Some(piece) = self.pieces.next().map_err(|Broken| self.malformed("not well-formed"))? else {
                return if self.open.is_empty() && self.seen_root { Ok(Step::End) } else { Err(self.malformed("document ends early")) };
            };
            if !matches!(piece, Piece::End(_)) {
                self.nodes += 1;
                if self.nodes > self.limits.nodes {
                    return Err(self.malformed("too many nodes"));
                }
            }
            match piece {
                Piece::Start(tag) => return self.enter(tag),
                Piece::End(name) => {
                    // Well-formedness constraint "Element Type Match" (XML 1.0, section 3).
                    if self.open.last().is_none_or(|scope| scope.name != name) {
                        return Err(self.malformed("not well-formed"));
                    }
                    self.leave();
                    return Ok(Step::Close);
                }
                Piece::Text(text) if self.open.is_empty() && text.trim_ascii().is_empty() => {}
                Piece::Text(_) | Piece::CData(_) if self.open.is_empty() => {
                    return Err(self.malformed("text outside the root element"));
                }
                Piece::Text(text) => return decoded(text, false).map(Step::Text).map_err(|what| self.malformed(what)),
                Piece::CData(text) => return Ok(Step::Text(with_plain_ends(text))),
                Piece::Declaration(inside) => {
                    if self.seen_root {
                        return Err(self.malformed("declaration inside the document"));
                    }
                    let known = |name: &str| name.eq_ignore_ascii_case("utf-8") || name.eq_ignore_ascii_case("us-ascii");
                    if attributes(inside).any(|(name, value)| name == "encoding" && !known(value)) {
                        return Err(self.malformed("encoding is not UTF-8"));
                    }
                }
                Piece::DocumentType { declares } => {
                    if self.seen_root || !std::mem::take(&mut self.document_type) || declares {
                        return Err(self.malformed("document type declarations are refused"));
                    }
                }
                Piece::Comment(_) | Piece::Instruction => {}
            }
        }
    }

    fn enter(&mut self, tag: Tag<'d>) -> Result<Step<'d>, Malformed> {
        if self.open.is_empty() && self.seen_root {
            return Err(self.malformed("second root element"));
        }
        self.seen_root = true;
        if self.open.len() >= self.limits.depth {
            return Err(self.malformed("nested too deeply"));
        }
        let outside = self.namespaces.len();
        if !tag.attributes.is_empty() {
            self.declare(tag.attributes)?;
        }
        let (prefix, local) = qualified(tag.name).ok_or_else(|| self.malformed("not well-formed"))?;
        if !prefix.is_empty() && self.namespace(prefix).is_none() {
            return Err(self.malformed("undeclared namespace prefix"));
        }
        self.open.push(Scope { name: tag.name, outside });
        self.empty = tag.empty;
        Ok(Step::Open { prefix, local, attributes: tag.attributes })
    }

    /// Looks at the attributes of a tag, and remembers the namespaces among them.
    fn declare(&mut self, tag: &'d str) -> Result<(), Malformed> {
        self.names.clear();
        for (name, value) in attributes(tag) {
            if self.names.len() >= self.limits.attributes {
                return Err(self.malformed("too many attributes"));
            }
            if self.names.contains(&name) {
                return Err(self.malformed("attribute occurs twice"));
            }
            self.names.push(name);
            let Some(prefix) = declared_prefix(name) else { continue };
            let namespace = decoded(value, true).map_err(|what| self.malformed(what))?;
            // Namespaces in XML 1.0, section 3: XML's own are not given to other prefixes, and their prefixes not to others.
            if prefix == "xmlns" || namespace == XMLNS || (prefix == "xml") != (namespace == XML) {
                return Err(self.malformed("reserved namespace"));
            }
            if self.namespaces.len() >= MOST_NAMESPACES {
                return Err(self.malformed("too many namespaces"));
            }
            self.namespaces.push((prefix, namespace));
        }
        Ok(())
    }

    fn leave(&mut self) {
        if let Some(scope) = self.open.pop() {
            self.namespaces.truncate(scope.outside);
        }
    }

    /// What a prefix means at the current place, or for an empty one names without; `None` when it was not declared.
    fn namespace(&self, prefix: &str) -> Option<&str> {
        match self.namespaces.iter().rev().find(|(declared, _)| *declared == prefix) {
            Some((_, namespace)) => Some(namespace.as_ref()).filter(|namespace| prefix.is_empty() || !namespace.is_empty()),
            None if prefix.is_empty() => Some(""),
            None => (prefix == "xml").then_some(XML),
        }
    }

    /// Skips to the end of the element that was opened last.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn skip(&mut self) -> Result<(), Malformed> {
        let outer = self.open.len().saturating_sub(1);
        while self.open.len() > outer {
            self.step()?;
        }
        Ok(())
    }

    /// The text of the element that was opened last, up to its end.
    ///
    /// # Errors
    /// As [`Self::next`]; also when the element holds elements.
    pub fn text(&mut self) -> Result<Cow<'d, str>, Malformed> {
        let mut out = Cow::Borrowed("");
        loop {
            match self.step()? {
                Step::Text(piece) if out.is_empty() => out = piece,
                Step::Text(piece) => out.to_mut().push_str(&piece),
                Step::Close => return Ok(out),
                Step::Open { .. } | Step::End => return Err(self.malformed("text expected")),
            }
        }
    }
}

/// Text without references as it is meant: a line ends with `\n` alone (XML 1.0, section 2.11).
fn with_plain_ends(text: &str) -> Cow<'_, str> {
    if text.contains('\r') { Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n")) } else { Cow::Borrowed(text) }
}

/// Text as it is meant: plain ends of lines, characters in place of references (XML 1.0, sections 4.1 and 4.6), and blanks for all white
/// space of an attribute (3.3.3).
///
/// # Errors
/// What is wrong with a reference.
fn decoded(raw: &str, attribute: bool) -> Result<Cow<'_, str>, &'static str> {
    // White space that is referred to stays what it is.
    let white = |text: &str, out: &mut String| match attribute {
        true => out.extend(with_plain_ends(text).chars().map(|c| if matches!(c, '\n' | '\t') { ' ' } else { c })),
        false => out.push_str(&with_plain_ends(text)),
    };
    let special = |b: u8| matches!(b, b'&' | b'\r') || (attribute && matches!(b, b'\n' | b'\t'));
    if !raw.bytes().fold(false, |found, b| found | special(b)) {
        return Ok(Cow::Borrowed(raw));
    }
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once('&') {
        white(before, &mut out);
        let (reference, after) = after.split_once(';').ok_or("a reference without its end")?;
        out.push(referred(reference)?);
        rest = after;
    }
    white(rest, &mut out);
    Ok(Cow::Owned(out))
}

/// The character that a reference stands for: by its number, or by one of XML's own five names.
fn referred(reference: &str) -> Result<char, &'static str> {
    let Some(number) = reference.strip_prefix('#') else {
        return match reference {
            "amp" => Ok('&'),
            "apos" => Ok('\''),
            "gt" => Ok('>'),
            "lt" => Ok('<'),
            "quot" => Ok('"'),
            _ => Err("undeclared entity"),
        };
    };
    let (digits, radix) = number.strip_prefix('x').map_or((number, 10), |digits| (digits, 16));
    // A sign is no digit.
    let number = digits.bytes().all(|b| b.is_ascii_alphanumeric()).then(|| u32::from_str_radix(digits, radix).ok()).flatten();
    // A number that is no character is read as one that cannot be written.
    number.map(|number| char::from_u32(number).map_or(char::REPLACEMENT_CHARACTER, allowed)).ok_or("bad character reference")
}

/// A character as XML can carry it: what XML 1.0 forbids becomes the replacement character, so that odd firmware strings do not make
/// a whole message unreadable.
fn allowed(c: char) -> char {
    if is_char(c) { c } else { char::REPLACEMENT_CHARACTER }
}

#[cfg(test)]
mod tests;
