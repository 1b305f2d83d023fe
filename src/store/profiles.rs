//! Profiles and their versions. The documents are sealed: they may hold secrets.

use diesel::prelude::*;

use super::schema::{desired_items, profile_versions, profiles};
use super::sealed::PROFILE_DOCUMENT;
use super::{Conn, Error, Result, Tx, audit};
use crate::clock::Time;
use crate::domain::device::Platform;
use crate::domain::profile::{self, Document, Profile};
use crate::ids::ProfileId;
use crate::secret::Sealer;
use crate::store::odata::{Kind, Property, Set};

#[derive(Queryable, Selectable)]
#[diesel(table_name = profiles)]
struct Row {
    id: String,
    display_name: String,
    kind: String,
    platform: String,
    version: i64,
}

/// A version's document as it is stored: the sealed bytes, and the rules of a compliance policy.
pub(super) type Stored = (Vec<u8>, Option<String>);

fn opened(sealer: &Sealer, (row, stored): (Row, Stored)) -> Result<Profile> {
    Ok(Profile {
        id: ProfileId::from_store(row.id),
        display_name: row.display_name,
        kind: profile::Kind::parse(&row.kind).ok_or_else(|| Error::corrupt("profiles.kind"))?,
        platform: Platform::parse(&row.platform).ok_or_else(|| Error::corrupt("profiles.platform"))?,
        version: row.version,
        document: open(sealer, &stored)?,
    })
}

/// Opens a document.
pub(super) fn open(sealer: &Sealer, (sealed, rules): &Stored) -> Result<Document> {
    let mut document: Document = serde_json::from_slice(sealer.open(PROFILE_DOCUMENT, sealed)?.expose())?;
    document.compliance = rules.as_deref().map(serde_json::from_str).transpose()?;
    Ok(document)
}

fn seal(sealer: &Sealer, document: &Document) -> Result<Stored> {
    let rules = document.compliance.as_ref().map(serde_json::to_string).transpose()?;
    let plain = zeroize::Zeroizing::new(serde_json::to_vec(&Document { compliance: None, ..document.clone() })?);
    Ok((sealer.seal(PROFILE_DOCUMENT, &plain)?, rules))
}

/// Inserts a profile and its first version.
///
/// # Errors
/// [`Error::Conflict`] when the name is taken.
pub fn insert_profile(tx: &mut Tx<'_>, sealer: &Sealer, profile: &Profile, now: Time) -> Result<()> {
    diesel::insert_into(profiles::table)
        .values((
            profiles::id.eq(profile.id.as_str()),
            profiles::display_name.eq(&profile.display_name),
            profiles::kind.eq(profile.kind.as_str()),
            profiles::platform.eq(profile.platform.as_str()),
            profiles::version.eq(profile.version),
            profiles::in_settings_catalogue.eq(profile.document.is_of_settings_catalogue(profile.platform)),
            profiles::created_at.eq(now.0),
            profiles::updated_at.eq(now.0),
        ))
        .execute(tx.conn())?;
    insert_version(tx, sealer, &profile.id, profile.version, &profile.document)
}

