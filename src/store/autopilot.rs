//! PCs that are registered for Windows Autopilot, and what came of importing them. Which device of the directory is one of them is told by
//! the serial number, whenever it is asked.

use std::collections::{HashMap, HashSet};

use diesel::prelude::*;

use super::dialect::delete_some;
use super::schema::{autopilot_devices, autopilot_imports, devices, enrollments, users};
use super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::domain::autopilot::{Failure, Identity, Imported};
use crate::domain::device::{Device, Platform, State};
use crate::ids::{AutopilotId, AutopilotImportId, DeviceId, EnrollmentId, UserId};
use crate::store::odata::{Kind, List, Property, Set};

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = autopilot_devices, treat_none_as_null = true)]
struct Row {
    id: String,
    serial: String,
    product_key: String,
    hardware_hash: Vec<u8>,
    group_tag: String,
    user_id: Option<String>,
    addressable_user_name: String,
    display_name: String,
    purchase_order: String,
    created_at: i64,
    updated_at: i64,
}

impl From<Row> for Identity {
    fn from(row: Row) -> Self {
        Self {
            id: AutopilotId::from_store(row.id),
            serial: row.serial,
            product_key: row.product_key,
            hardware_hash: row.hardware_hash,
            group_tag: row.group_tag,
            user_id: row.user_id.map(UserId::from_store),
            addressable_user_name: row.addressable_user_name,
            display_name: row.display_name,
            purchase_order: row.purchase_order,
            created_at: Time(row.created_at),
            updated_at: Time(row.updated_at),
        }
    }
}

impl Row {
    fn of(identity: &Identity) -> Self {
        Self {
            id: identity.id.to_string(),
            serial: identity.serial.clone(),
            product_key: identity.product_key.clone(),
            hardware_hash: identity.hardware_hash.clone(),
            group_tag: identity.group_tag.clone(),
            user_id: identity.user_id.as_ref().map(UserId::to_string),
            addressable_user_name: identity.addressable_user_name.clone(),
            display_name: identity.display_name.clone(),
            purchase_order: identity.purchase_order.clone(),
            created_at: identity.created_at.0,
            updated_at: identity.updated_at.0,
        }
    }
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = autopilot_imports)]
struct ImportRow {
    id: String,
    import_id: String,
    serial: String,
    product_key: String,
    group_tag: String,
    user_principal_name: String,
    registration_id: Option<String>,
    error: Option<String>,
    created_at: i64,
}

impl TryFrom<ImportRow> for Imported {
    type Error = Error;

    fn try_from(row: ImportRow) -> Result<Self> {
        let failure = |word: &str| Failure::parse(word).ok_or_else(|| Error::corrupt("autopilot_imports.error"));
        let outcome = match (row.registration_id, row.error) {
            (_, Some(word)) => Err(failure(&word)?),
            (Some(id), None) => Ok(AutopilotId::from_store(id)),
            (None, None) => return Err(Error::corrupt("autopilot_imports.registration_id")),
        };
        Ok(Self {
            id: AutopilotImportId::from_store(row.id),
            import_id: row.import_id,
            serial: row.serial,
            product_key: row.product_key,
            group_tag: row.group_tag,
            user_principal_name: row.user_principal_name,
            outcome,
            created_at: Time(row.created_at),
        })
    }
}

/// Physical ids of the devices `d` of a set: the PC and its tag.
pub const PHYSICAL_IDS: List = List {
    name: "physicalIds",
    from: Some(
        "FROM (SELECT serial, '[ZTDID]:' || id AS word FROM autopilot_devices UNION ALL \
         SELECT serial, '[OrderID]:' || group_tag FROM autopilot_devices WHERE group_tag <> '') a \
         WHERE a.serial = d.serial_number AND d.platform = 'windows'",
    ),
    member: "a.word",
    kind: Kind::Text,
};

