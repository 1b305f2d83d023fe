//! `/Groups`: groups and the people in them. Devices that belong to a group are not seen here, and stay in it.

use actix_web::http::StatusCode;
use serde_json::{Value, json};

use super::error::{Result, ScimProblem};
use super::route::{Answer, Call, check_match, version};
use super::search::wanted;
use crate::clock::Time;
use crate::domain::group::Group;
use crate::ids::GroupId;
use crate::service::directory::members::Change;
use crate::service::directory::provision::{self, Changed, Team, Wanted};
use crate::wire::odata::edm;
use crate::wire::scim::document::Document;
use crate::wire::scim::patch::{Changes, Members};
use crate::wire::scim::query::Query;
use crate::wire::scim::schema::{GROUP, GROUP_URN, USER};
use crate::wire::scim::{Kind, Wrong, list as list_of};

/// What a client says of a group, beside its members.
fn document(group: &Group) -> Document {
    let mut document = Document::new();
    document.insert("displayName".into(), group.display_name.as_str().into());
    document.extend(group.external_id.as_deref().map(|id| ("externalId".to_owned(), id.into())));
    document
}

/// Writes what a document says over a group.
fn write(group: &mut Group, document: &Document) -> std::result::Result<(), Wrong> {
    let text = |name: &str| document.get(name).and_then(Value::as_str).map(str::to_owned);
    group.display_name = text("displayName").ok_or_else(|| Wrong::new(Kind::InvalidValue, "A group has a displayName."))?;
    group.external_id = text("externalId");
    Ok(())
}

fn version_of(group: &Group, (count, last): (i64, Option<Time>)) -> String {
    version(&document(group), &format!("{} {count} {last:?}", group.id))
}

/// A group as clients see it.
fn whole(base: &str, team: &Team) -> Document {
    let group = &team.group;
    let mut whole = document(group);
    whole.insert("schemas".into(), json!([GROUP_URN]));
    whole.insert("id".into(), group.id.as_str().into());
    if let Some(members) = team.members.as_ref().filter(|members| !members.is_empty()) {
        let shown = members.iter().map(|id| json!({ "value": id, "$ref": format!("{base}/Users/{id}"), "type": USER.name }));
        whole.insert("members".into(), shown.collect());
    }
    let mut meta = json!({
        "resourceType": GROUP.name,
        "created": edm::time(team.created.0),
        "location": format!("{base}/Groups/{}", group.id),
    });
    if let (Some(state), Some(meta)) = (team.state, meta.as_object_mut()) {
        meta.insert("version".into(), version_of(group, state).into());
    }
    whole.insert("meta".into(), meta);
    whole
}

/// A page of groups, and how many there are in all.
pub(super) async fn page(call: &Call<'_>, query: &Query, wanted: Wanted) -> Result<(Vec<Value>, i64)> {
    let found = provision::page_teams(call.app, wanted, query.shows(&GROUP, "members", true)).await??;
    let base = call.base();
    let shown = found.objects.iter().map(|team| Value::Object(query.show(&GROUP, whole(&base, team)))).collect();
    Ok((shown, found.count.unwrap_or_default()))
}

async fn find(call: &Call<'_>, query: &Query) -> Result<Answer> {
    let (shown, total) = page(call, query, wanted(&GROUP, query)?).await?;
    Ok(Answer::ok(list_of(total, query.start(), &shown)))
}

pub(super) async fn list(call: Call<'_>) -> Result<Answer> {
    find(&call, &call.query()?).await
}

pub(super) async fn search(call: Call<'_>) -> Result<Answer> {
    find(&call, &Query::of_search(&call.body()?)?).await
}

pub(super) async fn show(call: Call<'_>) -> Result<Answer> {
    let query = call.query()?;
    let team = provision::find_team(call.app, call.key, query.shows(&GROUP, "members", true)).await??;
    Ok(call.show(StatusCode::OK, &GROUP, &query, whole(&call.base(), &team)))
}

