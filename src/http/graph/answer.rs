//! What a call is answered with.

use actix_web::HttpResponse;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::http::{Method, StatusCode};
use openssl::sha::sha256;
use serde_json::{Map, Value};

use super::request::{Request, Version};
use crate::config::Config;

/// An object with these members, each what serialises: `object! { "id": id, … }`.
macro_rules! object {
    ($($name:literal: $value:expr),* $(,)?) => {
        serde_json::Map::from_iter([$(($name.to_owned(), serde_json::json!($value))),*])
    };
}
pub(super) use object;

/// The media type of JSON answers.
const JSON: &str = "application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false;charset=utf-8";

/// The body of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// None.
    Empty,
    /// JSON.
    Json(Value),
    /// Plain text.
    Text(String),
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// Headers beside the common ones.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Body,
}

impl Answer {
    /// 200 with JSON.
    #[must_use]
    pub fn ok(body: Value) -> Self {
        Self { status: StatusCode::OK, headers: Vec::new(), body: Body::Json(body) }
    }

    /// 201 with what was made and where it is.
    #[must_use]
    pub fn created(location: String, body: Value) -> Self {
        Self { status: StatusCode::CREATED, headers: vec![("Location", location)], body: Body::Json(body) }
    }

    /// 204.
    #[must_use]
    pub fn done() -> Self {
        Self { status: StatusCode::NO_CONTENT, headers: Vec::new(), body: Body::Empty }
    }

    /// 200 with plain text.
    #[must_use]
    pub fn text(text: String) -> Self {
        Self { status: StatusCode::OK, headers: Vec::new(), body: Body::Text(text) }
    }

    /// The ETag of the object that it shows, where it shows one.
    #[must_use]
    pub fn etag(&self) -> Option<&str> {
        match &self.body {
            Body::Json(Value::Object(object)) => object.get(ETAG).and_then(Value::as_str),
            _ => None,
        }
    }

    /// The same with the ETag as a header; for whoever has that version already, 304 without the object (RFC 9110, section 13.1.2).
    #[must_use]
    pub fn conditional(mut self, request: &Request) -> Self {
        let Some(etag) = self.etag().map(str::to_owned) else { return self };
        let known = request.if_none_match.as_deref().is_some_and(|known| matches(known, &etag));
        if known && self.status == StatusCode::OK && request.method == Method::GET {
            self = Self { status: StatusCode::NOT_MODIFIED, headers: Vec::new(), body: Body::Empty };
        }
        self.headers.push(("ETag", etag));
        self
    }

    /// The same without annotations, for a client that wants none.
    #[must_use]
    pub fn bare(mut self) -> Self {
        if let Body::Json(value) = &mut self.body {
            strip(value);
        }
        self
    }

    /// The answer as HTTP has it.
    #[must_use]
    pub fn respond(self, request_id: &str, client_request_id: &str) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        response
            .insert_header((CACHE_CONTROL, "no-store"))
            .insert_header(("OData-Version", "4.0"))
            .insert_header(("request-id", request_id))
            .insert_header(("client-request-id", client_request_id));
        for header in self.headers {
            response.insert_header(header);
        }
        match self.body {
            Body::Empty => response.finish(),
            Body::Json(value) => response.content_type(JSON).body(value.to_string()),
            Body::Text(text) => response.content_type("text/plain").body(text),
        }
    }
}

/// Takes annotations away; paging and counts stay, as the client could not go on without.
fn strip(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|name, _| {
                !name.contains("@odata.") || matches!(name.as_str(), "@odata.nextLink" | "@odata.deltaLink" | "@odata.count")
            });
            members.values_mut().for_each(strip);
        }
        Value::Array(all) => all.iter_mut().for_each(strip),
        _ => {}
    }
}

/// The base URL of a root, from the configuration: what a client says the host is called is not believed.
#[must_use]
pub fn base(config: &Config, version: Version) -> String {
    format!("{}/{}", config.web_url(), version.as_str())
}

/// An object by itself: with its context, and its ETag where it has one.
#[must_use]
pub fn entity(config: &Config, request: &Request, context: &str, object: Map<String, Value>) -> Value {
    let mut whole = Map::new();
    let base = base(config, request.version);
    whole.insert("@odata.context".into(), format!("{base}/$metadata#{context}/$entity").into());
    whole.extend(tagged(object));
    Value::Object(whole)
}

/// Whether one of the ETags of a header is that one. ETags of clients that spell them as strong ones are the same (RFC 9110, section 8.8.3.2).
#[must_use]
pub fn matches(header: &str, etag: &str) -> bool {
    let bare = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    header.trim() == "*" || header.split(',').any(|one| bare(one) == bare(etag))
}

/// The annotation that says which version of an object is shown.
pub const ETAG: &str = "@odata.etag";

/// The ETag of an object: the one that it has, or that of what it is as a whole.
#[must_use]
pub fn etag(object: &Map<String, Value>) -> String {
    if let Some(etag) = object.get(ETAG).and_then(Value::as_str) {
        return etag.to_owned();
    }
    let hash = sha256(Value::Object(object.clone()).to_string().as_bytes());
    format!("W/\"{}\"", hex::encode(hash.get(..12).unwrap_or_default()))
}

/// The object with its ETag: what it is as a whole, whatever will be selected of it.
#[must_use]
pub fn tagged(mut object: Map<String, Value>) -> Map<String, Value> {
    let etag = etag(&object);
    object.insert(ETAG.into(), etag.into());
    object
}
