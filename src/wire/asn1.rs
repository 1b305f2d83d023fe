//! ASN.1 one element at a time (X.690), written and read by hand where foreign bytes (names, serial numbers, whole certificates) must pass
//! through unchanged: the typed structures of the `der` crate refuse or re-sort what real clients send.

mod read;
mod text;

use der::asn1::ObjectIdentifier;

pub(crate) use read::read_length;
pub use read::{Element, Reader, only_sequence, single};
pub use text::{directory_string, oid_text, oid_value, string};

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
    put(&mut out, tag, contents);
    out
}

/// Appends one element.
pub fn put(out: &mut Vec<u8>, tag: u8, contents: &[u8]) {
    out.push(tag);
    put_length(out, contents.len());
    out.extend_from_slice(contents);
}

/// How many octets the shortest form of a length has.
fn length_octets(length: usize) -> usize {
    if length < 0x80 { 1 } else { 1 + length.to_be_bytes().iter().skip_while(|b| **b == 0).count() }
}

pub(crate) fn put_length(out: &mut Vec<u8>, length: usize) {
    if let Ok(short @ 0..=0x7f) = u8::try_from(length) {
        out.push(short);
        return;
    }
    let bytes = length.to_be_bytes();
    out.push(0x80 | u8::try_from(length_octets(length) - 1).unwrap_or(8));
    out.extend(bytes.iter().skip_while(|b| **b == 0));
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

/// A SET OF encoded parts, in DER's order, under its own tag or an implicit one.
#[must_use]
pub fn set_of(tag: u8, mut parts: Vec<Vec<u8>>) -> Vec<u8> {
    parts.sort();
    tlv(tag, &parts.concat())
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
        for bytes in [&[0x30, 0x81, 1, 0][..], &[0x30, 0x82, 0, 1, 0], &[0x30, 0x85, 0, 0, 0, 0, 1, 0]] {
            assert_eq!(Reader::lenient(bytes).element().unwrap().value, [0], "{bytes:02x?}");
        }
        for bytes in
            [&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0][..], &[0x30, 0x89, 1, 0, 0, 0, 0, 0, 0, 0, 0], &[0x30, 0x80, 0, 0], &[0x1f, 1], &[]]
        {
            assert!(Reader::lenient(bytes).element().is_err(), "{bytes:02x?}");
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
