//! ASN.1 one element at a time (X.690): a reader that hands out the original bytes, so that what others signed or named is never encoded
//! again, and a writer that emits DER.
//!
//! The typed structures of the `der` crate refuse or re-sort what real clients send (serials of 33 octets, unsorted sets, illegal string
//! characters); here foreign parts stay as they came.

use super::Malformed;

/// BOOLEAN.
pub const BOOLEAN: u8 = 0x01;
/// INTEGER.
pub const INTEGER: u8 = 0x02;
/// BIT STRING.
pub const BIT_STRING: u8 = 0x03;
/// OCTET STRING.
pub const OCTET_STRING: u8 = 0x04;
/// NULL.
pub const NULL: u8 = 0x05;
/// OBJECT IDENTIFIER.
pub const OID: u8 = 0x06;
/// UTF8String.
pub const UTF8_STRING: u8 = 0x0c;
/// PrintableString.
pub const PRINTABLE_STRING: u8 = 0x13;
/// TeletexString (T61String).
pub const TELETEX_STRING: u8 = 0x14;
/// IA5String.
pub const IA5_STRING: u8 = 0x16;
/// UTCTime.
pub const UTC_TIME: u8 = 0x17;
/// GeneralizedTime.
pub const GENERALIZED_TIME: u8 = 0x18;
/// UniversalString (UCS-4).
pub const UNIVERSAL_STRING: u8 = 0x1c;
/// BMPString (UCS-2).
pub const BMP_STRING: u8 = 0x1e;
/// SEQUENCE and SEQUENCE OF.
pub const SEQUENCE: u8 = 0x30;
/// SET and SET OF.
pub const SET: u8 = 0x31;

/// The tag of a constructed context element `[n]`, n below 31.
#[must_use]
pub const fn context(n: u8) -> u8 {
    0xa0 | (n & 0x1f)
}

/// The tag of a primitive context element `[n]`, n below 31.
#[must_use]
pub const fn context_primitive(n: u8) -> u8 {
    0x80 | (n & 0x1f)
}

/// One element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// The identifier octet.
    pub tag: u8,
    /// The contents.
    pub value: &'a [u8],
    /// Identifier, length and contents as they came.
    pub raw: &'a [u8],
}

impl<'a> Tlv<'a> {
    /// Reads the elements inside.
    #[must_use]
    pub fn reader(&self) -> Reader<'a> {
        Reader::new(self.value)
    }
}

/// Reads elements of definite length, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the beginning of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether everything was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next identifier octet.
    #[must_use]
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next element.
    ///
    /// # Errors
    /// [`Malformed`] at the end, and for identifiers of more than one octet, indefinite lengths and lengths beyond the end.
    pub fn read(&mut self, what: &'static str) -> Result<Tlv<'a>, Malformed> {
        let wrong = |why: &'static str| Malformed::new(why, what);
        let (tag, after) = self.rest.split_first().ok_or_else(|| wrong("missing element"))?;
        if tag & 0x1f == 0x1f {
            return Err(wrong("identifier of several octets"));
        }
        let (length, value) = read_length(after).ok_or_else(|| wrong("bad length"))?;
        let length = length.ok_or_else(|| wrong("indefinite length"))?;
        let (value, rest) = value.split_at_checked(length).ok_or_else(|| wrong("length beyond the end"))?;
        let raw = self.rest.get(..self.rest.len() - rest.len()).unwrap_or_default();
        self.rest = rest;
        Ok(Tlv { tag: *tag, value, raw })
    }

    /// The next element, which must have that tag.
    ///
    /// # Errors
    /// [`Malformed`] when it has another, or as [`Reader::read`].
    pub fn expect(&mut self, tag: u8, what: &'static str) -> Result<Tlv<'a>, Malformed> {
        if self.peek() != Some(tag) {
            return Err(Malformed::new("missing element or unexpected type", what));
        }
        self.read(what)
    }

    /// The next element if it has that tag.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn optional(&mut self, tag: u8, what: &'static str) -> Result<Option<Tlv<'a>>, Malformed> {
        if self.peek() == Some(tag) { self.read(what).map(Some) } else { Ok(None) }
    }

    /// Nothing may follow.
    ///
    /// # Errors
    /// [`Malformed`] when something does.
    pub fn end(&self, what: &'static str) -> Result<(), Malformed> {
        if self.is_empty() { Ok(()) } else { Err(Malformed::new("bytes after the end", what)) }
    }
}

