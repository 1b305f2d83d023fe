//! `/deviceManagement/deviceCompliancePolicies`: what devices have to be like. The properties of a type are the rules of the catalogue for its
//! platform, under the same names.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::profile_set::ProfileSet;
use super::{assignment, standings};
use crate::catalogue::{RuleRow, ValueType, catalogue};
use crate::domain::access::{Action, Need, Scope};
use crate::domain::device::Platform;
use crate::domain::profile::{Compliance, Document, Kind, Profile};
use crate::http::graph::answer::{Answer, tagged};
use crate::http::graph::error::{GraphProblem, Result};
use crate::http::graph::list;
use crate::http::graph::route::{Call, routes};
use crate::ids::ProfileId;
use crate::service::profile::Draft;
use crate::service::profile_sets::{self, Dated, Which};
use crate::wire::odata::edm;

const READ: Need = Need { scopes: &[Scope::ConfigurationReadAll, Scope::ConfigurationReadWriteAll], action: Some(Action::PoliciesRead) };

const fn write(action: Action) -> Need {
    Need { scopes: &[Scope::ConfigurationReadWriteAll], action: Some(action) }
}

const SET: ProfileSet = ProfileSet {
    which: Which::Policies,
    path: "deviceManagement/deviceCompliancePolicies",
    assignment: "#microsoft.graph.deviceCompliancePolicyAssignment",
    json: |call, found| json(found, call.is_beta()),
    expand: &[("scheduledActionsForRule", &["scheduledActionConfigurations"], actions)],
    uniform: true,
    is_assigned: None,
};

/// The types, each with its platform.
const TYPES: [(&str, Platform); 3] = [
    ("#microsoft.graph.windows10CompliancePolicy", Platform::Windows),
    ("#microsoft.graph.macOSCompliancePolicy", Platform::MacOs),
    ("#microsoft.graph.iosCompliancePolicy", Platform::Ios),
];

/// Rules that Graph has no property for, by platform: they are kept, and shown by the command line.
const OURS: [(Platform, &[&str]); 2] = [
    (
        Platform::MacOs,
        &["attested", "attestedSecureBoot", "attestedSystemIntegrityProtection", "secureBootEnabled", "validOperatingSystemBuildRanges"],
    ),
    (Platform::Ios, &["attested", "storageRequireEncryption", "validOperatingSystemBuildRanges"]),
];

/// Rules whose properties only beta has.
const BETA: [&str; 13] = [
    "activeFirewallRequired",
    "antiSpywareRequired",
    "antivirusRequired",
    "defenderEnabled",
    "defenderVersion",
    "firmwareProtectionEnabled",
    "kernelDmaProtectionEnabled",
    "memoryIntegrityEnabled",
    "rtpEnabled",
    "signatureOutOfDate",
    "tpmRequired",
    "validOperatingSystemBuildRanges",
    "virtualizationBasedSecurityEnabled",
];

routes! {
    Get "deviceManagement/deviceCompliancePolicies", READ => list_policies;
    Post "deviceManagement/deviceCompliancePolicies", write(Action::PoliciesCreate) => create;
    Get "deviceManagement/deviceCompliancePolicies/$count", READ => count;
    Get "deviceManagement/deviceCompliancePolicies/{id}", READ => show;
    Patch "deviceManagement/deviceCompliancePolicies/{id}", write(Action::PoliciesUpdate) => update;
    Delete "deviceManagement/deviceCompliancePolicies/{id}", write(Action::PoliciesDelete) => delete;
    Get "deviceManagement/deviceCompliancePolicies/{id}/assignments", READ => show_assignments;
    Post "deviceManagement/deviceCompliancePolicies/{id}/assign", write(Action::PoliciesAssign) => assign;
    Get "deviceManagement/deviceCompliancePolicies/{id}/scheduledActionsForRule", READ => show_actions;
    Get "deviceManagement/deviceCompliancePolicies/{id}/deviceStatuses", READ => show_statuses;
    Get "deviceManagement/deviceCompliancePolicies/{id}/deviceStatusOverview", READ => show_overview;
    Post "deviceManagement/deviceCompliancePolicies/{id}/scheduleActionsForRules", write(Action::PoliciesUpdate) => schedule;
}

