//! How the devices that a profile is for stand with it.

use super::Result;
use super::page::{self, Found, find};
use crate::app::App;
use crate::domain::access::Reach;
use crate::domain::compliance::Status;
use crate::domain::desired::State;
use crate::domain::profile::{Kind, Profile};
use crate::store::odata::Within;
use crate::store::{compliance, desired_items, standings};
use crate::wire::odata::query::Query;

pub use crate::store::standings::Standing;

/// A page of the devices that a profile is for.
///
/// # Errors
/// [`page::Error::Wrong`] when the query asks for what they have not.
pub async fn page_standings(
    app: &App,
    profile: &Profile,
    query: &Query,
    reach: &Reach,
    limit: u32,
) -> std::result::Result<Found<Standing>, page::Error> {
    let set = match profile.kind {
        Kind::Compliance => &standings::POLICY,
        Kind::Configuration => &standings::CONFIGURATION,
    };
    let mut within = page::within(reach);
    within.push(Within::Equal("t.profile_id", profile.id.to_string()));
    let of = profile.id.clone();
    find(app, set, query, within, limit, move |conn, devices| standings::list_standings(conn, &of, devices)).await
}

/// How many devices there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// They have it, or follow it.
    pub success: i64,
    /// They do not follow it.
    pub failed: i64,
    /// They do not take it, or cannot be judged.
    pub error: i64,
    /// Another profile says something else.
    pub conflict: i64,
    /// They have not answered.
    pub pending: i64,
    /// They have no such thing.
    pub not_applicable: i64,
}

/// Counts the devices that a profile is for, in the database.
///
/// # Errors
/// When the database fails.
pub async fn count_standings(app: &App, profile: &Profile) -> Result<Counts> {
    let (id, kind) = (profile.id.clone(), profile.kind);
    let counted = app.store.read(move |conn| {
        let mut counts = Counts::default();
        match kind {
            Kind::Compliance => {
                for (status, count) in compliance::count_by_policy(conn, &id)? {
                    let place = match status {
                        Some(Status::Compliant | Status::Remediated) => &mut counts.success,
                        Some(Status::NonCompliant) => &mut counts.failed,
                        Some(Status::Error) => &mut counts.error,
                        Some(Status::Conflict) => &mut counts.conflict,
                        Some(Status::NotApplicable) => &mut counts.not_applicable,
                        Some(Status::Unknown) | None => &mut counts.pending,
                        Some(Status::NotAssigned) => continue,
                    };
                    *place += count;
                }
            }
            Kind::Configuration => {
                for (state, count) in desired_items::count_by_state(conn, &id)? {
                    let place = match state {
                        State::Verified | State::Delivered => &mut counts.success,
                        State::Failed => &mut counts.error,
                        State::Conflict => &mut counts.conflict,
                        State::NotApplicable => &mut counts.not_applicable,
                        State::Pending | State::Sent => &mut counts.pending,
                        State::Assigned | State::Removing => continue,
                    };
                    *place += count;
                }
            }
        }
        Ok(counts)
    });
    Ok(counted.await?)
}
