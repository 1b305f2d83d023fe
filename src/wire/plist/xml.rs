//! The XML form.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use super::{Data, Date, Dict, Limits, Malformed, Value};
use crate::wire::xml::{Limits as XmlLimits, Reader, Token, Writer};

/// Padding may be missing or too much, and the last bits need not be zero: all of it occurs.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true),
);

const DATE: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");

const HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
    <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n";

pub(super) fn decode(document: &[u8], limits: Limits) -> Result<Value, Malformed> {
    let document = readable(document);
    let within = XmlLimits {
        bytes: document.len(),
        // The root, an array in an array, and the leaf inside.
        depth: limits.depth.saturating_add(2),
        // Each value may have text and a comment, and white space stands between all of them.
        nodes: limits.nodes.saturating_mul(4),
        attributes: 8,
    };
    let mut decoder = Decoder { reader: Reader::new(&document, within)?.with_document_type(), limits, nodes: 0 };
    match decoder.reader.next()? {
        Token::Open(root) if root.namespace().is_empty() && root.local() == "plist" => {}
        _ => return Err(decoder.reader.malformed("not a property list")),
    }
    let Some(kind) = decoder.open()? else { return Err(decoder.reader.malformed("an empty property list")) };
    let value = decoder.value(kind, 0)?;
    if decoder.open()?.is_some() {
        return Err(decoder.reader.malformed("a second value at the top"));
    }
    match decoder.reader.next()? {
        Token::End => Ok(value),
        _ => Err(decoder.reader.malformed("something after the property list")),
    }
}

/// The document without what XML forbids.
fn readable(document: &[u8]) -> Cow<'_, [u8]> {
    match std::str::from_utf8(document) {
        Ok(text) if !text.chars().any(is_forbidden) => Cow::Borrowed(document),
        _ => Cow::Owned(clean(String::from_utf8_lossy(document).into_owned()).into_bytes()),
    }
}

fn is_forbidden(c: char) -> bool {
    c < ' ' && !matches!(c, '\t' | '\n' | '\r')
}

/// A text as XML can carry it: control characters become the replacement character.
pub(super) fn clean(text: String) -> String {
    if !text.chars().any(is_forbidden) {
        return text;
    }
    text.chars().map(|c| if is_forbidden(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    String,
    Integer,
    Real,
    True,
    False,
    Data,
    Date,
    Array,
    Dict,
    Key,
}

impl Kind {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "string" => Self::String,
            "integer" => Self::Integer,
            "real" => Self::Real,
            "true" => Self::True,
            "false" => Self::False,
            "data" => Self::Data,
            "date" => Self::Date,
            "array" => Self::Array,
            "dict" => Self::Dict,
            "key" => Self::Key,
            _ => return None,
        })
    }
}

struct Decoder<'d> {
    reader: Reader<'d>,
    limits: Limits,
    nodes: usize,
}

