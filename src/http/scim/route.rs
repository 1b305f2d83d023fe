//! The route table. A route cannot be written without naming what its caller needs: there is no other way to make one.

use std::future::Future;
use std::pin::Pin;

use actix_web::http::{Method, StatusCode};
use actix_web::web::Bytes;
use openssl::sha::sha256;
use serde_json::Value;

use super::error::{Result, ScimProblem};
use super::{ROOT, discovery, groups, search, users};
use crate::app::App;
use crate::domain::access::{Action, Caller, Identity, Need, Scope};
use crate::http::table::{self, Entry, Verb};
use crate::service::callers::Weight;
use crate::service::directory::By;
use crate::wire::nul;
use crate::wire::scim::document::{Document, apply};
use crate::wire::scim::patch::Changes;
use crate::wire::scim::query::Query;
use crate::wire::scim::schema::{Resource, USER};
use crate::wire::scim::{Kind, Wrong};

/// A call as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The address below the root.
    pub segments: Vec<String>,
    /// The query, still encoded.
    pub query: String,
    /// `If-Match`.
    pub if_match: Option<String>,
    /// `If-None-Match`.
    pub if_none_match: Option<String>,
    /// The body.
    pub body: Bytes,
}

/// What a call is answered with.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// Headers beside the common ones.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Option<Value>,
}

impl Answer {
    /// 200 with a body.
    #[must_use]
    pub fn ok(body: Value) -> Self {
        Self { status: StatusCode::OK, headers: Vec::new(), body: Some(body) }
    }

    /// 204.
    #[must_use]
    pub fn done() -> Self {
        Self { status: StatusCode::NO_CONTENT, headers: Vec::new(), body: None }
    }
}

/// A call that may be made.
pub struct Call<'a> {
    /// The server.
    pub app: &'a App,
    /// Who calls.
    pub caller: &'a Caller,
    /// What was asked.
    pub request: &'a Request,
    /// The variable segment of the address.
    pub key: &'a str,
    origin: &'a str,
}

impl Call<'_> {
    /// On whose behalf it is done, for the audit log.
    pub(super) fn by(&self) -> By {
        By { actor: format!("scim:{}", self.caller.client_id), origin: self.origin.to_owned() }
    }

    /// The base of all addresses, from the configuration: what a client says the host is called is not believed.
    pub(super) fn base(&self) -> String {
        format!("{}{ROOT}", self.app.config.web_url())
    }

    /// What of the resources is to be shown, and which of them.
    pub(super) fn query(&self) -> Result<Query> {
        Ok(Query::parse(&self.request.query)?)
    }

    /// The body.
    pub(super) fn body(&self) -> Result<Value> {
        if nul::in_json(&self.request.body) {
            return Err(Wrong::new(Kind::InvalidValue, "The body has the letter U+0000 in a text, which no text here has.").into());
        }
        serde_json::from_slice(&self.request.body)
            .map_err(|error| Wrong::new(Kind::InvalidSyntax, format!("The body is no JSON: {error}")).into())
    }

    /// A resource as an answer, with where it is and its version.
    pub(super) fn show(&self, status: StatusCode, resource: &Resource, query: &Query, whole: Document) -> Answer {
        let meta = |name: &str| whole.get("meta").and_then(|meta| meta.get(name)).and_then(Value::as_str).map(str::to_owned);
        let (location, version) = (meta("location"), meta("version"));
        let mut headers = Vec::new();
        if let Some(version) = version {
            if self.request.method == Method::GET && matches(self.request.if_none_match.as_deref(), &version) {
                return Answer { status: StatusCode::NOT_MODIFIED, headers: vec![("ETag", version)], body: None };
            }
            headers.push(("ETag", version));
        }
        headers.extend(location.map(|location| ("Location", location)));
        Answer { status, headers, body: Some(Value::Object(query.show(resource, whole))) }
    }
}

/// Whether a header names that version; weak and strong ones are told apart by nobody (RFC 9110, section 8.8.3.2).
fn matches(header: Option<&str>, version: &str) -> bool {
    let bare = |text: &str| text.trim().trim_start_matches("W/").to_owned();
    header.is_some_and(|header| header.trim() == "*" || header.split(',').any(|one| bare(one) == bare(version)))
}

/// Whether the caller's `If-Match` allows a change of what has that version: without one the last writer wins.
///
/// # Errors
/// 412.
pub(super) fn check_match(if_match: Option<&str>, version: &str) -> Result<()> {
    if if_match.is_none() || matches(if_match, version) { Ok(()) } else { Err(ScimProblem::precondition()) }
}

/// The version of a resource: another one when anything of it is.
pub(super) fn version(document: &Document, more: &str) -> String {
    let text = format!("{}{more}", Value::Object(document.clone()));
    format!("W/\"{}\"", hex::encode(sha256(text.as_bytes()).get(..12).unwrap_or_default()))
}

