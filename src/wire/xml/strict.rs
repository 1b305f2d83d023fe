//! Markup that comes from people and is put into messages as it is: every parser has to take it, not only one that forgives.

use super::token::{Piece, Pieces, Tag, attributes, qualified};
use super::{Element, Limits, declared_prefix, referred};

/// What may be put in: as much as is read back.
const LIMITS: Limits = Limits { bytes: usize::MAX, depth: 64, nodes: 1_000_000, attributes: 256 };

/// Whether a document can hold the character (XML 1.0, production 2).
#[must_use]
pub const fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{fffd}' | '\u{10000}'..)
}

/// Whether a name may begin so: the letters of XML 1.0, production 4, that all of its editions allow and people use in markup.
const fn begins_name(c: char) -> bool {
    matches!(c, 'A'..='Z' | '_' | 'a'..='z' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{ff}')
}

/// Whether a name may go on so (production 4a, of the same letters).
const fn goes_on(c: char) -> bool {
    begins_name(c) || matches!(c, '-' | '.' | '0'..='9' | '\u{b7}')
}

/// Whether it is a name with at most one prefix (Namespaces in XML 1.0, productions 4 and 7).
fn is_qualified(name: &str) -> bool {
    let plain = |part: &str| {
        let mut letters = part.chars();
        letters.next().is_some_and(begins_name) && letters.all(goes_on)
    };
    qualified(name).is_some_and(|(prefix, local)| (prefix.is_empty() || plain(prefix)) && plain(local))
}

/// Whether text between quotes or tags is in order: characters, and references that mean something.
fn is_text(text: &str) -> bool {
    let mut rest = text;
    if text.contains('<') || !text.chars().all(is_char) {
        return false;
    }
    while let Some((_, after)) = rest.split_once('&') {
        let Some((reference, next)) = after.split_once(';') else { return false };
        if !means_something(reference) {
            return false;
        }
        rest = next;
    }
    true
}

/// Whether it is the number of a character that a document can hold, or one of the five names (productions 66 and 68).
fn means_something(reference: &str) -> bool {
    // What no document can hold would be replaced.
    referred(reference).is_ok_and(|c| c != char::REPLACEMENT_CHARACTER) || matches!(reference, "#65533" | "#xFFFD" | "#xfffd")
}

fn is_tag(tag: Tag<'_>) -> bool {
    // A prefix is never taken back.
    let kept = |name: &str, value: &str| declared_prefix(name).is_none_or(|prefix| prefix.is_empty() || !value.is_empty());
    is_qualified(tag.name) && attributes(tag.attributes).all(|(name, value)| is_qualified(name) && is_text(value) && kept(name, value))
}

/// Whether the piece can stand inside any element of a document that a parser reads which forgives nothing: elements and text, without
/// declarations and processing instructions.
#[must_use]
pub fn is_strict(piece: &str) -> bool {
    let whole = format!("<Data>{piece}</Data>");
    // Nesting, prefixes and names that occur twice are judged by whoever reads.
    if Element::parse(whole.as_bytes(), LIMITS).is_err() {
        return false;
    }
    let mut pieces = Pieces::new(&whole);
    while let Ok(Some(piece)) = pieces.next() {
        let right = match piece {
            Piece::Start(tag) => is_tag(tag),
            Piece::End(_) => true,
            Piece::Text(text) => !text.contains("]]>") && is_text(text),
            Piece::CData(text) | Piece::Comment(text) => text.chars().all(is_char),
            Piece::Instruction | Piece::Declaration(_) | Piece::DocumentType { .. } => false,
        };
        if !right {
            return false;
        }
    }
    pieces.left() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_every_parser_takes_is_put_in_as_it_is() {
        let right = [
            "<a/>",
            "<a b='1' c=\"&lt;\"\n d = '>'>t &amp; &#x20AC;<![CDATA[<]]]]><!-- - --></a >",
            "text <é:ü xmlns:é='u' é:x='1'/> more",
            "<a xml:lang='de'/>",
            "<a xmlns=''><b/></a>",
            "<a xmlns:x='u' xmlns:y='v' x:b='1' y:b='2' b='3'/>",
        ];
        for piece in right {
            assert!(is_strict(piece), "{piece}");
        }
        let wrong = [
            "<a>]]></a>",
            "<1a/>",
            "<a:b:c xmlns:a='u'/>",
            "<a>\u{fffe}</a>",
            "<a b='\u{ffff}'/>",
            "<a><![CDATA[\u{fffe}]]></a>",
            "<x:a/>",
            "<a x:b='1'/>",
            "<a b='1'c='2'/>",
            "<a b=1/>",
            "<a b/>",
            "<a b='1' b='2'/>",
            "<a b='<'/>",
            "<a b='&x;'/>",
            "<a>&x;</a>",
            "<a>&#0;</a>",
            "<a>&#xFFFF;</a>",
            "<a>&#+5;</a>",
            "<a>&</a>",
            "<!DOCTYPE a><a/>",
            "<?xml version='1.0'?><a/>",
            "<?p?><a/>",
            "<a><!-- -- --></a>",
            "<a><!-- ---></a>",
            "<a>",
            "</Data><Data>",
            "</Data>",
            "<a></b>",
            "<a xmlns:b=''/>",
            "<:a/>",
            "<a:/>",
            "<-a/>",
            "<xmlns:a/>",
            "<a\u{7}/>",
            "< a/>",
            "<a",
            "<a><b></a></b>",
        ];
        for piece in wrong {
            assert!(!is_strict(piece), "{piece}");
        }
    }
}
