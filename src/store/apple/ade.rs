//! The organisation's list of its own Apple devices, and the servers of Apple Business Manager that it comes from.

use std::collections::{HashMap, HashSet};

use diesel::prelude::*;

use crate::clock::Time;
use crate::domain::apple::ade::{Device, Link, Phase, Progress, Server};
use crate::domain::device::Platform;
use crate::ids::AdeServerId;
use crate::store::dialect::each_backend;
use crate::store::odata::{Kind, Property, Set};
use crate::store::schema::{ade_devices, ade_servers, devices, enrollments};
use crate::store::{Conn, Error, Result, Tx};

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = ade_servers)]
struct ServerRow {
    id: String,
    name: String,
    sealed_key: Vec<u8>,
    certificate: Vec<u8>,
    sealed_token: Option<Vec<u8>>,
    token_ends_at: Option<i64>,
    warned_days: Option<i64>,
    server_uuid: Option<String>,
    organisation: Option<String>,
    phase: String,
    cursor: String,
    generation: i64,
    profile_uuid: Option<String>,
    profile_hash: Option<String>,
    synced_at: Option<i64>,
    wait_until: Option<i64>,
    alarm: Option<String>,
    alarm_at: Option<i64>,
    created_at: i64,
    account: Option<String>,
}

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = ade_devices, treat_none_as_null = true)]
struct DeviceRow {
    serial: String,
    server_id: String,
    model: Option<String>,
    description: Option<String>,
    color: Option<String>,
    asset_tag: Option<String>,
    os: Option<String>,
    family: Option<String>,
    profile_status: Option<String>,
    profile_uuid: Option<String>,
    assigned_at: Option<i64>,
    migration_deadline: Option<i64>,
    generation: i64,
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Full => "full",
        Phase::Changes => "changes",
    }
}

impl ServerRow {
    fn read(self) -> Result<Server> {
        let link = match (self.sealed_token, self.token_ends_at, self.server_uuid) {
            (Some(sealed_token), Some(ends_at), Some(server_uuid)) => Some(Link {
                sealed_token,
                ends_at: Time(ends_at),
                warned_days: self.warned_days,
                server_uuid,
                organisation: self.organisation.unwrap_or_default(),
            }),
            _ => None,
        };
        let phase = match self.phase.as_str() {
            "full" => Phase::Full,
            "changes" => Phase::Changes,
            _ => return Err(Error::corrupt("ade_servers.phase")),
        };
        Ok(Server {
            id: AdeServerId::from_store(self.id),
            name: self.name,
            sealed_key: self.sealed_key,
            certificate: self.certificate,
            link,
            progress: Progress { phase, cursor: Some(self.cursor).filter(|cursor| !cursor.is_empty()), generation: self.generation },
            profile: self.profile_uuid.zip(self.profile_hash),
            synced_at: self.synced_at.map(Time),
            wait_until: self.wait_until.map(Time),
            alarm: self.alarm.zip(self.alarm_at.map(Time)),
            created_at: Time(self.created_at),
            account: self.account,
        })
    }
}

impl DeviceRow {
    fn read(self) -> Device {
        Device {
            serial: self.serial,
            model: self.model,
            description: self.description,
            color: self.color,
            asset_tag: self.asset_tag,
            os: self.os,
            family: self.family,
            profile_status: self.profile_status,
            profile_uuid: self.profile_uuid,
            assigned_at: self.assigned_at.map(Time),
            migration_deadline: self.migration_deadline.map(Time),
        }
    }
}

/// Inserts a server that has no token yet.
///
/// # Errors
/// [`Error::Conflict`] when the name is taken.
pub fn insert_server(tx: &mut Tx<'_>, server: &Server) -> Result<()> {
    let row = ServerRow {
        id: server.id.to_string(),
        name: server.name.clone(),
        sealed_key: server.sealed_key.clone(),
        certificate: server.certificate.clone(),
        sealed_token: None,
        token_ends_at: None,
        warned_days: None,
        server_uuid: None,
        organisation: None,
        phase: phase(server.progress.phase).into(),
        cursor: String::new(),
        generation: server.progress.generation,
        profile_uuid: None,
        profile_hash: None,
        synced_at: None,
        wait_until: None,
        alarm: None,
        alarm_at: None,
        created_at: server.created_at.0,
        account: server.account.clone(),
    };
    diesel::insert_into(ade_servers::table).values(row).execute(tx.conn())?;
    Ok(())
}

/// The server of that name.
///
/// # Errors
/// Only the database's own.
pub fn find_server(conn: &mut Conn, name: &str) -> Result<Option<Server>> {
    let row: Option<ServerRow> =
        ade_servers::table.filter(ade_servers::name.eq(name)).select(ServerRow::as_select()).first(conn).optional()?;
    row.map(ServerRow::read).transpose()
}

