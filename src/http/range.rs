//! Parts of a body by their bytes (RFC 9110, section 14): one part at a time; who asks for several gets the whole, as the RFC allows.

use actix_web::http::header::{HeaderMap, HeaderName, IF_RANGE, RANGE};

/// Longest `Range` that is looked at, in bytes.
const LONGEST: usize = 100;

/// What of a body is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it.
    Whole,
    /// From one byte up to and with another.
    Part {
        /// The first byte.
        first: u64,
        /// The last byte.
        last: u64,
    },
    /// Bytes that it does not have.
    Beyond,
}

fn only(headers: &HeaderMap, name: HeaderName) -> Option<Option<&str>> {
    let mut all = headers.get_all(name);
    match (all.next(), all.next()) {
        (None, _) => Some(None),
        (Some(one), None) => one.to_str().ok().map(Some),
        (Some(_), Some(_)) => None,
    }
}

/// What a request asks for of a body of that many bytes and with that strong entity tag (with its quotes). What cannot be understood asks
/// for the whole, and so does a condition that does not hold: only the same tag does, which is never a weak one or a date.
#[must_use]
pub(super) fn wanted(headers: &HeaderMap, tag: &str, size: u64) -> Wanted {
    let (Some(Some(range)), Some(condition)) = (only(headers, RANGE), only(headers, IF_RANGE)) else { return Wanted::Whole };
    if condition.is_some_and(|condition| condition != tag) {
        return Wanted::Whole;
    }
    parse(range, size)
}

fn parse(range: &str, size: u64) -> Wanted {
    let bounds = range.split_once('=').filter(|(unit, _)| range.len() <= LONGEST && unit.eq_ignore_ascii_case("bytes"));
    let Some((first, last)) = bounds.and_then(|(_, bounds)| bounds.trim().split_once('-')) else { return Wanted::Whole };
    // A number that is too large for the type is too large for any body.
    let number = |text: &str| {
        let formed = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
        formed.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let end = size.saturating_sub(1);
    match (first.is_empty(), number(first), last.is_empty(), number(last)) {
        (false, Some(first), true, _) if first < size => Wanted::Part { first, last: end },
        (false, Some(first), false, Some(last)) if last < first => Wanted::Whole,
        (false, Some(first), false, Some(last)) if first < size => Wanted::Part { first, last: last.min(end) },
        (true, _, false, Some(length)) if length > 0 && size > 0 => Wanted::Part { first: size.saturating_sub(length), last: end },
        (false, Some(_), true, _) | (false, Some(_), false, Some(_)) | (true, _, false, Some(_)) => Wanted::Beyond,
        _ => Wanted::Whole,
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn one_part_is_given_and_nothing_else_is_guessed() {
        let part = |first, last| Wanted::Part { first, last };
        for (range, expected) in [
            ("bytes=0-0", part(0, 0)),
            ("bytes=2-5", part(2, 5)),
            ("Bytes=2-5", part(2, 5)),
            ("bytes=8-", part(8, 9)),
            ("bytes=8-99999999999999999999999", part(8, 9)),
            ("bytes=-3", part(7, 9)),
            ("bytes=-30", part(0, 9)),
            ("bytes=10-", Wanted::Beyond),
            ("bytes=10-12", Wanted::Beyond),
            ("bytes=99999999999999999999999-", Wanted::Beyond),
            ("bytes=-0", Wanted::Beyond),
            ("bytes=5-2", Wanted::Whole),
            ("bytes=0-1,4-5", Wanted::Whole),
            ("bytes=", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=1--2", Wanted::Whole),
            ("lines=1-2", Wanted::Whole),
            ("2-5", Wanted::Whole),
        ] {
            assert_eq!(parse(range, 10), expected, "{range}");
        }
        assert_eq!(parse(&format!("bytes={}1-2", "0".repeat(200)), 10), Wanted::Whole, "too long to be looked at");
        assert_eq!((parse("bytes=0-", 0), parse("bytes=-1", 0)), (Wanted::Beyond, Wanted::Beyond));
    }

    #[test]
    fn a_part_is_given_of_the_same_body_only() {
        let asked = |conditions: &[&'static str], ranges: &[&'static str]| {
            let mut headers = HeaderMap::new();
            conditions.iter().for_each(|text| headers.append(IF_RANGE, HeaderValue::from_static(text)));
            ranges.iter().for_each(|text| headers.append(RANGE, HeaderValue::from_static(text)));
            wanted(&headers, "\"a\"", 10)
        };
        let part = Wanted::Part { first: 1, last: 2 };
        assert_eq!(asked(&[], &["bytes=1-2"]), part);
        assert_eq!(asked(&["\"a\""], &["bytes=1-2"]), part);
        for other in ["\"b\"", "W/\"a\"", "a", "Thu, 26 Nov 2026 10:00:00 GMT"] {
            assert_eq!(asked(&[other], &["bytes=1-2"]), Wanted::Whole, "{other}");
        }
        assert_eq!(asked(&["\"a\"", "\"a\""], &["bytes=1-2"]), Wanted::Whole);
        assert_eq!(asked(&[], &["bytes=1-2", "bytes=3-4"]), Wanted::Whole);
        assert_eq!(asked(&[], &[]), Wanted::Whole);
    }
}
