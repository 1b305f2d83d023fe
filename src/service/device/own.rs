//! The devices of a person, for that person.

use super::{list, show};
use crate::app::App;
use crate::domain::compliance::{State, Status};
use crate::ids::UserId;
use crate::service::Result;
use crate::store::devices::Filter;

/// How many are shown.
const MOST: i64 = 100;

/// A device as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnDevice {
    /// Its name.
    pub name: String,
    /// Of what platform.
    pub platform: String,
    /// When it was last heard of: a day.
    pub last_seen: String,
    /// How it stands, for people.
    pub state: &'static str,
    /// Whether something is to be done.
    pub wrong: bool,
    /// What it lacks.
    pub reasons: Vec<String>,
}

/// The devices of a user that have not left.
///
/// # Errors
/// Only the database's own.
pub async fn list_own(app: &App, user: &UserId) -> Result<Vec<OwnDevice>> {
    let filter = Filter { user_id: Some(user.clone()), ..Filter::default() };
    let mut own = Vec::new();
    for overview in list(app, filter, "", MOST).await? {
        if overview.device.state == crate::domain::device::State::Retired {
            continue;
        }
        let wrong = matches!(overview.compliance, State::Noncompliant | State::InGracePeriod | State::Error);
        let reasons = if wrong {
            let known = show(app, &overview.device.id).await?.reasons;
            let met = |status: Status| matches!(status, Status::Compliant | Status::NotApplicable | Status::Remediated);
            let missing = known.into_iter().filter(|reason| !met(reason.status));
            missing.map(|reason| reason.advice.map_or(reason.title.clone(), |advice| format!("{}: {advice}", reason.title))).collect()
        } else {
            Vec::new()
        };
        own.push(OwnDevice {
            name: overview.device.display_name.clone(),
            platform: overview.device.platform.to_string(),
            last_seen: overview.last_seen_at.to_string().chars().take(10).collect(),
            state: match overview.compliance {
                _ if overview.enrolling => "being set up",
                State::Compliant => "in order",
                State::InGracePeriod => "needs attention soon",
                State::Noncompliant => "not in order",
                State::Error => "could not be judged",
                _ => "not judged yet",
            },
            wrong,
            reasons,
        });
    }
    Ok(own)
}