/// All servers, by name. An organisation has a handful.
///
/// # Errors
/// Only the database's own.
pub fn list_servers(conn: &mut Conn) -> Result<Vec<Server>> {
    let rows: Vec<ServerRow> = ade_servers::table.order(ade_servers::name).select(ServerRow::as_select()).load(conn)?;
    rows.into_iter().map(ServerRow::read).collect()
}

/// Puts another key in the place of the one that opens the next token.
///
/// # Errors
/// Only the database's own.
pub fn update_key(tx: &mut Tx<'_>, id: &AdeServerId, sealed_key: &[u8], certificate: &[u8]) -> Result<()> {
    diesel::update(ade_servers::table.find(id.as_str()))
        .set((ade_servers::sealed_key.eq(sealed_key), ade_servers::certificate.eq(certificate)))
        .execute(tx.conn())?;
    Ok(())
}

/// Notes with which Apple Account a token was downloaded.
///
/// # Errors
/// Only the database's own.
pub fn update_account(tx: &mut Tx<'_>, id: &AdeServerId, account: &str) -> Result<()> {
    diesel::update(ade_servers::table.find(id.as_str())).set(ade_servers::account.eq(Some(account))).execute(tx.conn())?;
    Ok(())
}

/// Puts a token in force. With `begin` the list is read from its beginning, and devices are told a profile anew.
///
/// # Errors
/// Only the database's own.
pub fn update_link(tx: &mut Tx<'_>, id: &AdeServerId, link: &Link, begin: Option<&Progress>) -> Result<()> {
    let row = ade_servers::table.find(id.as_str());
    diesel::update(row)
        .set((
            ade_servers::sealed_token.eq(Some(&link.sealed_token)),
            ade_servers::token_ends_at.eq(Some(link.ends_at.0)),
            ade_servers::warned_days.eq(None::<i64>),
            ade_servers::server_uuid.eq(Some(&link.server_uuid)),
            ade_servers::organisation.eq(Some(&link.organisation)),
            ade_servers::alarm.eq(None::<String>),
            ade_servers::alarm_at.eq(None::<i64>),
            ade_servers::wait_until.eq(None::<i64>),
        ))
        .execute(tx.conn())?;
    if let Some(progress) = begin {
        diesel::update(row)
            .set((
                ade_servers::phase.eq(phase(progress.phase)),
                ade_servers::cursor.eq(""),
                ade_servers::generation.eq(progress.generation),
                ade_servers::profile_uuid.eq(None::<String>),
                ade_servers::profile_hash.eq(None::<String>),
            ))
            .execute(tx.conn())?;
    }
    Ok(())
}

/// Deletes a server and its list.
///
/// # Errors
/// Only the database's own.
pub fn delete_server(tx: &mut Tx<'_>, id: &AdeServerId) -> Result<()> {
    diesel::delete(ade_devices::table.filter(ade_devices::server_id.eq(id.as_str()))).execute(tx.conn())?;
    diesel::delete(ade_servers::table.find(id.as_str())).execute(tx.conn())?;
    Ok(())
}

/// Notes how far the list was read, if nobody else read on meanwhile; `read_at` when that is its end.
///
/// # Errors
/// Only the database's own.
pub fn claim_progress(tx: &mut Tx<'_>, id: &AdeServerId, before: &Progress, after: &Progress, read_at: Option<Time>) -> Result<bool> {
    let row = ade_servers::table
        .find(id.as_str())
        .filter(ade_servers::phase.eq(phase(before.phase)))
        .filter(ade_servers::cursor.eq(before.cursor.as_deref().unwrap_or_default()))
        .filter(ade_servers::generation.eq(before.generation));
    let changed = diesel::update(row)
        .set((
            ade_servers::phase.eq(phase(after.phase)),
            ade_servers::cursor.eq(after.cursor.as_deref().unwrap_or_default()),
            ade_servers::generation.eq(after.generation),
        ))
        .execute(tx.conn())?;
    if let Some(at) = read_at {
        diesel::update(ade_servers::table.find(id.as_str())).set(ade_servers::synced_at.eq(Some(at.0))).execute(tx.conn())?;
    }
    Ok(changed > 0)
}

/// Notes which profile devices are told.
///
/// # Errors
/// Only the database's own.
pub fn update_profile(tx: &mut Tx<'_>, id: &AdeServerId, uuid: &str, hash: &str) -> Result<()> {
    diesel::update(ade_servers::table.find(id.as_str()))
        .set((ade_servers::profile_uuid.eq(Some(uuid)), ade_servers::profile_hash.eq(Some(hash))))
        .execute(tx.conn())?;
    Ok(())
}

