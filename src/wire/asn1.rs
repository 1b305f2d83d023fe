//! DER, written and read by hand where foreign bytes (names, serial numbers, whole certificates) must pass through unchanged.

use std::borrow::Cow;

use der::asn1::ObjectIdentifier;

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
/// ENUMERATED.
pub const ENUMERATED: u8 = 0x0a;
/// UTF8String.
pub const UTF8_STRING: u8 = 0x0c;
/// SEQUENCE and SEQUENCE OF.
pub const SEQUENCE: u8 = 0x30;
/// SET and SET OF.
pub const SET: u8 = 0x31;
/// PrintableString.
pub const PRINTABLE_STRING: u8 = 0x13;
/// IA5String.
pub const IA5_STRING: u8 = 0x16;
/// UTCTime.
pub const UTC_TIME: u8 = 0x17;
/// GeneralizedTime.
pub const GENERALIZED_TIME: u8 = 0x18;

/// The tag `[n]` of a constructed value, `n` at most 30.
#[must_use]
pub const fn context(n: u8) -> u8 {
    0xa0 | n
}

/// The tag `[n]` of a primitive value, `n` at most 30.
#[must_use]
pub const fn context_primitive(n: u8) -> u8 {
    0x80 | n
}

/// One element: tag, length, contents.
#[must_use]
pub fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(contents.len() + 6);
    out.push(tag);
    put_length(&mut out, contents.len());
    out.extend_from_slice(contents);
    out
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    if let Ok(short @ 0..=0x7f) = u8::try_from(length) {
        out.push(short);
        return;
    }
    let bytes = length.to_be_bytes();
    let used = bytes.iter().skip_while(|b| **b == 0);
    let count = used.clone().count();
    out.push(0x80 | u8::try_from(count).unwrap_or(8));
    out.extend(used);
}

/// One element around the concatenation of `parts`.
#[must_use]
pub fn wrap(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    tlv(tag, &parts.concat())
}

/// A SEQUENCE of encoded parts.
#[must_use]
pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    wrap(SEQUENCE, parts)
}

/// A SET OF encoded parts, in DER's order.
#[must_use]
pub fn set_of(mut parts: Vec<Vec<u8>>) -> Vec<u8> {
    parts.sort();
    tlv(SET, &parts.concat())
}

/// A positive INTEGER of big-endian bytes, minimally encoded.
#[must_use]
pub fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let mut contents: Vec<u8> = bytes.iter().copied().skip_while(|b| *b == 0).collect();
    if contents.first().is_none_or(|b| *b & 0x80 != 0) {
        contents.insert(0, 0);
    }
    tlv(INTEGER, &contents)
}

/// A small non-negative INTEGER.
#[must_use]
pub fn number(value: u64) -> Vec<u8> {
    unsigned(&value.to_be_bytes())
}

/// An OBJECT IDENTIFIER.
#[must_use]
pub fn oid(oid: &ObjectIdentifier) -> Vec<u8> {
    tlv(OID, oid.as_bytes())
}

/// An OCTET STRING.
#[must_use]
pub fn octets(bytes: &[u8]) -> Vec<u8> {
    tlv(OCTET_STRING, bytes)
}

/// A BIT STRING of whole bytes.
#[must_use]
pub fn bits(bytes: &[u8]) -> Vec<u8> {
    wrap(BIT_STRING, &[&[0], bytes])
}

/// A BIT STRING of named bits (bit 0 is the first), without trailing zeros as DER wants.
#[must_use]
pub fn named_bits(set: &[u8]) -> Vec<u8> {
    let Some(last) = set.iter().copied().max() else { return tlv(BIT_STRING, &[0]) };
    let mut bytes = vec![0u8; usize::from(last / 8) + 1];
    for bit in set {
        if let Some(byte) = bytes.get_mut(usize::from(bit / 8)) {
            *byte |= 0x80 >> (bit % 8);
        }
    }
    wrap(BIT_STRING, &[&[7 - last % 8], &bytes])
}

/// BOOLEAN TRUE.
pub const TRUE: [u8; 3] = [BOOLEAN, 1, 0xff];