/// The same of the devices `t` of a rule, under the name that rules have for it.
pub const DEVICE_PHYSICAL_IDS: List = List {
    name: "devicePhysicalIds",
    from: Some(
        "FROM (SELECT serial, '[ZTDID]:' || id AS word FROM autopilot_devices UNION ALL \
         SELECT serial, '[OrderID]:' || group_tag FROM autopilot_devices WHERE group_tag <> '') a \
         WHERE a.serial = t.serial_number AND t.platform = 'windows'",
    ),
    member: "a.word",
    kind: Kind::Text,
};

/// Registered PCs as the API finds them.
pub const SET: Set = Set {
    name: "autopilotDevices",
    from: "autopilot_devices t LEFT JOIN users u ON u.id = t.user_id AND u.deleted_at IS NULL",
    key: "t.id",
    base: "TRUE",
    reach: "t.user_id IN (SELECT m.member_id FROM group_members m WHERE m.member_kind = 'user' AND m.group_id IN ({groups})) \
            OR t.serial IN (SELECT d.serial_number FROM devices d JOIN group_members m ON m.member_kind = 'device' AND m.member_id = d.id \
            WHERE d.platform = 'windows' AND m.group_id IN ({groups})) \
            OR t.serial IN (SELECT d.serial_number FROM devices d JOIN group_members m ON m.member_kind = 'user' AND m.member_id = d.user_id \
            WHERE d.platform = 'windows' AND m.group_id IN ({groups}))",
    properties: &[
        Property::new("id", "t.id", Kind::Id),
        Property::new("serialNumber", "t.serial", Kind::Text).ordered().searched(),
        Property::new("groupTag", "t.group_tag", Kind::Text).searched(),
        Property::new("userPrincipalName", "u.upn", Kind::Text).searched(),
        Property::new("displayName", "t.display_name", Kind::Text).searched(),
        Property::new("productKey", "t.product_key", Kind::Text),
        Property::new("purchaseOrderIdentifier", "t.purchase_order", Kind::Text),
        Property::new("addressableUserName", "t.addressable_user_name", Kind::Text),
    ],
    lists: &[],
    types: &[("windowsAutopilotDeviceIdentity", "TRUE")],
    newest_first: None,
};

/// What came of imports, as the API finds it. Whoever is bound to groups imports nothing and sees none.
pub const IMPORTS: Set = Set {
    name: "autopilotImports",
    from: "autopilot_imports t",
    key: "t.id",
    base: "TRUE",
    reach: "FALSE",
    properties: &[
        Property::new("id", "t.id", Kind::Id),
        Property::new("importId", "t.import_id", Kind::Text),
        Property::new("serialNumber", "t.serial", Kind::Text),
        Property::new("groupTag", "t.group_tag", Kind::Text),
        Property::new("assignedUserPrincipalName", "t.user_principal_name", Kind::Text),
        Property::new(
            "state/deviceImportStatus",
            "(CASE WHEN t.error IS NULL THEN 'complete' ELSE 'error' END)",
            Kind::Word(&[("complete", "complete"), ("error", "error")]),
        ),
    ],
    lists: &[],
    types: &[("importedWindowsAutopilotDeviceIdentity", "TRUE")],
    newest_first: None,
};

/// A registered PC with what is known of it besides.
#[derive(Clone, Debug)]
pub struct Known {
    /// The PC.
    pub identity: Identity,
    /// Name of the person whose it is to be.
    pub user_principal_name: Option<String>,
    /// The device of the directory that it is, and its enrolment.
    pub device: Option<(Device, Option<Enrolled>)>,
}

/// An enrolment, and when its device was seen last.
pub type Enrolled = (EnrollmentId, Option<Time>);

/// Inserts a PC.
///
/// # Errors
/// [`Error::Conflict`] when one has that serial number.
pub fn insert_identity(tx: &mut Tx<'_>, identity: &Identity) -> Result<()> {
    diesel::insert_into(autopilot_devices::table).values(Row::of(identity)).execute(tx.conn())?;
    Ok(())
}

/// Writes all of a PC that exists.
///
/// # Errors
/// [`Error::NotFound`].
pub fn update_identity(tx: &mut Tx<'_>, identity: &Identity) -> Result<()> {
    match diesel::update(autopilot_devices::table.find(identity.id.as_str())).set(Row::of(identity)).execute(tx.conn())? {
        0 => Err(Error::NotFound),
        _ => Ok(()),
    }
}

