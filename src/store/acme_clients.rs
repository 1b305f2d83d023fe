//! Client identifiers of ACME payloads: each is good once.

use diesel::prelude::*;

use super::dialect::delete_some;
use super::schema::acme_clients;
use super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::domain::acme::Client;
use crate::ids::{DeviceId, ProfileId};

/// The grant says for which device, profile and payload.
fn place(client: &Client) -> Result<(&DeviceId, &ProfileId, &str)> {
    let grant = &client.grant;
    match (&grant.device_id, &grant.profile_id, &grant.payload) {
        (Some(device), Some(profile), Some(payload)) => Ok((device, profile, payload)),
        _ => Err(Error::corrupt("acme_clients.grant_document")),
    }
}

/// Keeps an identifier in the place of those that the payload was given before and did not use.
///
/// # Errors
/// Only the database's own.
pub fn insert_client(tx: &mut Tx<'_>, client: &Client, now: Time) -> Result<()> {
    let (device, profile, payload) = place(client)?;
    let unused = acme_clients::table
        .filter(acme_clients::device_id.eq(device.as_str()))
        .filter(acme_clients::profile_id.eq(profile.as_str()))
        .filter(acme_clients::payload.eq(payload))
        .filter(acme_clients::used_at.is_null());
    diesel::delete(unused).execute(tx.conn())?;
    let row = (
        acme_clients::hash.eq(&client.hash),
        acme_clients::device_id.eq(device.as_str()),
        acme_clients::profile_id.eq(profile.as_str()),
        acme_clients::payload.eq(payload),
        acme_clients::grant_document.eq(serde_json::to_string(&client.grant)?),
        acme_clients::hardware_bound.eq(client.hardware_bound),
        acme_clients::attest.eq(client.attest),
        acme_clients::expires_at.eq(client.expires_at.0),
        acme_clients::created_at.eq(now.0),
    );
    diesel::insert_into(acme_clients::table).values(row).execute(tx.conn())?;
    Ok(())
}

/// The identifier of that hash, if it is good and not used.
///
/// # Errors
/// Only the database's own.
pub fn find_client(conn: &mut Conn, hash: &str, now: Time) -> Result<Option<Client>> {
    let good = acme_clients::table.find(hash).filter(acme_clients::used_at.is_null()).filter(acme_clients::expires_at.gt(now.0));
    let columns = (acme_clients::grant_document, acme_clients::hardware_bound, acme_clients::attest, acme_clients::expires_at);
    let row: Option<(String, bool, bool, i64)> = good.select(columns).first(conn).optional()?;
    row.map(|(grant, hardware_bound, attest, expires_at)| {
        Ok(Client { hash: hash.to_owned(), grant: serde_json::from_str(&grant)?, hardware_bound, attest, expires_at: Time(expires_at) })
    })
    .transpose()
}

/// Uses an identifier; `false` when it is not good (any more) or somebody was faster.
///
/// # Errors
/// Only the database's own.
pub fn claim_client(tx: &mut Tx<'_>, hash: &str, now: Time) -> Result<bool> {
    let good = acme_clients::table.find(hash).filter(acme_clients::used_at.is_null()).filter(acme_clients::expires_at.gt(now.0));
    Ok(diesel::update(good).set(acme_clients::used_at.eq(Some(now.0))).execute(tx.conn())? == 1)
}

/// Takes the identifiers of a device back, of one profile but for those of some payloads, or all.
///
/// # Errors
/// Only the database's own.
pub fn delete_clients(tx: &mut Tx<'_>, device: &DeviceId, profile: Option<(&ProfileId, &[String])>) -> Result<()> {
    let of_device = acme_clients::table.filter(acme_clients::device_id.eq(device.as_str()));
    match profile {
        Some((profile, keep)) => {
            let of_profile = of_device.filter(acme_clients::profile_id.eq(profile.as_str()));
            diesel::delete(of_profile.filter(acme_clients::payload.ne_all(keep))).execute(tx.conn())?
        }
        None => diesel::delete(of_device).execute(tx.conn())?,
    };
    Ok(())
}

/// Removes identifiers that ended before `before`, at most `limit`; returns how many.
///
/// # Errors
/// Only the database's own.
pub fn purge_clients(tx: &mut Tx<'_>, before: Time, limit: i64) -> Result<usize> {
    Ok(delete_some!(tx, acme_clients, hash: String, acme_clients::expires_at.lt(before.0), limit))
}
