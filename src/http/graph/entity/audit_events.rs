//! `/deviceManagement/auditEvents` and `/auditLogs/directoryAudits`: what was done by whom.

use serde_json::{Map, Value, json};

use crate::domain::access::{Action, Need, Scope};
use crate::http::graph::answer::{Answer, object};
use crate::http::graph::error::{GraphProblem, Result};
use crate::http::graph::list::{self, MANAGEMENT};
use crate::http::graph::route::{Call, routes};
use crate::service::audit::{self, Row};
use crate::wire::odata::edm;
use crate::wire::odata::filter::{Comparison, Expr, Literal};
use crate::wire::odata::query::Query;
use crate::wire::odata::shape::Shape;

const READ: Need = Need { scopes: &[Scope::AuditLogReadAll, Scope::RbacReadAll, Scope::RbacReadWriteAll], action: Some(Action::AuditRead) };

const EVENT: Shape = Shape {
    usual: &[
        "activity",
        "activityDateTime",
        "activityOperationType",
        "activityResult",
        "activityType",
        "actor",
        "category",
        "componentName",
        "correlationId",
        "displayName",
        "resources",
    ],
    more: &[],
    beta: &[],
};

const AUDIT: Shape = Shape {
    usual: &[
        "activityDateTime",
        "activityDisplayName",
        "additionalDetails",
        "category",
        "correlationId",
        "initiatedBy",
        "loggedByService",
        "operationType",
        "result",
        "resultReason",
        "targetResources",
    ],
    more: &[],
    beta: &[],
};

routes! {
    Get "deviceManagement/auditEvents", READ => list_events;
    Get "deviceManagement/auditEvents/{id}", READ => show_event;
    Get "auditLogs/directoryAudits", READ => list_audits;
    Get "auditLogs/directoryAudits/{id}", READ => show_audit;
}

/// What was done, as Graph sorts it.
fn operation(row: &Row) -> &'static str {
    match row.action.rsplit('.').next() {
        Some("create" | "import") => "Create",
        Some("delete") => "Delete",
        Some("update" | "change" | "grant") => "Patch",
        Some("reveal" | "show" | "export") => "Get",
        _ => "Action",
    }
}

/// The kind of an object and its id: `user:…`.
fn parts(text: &str) -> (&str, &str) {
    text.split_once(':').unwrap_or(("system", text))
}

/// What changed: the members of the states before and after.
fn changes(row: &Row) -> Vec<Value> {
    let read =
        |text: &Option<String>| text.as_deref().and_then(|text| serde_json::from_str::<Map<String, Value>>(text).ok()).unwrap_or_default();
    let (before, after) = (read(&row.before), read(&row.after));
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let text = |value: Option<&Value>| value.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    let change = |name: &&String| {
        let (old, new) = (text(before.get(*name)), text(after.get(*name)));
        (old != new).then(|| json!({ "displayName": name, "oldValue": old, "newValue": new }))
    };
    names.iter().filter_map(change).collect()
}

/// A row as an event of device management.
fn event(row: &Row) -> Map<String, Value> {
    let (kind, id) = parts(&row.target);
    let (who, name) = parts(&row.actor);
    object! {
        "id": row.seq.to_string(),
        "activity": row.action,
        "activityDateTime": edm::time(row.at),
        "activityOperationType": operation(row),
        "activityResult": "Success",
        "activityType": row.action,
        "actor": json!({
            "@odata.type": "#microsoft.graph.auditActor",
            "auditActorType": if who == "app" { "Application" } else { "ItPro" },
            "applicationId": (who == "app").then_some(name),
            "userId": (who == "user").then_some(name),
            "userPrincipalName": (who != "user" && who != "app").then_some(&row.actor),
            "ipAddress": row.origin,
            "userPermissions": [],
        }),
        "category": row.action.split('.').next(),
        "componentName": "Muster",
        // Graph has no null here.
        "correlationId": "00000000-0000-0000-0000-000000000000",
        "displayName": row.action,
        "resources": json!([{
            "@odata.type": "#microsoft.graph.auditResource",
            "auditResourceType": kind,
            "displayName": row.target,
            "resourceId": id,
            "modifiedProperties": changes(row),
        }]),
    }
}

/// A row as an audit of the directory.
fn audit(row: &Row) -> Map<String, Value> {
    let (kind, id) = parts(&row.target);
    let (who, name) = parts(&row.actor);
    let initiator = match who {
        "user" => json!({ "user": { "id": name, "ipAddress": row.origin }, "app": null }),
        "app" => json!({ "app": { "appId": name }, "user": null }),
        _ => json!({ "app": { "displayName": row.actor }, "user": null }),
    };
    object! {
        "id": row.seq.to_string(),
        "activityDateTime": edm::time(row.at),
        "activityDisplayName": row.action,
        "additionalDetails": Value::Array(Vec::new()),
        "category": row.action.split('.').next(),
        "correlationId": Value::Null,
        "initiatedBy": initiator,
        "loggedByService": "Muster",
        "operationType": operation(row),
        "result": "success",
        "resultReason": Value::Null,
        "targetResources": json!([{ "id": id, "type": kind, "displayName": row.target, "modifiedProperties": changes(row) }]),
    }
}

async fn list_events(call: Call<'_>) -> Result<Answer> {
    let find = async |query: &_, limit| audit::page_rows(call.app, query, &call.reach, limit).await;
    list::answer(&call, (&EVENT, MANAGEMENT, "deviceManagement/auditEvents"), find, event).await
}

async fn list_audits(call: Call<'_>) -> Result<Answer> {
    let find = async |query: &_, limit| audit::page_rows(call.app, query, &call.reach, limit).await;
    list::answer(&call, (&AUDIT, MANAGEMENT, "auditLogs/directoryAudits"), find, audit).await
}

async fn named(call: &Call<'_>) -> Result<Row> {
    let id = call.key(0)?;
    id.parse::<i64>().map_err(|_| GraphProblem::not_found())?;
    let query = Query { filter: Some(Expr::Compare("id".into(), Comparison::Equal, Literal::Text(id.to_owned()))), ..Query::default() };
    let found = audit::page_rows(call.app, &query, &call.reach, 1).await?;
    found.objects.into_iter().next().ok_or_else(GraphProblem::not_found)
}

async fn show_event(call: Call<'_>) -> Result<Answer> {
    let row = named(&call).await?;
    Ok(Answer::ok(list::single(&call, &EVENT, "deviceManagement/auditEvents", event(&row))?))
}

async fn show_audit(call: Call<'_>) -> Result<Answer> {
    let row = named(&call).await?;
    Ok(Answer::ok(list::single(&call, &AUDIT, "auditLogs/directoryAudits", audit(&row))?))
}
