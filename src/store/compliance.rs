//! Verdicts.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::certificates::{Live, list_live};
use super::dialect::each_backend;
use super::schema::{authorities, certificates, compliance_states, desired_items, devices, enrollments, profile_versions, users};
use super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::domain::authority;
use crate::domain::certificate::CertificateStatus;
use crate::domain::compliance::{Person, Policy, State, Status, Verdict};
use crate::domain::device::{self, Platform};
use crate::domain::enrollment;
use crate::domain::profile::Kind;
use crate::ids::{DeviceId, ProfileId, UserId};

/// A verdict as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The verdict.
    pub verdict: Verdict,
    /// When the device was last judged.
    pub evaluated_at: Time,
    /// When the state last became another one.
    pub changed_at: Time,
    /// Compare-and-set counter.
    pub version: i64,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = compliance_states)]
struct Row {
    reevaluate_at: Option<i64>,
    detail: String,
    evaluated_at: i64,
    changed_at: i64,
    version: i64,
}

impl TryFrom<Row> for Stored {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let mut verdict: Verdict = serde_json::from_str(&row.detail)?;
        // The column is moved by set-wise updates that leave the document alone.
        verdict.reevaluate_at = row.reevaluate_at.map(Time);
        Ok(Self { verdict, evaluated_at: Time(row.evaluated_at), changed_at: Time(row.changed_at), version: row.version })
    }
}

/// What a verdict depends on, apart from facts and policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The device's platform.
    pub platform: Platform,
    /// Its system's version, as it last said it.
    pub os_version: Option<String>,
    /// What is known of its edition.
    pub os_edition: Option<String>,
    /// Where the device is in its life.
    pub state: device::State,
    /// Whose it is.
    pub person: Person,
    /// When it was last heard of: its last session, or its newest enrolment.
    pub last_seen_at: Time,
    /// Its enrolment was begun and is not finished: it was not heard of since, or is an Apple device that cannot be reached yet.
    pub enrolling: bool,
}

/// The verdicts of these devices, of those that were ever judged.
///
/// # Errors
/// Only the database's own.
pub fn list_verdicts(conn: &mut Conn, devices: &[String]) -> Result<HashMap<DeviceId, Verdict>> {
    Ok(list_stored(conn, devices)?.into_iter().map(|(device, stored)| (device, stored.verdict)).collect())
}

/// The same as they are stored.
///
/// # Errors
/// Only the database's own.
pub fn list_stored(conn: &mut Conn, devices: &[String]) -> Result<HashMap<DeviceId, Stored>> {
    let rows: Vec<(String, Row)> = compliance_states::table
        .filter(compliance_states::device_id.eq_any(devices))
        .select((compliance_states::device_id, Row::as_select()))
        .load(conn)?;
    rows.into_iter().map(|(device, row)| Ok((DeviceId::from_store(device), Stored::try_from(row)?))).collect()
}

/// The verdict of a device, if it was ever judged.
///
/// # Errors
/// Only the database's own.
pub fn find_verdict(conn: &mut Conn, device: &DeviceId) -> Result<Option<Stored>> {
    let row = compliance_states::table.find(device.as_str()).select(Row::as_select()).first(conn).optional()?;
    row.map(Stored::try_from).transpose()
}

/// What the verdict of the device depends on.
///
/// # Errors
/// [`Error::NotFound`] when there is no such device.
pub fn load_subject(conn: &mut Conn, device: &DeviceId) -> Result<Subject> {
    type Fields = (String, Option<String>, Option<String>, String, Option<String>, Option<bool>, i64);
    let present = users::id.nullable().eq(devices::user_id).and(users::deleted_at.is_null());
    let (platform, os_version, os_edition, state, user, enabled, created_at): Fields = devices::table
        .left_join(users::table.on(present))
        .filter(devices::id.eq(device.as_str()))
        .select((
            devices::platform,
            devices::os_version,
            devices::os_edition,
            devices::state,
            devices::user_id,
            users::enabled.nullable(),
            devices::created_at,
        ))
        .first(conn)?;
    let all: Vec<(Option<i64>, i64, String)> = enrollments::table
        .filter(enrollments::device_id.eq(device.as_str()))
        .select((enrollments::last_seen_at, enrollments::enrolled_at, enrollments::state))
        .load(conn)?;
    // Of all its enrolments, ended or not: what was heard stays heard.
    let last_seen_at = all.iter().map(|(seen, enrolled, _)| seen.unwrap_or(*enrolled)).max().unwrap_or(created_at);
    let platform = Platform::parse(&platform).ok_or_else(|| Error::corrupt("devices.platform"))?;
    let in_force = |wanted: enrollment::State| all.iter().any(|(.., state)| state == wanted.as_str());
    Ok(Subject {
        platform,
        enrolling: in_force(enrollment::State::Provisioned) && !in_force(enrollment::State::Active),
        os_version,
        os_edition,
        state: device::State::parse(&state).ok_or_else(|| Error::corrupt("devices.state"))?,
        person: match (user, enabled) {
            (None, _) => Person::Nobody,
            (Some(_), Some(true)) => Person::Present,
            (Some(_), _) => Person::Missing,
        },
        last_seen_at: Time(last_seen_at),
    })
}