/// A certificate's time: UTCTime until 2049, GeneralizedTime after (RFC 5280 4.1.2.5).
#[must_use]
pub fn time(seconds: i64) -> Vec<u8> {
    let (year, text) = calendar(seconds);
    if (1950..2050).contains(&year) {
        tlv(UTC_TIME, text.get(2..).unwrap_or_default().as_bytes())
    } else {
        tlv(GENERALIZED_TIME, text.as_bytes())
    }
}

/// A GeneralizedTime, as OCSP wants it for every year.
#[must_use]
pub fn generalized_time(seconds: i64) -> Vec<u8> {
    tlv(GENERALIZED_TIME, calendar(seconds).1.as_bytes())
}

fn calendar(seconds: i64) -> (i32, String) {
    let at = time::OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let text = format!("{:04}{:02}{:02}{:02}{:02}{:02}Z", at.year(), u8::from(at.month()), at.day(), at.hour(), at.minute(), at.second());
    (at.year(), text)
}

/// One element as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    /// Identifier octet.
    pub tag: u8,
    /// Contents.
    pub value: &'a [u8],
    /// Identifier, length and contents.
    pub raw: &'a [u8],
}

impl<'a> Element<'a> {
    /// Reads what is inside.
    #[must_use]
    pub fn reader(&self) -> Reader<'a> {
        Reader::new(self.value)
    }

    /// The contents as an OBJECT IDENTIFIER.
    ///
    /// # Errors
    /// [`Malformed`] when it is none.
    pub fn oid(&self) -> Result<ObjectIdentifier, Malformed> {
        if self.tag != OID {
            return Err(wrong("not an object identifier"));
        }
        ObjectIdentifier::from_bytes(self.value).map_err(|_| wrong("not an object identifier"))
    }

    /// The contents as seconds since 1970: UTCTime or GeneralizedTime in `Z` with seconds.
    ///
    /// # Errors
    /// [`Malformed`] when it is no such time.
    pub fn time(&self) -> Result<i64, Malformed> {
        let bad = || wrong("not a time");
        let text = std::str::from_utf8(self.value).map_err(|_| bad())?;
        let digits = text.strip_suffix('Z').filter(|d| d.bytes().all(|b| b.is_ascii_digit())).ok_or_else(bad)?;
        let part = |from: usize, to: usize| digits.get(from..to).and_then(|t| t.parse::<i32>().ok()).ok_or_else(bad);
        let (year, at) = match (self.tag, digits.len()) {
            (UTC_TIME, 12) => {
                let short = part(0, 2)?;
                (if short < 50 { 2000 + short } else { 1900 + short }, 2)
            }
            (GENERALIZED_TIME, 14) => (part(0, 4)?, 4),
            _ => return Err(bad()),
        };
        let small = |from: usize| part(from, from + 2).and_then(|v| u8::try_from(v).map_err(|_| bad()));
        let month = time::Month::try_from(small(at)?).map_err(|_| bad())?;
        let date = time::Date::from_calendar_date(year, month, small(at + 2)?).map_err(|_| bad())?;
        let clock = time::Time::from_hms(small(at + 4)?, small(at + 6)?, small(at + 8)?).map_err(|_| bad())?;
        Ok(date.with_time(clock).assume_utc().unix_timestamp())
    }
}

