//! A call as it arrived: the address taken apart, and the headers that matter.

use actix_web::HttpRequest;
use actix_web::http::header::{ACCEPT, CONTENT_TYPE, HeaderName, IF_MATCH, IF_NONE_MATCH};
use actix_web::http::{Method, StatusCode};
use actix_web::web::Bytes;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use super::problem::{ApiProblem, Result};
use super::schema::{Described, Nothing, Schemas};
use crate::wire::nul;

/// How many segments an address has at most.
const MOST_SEGMENTS: usize = 12;

/// A call.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method; GET for HEAD.
    pub method: Method,
    /// The address below the root.
    pub segments: Vec<String>,
    /// The query, still encoded.
    pub query: String,
    /// `If-Match`.
    pub if_match: Option<String>,
    /// `If-None-Match`.
    pub if_none_match: Option<String>,
    content_type: Option<String>,
    body: Bytes,
}

impl Request {
    /// The call of a request, whose body was read.
    ///
    /// # Errors
    /// 400 when the address cannot be taken apart, 406 when the caller takes no JSON.
    pub fn new(request: &HttpRequest, root: &str, body: Bytes) -> Result<Self> {
        let header = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let accepted = header(ACCEPT).is_none_or(|accept| takes_json(&accept));
        if !accepted {
            return Err(ApiProblem::new(StatusCode::NOT_ACCEPTABLE, "not-acceptable", "answers are application/json"));
        }
        let path = request.uri().path();
        let below = path.strip_prefix(root).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
        let decode = |part: &str| percent_decode_str(part).decode_utf8().map(std::borrow::Cow::into_owned);
        let segments = below.split('/').take(MOST_SEGMENTS + 1).map(decode).collect::<std::result::Result<Vec<_>, _>>();
        Ok(Self {
            method: if request.method() == Method::HEAD { Method::GET } else { request.method().clone() },
            segments: segments.map_err(|_| ApiProblem::malformed("the address is not UTF-8"))?,
            query: request.query_string().to_owned(),
            if_match: header(IF_MATCH),
            if_none_match: header(IF_NONE_MATCH),
            content_type: header(CONTENT_TYPE),
            body,
        })
    }

    /// The query as that type.
    ///
    /// # Errors
    /// 400 for a parameter that is unknown, missing or wrong.
    pub fn query<T: DeserializeOwned>(&self) -> Result<T> {
        if nul::in_address(&self.query) {
            return Err(ApiProblem::malformed("the query has the letter U+0000, which no text here has"));
        }
        let read = actix_web::web::Query::<T>::from_query(&self.query);
        Ok(read.map_err(|error| ApiProblem::malformed(format!("the query: {error}")))?.into_inner())
    }

    /// The body as that type, which must be JSON.
    ///
    /// # Errors
    /// 400 with the place, 415.
    pub fn body<T: Described + DeserializeOwned>(&self) -> Result<T> {
        let empty = self.body.trim_ascii().is_empty();
        let wants_none = T::describe(&mut Schemas::default()) == Nothing::describe(&mut Schemas::default());
        // What takes none is not told by what it was sent; an empty object is none, too.
        if self.method == Method::GET || self.method == Method::DELETE || empty && wants_none {
            return read(b"{}");
        }
        let kind = self.content_type.as_deref().unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(ApiProblem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-type", "send the body as application/json"));
        }
        read(&self.body)
    }

    /// Whether the caller's `If-Match` allows a change of what has that ETag: without one the last writer wins.
    ///
    /// # Errors
    /// 412.
    pub fn check_match(&self, etag: &str) -> Result<()> {
        if self.if_match.as_deref().is_none_or(|wanted| names(wanted, etag)) { Ok(()) } else { Err(ApiProblem::precondition()) }
    }

    /// Whether the caller has the answer of that ETag already.
    #[must_use]
    pub fn has(&self, etag: &str) -> bool {
        self.if_none_match.as_deref().is_some_and(|known| names(known, etag))
    }
}

fn names(list: &str, etag: &str) -> bool {
    list.trim() == "*" || list.split(',').any(|one| one.trim() == etag)
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    if nul::in_json(body) {
        return Err(ApiProblem::malformed("the body has the letter U+0000 in a text, which no text here has"));
    }
    serde_json::from_slice(body).map_err(|error| ApiProblem::malformed(format!("the body: {error}")))
}

/// Whether JSON is among what an `Accept` header names.
fn takes_json(accept: &str) -> bool {
    let takes = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let refused = parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q == 0.0)));
        !refused && matches!(kind.as_str(), "" | "*" | "*/*" | "application/*" | "application/json" | "application/problem+json")
    };
    accept.split(',').any(takes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accept_header_takes_json_or_not() {
        for accept in ["*/*", "", "text/html, */*;q=0.1", "application/json; charset=utf-8", "APPLICATION/JSON"] {
            assert!(takes_json(accept), "{accept}");
        }
        for accept in ["text/html", "application/json;q=0", "application/xml, text/plain", "application/jsonp"] {
            assert!(!takes_json(accept), "{accept}");
        }
    }

    #[test]
    fn etags_are_compared_as_lists() {
        assert!(names("*", "\"a\"") && names("\"a\"", "\"a\"") && names("\"b\", \"a\"", "\"a\""));
        assert!(!names("\"b\"", "\"a\"") && !names("", "\"a\""));
    }
}
