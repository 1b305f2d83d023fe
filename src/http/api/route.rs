//! The route table. A route cannot be written without naming what its caller needs, what it takes, what it answers and what it refuses, and
//! the handler has just these types: there is no other way to make one. The document is made of the table.

use std::future::Future;
use std::pin::Pin;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::CACHE_CONTROL;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::problem::{ApiProblem, Result};
use super::request::Request;
use super::schema::{Described, Schemas};
use crate::app::App;
use crate::domain::Refusal;
use crate::domain::access::{Caller, Need, Reach};
use crate::http::error::Problem;
use crate::http::table::{self, Entry, Verb};
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
        self.keys.get(number).copied().ok_or_else(|| ApiProblem::not_found("resource"))
    }

    /// On whose behalf it is done, for the audit log.
    #[must_use]
    pub fn by(&self) -> By {
        By { actor: self.caller.actor(), origin: self.origin.to_owned() }
    }

    /// What is about all: whoever is bound to groups may not.
    ///
    /// # Errors
    /// 403.
    pub fn of_all(&self) -> Result<()> {
        if self.reach.is_all() {
            return Ok(());
        }
        Err(ApiProblem::forbidden("this is about the whole organisation, and your role reaches certain groups only"))
    }

    /// What was sent, as these types.
    ///
    /// # Errors
    /// 400, 415.
    pub fn input<Q: DeserializeOwned, B: Described + DeserializeOwned>(&self) -> Result<(Q, B)> {
        Ok((self.request.query()?, self.request.body()?))
    }
}

/// What a handler gives back: what is written out, and the headers beside.
pub struct Reply<T> {
    body: T,
    headers: Vec<(&'static str, String)>,
    tag: Option<String>,
}

impl<T> From<T> for Reply<T> {
    fn from(body: T) -> Self {
        Self { body, headers: Vec::new(), tag: None }
    }
}

impl<T> Reply<T> {
    /// With where what was made is found.
    #[must_use]
    pub fn at(mut self, location: String) -> Self {
        self.headers.push(("Location", location));
        self
    }

    /// With an ETag, by which a caller changes what they saw and nothing else.
    #[must_use]
    pub fn tagged(mut self, etag: String) -> Self {
        self.tag = Some(etag);
        self
    }
}

/// The ETag of something of which this is what a caller may change.
///
/// # Errors
/// 500.
pub fn etag(shown: &impl Serialize) -> Result<String> {
    let text = serde_json::to_vec(shown).map_err(crate::service::Error::internal)?;
    Ok(format!("\"{}\"", hex::encode(openssl::sha::sha256(&text).get(..12).unwrap_or_default())))
}

/// What is sent in the end.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Headers beside the common ones.
    pub headers: Vec<(&'static str, String)>,
    /// JSON, if there is any.
    pub body: Option<String>,
}

impl Answer {
    /// A reply as the table has it.
    ///
    /// # Errors
    /// 500.
    pub fn of<T: Serialize>(reply: Reply<T>, status: u16, request: &Request) -> Result<Self> {
        let mut headers = reply.headers;
        if let Some(etag) = reply.tag {
            if status == 200 && request.method == actix_web::http::Method::GET && request.has(&etag) {
                return Ok(Self { status: 304, headers: vec![("ETag", etag)], body: None });
            }
            headers.push(("ETag", etag));
        }
        let write = || serde_json::to_string(&reply.body).map_err(crate::service::Error::internal);
        Ok(Self { status, headers, body: if status == 204 { None } else { Some(write()?) } })
    }

    /// The answer as HTTP has it.
    #[must_use]
    pub fn respond(self) -> HttpResponse {
        let mut response = HttpResponse::build(StatusCode::from_u16(self.status).unwrap_or(StatusCode::OK));
        response.insert_header((CACHE_CONTROL, "no-store"));
        for header in self.headers {
            response.insert_header(header);
        }
        match self.body {
            None => response.finish(),
            Some(body) => response.content_type("application/json").body(body),
        }
    }
}

/// What a handler gives back in time.
pub type Handled<'a> = Pin<Box<dyn Future<Output = Result<Answer>> + Send + 'a>>;

/// What answers a call.
pub type Handler = for<'a> fn(Call<'a>) -> Handled<'a>;