/// Notes until when Apple asked to be left alone.
///
/// # Errors
/// Only the database's own.
pub fn update_wait(tx: &mut Tx<'_>, id: &AdeServerId, until: Time) -> Result<()> {
    diesel::update(ade_servers::table.find(id.as_str())).set(ade_servers::wait_until.eq(Some(until.0))).execute(tx.conn())?;
    Ok(())
}

/// Notes what an administrator has to see to, or that it is seen to; `false` when that is known.
///
/// # Errors
/// Only the database's own.
pub fn claim_alarm(tx: &mut Tx<'_>, id: &AdeServerId, alarm: Option<&str>, now: Time) -> Result<bool> {
    let row = ade_servers::table.find(id.as_str());
    let change = (ade_servers::alarm.eq(alarm), ade_servers::alarm_at.eq(alarm.map(|_| now.0)));
    let changed = match alarm {
        Some(why) => {
            let other = ade_servers::alarm.is_null().or(ade_servers::alarm.ne(why));
            diesel::update(row.filter(other)).set(change).execute(tx.conn())?
        }
        None => diesel::update(row.filter(ade_servers::alarm.is_not_null())).set(change).execute(tx.conn())?,
    };
    Ok(changed > 0)
}

/// Notes that a warning of the token's end is given; `false` when another node gave it.
///
/// # Errors
/// Only the database's own.
pub fn claim_warning(tx: &mut Tx<'_>, id: &AdeServerId, days: i64) -> Result<bool> {
    let open = ade_servers::warned_days.is_null().or(ade_servers::warned_days.gt(days));
    let row = ade_servers::table.find(id.as_str()).filter(open);
    Ok(diesel::update(row).set(ade_servers::warned_days.eq(Some(days))).execute(tx.conn())? > 0)
}

/// Takes a device into the list, over what was known of it.
///
/// # Errors
/// Only the database's own.
pub fn upsert_device(tx: &mut Tx<'_>, server: &AdeServerId, generation: i64, device: &Device) -> Result<()> {
    let row = DeviceRow {
        serial: device.serial.clone(),
        server_id: server.to_string(),
        model: device.model.clone(),
        description: device.description.clone(),
        color: device.color.clone(),
        asset_tag: device.asset_tag.clone(),
        os: device.os.clone(),
        family: device.family.clone(),
        profile_status: device.profile_status.clone(),
        profile_uuid: device.profile_uuid.clone(),
        assigned_at: device.assigned_at.map(|at| at.0),
        migration_deadline: device.migration_deadline.map(|at| at.0),
        generation,
    };
    each_backend!(tx.conn(), c => diesel::insert_into(ade_devices::table)
        .values(&row)
        .on_conflict(ade_devices::serial)
        .do_update()
        .set(&row)
        .execute(c))?;
    Ok(())
}

/// Takes devices off a server's list.
///
/// # Errors
/// Only the database's own.
pub fn delete_devices(tx: &mut Tx<'_>, server: &AdeServerId, serials: &[String]) -> Result<()> {
    let rows = ade_devices::table.filter(ade_devices::server_id.eq(server.as_str())).filter(ade_devices::serial.eq_any(serials));
    diesel::delete(rows).execute(tx.conn())?;
    Ok(())
}

/// Takes off the list what no reading since `generation` named; how many these were.
///
/// # Errors
/// Only the database's own.
pub fn delete_older(tx: &mut Tx<'_>, server: &AdeServerId, generation: i64) -> Result<usize> {
    let rows = ade_devices::table.filter(ade_devices::server_id.eq(server.as_str())).filter(ade_devices::generation.lt(generation));
    Ok(diesel::delete(rows).execute(tx.conn())?)
}

/// Serial numbers after `after`, in order, of devices that are not told the profile `uuid`.
///
/// # Errors
/// Only the database's own.
pub fn list_untold(conn: &mut Conn, server: &AdeServerId, uuid: &str, after: &str, limit: i64) -> Result<Vec<String>> {
    Ok(ade_devices::table
        .filter(ade_devices::server_id.eq(server.as_str()))
        .filter(ade_devices::serial.gt(after))
        .filter(ade_devices::profile_uuid.is_null().or(ade_devices::profile_uuid.ne(uuid)))
        .order(ade_devices::serial)
        .limit(limit)
        .select(ade_devices::serial)
        .load(conn)?)
}

/// Notes that devices are told the profile `uuid`.
///
/// # Errors
/// Only the database's own.
pub fn update_told(tx: &mut Tx<'_>, server: &AdeServerId, serials: &[String], uuid: &str) -> Result<()> {
    let rows = ade_devices::table.filter(ade_devices::server_id.eq(server.as_str())).filter(ade_devices::serial.eq_any(serials));
    diesel::update(rows)
        .set((ade_devices::profile_uuid.eq(Some(uuid)), ade_devices::profile_status.eq(Some("assigned"))))
        .execute(tx.conn())?;
    Ok(())
}

