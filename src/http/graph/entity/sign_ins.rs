//! `/auditLogs/signIns`: who tried to sign in, and what became of it.

use serde_json::{Map, Value, json};

use crate::domain::access::{Action, Need, Scope};
use crate::domain::sign_in::SignIn;
use crate::http::graph::answer::{Answer, object};
use crate::http::graph::error::{GraphProblem, Result};
use crate::http::graph::list::{self, MANAGEMENT};
use crate::http::graph::route::{Call, routes};
use crate::ids::SignInId;
use crate::service::identity::sign_in;
use crate::wire::odata::edm;
use crate::wire::odata::filter::{Comparison, Expr, Literal};
use crate::wire::odata::query::Query;
use crate::wire::odata::shape::Shape;

const READ: Need = Need { scopes: &[Scope::AuditLogReadAll], action: Some(Action::AuditRead) };

const SIGN_INS: &str = "auditLogs/signIns";

const SHAPE: Shape = Shape {
    usual: &[
        "appDisplayName",
        "appId",
        "appliedConditionalAccessPolicies",
        "authenticationDetails",
        "clientAppUsed",
        "conditionalAccessStatus",
        "correlationId",
        "createdDateTime",
        "deviceDetail",
        "ipAddress",
        "isInteractive",
        "location",
        "resourceDisplayName",
        "resourceId",
        "riskDetail",
        "riskEventTypes_v2",
        "riskLevelAggregated",
        "riskLevelDuringSignIn",
        "riskState",
        "signInEventTypes",
        "status",
        "userAgent",
        "userDisplayName",
        "userId",
        "userPrincipalName",
    ],
    more: &[],
    beta: &["authenticationDetails", "signInEventTypes", "userAgent"],
};

routes! {
    Get "auditLogs/signIns", READ => list_sign_ins;
    Get "auditLogs/signIns/{id}", READ => show;
}

/// What is known; an empty text is nothing.
fn known(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// What Graph calls a way to sign in.
fn method(word: &str) -> &str {
    match word {
        "tap" => "Temporary Access Pass",
        "passkey" => "Passkey",
        other => other,
    }
}

/// A row as JSON. Nobody judges risks here, which Graph calls hidden.
fn json(row: &SignIn) -> Map<String, Value> {
    let at = edm::time(row.created_at.0);
    object! {
        "id": row.id,
        "appDisplayName": known(&row.app_display_name),
        "appId": known(&row.app_id),
        "appliedConditionalAccessPolicies": Value::Array(Vec::new()),
        "authenticationDetails": json!([{
            "authenticationMethod": method(&row.method),
            "authenticationStepDateTime": at,
            "authenticationStepResultDetail": known(&row.failure_reason),
            "succeeded": row.error_code == 0,
        }]),
        "clientAppUsed": known(&row.client_app_used),
        "conditionalAccessStatus": "notApplied",
        "correlationId": known(&row.correlation_id),
        "createdDateTime": at,
        "deviceDetail": json!({
            "browser": known(&row.browser()),
            "deviceId": Value::Null,
            "displayName": Value::Null,
            "isCompliant": Value::Null,
            "isManaged": Value::Null,
            "operatingSystem": known(row.operating_system()),
            "trustType": Value::Null,
        }),
        "ipAddress": known(&row.ip_address),
        "isInteractive": row.is_interactive,
        "location": Value::Null,
        "resourceDisplayName": known(&row.resource_display_name),
        "resourceId": known(&row.resource_id),
        "riskDetail": "hidden",
        "riskEventTypes_v2": Value::Array(Vec::new()),
        "riskLevelAggregated": "hidden",
        "riskLevelDuringSignIn": "hidden",
        "riskState": "none",
        "signInEventTypes": [if row.is_interactive { "interactiveUser" } else { "nonInteractiveUser" }],
        "status": json!({ "errorCode": row.error_code, "failureReason": known(&row.failure_reason), "additionalDetails": Value::Null }),
        "userAgent": known(&row.user_agent),
        "userDisplayName": known(&row.user_display_name),
        "userId": known(&row.user_id),
        "userPrincipalName": known(&row.user_principal_name),
    }
}

async fn list_sign_ins(call: Call<'_>) -> Result<Answer> {
    let find = async |query: &_, limit| sign_in::page_rows(call.app, query, &call.reach, limit).await;
    list::answer(&call, (&SHAPE, MANAGEMENT, SIGN_INS), find, json).await
}

async fn show(call: Call<'_>) -> Result<Answer> {
    let id = SignInId::parse(call.key(0)?).ok_or_else(GraphProblem::not_found)?;
    let query = Query { filter: Some(Expr::Compare("id".into(), Comparison::Equal, Literal::Text(id.to_string()))), ..Query::default() };
    let found = sign_in::page_rows(call.app, &query, &call.reach, 1).await?;
    let row = found.objects.into_iter().next().ok_or_else(GraphProblem::not_found)?;
    Ok(Answer::ok(list::single(&call, &SHAPE, SIGN_INS, json(&row))?))
}