/// Reads elements one after the other; definite lengths only.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether everything is read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The tag of the next element.
    #[must_use]
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next element.
    ///
    /// # Errors
    /// [`Malformed`] when there is none, when its length is indefinite, not minimal or beyond the end, or when its tag has more than
    /// one octet.
    pub fn element(&mut self) -> Result<Element<'a>, Malformed> {
        let whole = self.rest;
        let (&tag, rest) = whole.split_first().ok_or_else(|| wrong("an element is missing"))?;
        if tag & 0x1f == 0x1f {
            return Err(wrong("a tag of more than one octet"));
        }
        let (&first, rest) = rest.split_first().ok_or_else(|| wrong("a length is missing"))?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let count = usize::from(first & 0x7f);
            if !(1..=4).contains(&count) {
                return Err(wrong("an indefinite or oversized length"));
            }
            let (bytes, rest) = rest.split_at_checked(count).ok_or_else(|| wrong("a length is cut off"))?;
            let length = bytes.iter().fold(0usize, |n, b| (n << 8) | usize::from(*b));
            if length < 0x80 || bytes.first() == Some(&0) {
                return Err(wrong("a length that is not minimal"));
            }
            (length, rest)
        };
        let (value, rest) = rest.split_at_checked(length).ok_or_else(|| wrong("an element is cut off"))?;
        let (raw, _) = whole.split_at_checked(whole.len() - rest.len()).ok_or_else(|| wrong("an element is cut off"))?;
        self.rest = rest;
        Ok(Element { tag, value, raw })
    }

    /// The next element, which must have this tag.
    ///
    /// # Errors
    /// [`Malformed`] when it has not.
    pub fn expect(&mut self, tag: u8, what: &'static str) -> Result<Element<'a>, Malformed> {
        match self.peek() {
            Some(found) if found == tag => self.element(),
            _ => Err(Malformed::new(what, "DER")),
        }
    }

    /// The next element if it has this tag.
    ///
    /// # Errors
    /// [`Malformed`] when it has the tag and does not parse.
    pub fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, Malformed> {
        if self.peek() == Some(tag) { self.element().map(Some) } else { Ok(None) }
    }

    /// Says that everything is read.
    ///
    /// # Errors
    /// [`Malformed`] when it is not.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(wrong("bytes after the end")) }
    }
}

/// The only element of `bytes`, which must be a SEQUENCE.
///
/// # Errors
/// [`Malformed`] when it is not, or when bytes follow.
pub fn only_sequence(bytes: &[u8]) -> Result<Element<'_>, Malformed> {
    let mut reader = Reader::new(bytes);
    let element = reader.expect(SEQUENCE, "not a SEQUENCE")?;
    reader.end()?;
    Ok(element)
}

fn wrong(what: impl Into<Cow<'static, str>>) -> Malformed {
    Malformed::new(what, "DER")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_take_the_fewest_octets() {
        assert_eq!(tlv(OCTET_STRING, &[0; 127])[..2], [4, 127]);
        assert_eq!(tlv(OCTET_STRING, &[0; 128])[..3], [4, 0x81, 128]);
        assert_eq!(tlv(OCTET_STRING, &[0; 256])[..4], [4, 0x82, 1, 0]);
    }

    #[test]
    fn integers_are_minimal_and_positive() {
        assert_eq!(unsigned(&[]), [2, 1, 0]);
        assert_eq!(unsigned(&[0, 0, 0x80]), [2, 2, 0, 0x80]);
        assert_eq!(number(127), [2, 1, 127]);
        assert_eq!(number(256), [2, 2, 1, 0]);
    }

    #[test]
    fn named_bits_drop_trailing_zeros() {
        assert_eq!(named_bits(&[0, 2]), [3, 2, 5, 0xa0]);
        assert_eq!(named_bits(&[5, 6]), [3, 2, 1, 0x06]);
        assert_eq!(named_bits(&[]), [3, 1, 0]);
    }

    #[test]
    fn times_change_form_in_2050() {
        assert_eq!(time(2_524_607_999), tlv(UTC_TIME, b"491231235959Z"));
        assert_eq!(time(2_524_608_000), tlv(GENERALIZED_TIME, b"20500101000000Z"));
    }

    #[test]
    fn foreign_encodings_of_lengths_are_malformed() {
        for bytes in
            [&[0x30, 0x80, 0, 0][..], &[0x30, 0x81, 1, 0], &[0x30, 0x82, 0, 0x80], &[0x30, 0x85, 0, 0, 0, 0, 1], &[0x1f, 1, 0], &[0x30]]
        {
            assert!(Reader::new(bytes).element().is_err(), "{bytes:02x?}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = Reader::new(&bytes);
            while let Ok(element) = reader.element() {
                let _ = (element.oid(), element.time());
            }
        }

        #[test]
        fn what_is_written_is_read(tag in 0u8..0x1f, bytes in proptest::collection::vec(any::<u8>(), 0..70_000)) {
            let written = tlv(tag, &bytes);
            let element = Reader::new(&written).element().unwrap();
            prop_assert_eq!((element.tag, element.value, element.raw), (tag, &bytes[..], &written[..]));
        }

        #[test]
        fn times_come_back(seconds in -600_000_000i64..4_000_000_000) {
            let written = time(seconds);
            prop_assert_eq!(Reader::new(&written).element().unwrap().time().unwrap(), seconds);
        }
    }
}
