//! Collections and single objects in the form that OData has for them, for all entity sets alike.

use serde_json::{Map, Value, json};

use super::answer::{Answer, base, entity};
use super::error::{GraphProblem, Result};
use super::request::Request;
use super::route::Call;
use crate::config::Config;
use crate::service::page::{self, Found};
use crate::wire::odata::Wrong;
use crate::wire::odata::query::Query;
use crate::wire::odata::shape::Shape;

impl From<Wrong> for GraphProblem {
    fn from(wrong: Wrong) -> Self {
        Self::bad(wrong.0)
    }
}

impl From<page::Error> for GraphProblem {
    fn from(error: page::Error) -> Self {
        match error {
            page::Error::Wrong(wrong) => wrong.into(),
            page::Error::Service(error) => error.into(),
        }
    }
}

/// How large pages are: without a word of the client, and at most.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Without `$top`.
    pub usual: u32,
    /// However large `$top` is.
    pub most: u32,
}

/// Pages of the directory's sets.
pub const DIRECTORY: Sizes = Sizes { usual: 100, most: 999 };
/// Pages of device management's sets.
pub const MANAGEMENT: Sizes = Sizes { usual: 200, most: 1000 };

/// The query of a call, held against what the type has.
///
/// # Errors
/// 400.
pub fn query(request: &Request, shape: &Shape) -> Result<Query> {
    let query = Query::parse(&request.query)?;
    shape.check(&query.select, request.version == super::request::Version::Beta)?;
    Ok(query)
}

/// How many objects the page of a query has.
#[must_use]
pub fn limit(query: &Query, sizes: Sizes) -> u32 {
    query.top.map_or(sizes.usual, |top| top.min(sizes.most))
}

/// A page as JSON. `context` is what the metadata calls the set; `path` its address below the root.
#[must_use]
pub fn collection(config: &Config, request: &Request, context: &str, query: &Query, found: Found<Map<String, Value>>) -> Answer {
    let base = base(config, request.version);
    let selected = if query.select.is_empty() { String::new() } else { format!("({})", query.select.join(",")) };
    let mut whole = Map::new();
    whole.insert("@odata.context".into(), format!("{base}/$metadata#{context}{selected}").into());
    if let Some(count) = found.count {
        whole.insert("@odata.count".into(), count.into());
    }
    if let Some(token) = found.next {
        whole.insert("@odata.nextLink".into(), next_link(&base, request, &token).into());
    }
    whole.insert("value".into(), Value::Array(found.objects.into_iter().map(Value::Object).collect()));
    Answer::ok(Value::Object(whole))
}

/// A few objects that are all there are.
#[must_use]
pub fn whole(config: &Config, request: &Request, context: &str, objects: &[Value]) -> Answer {
    let base = base(config, request.version);
    Answer::ok(json!({ "@odata.context": format!("{base}/$metadata#{context}"), "value": objects }))
}

/// The address of the next page: the same question with the token, from the configured base URL.
fn next_link(base: &str, request: &Request, token: &str) -> String {
    let path: Vec<String> = request.segments.iter().map(|segment| encode(segment)).collect();
    let kept = request.query.split('&').filter(|pair| {
        let name = pair.split('=').next().unwrap_or_default().trim_start_matches("%24").trim_start_matches('$').to_ascii_lowercase();
        !pair.is_empty() && name != "skiptoken" && name != "skip"
    });
    let mut query: Vec<String> = kept.map(str::to_owned).collect();
    query.push(format!("$skiptoken={token}"));
    format!("{base}/{}?{}", path.join("/"), query.join("&"))
}

fn encode(segment: &str) -> String {
    percent_encoding::utf8_percent_encode(segment, percent_encoding::NON_ALPHANUMERIC).to_string().replace("%2D", "-").replace("%2E", ".")
}

/// A page of a set: `find` looks the objects up for the query and the size of the page.
///
/// # Errors
/// 400 for a query that is not taken.
pub async fn answer<T>(
    call: &Call<'_>,
    (shape, sizes, context): (&Shape, Sizes, &str),
    find: impl AsyncFnOnce(&Query, u32) -> std::result::Result<Found<T>, page::Error>,
    show: impl Fn(&T) -> Map<String, Value>,
) -> Result<Answer> {
    let query = query(call.request, shape)?;
    let found = find(&query, limit(&query, sizes)).await?;
    let beta = call.is_beta();
    let objects = found.objects.iter().map(|object| shape.show(show(object), &query.select, beta)).collect();
    let found = Found { objects, next: found.next, count: found.count };
    Ok(collection(&call.app.config, call.request, context, &query, found))
}

/// One object as JSON, with what was selected of it.
///
/// # Errors
/// 400 for a query that is not taken.
pub fn single(call: &Call<'_>, shape: &Shape, context: &str, object: Map<String, Value>) -> Result<Value> {
    let query = query(call.request, shape)?;
    let shown = shape.show(object, &query.select, call.is_beta());
    Ok(entity(&call.app.config, call.request, context, shown))
}