/// Deletes a PC; false when there is none.
///
/// # Errors
/// Only the database's own.
pub fn delete_identity(tx: &mut Tx<'_>, id: &AutopilotId) -> Result<bool> {
    Ok(diesel::delete(autopilot_devices::table.find(id.as_str())).execute(tx.conn())? == 1)
}

/// The PC of that id.
///
/// # Errors
/// Only the database's own.
pub fn find_identity(conn: &mut Conn, id: &AutopilotId) -> Result<Option<Identity>> {
    let row: Option<Row> = autopilot_devices::table.find(id.as_str()).select(Row::as_select()).first(conn).optional()?;
    Ok(row.map(Identity::from))
}

/// The PC of that serial number.
///
/// # Errors
/// Only the database's own.
pub fn find_by_serial(conn: &mut Conn, serial: &str) -> Result<Option<Identity>> {
    let row: Option<Row> =
        autopilot_devices::table.filter(autopilot_devices::serial.eq(serial)).select(Row::as_select()).first(conn).optional()?;
    Ok(row.map(Identity::from))
}

/// Whether a PC of that serial number is registered.
///
/// # Errors
/// Only the database's own.
pub fn is_listed(conn: &mut Conn, serial: &str) -> Result<bool> {
    let count: i64 = autopilot_devices::table.filter(autopilot_devices::serial.eq(serial)).count().get_result(conn)?;
    Ok(count > 0)
}

/// Which of these serial numbers PCs are registered with.
///
/// # Errors
/// Only the database's own.
pub fn list_listed(conn: &mut Conn, serials: &[&str]) -> Result<HashSet<String>> {
    let found: Vec<String> =
        autopilot_devices::table.filter(autopilot_devices::serial.eq_any(serials)).select(autopilot_devices::serial).load(conn)?;
    Ok(found.into_iter().collect())
}

/// Lets rules look again at the devices with a serial number: what they are known by has changed.
///
/// # Errors
/// Only the database's own.
pub fn update_touched(tx: &mut Tx<'_>, serial: &str, now: Time) -> Result<()> {
    let of = devices::table.filter(devices::serial_number.eq(serial)).filter(devices::platform.eq(Platform::Windows.as_str()));
    diesel::update(of).set(devices::updated_at.eq(now.0)).execute(tx.conn())?;
    Ok(())
}

/// The PCs with these ids, those that exist, with what is known of them.
///
/// # Errors
/// Only the database's own.
pub fn list_known(conn: &mut Conn, ids: &[String]) -> Result<Vec<Known>> {
    let rows: Vec<Row> = autopilot_devices::table.filter(autopilot_devices::id.eq_any(ids)).select(Row::as_select()).load(conn)?;
    let serials: Vec<&str> = rows.iter().map(|row| row.serial.as_str()).collect();
    let found: Vec<(Option<String>, String)> = devices::table
        .filter(devices::serial_number.eq_any(serials))
        .filter(devices::platform.eq(Platform::Windows.as_str()))
        .filter(devices::state.ne(State::Retired.as_str()))
        .order(devices::id)
        .select((devices::serial_number, devices::id))
        .load(conn)?;
    // The newest of several that say the same of themselves.
    let by_serial: HashMap<String, String> = found.into_iter().filter_map(|(serial, id)| Some((serial?, id))).collect();
    let of: Vec<String> = by_serial.values().cloned().collect();
    let mut known: HashMap<DeviceId, Device> =
        super::devices::list_by_ids(conn, &of)?.into_iter().map(|(device, _)| (device.id.clone(), device)).collect();
    let enrolled: Vec<(String, String, Option<i64>)> = enrollments::table
        .filter(enrollments::device_id.eq_any(&of))
        .filter(enrollments::ended_at.is_null())
        .select((enrollments::device_id, enrollments::id, enrollments::last_seen_at))
        .load(conn)?;
    let enrolled: HashMap<String, Enrolled> =
        enrolled.into_iter().map(|(device, id, seen)| (device, (EnrollmentId::from_store(id), seen.map(Time)))).collect();
    let people: Vec<&str> = rows.iter().filter_map(|row| row.user_id.as_deref()).collect();
    let people: Vec<(String, String)> =
        users::table.filter(users::id.eq_any(people)).filter(users::deleted_at.is_null()).select((users::id, users::upn)).load(conn)?;
    let people: HashMap<String, String> = people.into_iter().collect();
    let with = |row: Row| {
        let device = by_serial.get(&row.serial).and_then(|id| known.remove(&DeviceId::from_store(id.clone())));
        let device = device.map(|device| {
            let enrollment = enrolled.get(device.id.as_str()).cloned();
            (device, enrollment)
        });
        let user_principal_name = row.user_id.as_ref().and_then(|id| people.get(id)).cloned();
        Known { identity: row.into(), user_principal_name, device }
    };
    Ok(rows.into_iter().map(with).collect())
}

