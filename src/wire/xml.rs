//! A bounded, namespace-aware reader and a writer for the small XML documents that devices exchange with us.
//!
//! Two ways to read: [`Reader`] hands out tokens in one pass (SyncML), [`Element`] is the whole document as a tree (SOAP). Both
//! refuse document types, so no entity beyond XML's own five is ever expanded, and both stop at their [`Limits`].

use std::borrow::Cow;
use std::sync::Arc;

use quick_xml::NsReader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{QName, ResolveResult};

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
        self.start.attributes_raw().contains(namespace)
            && self.start.attributes().flatten().any(|a| a.key.as_namespace_binding().is_some() && a.value == namespace)
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
        if let Some(at) = source.bytes().position(|b| b < 0x20 && !matches!(b, b'\t' | b'\n' | b'\r')) {
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
            let event = match self.inner.read_event() {
                Ok(event) => event,
                Err(error) => return Err(self.malformed(error.to_string())),
            };
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
    if matches!(c, '\u{0}'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}') {
        char::REPLACEMENT_CHARACTER
    } else {
        c
    }
}

/// A name with its namespace; an empty namespace means none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    /// The namespace URI.
    pub namespace: Arc<str>,
    /// The name without its prefix.
    pub local: String,
}

impl Name {
    /// Whether this is that name.
    #[must_use]
    pub fn is(&self, namespace: &str, local: &str) -> bool {
        &*self.namespace == namespace && self.local == local
    }
}

/// One attribute; namespace declarations are not among an element's attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its name; an attribute without prefix has no namespace.
    pub name: Name,
    /// Its value, decoded and normalised.
    pub value: String,
}

/// What an element holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// An element.
    Element(Element),
    /// Text, decoded and in one piece.
    Text(String),
}

/// An element with everything inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Its name.
    pub name: Name,
    /// Its attributes, in document order.
    pub attributes: Vec<Attribute>,
    /// Its content, in document order.
    pub children: Vec<Node>,
}

impl Element {
    /// Reads a whole document.
    ///
    /// # Errors
    /// When it is not well-formed or exceeds a limit.
    pub fn parse(document: &[u8], limits: Limits) -> Result<Self, Malformed> {
        let mut reader = Reader::new(document, limits)?;
        let mut namespaces = Vec::new();
        let mut open: Vec<Self> = Vec::new();
        let mut root = None;
        loop {
            // The attributes are resolved while the token still borrows the reader's scope.
            let position = reader.position();
            match reader.next()? {
                Token::Open(start) => {
                    let name = Name { namespace: intern(&mut namespaces, start.namespace), local: start.local().to_owned() };
                    let start = start.start.into_owned();
                    let attributes =
                        attributes(&reader, &start, &mut namespaces).map_err(|what| Malformed::new(what, format!("byte {position}")))?;
                    open.push(Self { name, attributes, children: Vec::new() });
                }
                Token::Text(piece) => {
                    if let Some(element) = open.last_mut() {
                        match element.children.last_mut() {
                            Some(Node::Text(text)) => text.push_str(&piece),
                            _ => element.children.push(Node::Text(piece.into_owned())),
                        }
                    }
                }
                Token::Close => {
                    if let Some(element) = open.pop() {
                        match open.last_mut() {
                            Some(parent) => parent.children.push(Node::Element(element)),
                            None => root = Some(element),
                        }
                    }
                }
                Token::End => return root.ok_or_else(|| Malformed::new("no root element", "byte 0")),
            }
        }
    }

    /// Whether the element has that name.
    #[must_use]
    pub fn is(&self, namespace: &str, local: &str) -> bool {
        self.name.is(namespace, local)
    }

    /// The elements inside, in order.
    pub fn elements(&self) -> impl Iterator<Item = &Self> {
        self.children.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// The elements inside that have that name.
    pub fn all<'e>(&'e self, namespace: &'e str, local: &'e str) -> impl Iterator<Item = &'e Self> {
        self.elements().filter(move |element| element.is(namespace, local))
    }

    /// The first element inside that has that name.
    #[must_use]
    pub fn child(&self, namespace: &str, local: &str) -> Option<&Self> {
        self.elements().find(|element| element.is(namespace, local))
    }

    /// The first element along a path of names below this one.
    #[must_use]
    pub fn path(&self, path: &[(&str, &str)]) -> Option<&Self> {
        path.iter().try_fold(self, |element, (namespace, local)| element.child(namespace, local))
    }

    /// The text directly inside, without that of inner elements.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        let mut texts = self.children.iter().filter_map(|node| match node {
            Node::Text(text) => Some(text.as_str()),
            Node::Element(_) => None,
        });
        match (texts.next(), texts.next()) {
            (None, _) => Cow::Borrowed(""),
            (Some(only), None) => Cow::Borrowed(only),
            (Some(first), Some(second)) => Cow::Owned([first, second].into_iter().chain(texts).collect()),
        }
    }

    /// The value of an attribute.
    #[must_use]
    pub fn attribute(&self, namespace: &str, local: &str) -> Option<&str> {
        self.attributes.iter().find(|attribute| attribute.name.is(namespace, local)).map(|attribute| attribute.value.as_str())
    }

    /// The value of an attribute, whether it is written plain or with a prefix: clients do both.
    #[must_use]
    pub fn attribute_anyhow(&self, local: &str) -> Option<&str> {
        self.attributes.iter().find(|attribute| attribute.name.local == local).map(|attribute| attribute.value.as_str())
    }
}