/// One entry of the table.
#[derive(Clone, Copy)]
pub struct Route {
    /// Its method.
    pub verb: Verb,
    /// The address below the root; a segment in braces is variable.
    pub pattern: &'static str,
    /// What it does, for people.
    pub text: &'static str,
    /// What its caller needs.
    pub need: Need,
    /// What the query holds.
    pub query: fn(&mut Schemas) -> Value,
    /// What the body holds; null: there is none.
    pub body: fn(&mut Schemas) -> Value,
    /// The status of success.
    pub status: u16,
    /// What the answer holds.
    pub answer: fn(&mut Schemas) -> Value,
    /// The rules that may say no.
    pub refusals: &'static [Refusal],
    /// What answers.
    pub handler: Handler,
    /// It takes something away from whoever has it, and waits behind no flood of other calls.
    pub urgent: bool,
}

/// Declares the routes of a resource: what it does, verb, address, what the caller needs, what query and body hold, status and type of the
/// answer, the refusals, and the handler, `async fn(Call<'_>, Query, Body) -> Result<Reply<Answer>>`; `urgent` for what must get through.
macro_rules! routes {
    ($(
        $(#[doc = $doc:literal])+
        $verb:ident $pattern:literal, $need:expr, $query:ty, $body:ty => $status:literal $answer:ty, [$($refusal:ident),* $(,)?], $handler:path $(, $urgent:ident)?;
    )+) => {
        pub(super) const ROUTES: &[$crate::http::api::route::Route] = &[$($crate::http::api::route::Route {
            verb: $crate::http::table::Verb::$verb,
            pattern: $pattern,
            text: concat!($($doc),+),
            need: $need,
            query: <$query as $crate::http::api::schema::Described>::describe,
            body: |all| all.of::<$body>(),
            status: $status,
            answer: |all| all.of::<$answer>(),
            refusals: &[$($crate::domain::Refusal::$refusal),*],
            handler: |call| Box::pin(async move {
                let (query, body) = call.input::<$query, $body>()?;
                let request = call.request;
                let reply: $crate::http::api::route::Reply<$answer> = $handler(call, query, body).await?;
                $crate::http::api::route::Answer::of(reply, $status, request)
            }),
            urgent: <[&str]>::len(&[$(stringify!($urgent))?]) == 1,
        }),+];
    };
}
pub(super) use routes;

impl Route {
    /// The names of the variable segments.
    pub fn variables(&self) -> impl Iterator<Item = &'static str> {
        self.pattern.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }
}

impl Entry for Route {
    fn verb(&self) -> Verb {
        self.verb
    }

    fn pattern(&self) -> &'static str {
        self.pattern
    }

    fn is_same(part: &str, segment: &str) -> bool {
        part == segment
    }
}

/// Answers a call by the table.
///
/// # Errors
/// 404 for an address that is not in the table, 405 for a method that the address has not, 403 without the permission, 429 for a caller who
/// calls too often, and the handler's.
pub async fn dispatch(app: &App, caller: &Caller, origin: &str, request: &Request, table: &'static [&'static [Route]]) -> Result<Answer> {
    let found = table::find(table.iter().flat_map(|resource| resource.iter()), &request.method, &request.segments);
    // What is refused is counted, too.
    let weight = found.as_ref().map_or(Weight::Read, |(route, _)| match route.verb {
        Verb::Get => Weight::Read,
        _ if route.urgent => Weight::Urgent,
        _ => Weight::Write,
    });
    app.callers.count(caller, weight).map_err(Problem::throttled)?;
    let (route, keys) = found.map_err(|mut methods| {
        if methods.is_empty() {
            return ApiProblem::new(StatusCode::NOT_FOUND, "not-found", "there is nothing here; openapi.json says what there is");
        }
        if let Some(at) = methods.iter().position(|method| *method == "GET") {
            methods.insert(at + 1, "HEAD");
        }
        ApiProblem::method(request.method.as_str(), &methods)
    })?;
    let reach = caller.check(route.need)?;
    (route.handler)(Call { app, caller, reach, origin, request, keys }).await
}
