//! `/deviceManagement/roleDefinitions` and `/roleAssignments`: who may do what where, in the shape of Intune's.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::domain::access::{Action, Assignment, Need, Principal, Reach, Role, Scope};
use crate::http::graph::answer::{Answer, base, entity, object};
use crate::http::graph::error::{GraphProblem, Result};
use crate::http::graph::list;
use crate::http::graph::route::{Call, routes};
use crate::ids::{GroupId, RoleAssignmentId, RoleId};
use crate::service::role;
use crate::wire::odata::shape::Shape;

const READ: Need = Need { scopes: &[Scope::RbacReadAll, Scope::RbacReadWriteAll], action: Some(Action::RolesRead) };

const fn write(action: Action) -> Need {
    Need { scopes: &[Scope::RbacReadWriteAll], action: Some(action) }
}

/// The properties of a role.
const DEFINITION: Shape = Shape {
    usual: &["description", "displayName", "isBuiltIn", "isBuiltInRoleDefinition", "rolePermissions"],
    more: &[],
    beta: &["isBuiltInRoleDefinition"],
};

/// The properties of an assignment.
const ASSIGNMENT: Shape =
    Shape { usual: &["description", "displayName", "members", "resourceScopes", "scopeType"], more: &[], beta: &["scopeType"] };

const DEFINITIONS: &str = "deviceManagement/roleDefinitions";
const ASSIGNMENTS: &str = "deviceManagement/roleAssignments";

routes! {
    Get "deviceManagement/roleDefinitions", READ => list_roles;
    Post "deviceManagement/roleDefinitions", write(Action::RolesCreate) => create;
    Get "deviceManagement/roleDefinitions/{id}", READ => show;
    Patch "deviceManagement/roleDefinitions/{id}", write(Action::RolesUpdate) => update;
    Delete "deviceManagement/roleDefinitions/{id}", write(Action::RolesDelete) => delete;
    Get "deviceManagement/roleDefinitions/{id}/roleAssignments", READ => assignments_of;
    Get "deviceManagement/roleAssignments", READ => list_assignments;
    Post "deviceManagement/roleAssignments", write(Action::RolesAssign) => assign;
    Get "deviceManagement/roleAssignments/{id}", READ => show_assignment;
    Patch "deviceManagement/roleAssignments/{id}", write(Action::RolesAssign) => change_assignment;
    Delete "deviceManagement/roleAssignments/{id}", write(Action::RolesAssign) => unassign;
}

fn json_role(role: &Role, is_beta: bool) -> Map<String, Value> {
    let actions: Vec<&str> = role.actions().map(Action::as_str).collect();
    let mut shown = object! {
        "@odata.type": "#microsoft.graph.deviceAndAppManagementRoleDefinition",
        "id": role.id,
        "description": role.description,
        "displayName": role.display_name,
        "isBuiltIn": role.built_in,
        "rolePermissions": json!([{
            "@odata.type": "#microsoft.graph.rolePermission",
            "resourceActions": [{
                "@odata.type": "#microsoft.graph.resourceAction", "allowedResourceActions": actions, "notAllowedResourceActions": [],
            }],
        }]),
    };
    if is_beta {
        shown.insert("isBuiltInRoleDefinition".into(), json!(role.built_in));
    }
    shown
}

/// Who has a role as Graph has it: ids of groups, people and applications in one list.
fn json_assignment(assignment: &Assignment, beta: bool) -> Map<String, Value> {
    let id = |member: &Principal| match member {
        Principal::User(id) => id.to_string(),
        Principal::Group(id) => id.to_string(),
        Principal::Application(id) => id.to_string(),
    };
    let scopes: Vec<String> = match &assignment.reach {
        Reach::All => Vec::new(),
        Reach::Groups(groups) => groups.iter().map(GroupId::to_string).collect(),
    };
    let mut whole = object! {
        "@odata.type": "#microsoft.graph.deviceAndAppManagementRoleAssignment",
        "id": assignment.id,
        "description": assignment.description,
        "displayName": assignment.display_name,
        "members": assignment.members.iter().map(id).collect::<Vec<_>>(),
        "resourceScopes": scopes,
    };
    if beta {
        let word = if assignment.reach.is_all() { "allDevicesAndLicensedUsers" } else { "resourceScope" };
        whole.insert("scopeType".into(), json!(word));
    }
    whole
}

