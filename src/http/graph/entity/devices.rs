//! `/devices`: the devices of the directory.

use serde_json::{Map, Value};

use crate::domain::access::Need;
use crate::domain::device::{Platform, State};
use crate::domain::subscription::Kind;
use crate::http::graph::answer::{Answer, object};
use crate::http::graph::error::Result;
use crate::http::graph::list::{self, DIRECTORY};
use crate::http::graph::route::{Call, routes};
use crate::service::directory;
use crate::wire::odata::edm;
use crate::wire::odata::query::Query;
use crate::wire::odata::shape::Shape;

const READ: Need = Kind::Device.need();

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

routes! {
    Get "devices", READ => list_devices;
    Get "devices/$count", READ => count;
    Get "devices/delta", READ => delta;
    Get "devices/{id}", READ => show;
    Get "devices/{id}/memberOf", READ => member_of;
    Get "devices/{id}/transitiveMemberOf", READ => member_of;
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
pub(super) fn json(found: &directory::Listed) -> Map<String, Value> {
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

async fn list_devices(call: Call<'_>) -> Result<Answer> {
    let find = async |query: &_, limit| directory::page_devices(call.app, query, &call.reach, limit).await;
    list::answer(&call, (&SHAPE, DIRECTORY, "devices"), find, json).await
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
    let found = directory::find_device(call.app, call.key(0)?, &call.reach).await?;
    Ok(Answer::ok(list::single(&call, &SHAPE, "devices", json(&found))?))
}

async fn member_of(call: Call<'_>) -> Result<Answer> {
    let found = directory::find_device(call.app, call.key(0)?, &call.reach).await?;
    let groups = directory::groups_of_device(call.app, &found.device.id).await?;
    Ok(list::whole(&call.app.config, call.request, "directoryObjects", &groups.iter().map(super::groups::typed).collect::<Vec<_>>()))
}
