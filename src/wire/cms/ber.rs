//! BER to DER, as far as CMS senders differ (X.690 8.1.3.6 and 8.7.3): indefinite lengths become definite, constructed OCTET STRINGs are
//! joined. Elements without either are copied as they came, so that signatures inside stay valid.

use std::borrow::Cow;

use super::super::Malformed;
use super::super::asn1;

/// How deep elements may nest.
const DEPTH: usize = 32;
/// How large a message may be, in bytes.
pub const SIZE: usize = 1 << 20;

/// The message with definite lengths and primitive OCTET STRINGs; borrowed when it had them already. Exactly one element.
///
/// # Errors
/// [`Malformed`] when it is too large, nests too deeply, is cut off or has bytes after the end.
pub fn to_der(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Malformed> {
    if bytes.len() > SIZE {
        return Err(Malformed::new("too large", "BER"));
    }
    let (converted, rest) = convert(bytes, DEPTH)?;
    if !rest.is_empty() {
        return Err(Malformed::new("bytes after the end", "BER"));
    }
    Ok(converted)
}

fn wrong(why: &'static str) -> Malformed {
    Malformed::new(why, "BER")
}

/// The identifier octets, and what follows.
fn identifier(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let first = bytes.first()?;
    let mut length = 1;
    if first & 0x1f == 0x1f {
        length += bytes.get(1..)?.iter().take(4).position(|byte| byte & 0x80 == 0)? + 1;
    }
    bytes.split_at_checked(length)
}

/// Converts the first element; also returns what follows it.
fn convert(bytes: &[u8], depth: usize) -> Result<(Cow<'_, [u8]>, &[u8]), Malformed> {
    let (tag, after) = identifier(bytes).ok_or_else(|| wrong("bad identifier"))?;
    let constructed = tag.first().is_some_and(|first| first & 0x20 != 0);
    let (length, contents) = asn1::read_length(after).ok_or_else(|| wrong("bad length"))?;
    let Some(length) = length else {
        if !constructed {
            return Err(wrong("indefinite length of a primitive element"));
        }
        let (value, rest) = children(contents, depth, true)?;
        return Ok((Cow::Owned(rebuilt(tag, &value.concat())?), rest));
    };
    let (contents, rest) = contents.split_at_checked(length).ok_or_else(|| wrong("length beyond the end"))?;
    let raw = bytes.get(..bytes.len() - rest.len()).unwrap_or_default();
    if !constructed {
        return Ok((Cow::Borrowed(raw), rest));
    }
    let (value, _) = children(contents, depth, false)?;
    if tag != [0x24] && value.iter().all(|child| matches!(child, Cow::Borrowed(_))) {
        return Ok((Cow::Borrowed(raw), rest));
    }
    Ok((Cow::Owned(rebuilt(tag, &value.concat())?), rest))
}

/// Converted elements.
type Parts<'a> = Vec<Cow<'a, [u8]>>;

/// Converts all elements up to the end, or up to the end-of-contents octets; also returns what follows those.
fn children(mut rest: &[u8], depth: usize, indefinite: bool) -> Result<(Parts<'_>, &[u8]), Malformed> {
    let depth = depth.checked_sub(1).ok_or_else(|| wrong("nested too deeply"))?;
    let mut parts = Vec::new();
    loop {
        if indefinite {
            if let Some(after) = rest.strip_prefix(&[0, 0]) {
                return Ok((parts, after));
            }
        } else if rest.is_empty() {
            return Ok((parts, rest));
        }
        let (part, after) = convert(rest, depth)?;
        parts.push(part);
        rest = after;
    }
}

/// The element with a definite length; a constructed OCTET STRING becomes a primitive one.
fn rebuilt(tag: &[u8], contents: &[u8]) -> Result<Vec<u8>, Malformed> {
    if tag == [0x24] {
        return Ok(asn1::tlv(asn1::OCTET_STRING, &joined(contents)?));
    }
    let mut out = Vec::with_capacity(contents.len() + 8);
    out.extend_from_slice(tag);
    asn1::put_length(&mut out, contents.len());
    out.extend_from_slice(contents);
    Ok(out)
}

/// The contents of the OCTET STRINGs in `contents`, one after the other.
///
/// # Errors
/// [`Malformed`] when something else is among them.
pub(super) fn joined(contents: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut out = Vec::with_capacity(contents.len());
    let mut chunks = asn1::Reader::lenient(contents);
    while !chunks.is_empty() {
        out.extend_from_slice(chunks.expect(asn1::OCTET_STRING, "chunk of an OCTET STRING")?.value);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn indefinite_lengths_become_definite() {
        let ber = [0x30, 0x80, 0x24, 0x80, 0x04, 0x01, 0xaa, 0x24, 0x03, 0x04, 0x01, 0xbb, 0x00, 0x00, 0x02, 0x01, 0x05, 0x00, 0x00];
        assert_eq!(to_der(&ber).unwrap().as_ref(), [0x30, 0x07, 0x04, 0x02, 0xaa, 0xbb, 0x02, 0x01, 0x05]);
    }

    #[test]
    fn der_is_handed_back_as_it_came() {
        // The non-minimal length stays: somebody may have signed it.
        let bytes = [0x30, 0x81, 0x05, 0x30, 0x03, 0x02, 0x01, 0x01];
        assert!(matches!(to_der(&bytes), Ok(Cow::Borrowed(same)) if same == bytes));
    }

    #[test]
    fn ten_thousand_nested_elements_are_refused() {
        let indefinite = [0x30, 0x80].repeat(10_000);
        assert_eq!(to_der(&indefinite).unwrap_err().what, "nested too deeply");
        let mut definite = Vec::new();
        for _ in 0..10_000 {
            definite = asn1::tlv(asn1::SEQUENCE, &definite);
            if definite.len() > SIZE {
                break;
            }
        }
        assert_eq!(to_der(&definite).unwrap_err().what, "nested too deeply");
    }

    #[test]
    fn what_is_cut_off_or_too_large_is_refused() {
        assert!(to_der(&[0x30, 0x80, 0x02, 0x01]).is_err());
        assert!(to_der(&[0x30, 0x80, 0x02, 0x01, 0x01, 0x00]).is_err());
        assert!(to_der(&[0x04, 0x80, 0x00, 0x00]).is_err());
        assert!(to_der(&[0x24, 0x03, 0x02, 0x01, 0x01]).is_err());
        assert!(to_der(&[]).is_err());
        assert!(to_der(&[0x05, 0x00, 0x05, 0x00]).is_err());
        assert!(to_der(&vec![0; SIZE + 1]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_convert_without_harm_and_once(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(der) = to_der(&bytes) {
                prop_assert!(matches!(to_der(&der), Ok(Cow::Borrowed(_))));
            }
        }
    }
}
