//! Keys that were made here for a device, sealed, until the device is seen to have them.

use diesel::prelude::*;

use super::dialect::delete_some;
use super::schema::issued_keys;
use super::{Conn, Result, Tx};
use crate::clock::Time;
use crate::ids::{CertificateId, DeviceId, ProfileId};

/// A kept key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its certificate.
    pub certificate: CertificateId,
    /// The identity, sealed (column `issued_keys.sealed_identity`).
    pub sealed: Vec<u8>,
}

/// For which part of which profile on which device a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The device.
    pub device: DeviceId,
    /// The profile.
    pub profile: ProfileId,
    /// The payload's name in it.
    pub payload: String,
}

/// Keeps a key in the place of the one before.
///
/// # Errors
/// Only the database's own.
pub fn insert_key(tx: &mut Tx<'_>, place: &Place, kept: &Kept, now: Time) -> Result<()> {
    let before = issued_keys::table
        .filter(issued_keys::device_id.eq(place.device.as_str()))
        .filter(issued_keys::profile_id.eq(place.profile.as_str()))
        .filter(issued_keys::payload.eq(&place.payload));
    diesel::delete(before).execute(tx.conn())?;
    let row = (
        issued_keys::certificate_id.eq(kept.certificate.as_str()),
        issued_keys::device_id.eq(place.device.as_str()),
        issued_keys::profile_id.eq(place.profile.as_str()),
        issued_keys::payload.eq(&place.payload),
        issued_keys::sealed_identity.eq(&kept.sealed),
        issued_keys::created_at.eq(now.0),
    );
    diesel::insert_into(issued_keys::table).values(row).execute(tx.conn())?;
    Ok(())
}

/// The key that waits for its delivery.
///
/// # Errors
/// Only the database's own.
pub fn find_key(conn: &mut Conn, place: &Place) -> Result<Option<Kept>> {
    let row: Option<(String, Vec<u8>)> = issued_keys::table
        .filter(issued_keys::device_id.eq(place.device.as_str()))
        .filter(issued_keys::profile_id.eq(place.profile.as_str()))
        .filter(issued_keys::payload.eq(&place.payload))
        .select((issued_keys::certificate_id, issued_keys::sealed_identity))
        .first(conn)
        .optional()?;
    Ok(row.map(|(certificate, sealed)| Kept { certificate: CertificateId::from_store(certificate), sealed }))
}

/// Forgets the key of a certificate, if it is kept.
///
/// # Errors
/// Only the database's own.
pub fn delete_key(tx: &mut Tx<'_>, certificate: &CertificateId) -> Result<()> {
    diesel::delete(issued_keys::table.find(certificate.as_str())).execute(tx.conn())?;
    Ok(())
}

/// Forgets keys that nobody fetched since then, at most `limit`; returns how many.
///
/// # Errors
/// Only the database's own.
pub fn purge_keys(tx: &mut Tx<'_>, before: Time, limit: i64) -> Result<usize> {
    Ok(delete_some!(tx, issued_keys, certificate_id: String, issued_keys::created_at.lt(before.0), limit))
}
