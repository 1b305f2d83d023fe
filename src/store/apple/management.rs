//! What the profile with which a device enrolled said of its management. Devices refuse an update of the profile that says something else.

use std::collections::HashMap;

use diesel::prelude::*;

use super::super::schema::{apple_management, enrollments};
use super::super::{Conn, Error, Result, Tx};
use crate::ids::{DeviceId, EnrollmentId};
use crate::wire::apple::enroll::{Mdm, Mode};

/// The payload as columns: mode, account, and everything else as JSON.
pub(super) type Columns = (Option<String>, Option<String>, String);

/// The columns of a payload.
pub(super) fn columns(mdm: &Mdm) -> Result<Columns> {
    let rest = Mdm { enrollment_mode: None, account: None, ..mdm.clone() };
    Ok((mdm.enrollment_mode.map(|mode| mode.as_str().to_owned()), mdm.account.clone(), serde_json::to_string(&rest)?))
}

/// The payload of those columns.
pub(super) fn payload((mode, account, rest): Columns) -> Result<Mdm> {
    let rest: Mdm = serde_json::from_str(&rest).map_err(|_| Error::corrupt("apple_management.payload"))?;
    Ok(Mdm { enrollment_mode: mode_of(mode)?, account, ..rest })
}

/// A mode as it is kept.
pub(in crate::store) fn mode_of(word: Option<String>) -> Result<Option<Mode>> {
    word.map(|word| Mode::parse(&word).ok_or_else(|| Error::corrupt("mode"))).transpose()
}

/// Keeps what the profile of an enrolment said.
///
/// # Errors
/// [`Error::Conflict`] when it is kept already.
pub fn insert_management(tx: &mut Tx<'_>, id: &EnrollmentId, mdm: &Mdm) -> Result<()> {
    let (mode, account, rest) = columns(mdm)?;
    diesel::insert_into(apple_management::table)
        .values((
            apple_management::enrollment_id.eq(id.as_str()),
            apple_management::mode.eq(mode),
            apple_management::account.eq(account),
            apple_management::payload.eq(rest),
        ))
        .execute(tx.conn())?;
    Ok(())
}

/// What the profile of an enrolment said.
///
/// # Errors
/// Only the database's own.
pub fn find_management(conn: &mut Conn, id: &EnrollmentId) -> Result<Option<Mdm>> {
    let row: Option<Columns> = apple_management::table
        .find(id.as_str())
        .select((apple_management::mode, apple_management::account, apple_management::payload))
        .first(conn)
        .optional()?;
    row.map(payload).transpose()
}

/// How devices enrolled that did so by account, each by its newest enrolment.
///
/// # Errors
/// Only the database's own.
pub fn list_modes(conn: &mut Conn, devices: &[String]) -> Result<HashMap<String, Mode>> {
    let rows: Vec<(String, Option<String>)> = apple_management::table
        .inner_join(enrollments::table)
        .filter(enrollments::device_id.eq_any(devices))
        .order(enrollments::id)
        .select((enrollments::device_id, apple_management::mode))
        .load(conn)?;
    let mut found = HashMap::new();
    for (device, mode) in rows {
        match mode_of(mode)? {
            Some(mode) => found.insert(device, mode),
            None => found.remove(&device),
        };
    }
    Ok(found)
}

/// Mode and account of a device's newest enrolment; `None` when it was not by account.
///
/// # Errors
/// Only the database's own.
pub fn find_account(conn: &mut Conn, device: &DeviceId) -> Result<Option<(Mode, String)>> {
    let newest: Option<(Option<String>, Option<String>)> = apple_management::table
        .inner_join(enrollments::table)
        .filter(enrollments::device_id.eq(device.as_str()))
        .order(enrollments::id.desc())
        .select((apple_management::mode, apple_management::account))
        .first(conn)
        .optional()?;
    let Some((mode, account)) = newest else { return Ok(None) };
    Ok(mode_of(mode)?.zip(account))
}
