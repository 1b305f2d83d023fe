//! The devices of a person, for that person.

use super::{Reason, list, show};
use crate::app::App;
use crate::clock::Time;
use crate::domain::compliance::{State, Status};
use crate::domain::device::{self, Platform};
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
    pub platform: &'static str,
    /// When it was last heard of: a day.
    pub last_seen: String,
    /// How it stands, for people: what comes after "is".
    pub state: String,
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
        if overview.device.state == device::State::Retired {
            continue;
        }
        let wrong = matches!(overview.compliance, State::Noncompliant | State::Error);
        let (mut reasons, mut until) = (Vec::new(), None);
        if wrong || overview.compliance == State::InGracePeriod {
            let known = show(app, &overview.device.id).await?;
            until = known.grace_expires_at;
            let met = |status: Status| matches!(status, Status::Compliant | Status::NotApplicable | Status::Remediated);
            let missing = known.reasons.into_iter().filter(|reason| !met(reason.status));
            let text = |reason: Reason| reason.advice.map_or(reason.title.clone(), |advice| format!("{}: {advice}", reason.title));
            reasons = missing.map(text).collect();
        }
        let day = |at: Time| at.to_string().chars().take(10).collect::<String>();
        own.push(OwnDevice {
            name: overview.device.display_name.clone(),
            platform: match overview.device.platform {
                Platform::Windows => "Windows PC",
                Platform::MacOs => "Mac",
                Platform::Ios => "iPhone or iPad",
                Platform::Android => "Android device",
            },
            last_seen: day(overview.last_seen_at),
            state: match (overview.compliance, until) {
                _ if overview.enrolling => "being set up".into(),
                (State::Compliant, _) => "in order".into(),
                (State::InGracePeriod, Some(until)) => format!("to be put in order by {}", day(until)),
                (State::InGracePeriod, None) => "to be put in order soon".into(),
                (State::Noncompliant, _) => "not in order".into(),
                (State::Error, _) => "not judged: something failed".into(),
                _ => "not judged yet".into(),
            },
            wrong,
            reasons,
        });
    }
    Ok(own)
}