fn intern(known: &mut Vec<Arc<str>>, namespace: &str) -> Arc<str> {
    if let Some(found) = known.iter().find(|n| &***n == namespace) {
        return Arc::clone(found);
    }
    let new: Arc<str> = namespace.into();
    known.push(Arc::clone(&new));
    new
}

fn attributes(reader: &Reader<'_>, start: &BytesStart<'_>, namespaces: &mut Vec<Arc<str>>) -> Result<Vec<Attribute>, &'static str> {
    let mut out: Vec<Attribute> = Vec::new();
    for (count, attribute) in start.attributes().enumerate() {
        if count >= reader.limits.attributes {
            return Err("too many attributes");
        }
        let attribute = attribute.map_err(|_| "bad attribute")?;
        if attribute.key.as_namespace_binding().is_some() {
            continue;
        }
        let namespace = match reader.inner.resolver().resolve_attribute(attribute.key).0 {
            ResolveResult::Bound(namespace) => intern(namespaces, namespace.0),
            ResolveResult::Unbound => intern(namespaces, ""),
            ResolveResult::Unknown(_) => return Err("undeclared namespace prefix"),
        };
        let name = Name { namespace, local: local(attribute.key).to_owned() };
        if out.iter().any(|other| other.name == name) {
            return Err("attribute occurs twice");
        }
        let value = attribute.normalized_value(quick_xml::XmlVersion::Explicit1_0).map_err(|_| "bad attribute value")?;
        out.push(Attribute { name, value: value.chars().map(allowed).collect() });
    }
    Ok(out)
}

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