/// The rules that a type has.
fn rules(platform: Platform, beta: bool) -> impl Iterator<Item = &'static RuleRow> {
    let ours = move |id: &str| OURS.iter().any(|(of, ids)| *of == platform && ids.contains(&id));
    let shown = move |id: &str| beta || !BETA.contains(&id);
    catalogue().rules().filter(move |row| row.platform == platform.as_str() && !ours(&row.id) && shown(&row.id))
}

fn json(found: &Dated, beta: bool) -> Map<String, Value> {
    let profile = &found.profile;
    let kind = TYPES.iter().find(|(_, platform)| *platform == profile.platform).map_or("", |(kind, _)| kind);
    let policy = profile.document.compliance.clone().unwrap_or(Compliance { rules: std::collections::BTreeMap::new(), grace_hours: 0 });
    let mut whole = Map::from_iter([
        ("@odata.type".to_owned(), json!(kind)),
        ("id".to_owned(), json!(profile.id)),
        ("createdDateTime".to_owned(), edm::time(found.created_at.0)),
        ("description".to_owned(), json!(profile.document.description)),
        ("displayName".to_owned(), json!(profile.display_name)),
        ("lastModifiedDateTime".to_owned(), edm::time(found.updated_at.0)),
        ("version".to_owned(), json!(profile.version)),
    ]);
    for row in rules(profile.platform, beta) {
        let unset = match row.value {
            ValueType::Boolean => json!(false),
            ValueType::BuildRanges => json!([]),
            ValueType::Choice if row.choices.contains_key("deviceDefault") => json!("deviceDefault"),
            ValueType::Integer | ValueType::Version | ValueType::Choice => Value::Null,
        };
        whole.insert(row.id.clone(), policy.rules.get(&row.id).cloned().unwrap_or(unset));
    }
    tagged(whole)
}

/// The one action of a policy: not compliant after the grace.
fn actions(found: &Dated) -> Value {
    let hours = found.profile.document.compliance.as_ref().map_or(0, |policy| policy.grace_hours);
    json!([{
        "@odata.type": "#microsoft.graph.deviceComplianceScheduledActionForRule",
        "id": found.profile.id,
        "ruleName": "PasswordRequired",
        "scheduledActionConfigurations": [{
            "@odata.type": "#microsoft.graph.deviceComplianceActionItem",
            "id": found.profile.id,
            "gracePeriodHours": hours,
            "actionType": "block",
            "notificationTemplateId": "00000000-0000-0000-0000-000000000000",
            "notificationMessageCCList": [],
        }],
    }])
}

async fn list_policies(call: Call<'_>) -> Result<Answer> {
    SET.list(&call).await
}

async fn count(call: Call<'_>) -> Result<Answer> {
    SET.count(&call).await
}

async fn show(call: Call<'_>) -> Result<Answer> {
    SET.show(&call).await
}

async fn delete(call: Call<'_>) -> Result<Answer> {
    SET.delete(&call).await
}

async fn show_assignments(call: Call<'_>) -> Result<Answer> {
    SET.show_assignments(&call).await
}

async fn assign(call: Call<'_>) -> Result<Answer> {
    SET.assign(&call).await
}

async fn show_statuses(call: Call<'_>) -> Result<Answer> {
    standings::list(&call, &SET).await
}

async fn show_overview(call: Call<'_>) -> Result<Answer> {
    standings::overview(&call, &SET).await
}

/// What is not to be asked for, in one of the ways in which clients say so.
fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(all) => all.is_empty(),
        Value::String(text) => matches!(text.as_str(), "" | "deviceDefault" | "notConfigured" | "unavailable"),
        Value::Number(_) | Value::Bool(true) | Value::Object(_) => false,
    }
}

