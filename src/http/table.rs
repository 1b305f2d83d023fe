//! What the route tables of the APIs have in common: the methods, how an address meets an entry, and what is done with a call before its
//! handler has it and when a handler fails.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use actix_web::HttpRequest;
use actix_web::http::Method;
use actix_web::web::{Bytes, Payload};
use futures_util::FutureExt as _;

use super::error::Problem;
use super::limits::{Anonymous, Body};
use super::peer::Peer;
use crate::domain::access::Caller;

/// The methods that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Reads.
    Get,
    /// Makes, or does something.
    Post,
    /// Changes a part.
    Patch,
    /// Puts in the place of what was.
    Put,
    /// Takes away.
    Delete,
}

impl Verb {
    /// Its word in HTTP.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// An entry of a route table.
pub trait Entry: 'static {
    /// Its method.
    fn verb(&self) -> Verb;

    /// Its address below the root; a segment in braces is variable.
    fn pattern(&self) -> &'static str;

    /// Whether a segment of an address is that part of a pattern.
    fn is_same(part: &str, segment: &str) -> bool;
}

/// The entry that a call is for, and the variable segments of its address.
pub type Found<'a, E> = (&'static E, Vec<&'a str>);

/// The variable segments when the address is that of the pattern.
fn keys<'a, E: Entry>(pattern: &str, segments: &'a [String]) -> Option<Vec<&'a str>> {
    let mut keys = Vec::new();
    let mut rest = segments.iter();
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let segment = rest.next()?;
        if part.starts_with('{') {
            // No name has such letters, and not every database takes them in a question.
            if segment.is_empty() || segment.chars().any(char::is_control) {
                return None;
            }
            keys.push(segment.as_str());
        } else if !E::is_same(part, segment) {
            return None;
        }
    }
    rest.next().is_none().then_some(keys)
}

/// The entry that a call is for: an address with a word in it comes before one with a key in its place.
///
/// # Errors
/// The methods that the address has, when it has not this one; none, when there is no such address.
pub fn find<'a, E: Entry>(
    entries: impl Iterator<Item = &'static E>,
    method: &Method,
    segments: &'a [String],
) -> Result<Found<'a, E>, Vec<&'static str>> {
    let (mut methods, mut best) = (Vec::new(), None::<Found<'a, E>>);
    for entry in entries {
        let Some(keys) = keys::<E>(entry.pattern(), segments) else { continue };
        let word = entry.verb().as_str();
        if word != method.as_str() {
            methods.push(word);
        } else if best.as_ref().is_none_or(|(_, known)| keys.len() < known.len()) {
            best = Some((entry, keys));
        }
    }
    best.ok_or(methods)
}

/// Who calls, from where, and with what body. Of strangers nothing is read, and they are counted by their address.
///
/// # Errors
/// That nobody is recognised, 429 for strangers, and those of [`Body`].
pub(super) async fn open<const LARGEST: usize, E: From<Problem>>(
    request: &HttpRequest,
    peer: Result<Peer, Problem>,
    payload: Payload,
    caller: impl Future<Output = Result<Caller, E>>,
) -> Result<(Caller, String, Bytes), E> {
    let origin = peer?.origin();
    let caller = match caller.await {
        Ok(caller) => caller,
        Err(unknown) => {
            Anonymous::count(request)?;
            return Err(unknown);
        }
    };
    let body = Body::<LARGEST>::of_known(request, payload.into_inner()).await?;
    Ok((caller, origin, body.0))
}

/// What comes of a call. A panic costs its own call, and that in a form which clients can read.
///
/// # Errors
/// As the call's.
pub(super) async fn caught<T, E: From<Problem>>(call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    AssertUnwindSafe(call).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!("a handler panicked: this is a bug");
        metrics::counter!("muster_panics_total").increment(1);
        Err(Problem::internal().into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Line(Verb, &'static str);

    impl Entry for Line {
        fn verb(&self) -> Verb {
            self.0
        }

        fn pattern(&self) -> &'static str {
            self.1
        }

        fn is_same(part: &str, segment: &str) -> bool {
            part == segment
        }
    }

    const TABLE: &[Line] = &[
        Line(Verb::Get, ""),
        Line(Verb::Get, "things/{id}"),
        Line(Verb::Delete, "things/{id}"),
        Line(Verb::Get, "things/count"),
        Line(Verb::Get, "things/{id}/parts/{part}"),
    ];

    fn ask(method: &Method, address: &str) -> Result<(&'static str, Vec<String>), Vec<&'static str>> {
        let segments: Vec<String> = address.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        find(TABLE.iter(), method, &segments).map(|(line, keys)| (line.1, keys.into_iter().map(str::to_owned).collect()))
    }

    #[test]
    fn an_address_meets_one_entry_or_says_which_methods_it_has() {
        assert_eq!(ask(&Method::GET, "").unwrap().0, "");
        assert_eq!(ask(&Method::GET, "things/7").unwrap(), ("things/{id}", vec!["7".to_owned()]));
        assert_eq!(ask(&Method::GET, "things/count").unwrap(), ("things/count", vec![]), "a word goes before a key");
        assert_eq!(ask(&Method::DELETE, "things/count").unwrap(), ("things/{id}", vec!["count".to_owned()]));
        assert_eq!(ask(&Method::GET, "things/7/parts/8").unwrap().1, ["7", "8"]);
        assert_eq!(ask(&Method::PATCH, "things/7").unwrap_err(), ["GET", "DELETE"]);
        for nowhere in ["thing", "things", "things/7/parts", "things/7/parts/8/9", "things/\u{0}"] {
            assert_eq!(ask(&Method::GET, nowhere).unwrap_err(), Vec::<&str>::new(), "{nowhere}");
        }
    }
}