fn escape(out: &mut Vec<u8>, text: &str, attribute: bool) {
    let mut rest = text.as_bytes();
    while let Some((at, with)) = rest.iter().enumerate().find_map(|(at, b)| replacement(*b, attribute).map(|with| (at, with))) {
        let (plain, from) = rest.split_at(at);
        out.extend_from_slice(plain);
        out.extend_from_slice(with);
        rest = from.get(1..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Element, Malformed> {
        Element::parse(text.as_bytes(), Limits::SOAP)
    }

    fn what(text: &str) -> String {
        parse(text).unwrap_err().what.into_owned()
    }

    #[test]
    fn prefixes_do_not_matter_and_namespaces_do() {
        let a = parse("<s:e xmlns:s='urn:a' s:k='1' k='2'><s:c>x<!-- c -->y</s:c></s:e>").unwrap();
        let b = parse("<e xmlns='urn:a' xmlns:q='urn:a' q:k='1' k='2'><c>xy</c></e>").unwrap();
        assert_eq!(a, b);
        assert_eq!(a.path(&[("urn:a", "c")]).unwrap().text(), "xy");
        assert_eq!(a.attribute("urn:a", "k"), Some("1"));
        assert_eq!(a.attribute("", "k"), Some("2"));
        assert!(parse("<e xmlns='urn:b'/>").unwrap().child("urn:a", "c").is_none());
    }

    #[test]
    fn a_prefix_is_bound_only_inside_its_element() {
        assert!(what("<e><a xmlns:p='urn:p'/><p:b/></e>").contains("prefix"));
        assert!(what("<e p:k='1'/>").contains("prefix"));
        let e = parse("<e xmlns='urn:a'><i xmlns=''/><j/></e>").unwrap();
        assert!(e.child("", "i").is_some() && e.child("urn:a", "j").is_some());
    }

    #[test]
    fn text_comes_out_of_cdata_and_references() {
        assert_eq!(parse("<e>a &lt;&#x41;&amp; <![CDATA[<b>&amp;]]>&#233;\r\n</e>").unwrap().text(), "a <A& <b>&amp;é\n");
        assert_eq!(parse("<e>&#1;</e>").unwrap().text(), "\u{fffd}");
    }

    #[test]
    fn document_types_and_foreign_entities_are_refused() {
        assert!(what("<!DOCTYPE e [<!ENTITY a 'aaaa'>]><e>&a;</e>").contains("document type"));
        assert!(what("<e>&nbsp;</e>").contains("entity"));
        assert!(what("<e k='&nbsp;'/>").contains("attribute"));
    }

    #[test]
    fn a_document_type_passes_only_on_request_once_and_without_declarations() {
        let read = |text: &str| {
            let mut reader = Reader::new(text.as_bytes(), Limits::SOAP).unwrap().with_document_type();
            while !matches!(reader.next()?, Token::End) {}
            Ok::<_, Malformed>(())
        };
        assert!(read("<!DOCTYPE e PUBLIC '-//A//B' 'http://h/e.dtd'><e/>").is_ok());
        for text in [
            "<!DOCTYPE e><!DOCTYPE e><e/>",
            "<e><!DOCTYPE e></e>",
            "<!DOCTYPE e SYSTEM 'f' []><e/>",
            "<!DOCTYPE e [<!ENTITY a 'b'>]><e>&a;</e>",
            "<!DOCTYPE e><e>&a;</e>",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn broken_documents_are_refused() {
        for text in [
            "",
            " ",
            "x",
            "<e>",
            "<e></f>",
            "</e>",
            "<e/><e/>",
            "<e/>x",
            "x<e/>",
            "<e",
            "<e k=1/>",
            "<e k='1' k='2'/>",
            "<e>&#0;</e>",
            "<e>&x</e>",
            "<e>\u{1}</e>",
            "<?xml version='1.0' encoding='utf-16'?><e/>",
            "<a xmlns:p='u' xmlns:q='u' p:k='' q:k=''/>",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert!(Element::parse(b"<e>\xff</e>", Limits::SOAP).is_err());
    }

    #[test]
    fn limits_hold() {
        let deep = |n: usize| format!("{}{}", "<e>".repeat(n), "</e>".repeat(n));
        assert!(parse(&deep(32)).is_ok());
        assert_eq!(what(&deep(33)), "nested too deeply");
        assert_eq!(what(&format!("<e>{}</e>", "<e/>".repeat(10_000))), "too many nodes");
        assert_eq!(what(&format!("<e>{}</e>", "&lt;".repeat(10_000))), "too many nodes");
        assert_eq!(what(&format!("<e>{}</e>", "x".repeat(300_000))), "document is too long");
        let many: String = (0..33).map(|i| format!(" a{i}='1'")).collect();
        assert_eq!(what(&format!("<e{many}/>")), "too many attributes");
    }

    #[test]
    fn the_byte_order_mark_is_no_text() {
        assert!(parse("\u{feff}<?xml version=\"1.0\" encoding=\"UTF-8\"?><e/>").is_ok());
    }

    #[test]
    fn a_reader_skips_whole_elements() {
        let mut reader = Reader::new(b"<e><a><b/>x</a><c>y</c></e>", Limits::SOAP).unwrap();
        assert!(matches!(reader.next(), Ok(Token::Open(o)) if o.local() == "e"));
        assert!(matches!(reader.next(), Ok(Token::Open(o)) if o.local() == "a"));
        reader.skip().unwrap();
        assert!(matches!(reader.next(), Ok(Token::Open(o)) if o.local() == "c"));
        assert_eq!(reader.text().unwrap(), "y");
        assert!(matches!(reader.next(), Ok(Token::Close)));
        assert!(matches!(reader.next(), Ok(Token::End)));
    }

    #[test]
    fn the_writer_closes_what_it_opened() {
        let mut w = Writer::new();
        w.declaration().open("a").attribute("k", "\"<\n").open("b").close().leaf("c", "1<2").raw("<d/>");
        assert_eq!(
            String::from_utf8(w.finish()).unwrap(),
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><a k=\"&quot;&lt;&#10;\"><b/><c>1&lt;2</c><d/></a>"
        );
    }

    proptest! {
        #[test]
        fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Element::parse(&bytes, Limits::SOAP);
        }

        #[test]
        fn markup_never_panics(text in "(<|>|/|a|b|:|xmlns|=|'|\"|&|;|#|!|\\[|\\]|CDATA|-|\\?| ){0,60}") {
            let _ = parse(&text);
        }

        #[test]
        fn text_and_attributes_survive(text in "[\t\n\r -\u{d7ff}\u{e000}-\u{fffd}]{0,60}", value in "[\t\n\r -\u{d7ff}\u{e000}-\u{fffd}]{0,60}") {
            let mut w = Writer::new();
            w.open("e").attribute("k", &value).text(&text);
            let bytes = w.finish();
            prop_assert_eq!(bytes.len(), escaped_len(&text) + escaped_attribute(&value) + if text.is_empty() { 9 } else { 12 });
            let e = Element::parse(&bytes, Limits::SOAP).unwrap();
            prop_assert_eq!(e.text(), text);
            prop_assert_eq!(e.attribute("", "k"), Some(value.as_str()));
        }
    }

    fn escaped_attribute(value: &str) -> usize {
        let mut out = Vec::new();
        escape(&mut out, value, true);
        out.len()
    }
}
