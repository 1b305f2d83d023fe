//! What a device entrusted to the server, for the administrator who has to get into it.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::json;

use crate::app::App;
use crate::clock::Time;
use crate::domain::access::Reach;
use crate::domain::apple::escrow::Kind;
use crate::domain::device::Device;
use crate::ids::{DeviceId, EnrollmentId};
use crate::secret::Secret;
use crate::service::directory::By;
use crate::service::page::{self, Found, find};
use crate::service::{Error, Result};
use crate::store::apple::secrets;
use crate::store::sealed::APPLE_SECRET;
use crate::store::{self, audit, devices, enrollments};
use crate::wire::odata::query::Query;

/// Enrolments of a device whose secrets are looked at, the newest first.
const ENROLLMENTS: i64 = 20;

/// A secret that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// What.
    pub kind: Kind,
    /// Since when.
    pub since: String,
    /// The enrolment with which it came.
    pub enrollment: EnrollmentId,
}

/// What is kept of a device, of its last enrolments, the newest first.
///
/// # Errors
/// [`Error::NotFound`] without such a device.
pub async fn secrets(app: &App, device: &DeviceId) -> Result<Vec<Kept>> {
    Ok(list(app, device).await?.into_iter().map(|(enrollment, kind, at)| Kept { kind, since: at.to_string(), enrollment }).collect())
}

async fn list(app: &App, device: &DeviceId) -> Result<Vec<(EnrollmentId, Kind, Time)>> {
    let device = device.clone();
    let reading = app.store.snapshot(move |conn| {
        devices::load_device(conn, &device)?;
        let mut found = Vec::new();
        for enrollment in enrollments::list_enrollments(conn, &device, ENROLLMENTS)? {
            let kinds = secrets::list_kinds(conn, &enrollment.id)?;
            found.extend(kinds.into_iter().map(|(kind, at)| (enrollment.id.clone(), kind, at)));
        }
        Ok(found)
    });
    Ok(reading.await?)
}

/// Reads a secret out: the newest of its kind. Who read it is in the audit log before anybody sees it.
///
/// # Errors
/// [`Error::NotFound`] without such a device or secret, and for tokens that are given to the device only.
pub async fn reveal(app: &App, device: &DeviceId, kind: Kind, by: &By) -> Result<Secret> {
    let missing = || Error::NotFound("secret of that kind");
    if !kind.is_for_people() {
        return Err(missing());
    }
    let (enrollment, ..) = list(app, device).await?.into_iter().find(|(_, kept, _)| *kept == kind).ok_or_else(missing)?;
    let entry = by
        .entry("escrow.read", format!("device:{device}"))
        .after(&json!({ "kind": kind, "enrollment": enrollment, "for": "administrator" }));
    let now = app.now();
    let found = app
        .store
        .write(move |tx| {
            let found = secrets::find_secret(tx.conn(), &enrollment, kind)?;
            if found.is_some() {
                audit::append(tx, &entry, now)?;
            }
            Ok(found)
        })
        .await?;
    Ok(app.sealer().open(APPLE_SECRET, &found.ok_or_else(missing)?.sealed)?)
}

/// A device of which the password of a local administrator is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalAdmin {
    /// The device.
    pub device: Device,
    /// Since when.
    pub since: Time,
}

fn local_admins(conn: &mut store::Conn, ids: &[String]) -> store::Result<Vec<(String, LocalAdmin)>> {
    let mut since: HashMap<String, Time> = HashMap::new();
    for (device, at) in secrets::list_of_devices(conn, Kind::Admin, ids)? {
        let newest = since.entry(device).or_insert(at);
        *newest = at.max(*newest);
    }
    let all = devices::list_by_ids(conn, ids)?.into_iter();
    let with = |(device, _): (Device, Time)| Some((device.id.to_string(), LocalAdmin { since: *since.get(device.id.as_str())?, device }));
    Ok(all.filter_map(with).collect())
}

/// A page of the devices of which the password of a local administrator is kept.
///
/// # Errors
/// [`page::Error::Wrong`] when the query asks for what they have not.
pub async fn page_local_admins(app: &App, query: &Query, reach: &Reach, limit: u32) -> std::result::Result<Found<LocalAdmin>, page::Error> {
    find(app, &devices::WITH_LOCAL_ADMIN, query, page::within(reach), limit, local_admins).await
}

/// One of them.
///
/// # Errors
/// [`Error::NotFound`] when no such password is kept of it.
pub async fn find_local_admin(app: &App, device: &DeviceId) -> Result<LocalAdmin> {
    let id = device.to_string();
    let found = app.store.look_up(move |conn| local_admins(conn, &[id])).await?.pop();
    found.map(|(_, found)| found).ok_or(Error::NotFound("local administrator"))
}