/// Writes what the body has over a policy.
fn change((platform, beta): (Platform, bool), name: &mut String, document: &mut Document, body: &Map<String, Value>) -> Result<()> {
    let mut policy = document.compliance.take().unwrap_or(Compliance { rules: std::collections::BTreeMap::new(), grace_hours: 0 });
    for (property, value) in body {
        match property.as_str() {
            "displayName" => value.as_str().ok_or_else(|| GraphProblem::invalid("displayName is a text."))?.clone_into(name),
            "description" => value.as_str().unwrap_or_default().clone_into(&mut document.description),
            "scheduledActionsForRule" => policy.grace_hours = grace(value)?,
            "id" | "createdDateTime" | "lastModifiedDateTime" | "version" | "roleScopeTagIds" | "assignments" => {}
            _ if property.contains('@') => {}
            _ if rules(platform, beta).any(|row| row.id == *property) => {
                if is_unset(value) {
                    policy.rules.remove(property);
                } else {
                    policy.rules.insert(property.clone(), value.clone());
                }
            }
            // What asks for nothing loses nothing.
            _ if is_unset(value) => {}
            _ => {
                let property: String = property.chars().take(60).collect();
                return Err(GraphProblem::invalid(format!("There is no rule '{property}' for this platform.")));
            }
        }
    }
    document.compliance = Some(policy);
    Ok(())
}

/// The grace of the one action that there is: `block`.
fn grace(value: &Value) -> Result<u32> {
    let wrong = || GraphProblem::invalid("A policy has exactly one scheduled action, of the type block, with gracePeriodHours.");
    let all: Vec<&Value> = value
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|rule| rule.get("scheduledActionConfigurations").and_then(Value::as_array).into_iter().flatten())
        .collect();
    let [one] = all.as_slice() else { return Err(wrong()) };
    if one.get("actionType").and_then(Value::as_str) != Some("block") {
        return Err(wrong());
    }
    match one.get("gracePeriodHours") {
        None | Some(Value::Null) => Ok(0),
        Some(hours) => hours.as_u64().and_then(|hours| u32::try_from(hours).ok()).ok_or_else(wrong),
    }
}

async fn create(call: Call<'_>) -> Result<Answer> {
    assignment::check_unbound(&call.reach)?;
    let body: Map<String, Value> = call.request.json()?;
    let kind = body.get("@odata.type").and_then(Value::as_str).unwrap_or_default();
    let known = TYPES.iter().find(|(known, _)| known.trim_start_matches('#').eq_ignore_ascii_case(kind.trim_start_matches('#')));
    let (_, platform) = known.ok_or_else(|| {
        let names: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
        GraphProblem::invalid(format!("@odata.type is one of {}.", names.join(", ")))
    })?;
    if !body.contains_key("scheduledActionsForRule") {
        return Err(GraphProblem::invalid("A policy needs scheduledActionsForRule with an action of the type block."));
    }
    let (mut name, mut document) = (String::new(), Document::default());
    change((*platform, call.is_beta()), &mut name, &mut document, &body)?;
    let draft = Draft { display_name: name, kind: Kind::Compliance, platform: *platform, document };
    let id = profile_sets::create(call.app, draft, &call.by()).await?;
    SET.created(&call, &id).await
}

async fn store(call: &Call<'_>, body: &Map<String, Value>) -> Result<ProfileId> {
    assignment::check_unbound(&call.reach)?;
    let found = SET.seen(call).await?.profile;
    let draft = |profile: Profile| {
        let (mut name, mut document) = (profile.display_name, profile.document);
        change((profile.platform, call.is_beta()), &mut name, &mut document, body)?;
        Ok::<_, GraphProblem>(Draft { display_name: name, kind: Kind::Compliance, platform: profile.platform, document })
    };
    profile_sets::change(call.app, &found, draft, &call.by()).await?;
    Ok(found.id)
}

async fn update(call: Call<'_>) -> Result<Answer> {
    let id = store(&call, &call.request.json()?).await?;
    SET.changed(&call, &id).await
}

async fn show_actions(call: Call<'_>) -> Result<Answer> {
    let found = SET.named(&call).await?;
    let all = actions(&found);
    let shown = all.as_array().into_iter().flatten().filter_map(Value::as_object).cloned().collect();
    list::fixed(&call, &format!("{}('{}')/scheduledActionsForRule", SET.path, found.profile.id), shown)
}

#[derive(Deserialize)]
struct Schedule {
    #[serde(rename = "deviceComplianceScheduledActionForRules")]
    actions: Value,
}

async fn schedule(call: Call<'_>) -> Result<Answer> {
    let given: Schedule = call.request.json()?;
    let body = Map::from_iter([("scheduledActionsForRule".to_owned(), given.actions)]);
    store(&call, &body).await?;
    Ok(Answer::done())
}