/// Whether the device cannot come any more because its identity was revoked or put on hold, or fell with its authority, and it has no other.
///
/// # Errors
/// Only the database's own.
pub fn is_cut_off(conn: &mut Conn, device: &DeviceId, now: Time) -> Result<bool> {
    let found: Option<(String, String)> = enrollments::table
        .inner_join(certificates::table.on(certificates::id.nullable().eq(enrollments::certificate_id)))
        .inner_join(authorities::table.on(authorities::id.eq(certificates::authority_id)))
        .filter(enrollments::device_id.eq(device.as_str()))
        .filter(enrollments::state.ne(enrollment::State::Ended.as_str()))
        .select((certificates::status, authorities::status))
        .first(conn)
        .optional()?;
    let good = |(status, authority): (String, String)| {
        status == CertificateStatus::Active.as_str() && authority != authority::Status::Revoked.as_str()
    };
    if found.is_none_or(good) {
        return Ok(false);
    }
    // One that was renewed and was not used yet.
    let live = Live { device: Some(device.clone()), identity: Some(true), standing: true, ..Live::default() };
    Ok(list_live(conn, &live, None, now, 1)?.is_empty())
}

/// The compliance policies that the device should follow, oldest first.
///
/// # Errors
/// Only the database's own.
pub fn list_policies(conn: &mut Conn, device: &DeviceId) -> Result<Vec<Policy>> {
    let rows: Vec<(String, i64, String, Option<String>)> = desired_items::table
        .inner_join(devices::table.on(devices::id.eq(desired_items::device_id)))
        .inner_join(
            profile_versions::table.on(profile_versions::profile_id
                .eq(desired_items::profile_id)
                .and(profile_versions::version.nullable().eq(desired_items::desired_version))),
        )
        .filter(desired_items::device_id.eq(device.as_str()))
        .filter(desired_items::kind.eq(Kind::Compliance.as_str()))
        .order(desired_items::profile_id)
        .select((desired_items::profile_id, profile_versions::version, devices::platform, profile_versions::rules))
        .load(conn)?;
    rows.into_iter()
        .map(|(id, version, platform, rules)| {
            let rules = rules.ok_or_else(|| Error::corrupt("profile_versions.rules"))?;
            Ok(Policy {
                id,
                version,
                platform: Platform::parse(&platform).ok_or_else(|| Error::corrupt("devices.platform"))?,
                content: serde_json::from_str(&rules)?,
            })
        })
        .collect()
}

/// Stores a verdict over the one that was read.
///
/// # Errors
/// [`Error::Busy`] when another node judged the device in the meantime: run the transaction again.
pub fn claim_verdict(tx: &mut Tx<'_>, device: &DeviceId, verdict: &Verdict, previous: Option<&Stored>, now: Time) -> Result<()> {
    let changed_at = previous.filter(|p| p.verdict.state == verdict.state).map_or(now, |p| p.changed_at);
    let version = previous.map_or(1, |p| p.version.saturating_add(1));
    let values = (
        compliance_states::state.eq(verdict.state.as_str()),
        compliance_states::compliant.eq(verdict.compliant),
        compliance_states::grace_expires_at.eq(verdict.grace_expires_at.map(|at| at.0)),
        compliance_states::reevaluate_at.eq(verdict.reevaluate_at.map(|at| at.0)),
        compliance_states::detail.eq(serde_json::to_string(verdict)?),
        compliance_states::evaluated_at.eq(now.0),
        compliance_states::changed_at.eq(changed_at.0),
        compliance_states::version.eq(version),
    );
    let written = match previous {
        Some(previous) => {
            let row = compliance_states::table.find(device.as_str()).filter(compliance_states::version.eq(previous.version));
            diesel::update(row).set(values).execute(tx.conn())?
        }
        None => each_backend!(tx.conn(), c => diesel::insert_into(compliance_states::table)
            .values((compliance_states::device_id.eq(device.as_str()), values.clone()))
            .on_conflict_do_nothing()
            .execute(c))?,
    };
    if written == 0 { Err(Error::Busy) } else { Ok(()) }
}

/// Takes the verdicts of several devices for the rest of the transaction, before it writes anything else.
///
/// # Errors
/// Only the database's own.
pub fn lock_verdicts(tx: &mut Tx<'_>, devices: &[DeviceId]) -> Result<()> {
    let Conn::Postgres(conn) = tx.conn() else { return Ok(()) };
    let ids: Vec<&str> = devices.iter().map(DeviceId::as_str).collect();
    let rows = compliance_states::table.filter(compliance_states::device_id.eq_any(ids)).order(compliance_states::device_id);
    rows.select(compliance_states::device_id).for_update().load::<String>(conn)?;
    Ok(())
}

