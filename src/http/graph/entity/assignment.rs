//! Assignment targets as Graph writes them, for policies and configurations alike.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::domain::access::Reach;
use crate::domain::assignment::{Assignment, Mode, Target};
use crate::http::graph::answer::{Answer, object};
use crate::http::graph::error::{GraphProblem, Result};
use crate::http::graph::list;
use crate::http::graph::route::Call;
use crate::ids::GroupId;
use crate::service::profile_sets::{self, Dated};
use crate::wire::odata::shape::Shape;

#[derive(Deserialize)]
struct Given {
    assignments: Vec<One>,
}

#[derive(Deserialize)]
struct One {
    target: Map<String, Value>,
}

fn read(target: &Map<String, Value>) -> Result<(Mode, Target)> {
    let text = |name: &str| target.get(name).and_then(Value::as_str);
    let kind = text("@odata.type").unwrap_or_default();
    let kind = kind.trim_start_matches('#').trim_start_matches("microsoft.graph.");
    if text("deviceAndAppManagementAssignmentFilterId").is_some_and(|id| !id.is_empty()) {
        return Err(GraphProblem::invalid("Assignment filters are not supported."));
    }
    let group = || {
        text("groupId")
            .and_then(GroupId::parse)
            .map(Target::Group)
            .ok_or_else(|| GraphProblem::invalid("groupId is not the id of a group."))
    };
    match kind {
        "groupAssignmentTarget" => Ok((Mode::Include, group()?)),
        "exclusionGroupAssignmentTarget" => Ok((Mode::Exclude, group()?)),
        "allDevicesAssignmentTarget" => Ok((Mode::Include, Target::AllDevices)),
        "allLicensedUsersAssignmentTarget" => Ok((Mode::Include, Target::AllUsers)),
        _ => Err(GraphProblem::invalid(
            "The target's @odata.type is groupAssignmentTarget, exclusionGroupAssignmentTarget, allDevicesAssignmentTarget or \
             allLicensedUsersAssignmentTarget.",
        )),
    }
}

/// An assignment as JSON; its id is made of the profile's and the group's.
pub(super) fn json(assignment: &Assignment, kind: &str) -> Map<String, Value> {
    let (word, group) = match (&assignment.target, assignment.mode) {
        (Target::Group(group), Mode::Include) => ("groupAssignmentTarget", Some(group)),
        (Target::Group(group), Mode::Exclude) => ("exclusionGroupAssignmentTarget", Some(group)),
        (Target::AllDevices, _) => ("allDevicesAssignmentTarget", None),
        (Target::AllUsers, _) => ("allLicensedUsersAssignmentTarget", None),
    };
    let mut target = Map::from_iter([("@odata.type".to_owned(), json!(format!("#microsoft.graph.{word}")))]);
    if let Some(group) = group {
        target.insert("groupId".into(), json!(group));
    }
    let place = group.map_or(word, |group| group.as_str());
    object! {
        "@odata.type": kind,
        "id": format!("{}_{place}", assignment.profile_id),
        "target": target,
    }
}

/// `POST …/assign`: puts these in the place of those that are there.
pub(super) async fn assign(call: &Call<'_>, found: &Dated, kind: &str, context: &str) -> Result<Answer> {
    let given: Given = call.request.json()?;
    let wanted = given.assignments.iter().map(|one| read(&one.target)).collect::<Result<Vec<_>>>()?;
    let stored = profile_sets::assign(call.app, &found.profile.id, wanted, &call.reach, &call.by()).await?;
    let shown: Vec<Value> = stored.iter().map(|one| Value::Object(json(one, kind))).collect();
    Ok(list::told(&call.app.config, call.request, context, &shown))
}

/// The properties of an assignment.
const SHAPE: Shape = Shape { usual: &["target"], more: &[], beta: &[] };

/// `GET …/assignments`.
pub(super) async fn show(call: &Call<'_>, found: &Dated, kind: &str, context: &str) -> Result<Answer> {
    let all = profile_sets::assignments_of(call.app, &found.profile.id).await?;
    list::few(call, &SHAPE, context, all.iter().map(|one| json(one, kind)).collect())
}

/// Whoever is bound to groups makes and changes no profiles: others may have them.
pub(super) fn check_unbound(reach: &Reach) -> Result<()> {
    if reach.is_all() {
        Ok(())
    } else {
        Err(GraphProblem::forbidden("Whoever is bound to groups changes no profiles; assigning them is possible."))
    }
}
