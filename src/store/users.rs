//! Users.

use diesel::prelude::*;

use super::schema::users;
use super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::domain::user::{Role, User};
use crate::ids::UserId;

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = users)]
struct Row {
    id: String,
    upn: String,
    display_name: String,
    mail: Option<String>,
    sam_account_name: Option<String>,
    security_identifier: Option<String>,
    distinguished_name: Option<String>,
    role: String,
    enabled: bool,
    created_at: i64,
    updated_at: i64,
}

impl TryFrom<Row> for User {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            id: UserId::from_store(row.id),
            upn: row.upn,
            display_name: row.display_name,
            mail: row.mail,
            sam_account_name: row.sam_account_name,
            security_identifier: row.security_identifier,
            distinguished_name: row.distinguished_name,
            role: Role::parse(&row.role).ok_or_else(|| Error::corrupt("users.role"))?,
            enabled: row.enabled,
        })
    }
}

/// Inserts a user; the UPN is stored in lower case.
///
/// # Errors
/// [`Error::Conflict`] when the UPN is taken.
pub fn insert_user(tx: &mut Tx<'_>, user: &User, now: Time) -> Result<()> {
    let row = Row {
        id: user.id.to_string(),
        upn: user.upn.to_lowercase(),
        display_name: user.display_name.clone(),
        mail: user.mail.clone(),
        sam_account_name: user.sam_account_name.clone(),
        security_identifier: user.security_identifier.clone(),
        distinguished_name: user.distinguished_name.clone(),
        role: user.role.to_string(),
        enabled: user.enabled,
        created_at: now.0,
        updated_at: now.0,
    };
    diesel::insert_into(users::table).values(row).execute(tx.conn())?;
    Ok(())
}

/// The user of that UPN (any case).
///
/// # Errors
/// Only the database's own.
pub fn find_user_by_upn(conn: &mut Conn, upn: &str) -> Result<Option<User>> {
    let row = users::table.filter(users::upn.eq(upn.trim().to_lowercase())).select(Row::as_select()).first(conn).optional()?;
    row.map(User::try_from).transpose()
}

/// The user, who must exist.
///
/// # Errors
/// [`Error::NotFound`].
pub fn load_user(conn: &mut Conn, id: &UserId) -> Result<User> {
    users::table.find(id.as_str()).select(Row::as_select()).first(conn)?.try_into()
}

/// [`load_user`], and until the end of the transaction nobody changes the user or locks it, too: for counting before inserting. What only
/// names the user goes on meanwhile.
///
/// # Errors
/// [`Error::NotFound`].
pub fn lock_user(tx: &mut Tx<'_>, id: &UserId) -> Result<User> {
    let row: Row = match tx.conn() {
        Conn::Postgres(c) => users::table.find(id.as_str()).select(Row::as_select()).for_no_key_update().first(c)?,
        // On SQLite there is one transaction that writes at a time.
        Conn::Sqlite(c) => users::table.find(id.as_str()).select(Row::as_select()).first(c)?,
    };
    row.try_into()
}

/// A page of users by UPN, after `after`.
///
/// # Errors
/// Only the database's own.
pub fn list_users(conn: &mut Conn, after: &str, limit: i64) -> Result<Vec<User>> {
    let rows = users::table.filter(users::upn.gt(after)).order(users::upn).limit(limit).select(Row::as_select()).load(conn)?;
    rows.into_iter().map(User::try_from).collect()
}

/// The first administrator by UPN, who may be disabled.
///
/// # Errors
/// Only the database's own.
pub fn find_administrator(conn: &mut Conn) -> Result<Option<User>> {
    let all = users::table.filter(users::role.eq(Role::Administrator.as_str()));
    all.order(users::upn).select(Row::as_select()).first(conn).optional()?.map(User::try_from).transpose()
}

/// Stores what is known of the user, over what was.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] when the UPN is taken.
pub fn update_user(tx: &mut Tx<'_>, user: &User, now: Time) -> Result<()> {
    let changed = diesel::update(users::table.find(user.id.as_str()))
        .set((
            users::upn.eq(user.upn.to_lowercase()),
            users::display_name.eq(&user.display_name),
            users::mail.eq(&user.mail),
            users::sam_account_name.eq(&user.sam_account_name),
            users::security_identifier.eq(&user.security_identifier),
            users::distinguished_name.eq(&user.distinguished_name),
            users::role.eq(user.role.as_str()),
            users::enabled.eq(user.enabled),
            users::updated_at.eq(now.0),
        ))
        .execute(tx.conn())?;
    if changed == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// Deletes a user.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] while devices, enrolments or certificates name the user.
pub fn delete_user(tx: &mut Tx<'_>, id: &UserId) -> Result<()> {
    let gone = diesel::delete(users::table.find(id.as_str())).execute(tx.conn())?;
    if gone == 0 { Err(Error::NotFound) } else { Ok(()) }
}