async fn list_roles(call: Call<'_>) -> Result<Answer> {
    let all = role::list(call.app).await?.iter().map(|role| json_role(role, call.is_beta())).collect();
    list::few(&call, &DEFINITION, DEFINITIONS, all)
}

async fn named(call: &Call<'_>) -> Result<Role> {
    let id = RoleId::parse(call.key(0)?).ok_or_else(GraphProblem::not_found)?;
    role::list(call.app).await?.into_iter().find(|role| role.id == id).ok_or_else(GraphProblem::not_found)
}

async fn show(call: Call<'_>) -> Result<Answer> {
    Ok(Answer::ok(list::single(&call, &DEFINITION, DEFINITIONS, json_role(&named(&call).await?, call.is_beta()))?))
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RoleGiven {
    display_name: Option<String>,
    description: Option<String>,
    role_permissions: Option<Vec<Permission>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Permission {
    resource_actions: Vec<ResourceAction>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ResourceAction {
    allowed_resource_actions: Vec<String>,
    not_allowed_resource_actions: Vec<String>,
}

impl RoleGiven {
    /// What it allows: all that is allowed, without what is not.
    fn actions(&self) -> Result<Option<BTreeSet<Action>>> {
        let Some(permissions) = &self.role_permissions else { return Ok(None) };
        let all = || permissions.iter().flat_map(|permission| &permission.resource_actions);
        let mut allowed = role::read_actions(all().flat_map(|one| &one.allowed_resource_actions).map(String::as_str))?;
        for denied in role::read_actions(all().flat_map(|one| &one.not_allowed_resource_actions).map(String::as_str))? {
            allowed.remove(&denied);
        }
        Ok(Some(allowed))
    }
}

async fn create(call: Call<'_>) -> Result<Answer> {
    let given: RoleGiven = call.request.json()?;
    let actions = given.actions()?.unwrap_or_default();
    let name = given.display_name.ok_or_else(|| GraphProblem::invalid("A value is required for the property displayName."))?;
    let made = role::create(call.app, &name, &given.description.unwrap_or_default(), actions, Some(call.caller), &call.by()).await?;
    let location = format!("{}/{DEFINITIONS}/{}", base(&call.app.config, call.request.version), made.id);
    Ok(Answer::created(location, entity(&call.app.config, call.request, DEFINITIONS, json_role(&made, call.is_beta()))))
}

async fn update(call: Call<'_>) -> Result<Answer> {
    let before = named(&call).await?;
    let given: RoleGiven = call.request.json()?;
    let actions = given.actions()?.unwrap_or_else(|| before.actions().collect());
    let changed = match before.built_in {
        true => before,
        false => Role::custom(
            before.id,
            given.display_name.unwrap_or(before.display_name),
            given.description.unwrap_or(before.description),
            actions,
        )?,
    };
    role::update(call.app, changed.clone(), Some(call.caller), &call.by()).await?;
    Ok(Answer::ok(entity(&call.app.config, call.request, DEFINITIONS, json_role(&changed, call.is_beta()))))
}

async fn delete(call: Call<'_>) -> Result<Answer> {
    let role = named(&call).await?;
    role::delete(call.app, &role.id, Some(call.caller), &call.by()).await?;
    Ok(Answer::done())
}

async fn assignments_of(call: Call<'_>) -> Result<Answer> {
    let role = named(&call).await?;
    let all = role::list_assignments(call.app, Some(&role.id)).await?;
    list::few(&call, &ASSIGNMENT, ASSIGNMENTS, all.iter().map(|one| json_assignment(one, call.is_beta())).collect())
}

async fn list_assignments(call: Call<'_>) -> Result<Answer> {
    let all = role::list_assignments(call.app, None).await?;
    list::few(&call, &ASSIGNMENT, ASSIGNMENTS, all.iter().map(|one| json_assignment(one, call.is_beta())).collect())
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AssignmentGiven {
    display_name: Option<String>,
    description: Option<String>,
    members: Option<Vec<String>>,
    resource_scopes: Option<Vec<String>>,
    scope_members: Option<Vec<String>>,
    scope_type: Option<String>,
    #[serde(rename = "roleDefinition@odata.bind")]
    role: Option<String>,
}

impl AssignmentGiven {
    /// Where it reaches; `None` when the body does not say.
    fn reach(&self) -> Result<Option<Reach>> {
        let groups = self.resource_scopes.as_ref().or(self.scope_members.as_ref());
        let everywhere = matches!(self.scope_type.as_deref(), Some("allDevices" | "allLicensedUsers" | "allDevicesAndLicensedUsers"));
        if everywhere {
            return Ok(Some(Reach::All));
        }
        let Some(groups) = groups else { return Ok(None) };
        let parse = |text: &String| GroupId::parse(text).ok_or_else(|| GraphProblem::invalid("resourceScopes holds ids of groups."));
        Ok(Some(Reach::Groups(groups.iter().map(parse).collect::<Result<_>>()?)))
    }
}

async fn members(call: &Call<'_>, ids: &[String]) -> Result<BTreeSet<Principal>> {
    let mut members = BTreeSet::new();
    for id in ids {
        members.insert(role::find_principal(call.app, id).await?);
    }
    Ok(members)
}

async fn assign(call: Call<'_>) -> Result<Answer> {
    let given: AssignmentGiven = call.request.json()?;
    let bound = given.role.as_deref().ok_or_else(|| GraphProblem::invalid("A value is required for roleDefinition@odata.bind."))?;
    let id = bound.trim_end_matches(['/', ')', '\'']).rsplit(['/', '(', '\'']).next().unwrap_or_default();
    let role_id = RoleId::parse(id).ok_or_else(|| GraphProblem::invalid("roleDefinition@odata.bind names no role."))?;
    let reach = given
        .reach()?
        .ok_or_else(|| GraphProblem::invalid("Say where the role reaches: resourceScopes, or scopeType allDevicesAndLicensedUsers."))?;
    let assignment = Assignment {
        id: RoleAssignmentId::new(),
        role: role_id,
        display_name: given
            .display_name
            .clone()
            .ok_or_else(|| GraphProblem::invalid("A value is required for the property displayName."))?,
        description: given.description.clone().unwrap_or_default(),
        members: members(&call, given.members.as_deref().unwrap_or_default()).await?,
        reach,
    };
    let made = role::assign(call.app, assignment, Some(call.caller), &call.by()).await?;
    let location = format!("{}/{ASSIGNMENTS}/{}", base(&call.app.config, call.request.version), made.id);
    Ok(Answer::created(location, entity(&call.app.config, call.request, ASSIGNMENTS, json_assignment(&made, call.is_beta()))))
}

async fn named_assignment(call: &Call<'_>) -> Result<Assignment> {
    let id = RoleAssignmentId::parse(call.key(0)?).ok_or_else(GraphProblem::not_found)?;
    Ok(role::load_assignment(call.app, &id).await?)
}

async fn show_assignment(call: Call<'_>) -> Result<Answer> {
    let found = named_assignment(&call).await?;
    Ok(Answer::ok(list::single(&call, &ASSIGNMENT, ASSIGNMENTS, json_assignment(&found, call.is_beta()))?))
}

async fn change_assignment(call: Call<'_>) -> Result<Answer> {
    let before = named_assignment(&call).await?;
    let given: AssignmentGiven = call.request.json()?;
    let reach = given.reach()?.unwrap_or(before.reach);
    let named = match &given.members {
        Some(ids) => members(&call, ids).await?,
        None => before.members,
    };
    let changed = Assignment {
        display_name: given.display_name.unwrap_or(before.display_name),
        description: given.description.unwrap_or(before.description),
        members: named,
        reach,
        ..before
    };
    let made = role::assign(call.app, changed, Some(call.caller), &call.by()).await?;
    Ok(Answer::ok(entity(&call.app.config, call.request, ASSIGNMENTS, json_assignment(&made, call.is_beta()))))
}

async fn unassign(call: Call<'_>) -> Result<Answer> {
    let found = named_assignment(&call).await?;
    role::unassign(call.app, &found.id, Some(call.caller), &call.by()).await?;
    Ok(Answer::done())
}
