//! Managed devices: what the API shows of an enrolment that has not ended, of its device, its user and its verdict.

use std::collections::HashMap;

use diesel::prelude::*;

use super::super::schema::{certificates, enrollments, facts};
use super::Row;
use crate::clock::Time;
use crate::domain::compliance::Verdict;
use crate::domain::device::Device;
use crate::domain::enrollment::Enrollment;
use crate::domain::user::User;
use crate::ids::{DeviceId, EnrollmentId, UserId};
use crate::store::apple::{ade, management};
use crate::store::devices::{REACH, SYSTEMS};
use crate::store::odata::{Kind, Property, Set};
use crate::store::{Conn, Error, Result, autopilot, compliance, devices, users};
use crate::wire::apple::enroll::Mode;

/// What Graph calls the states of compliance.
const STATES: &[(&str, &str)] = &[
    ("unknown", "unknown"),
    ("compliant", "compliant"),
    ("noncompliant", "noncompliant"),
    ("conflict", "conflict"),
    ("error", "error"),
    ("inGracePeriod", "inGracePeriod"),
    ("configManager", "configManager"),
];

/// Managed devices as the API finds them.
pub const MANAGED: Set = Set {
    name: "managedDevices",
    from: "enrollments t JOIN devices d ON d.id = t.device_id LEFT JOIN compliance_states c ON c.device_id = d.id LEFT JOIN users u ON u.id = \
           d.user_id AND u.deleted_at IS NULL",
    key: "t.id",
    base: "t.ended_at IS NULL",
    reach: REACH,
    properties: &[
        Property::new("id", "t.id", Kind::Id),
        Property::new("deviceName", "d.display_name", Kind::Text).ordered().searched(),
        Property::new("serialNumber", "d.serial_number", Kind::Text).searched(),
        Property::new("operatingSystem", "d.platform", Kind::Word(SYSTEMS)),
        Property::new("osVersion", "d.os_version", Kind::Text),
        Property::new("complianceState", "COALESCE(c.state, 'unknown')", Kind::Word(STATES)),
        Property::new("lastSyncDateTime", "t.last_seen_at", Kind::Time).ordered().nullable(),
        Property::new("enrolledDateTime", "t.enrolled_at", Kind::Time),
        Property::new("userId", "d.user_id", Kind::Id),
        Property::new("userPrincipalName", "u.upn", Kind::Text).searched(),
        Property::new("emailAddress", "u.mail", Kind::Text),
        Property::new("userDisplayName", "u.display_name", Kind::Text),
        Property::new("manufacturer", "d.manufacturer", Kind::Text),
        Property::new("model", "d.model", Kind::Text),
        Property::new("azureADDeviceId", "d.entra_device_id", Kind::Id),
    ],
    lists: &[],
    types: &[("managedDevice", "TRUE")],
    newest_first: None,
};

/// A managed device.
#[derive(Clone, Debug)]
pub struct Managed {
    /// Its enrolment.
    pub enrollment: Enrollment,
    /// The device.
    pub device: Device,
    /// Its user.
    pub user: Option<User>,
    /// How it is judged.
    pub verdict: Option<Verdict>,
    /// What it reported, of what was asked for.
    pub facts: HashMap<String, String>,
    /// Until when the certificate is good by which it is managed.
    pub certificate_until: Option<Time>,
    /// It is in a list of the organisation's devices: of Autopilot, or of Apple Business Manager.
    pub listed: bool,
    /// How it enrolled by account, where it did.
    pub mode: Option<Mode>,
}

