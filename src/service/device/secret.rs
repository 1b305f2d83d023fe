//! What a device entrusted to the server, for the administrator who has to get into it.

use serde::Serialize;
use serde_json::json;

use crate::app::App;
use crate::clock::Time;
use crate::domain::apple::escrow::Kind;
use crate::ids::{DeviceId, EnrollmentId};
use crate::secret::Secret;
use crate::service::directory::By;
use crate::service::{Error, Result};
use crate::store::apple::secrets;
use crate::store::sealed::APPLE_SECRET;
use crate::store::{audit, devices, enrollments};

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
