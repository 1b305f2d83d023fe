//! Reading elements: the original bytes are handed out, so that what others signed or named is never encoded again.

use der::asn1::ObjectIdentifier;

use super::{GENERALIZED_TIME, OID, SEQUENCE, UTC_TIME, length_octets};
use crate::wire::Malformed;

/// One element as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    /// Identifier octet.
    pub tag: u8,
    /// Contents.
    pub value: &'a [u8],
    /// Identifier, length and contents, as they came.
    pub raw: &'a [u8],
    lengths: Lengths,
}

/// Which lengths are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lengths {
    /// The shortest form, as DER wants it.
    Shortest,
    /// Any definite form.
    Definite,
}

impl<'a> Element<'a> {
    /// Reads what is inside.
    #[must_use]
    pub fn reader(&self) -> Reader<'a> {
        Reader { rest: self.value, lengths: self.lengths }
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

/// Reads elements one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    lengths: Lengths,
}

impl<'a> Reader<'a> {
    /// Reads DER.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, lengths: Lengths::Shortest }
    }

    /// Reads what CMS senders write: lengths may have leading zeros, but are definite (see [`crate::wire::cms::ber`]).
    #[must_use]
    pub fn lenient(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, lengths: Lengths::Definite }
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
    /// [`Malformed`] when there is none, when its length is indefinite, beyond the end or (in DER) not the shortest, or when its tag has
    /// more than one octet.
    pub fn element(&mut self) -> Result<Element<'a>, Malformed> {
        let whole = self.rest;
        let (&tag, after) = whole.split_first().ok_or_else(|| wrong("an element is missing"))?;
        if tag & 0x1f == 0x1f {
            return Err(wrong("a tag of more than one octet"));
        }
        let (length, contents) = read_length(after).ok_or_else(|| wrong("a length is missing, cut off or oversized"))?;
        let length = length.ok_or_else(|| wrong("an indefinite length"))?;
        if self.lengths == Lengths::Shortest && after.len() - contents.len() != length_octets(length) {
            return Err(wrong("a length that is not minimal"));
        }
        let (value, rest) = contents.split_at_checked(length).ok_or_else(|| wrong("an element is cut off"))?;
        let (raw, _) = whole.split_at_checked(whole.len() - rest.len()).ok_or_else(|| wrong("an element is cut off"))?;
        self.rest = rest;
        Ok(Element { tag, value, raw, lengths: self.lengths })
    }

    /// The next element, which must have this tag.
    ///
    /// # Errors
    /// [`Malformed`] when it has not.
    pub fn expect(&mut self, tag: u8, what: &'static str) -> Result<Element<'a>, Malformed> {
        match self.peek() {
            Some(found) if found == tag => self.element(),
            _ => Err(Malformed::new("an element is missing or of another type", what)),
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
    let element = reader.expect(SEQUENCE, "SEQUENCE")?;
    reader.end()?;
    Ok(element)
}

/// The only element of `bytes`, which must have that tag; lengths as [`Reader::lenient`] has them.
///
/// # Errors
/// [`Malformed`] when it has not, or when bytes follow.
pub fn single<'a>(bytes: &'a [u8], tag: u8, what: &'static str) -> Result<Element<'a>, Malformed> {
    let mut reader = Reader::lenient(bytes);
    let element = reader.expect(tag, what)?;
    reader.end()?;
    Ok(element)
}

/// A length and what follows it; `None` inside for the indefinite form.
pub(crate) fn read_length(bytes: &[u8]) -> Option<(Option<usize>, &[u8])> {
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

fn wrong(what: &'static str) -> Malformed {
    Malformed::new(what, "DER")
}
