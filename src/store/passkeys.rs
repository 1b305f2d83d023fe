//! Passkeys of people.

use diesel::prelude::*;

use super::schema::passkeys;
use super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::domain::passkey::Passkey;
use crate::ids::{PasskeyId, UserId};

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = passkeys)]
struct Row {
    id: String,
    user_id: String,
    credential_id: String,
    credential: String,
    display_name: String,
    aa_guid: String,
    model: String,
    attested: bool,
    attestation_certificates: String,
    created_at: i64,
    last_used_at: Option<i64>,
}

impl TryFrom<Row> for Passkey {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            id: PasskeyId::from_store(row.id),
            user_id: UserId::from_store(row.user_id),
            credential_id: row.credential_id,
            credential: row.credential,
            display_name: row.display_name,
            aa_guid: row.aa_guid,
            model: row.model,
            attested: row.attested,
            attestation_certificates: serde_json::from_str(&row.attestation_certificates)?,
            created_at: Time(row.created_at),
            last_used_at: row.last_used_at.map(Time),
        })
    }
}

/// Inserts a passkey.
///
/// # Errors
/// [`Error::Conflict`] when the credential is known.
pub fn insert_passkey(tx: &mut Tx<'_>, passkey: &Passkey) -> Result<()> {
    let row = Row {
        id: passkey.id.to_string(),
        user_id: passkey.user_id.to_string(),
        credential_id: passkey.credential_id.clone(),
        credential: passkey.credential.clone(),
        display_name: passkey.display_name.clone(),
        aa_guid: passkey.aa_guid.clone(),
        model: passkey.model.clone(),
        attested: passkey.attested,
        attestation_certificates: serde_json::to_string(&passkey.attestation_certificates)?,
        created_at: passkey.created_at.0,
        last_used_at: passkey.last_used_at.map(|t| t.0),
    };
    diesel::insert_into(passkeys::table).values(row).execute(tx.conn())?;
    Ok(())
}

/// The passkeys of a user, oldest first.
///
/// # Errors
/// Only the database's own.
pub fn list_passkeys(conn: &mut Conn, user: &UserId) -> Result<Vec<Passkey>> {
    let rows: Vec<Row> =
        passkeys::table.filter(passkeys::user_id.eq(user.as_str())).order(passkeys::id).select(Row::as_select()).load(conn)?;
    rows.into_iter().map(Passkey::try_from).collect()
}

/// The passkey with that credential.
///
/// # Errors
/// Only the database's own.
pub fn find_by_credential(conn: &mut Conn, credential: &str) -> Result<Option<Passkey>> {
    let row: Option<Row> =
        passkeys::table.filter(passkeys::credential_id.eq(credential)).select(Row::as_select()).first(conn).optional()?;
    row.map(Passkey::try_from).transpose()
}

/// The passkey of that user.
///
/// # Errors
/// [`Error::NotFound`].
pub fn load_passkey(conn: &mut Conn, user: &UserId, id: &PasskeyId) -> Result<Passkey> {
    let row: Row = passkeys::table.find(id.as_str()).filter(passkeys::user_id.eq(user.as_str())).select(Row::as_select()).first(conn)?;
    row.try_into()
}

/// Notes that it was used, and what it says of itself now. `false` when it is gone, or was used at the same moment.
///
/// # Errors
/// Only the database's own.
pub fn update_used(tx: &mut Tx<'_>, id: &PasskeyId, (before, after): (&str, &str), now: Time) -> Result<bool> {
    let changed = diesel::update(passkeys::table.find(id.as_str()).filter(passkeys::credential.eq(before)))
        .set((passkeys::credential.eq(after), passkeys::last_used_at.eq(Some(now.0))))
        .execute(tx.conn())?;
    Ok(changed == 1)
}

/// Gives it another name.
///
/// # Errors
/// Only the database's own.
pub fn update_name(tx: &mut Tx<'_>, id: &PasskeyId, name: &str) -> Result<()> {
    diesel::update(passkeys::table.find(id.as_str())).set(passkeys::display_name.eq(name)).execute(tx.conn())?;
    Ok(())
}

/// Deletes it.
///
/// # Errors
/// Only the database's own.
pub fn delete_passkey(tx: &mut Tx<'_>, id: &PasskeyId) -> Result<()> {
    diesel::delete(passkeys::table.find(id.as_str())).execute(tx.conn())?;
    Ok(())
}
