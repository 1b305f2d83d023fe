//! Collections and single objects in the form that OData has for them, for all entity sets alike.

use serde_json::{Map, Value, json};

use super::answer::{Answer, base, entity, tagged};
use super::error::{GraphProblem, Result};
use super::request::Request;
use super::route::Call;
use crate::config::Config;
use crate::service::changes::{Link, Membership, Reason, Told};
use crate::service::page::{self, Found};
use crate::wire::odata::evaluate::fits;
use crate::wire::odata::filter::Expr;
use crate::wire::odata::query::Query;
use crate::wire::odata::shape::Shape;
use crate::wire::odata::{Wrong, quoted};

impl From<Wrong> for GraphProblem {
    fn from(wrong: Wrong) -> Self {
        Self::bad(wrong.0)
    }
}

impl From<page::Error> for GraphProblem {
    fn from(error: page::Error) -> Self {
        match error {
            page::Error::Wrong(wrong) => wrong.into(),
            page::Error::Resync => Self::resync(String::new()),
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
        whole.insert("@odata.nextLink".into(), link(&base, request, Some(("$skiptoken", &token))).into());
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

/// All objects of a small set that the program makes itself, with what the query leaves of them: they are few, and there is one page.
///
/// # Errors
/// 400 for a query that is not taken.
pub fn few(call: &Call<'_>, shape: &Shape, context: &str, objects: Vec<Map<String, Value>>) -> Result<Answer> {
    let query = query(call.request, shape)?;
    let beta = call.is_beta();
    if !query.order_by.is_empty() || !query.search.is_empty() {
        return Err(GraphProblem::bad("This set can be neither ordered nor searched."));
    }
    if let Some(filter) = &query.filter {
        check_names(filter, shape, beta)?;
    }
    let fits = |object: &Map<String, Value>| query.filter.as_ref().is_none_or(|filter| fits(filter, &Value::Object(object.clone())));
    let all: Vec<_> = objects.into_iter().filter(fits).collect();
    let count = query.count.then(|| i64::try_from(all.len()).unwrap_or(i64::MAX));
    let page = all.into_iter().skip(query.skip as usize).take(query.top.map_or(usize::MAX, |top| top as usize));
    let objects = page.map(|object| shape.show(object, &query.select, beta)).collect();
    Ok(collection(&call.app.config, call.request, context, &query, Found { objects, next: None, count }))
}

/// Holds the names in a filter against the type.
fn check_names(filter: &Expr, shape: &Shape, beta: bool) -> Result<()> {
    match filter {
        Expr::And(a, b) | Expr::Or(a, b) => check_names(a, shape, beta).and_then(|()| check_names(b, shape, beta)),
        Expr::Not(inner) => check_names(inner, shape, beta),
        Expr::IsOf(_) => Ok(()),
        Expr::Compare(name, ..) | Expr::In(name, _) | Expr::Match(_, name, _) | Expr::Any(name, _) => {
            let known = name == "id" || shape.has(name.split('/').next().unwrap_or_default(), beta);
            if known { Ok(()) } else { Err(GraphProblem::bad(format!("The property '{}' cannot be filtered by.", quoted(name)))) }
        }
    }
}

/// The same question with a token, or without one, from the configured base URL.
fn link(base: &str, request: &Request, token: Option<(&str, &str)>) -> String {
    let path: Vec<String> = request.segments.iter().map(|segment| encode(segment)).collect();
    let kept = request.query.split('&').filter(|pair| {
        let name = pair.split('=').next().unwrap_or_default().trim_start_matches("%24").trim_start_matches('$').to_ascii_lowercase();
        !pair.is_empty() && !["skiptoken", "deltatoken", "skip"].contains(&name.as_str())
    });
    let mut query: Vec<String> = kept.map(str::to_owned).collect();
    query.extend(token.map(|(name, token)| format!("{name}={token}")));
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{base}/{}{mark}{}", path.join("/"), query.join("&"))
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

/// A piece for whoever follows the changes of a set (delta query): `follow` looks it up for the query and the size of the piece.
///
/// # Errors
/// 400 for a query that is not taken, 403 for whoever is bound to groups, 410 for whoever has to begin anew.
pub async fn delta<T>(
    call: &Call<'_>,
    (shape, sizes, context): (&Shape, Sizes, &str),
    follow: impl AsyncFnOnce(&Query, u32) -> std::result::Result<Told<T>, page::Error>,
    show: impl Fn(&T) -> Map<String, Value>,
) -> Result<Answer> {
    // What leaves their groups would have to be told as gone, and what never was in them not at all.
    if !call.reach.is_all() {
        return Err(GraphProblem::forbidden("Whoever is bound to groups follows no changes."));
    }
    let query = query(call.request, shape)?;
    let asked = Query { top: query.top.or(call.request.page_size), ..query };
    let (base, request) = (base(&call.app.config, call.request.version), call.request);
    let told = match follow(&asked, limit(&asked, sizes)).await {
        Ok(told) => told,
        Err(page::Error::Resync) => return Err(GraphProblem::resync(link(&base, request, None))),
        Err(other) => return Err(other.into()),
    };
    let mut value: Vec<Value> =
        told.objects.iter().map(|object| Value::Object(shape.show(show(object), &asked.select, call.is_beta()))).collect();
    value.extend(told.removed.iter().map(|(id, reason)| json!({ "id": id, "@removed": { "reason": word(*reason) } })));
    value.extend(memberships(&told.members));
    let mut whole = Map::new();
    whole.insert("@odata.context".into(), format!("{base}/$metadata#{context}").into());
    match &told.link {
        Link::Next(token) => whole.insert("@odata.nextLink".into(), link(&base, request, Some(("$skiptoken", token))).into()),
        Link::Later(token) => whole.insert("@odata.deltaLink".into(), link(&base, request, Some(("$deltatoken", token))).into()),
    };
    whole.insert("value".into(), Value::Array(value));
    Ok(Answer::ok(Value::Object(whole)))
}

fn word(reason: Reason) -> &'static str {
    match reason {
        Reason::Changed => "changed",
        Reason::Deleted => "deleted",
    }
}

/// Who came into groups and left them: a group may be told of several times.
fn memberships(members: &[Membership]) -> Vec<Value> {
    let mut groups: Vec<(&str, Vec<Value>)> = Vec::new();
    for one in members {
        let kind = if one.kind == "device" { "#microsoft.graph.device" } else { "#microsoft.graph.user" };
        let shown = match one.present {
            true => json!({ "@odata.type": kind, "id": one.member }),
            false => json!({ "@odata.type": kind, "id": one.member, "@removed": { "reason": "deleted" } }),
        };
        match groups.iter_mut().find(|(group, _)| *group == one.group) {
            Some((_, all)) => all.push(shown),
            None => groups.push((&one.group, vec![shown])),
        }
    }
    groups.into_iter().map(|(group, all)| json!({ "id": group, "members@delta": all })).collect()
}

/// One object as JSON, with what was selected of it.
///
/// # Errors
/// 400 for a query that is not taken.
pub fn single(call: &Call<'_>, shape: &Shape, context: &str, object: Map<String, Value>) -> Result<Value> {
    let query = query(call.request, shape)?;
    let shown = shape.show(tagged(object), &query.select, call.is_beta());
    Ok(entity(&call.app.config, call.request, context, shown))
}
