//! Markup that comes from people and is put into messages as it is: every parser has to take it, not only one that forgives.

use std::collections::BTreeSet;

use quick_xml::NsReader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{PrefixDeclaration, ResolveResult};

/// Namespaces of XML's own prefixes, which are not declared.
const RESERVED: [&str; 2] = ["http://www.w3.org/XML/1998/namespace", "http://www.w3.org/2000/xmlns/"];

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
    match name.split_once(':') {
        Some((prefix, local)) => plain(prefix) && plain(local),
        None => plain(name),
    }
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

/// Whether it is a character's number or one of the five names (productions 66 and 68).
fn means_something(reference: &str) -> bool {
    let digits = |text: &str, radix: u32| {
        let formed = !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
        formed && u32::from_str_radix(text, radix).ok().and_then(char::from_u32).is_some_and(is_char)
    };
    match reference.strip_prefix('#') {
        Some(number) => number.strip_prefix('x').map_or_else(|| digits(number, 10), |hexadecimal| digits(hexadecimal, 16)),
        None => resolve_predefined_entity(reference).is_some(),
    }
}

/// The attributes of a tag, each with white space before it and its value in quotes (productions 10, 25, 40 and 41).
fn attributes(tag: &str) -> Option<Vec<(&str, &str)>> {
    let mut found: Vec<(&str, &str)> = Vec::new();
    let mut rest = tag;
    loop {
        let next = rest.trim_start_matches([' ', '\t', '\n', '\r']);
        if next.is_empty() {
            return Some(found);
        }
        if next.len() == rest.len() {
            return None;
        }
        let (name, value) = next.split_once('=')?;
        let (name, value) = (name.trim_end_matches([' ', '\t', '\n', '\r']), value.trim_start_matches([' ', '\t', '\n', '\r']));
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let (value, after) = value.get(1..)?.split_once(quote)?;
        if !is_qualified(name) || !is_text(value) || found.iter().any(|(other, _)| *other == name) {
            return None;
        }
        found.push((name, value));
        rest = after;
    }
}

fn is_tag(reader: &NsReader<&[u8]>, start: &BytesStart<'_>) -> bool {
    let Some(attributes) = attributes(start.attributes_raw()) else { return false };
    let bound = |resolved: &ResolveResult<'_>| !matches!(resolved, ResolveResult::Unknown(_));
    // A prefix is never taken back, and names of XML's own are not given to others. Their values are compared as they stand.
    let declares = attributes.iter().filter(|(name, _)| *name == "xmlns" || name.starts_with("xmlns:"));
    let kept = declares.clone().all(|(name, value)| {
        let taken_back = value.is_empty() && *name != "xmlns";
        !taken_back && !value.contains('&') && !RESERVED.contains(value) && !matches!(*name, "xmlns:xmlns" | "xmlns:xml")
    });
    let mut names = BTreeSet::new();
    let prefixes = start.attributes().flatten().all(|attribute| match attribute.key.as_namespace_binding() {
        Some(PrefixDeclaration::Default | PrefixDeclaration::Named(_)) => true,
        None => {
            let (namespace, local) = reader.resolver().resolve_attribute(attribute.key);
            // Two prefixes of one namespace do not make two names (Namespaces in XML 1.0, section 6.3).
            bound(&namespace) && names.insert((format!("{namespace:?}"), local.into_inner().to_owned()))
        }
    });
    let name = start.name();
    is_qualified(name.0) && !name.0.starts_with("xmlns:") && kept && prefixes && bound(&reader.resolver().resolve_element(name).0)
}

/// Whether the piece can stand inside any element of a document that a parser reads which forgives nothing: elements and text, without
/// declarations and processing instructions.
#[must_use]
pub fn is_strict(piece: &str) -> bool {
    let whole = format!("<Data>{piece}</Data>");
    let mut reader = NsReader::from_str(&whole);
    reader.config_mut().check_comments = true;
    let mut depth = 0_usize;
    let mut ended = false;
    loop {
        let Ok(event) = reader.read_event() else { return false };
        let right = match event {
            // The element around the piece ends with the document.
            _ if ended => return matches!(event, Event::Eof),
            Event::Start(start) => {
                depth += 1;
                is_tag(&reader, &start)
            }
            Event::Empty(start) => is_tag(&reader, &start),
            Event::End(end) => {
                depth = depth.saturating_sub(1);
                ended = depth == 0;
                is_qualified(end.name().0.trim_end_matches([' ', '\t', '\n', '\r']))
            }
            Event::Text(text) => {
                let text = text.xml10_content();
                !text.contains("]]>") && text.chars().all(is_char)
            }
            Event::CData(data) => data.xml10_content().chars().all(is_char),
            Event::Comment(comment) => {
                let text = comment.xml10_content();
                !text.contains("--") && !text.ends_with('-') && text.chars().all(is_char)
            }
            Event::GeneralRef(reference) => means_something(&reference.xml10_content()),
            Event::Decl(_) | Event::DocType(_) | Event::PI(_) | Event::Eof => false,
        };
        if !right {
            return false;
        }
    }
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