/// Stores name and document as the version after `profile.version` and returns its number; the older versions stay as long as a device
/// may have them.
///
/// # Errors
/// [`Error::Conflict`] when somebody else changed the profile first, or the name is taken.
pub fn update_profile(tx: &mut Tx<'_>, sealer: &Sealer, profile: &Profile, now: Time) -> Result<i64> {
    let version = profile.version.saturating_add(1);
    let changed = diesel::update(profiles::table.find(profile.id.as_str()).filter(profiles::version.eq(profile.version)))
        .set((
            profiles::display_name.eq(&profile.display_name),
            profiles::version.eq(version),
            profiles::in_settings_catalogue.eq(profile.document.is_of_settings_catalogue(profile.platform)),
            profiles::updated_at.eq(now.0),
        ))
        .execute(tx.conn())?;
    if changed == 0 {
        return Err(Error::Conflict("the profile was changed in the meantime".into()));
    }
    insert_version(tx, sealer, &profile.id, version, &profile.document)?;
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

fn insert_version(tx: &mut Tx<'_>, sealer: &Sealer, id: &ProfileId, version: i64, document: &Document) -> Result<()> {
    let (sealed, rules) = seal(sealer, document)?;
    diesel::insert_into(profile_versions::table)
        .values((
            profile_versions::id.eq(format!("{id}/{version}")),
            profile_versions::profile_id.eq(id.as_str()),
            profile_versions::version.eq(version),
            profile_versions::sealed_document.eq(sealed),
            profile_versions::rules.eq(rules),
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
        .select(profile_versions::id);
    let keys: Vec<String> = stale.load(tx.conn())?;
    for id in &keys {
        diesel::delete(profile_versions::table.find(id)).execute(tx.conn())?;
    }
    Ok(keys.len())
}

/// Profiles beside the document of their present version.
macro_rules! joined {
    () => {
        profiles::table
            .inner_join(
                profile_versions::table
                    .on(profile_versions::profile_id.eq(profiles::id).and(profile_versions::version.eq(profiles::version))),
            )
            .select((Row::as_select(), (profile_versions::sealed_document, profile_versions::rules)))
    };
}

/// The profile, which must exist.
///
/// # Errors
/// [`Error::NotFound`].
pub fn load_profile(conn: &mut Conn, sealer: &Sealer, id: &ProfileId) -> Result<Profile> {
    opened(sealer, joined!().filter(profiles::id.eq(id.as_str())).first(conn)?)
}

/// The profile's name, if it exists.
///
/// # Errors
/// Only the database's own.
pub fn find_name(conn: &mut Conn, id: &ProfileId) -> Result<Option<String>> {
    Ok(profiles::table.find(id.as_str()).select(profiles::display_name).first(conn).optional()?)
}

/// What a profile was called that was deleted, as the audit log has it.
///
/// # Errors
/// Only the database's own.
pub fn find_deleted_name(conn: &mut Conn, id: &ProfileId) -> Result<Option<String>> {
    let kept = audit::find_before(conn, &format!("profile:{id}"), "profile.delete")?;
    let kept = kept.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    Ok(kept.and_then(|state| state.get("display_name")?.as_str().map(str::to_owned)))
}

/// The profile of that name.
///
/// # Errors
/// Only the database's own.
pub fn find_profile_by_name(conn: &mut Conn, sealer: &Sealer, name: &str) -> Result<Option<Profile>> {
    let row = joined!().filter(profiles::display_name.eq(name)).first(conn).optional()?;
    row.map(|row| opened(sealer, row)).transpose()
}

/// A page of profiles by name, after `after`.
///
/// # Errors
/// Only the database's own.
pub fn list_profiles(conn: &mut Conn, sealer: &Sealer, after: &str, limit: i64) -> Result<Vec<Profile>> {
    let rows: Vec<(Row, Stored)> =
        joined!().filter(profiles::display_name.gt(after)).order(profiles::display_name).limit(limit).load(conn)?;
    rows.into_iter().map(|row| opened(sealer, row)).collect()
}

/// What Graph calls the systems of profiles.
const PLATFORMS: &[(&str, &str)] = &[("windows", "windows"), ("macOS", "macos"), ("iOS", "ios")];

/// Profiles and policies as the API finds them.
pub const SET: Set = Set {
    name: "profiles",
    from: "profiles t",
    key: "t.id",
    base: "TRUE",
    // Whoever may see profiles sees all: whom they may be assigned to is bound.
    reach: "TRUE OR '' IN ({groups})",
    properties: &[
        Property::new("id", "t.id", Kind::Id),
        Property::new("displayName", "t.display_name", Kind::Text).ordered().searched(),
        Property::new("createdDateTime", "t.created_at", Kind::Time),
        Property::new("lastModifiedDateTime", "t.updated_at", Kind::Time),
        Property::new("version", "t.version", Kind::Number),
        Property::new("platform", "t.platform", Kind::Word(PLATFORMS)),
    ],
    lists: &[],
    types: &[
        ("windows10CompliancePolicy", "t.kind = 'compliance' AND t.platform = 'windows'"),
        ("macOSCompliancePolicy", "t.kind = 'compliance' AND t.platform = 'macos'"),
        ("iosCompliancePolicy", "t.kind = 'compliance' AND t.platform = 'ios'"),
    ],
    newest_first: None,
};

/// Those that the settings catalogue has, in its words.
pub const CATALOGUE: Set = Set {
    name: "policies of the settings catalogue",
    base: "t.in_settings_catalogue = TRUE",
    properties: &[
        Property::new("id", "t.id", Kind::Id),
        Property::new("name", "t.display_name", Kind::Text).ordered().searched(),
        Property::new("createdDateTime", "t.created_at", Kind::Time),
        Property::new("lastModifiedDateTime", "t.updated_at", Kind::Time),
        Property::new("platforms", "t.platform", Kind::Word(&[("windows10", "windows"), ("macOS", "macos"), ("iOS", "ios")])),
    ],
    types: &[("deviceManagementConfigurationPolicy", "TRUE")],
    ..SET
};

/// A profile with when it was made and last changed.
#[derive(Clone, Debug)]
pub struct Dated {
    /// The profile.
    pub profile: Profile,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

/// The profiles with these ids, those that exist.
///
/// # Errors
/// Only the database's own.
pub fn list_by_ids(conn: &mut Conn, sealer: &Sealer, ids: &[String]) -> Result<Vec<Dated>> {
    let times: Vec<(String, i64, i64)> =
        profiles::table.filter(profiles::id.eq_any(ids)).select((profiles::id, profiles::created_at, profiles::updated_at)).load(conn)?;
    let rows: Vec<(Row, Stored)> = joined!().filter(profiles::id.eq_any(ids)).load(conn)?;
    let dated = |row: (Row, Stored)| {
        let profile = opened(sealer, row)?;
        let (_, created, updated) =
            times.iter().find(|(id, ..)| id == profile.id.as_str()).ok_or_else(|| Error::corrupt("profiles.created_at"))?;
        Ok(Dated { created_at: Time(*created), updated_at: Time(*updated), profile })
    };
    rows.into_iter().map(dated).collect()
}
