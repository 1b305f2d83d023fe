//! How the devices that a policy or configuration is for stand with it: one by one, and counted.

use serde_json::{Map, Value};

use super::device_states::status;
use super::profile_set::ProfileSet;
use crate::domain::compliance::Status;
use crate::domain::profile::{Kind, Profile};
use crate::http::graph::answer::{Answer, object};
use crate::http::graph::error::{GraphProblem, Result};
use crate::http::graph::list::{self, MANAGEMENT};
use crate::http::graph::route::Call;
use crate::service::standing::{self, Standing};
use crate::wire::odata::edm;
use crate::wire::odata::shape::Shape;

const SHAPE: Shape = Shape {
    usual: &[
        "complianceGracePeriodExpirationDateTime",
        "deviceDisplayName",
        "deviceModel",
        "lastReportedDateTime",
        "status",
        "userName",
        "userPrincipalName",
    ],
    more: &[],
    beta: &[],
};

/// The user of a device that has none.
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

fn json(profile: &Profile, one: &Standing) -> Map<String, Value> {
    let (user, device) = (one.user.as_ref(), &one.device);
    let judged = one.result.as_ref();
    let word = match profile.kind {
        Kind::Compliance => judged.map_or(Status::Unknown, |result| result.status).as_str(),
        Kind::Configuration => status(one.state),
    };
    object! {
        "id": format!("{}_{}_{}", device.user_id.as_ref().map_or(NOBODY, |id| id.as_str()), profile.id, device.id),
        "complianceGracePeriodExpirationDateTime": edm::time_or_never(judged.and_then(|result| result.grace_expires_at).map(|at| at.0)),
        "deviceDisplayName": device.display_name,
        "deviceModel": device.model,
        "lastReportedDateTime": edm::time_or_never(one.reported_at.map(|at| at.0)),
        "status": word,
        "userName": user.map(|user| &user.display_name),
        "userPrincipalName": user.map(|user| &user.upn),
    }
}

/// `GET …/deviceStatuses`.
pub(super) async fn list(call: &Call<'_>, set: &ProfileSet) -> Result<Answer> {
    let query = list::query(call.request, &SHAPE)?;
    let profile = set.named(call).await?.profile;
    let found = standing::page_standings(call.app, &profile, &query, &call.reach, list::limit(&query, MANAGEMENT)).await?;
    let context = format!("{}('{}')/deviceStatuses", set.path, profile.id);
    list::page(call, (&SHAPE, &context), &query, found, |one| (json(&profile, one), Map::new()))
}

/// `GET …/deviceStatusOverview`.
pub(super) async fn overview(call: &Call<'_>, set: &ProfileSet) -> Result<Answer> {
    if !call.reach.is_all() {
        return Err(GraphProblem::forbidden("All devices are counted: whoever is bound to groups reads deviceStatuses."));
    }
    let profile = set.named(call).await?.profile;
    let counts = standing::count_standings(call.app, &profile).await?;
    // v1.0 has no word for conflicts.
    let failed = if call.is_beta() { counts.failed } else { counts.failed + counts.conflict };
    let mut whole = object! {
        "id": profile.id,
        "configurationVersion": profile.version,
        "errorCount": counts.error,
        "failedCount": failed,
        "lastUpdateDateTime": edm::time(call.app.now().0),
        "notApplicableCount": counts.not_applicable,
        "pendingCount": counts.pending,
        "successCount": counts.success,
    };
    if call.is_beta() {
        whole.insert("conflictCount".into(), counts.conflict.into());
        whole.insert("notApplicablePlatformCount".into(), 0.into());
    }
    list::fixed_single(call, &format!("{}('{}')/deviceStatusOverview", set.path, profile.id), whole)
}
