//! Splitting a document into its markup and the text between, without copying (XML 1.0, fifth edition).
//!
//! What a look at the bytes tells is judged here: that tags, attributes, comments and sections are written as they must be. What
//! nesting, prefixes and references mean is judged by who reads.

/// A piece of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'d> {
    /// The tag with which an element begins (production 40), or that is all of it (44).
    Start(Tag<'d>),
    /// The tag with which the element of that name ends (42).
    End(&'d str),
    /// Text with its references, as it stands (14).
    Text(&'d str),
    /// What a `CDATA` section holds (18).
    CData(&'d str),
    /// What a comment holds (15).
    Comment(&'d str),
    /// A processing instruction (16).
    Instruction,
    /// The attributes of the XML declaration (23).
    Declaration(&'d str),
    /// A document type declaration (28); whether it declares anything itself.
    DocumentType {
        /// It has an internal subset, which is not read.
        declares: bool,
    },
}

/// The tag of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag<'d> {
    /// Its name with its prefix.
    pub(super) name: &'d str,
    /// Its attributes, for [`attributes`].
    pub(super) attributes: &'d str,
    /// It is the end, too.
    pub(super) empty: bool,
}

/// The pieces of a document.
#[derive(Debug)]
pub(super) struct Pieces<'d> {
    rest: &'d str,
}

impl<'d> Pieces<'d> {
    pub(super) fn new(document: &'d str) -> Self {
        Self { rest: document }
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// When it is not written as it must be.
    pub(super) fn next(&mut self) -> Result<Option<Piece<'d>>, Broken> {
        let found = match self.rest.strip_prefix('<') {
            Some(markup) => markup_of(markup).ok_or(Broken)?,
            None if self.rest.is_empty() => return Ok(None),
            None => {
                let (text, rest) = self.rest.split_at_checked(self.rest.find('<').unwrap_or(self.rest.len())).ok_or(Broken)?;
                (Piece::Text(text), rest)
            }
        };
        self.rest = found.1;
        Ok(Some(found.0))
    }
}

/// A document is not well-formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// A piece and what comes after it.
type Found<'d> = Option<(Piece<'d>, &'d str)>;

/// What begins behind a `<`.
fn markup_of(markup: &str) -> Found<'_> {
    match markup.as_bytes().first()? {
        b'/' => {
            let (name, rest) = name(markup.get(1..)?)?;
            Some((Piece::End(name), without_space(rest).strip_prefix('>')?))
        }
        b'!' => declared(markup.get(1..)?),
        b'?' => instruction(markup.get(1..)?),
        _ => tag(markup),
    }
}

fn tag(markup: &str) -> Found<'_> {
    let (name, inside) = name(markup)?;
    let mut rest = inside;
    loop {
        let next = without_space(rest);
        let end = match next.as_bytes() {
            [b'>', ..] => Some((false, next.get(1..)?)),
            [b'/', b'>', ..] => Some((true, next.get(2..)?)),
            _ => None,
        };
        if let Some((empty, after)) = end {
            let attributes = inside.get(..inside.len() - next.len())?;
            return Some((Piece::Start(Tag { name, attributes, empty }), after));
        }
        // White space stands before each attribute.
        if next.len() == rest.len() {
            return None;
        }
        (_, rest) = attribute(next)?;
    }
}

/// Comments, `CDATA` sections and the document type.
fn declared(markup: &str) -> Found<'_> {
    if let Some(comment) = markup.strip_prefix("--") {
        // Two hyphens do not occur inside (production 15).
        let (comment, after) = comment.split_once("--")?;
        return Some((Piece::Comment(comment), after.strip_prefix('>')?));
    }
    if let Some(data) = markup.strip_prefix("[CDATA[") {
        let (data, after) = data.split_once("]]>")?;
        return Some((Piece::CData(data), after));
    }
    let mut rest = markup.strip_prefix("DOCTYPE").filter(|rest| rest.starts_with(SPACE))?;
    loop {
        let at = rest.find(['"', '\'', '[', '>'])?;
        let (found, after) = (*rest.as_bytes().get(at)?, rest.get(at + 1..)?);
        rest = match found {
            b'>' => return Some((Piece::DocumentType { declares: false }, after)),
            b'[' => return Some((Piece::DocumentType { declares: true }, after)),
            quote => after.split_once(char::from(quote))?.1,
        };
    }
}

fn instruction(markup: &str) -> Found<'_> {
    let (target, rest) = name(markup)?;
    let (inside, after) = rest.split_once("?>")?;
    if !inside.is_empty() && !inside.starts_with(SPACE) {
        return None;
    }
    match target {
        "xml" => are_attributes(inside).then_some((Piece::Declaration(inside), after)),
        // Production 17: reserved however it is written.
        _ if target.eq_ignore_ascii_case("xml") => None,
        _ => Some((Piece::Instruction, after)),
    }
}

/// An attribute: its name with its prefix, and its value as it stands.
pub(super) type Attribute<'d> = (&'d str, &'d str);

/// The attributes of a tag that was read.
pub(super) fn attributes(tag: &str) -> impl Iterator<Item = Attribute<'_>> + Clone {
    let mut rest = tag;
    std::iter::from_fn(move || {
        let (found, after) = attribute(without_space(rest))?;
        rest = after;
        Some(found)
    })
}

fn are_attributes(text: &str) -> bool {
    let mut rest = text;
    loop {
        let next = without_space(rest);
        if next.is_empty() || next.len() == rest.len() {
            return next.is_empty();
        }
        let Some((_, after)) = attribute(next) else { return false };
        rest = after;
    }
}

/// Production 41, with production 10: no `<` in a value.
fn attribute(text: &str) -> Option<(Attribute<'_>, &str)> {
    let (name, rest) = name(text)?;
    let value = without_space(without_space(rest).strip_prefix('=')?);
    let quote = char::from(*value.as_bytes().first()?);
    if !matches!(quote, '"' | '\'') {
        return None;
    }
    let (value, after) = value.get(1..)?.split_once(quote)?;
    (!value.contains('<')).then_some(((name, value), after))
}

/// White space (production 3).
const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

fn without_space(text: &str) -> &str {
    text.trim_start_matches(SPACE)
}

/// A name at the beginning of the text, and what comes after it. Of the letters beyond ASCII all are taken.
fn name(text: &str) -> Option<(&str, &str)> {
    let goes_on = |byte: u8| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b':' | b'-' | b'.' | 0x80..);
    let end = text.bytes().position(|byte| !goes_on(byte)).unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end)?;
    (!name.is_empty() && !name.starts_with(|first: char| matches!(first, '0'..='9' | '-' | '.'))).then_some((name, rest))
}

/// A name's prefix, empty without one, and the rest (Namespaces in XML 1.0, production 7); `None` when one of them is missing.
pub(super) fn qualified(name: &str) -> Option<(&str, &str)> {
    match name.split_once(':') {
        None => Some(("", name)),
        Some((prefix, local)) => (!prefix.is_empty() && !local.is_empty() && !local.contains(':')).then_some((prefix, local)),
    }
}
