//! Directory devices.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::dialect::each_backend;
use super::schema::{devices, enrollments, facts};
use super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::domain::device::{Device, Platform, State};
use crate::domain::enrollment;
use crate::ids::{DeviceId, UserId};
use crate::store::odata::{Kind, Property, Set};

/// How many texts a question names at once.
const CHUNK: usize = 500;

#[derive(Queryable, Selectable, Insertable, AsChangeset, Identifiable)]
#[diesel(table_name = devices, treat_none_as_null = true)]
pub(super) struct Row {
    id: String,
    display_name: String,
    platform: String,
    user_id: Option<String>,
    hardware_id: Option<String>,
    entra_device_id: Option<String>,
    serial_number: Option<String>,
    manufacturer: Option<String>,
    model: Option<String>,
    os_version: Option<String>,
    os_edition: Option<String>,
    state: String,
    updated_at: i64,
}

impl Row {
    fn of(device: &Device, now: Time) -> Self {
        Self {
            id: device.id.to_string(),
            display_name: device.display_name.clone(),
            platform: device.platform.to_string(),
            user_id: device.user_id.as_ref().map(UserId::to_string),
            hardware_id: device.hardware_id.clone(),
            entra_device_id: device.entra_device_id.clone(),
            serial_number: device.serial_number.clone(),
            manufacturer: device.manufacturer.clone(),
            model: device.model.clone(),
            os_version: device.os_version.clone(),
            os_edition: device.os_edition.clone(),
            state: device.state.to_string(),
            updated_at: now.0,
        }
    }
}

impl TryFrom<Row> for Device {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            id: DeviceId::from_store(row.id),
            display_name: row.display_name,
            platform: Platform::parse(&row.platform).ok_or_else(|| Error::corrupt("devices.platform"))?,
            user_id: row.user_id.map(UserId::from_store),
            hardware_id: row.hardware_id,
            entra_device_id: row.entra_device_id,
            serial_number: row.serial_number,
            manufacturer: row.manufacturer,
            model: row.model,
            os_version: row.os_version,
            os_edition: row.os_edition,
            state: State::parse(&row.state).ok_or_else(|| Error::corrupt("devices.state"))?,
        })
    }
}

/// Which devices a list holds; an empty filter holds all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this user.
    pub user_id: Option<UserId>,
    /// In this state.
    pub state: Option<State>,
    /// Whether its enrolment was begun and is not finished.
    pub enrolling: Option<bool>,
    /// Of this platform.
    pub platform: Option<Platform>,
    /// Whose name is exactly this.
    pub display_name: Option<String>,
    /// With this serial number.
    pub serial_number: Option<String>,
}

/// Inserts a device.
///
/// # Errors
/// [`Error::Conflict`] when the user has another device with that hardware id.
pub fn insert_device(tx: &mut Tx<'_>, device: &Device, now: Time) -> Result<()> {
    diesel::insert_into(devices::table).values((Row::of(device, now), devices::created_at.eq(now.0))).execute(tx.conn())?;
    Ok(())
}

/// Writes all fields of a device that exists.
///
/// # Errors
/// [`Error::NotFound`], or [`Error::Conflict`] when the user has another device with that hardware id.
pub fn update_device(tx: &mut Tx<'_>, device: &Device, now: Time) -> Result<()> {
    match diesel::update(devices::table.find(device.id.as_str())).set(Row::of(device, now)).execute(tx.conn())? {
        0 => Err(Error::NotFound),
        _ => Ok(()),
    }
}