/// What devices are known by, for those that are registered PCs.
///
/// # Errors
/// Only the database's own.
pub fn list_physical_ids<'a>(conn: &mut Conn, of: impl IntoIterator<Item = &'a Device>) -> Result<HashMap<DeviceId, Vec<String>>> {
    let windows = of.into_iter().filter(|device| device.platform == Platform::Windows);
    let serials: Vec<(&DeviceId, &str)> = windows.filter_map(|device| Some((&device.id, device.serial_number.as_deref()?))).collect();
    let asked: Vec<&str> = serials.iter().map(|(_, serial)| *serial).collect();
    let rows: Vec<Row> = autopilot_devices::table.filter(autopilot_devices::serial.eq_any(asked)).select(Row::as_select()).load(conn)?;
    let ids: HashMap<String, Vec<String>> =
        rows.into_iter().map(Identity::from).map(|identity| (identity.serial.clone(), identity.physical_ids())).collect();
    Ok(serials.into_iter().filter_map(|(id, serial)| Some((id.clone(), ids.get(serial)?.clone()))).collect())
}

/// Notes what came of importing a PC.
///
/// # Errors
/// Only the database's own.
pub fn insert_import(tx: &mut Tx<'_>, imported: &Imported) -> Result<()> {
    let row = ImportRow {
        id: imported.id.to_string(),
        import_id: imported.import_id.clone(),
        serial: imported.serial.clone(),
        product_key: imported.product_key.clone(),
        group_tag: imported.group_tag.clone(),
        user_principal_name: imported.user_principal_name.clone(),
        registration_id: imported.outcome.as_ref().ok().map(ToString::to_string),
        error: imported.outcome.as_ref().err().map(ToString::to_string),
        created_at: imported.created_at.0,
    };
    diesel::insert_into(autopilot_imports::table).values(row).execute(tx.conn())?;
    Ok(())
}

/// What came of the imports with these ids.
///
/// # Errors
/// Only the database's own.
pub fn list_imports(conn: &mut Conn, ids: &[String]) -> Result<Vec<Imported>> {
    let rows: Vec<ImportRow> =
        autopilot_imports::table.filter(autopilot_imports::id.eq_any(ids)).select(ImportRow::as_select()).load(conn)?;
    rows.into_iter().map(Imported::try_from).collect()
}

/// Forgets what came of an import; false when it is not known.
///
/// # Errors
/// Only the database's own.
pub fn delete_import(tx: &mut Tx<'_>, id: &AutopilotImportId) -> Result<bool> {
    Ok(diesel::delete(autopilot_imports::table.find(id.as_str())).execute(tx.conn())? == 1)
}

/// Forgets what came of imports before `before`, at most `limit`, and says how many.
///
/// # Errors
/// Only the database's own.
pub fn purge_imports(tx: &mut Tx<'_>, before: Time, limit: i64) -> Result<usize> {
    Ok(delete_some!(tx, autopilot_imports, id: String, autopilot_imports::created_at.lt(before.0), limit))
}
