//! Collections and single objects in the form that OData has for them, for all entity sets alike.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::answer::{Answer, base, entity, tagged};
use super::error::{GraphProblem, Result};
use super::request::Request;
use super::route::Call;
use crate::config::Config;
use crate::service::changes::{Link, Membership, Reason, Told};
use crate::service::page::{self, Found};
use crate::wire::odata::evaluate::{fits, ordered};
use crate::wire::odata::filter::Expr;
use crate::wire::odata::query::{Expand, Query};
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

/// What may be expanded: a navigation property, and those of what it leads to.
pub type Expandable = (&'static str, &'static [&'static str]);

/// The query of a call, held against what the type has. Nothing is expanded.
///
/// # Errors
/// 400.
pub fn query(request: &Request, shape: &Shape) -> Result<Query> {
    query_expanding(request, shape, &[])
}

/// The same for a type of which these are expanded.
///
/// # Errors
/// 400.
pub fn query_expanding(request: &Request, shape: &Shape, expandable: &[Expandable]) -> Result<Query> {
    let query = Query::parse(&request.query)?;
    shape.check(&query.select, request.version == super::request::Version::Beta)?;
    check_expands(&query, expandable)?;
    Ok(query)
}

/// Holds what is to be expanded against what can be: inside, `$select` is possible.
///
/// # Errors
/// 400 with the first name that is none.
pub fn check_expands(query: &Query, expandable: &[Expandable]) -> Result<()> {
    for expand in &query.expand {
        let known = expandable.iter().find(|(name, _)| *name == expand.property);
        let (_, inner) =
            known.ok_or_else(|| GraphProblem::bad(format!("The property '{}' cannot be expanded here.", quoted(&expand.property))))?;
        if let Some(option) = given(&expand.query).next() {
            return Err(GraphProblem::bad(format!("The query option '{option}' is not possible inside $expand.")));
        }
        if let Some(unknown) = expand.query.expand.iter().find(|deeper| !inner.contains(&deeper.property.as_str())) {
            return Err(GraphProblem::bad(format!("The property '{}' cannot be expanded here.", quoted(&unknown.property))));
        }
        if let Some(option) = expand.query.expand.iter().find_map(|deeper| given(&deeper.query).next()) {
            return Err(GraphProblem::bad(format!("The query option '{option}' is not possible inside $expand.")));
        }
    }
    Ok(())
}

/// What the query asks to be expanded of a property.
#[must_use]
pub fn expanded<'a>(query: &'a Query, property: &str) -> Option<&'a Expand> {
    query.expand.iter().find(|expand| expand.property == property)
}

/// What `$select` inside `$expand` leaves of an object that has every property of its type.
///
/// # Errors
/// 400 for a name that it has not.
pub fn picked(mut object: Map<String, Value>, select: &[String]) -> Result<Map<String, Value>> {
    if select.is_empty() || select.iter().any(|name| name == "*") {
        return Ok(object);
    }
    if let Some(unknown) = select.iter().find(|name| !name.contains('@') && !object.contains_key(*name)) {
        return Err(GraphProblem::bad(format!("Could not find a property named '{}'.", quoted(unknown))));
    }
    object.retain(|name, _| name == "id" || name.contains('@') || select.contains(name));
    Ok(object)
}

/// Objects that are expanded, with what is to be shown of them.
///
/// # Errors
/// 400 for a name that they have not.
pub fn expansion(expand: &Expand, objects: Vec<Map<String, Value>>) -> Result<Value> {
    let picked = |one| picked(one, &expand.query.select).map(Value::Object);
    objects.into_iter().map(picked).collect::<Result<_>>().map(Value::Array)
}

/// The options of a query that choose among several objects.
fn given(query: &Query) -> impl Iterator<Item = &'static str> {
    let all = [
        ("$filter", query.filter.is_some()),
        ("$orderby", !query.order_by.is_empty()),
        ("$top", query.top.is_some()),
        ("$skip", query.skip > 0),
        ("$skiptoken", query.skip_token.is_some()),
        ("$deltatoken", query.delta_token.is_some()),
        ("$count", query.count),
        ("$search", !query.search.is_empty()),
    ];
    all.into_iter().filter_map(|(name, is_given)| is_given.then_some(name))
}

