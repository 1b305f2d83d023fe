//! `/deviceManagement/configurationPolicies`: the settings catalogue, as far as there are payloads for it: single sign-on with Platform SSO,
//! and Windows Hello for Business. A policy is a profile.

mod definitions;
mod instances;

use serde_json::{Map, Value, json};

use self::definitions::{ALL, CATEGORIES, PLATFORMS, word};
use super::assignment;
use super::profile_set::ProfileSet;
use crate::domain::access::{Action, Need, Scope};
use crate::domain::device::Platform;
use crate::domain::profile::{Document, Kind, Profile};
use crate::http::graph::answer::{Answer, object, tagged};
use crate::http::graph::error::{GraphProblem, Result};
use crate::http::graph::list;
use crate::http::graph::route::{Call, routes};
use crate::service::profile::Draft;
use crate::service::profile_sets::{self, Dated, Which};
use crate::wire::odata::shape::Shape;
use crate::wire::odata::{edm, quoted};

const READ: Need = Need { scopes: &[Scope::ConfigurationReadAll, Scope::ConfigurationReadWriteAll], action: Some(Action::ProfilesRead) };

const fn write(action: Action) -> Need {
    Need { scopes: &[Scope::ConfigurationReadWriteAll], action: Some(action) }
}

const SET: ProfileSet = ProfileSet {
    which: Which::Catalogue,
    path: "deviceManagement/configurationPolicies",
    assignment: "#microsoft.graph.deviceManagementConfigurationPolicyAssignment",
    json,
    expand: &[("settings", &[], |found| Value::Array(instances::settings(&found.profile.document, found.profile.platform)))],
    uniform: true,
    is_assigned: Some("isAssigned"),
};

/// The properties of a setting of a policy.
const SETTING: Shape = Shape { usual: &["settingInstance"], more: &[], beta: &[] };

/// The properties of a template.
const TEMPLATE: Shape = Shape {
    usual: &[
        "allowUnmanagedSettings",
        "baseId",
        "description",
        "displayName",
        "displayVersion",
        "lifecycleState",
        "platforms",
        "settingTemplateCount",
        "technologies",
        "templateFamily",
        "version",
    ],
    more: &[],
    beta: &[],
};

routes! {
    Get "deviceManagement/configurationPolicies", READ => list_policies, beta;
    Post "deviceManagement/configurationPolicies", write(Action::ProfilesCreate) => create, beta;
    Get "deviceManagement/configurationPolicies/$count", READ => count, beta;
    Get "deviceManagement/configurationPolicies/{id}", READ => show, beta;
    Put "deviceManagement/configurationPolicies/{id}", write(Action::ProfilesUpdate) => replace, beta;
    Patch "deviceManagement/configurationPolicies/{id}", write(Action::ProfilesUpdate) => update, beta;
    Delete "deviceManagement/configurationPolicies/{id}", write(Action::ProfilesDelete) => delete, beta;
    Get "deviceManagement/configurationPolicies/{id}/settings", READ => show_settings, beta;
    Get "deviceManagement/configurationPolicies/{id}/assignments", READ => show_assignments, beta;
    Post "deviceManagement/configurationPolicies/{id}/assign", write(Action::ProfilesAssign) => assign, beta;
    Get "deviceManagement/configurationSettings", READ => list_definitions, beta;
    Get "deviceManagement/configurationSettings/{id}", READ => show_definition, beta;
    Get "deviceManagement/configurationCategories", READ => list_categories, beta;
    Get "deviceManagement/configurationCategories/{id}", READ => show_category, beta;
    Get "deviceManagement/configurationPolicyTemplates", READ => list_templates, beta;
}

