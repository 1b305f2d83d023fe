//! Identities that were imported for people. The keys are sealed.

use diesel::prelude::*;

use super::odata::{Kind, Property, Set};
use super::schema::{imported_pfx, users};
use super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::domain::pfx::{Padding, Pfx, Purpose, Sent};
use crate::ids::{PfxId, UserId};

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = imported_pfx)]
struct Row {
    id: String,
    user_id: String,
    purpose: String,
    sha256: String,
    thumbprint: String,
    subject: String,
    not_before: i64,
    not_after: i64,
    key_name: Option<String>,
    provider_name: Option<String>,
    padding: Option<String>,
    created_at: i64,
    updated_at: i64,
}

impl TryFrom<Row> for Pfx {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let sent = match (row.key_name, row.provider_name, row.padding) {
            (Some(key_name), Some(provider_name), Some(padding)) => {
                let padding = Padding::parse(&padding).ok_or_else(|| Error::corrupt("imported_pfx.padding"))?;
                Some(Sent { key_name, provider_name, padding })
            }
            _ => None,
        };
        Ok(Self {
            id: PfxId::from_store(row.id),
            user_id: UserId::from_store(row.user_id),
            purpose: Purpose::parse(&row.purpose).ok_or_else(|| Error::corrupt("imported_pfx.purpose"))?,
            sha256: row.sha256,
            thumbprint: row.thumbprint,
            subject: row.subject,
            not_before: Time(row.not_before),
            not_after: Time(row.not_after),
            sent,
            created_at: Time(row.created_at),
            updated_at: Time(row.updated_at),
        })
    }
}

/// Inserts one with its sealed key (column `imported_pfx.sealed_identity`).
///
/// # Errors
/// [`Error::Conflict`] when the person has that certificate already, or does not exist.
pub fn insert_pfx(tx: &mut Tx<'_>, pfx: &Pfx, sealed: &[u8]) -> Result<()> {
    let row = Row {
        id: pfx.id.to_string(),
        user_id: pfx.user_id.to_string(),
        purpose: pfx.purpose.to_string(),
        sha256: pfx.sha256.clone(),
        thumbprint: pfx.thumbprint.clone(),
        subject: pfx.subject.clone(),
        not_before: pfx.not_before.0,
        not_after: pfx.not_after.0,
        key_name: pfx.sent.as_ref().map(|sent| sent.key_name.clone()),
        provider_name: pfx.sent.as_ref().map(|sent| sent.provider_name.clone()),
        padding: pfx.sent.as_ref().map(|sent| sent.padding.to_string()),
        created_at: pfx.created_at.0,
        updated_at: pfx.updated_at.0,
    };
    diesel::insert_into(imported_pfx::table).values((row, imported_pfx::sealed_identity.eq(sealed))).execute(tx.conn())?;
    Ok(())
}

/// Those of a person, by the end of their validity.
///
/// # Errors
/// Only the database's own.
pub fn list_of_user(conn: &mut Conn, user: &UserId) -> Result<Vec<Pfx>> {
    let of_user = imported_pfx::table.filter(imported_pfx::user_id.eq(user.as_str()));
    let rows: Vec<Row> = of_user.order((imported_pfx::not_after, imported_pfx::id)).select(Row::as_select()).load(conn)?;
    rows.into_iter().map(Pfx::try_from).collect()
}

/// The sealed key of one, which must exist.
///
/// # Errors
/// [`Error::NotFound`].
pub fn load_sealed(conn: &mut Conn, id: &PfxId) -> Result<Vec<u8>> {
    Ok(imported_pfx::table.find(id.as_str()).select(imported_pfx::sealed_identity).first(conn)?)
}

/// Deletes one of a person's; gives it as it was.
///
/// # Errors
/// [`Error::NotFound`].
pub fn delete_pfx(tx: &mut Tx<'_>, user: &UserId, id: &PfxId) -> Result<Pfx> {
    let of_user = imported_pfx::user_id.eq(user.as_str());
    let row: Row = imported_pfx::table.find(id.as_str()).filter(of_user).select(Row::as_select()).first(tx.conn())?;
    diesel::delete(imported_pfx::table.find(id.as_str())).execute(tx.conn())?;
    row.try_into()
}

/// Changes what one is for, and how its password came; the certificate stays.
///
/// # Errors
/// [`Error::NotFound`].
pub fn update_pfx(tx: &mut Tx<'_>, pfx: &Pfx) -> Result<()> {
    let change = (
        imported_pfx::purpose.eq(pfx.purpose.as_str()),
        imported_pfx::key_name.eq(pfx.sent.as_ref().map(|sent| sent.key_name.as_str())),
        imported_pfx::provider_name.eq(pfx.sent.as_ref().map(|sent| sent.provider_name.as_str())),
        imported_pfx::padding.eq(pfx.sent.as_ref().map(|sent| sent.padding.as_str())),
        imported_pfx::updated_at.eq(pfx.updated_at.0),
    );
    match diesel::update(imported_pfx::table.find(pfx.id.as_str())).set(change).execute(tx.conn())? {
        0 => Err(Error::NotFound),
        _ => Ok(()),
    }
}

/// Imported identities as the API finds them.
pub const SET: Set = Set {
    name: "imported identities",
    from: "imported_pfx t JOIN users u ON u.id = t.user_id",
    key: "t.id",
    base: "u.deleted_at IS NULL",
    reach: "t.user_id IN (SELECT m.member_id FROM group_members m WHERE m.member_kind = 'user' AND m.group_id IN ({groups}))",
    properties: &[
        Property::new("createdDateTime", "t.created_at", Kind::Time),
        Property::new("expirationDateTime", "t.not_after", Kind::Time),
        Property::new("intendedPurpose", "t.purpose", Kind::Word(PURPOSES)),
        Property::new("lastModifiedDateTime", "t.updated_at", Kind::Time),
        Property::new("startDateTime", "t.not_before", Kind::Time),
        Property::new("thumbprint", "t.thumbprint", Kind::Text),
        Property::new("userPrincipalName", "u.upn", Kind::Text),
    ],
    lists: &[],
    types: &[("userPFXCertificate", "TRUE")],
    newest_first: None,
};

const PURPOSES: &[(&str, &str)] =
    &[("smimeEncryption", "smime-encryption"), ("smimeSigning", "smime-signing"), ("vpn", "vpn"), ("wifi", "wifi")];

/// Those with these ids, each with the name of its person.
///
/// # Errors
/// Only the database's own.
pub fn list_by_ids(conn: &mut Conn, ids: &[String]) -> Result<Vec<(Pfx, String)>> {
    let named = imported_pfx::table.inner_join(users::table).filter(imported_pfx::id.eq_any(ids));
    let rows: Vec<(Row, String)> = named.select((Row::as_select(), users::upn)).load(conn)?;
    rows.into_iter().map(|(row, upn)| Ok((Pfx::try_from(row)?, upn))).collect()
}