/// A length and what follows it; `None` inside for the indefinite form.
pub(super) fn read_length(bytes: &[u8]) -> Option<(Option<usize>, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    match *first {
        short @ 0..=0x7f => Some((Some(usize::from(short)), rest)),
        0x80 => Some((None, rest)),
        long => {
            let count = usize::from(long & 0x7f);
            let (digits, rest) = rest.split_at_checked(count)?;
            let significant = digits.iter().skip_while(|d| **d == 0);
            if significant.clone().count() > 4 {
                return None;
            }
            let length = significant.fold(0usize, |sum, digit| (sum << 8) | usize::from(*digit));
            Some((Some(length), rest))
        }
    }
}

/// Reads exactly one element.
///
/// # Errors
/// As [`Reader::expect`], and [`Malformed`] when bytes follow.
pub fn single<'a>(bytes: &'a [u8], tag: u8, what: &'static str) -> Result<Tlv<'a>, Malformed> {
    let mut reader = Reader::new(bytes);
    let element = reader.expect(tag, what)?;
    reader.end(what)?;
    Ok(element)
}

/// Appends identifier, shortest length and contents.
pub fn put(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    out.push(tag);
    put_length(out, value.len());
    out.extend_from_slice(value);
}

pub(super) fn put_length(out: &mut Vec<u8>, length: usize) {
    match u8::try_from(length) {
        Ok(short @ 0..=0x7f) => out.push(short),
        _ => {
            let digits = length.to_be_bytes();
            let zeros = digits.iter().take_while(|d| **d == 0).count();
            let digits = digits.get(zeros..).unwrap_or_default();
            out.push(0x80 | u8::try_from(digits.len()).unwrap_or(8));
            out.extend_from_slice(digits);
        }
    }
}

/// One element.
#[must_use]
pub fn element(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() + 6);
    put(&mut out, tag, value);
    out
}

/// An element around others, in the order given.
#[must_use]
pub fn constructed(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    element(tag, &parts.concat())
}

/// A SET OF: the elements sorted as DER wants them.
#[must_use]
pub fn set_of(tag: u8, mut parts: Vec<Vec<u8>>) -> Vec<u8> {
    parts.sort();
    element(tag, &parts.concat())
}

/// An INTEGER of a small number.
#[must_use]
pub fn small_integer(value: u8) -> Vec<u8> {
    if value < 0x80 { vec![INTEGER, 1, value] } else { vec![INTEGER, 2, 0, value] }
}

/// The dotted text of the contents of an OBJECT IDENTIFIER; `None` when they are not one, or an arc does not fit 64 bits.
#[must_use]
pub fn oid_text(value: &[u8]) -> Option<String> {
    if value.is_empty() || value.len() > 64 || value.last().is_some_and(|last| last & 0x80 != 0) {
        return None;
    }
    let mut arcs: Vec<u64> = Vec::new();
    let mut arc: u64 = 0;
    for byte in value {
        arc = arc.checked_mul(128)?.checked_add(u64::from(byte & 0x7f))?;
        if byte & 0x80 == 0 {
            arcs.push(arc);
            arc = 0;
        }
    }
    let (first, others) = arcs.split_first()?;
    let top = (first / 40).min(2);
    let mut text = format!("{top}.{}", first - top * 40);
    for arc in others {
        text.push_str(&format!(".{arc}"));
    }
    Some(text)
}

/// The contents of the OBJECT IDENTIFIER with that dotted text.
#[must_use]
pub fn oid_value(text: &str) -> Option<Vec<u8>> {
    let mut arcs = text.split('.').map(|arc| arc.parse::<u64>().ok());
    let (top, second) = (arcs.next()??, arcs.next()??);
    if top > 2 || (top < 2 && second > 39) {
        return None;
    }
    let mut out = Vec::new();
    put_arc(&mut out, top.checked_mul(40)?.checked_add(second)?);
    for arc in arcs {
        put_arc(&mut out, arc?);
    }
    Some(out)
}