fn json(_: &Call<'_>, found: &Dated) -> Map<String, Value> {
    let profile = &found.profile;
    tagged(object! {
        "id": profile.id,
        "createdDateTime": edm::time(found.created_at.0),
        "creationSource": Value::Null,
        "description": profile.document.description,
        "lastModifiedDateTime": edm::time(found.updated_at.0),
        "name": profile.display_name,
        "platforms": word(Some(profile.platform)),
        "roleScopeTagIds": json!(["0"]),
        "settingCount": instances::settings(&profile.document, profile.platform).len(),
        "technologies": "mdm",
        "templateReference": json!({
            "templateId": "",
            "templateFamily": "none",
            "templateDisplayName": Value::Null,
            "templateDisplayVersion": Value::Null,
        }),
    })
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

async fn show_settings(call: Call<'_>) -> Result<Answer> {
    let found = SET.named(&call).await?;
    let all = instances::settings(&found.profile.document, found.profile.platform);
    let all = all.into_iter().filter_map(|one| match one {
        Value::Object(one) => Some(one),
        _ => None,
    });
    list::few(&call, &SETTING, &format!("{}('{}')/settings", SET.path, found.profile.id), all.collect())
}

/// What a body says of a policy.
#[derive(Default)]
struct Given {
    name: Option<String>,
    description: Option<String>,
    platform: Option<Platform>,
    settings: Option<Value>,
}

impl Given {
    fn read(body: &Map<String, Value>) -> Result<Self> {
        let wrong = |property: &str, expected: &str| GraphProblem::invalid(format!("{property} is {expected}."));
        let mut given = Self::default();
        for (property, value) in body.iter().filter(|(property, _)| !property.contains('@')) {
            match property.as_str() {
                "name" => given.name = Some(value.as_str().ok_or_else(|| wrong(property, "a text"))?.to_owned()),
                "description" => given.description = Some(value.as_str().unwrap_or_default().to_owned()),
                "platforms" => {
                    let found = PLATFORMS.iter().find(|(word, _)| value.as_str() == Some(word));
                    given.platform = Some(found.ok_or_else(|| wrong(property, "windows10, macOS or iOS"))?.1);
                }
                "technologies" => {
                    let known = |word: &str| matches!(word.trim(), "mdm" | "appleRemoteManagement");
                    if !value.as_str().is_some_and(|words| words.split(',').all(known)) {
                        return Err(wrong(property, "mdm"));
                    }
                }
                "templateReference" => {
                    if value.get("templateId").and_then(Value::as_str).is_some_and(|id| !id.is_empty()) {
                        return Err(wrong(property, "without a templateId: there are no templates"));
                    }
                }
                "settings" => given.settings = Some(value.clone()),
                "id"
                | "createdDateTime"
                | "lastModifiedDateTime"
                | "creationSource"
                | "isAssigned"
                | "settingCount"
                | "roleScopeTagIds" => {}
                "assignments" | "priorityMetaData" if value.is_null() || value.as_array().is_some_and(Vec::is_empty) => {}
                other => return Err(GraphProblem::invalid(format!("A policy has no property '{}' here.", quoted(other)))),
            }
        }
        Ok(given)
    }
}

async fn create(call: Call<'_>) -> Result<Answer> {
    assignment::check_unbound(&call.reach)?;
    let given = Given::read(&call.request.json()?)?;
    let needed = |property: &str| GraphProblem::invalid(format!("A policy needs {property}."));
    let platform = given.platform.ok_or_else(|| needed("platforms"))?;
    let mut document = Document { description: given.description.unwrap_or_default(), ..Document::default() };
    instances::read(&mut document, platform, &given.settings.ok_or_else(|| needed("settings"))?)?;
    let display_name = given.name.ok_or_else(|| needed("name"))?;
    let draft = Draft { display_name, kind: Kind::Configuration, platform, document };
    let id = profile_sets::create(call.app, draft, &call.by()).await?;
    SET.created(&call, &id).await
}

/// Writes a body over the policy; with `whole` what it does not say is gone.
async fn store(call: &Call<'_>, whole: bool) -> Result<Answer> {
    assignment::check_unbound(&call.reach)?;
    let found = SET.seen(call).await?;
    let given = Given::read(&call.request.json()?)?;
    if given.platform.is_some_and(|platform| platform != found.profile.platform) {
        return Err(GraphProblem::invalid("platforms is what it was: a policy stays with its system."));
    }
    if given.settings.is_some() != whole {
        return Err(GraphProblem::invalid("settings are changed by PUT of the whole policy, with all of its settings."));
    }
    let draft = |profile: Profile| {
        let mut document = profile.document;
        if let Some(settings) = &given.settings {
            instances::read(&mut document, profile.platform, settings)?;
        }
        match given.description {
            Some(description) => document.description = description,
            None if whole => document.description = String::new(),
            None => {}
        }
        let display_name = given.name.unwrap_or(profile.display_name);
        Ok::<_, GraphProblem>(Draft { display_name, kind: Kind::Configuration, platform: profile.platform, document })
    };
    profile_sets::change(call.app, &found.profile, draft, &call.by()).await?;
    SET.changed(call, &found.profile.id).await
}

async fn replace(call: Call<'_>) -> Result<Answer> {
    store(&call, true).await
}

async fn update(call: Call<'_>) -> Result<Answer> {
    store(&call, false).await
}

const DEFINITIONS: &str = "deviceManagement/configurationSettings";

async fn list_definitions(call: Call<'_>) -> Result<Answer> {
    list::fixed(&call, DEFINITIONS, ALL.values().map(definitions::Definition::json).collect())
}

async fn show_definition(call: Call<'_>) -> Result<Answer> {
    let found = ALL.get(call.key(0)?).ok_or_else(GraphProblem::not_found)?;
    list::fixed_single(&call, DEFINITIONS, found.json())
}

const CATEGORY_SET: &str = "deviceManagement/configurationCategories";

fn category(one: &definitions::Category) -> Map<String, Value> {
    object! {
        "id": one.id,
        "categoryDescription": Value::Null,
        "childCategoryIds": Value::Array(Vec::new()),
        "description": one.help,
        "displayName": one.title,
        "name": one.title,
        "parentCategoryId": Value::Null,
        "platforms": one.platforms,
        "rootCategoryId": one.id,
        "settingUsage": "configuration",
        "technologies": "mdm",
    }
}

async fn list_categories(call: Call<'_>) -> Result<Answer> {
    list::fixed(&call, CATEGORY_SET, CATEGORIES.iter().map(category).collect())
}

async fn show_category(call: Call<'_>) -> Result<Answer> {
    let id = call.key(0)?;
    let found = CATEGORIES.iter().find(|one| one.id.eq_ignore_ascii_case(id)).ok_or_else(GraphProblem::not_found)?;
    list::fixed_single(&call, CATEGORY_SET, category(found))
}

/// There are none: what Graph has templates for has no payload here.
async fn list_templates(call: Call<'_>) -> Result<Answer> {
    list::few(&call, &TEMPLATE, "deviceManagement/configurationPolicyTemplates", Vec::new())
}
