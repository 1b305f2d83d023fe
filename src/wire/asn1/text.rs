//! Object identifiers and character strings, as text.

use super::{BMP_STRING, Element, IA5_STRING, PRINTABLE_STRING, TELETEX_STRING, UNIVERSAL_STRING, UTF8_STRING, tlv};

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
pub fn string(element: &Element<'_>) -> Option<String> {
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

/// A DirectoryString (X.520): PrintableString where its alphabet suffices, else UTF8String.
#[must_use]
pub fn directory_string(text: &str) -> Vec<u8> {
    let printable = text.bytes().all(|b| b.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&b));
    tlv(if printable { PRINTABLE_STRING } else { UTF8_STRING }, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::asn1::Reader;
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

    proptest! {
        #[test]
        fn any_bytes_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = Reader::lenient(&bytes);
            while let Ok(element) = reader.element() {
                let _ = (string(&element), oid_text(element.value));
            }
        }
    }
}