/// A group that was written. The client knows its members: it is not refused for having more than are shown.
async fn written(call: &Call<'_>, status: StatusCode, id: &GroupId) -> Result<Answer> {
    let query = call.query()?;
    let team = match provision::find_team(call.app, id.as_str(), query.shows(&GROUP, "members", true)).await? {
        Ok(team) => team,
        Err(_) => provision::find_team(call.app, id.as_str(), false).await??,
    };
    Ok(call.show(status, &GROUP, &query, whole(&call.base(), &team)))
}

/// Changes of members as the directory makes them.
fn changes(given: &[Members]) -> Result<Vec<Change>> {
    let change = |members: &Members| match members {
        Members::Add(ids) => provision::people(true, ids),
        Members::Remove(ids) => provision::people(false, ids),
        Members::Set(ids) => provision::only(ids),
    };
    Ok(given.iter().map(change).collect::<std::result::Result<_, _>>()?)
}

pub(super) async fn create(call: Call<'_>) -> Result<Answer> {
    call.query()?;
    let (document, given) = Changes::of_whole(&GROUP, &call.body()?)?;
    let mut group = Group {
        id: GroupId::new(),
        display_name: String::new(),
        description: String::new(),
        rule: None,
        external_id: None,
        mail_nickname: None,
    };
    write(&mut group, &document)?;
    let made = provision::create_team(call.app, Changed { group, members: changes(&given.members)? }, &call.by()).await?;
    written(&call, StatusCode::CREATED, &made).await
}

/// Changes the group that the address names.
async fn update<F>(call: &Call<'_>, members: Vec<Change>, change: F) -> Result<GroupId>
where
    F: Fn(&mut Group) -> std::result::Result<(), Wrong> + Send + 'static,
{
    call.query()?;
    let id = GroupId::parse(call.key).ok_or_else(ScimProblem::not_found)?;
    let if_match = call.request.if_match.clone();
    let changed = move |before: &Group, state: (i64, Option<Time>)| {
        check_match(if_match.as_deref(), &version_of(before, state))?;
        let mut group = before.clone();
        change(&mut group)?;
        Ok::<Changed, ScimProblem>(Changed { group, members: members.clone() })
    };
    provision::change_team(call.app, &id, call.caller, &call.by(), changed).await??;
    Ok(id)
}

pub(super) async fn replace(call: Call<'_>) -> Result<Answer> {
    let (document, given) = Changes::of_whole(&GROUP, &call.body()?)?;
    // Who says nothing of members leaves them as they are.
    let members = match given.members.is_empty() {
        true => Vec::new(),
        false => {
            let named = given.members.into_iter().flat_map(|members| match members {
                Members::Add(ids) | Members::Set(ids) => ids,
                Members::Remove(_) => Vec::new(),
            });
            changes(&[Members::Set(named.collect())])?
        }
    };
    let id = update(&call, members, move |group| write(group, &document)).await?;
    written(&call, StatusCode::OK, &id).await
}

pub(super) async fn change(call: Call<'_>) -> Result<Answer> {
    let given = Changes::parse(&GROUP, &call.body()?)?;
    let members = changes(&given.members)?;
    let id = update(&call, members, move |group| {
        let mut document = document(group);
        given.apply(&mut document)?;
        write(group, &document)
    })
    .await?;
    // A group may be large: nobody is shown it who did not ask.
    if call.query()?.is_selective() { written(&call, StatusCode::OK, &id).await } else { Ok(Answer::done()) }
}

pub(super) async fn delete(call: Call<'_>) -> Result<Answer> {
    let id = GroupId::parse(call.key).ok_or_else(ScimProblem::not_found)?;
    let if_match = call.request.if_match.clone();
    let check = move |group: &Group, state: (i64, Option<Time>)| check_match(if_match.as_deref(), &version_of(group, state));
    provision::delete_team(call.app, &id, call.caller, &call.by(), check).await??;
    Ok(Answer::done())
}