/// The managed devices with these ids, those that exist, with the facts of these names.
///
/// # Errors
/// Only the database's own.
pub fn list_managed(conn: &mut Conn, ids: &[String], names: &[&str]) -> Result<Vec<Managed>> {
    let rows: Vec<Row> = enrollments::table
        .filter(enrollments::id.eq_any(ids))
        .filter(enrollments::ended_at.is_null())
        .select(Row::as_select())
        .load(conn)?;
    let enrolled: Vec<Enrollment> = rows.into_iter().map(Enrollment::try_from).collect::<Result<_>>()?;
    let of: Vec<String> = enrolled.iter().map(|enrollment| enrollment.device_id.to_string()).collect();
    let mut known: HashMap<DeviceId, Device> =
        devices::list_by_ids(conn, &of)?.into_iter().map(|(device, _)| (device.id.clone(), device)).collect();
    let people: Vec<String> = known.values().filter_map(|device| device.user_id.as_ref()).map(UserId::to_string).collect();
    let people: HashMap<UserId, User> = users::list_by_ids(conn, &people)?.into_iter().map(|(user, _)| (user.id.clone(), user)).collect();
    let mut verdicts = compliance::list_verdicts(conn, &of)?;
    let rows: Vec<(String, String, Option<String>)> = facts::table
        .filter(facts::device_id.eq_any(&of))
        .filter(facts::name.eq_any(names))
        .select((facts::device_id, facts::name, facts::value))
        .load(conn)?;
    let mut reported: HashMap<String, HashMap<String, String>> = HashMap::new();
    for (device, name, value) in rows {
        if let Some(value) = value {
            reported.entry(device).or_default().insert(name, value);
        }
    }
    let certified: Vec<String> =
        enrolled.iter().filter_map(|enrollment| enrollment.certificate_id.as_ref()).map(ToString::to_string).collect();
    let ends: Vec<(String, i64)> =
        certificates::table.filter(certificates::id.eq_any(&certified)).select((certificates::id, certificates::not_after)).load(conn)?;
    let ends: HashMap<String, i64> = ends.into_iter().collect();
    let serials = |apple: bool| {
        let of = known.values().filter(move |device| device.platform.is_apple() == apple);
        of.filter_map(|device| device.serial_number.as_deref()).collect::<Vec<_>>()
    };
    let (of_windows, of_apple) = (autopilot::list_listed(conn, &serials(false))?, ade::list_named(conn, &serials(true))?);
    let modes = management::list_modes(conn, &of)?;
    enrolled
        .into_iter()
        .map(|enrollment| {
            let device = known.remove(&enrollment.device_id).ok_or_else(|| Error::corrupt("enrollments.device_id"))?;
            let user = device.user_id.as_ref().and_then(|id| people.get(id)).cloned();
            let verdict = verdicts.remove(&device.id);
            let facts = reported.remove(device.id.as_str()).unwrap_or_default();
            let certificate = enrollment.certificate_id.as_ref().and_then(|id| ends.get(id.as_str()));
            let lists = if device.platform.is_apple() { &of_apple } else { &of_windows };
            Ok(Managed {
                certificate_until: certificate.map(|end| Time(*end)),
                listed: device.serial_number.as_ref().is_some_and(|serial| lists.contains(serial)),
                mode: modes.get(device.id.as_str()).copied(),
                enrollment,
                device,
                user,
                verdict,
                facts,
            })
        })
        .collect()
}

/// The enrolment that has not ended of the device that is known by this id: of the enrolment, of the device, or by its identity provider.
///
/// # Errors
/// Only the database's own.
pub fn find_managed(conn: &mut Conn, id: &str) -> Result<Option<EnrollmentId>> {
    let current = |conn: &mut Conn, device: &str| -> Result<Option<String>> {
        let current = enrollments::table.filter(enrollments::device_id.eq(device)).filter(enrollments::ended_at.is_null());
        Ok(current.select(enrollments::id).first(conn).optional()?)
    };
    let own: Option<String> =
        enrollments::table.find(id).filter(enrollments::ended_at.is_null()).select(enrollments::id).first(conn).optional()?;
    let found = match own {
        Some(found) => Some(found),
        None => current(conn, id)?,
    };
    Ok(found.map(EnrollmentId::from_store))
}