/// Writes what a device says of itself; whose it is and whether it is being retired is not its to say.
///
/// # Errors
/// [`Error::NotFound`].
pub fn update_inventory(tx: &mut Tx<'_>, device: &Device, now: Time) -> Result<()> {
    let changed = diesel::update(devices::table.find(device.id.as_str()))
        .set((
            devices::display_name.eq(&device.display_name),
            devices::entra_device_id.eq(&device.entra_device_id),
            devices::serial_number.eq(&device.serial_number),
            devices::manufacturer.eq(&device.manufacturer),
            devices::model.eq(&device.model),
            devices::os_version.eq(&device.os_version),
            devices::os_edition.eq(&device.os_edition),
            devices::updated_at.eq(now.0),
        ))
        .execute(tx.conn())?;
    if changed == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// The device, when it exists.
///
/// # Errors
/// Only the database's own.
pub fn find_device(conn: &mut Conn, id: &DeviceId) -> Result<Option<Device>> {
    let row = devices::table.find(id.as_str()).select(Row::as_select()).first(conn).optional()?;
    row.map(Device::try_from).transpose()
}

/// The device, which must exist.
///
/// # Errors
/// [`Error::NotFound`].
pub fn load_device(conn: &mut Conn, id: &DeviceId) -> Result<Device> {
    find_device(conn, id)?.ok_or(Error::NotFound)
}

/// The devices that have that hardware id or that id of the identity provider, oldest first: of several people who claim the same
/// hardware, each has one. Only devices of the platform's family: Windows and Apple name hardware each in their own way, so the same text
/// of the other family means nothing.
///
/// # Errors
/// Only the database's own.
pub fn list_same_hardware(
    conn: &mut Conn,
    platform: Platform,
    hardware_id: Option<&str>,
    entra_device_id: Option<&str>,
    limit: i64,
) -> Result<Vec<Device>> {
    let family = if platform.is_apple() { vec![Platform::MacOs.as_str(), Platform::Ios.as_str()] } else { vec![platform.as_str()] };
    let query = devices::table.filter(devices::platform.eq_any(family)).order(devices::id).limit(limit);
    let query = query.select(Row::as_select()).into_boxed();
    let query = match (hardware_id, entra_device_id) {
        (Some(hardware), Some(entra)) => query.filter(devices::hardware_id.eq(hardware).or(devices::entra_device_id.eq(entra))),
        (Some(hardware), None) => query.filter(devices::hardware_id.eq(hardware)),
        (None, Some(entra)) => query.filter(devices::entra_device_id.eq(entra)),
        (None, None) => return Ok(Vec::new()),
    };
    query.load(conn)?.into_iter().map(Device::try_from).collect()
}

/// Hardware ids that more than one device of a platform claims which is not retired.
///
/// # Errors
/// Only the database's own.
pub fn list_contested_hardware(conn: &mut Conn, limit: i64) -> Result<Vec<(Platform, String)>> {
    let rows: Vec<(String, Option<String>)> = devices::table
        .filter(devices::hardware_id.is_not_null())
        .filter(devices::state.ne(State::Retired.as_str()))
        .group_by((devices::platform, devices::hardware_id))
        .having(diesel::dsl::count_star().gt(1))
        .select((devices::platform, devices::hardware_id))
        .limit(limit)
        .load(conn)?;
    let read = |(platform, id): (String, Option<String>)| {
        let platform = Platform::parse(&platform).ok_or_else(|| Error::corrupt("devices.platform"))?;
        Ok(id.map(|id| (platform, id)))
    };
    rows.into_iter().filter_map(|row| read(row).transpose()).collect()
}

/// Devices that are not retired and whose fact of that name says another serial number than their row, with what it says.
///
/// # Errors
/// Only the database's own.
pub fn list_other_serials(conn: &mut Conn, fact: &str, limit: i64) -> Result<Vec<(Device, String)>> {
    let rows: Vec<(Row, Option<String>)> = devices::table
        .inner_join(facts::table.on(facts::device_id.eq(devices::id).and(facts::name.eq(fact))))
        .filter(devices::state.ne(State::Retired.as_str()))
        .filter(facts::value.assume_not_null().ne(devices::serial_number.assume_not_null()))
        .order(devices::id)
        .limit(limit)
        .select((Row::as_select(), facts::value))
        .load(conn)?;
    rows.into_iter().filter_map(|(row, says)| says.map(|says| Ok((Device::try_from(row)?, says)))).collect()
}

/// How many devices of the user are managed or on their way out, leaving out `except`.
///
/// # Errors
/// Only the database's own.
pub fn count_devices_of_user(conn: &mut Conn, user: &UserId, except: Option<&DeviceId>) -> Result<i64> {
    let own = devices::table.filter(devices::user_id.eq(user.as_str())).filter(devices::state.ne(State::Retired.as_str()));
    Ok(match except {
        Some(except) => own.filter(devices::id.ne(except.as_str())).count().get_result(conn)?,
        None => own.count().get_result(conn)?,
    })
}

/// A page of devices by id (which sorts by creation), after `after`.
///
/// # Errors
/// Only the database's own.
pub fn list_devices(conn: &mut Conn, filter: &Filter, after: &str, limit: i64) -> Result<Vec<Device>> {
    let mut query = devices::table.filter(devices::id.gt(after)).order(devices::id).limit(limit).select(Row::as_select()).into_boxed();
    if let Some(user) = &filter.user_id {
        query = query.filter(devices::user_id.eq(user.as_str()));
    }
    if let Some(state) = filter.state {
        query = query.filter(devices::state.eq(state.as_str()));
    }
    if let Some(enrolling) = filter.enrolling {
        let unfinished = enrollments::table
            .filter(enrollments::device_id.eq(devices::id))
            .filter(enrollments::state.eq(enrollment::State::Provisioned.as_str()));
        query = match enrolling {
            true => query.filter(diesel::dsl::exists(unfinished)),
            false => query.filter(diesel::dsl::not(diesel::dsl::exists(unfinished))),
        };
    }
    if let Some(platform) = filter.platform {
        query = query.filter(devices::platform.eq(platform.as_str()));
    }
    if let Some(name) = &filter.display_name {
        query = query.filter(devices::display_name.eq(name.as_str()));
    }
    if let Some(serial) = &filter.serial_number {
        query = query.filter(devices::serial_number.eq(serial.as_str()));
    }
    query.load(conn)?.into_iter().map(Device::try_from).collect()
}

/// What Graph calls the systems.
pub const SYSTEMS: &[(&str, &str)] = &[
    ("Windows", Platform::Windows.as_str()),
    ("macOS", Platform::MacOs.as_str()),
    ("iOS", Platform::Ios.as_str()),
    ("Android", Platform::Android.as_str()),
];

/// Whether a device, or its user, is in one of some groups.
pub const REACH: &str = "d.id IN (SELECT m.member_id FROM group_members m WHERE m.member_kind = 'device' AND m.group_id IN ({groups})) \
     OR d.user_id IN (SELECT m.member_id FROM group_members m WHERE m.member_kind = 'user' AND m.group_id IN ({groups}))";

/// Devices of the directory as the API finds them.
pub const SET: Set = Set {
    name: "devices",
    from: "devices d LEFT JOIN compliance_states c ON c.device_id = d.id",
    key: "d.id",
    base: "TRUE",
    reach: REACH,
    properties: &[
        Property::new("id", "d.id", Kind::Id),
        Property::new("deviceId", "COALESCE(d.entra_device_id, d.id)", Kind::Id),
        Property::new("displayName", "d.display_name", Kind::Text).ordered().searched(),
        Property::new("operatingSystem", "d.platform", Kind::Word(SYSTEMS)),
        Property::new("operatingSystemVersion", "d.os_version", Kind::Text),
        Property::new("manufacturer", "d.manufacturer", Kind::Text),
        Property::new("model", "d.model", Kind::Text),
        Property::new("isCompliant", "c.compliant", Kind::Bool),
        Property::new("isManaged", "(d.state <> 'retired')", Kind::Bool),
        Property::new("registrationDateTime", "d.created_at", Kind::Time),
    ],
    lists: &[super::autopilot::PHYSICAL_IDS],
    types: &[("device", "TRUE")],
    newest_first: None,
};

/// Devices of which the password of a local administrator is kept, as the API finds them.
pub const WITH_LOCAL_ADMIN: Set = Set {
    name: "devices with a local administrator",
    base: "EXISTS (SELECT 1 FROM enrollments e JOIN apple_secrets s ON s.enrollment_id = e.id WHERE e.device_id = d.id AND s.kind = 'admin')",
    properties: &[
        Property::new("id", "COALESCE(d.entra_device_id, d.id)", Kind::Id),
        Property::new("deviceName", "d.display_name", Kind::Text).ordered().searched(),
    ],
    types: &[("deviceLocalCredentialInfo", "TRUE")],
    ..SET
};

/// The devices with these ids, those that exist, with when each was first known.
///
/// # Errors
/// Only the database's own.
pub fn list_by_ids(conn: &mut Conn, ids: &[String]) -> Result<Vec<(Device, Time)>> {
    let rows: Vec<(Row, i64)> =
        devices::table.filter(devices::id.eq_any(ids)).select((Row::as_select(), devices::created_at)).load(conn)?;
    rows.into_iter().map(|(row, created)| Ok((Device::try_from(row)?, Time(created)))).collect()
}

/// A name or serial number that devices have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    /// It.
    pub text: String,
    /// A device that has it.
    pub id: DeviceId,
    /// How many have it.
    pub count: i64,
}

