//! Identities that were imported for people. The keys are sealed.

use diesel::prelude::*;

use super::schema::imported_pfx;
use super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::domain::pfx::{Pfx, Purpose};
use crate::ids::{PfxId, UserId};

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = imported_pfx)]
struct Row {
    id: String,
    user_id: String,
    purpose: String,
    sha256: String,
    subject: String,
    not_before: i64,
    not_after: i64,
    created_at: i64,
}

impl TryFrom<Row> for Pfx {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            id: PfxId::from_store(row.id),
            user_id: UserId::from_store(row.user_id),
            purpose: Purpose::parse(&row.purpose).ok_or_else(|| Error::corrupt("imported_pfx.purpose"))?,
            sha256: row.sha256,
            subject: row.subject,
            not_before: Time(row.not_before),
            not_after: Time(row.not_after),
            created_at: Time(row.created_at),
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
        subject: pfx.subject.clone(),
        not_before: pfx.not_before.0,
        not_after: pfx.not_after.0,
        created_at: pfx.created_at.0,
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