/// The devices whose time has come, the longest waiting first.
///
/// # Errors
/// Only the database's own.
pub fn list_due(conn: &mut Conn, now: Time, limit: i64) -> Result<Vec<DeviceId>> {
    let ids: Vec<String> = compliance_states::table
        .filter(compliance_states::reevaluate_at.le(now.0))
        .order((compliance_states::reevaluate_at, compliance_states::device_id))
        .limit(limit)
        .select(compliance_states::device_id)
        .load(conn)?;
    Ok(ids.into_iter().map(DeviceId::from_store).collect())
}

/// Devices of a user whose time has come, the longest ago first.
///
/// # Errors
/// Only the database's own.
pub fn list_due_of_user(conn: &mut Conn, user: &UserId, now: Time, limit: i64) -> Result<Vec<DeviceId>> {
    let of_user = devices::table.filter(devices::user_id.eq(user.as_str())).select(devices::id);
    let ids: Vec<String> = compliance_states::table
        .filter(compliance_states::device_id.eq_any(of_user))
        .filter(compliance_states::reevaluate_at.le(now.0))
        .order((compliance_states::reevaluate_at, compliance_states::device_id))
        .limit(limit)
        .select(compliance_states::device_id)
        .load(conn)?;
    Ok(ids.into_iter().map(DeviceId::from_store).collect())
}

// A new moment, and a new version with it: a verdict that is being made on another node from what was known before is not stored over it.
macro_rules! due {
    ($at:expr) => {
        (compliance_states::reevaluate_at.eq($at.0), compliance_states::version.eq(compliance_states::version + 1))
    };
}

/// Lets a device be judged anew at `at`.
///
/// # Errors
/// Only the database's own.
pub fn update_due(tx: &mut Tx<'_>, device: &DeviceId, at: Time) -> Result<()> {
    diesel::update(compliance_states::table.find(device.as_str())).set(due!(at)).execute(tx.conn())?;
    Ok(())
}

/// Lets the devices of a user be judged anew, after the user was disabled or enabled.
///
/// # Errors
/// Only the database's own.
pub fn update_due_of_user(tx: &mut Tx<'_>, user: &UserId, now: Time) -> Result<()> {
    let of_user = devices::table.filter(devices::user_id.eq(user.as_str())).select(devices::id);
    diesel::update(compliance_states::table.filter(compliance_states::device_id.eq_any(of_user))).set(due!(now)).execute(tx.conn())?;
    Ok(())
}

/// Lets all devices be judged anew, after the organisation's settings changed.
///
/// # Errors
/// Only the database's own.
pub fn update_all_due(tx: &mut Tx<'_>, now: Time) -> Result<()> {
    diesel::update(compliance_states::table).set(due!(now)).execute(tx.conn())?;
    Ok(())
}

/// How many devices are in which state.
///
/// # Errors
/// Only the database's own.
pub fn count_by_state(conn: &mut Conn) -> Result<Vec<(State, i64)>> {
    let rows: Vec<(String, i64)> = compliance_states::table
        .group_by(compliance_states::state)
        .select((compliance_states::state, diesel::dsl::count_star()))
        .order(compliance_states::state)
        .load(conn)?;
    rows.into_iter()
        .map(|(state, count)| Ok((State::parse(&state).ok_or_else(|| Error::corrupt("compliance_states.state"))?, count)))
        .collect()
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = BigInt)]
    devices: i64,
}

/// How many of the devices that a policy is for it finds in which status; `None`: those that it has not judged yet. It looks at each of
/// these devices: for people, not for devices.
///
/// # Errors
/// Only the database's own.
pub fn count_by_policy(conn: &mut Conn, policy: &ProfileId) -> Result<Vec<(Option<Status>, i64)>> {
    let query = |policies: &str| {
        format!(
            "SELECT COALESCE((SELECT p.value ->> 'status' FROM {policies} p WHERE p.value ->> 'policy' = i.profile_id), '') AS status,
                    COUNT(*) AS devices
             FROM desired_items i LEFT JOIN compliance_states c ON c.device_id = i.device_id
             WHERE i.profile_id = $1 AND i.desired_version IS NOT NULL GROUP BY 1 ORDER BY 1"
        )
    };
    let rows: Vec<Counted> = match conn {
        Conn::Sqlite(c) => diesel::sql_query(query("json_each(c.detail, '$.policies')")).bind::<Text, _>(policy.as_str()).load(c)?,
        Conn::Postgres(c) => {
            diesel::sql_query(query("json_array_elements(c.detail::json -> 'policies')")).bind::<Text, _>(policy.as_str()).load(c)?
        }
    };
    let status = |row: Counted| match (row.status.as_str(), Status::parse(&row.status)) {
        ("", _) => Ok((None, row.devices)),
        (_, Some(status)) => Ok((Some(status), row.devices)),
        (_, None) => Err(Error::corrupt("compliance_states.detail")),
    };
    rows.into_iter().map(status).collect()
}