#[derive(QueryableByName)]
struct CalledRow {
    #[diesel(sql_type = Text)]
    text: String,
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// Which of these texts are the name of a device, and which are a serial number: a line for each that is, and for either.
///
/// # Errors
/// Only the database's own.
pub fn list_called(conn: &mut Conn, texts: &[&str]) -> Result<Vec<Called>> {
    let mut found = Vec::new();
    for piece in texts.chunks(CHUNK) {
        for column in ["display_name", "serial_number"] {
            let places: Vec<String> = (1..=piece.len()).map(|number| format!("lower(${number})")).collect();
            let statement = format!(
                "SELECT t.{column} AS text, min(t.id) AS id, count(*) AS count FROM devices t WHERE lower(t.{column}) IN ({}) GROUP BY t.{column}",
                places.join(", ")
            );
            let rows: Vec<CalledRow> = each_backend!(conn, c => {
                let mut query = diesel::sql_query(statement).into_boxed();
                for text in piece {
                    query = query.bind::<Text, _>((*text).to_owned());
                }
                query.load(c)
            })?;
            let named = rows.into_iter().filter(|row| piece.contains(&row.text.as_str()));
            found.extend(named.map(|row| Called { text: row.text, id: DeviceId::from_store(row.id), count: row.count }));
        }
    }
    Ok(found)
}

/// The id of the device that the identity provider knows by that id.
///
/// # Errors
/// Only the database's own.
pub fn find_by_entra_id(conn: &mut Conn, entra_device_id: &str) -> Result<Option<DeviceId>> {
    let id: Option<String> = devices::table
        .filter(devices::entra_device_id.eq(entra_device_id))
        .select(devices::id)
        .order(devices::id)
        .first(conn)
        .optional()?;
    Ok(id.map(DeviceId::from_store))
}
