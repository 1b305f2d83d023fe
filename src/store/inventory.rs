//! Lists that devices answered: one of each kind.

use diesel::prelude::*;

use super::dialect::each_backend;
use super::schema::inventory;
use super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::domain::inventory::{Kind, List};
use crate::ids::DeviceId;

/// Keeps a list in the place of the one before.
///
/// # Errors
/// Only the database's own.
pub fn upsert_list(tx: &mut Tx<'_>, device: &DeviceId, kind: Kind, list: &List, now: Time) -> Result<()> {
    let document = serde_json::to_string(list)?;
    let row = (
        inventory::device_id.eq(device.as_str()),
        inventory::kind.eq(kind.as_str()),
        inventory::document.eq(&document),
        inventory::observed_at.eq(now.0),
    );
    let change = (inventory::document.eq(&document), inventory::observed_at.eq(now.0));
    each_backend!(tx.conn(), c => diesel::insert_into(inventory::table)
        .values(row)
        .on_conflict((inventory::device_id, inventory::kind))
        .do_update()
        .set(change)
        .execute(c))?;
    Ok(())
}

/// A list and when the device answered it.
///
/// # Errors
/// Only the database's own.
pub fn find_list(conn: &mut Conn, device: &DeviceId, kind: Kind) -> Result<Option<(List, Time)>> {
    let row: Option<(String, i64)> = inventory::table
        .find((device.as_str(), kind.as_str()))
        .select((inventory::document, inventory::observed_at))
        .first(conn)
        .optional()?;
    let read =
        |(document, at): (String, i64)| Ok((serde_json::from_str(&document).map_err(|_| Error::corrupt("inventory.document"))?, Time(at)));
    row.map(read).transpose()
}
