//! What people and devices belong to, and what belongs to people, as scripts ask it: in ids, by type, and of oneself.

use serde::Deserialize;
use serde_json::json;

use super::authentication::person;
use super::{devices, groups, managed_devices, me, users};
use crate::domain::access::{Need, Scope};
use crate::domain::group::Group;
use crate::http::graph::answer::{Answer, base};
use crate::http::graph::error::{GraphProblem, Result};
use crate::http::graph::list;
use crate::http::graph::route::{Call, routes};
use crate::service::directory;

/// Managed devices of the person who signed in.
const OWN_MANAGED: Need = Need { scopes: &[Scope::ManagedDevicesReadAll, Scope::ManagedDevicesReadWriteAll], action: None };

/// How many groups are asked after at once.
const MOST_ASKED: usize = 20;

routes! {
    Get "me/managedDevices", OWN_MANAGED => managed;
    Get "me/ownedDevices", me::OWN => owned;
    Get "me/registeredDevices", me::OWN => owned;
    Get "me/memberOf/microsoft.graph.group", me::OWN => groups_of_person;
    Get "me/transitiveMemberOf", me::OWN => groups_of_person;
    Get "me/transitiveMemberOf/microsoft.graph.group", me::OWN => groups_of_person;
    Post "me/getMemberGroups", me::OWN => list_ids;
    Post "me/getMemberObjects", me::OWN => list_ids;
    Post "me/checkMemberGroups", me::OWN => check_groups;
    Post "me/checkMemberObjects", me::OWN => check_objects;
    Get "users/{id}/ownedDevices", devices::READ => owned;
    Get "users/{id}/registeredDevices", devices::READ => owned;
    Get "users/{id}/memberOf/microsoft.graph.group", users::READ => groups_of_person;
    Get "users/{id}/transitiveMemberOf/microsoft.graph.group", users::READ => groups_of_person;
    Post "users/{id}/getMemberGroups", users::READ => list_ids;
    Post "users/{id}/getMemberObjects", users::READ => list_ids;
    Post "users/{id}/checkMemberGroups", users::READ => check_groups;
    Post "users/{id}/checkMemberObjects", users::READ => check_objects;
    Post "devices/{id}/getMemberGroups", devices::READ => list_ids;
    Post "devices/{id}/getMemberObjects", devices::READ => list_ids;
    Post "devices/{id}/checkMemberGroups", devices::READ => check_groups;
    Post "devices/{id}/checkMemberObjects", devices::READ => check_objects;
    Post "groups/{id}/getMemberGroups", groups::READ => list_ids;
    Post "groups/{id}/getMemberObjects", groups::READ => list_ids;
    Post "groups/{id}/checkMemberGroups", groups::READ => check_groups;
    Post "groups/{id}/checkMemberObjects", groups::READ => check_objects;
}

async fn managed(call: Call<'_>) -> Result<Answer> {
    let user = person(&call).await?;
    managed_devices::list_of_user(&call, &user.id).await
}

async fn owned(call: Call<'_>) -> Result<Answer> {
    let user = person(&call).await?;
    devices::list_of_user(&call, &user.id).await
}

async fn groups_of_person(call: Call<'_>) -> Result<Answer> {
    let user = person(&call).await?;
    let all = directory::groups_of_user(call.app, &user.id).await?;
    list::few(&call, &groups::SHAPE, "groups", all.iter().map(groups::typed).collect())
}

/// The groups of whom or what the address names. Groups are in none.
async fn belongings(call: &Call<'_>) -> Result<Vec<Group>> {
    match call.request.segments.first().map(|segment| segment.to_ascii_lowercase()).as_deref() {
        Some("devices") => {
            let found = directory::find_device(call.app, call.key(0)?, &call.reach).await?;
            Ok(directory::groups_of_device(call.app, &found.device.id).await?)
        }
        Some("groups") => {
            directory::find_group(call.app, call.key(0)?, &call.reach).await?;
            Ok(Vec::new())
        }
        _ => Ok(directory::groups_of_user(call.app, &person(call).await?.id).await?),
    }
}

fn told(call: &Call<'_>, ids: &[&str]) -> Answer {
    let context = format!("{}/$metadata#Collection(Edm.String)", base(&call.app.config, call.request.version));
    Answer::ok(json!({ "@odata.context": context, "value": ids }))
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Wanted {
    /// Every group is one for security: either way all are meant.
    #[serde(rename = "securityEnabledOnly")]
    _security_enabled_only: Option<bool>,
}

async fn list_ids(call: Call<'_>) -> Result<Answer> {
    let _: Wanted = call.request.json()?;
    let groups = belongings(&call).await?;
    Ok(told(&call, &groups.iter().map(|group| group.id.as_str()).collect::<Vec<_>>()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AskedGroups {
    group_ids: Vec<String>,
}

#[derive(Deserialize)]
struct AskedObjects {
    ids: Vec<String>,
}

async fn check_groups(call: Call<'_>) -> Result<Answer> {
    let asked: AskedGroups = call.request.json()?;
    check(&call, &asked.group_ids).await
}

async fn check_objects(call: Call<'_>) -> Result<Answer> {
    let asked: AskedObjects = call.request.json()?;
    check(&call, &asked.ids).await
}

/// Those of some groups that it is in.
async fn check(call: &Call<'_>, asked: &[String]) -> Result<Answer> {
    if asked.len() > MOST_ASKED {
        return Err(GraphProblem::bad(format!("At most {MOST_ASKED} ids are checked at once.")));
    }
    let groups = belongings(call).await?;
    let among = |group: &&Group| asked.iter().any(|id| id.eq_ignore_ascii_case(group.id.as_str()));
    Ok(told(call, &groups.iter().filter(among).map(|group| group.id.as_str()).collect::<Vec<_>>()))
}