/// Refuses what makes no sense for one object.
///
/// # Errors
/// 400.
pub fn check_single(query: &Query) -> Result<()> {
    match given(query).next() {
        Some(option) => Err(GraphProblem::bad(format!("The query option '{option}' is not possible for a single object."))),
        None => Ok(()),
    }
}

/// How many objects the page of a query has.
#[must_use]
pub fn limit(query: &Query, sizes: Sizes) -> u32 {
    query.top.map_or(sizes.usual, |top| top.min(sizes.most))
}

/// A page as JSON. `context` is what the metadata calls the set; `path` its address below the root.
#[must_use]
pub fn collection(config: &Config, request: &Request, context: &str, query: &Query, found: Found<Map<String, Value>>) -> Answer {
    let next = found.next.map(|token| ("$skiptoken", token));
    envelope(config, request, context, query, (found.objects, found.count), next)
}

fn envelope(
    config: &Config,
    request: &Request,
    context: &str,
    query: &Query,
    (objects, count): (Vec<Map<String, Value>>, Option<i64>),
    next: Option<(&str, String)>,
) -> Answer {
    let base = base(config, request.version);
    let selected = if query.select.is_empty() { String::new() } else { format!("({})", query.select.join(",")) };
    let mut whole = Map::new();
    whole.insert("@odata.context".into(), format!("{base}/$metadata#{context}{selected}").into());
    if let Some(count) = count {
        whole.insert("@odata.count".into(), count.into());
    }
    if let Some((name, token)) = next {
        whole.insert("@odata.nextLink".into(), link(&base, request, Some((name, &token))).into());
    }
    whole.insert("value".into(), Value::Array(objects.into_iter().map(Value::Object).collect()));
    Answer::ok(Value::Object(whole))
}

/// The objects that an action answers with; of what it makes, nothing is chosen.
#[must_use]
pub fn told(config: &Config, request: &Request, context: &str, objects: &[Value]) -> Answer {
    let base = base(config, request.version);
    Answer::ok(json!({ "@odata.context": format!("{base}/$metadata#{context}"), "value": objects }))
}

/// All objects of a small set, filtered, counted, ordered, selected and paged by the same options as large ones: they are in memory.
///
/// # Errors
/// 400 for a query that is not taken.
pub fn few(call: &Call<'_>, shape: &Shape, context: &str, objects: Vec<Map<String, Value>>) -> Result<Answer> {
    let beta = call.is_beta();
    let show = |object, select: &[String]| shape.show(object, select, beta);
    chosen(call, context, objects, &|name| name == "id" || shape.has(name, beta), &show)
}

/// The same for a set that always has the same objects: its properties are those that they have.
///
/// # Errors
/// 400 for a query that is not taken.
pub fn fixed(call: &Call<'_>, context: &str, objects: Vec<Map<String, Value>>) -> Result<Answer> {
    let names: BTreeSet<String> = objects.iter().flat_map(Map::keys).cloned().collect();
    let show = |mut object: Map<String, Value>, select: &[String]| {
        if !select.is_empty() && !select.iter().any(|name| name == "*") {
            object.retain(|name, _| name == "id" || name.contains('@') || select.contains(name));
        }
        object
    };
    chosen(call, context, objects, &|name| name == "id" || names.contains(name), &show)
}

/// One object of such a set.
///
/// # Errors
/// 400 for a query that is not taken.
pub fn fixed_single(call: &Call<'_>, context: &str, object: Map<String, Value>) -> Result<Answer> {
    let query = Query::parse(&call.request.query)?;
    check_expands(&query, &[])?;
    check_single(&query)?;
    Ok(Answer::ok(entity(&call.app.config, call.request, context, picked(tagged(object), &query.select)?)))
}

/// What `$select` leaves of an object.
type Show<'a> = dyn Fn(Map<String, Value>, &[String]) -> Map<String, Value> + 'a;

