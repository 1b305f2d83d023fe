//! A call as it arrived, whether by itself or inside a batch: the address taken apart, and the headers that matter.

use actix_web::http::Method;
use actix_web::http::header::HeaderMap;
use actix_web::web::Bytes;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::answer::{etag, matches};
use super::error::{GraphProblem, Result};
use crate::wire::nul;

/// How many segments an address has at most.
const MOST_SEGMENTS: usize = 12;

/// Which of the two roots is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `/v1.0`.
    V1,
    /// `/beta`.
    Beta,
}

impl Version {
    /// The first segment of its addresses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1.0",
            Self::Beta => "beta",
        }
    }

    /// The version of that segment, in any case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::V1, Self::Beta].into_iter().find(|version| version.as_str().eq_ignore_ascii_case(text))
    }
}

/// A call.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which root is asked.
    pub version: Version,
    /// The method.
    pub method: Method,
    /// The address below the root, with keys in parentheses made segments of their own.
    pub segments: Vec<String>,
    /// The query, still encoded.
    pub query: String,
    /// `If-Match`.
    pub if_match: Option<String>,
    /// `If-None-Match`.
    pub if_none_match: Option<String>,
    /// `Prefer: return=minimal`.
    pub minimal: bool,
    /// `Prefer: odata.maxpagesize=N`.
    pub page_size: Option<u32>,
    /// `Accept` with `odata.metadata=none`.
    pub bare: bool,
    /// Whether it came inside a batch.
    pub in_batch: bool,
    /// The body.
    pub body: Bytes,
}

impl Request {
    /// A call to an address below a root.
    ///
    /// # Errors
    /// 400 when the address cannot be taken apart, or has a letter that no text has.
    pub fn new(version: Version, method: Method, path: &str, query: &str, headers: &HeaderMap, body: Bytes) -> Result<Self> {
        if nul::in_address(path) || nul::in_address(query) {
            return Err(GraphProblem::bad("The address has the letter U+0000, which no text here has."));
        }
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        Ok(Self {
            version,
            method,
            segments: segments(path)?,
            query: query.to_owned(),
            if_match: header("if-match").map(str::to_owned),
            if_none_match: header("if-none-match").map(str::to_owned),
            minimal: header("prefer").is_some_and(|prefer| prefer.to_ascii_lowercase().contains("return=minimal")),
            page_size: header("prefer").and_then(page_size),
            bare: header("accept").is_some_and(|accept| accept.to_ascii_lowercase().contains("odata.metadata=none")),
            in_batch: false,
            body,
        })
    }

    /// The body as JSON of that form. An empty one is an empty object, as clients send none with actions without parameters.
    ///
    /// # Errors
    /// 400 with the place, or for a letter that no text has.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        if nul::in_json(&self.body) {
            return Err(GraphProblem::bad("The body has the letter U+0000 in a text, which no text here has."));
        }
        self.rows()
    }

    /// The same for bodies of many things of which each is judged by itself, with all its letters.
    ///
    /// # Errors
    /// 400 with the place.
    pub fn rows<T: DeserializeOwned>(&self) -> Result<T> {
        let body: &[u8] = if self.body.trim_ascii().is_empty() { b"{}" } else { &self.body };
        serde_json::from_slice(body).map_err(|error| GraphProblem::bad(format!("The body cannot be read: {error}")))
    }

    /// Whether the caller's `If-Match` allows a change of that object, as it is shown as a whole.
    ///
    /// # Errors
    /// 412.
    pub fn check_seen(&self, object: &Map<String, Value>) -> Result<()> {
        if self.if_match.is_none() { Ok(()) } else { self.check_match(&etag(object)) }
    }

    /// Whether the caller's `If-Match` allows a change of what has that ETag: without one the last writer wins.
    ///
    /// # Errors
    /// 412.
    pub fn check_match(&self, etag: &str) -> Result<()> {
        if self.if_match.as_deref().is_none_or(|wanted| matches(wanted, etag)) { Ok(()) } else { Err(GraphProblem::precondition()) }
    }
}

/// The size of pages that a client prefers (OData 4.01, section 8.2.8.6).
fn page_size(prefer: &str) -> Option<u32> {
    let (_, value) = prefer.split(',').filter_map(|one| one.split_once('=')).find(|(name, _)| {
        let name = name.trim();
        name.eq_ignore_ascii_case("odata.maxpagesize") || name.eq_ignore_ascii_case("maxpagesize")
    })?;
    value.trim().trim_matches('"').parse().ok().filter(|size| *size > 0)
}

/// Takes a path apart: `users('a@x')/memberOf` is `users`, `a@x`, `memberOf`; `delta()` is `delta`; `f(name='v')` is `f`, `v`.
fn segments(path: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let decoded = percent_decode_str(part).decode_utf8().map_err(|_| GraphProblem::bad("The address is not UTF-8."))?;
        let unclear = || GraphProblem::segment(&decoded);
        match decoded.split_once('(') {
            None => found.push(decoded.into_owned()),
            Some((name, rest)) => {
                let inner = rest.strip_suffix(')').ok_or_else(unclear)?;
                if name.is_empty() {
                    return Err(unclear());
                }
                found.push(name.to_owned());
                if !inner.is_empty() {
                    found.push(key(inner).ok_or_else(unclear)?);
                }
            }
        }
        if found.len() > MOST_SEGMENTS {
            return Err(GraphProblem::bad("The address has too many segments."));
        }
    }
    Ok(found)
}

/// The value of a key or of a single parameter: `'v'`, `v`, `name='v'`; a quote in it is written twice.
fn key(text: &str) -> Option<String> {
    let value = match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') => value,
        _ => text,
    };
    match value.strip_prefix('\'') {
        None => (!value.contains('\'')).then(|| value.to_owned()),
        Some(rest) => {
            let inner = rest.strip_suffix('\'')?;
            let plain = inner.replace("''", "\u{0}");
            (!plain.contains('\'')).then(|| plain.replace('\u{0}', "'"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart_as_clients_write_them() {
        for (path, expected) in [
            ("users/1/memberOf", vec!["users", "1", "memberOf"]),
            ("users('a%40x')/memberOf", vec!["users", "a@x", "memberOf"]),
            ("users(1)", vec!["users", "1"]),
            ("users('O''Brien')", vec!["users", "O'Brien"]),
            ("devices(deviceId='d')", vec!["devices", "d"]),
            ("users/delta()", vec!["users", "delta"]),
            ("//users//", vec!["users"]),
            ("", vec![]),
        ] {
            assert_eq!(segments(path).unwrap(), expected, "{path}");
        }
        for path in ["users('a", "users('a'b')", "('a')", "users(')", "%ff", &"a/".repeat(20)] {
            assert!(segments(path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_stale_etag_stops_a_change() {
        let with = |value: Option<&str>| {
            let mut request = Request::new(Version::V1, Method::PATCH, "groups/1", "", &HeaderMap::new(), Bytes::new()).unwrap();
            request.if_match = value.map(str::to_owned);
            request.check_match("W/\"2\"").is_ok()
        };
        assert!(with(None) && with(Some("*")) && with(Some("W/\"2\"")) && with(Some("W/\"1\", W/\"2\"")));
        assert!(!with(Some("W/\"1\"")) && !with(Some("")));
    }
}
