//! Searches in all kinds of resources at once (RFC 7644, section 3.4.3): users come first, groups after them.

use super::error::Result;
use super::route::{Answer, Call};
use super::{groups, users};
use crate::service::directory::provision::Wanted;
use crate::wire::scim::query::Query;
use crate::wire::scim::schema::{GROUP, Resource, USER};
use crate::wire::scim::{Wrong, filter, list};

/// Which resources of a kind are wanted.
pub(super) fn wanted(resource: &Resource, query: &Query) -> std::result::Result<Wanted, Wrong> {
    let filter = query.filter.as_deref().map(|text| filter::parse(resource, text)).transpose()?;
    Ok(Wanted { filter, skip: query.start() - 1, limit: query.count() })
}

pub(super) async fn all(call: Call<'_>) -> Result<Answer> {
    let query = call.query()?;
    find(&call, &query).await
}

pub(super) async fn post_all(call: Call<'_>) -> Result<Answer> {
    let query = Query::of_search(&call.body()?)?;
    find(&call, &query).await
}

async fn find(call: &Call<'_>, query: &Query) -> Result<Answer> {
    let (people, teams) = match (wanted(&USER, query), wanted(&GROUP, query)) {
        (Err(wrong), Err(_)) => return Err(wrong.into()),
        // What one kind of resource has not, none of that kind fits.
        (people, teams) => (people.ok(), teams.ok()),
    };
    let (mut total, mut found) = (0, Vec::new());
    if let Some(people) = people {
        let (shown, count) = users::page(call, query, people).await?;
        found.extend(shown);
        total += count;
    }
    if let Some(teams) = teams {
        let before = u32::try_from(total).unwrap_or(u32::MAX);
        let taken = u32::try_from(found.len()).unwrap_or(u32::MAX);
        // A page that ends before the last of the people goes on with people.
        let left = if teams.skip.saturating_add(taken) < before { 0 } else { teams.limit.saturating_sub(taken) };
        let rest = Wanted { skip: teams.skip.saturating_sub(before), limit: left, ..teams };
        let (shown, count) = groups::page(call, query, rest).await?;
        found.extend(shown);
        total += count;
    }
    Ok(Answer::ok(list(total, query.start(), &found)))
}
