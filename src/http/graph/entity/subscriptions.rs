//! `/subscriptions`: who wants to hear of changes.

use serde_json::{Map, Value};

use crate::clock::Time;
use crate::domain::access::{Need, Scope};
use crate::domain::subscription::{Subscription, words};
use crate::http::graph::answer::{Answer, base, entity, object};
use crate::http::graph::error::{GraphProblem, Result};
use crate::http::graph::list;
use crate::http::graph::route::{Call, routes};
use crate::service::subscription::{self, New};
use crate::wire::odata::edm;
use crate::wire::odata::filter::moment;
use crate::wire::odata::shape::Shape;

const SET: &str = "subscriptions";

/// The properties of a subscription.
const SHAPE: Shape = Shape {
    usual: &[
        "applicationId",
        "changeType",
        "clientState",
        "creatorId",
        "encryptionCertificate",
        "encryptionCertificateId",
        "expirationDateTime",
        "includeResourceData",
        "latestSupportedTlsVersion",
        "lifecycleNotificationUrl",
        "notificationQueryOptions",
        "notificationUrl",
        "notificationUrlAppId",
        "resource",
    ],
    more: &[],
    beta: &[],
};

/// Subscriptions are the caller's own; what each is about has to be readable for it besides.
const OWN: Need = Need {
    scopes: &[
        Scope::DeviceReadAll,
        Scope::DeviceReadWriteAll,
        Scope::DirectoryReadAll,
        Scope::DirectoryReadWriteAll,
        Scope::GroupReadAll,
        Scope::GroupReadWriteAll,
        Scope::ManagedDevicesReadAll,
        Scope::ManagedDevicesReadWriteAll,
        Scope::UserReadAll,
        Scope::UserReadWriteAll,
    ],
    action: None,
};

routes! {
    Get "subscriptions", OWN => list_subscriptions;
    Post "subscriptions", OWN => create;
    Get "subscriptions/{id}", OWN => show;
    Patch "subscriptions/{id}", OWN => renew;
    Delete "subscriptions/{id}", OWN => delete;
    Post "subscriptions/{id}/reauthorize", OWN => reauthorize;
}

fn json(call: &Call<'_>, one: &Subscription) -> Result<Map<String, Value>> {
    let state = subscription::client_state(call.app, one)?;
    Ok(object! {
        "id": one.id,
        "applicationId": call.caller.client_id,
        "changeType": words(&one.types),
        "clientState": state.map(|state| String::from_utf8_lossy(state.expose()).into_owned()),
        "creatorId": subscription::creator(one),
        "encryptionCertificate": Value::Null,
        "encryptionCertificateId": Value::Null,
        "expirationDateTime": edm::time(one.expires_at.0),
        "includeResourceData": Value::Null,
        "latestSupportedTlsVersion": "v1_2",
        "lifecycleNotificationUrl": one.lifecycle_url,
        "notificationQueryOptions": Value::Null,
        "notificationUrl": one.notification_url,
        "notificationUrlAppId": Value::Null,
        "resource": one.resource,
    })
}

async fn list_subscriptions(call: Call<'_>) -> Result<Answer> {
    let all = subscription::list(call.app, call.caller).await?;
    list::few(&call, &SHAPE, SET, all.iter().map(|one| json(&call, one)).collect::<Result<_>>()?)
}

async fn show(call: Call<'_>) -> Result<Answer> {
    let one = subscription::load(call.app, call.caller, call.key(0)?).await?;
    Ok(Answer::ok(list::single(&call, &SHAPE, SET, json(&call, &one)?)?))
}

fn time(value: &Value) -> Result<Time> {
    let at = value.as_str().and_then(moment);
    at.map(Time).ok_or_else(|| GraphProblem::invalid("expirationDateTime is a moment such as 2026-01-02T03:04:05Z."))
}

/// What the body has; what is not supported is refused by name unless it asks for nothing.
fn read(body: &Map<String, Value>) -> Result<New> {
    let text = |name: &str| match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(GraphProblem::invalid(format!("{name} is a text."))),
    };
    let needed = |name: &str| text(name)?.ok_or_else(|| GraphProblem::invalid(format!("A value is required for the property {name}.")));
    for (name, value) in body {
        let known = match name.as_str() {
            "changeType" | "notificationUrl" | "lifecycleNotificationUrl" | "resource" | "expirationDateTime" | "clientState" => true,
            "id" | "applicationId" | "creatorId" => true,
            "includeResourceData" => value.is_null() || *value == false,
            "latestSupportedTlsVersion" => value.is_null() || ["v1_2", "v1_3"].iter().any(|known| value == known),
            _ => value.is_null() || name.contains('@'),
        };
        if !known {
            let name: String = name.chars().take(60).collect();
            return Err(GraphProblem::invalid(format!("The property '{name}' does not exist, or asks for what is not supported.")));
        }
    }
    Ok(New {
        resource: needed("resource")?,
        change_type: needed("changeType")?,
        notification_url: needed("notificationUrl")?,
        lifecycle_url: text("lifecycleNotificationUrl")?,
        client_state: text("clientState")?,
        expires_at: time(body.get("expirationDateTime").unwrap_or(&Value::Null))?,
    })
}

async fn create(call: Call<'_>) -> Result<Answer> {
    let new = read(&call.request.json()?)?;
    let made = subscription::create(call.app, call.caller, new, &call.by()).await?;
    let location = format!("{}/{SET}/{}", base(&call.app.config, call.request.version), made.id);
    Ok(Answer::created(location, entity(&call.app.config, call.request, SET, json(&call, &made)?)))
}

async fn renew(call: Call<'_>) -> Result<Answer> {
    let body: Map<String, Value> = call.request.json()?;
    if let Some(name) = body.keys().find(|name| *name != "expirationDateTime" && !name.contains('@')) {
        let name: String = name.chars().take(60).collect();
        return Err(GraphProblem::invalid(format!("Of a subscription only expirationDateTime can be changed, not '{name}'.")));
    }
    let end = time(body.get("expirationDateTime").unwrap_or(&Value::Null))?;
    let renewed = subscription::renew(call.app, call.caller, call.key(0)?, end, &call.by()).await?;
    Ok(Answer::ok(entity(&call.app.config, call.request, SET, json(&call, &renewed)?)))
}

async fn delete(call: Call<'_>) -> Result<Answer> {
    subscription::delete(call.app, call.caller, call.key(0)?, &call.by()).await?;
    Ok(Answer::done())
}

async fn reauthorize(call: Call<'_>) -> Result<Answer> {
    subscription::reauthorize(call.app, call.caller, call.key(0)?).await?;
    Ok(Answer::done())
}