fn chosen(call: &Call<'_>, context: &str, objects: Vec<Map<String, Value>>, has: &dyn Fn(&str) -> bool, show: &Show<'_>) -> Result<Answer> {
    let query = Query::parse(&call.request.query)?;
    check_expands(&query, &[])?;
    let refused =
        [("$search", !query.search.is_empty()), ("$skiptoken", query.skip_token.is_some()), ("$deltatoken", query.delta_token.is_some())];
    if let Some((option, _)) = refused.iter().find(|(_, is_given)| *is_given) {
        return Err(GraphProblem::bad(format!("The query option '{option}' is not possible for this set.")));
    }
    if let Some(unknown) = query.select.iter().find(|name| *name != "*" && !name.starts_with('@') && !has(name)) {
        return Err(GraphProblem::bad(format!("Could not find a property named '{}'.", quoted(unknown))));
    }
    let known = |name: &str| has(name.split('/').next().unwrap_or_default());
    if let Some(filter) = &query.filter {
        check_names(filter, &known)?;
    }
    if let Some(order) = query.order_by.iter().find(|order| !known(&order.property)) {
        return Err(GraphProblem::bad(format!("The property '{}' cannot be ordered by.", quoted(&order.property))));
    }
    let mut all: Vec<Value> = objects.into_iter().map(Value::Object).collect();
    all.retain(|object| query.filter.as_ref().is_none_or(|filter| fits(filter, object)));
    all.sort_by(|a, b| ordered(a, b, &query.order_by));
    let count = query.count.then(|| i64::try_from(all.len()).unwrap_or(i64::MAX));
    let page = query.top.map_or(usize::MAX, |top| top as usize);
    let end = (query.skip as usize).saturating_add(page);
    // A page of nothing leads nowhere.
    let next = (end < all.len() && page > 0).then(|| ("$skip", end.to_string()));
    let shown = all.into_iter().skip(query.skip as usize).take(page).filter_map(|object| match object {
        Value::Object(object) => Some(show(object, &query.select)),
        _ => None,
    });
    Ok(envelope(&call.app.config, call.request, context, &query, (shown.collect(), count), next))
}

/// Holds the names in a filter against what is known.
fn check_names(filter: &Expr, known: &dyn Fn(&str) -> bool) -> Result<()> {
    match filter {
        Expr::And(a, b) | Expr::Or(a, b) => check_names(a, known).and_then(|()| check_names(b, known)),
        Expr::Not(inner) => check_names(inner, known),
        Expr::IsOf(_) => Ok(()),
        Expr::Compare(name, ..) | Expr::In(name, _) | Expr::Match(_, name, _) | Expr::Any(name, _) => {
            if known(name) {
                Ok(())
            } else {
                Err(GraphProblem::bad(format!("The property '{}' cannot be filtered by.", quoted(name))))
            }
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
    page(call, (shape, context), &query, found, |object| (show(object), Map::new()))
}

/// A page that was found, each object with what is expanded of it.
///
/// # Errors
/// 400 for a query that is not taken.
pub fn page<T>(
    call: &Call<'_>,
    (shape, context): (&Shape, &str),
    query: &Query,
    found: Found<T>,
    show: impl Fn(&T) -> (Map<String, Value>, Map<String, Value>),
) -> Result<Answer> {
    if query.delta_token.is_some() {
        return Err(GraphProblem::bad("The query option '$deltatoken' is not possible for this set."));
    }
    let beta = call.is_beta();
    let shown = |object: &T| {
        let (whole, more) = show(object);
        let mut shown = shape.show(whole, &query.select, beta);
        shown.extend(more);
        shown
    };
    let found = Found { objects: found.objects.iter().map(shown).collect(), next: found.next, count: found.count };
    Ok(collection(&call.app.config, call.request, context, query, found))
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
    single_expanded(call, (shape, context), &query(call.request, shape)?, object, Map::new())
}

/// The same with what is expanded of it.
///
/// # Errors
/// 400 for a query that is not taken.
pub fn single_expanded(
    call: &Call<'_>,
    (shape, context): (&Shape, &str),
    query: &Query,
    object: Map<String, Value>,
    more: Map<String, Value>,
) -> Result<Value> {
    check_single(query)?;
    let mut shown = shape.show(tagged(object), &query.select, call.is_beta());
    shown.extend(more);
    Ok(entity(&call.app.config, call.request, context, shown))
}
