//! Signal receivers.

use diesel::prelude::*;

use super::schema::{devices, receivers, users};
use super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::domain::signal::{DeviceSubject, Receiver, ReceiverStatus};
use crate::ids::{DeviceId, ReceiverId};

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = receivers)]
struct Row {
    id: String,
    name: String,
    endpoint_url: String,
    audience: String,
    sealed_authorization: Option<Vec<u8>>,
    status: String,
    status_reason: Option<String>,
    created_at: i64,
}

impl TryFrom<Row> for Receiver {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            id: ReceiverId::from_store(row.id),
            name: row.name,
            endpoint_url: row.endpoint_url,
            audience: row.audience,
            sealed_authorization: row.sealed_authorization,
            status: ReceiverStatus::parse(&row.status).ok_or_else(|| Error::corrupt("receivers.status"))?,
            status_reason: row.status_reason,
            created_at: Time(row.created_at),
        })
    }
}

/// Inserts a receiver.
///
/// # Errors
/// [`Error::Conflict`] when the name is taken.
pub fn insert_receiver(tx: &mut Tx<'_>, receiver: &Receiver) -> Result<()> {
    let row = Row {
        id: receiver.id.to_string(),
        name: receiver.name.clone(),
        endpoint_url: receiver.endpoint_url.clone(),
        audience: receiver.audience.clone(),
        sealed_authorization: receiver.sealed_authorization.clone(),
        status: receiver.status.to_string(),
        status_reason: receiver.status_reason.clone(),
        created_at: receiver.created_at.0,
    };
    diesel::insert_into(receivers::table).values(row).execute(tx.conn())?;
    Ok(())
}

/// The receiver of that id.
///
/// # Errors
/// Only the database's own.
pub fn find_receiver(conn: &mut Conn, id: &ReceiverId) -> Result<Option<Receiver>> {
    receivers::table.find(id.as_str()).select(Row::as_select()).first(conn).optional()?.map(Receiver::try_from).transpose()
}

/// The receiver of that name.
///
/// # Errors
/// Only the database's own.
pub fn find_receiver_by_name(conn: &mut Conn, name: &str) -> Result<Option<Receiver>> {
    let row = receivers::table.filter(receivers::name.eq(name)).select(Row::as_select()).first(conn).optional()?;
    row.map(Receiver::try_from).transpose()
}

/// All receivers, by name. There are few.
///
/// # Errors
/// Only the database's own.
pub fn list_receivers(conn: &mut Conn) -> Result<Vec<Receiver>> {
    let rows = receivers::table.order(receivers::name).select(Row::as_select()).load(conn)?;
    rows.into_iter().map(Receiver::try_from).collect()
}

/// Lets a receiver get signals, or not, with the reason.
///
/// # Errors
/// Only the database's own.
pub fn update_status(tx: &mut Tx<'_>, id: &ReceiverId, status: ReceiverStatus, reason: Option<&str>) -> Result<()> {
    diesel::update(receivers::table.find(id.as_str()))
        .set((receivers::status.eq(status.as_str()), receivers::status_reason.eq(reason)))
        .execute(tx.conn())?;
    Ok(())
}

/// Deletes a receiver; `false` when it was not there.
///
/// # Errors
/// Only the database's own.
pub fn delete_receiver(tx: &mut Tx<'_>, id: &ReceiverId) -> Result<bool> {
    Ok(diesel::delete(receivers::table.find(id.as_str())).execute(tx.conn())? > 0)
}

/// Whom a device's signals are about: the device, and its user by mail address or else by UPN.
///
/// # Errors
/// [`Error::NotFound`] when there is no such device.
pub fn load_subject(conn: &mut Conn, device: &DeviceId) -> Result<DeviceSubject> {
    let user: Option<(Option<String>, String)> = devices::table
        .left_join(users::table.on(devices::user_id.eq(users::id.nullable()).and(users::deleted_at.is_null())))
        .filter(devices::id.eq(device.as_str()))
        .select((users::mail, users::upn).nullable())
        .first(conn)?;
    Ok(DeviceSubject { device: device.clone(), user: user.map(|(mail, upn)| mail.unwrap_or(upn)) })
}
