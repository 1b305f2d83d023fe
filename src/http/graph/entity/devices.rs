//! `/devices`: the devices of the directory.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::users;
use crate::clock::Time;
use crate::domain::access::Need;
use crate::domain::device::{Platform, State};
use crate::domain::subscription::Kind;
use crate::domain::user::User;
use crate::http::graph::answer::{Answer, object};
use crate::http::graph::error::Result;
use crate::http::graph::list::{self, DIRECTORY, Expandable};
use crate::http::graph::route::{Call, routes};
use crate::ids::{DeviceId, UserId};
use crate::service::directory::{self, Listed};
use crate::wire::odata::edm;
use crate::wire::odata::query::{Expand, Query};
use crate::wire::odata::shape::Shape;

pub(super) const READ: Need = Kind::Device.need();

/// The properties of a device.
pub(super) const SHAPE: Shape = Shape {
    usual: &[
        "accountEnabled",
        "complianceExpirationDateTime",
        "deviceId",
        "deviceOwnership",
        "displayName",
        "isCompliant",
        "isManaged",
        "managementType",
        "manufacturer",
        "model",
        "operatingSystem",
        "operatingSystemVersion",
        "physicalIds",
        "registrationDateTime",
        "trustType",
    ],
    more: &[],
    beta: &[],
};

/// What is expanded of devices.
const EXPANDABLE: [Expandable; 2] = [("registeredOwners", &[]), ("registeredUsers", &[])];

routes! {
    Get "devices", READ => list_devices;
    Get "devices/$count", READ => count;
    Get "devices/delta", READ => delta;
    Get "devices/{id}", READ => show;
    Get "devices/{id}/memberOf", READ => member_of;
    Get "devices/{id}/transitiveMemberOf", READ => member_of;
    Get "devices/{id}/registeredOwners", READ => owners;
    Get "devices/{id}/registeredUsers", READ => owners;
}

/// What Graph calls a system.
pub(super) fn system(platform: Platform) -> &'static str {
    match platform {
        Platform::Windows => "Windows",
        Platform::MacOs => "macOS",
        Platform::Ios => "iOS",
        Platform::Android => "Android",
    }
}

/// A device as JSON, whole.
pub(super) fn json(found: &Listed) -> Map<String, Value> {
    let (device, verdict) = (&found.device, found.verdict.as_ref());
    let managed = device.state != State::Retired;
    object! {
        "id": device.id,
        "accountEnabled": true,
        "complianceExpirationDateTime": Value::Null,
        "deviceId": device.entra_device_id.clone().unwrap_or_else(|| device.id.to_string()),
        "deviceOwnership": Value::Null,
        "displayName": device.display_name,
        "isCompliant": verdict.map(|verdict| verdict.compliant),
        "isManaged": managed,
        "managementType": managed.then_some("MDM"),
        "manufacturer": device.manufacturer,
        "model": device.model,
        "operatingSystem": system(device.platform),
        "operatingSystemVersion": device.os_version,
        "physicalIds": found.physical_ids,
        "registrationDateTime": edm::time(found.created_at.0),
        "trustType": Value::Null,
    }
}

/// What is expanded of devices, by their ids: whose they are.
async fn expansions(call: &Call<'_>, query: &Query, devices: &[Listed]) -> Result<HashMap<DeviceId, Map<String, Value>>> {
    let mut more: HashMap<DeviceId, Map<String, Value>> = HashMap::new();
    if query.expand.is_empty() {
        return Ok(more);
    }
    for expand in &query.expand {
        users::SHAPE.check(&expand.query.select, call.is_beta())?;
    }
    let owners = directory::members::list_owners(call.app, devices.iter().filter_map(|one| one.device.user_id.clone()).collect()).await?;
    for found in devices {
        let owner = found.device.user_id.as_ref().and_then(|id| owners.get(id));
        let shown = |expand: &Expand| {
            let own = owner.map(|(user, created)| Value::Object(owner_json(call, (user, *created), &expand.query.select)));
            (expand.property.clone(), Value::Array(own.into_iter().collect()))
        };
        more.insert(found.device.id.clone(), query.expand.iter().map(shown).collect());
    }
    Ok(more)
}

/// A person among other directory objects.
fn owner_json(call: &Call<'_>, (user, created): (&User, Time), select: &[String]) -> Map<String, Value> {
    let mut shown = object! { "@odata.type": "#microsoft.graph.user" };
    shown.extend(users::SHAPE.show(users::json(user, created), select, call.is_beta()));
    shown
}

async fn list_devices(call: Call<'_>) -> Result<Answer> {
    let query = list::query_expanding(call.request, &SHAPE, &EXPANDABLE)?;
    let found = directory::page_devices(call.app, &query, &call.reach, list::limit(&query, DIRECTORY)).await?;
    let more = expansions(&call, &query, &found.objects).await?;
    let show = |found: &Listed| (json(found), more.get(&found.device.id).cloned().unwrap_or_default());
    list::page(&call, (&SHAPE, "devices"), &query, found, show)
}

async fn delta(call: Call<'_>) -> Result<Answer> {
    let follow = async |query: &_, limit| directory::follow::follow_devices(call.app, query, limit).await;
    list::delta(&call, (&SHAPE, DIRECTORY, "devices"), follow, json).await
}

async fn count(call: Call<'_>) -> Result<Answer> {
    let query = Query { count: true, ..list::query(call.request, &SHAPE)? };
    let found = directory::page_devices(call.app, &query, &call.reach, 1).await?;
    Ok(Answer::text(found.count.unwrap_or_default().to_string()))
}

async fn show(call: Call<'_>) -> Result<Answer> {
    let query = list::query_expanding(call.request, &SHAPE, &EXPANDABLE)?;
    let found = [directory::find_device(call.app, call.key(0)?, &call.reach).await?];
    let mut more = expansions(&call, &query, &found).await?;
    let [found] = &found;
    let own = more.remove(&found.device.id).unwrap_or_default();
    Ok(Answer::ok(list::single_expanded(&call, (&SHAPE, "devices"), &query, json(found), own)?))
}

/// Whose the device is: the one person who uses it, or nobody.
async fn owners(call: Call<'_>) -> Result<Answer> {
    let found = directory::find_device(call.app, call.key(0)?, &call.reach).await?;
    let owners = directory::members::list_owners(call.app, found.device.user_id.into_iter().collect()).await?;
    let typed = |(user, created): &(User, Time)| {
        let mut shown = object! { "@odata.type": "#microsoft.graph.user" };
        shown.extend(users::json(user, *created));
        shown
    };
    list::few(&call, &users::SHAPE, "directoryObjects", owners.values().map(typed).collect())
}

/// The devices of a person.
pub(super) async fn list_of_user(call: &Call<'_>, user: &UserId) -> Result<Answer> {
    let query = list::query(call.request, &SHAPE)?;
    let limit = list::limit(&query, DIRECTORY);
    let found = directory::members::page_devices_of(call.app, user, &query, &call.reach, limit).await?;
    let typed = |found: &Listed| {
        let mut shown = object! { "@odata.type": "#microsoft.graph.device" };
        shown.extend(json(found));
        (shown, Map::new())
    };
    list::page(call, (&SHAPE, "directoryObjects"), &query, found, typed)
}

async fn member_of(call: Call<'_>) -> Result<Answer> {
    let found = directory::find_device(call.app, call.key(0)?, &call.reach).await?;
    let groups = directory::groups_of_device(call.app, &found.device.id).await?;
    list::few(&call, &super::groups::SHAPE, "directoryObjects", groups.iter().map(super::groups::typed).collect())
}
