//! How devices stand with a profile that they should have, as the API finds it.

use std::collections::HashMap;

use diesel::prelude::*;

use super::devices::REACH;
use super::odata::{Kind, Property, Set};
use super::schema::desired_items;
use super::{Conn, Error, Result, compliance, devices, users};
use crate::clock::Time;
use crate::domain::compliance::PolicyResult;
use crate::domain::desired::State;
use crate::domain::device::Device;
use crate::domain::user::User;
use crate::ids::{DeviceId, ProfileId, UserId};

/// What Graph calls the states of a configuration.
const STATES: &[(&str, &str)] = &[
    ("unknown", "pending"),
    ("unknown", "sent"),
    ("remediated", "delivered"),
    ("compliant", "verified"),
    ("error", "failed"),
    ("conflict", "conflict"),
    ("notApplicable", "not-applicable"),
    ("notAssigned", "removing"),
];

/// Devices that should have a configuration: one index leads through those of a profile in the order of the key.
pub const CONFIGURATION: Set = Set {
    name: "configuration statuses",
    from: "desired_items t JOIN devices d ON d.id = t.device_id LEFT JOIN users u ON u.id = d.user_id AND u.deleted_at IS NULL",
    key: "t.device_id",
    base: "t.desired_version IS NOT NULL",
    reach: REACH,
    properties: &[
        Property::new("deviceDisplayName", "d.display_name", Kind::Text),
        Property::new("deviceModel", "d.model", Kind::Text),
        Property::new("userName", "u.display_name", Kind::Text),
        Property::new("userPrincipalName", "u.upn", Kind::Text),
        Property::new("status", "t.state", Kind::Word(STATES)),
    ],
    lists: &[],
    types: &[("deviceConfigurationDeviceStatus", "TRUE")],
    newest_first: None,
};

/// Devices that a compliance policy is for. Verdicts are documents: they are not filtered by.
pub const POLICY: Set = Set {
    name: "policy statuses",
    properties: &[
        Property::new("deviceDisplayName", "d.display_name", Kind::Text),
        Property::new("deviceModel", "d.model", Kind::Text),
        Property::new("userName", "u.display_name", Kind::Text),
        Property::new("userPrincipalName", "u.upn", Kind::Text),
    ],
    types: &[("deviceComplianceDeviceStatus", "TRUE")],
    ..CONFIGURATION
};

/// How a device stands with a profile.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The device.
    pub device: Device,
    /// Its user.
    pub user: Option<User>,
    /// How far it has got.
    pub state: State,
    /// How the policy judges it, if it is one and has judged it.
    pub result: Option<PolicyResult>,
    /// When that became known.
    pub reported_at: Option<Time>,
}

/// How these devices stand with a profile, those that have a row for it.
///
/// # Errors
/// Only the database's own.
pub fn list_standings(conn: &mut Conn, profile: &ProfileId, of: &[String]) -> Result<Vec<(String, Standing)>> {
    let rows: Vec<(String, String, i64)> = desired_items::table
        .filter(desired_items::profile_id.eq(profile.as_str()))
        .filter(desired_items::device_id.eq_any(of))
        .select((desired_items::device_id, desired_items::state, desired_items::updated_at))
        .load(conn)?;
    let mut known: HashMap<DeviceId, Device> =
        devices::list_by_ids(conn, of)?.into_iter().map(|(device, _)| (device.id.clone(), device)).collect();
    let people: Vec<String> = known.values().filter_map(|device| device.user_id.as_ref()).map(UserId::to_string).collect();
    let people: HashMap<UserId, User> = users::list_by_ids(conn, &people)?.into_iter().map(|(user, _)| (user.id.clone(), user)).collect();
    let mut judged = compliance::list_stored(conn, of)?;
    let mut all = Vec::new();
    for (id, state, updated_at) in rows {
        let state = State::parse(&state).ok_or_else(|| Error::corrupt("desired_items.state"))?;
        let Some(device) = known.remove(&DeviceId::from_store(id.clone())) else { continue };
        let user = device.user_id.as_ref().and_then(|id| people.get(id)).cloned();
        let verdict = judged.remove(&device.id);
        let judged_at = verdict.as_ref().map(|stored| stored.evaluated_at);
        let own = |result: &PolicyResult| result.policy == profile.as_str();
        let result = verdict.and_then(|stored| stored.verdict.policies.into_iter().find(own));
        let reported_at = match state {
            State::Assigned => judged_at.filter(|_| result.is_some()),
            State::Pending | State::Sent => None,
            _ => Some(Time(updated_at)),
        };
        all.push((id, Standing { device, user, state, result, reported_at }));
    }
    Ok(all)
}
