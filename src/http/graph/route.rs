//! The route table. A route cannot be written without naming what its caller needs: there is no other way to make one.

use std::future::Future;
use std::pin::Pin;

use actix_web::http::{Method, StatusCode};
use actix_web::web::Bytes;

use serde::Deserialize;

use super::answer::Answer;
use super::error::{GraphProblem, Result};
use super::request::{Request, Version};
use crate::app::App;
use crate::domain::access::{Caller, Need, Reach};
use crate::http::table::{self, Entry, Found, Verb};
use crate::service::callers::Weight;
use crate::service::directory::By;

/// A call that may be made.
pub struct Call<'a> {
    /// The server.
    pub app: &'a App,
    /// Who calls.
    pub caller: &'a Caller,
    /// How far the right that the route asks for reaches.
    pub reach: Reach,
    /// From where.
    pub origin: &'a str,
    /// What was asked.
    pub request: &'a Request,
    /// The variable segments of the address, in order.
    pub keys: Vec<&'a str>,
}

impl Call<'_> {
    /// A variable segment.
    ///
    /// # Errors
    /// 404 when there are not so many: the table and the handler do not fit.
    pub fn key(&self, number: usize) -> Result<&str> {
        self.keys.get(number).copied().ok_or_else(GraphProblem::not_found)
    }

    /// On whose behalf it is done, for the audit log.
    #[must_use]
    pub fn by(&self) -> By {
        By { actor: self.caller.actor(), origin: self.origin.to_owned() }
    }

    /// Whether beta's properties are shown.
    #[must_use]
    pub fn is_beta(&self) -> bool {
        self.request.version == Version::Beta
    }
}

/// A change that disables somebody.
#[derive(Deserialize)]
struct Disabling {
    #[serde(rename = "accountEnabled")]
    account_enabled: bool,
}

/// What a handler gives back in time.
pub type Handled<'a> = Pin<Box<dyn Future<Output = Result<Answer>> + Send + 'a>>;

/// What answers a call.
pub type Handler = for<'a> fn(Call<'a>) -> Handled<'a>;

/// Declares the routes of an entity: verb, address, what the caller needs, and the handler; `beta` for those below `/beta` only,
/// `urgent` for what must get through.
macro_rules! routes {
    ($($verb:ident $pattern:literal, $need:expr => $handler:path $(, $more:ident)*;)+) => {
        pub(super) const ROUTES: &[$crate::http::graph::route::Route] = &[$(
            $crate::http::graph::route::Route::new($crate::http::table::Verb::$verb, $pattern, $need, |call| Box::pin($handler(call)))$(.$more())*
        ),+];
    };
}
pub(super) use routes;

/// One entry of the table.
#[derive(Clone, Copy)]
pub struct Route {
    verb: Verb,
    /// The address below the root; a segment in braces is variable.
    pattern: &'static str,
    need: Need,
    beta: bool,
    urgent: bool,
    handler: Handler,
}

impl Route {
    /// A route of both roots.
    #[must_use]
    pub const fn new(verb: Verb, pattern: &'static str, need: Need, handler: Handler) -> Self {
        Self { verb, pattern, need, beta: false, urgent: false, handler }
    }

    /// The same, below `/beta` only.
    #[must_use]
    pub const fn beta(self) -> Self {
        Self { beta: true, ..self }
    }

    /// The same, for what takes rights away or makes a device harmless: it waits behind no flood of other calls.
    #[must_use]
    pub const fn urgent(self) -> Self {
        Self { urgent: true, ..self }
    }

    fn weight(&self, request: &Request) -> Weight {
        match self.verb {
            // Of changes only those that disable.
            Verb::Patch if self.urgent && request.json::<Disabling>().is_ok_and(|body| !body.account_enabled) => Weight::Urgent,
            Verb::Post | Verb::Delete if self.urgent => Weight::Urgent,
            Verb::Get => Weight::Read,
            Verb::Post | Verb::Patch | Verb::Put | Verb::Delete => Weight::Write,
        }
    }

