//! Profiles and their versions.

use diesel::prelude::*;

use super::schema::{desired_items, profile_versions, profiles};
use super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::domain::device::Platform;
use crate::domain::profile::{Document, Kind, Profile};
use crate::ids::ProfileId;

#[derive(Queryable, Selectable)]
#[diesel(table_name = profiles)]
struct Row {
    id: String,
    display_name: String,
    kind: String,
    platform: String,
    version: i64,
    document: String,
}

impl TryFrom<Row> for Profile {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            id: ProfileId::from_store(row.id),
            display_name: row.display_name,
            kind: Kind::parse(&row.kind).ok_or_else(|| Error::corrupt("profiles.kind"))?,
            platform: Platform::parse(&row.platform).ok_or_else(|| Error::corrupt("profiles.platform"))?,
            version: row.version,
            document: serde_json::from_str(&row.document)?,
        })
    }
}

/// Inserts a profile and its first version.
///
/// # Errors
/// [`Error::Conflict`] when the name is taken.
pub fn insert_profile(tx: &mut Tx<'_>, profile: &Profile, now: Time) -> Result<()> {
    let document = serde_json::to_string(&profile.document)?;
    diesel::insert_into(profiles::table)
        .values((
            profiles::id.eq(profile.id.as_str()),
            profiles::display_name.eq(&profile.display_name),
            profiles::kind.eq(profile.kind.as_str()),
            profiles::platform.eq(profile.platform.as_str()),
            profiles::version.eq(profile.version),
            profiles::document.eq(&document),
            profiles::created_at.eq(now.0),
            profiles::updated_at.eq(now.0),
        ))
        .execute(tx.conn())?;
    insert_version(tx, &profile.id, profile.version, &document)
}

/// Stores name and document as the version after `profile.version` and returns its number; the older versions stay as long as a device
/// may have them.
///
/// # Errors
/// [`Error::Conflict`] when somebody else changed the profile first, or the name is taken.
pub fn update_profile(tx: &mut Tx<'_>, profile: &Profile, now: Time) -> Result<i64> {
    let document = serde_json::to_string(&profile.document)?;
    let version = profile.version.saturating_add(1);
    let changed = diesel::update(profiles::table.find(profile.id.as_str()).filter(profiles::version.eq(profile.version)))
        .set((
            profiles::display_name.eq(&profile.display_name),
            profiles::version.eq(version),
            profiles::document.eq(&document),
            profiles::updated_at.eq(now.0),
        ))
        .execute(tx.conn())?;
    if changed == 0 {
        return Err(Error::Conflict("the profile was changed in the meantime".into()));
    }
    insert_version(tx, &profile.id, version, &document)?;
    Ok(version)
}

/// Gives a profile another name; its content and version stay.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] when the name is taken.
pub fn update_name(tx: &mut Tx<'_>, id: &ProfileId, display_name: &str, now: Time) -> Result<()> {
    let changed = diesel::update(profiles::table.find(id.as_str()))
        .set((profiles::display_name.eq(display_name), profiles::updated_at.eq(now.0)))
        .execute(tx.conn())?;
    if changed == 0 { Err(Error::NotFound) } else { Ok(()) }
}

fn insert_version(tx: &mut Tx<'_>, id: &ProfileId, version: i64, document: &str) -> Result<()> {
    diesel::insert_into(profile_versions::table)
        .values((
            profile_versions::profile_id.eq(id.as_str()),
            profile_versions::version.eq(version),
            profile_versions::document.eq(document),
        ))
        .execute(tx.conn())?;
    Ok(())
}

/// Deletes a profile and its assignments. Its versions stay: devices still have its content; recompute the profile afterwards.
///
/// # Errors
/// [`Error::NotFound`].
pub fn delete_profile(tx: &mut Tx<'_>, id: &ProfileId) -> Result<()> {
    let gone = diesel::delete(profiles::table.find(id.as_str())).execute(tx.conn())?;
    if gone == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// Drops versions that are neither current nor on a device, at most `limit`; returns how many.
///
/// # Errors
/// Only the database's own.
pub fn purge_versions(tx: &mut Tx<'_>, limit: i64) -> Result<usize> {
    let current =
        profiles::table.filter(profiles::id.eq(profile_versions::profile_id)).filter(profiles::version.eq(profile_versions::version));
    let on_devices = desired_items::table.filter(desired_items::profile_id.eq(profile_versions::profile_id)).filter(
        desired_items::desired_version
            .eq(profile_versions::version.nullable())
            .or(desired_items::applied_version.eq(profile_versions::version.nullable())),
    );
    let stale = profile_versions::table
        .filter(diesel::dsl::not(diesel::dsl::exists(current)))
        .filter(diesel::dsl::not(diesel::dsl::exists(on_devices)))
        .limit(limit)
        .select((profile_versions::profile_id, profile_versions::version));
    let keys: Vec<(String, i64)> = stale.load(tx.conn())?;
    for (id, version) in &keys {
        diesel::delete(profile_versions::table.find((id, version))).execute(tx.conn())?;
    }
    Ok(keys.len())
}

/// The profile, which must exist.
///
/// # Errors
/// [`Error::NotFound`].
pub fn load_profile(conn: &mut Conn, id: &ProfileId) -> Result<Profile> {
    profiles::table.find(id.as_str()).select(Row::as_select()).first(conn)?.try_into()
}

/// The profile of that name.
///
/// # Errors
/// Only the database's own.
pub fn find_profile_by_name(conn: &mut Conn, name: &str) -> Result<Option<Profile>> {
    let row = profiles::table.filter(profiles::display_name.eq(name)).select(Row::as_select()).first(conn).optional()?;
    row.map(Profile::try_from).transpose()
}

/// A page of profiles by name, after `after`.
///
/// # Errors
/// Only the database's own.
pub fn list_profiles(conn: &mut Conn, after: &str, limit: i64) -> Result<Vec<Profile>> {
    let rows: Vec<Row> = profiles::table
        .filter(profiles::display_name.gt(after))
        .order(profiles::display_name)
        .limit(limit)
        .select(Row::as_select())
        .load(conn)?;
    rows.into_iter().map(Profile::try_from).collect()
}

/// A version's document, which must exist.
///
/// # Errors
/// [`Error::NotFound`].
pub fn load_document(conn: &mut Conn, id: &ProfileId, version: i64) -> Result<Document> {
    let text: String = profile_versions::table.find((id.as_str(), version)).select(profile_versions::document).first(conn)?;
    Ok(serde_json::from_str(&text)?)
}
