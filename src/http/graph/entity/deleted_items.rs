//! `/directory/deletedItems`: users and groups that are deleted and can be restored.

use serde_json::{Map, Value};

use super::{groups, users};
use crate::domain::access::{Action, Need, Reach, Scope};
use crate::http::graph::answer::Answer;
use crate::http::graph::error::{GraphProblem, Result};
use crate::http::graph::list::{self, DIRECTORY};
use crate::http::graph::route::{Call, routes};
use crate::service::directory;
use crate::service::directory::deleted::{self, Deleted};
use crate::wire::odata::edm;
use crate::wire::odata::query::Query;
use crate::wire::odata::shape::Shape;

/// What reading some of them needs; what the object found needs is asked for once it is known.
const READ: Need = Need {
    scopes: &[
        Scope::UserReadAll,
        Scope::UserReadWriteAll,
        Scope::GroupReadAll,
        Scope::GroupReadWriteAll,
        Scope::DirectoryReadAll,
        Scope::DirectoryReadWriteAll,
    ],
    action: Some(Action::DirectoryRead),
};
/// As [`READ`], for changes.
const WRITE: Need = Need {
    scopes: &[Scope::UserReadWriteAll, Scope::GroupReadWriteAll, Scope::DirectoryReadWriteAll],
    action: Some(Action::DirectoryRead),
};

const USER: Shape = Shape {
    usual: &["businessPhones", "deletedDateTime", "displayName", "givenName", "jobTitle", "mail", "mobilePhone", "userPrincipalName"],
    more: users::SHAPE.more,
    beta: &[],
};
const GROUP: Shape = Shape { more: &["deletedDateTime"], ..groups::SHAPE };

routes! {
    Get "directory/deletedItems/microsoft.graph.user", users::READ => list_users;
    Get "directory/deletedItems/microsoft.graph.group", groups::READ => list_groups;
    Get "directory/deletedItems/microsoft.graph.user/$count", users::READ => count_users;
    Get "directory/deletedItems/microsoft.graph.group/$count", groups::READ => count_groups;
    Get "directory/deletedItems/{id}", READ => show;
    Delete "directory/deletedItems/{id}", WRITE => purge;
    Post "directory/deletedItems/{id}/restore", WRITE => restore;
}

/// The object as JSON, whole.
fn json(object: &Deleted) -> Map<String, Value> {
    let (mut whole, gone) = match object {
        Deleted::User(user, made, gone) => (users::json(user, *made), gone),
        Deleted::Group(group, made, gone) => (groups::json(group, Some(*made)), gone),
    };
    whole.insert("deletedDateTime".into(), edm::time(gone.0));
    whole
}

async fn list_users(call: Call<'_>) -> Result<Answer> {
    let find = async |query: &_, limit| deleted::page_users(call.app, query, &call.reach, limit).await;
    list::answer(&call, (&USER, DIRECTORY, "directoryObjects/$/Microsoft.DirectoryServices.User"), find, json).await
}

async fn list_groups(call: Call<'_>) -> Result<Answer> {
    let find = async |query: &_, limit| deleted::page_groups(call.app, query, &call.reach, limit).await;
    list::answer(&call, (&GROUP, DIRECTORY, "directoryObjects/$/Microsoft.DirectoryServices.Group"), find, json).await
}

async fn count_users(call: Call<'_>) -> Result<Answer> {
    let query = Query { count: true, ..list::query(call.request, &USER)? };
    let found = deleted::page_users(call.app, &query, &call.reach, 1).await?;
    Ok(Answer::text(found.count.unwrap_or_default().to_string()))
}

async fn count_groups(call: Call<'_>) -> Result<Answer> {
    let query = Query { count: true, ..list::query(call.request, &GROUP)? };
    let found = deleted::page_groups(call.app, &query, &call.reach, 1).await?;
    Ok(Answer::text(found.count.unwrap_or_default().to_string()))
}

/// The object that the address names, when the caller may do to objects of its kind what is asked. Whoever is bound to groups reaches none:
/// what is deleted is in no group.
async fn named(call: &Call<'_>, of_users: Need, of_groups: Need) -> Result<Deleted> {
    let found = deleted::find_deleted(call.app, call.key(0)?).await?;
    let need = if matches!(found, Deleted::User(..)) { of_users } else { of_groups };
    match call.caller.reach(need) {
        Some(reach) if reach.is_all() => Ok(found),
        Some(_) => Err(GraphProblem::forbidden("Whoever is bound to groups does nothing to what is deleted.")),
        None => Err(GraphProblem::forbidden("Insufficient privileges to do this to objects of that type.")),
    }
}

fn shown(call: &Call<'_>, object: &Deleted) -> Result<Answer> {
    let (shape, kind) = match object {
        Deleted::User(..) => (&USER, "#microsoft.graph.user"),
        Deleted::Group(..) => (&GROUP, "#microsoft.graph.group"),
    };
    Ok(Answer::ok(typed(list::single(call, shape, "directoryObjects", json(object))?, kind)))
}

/// The same with the word for its kind.
fn typed(mut body: Value, kind: &str) -> Value {
    if let Some(fields) = body.as_object_mut() {
        fields.insert("@odata.type".into(), kind.into());
    }
    body
}

async fn show(call: Call<'_>) -> Result<Answer> {
    let found = named(&call, users::READ, groups::READ).await?;
    shown(&call, &found)
}

async fn purge(call: Call<'_>) -> Result<Answer> {
    match named(&call, users::WRITE, groups::WRITE).await? {
        Deleted::User(user, ..) => deleted::purge_user(call.app, &user.id, &call.by()).await?,
        Deleted::Group(group, ..) => deleted::purge_group(call.app, &group.id, &call.by()).await?,
    }
    Ok(Answer::done())
}

/// Answers the object as a user or group again.
async fn restore(call: Call<'_>) -> Result<Answer> {
    let body = match named(&call, users::WRITE, groups::WRITE).await? {
        Deleted::User(user, ..) => {
            deleted::restore_user(call.app, &user.id, &call.by()).await?;
            let (user, made) = directory::find_user(call.app, user.id.as_str(), &Reach::All).await?;
            typed(list::single(&call, &users::SHAPE, "directoryObjects", users::json(&user, made))?, "#microsoft.graph.user")
        }
        Deleted::Group(group, ..) => {
            deleted::restore_group(call.app, &group.id, &call.by()).await?;
            let (group, made) = directory::find_group(call.app, group.id.as_str(), &Reach::All).await?;
            typed(list::single(&call, &groups::SHAPE, "directoryObjects", groups::json(&group, Some(made)))?, "#microsoft.graph.group")
        }
    };
    Ok(Answer::ok(body))
}