/// Whether the list names a device.
///
/// # Errors
/// Only the database's own.
pub fn is_listed(conn: &mut Conn, serial: &str) -> Result<bool> {
    let count: i64 = ade_devices::table.find(serial).count().get_result(conn)?;
    Ok(count > 0)
}

/// Which of these devices the list names.
///
/// # Errors
/// Only the database's own.
pub fn list_named(conn: &mut Conn, serials: &[&str]) -> Result<HashSet<String>> {
    let found: Vec<String> = ade_devices::table.filter(ade_devices::serial.eq_any(serials)).select(ade_devices::serial).load(conn)?;
    Ok(found.into_iter().collect())
}

/// The server whose list a device is in.
///
/// # Errors
/// Only the database's own.
pub fn find_server_id(conn: &mut Conn, serial: &str) -> Result<Option<AdeServerId>> {
    let id: Option<String> = ade_devices::table.find(serial).select(ade_devices::server_id).first(conn).optional()?;
    Ok(id.map(AdeServerId::from_store))
}

/// Devices after the serial number `after`, in order, with their server's name.
///
/// # Errors
/// Only the database's own.
pub fn list_devices(conn: &mut Conn, after: &str, limit: i64) -> Result<Vec<(Device, String)>> {
    let rows: Vec<(DeviceRow, String)> = ade_devices::table
        .inner_join(ade_servers::table.on(ade_servers::id.eq(ade_devices::server_id)))
        .filter(ade_devices::serial.gt(after))
        .order(ade_devices::serial)
        .limit(limit)
        .select((DeviceRow::as_select(), ade_servers::name))
        .load(conn)?;
    Ok(rows.into_iter().map(|(row, server)| (row.read(), server)).collect())
}

/// How many devices a server lists.
///
/// # Errors
/// Only the database's own.
pub fn count_devices(conn: &mut Conn, server: &AdeServerId) -> Result<i64> {
    Ok(ade_devices::table.filter(ade_devices::server_id.eq(server.as_str())).count().get_result(conn)?)
}

/// The server that a list is of.
pub const SERVER: &str = "t.server_id";

/// Devices of the lists as the API finds them. Whoever is bound to groups sees none.
pub const LISTED: Set = Set {
    name: "adeDevices",
    from: "ade_devices t",
    key: "t.serial",
    base: "TRUE",
    reach: "FALSE",
    properties: &[
        Property::new("id", "t.serial", Kind::Text),
        Property::new("serialNumber", "t.serial", Kind::Text),
        Property::new("description", "t.description", Kind::Text),
        Property::new("requestedEnrollmentProfileId", "t.profile_uuid", Kind::Text),
    ],
    lists: &[],
    types: &[("importedAppleDeviceIdentity", "TRUE")],
    newest_first: None,
};

/// A device of a list, and whether it is enrolled: with the moment of its last contact.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The device.
    pub device: Device,
    /// When the device with that serial number that is enrolled was seen last; `None`: there is none.
    pub enrolled: Option<Option<Time>>,
}

impl Listed {
    /// What it is, as far as it can be managed here.
    #[must_use]
    pub fn platform(&self) -> Option<Platform> {
        match (self.device.os.as_deref(), self.device.family.as_deref()) {
            (Some("OSX"), _) | (None, Some("Mac")) => Some(Platform::MacOs),
            (Some("iOS"), _) | (None, Some("iPhone" | "iPad" | "iPod")) => Some(Platform::Ios),
            _ => None,
        }
    }
}

/// The devices with these serial numbers, those that are listed.
///
/// # Errors
/// Only the database's own.
pub fn list_listed(conn: &mut Conn, serials: &[String]) -> Result<Vec<Listed>> {
    let rows: Vec<DeviceRow> = ade_devices::table.filter(ade_devices::serial.eq_any(serials)).select(DeviceRow::as_select()).load(conn)?;
    let apple = [Platform::MacOs.as_str(), Platform::Ios.as_str()];
    let enrolled: Vec<(Option<String>, Option<i64>)> = devices::table
        .inner_join(enrollments::table.on(enrollments::device_id.eq(devices::id)))
        .filter(devices::serial_number.eq_any(serials))
        .filter(devices::platform.eq_any(apple))
        .filter(enrollments::ended_at.is_null())
        .select((devices::serial_number, enrollments::last_seen_at))
        .load(conn)?;
    let enrolled: HashMap<String, Option<Time>> =
        enrolled.into_iter().filter_map(|(serial, seen)| Some((serial?, seen.map(Time)))).collect();
    let with = |row: DeviceRow| {
        let device = row.read();
        Listed { enrolled: enrolled.get(&device.serial).copied(), device }
    };
    Ok(rows.into_iter().map(with).collect())
}