    /// The address of the one object that a call changes: its own, or of an action the one before the action's name; `None` when it changes
    /// none, or makes one.
    fn object<'a>(&self, segments: &'a [String]) -> Option<&'a [String]> {
        match self.verb {
            Verb::Get => None,
            Verb::Patch | Verb::Put | Verb::Delete => Some(segments),
            Verb::Post => {
                let mut parts = self.pattern.rsplit('/');
                let of_object =
                    parts.next().is_some_and(|last| !last.starts_with('{')) && parts.next().is_some_and(|key| key.starts_with('{'));
                of_object.then(|| segments.split_last().map(|(_, rest)| rest)).flatten()
            }
        }
    }

    /// What its caller needs.
    #[must_use]
    pub fn need(&self) -> Need {
        self.need
    }

    /// Whether it is below `/beta` only.
    #[must_use]
    pub fn is_beta(&self) -> bool {
        self.beta
    }
}

impl Entry for Route {
    fn verb(&self) -> Verb {
        self.verb
    }

    fn pattern(&self) -> &'static str {
        self.pattern
    }

    /// In any case, and the namespace may stand before it (`microsoft.graph.delta`).
    fn is_same(part: &str, segment: &str) -> bool {
        let bare = if part.contains('.') { segment } else { segment.strip_prefix("microsoft.graph.").unwrap_or(segment) };
        bare.eq_ignore_ascii_case(part)
    }
}

/// Answers a call by the table.
///
/// # Errors
/// 400 for an address that is not in the table, 429 when there were too many calls, 405 for a method that the address has not, 403 without the permission, and the handler's.
pub async fn dispatch(app: &App, caller: &Caller, origin: &str, request: &Request, table: &'static [&'static [Route]]) -> Result<Answer> {
    let found = find(request, table);
    // What is refused is counted, too.
    let weight = found.as_ref().map_or(Weight::Read, |(route, _)| route.weight(request));
    app.callers.count(caller, weight).map_err(GraphProblem::throttled)?;
    let (route, keys) = found?;
    let reach = caller.check(route.need)?;
    if let (Some(seen), Some(object)) = (&request.if_match, route.object(&request.segments)) {
        check_version(app, caller, origin, &Request { segments: object.to_vec(), ..request.clone() }, table, seen).await?;
    }
    let answer =
        (route.handler)(Call { app, caller, reach, origin, request, keys }).await.map_err(|problem| problem.into_condition(request))?;
    Ok(answer.conditional(request))
}

/// The entry of the table that a call is for, with its variable segments.
fn find<'a>(request: &'a Request, table: &'static [&'static [Route]]) -> Result<Found<'a, Route>> {
    let there = table.iter().flat_map(|entity| entity.iter()).filter(|route| !route.beta || request.version == Version::Beta);
    table::find(there, &request.method, &request.segments).map_err(|methods| match methods.is_empty() {
        true => GraphProblem::segment(unknown_segment(request, table)),
        false => GraphProblem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "Request_BadRequest",
            format!("{} is not possible here; possible: {}.", request.method, methods.join(", ")),
        ),
    })
}

/// Whether the object is as the caller saw it: as reading it would show it now. What has no address to be read at has no versions.
///
/// # Errors
/// 412 when it is not, and what reading it fails with.
async fn check_version(
    app: &App,
    caller: &Caller,
    origin: &str,
    request: &Request,
    table: &'static [&'static [Route]],
    seen: &str,
) -> Result<()> {
    if seen.trim() == "*" {
        return Ok(());
    }
    let read =
        Request { method: Method::GET, query: String::new(), if_match: None, if_none_match: None, body: Bytes::new(), ..request.clone() };
    let Ok((route, keys)) = find(&read, table) else { return Ok(()) };
    let reach = caller.check(route.need)?;
    let shown = (route.handler)(Call { app, caller, reach, origin, request: &read, keys }).await?;
    shown.etag().map_or_else(|| Err(GraphProblem::precondition()), |etag| request.check_match(etag))
}

/// The first segment with which no route goes on.
fn unknown_segment<'a>(request: &'a Request, table: &[&[Route]]) -> &'a str {
    let known = |count: usize| {
        let Some(begin) = request.segments.get(..count) else { return false };
        table.iter().flat_map(|entity| entity.iter()).filter(|route| !route.beta || request.version == Version::Beta).any(|route| {
            let mut parts = route.pattern.split('/');
            begin.iter().all(|segment| parts.next().is_some_and(|part| part.starts_with('{') || part.eq_ignore_ascii_case(segment)))
        })
    };
    let at = (1..=request.segments.len()).find(|count| !known(*count)).unwrap_or(request.segments.len());
    request.segments.get(at.saturating_sub(1)).map_or("", String::as_str)
}