fn put_arc(out: &mut Vec<u8>, arc: u64) {
    let mut digits = [0u8; 10];
    let mut rest = arc;
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = u8::try_from(rest & 0x7f).unwrap_or(0);
        rest >>= 7;
        used += 1;
        if rest == 0 {
            break;
        }
    }
    let digits = digits.get(10 - used..).unwrap_or_default();
    for (at, digit) in digits.iter().enumerate() {
        out.push(if at + 1 < used { digit | 0x80 } else { *digit });
    }
}

/// The text of a string element of any of the usual types; characters that a type does not allow are taken as they are, since real
/// clients send them. `None` for other types and undecodable contents.
#[must_use]
pub fn string(element: &Tlv<'_>) -> Option<String> {
    match element.tag {
        UTF8_STRING => std::str::from_utf8(element.value).ok().map(str::to_owned),
        // 0x12 NumericString, 0x1a VisibleString. Eight-bit characters in them are UTF-8 from some clients, Latin-1 from others.
        PRINTABLE_STRING | TELETEX_STRING | IA5_STRING | 0x12 | 0x1a => Some(
            std::str::from_utf8(element.value).map_or_else(|_| element.value.iter().map(|byte| char::from(*byte)).collect(), str::to_owned),
        ),
        BMP_STRING => {
            let (pairs, rest) = element.value.as_chunks::<2>();
            let units: Vec<u16> = pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
            if rest.is_empty() { String::from_utf16(&units).ok() } else { None }
        }
        UNIVERSAL_STRING => {
            let (quads, rest) = element.value.as_chunks::<4>();
            if rest.is_empty() { quads.iter().map(|quad| char::from_u32(u32::from_be_bytes(*quad))).collect() } else { None }
        }
        _ => None,
    }
}

/// A DirectoryString: PrintableString where its alphabet suffices, else UTF8String.
#[must_use]
pub fn directory_string(text: &str) -> Vec<u8> {
    let printable = text.bytes().all(|b| b.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&b));
    element(if printable { PRINTABLE_STRING } else { UTF8_STRING }, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_oid_reads_as_it_is_written() {
        for text in ["1.2.840.113549.1.7.2", "2.5.29.17", "2.16.840.1.113733.1.9.2", "0.9.2342.19200300.100.1.25", "2.999.1"] {
            assert_eq!(oid_text(&oid_value(text).unwrap()).as_deref(), Some(text));
        }
        assert_eq!(oid_value("1.2.840.113549.1.7.2").unwrap(), [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2]);
        assert_eq!(oid_value("3.1"), None);
        assert_eq!(oid_value("1.40"), None);
        assert_eq!(oid_value("1"), None);
        assert_eq!(oid_text(&[0x80]), None);
    }

    #[test]
    fn lengths_beyond_the_end_are_refused() {
        assert!(Reader::new(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0]).read("x").is_err());
        assert!(Reader::new(&[0x30, 0x89, 1, 0, 0, 0, 0, 0, 0, 0, 0]).read("x").is_err());
        assert!(Reader::new(&[0x30, 0x80, 0, 0]).read("x").is_err());
        assert!(Reader::new(&[0x1f, 0x01]).read("x").is_err());
        assert!(Reader::new(&[]).read("x").is_err());
    }

    proptest! {
        #[test]
        fn an_element_reads_as_it_is_written(tag in 0u8..0x1f, value in proptest::collection::vec(any::<u8>(), 0..70_000)) {
            let bytes = element(tag, &value);
            let read = single(&bytes, tag, "x").unwrap();
            prop_assert_eq!(read.value, &value[..]);
            prop_assert_eq!(read.raw, &bytes[..]);
        }

        #[test]
        fn any_bytes_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = Reader::new(&bytes);
            while let Ok(element) = reader.read("x") {
                let _ = (string(&element), oid_text(element.value));
            }
        }
    }
}