impl Decoder<'_> {
    /// The next element inside the current one, or `None` at its end.
    fn open(&mut self) -> Result<Option<Kind>, Malformed> {
        loop {
            let kind = match self.reader.next()? {
                Token::Open(open) if open.namespace().is_empty() => Kind::of(open.local()),
                Token::Open(_) => None,
                Token::Text(text) if text.trim_ascii().is_empty() => continue,
                Token::Text(_) => return Err(self.reader.malformed("text between values")),
                Token::Close | Token::End => return Ok(None),
            };
            self.nodes += 1;
            if self.nodes > self.limits.nodes {
                return Err(self.reader.malformed("too many values"));
            }
            return kind.map(Some).ok_or_else(|| self.reader.malformed("an element that property lists do not have"));
        }
    }

    fn value(&mut self, kind: Kind, depth: usize) -> Result<Value, Malformed> {
        if depth > self.limits.depth {
            return Err(self.reader.malformed("nested too deeply"));
        }
        Ok(match kind {
            Kind::String => Value::String(self.reader.text()?.into_owned()),
            Kind::Integer => {
                let text = self.reader.text()?;
                integer(text.trim()).ok_or_else(|| self.reader.malformed("not an integer"))?
            }
            Kind::Real => {
                let text = self.reader.text()?;
                Value::Real(text.trim().parse().map_err(|_| self.reader.malformed("not a real"))?)
            }
            Kind::True | Kind::False => {
                if !self.reader.text()?.trim().is_empty() {
                    return Err(self.reader.malformed("text in a truth value"));
                }
                Value::Boolean(kind == Kind::True)
            }
            Kind::Data => {
                let mut text = self.reader.text()?.into_owned().into_bytes();
                text.retain(|b| !b.is_ascii_whitespace());
                text.truncate(text.iter().rposition(|b| *b != b'=').map_or(0, |last| last + 1));
                Value::Data(Data(BASE64.decode(text).map_err(|_| self.reader.malformed("not Base64"))?))
            }
            Kind::Date => {
                let text = self.reader.text()?;
                let date = PrimitiveDateTime::parse(text.trim(), &DATE).map_err(|_| self.reader.malformed("not a date"))?;
                Value::Date(Date(date.assume_utc().unix_timestamp()))
            }
            Kind::Array => {
                let mut items = Vec::new();
                while let Some(kind) = self.open()? {
                    items.push(self.value(kind, depth + 1)?);
                }
                Value::Array(items)
            }
            Kind::Dict => {
                let mut entries = Vec::new();
                while let Some(kind) = self.open()? {
                    if kind != Kind::Key {
                        return Err(self.reader.malformed("a value without a key"));
                    }
                    let key = self.reader.text()?.into_owned();
                    let Some(kind) = self.open()? else { return Err(self.reader.malformed("a key without a value")) };
                    entries.push((key, self.value(kind, depth + 1)?));
                }
                Value::Dict(Dict::of(entries).ok_or_else(|| self.reader.malformed("a key that is there twice"))?)
            }
            Kind::Key => return Err(self.reader.malformed("a key outside a dictionary")),
        })
    }
}

/// Decimal, or hexadecimal after `0x`.
fn integer(text: &str) -> Option<Value> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let digits = hex.unwrap_or(digits);
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let number = u64::from_str_radix(digits, if hex.is_some() { 16 } else { 10 }).ok()?;
    if negative { i64::try_from(-i128::from(number)).ok().map(Value::Integer) } else { Some(Value::from(number)) }
}

/// Writes a property list as XML: with Apple's document type, tabs, and Base64 in one piece.
#[must_use]
pub fn encode(value: &Value) -> Vec<u8> {
    let mut w = Writer::new();
    w.open("plist").attribute("version", "1.0").raw("\n");
    write(&mut w, value, 0);
    w.raw("\n");
    let mut out = HEAD.as_bytes().to_vec();
    out.extend_from_slice(&w.finish());
    out.push(b'\n');
    out
}

pub(super) fn base64(bytes: &Data) -> String {
    base64::engine::general_purpose::STANDARD.encode(&bytes.0)
}

pub(super) fn date(Date(seconds): Date) -> String {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH).format(&DATE).unwrap_or_default()
}

fn write(w: &mut Writer<'_>, value: &Value, depth: usize) {
    let line = |w: &mut Writer<'_>, depth: usize| {
        w.raw("\n").raw(&"\t".repeat(depth));
    };
    match value {
        Value::String(text) => {
            w.leaf("string", text);
        }
        Value::Integer(number) => {
            w.leaf("integer", &number.to_string());
        }
        Value::Unsigned(number) => {
            w.leaf("integer", &number.to_string());
        }
        Value::Real(number) => {
            w.leaf("real", &format!("{number:?}").to_ascii_lowercase());
        }
        Value::Boolean(truth) => {
            w.open(if *truth { "true" } else { "false" }).close();
        }
        Value::Data(bytes) => {
            w.leaf("data", &base64(bytes));
        }
        Value::Date(moment) => {
            w.leaf("date", &date(*moment));
        }
        Value::Array(items) => {
            w.open("array");
            for item in items {
                line(w, depth + 1);
                write(w, item, depth + 1);
            }
            if !items.is_empty() {
                line(w, depth);
            }
            w.close();
        }
        Value::Dict(dict) => {
            w.open("dict");
            for (key, value) in dict.iter() {
                line(w, depth + 1);
                w.leaf("key", key);
                line(w, depth + 1);
                write(w, value, depth + 1);
            }
            if !dict.is_empty() {
                line(w, depth);
            }
            w.close();
        }
    }
}