/// What a handler gives back in time.
pub type Handled<'a> = Pin<Box<dyn Future<Output = Result<Answer>> + Send + 'a>>;

/// What answers a call.
pub type Handler = for<'a> fn(Call<'a>) -> Handled<'a>;

/// One entry of the table.
#[derive(Clone, Copy)]
pub struct Route {
    verb: Verb,
    /// The address below the root; a segment in braces is variable.
    pattern: &'static str,
    need: Need,
    handler: Handler,
}

impl Route {
    /// What its caller needs.
    #[must_use]
    pub fn need(&self) -> Need {
        self.need
    }

    /// How a call counts: who leaves must be let out while the provider sends much else.
    fn weight(&self, request: &Request) -> Weight {
        match self.verb {
            Verb::Get => Weight::Read,
            Verb::Post if self.need == READ => Weight::Read,
            Verb::Delete => Weight::Urgent,
            Verb::Patch | Verb::Put if self.need == USERS && disables(self.verb, &request.body) => Weight::Urgent,
            Verb::Post | Verb::Patch | Verb::Put => Weight::Write,
        }
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
        part.eq_ignore_ascii_case(segment)
    }
}

/// Whether a change of a user disables them.
fn disables(verb: Verb, body: &[u8]) -> bool {
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return false };
    let changes = if verb == Verb::Put { Changes::of_whole(&USER, &body).map(|(_, all)| all) } else { Changes::parse(&USER, &body) };
    let Ok(changes) = changes else { return false };
    let mut document = Document::new();
    let outcome = changes.steps.iter().filter(|step| step.place.attribute.name == "active").try_for_each(|step| apply(&mut document, step));
    outcome.is_ok() && document.get("active") == Some(&Value::Bool(false))
}

/// To see users and groups, and what there is of them.
const READ: Need = Need { scopes: &[Scope::SynchronizationDataUserUpload], action: Some(Action::DirectoryRead) };
/// To make, change and delete users.
const USERS: Need = Need { scopes: &[Scope::SynchronizationDataUserUpload], action: Some(Action::DirectoryUpdate) };
/// To make, change and delete groups.
const GROUPS: Need = Need { scopes: &[Scope::SynchronizationDataUserUpload], action: Some(Action::GroupsUpdate) };

macro_rules! table {
    ($($verb:ident $pattern:literal, $need:expr => $handler:path;)+) => {
        /// Every route. What is not here is not reachable.
        pub const TABLE: &[Route] =
            &[$(Route { verb: Verb::$verb, pattern: $pattern, need: $need, handler: |call| Box::pin($handler(call)) }),+];
    };
}

table! {
    Get "", READ => search::all;
    Post ".search", READ => search::post_all;
    Get "ServiceProviderConfig", READ => discovery::config;
    Get "ResourceTypes", READ => discovery::types;
    Get "ResourceTypes/{id}", READ => discovery::one_type;
    Get "Schemas", READ => discovery::schemas;
    Get "Schemas/{id}", READ => discovery::schema;
    Get "Users", READ => users::list;
    Post "Users", USERS => users::create;
    Post "Users/.search", READ => users::search;
    Get "Users/{id}", READ => users::show;
    Put "Users/{id}", USERS => users::replace;
    Patch "Users/{id}", USERS => users::change;
    Delete "Users/{id}", USERS => users::delete;
    Get "Groups", READ => groups::list;
    Post "Groups", GROUPS => groups::create;
    Post "Groups/.search", READ => groups::search;
    Get "Groups/{id}", READ => groups::show;
    Put "Groups/{id}", GROUPS => groups::replace;
    Patch "Groups/{id}", GROUPS => groups::change;
    Delete "Groups/{id}", GROUPS => groups::delete;
}

/// Answers a call by the table.
///
/// # Errors
/// 404 for an address that is not in the table, 405 for a method that the address has not, 403 without the permission, 429 for a caller who
/// calls too often, and the handler's.
pub(super) async fn dispatch(app: &App, caller: &Caller, origin: &str, request: &Request) -> Result<Answer> {
    let found = table::find(TABLE.iter(), &request.method, &request.segments);
    // What is refused is counted, too.
    let weight = found.as_ref().map_or(Weight::Read, |(route, _)| route.weight(request));
    app.callers.count(caller, weight).map_err(ScimProblem::throttled)?;
    let (route, keys) = found.map_err(|possible| match possible.is_empty() {
        true => ScimProblem::not_found(),
        false => ScimProblem::method(&possible.join(", ")),
    })?;
    if caller.identity != Identity::Application {
        return Err(ScimProblem::forbidden("Provisioning is done by applications in their own name, not in a person's."));
    }
    // Applications are bound to no groups.
    caller.check(route.need).map_err(|lack| ScimProblem::forbidden(format!("Not allowed: {lack}.")))?;
    (route.handler)(Call { app, caller, request, key: keys.first().copied().unwrap_or_default(), origin }).await
}
