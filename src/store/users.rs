//! Users.

use std::collections::BTreeSet;

use diesel::prelude::*;
use diesel::sql_types::Text;

use super::dialect::each_backend;
use super::schema::users;
use super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::domain::user::{Details, User};
use crate::ids::UserId;
use crate::store::odata::{Kind, Property, Set};

/// How many names a statement asks for at most.
const CHUNK: usize = 500;

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
    enabled: bool,
    given_name: Option<String>,
    surname: Option<String>,
    job_title: Option<String>,
    department: Option<String>,
    office_location: Option<String>,
    mobile_phone: Option<String>,
    employee_id: Option<String>,
    usage_location: Option<String>,
    preferred_language: Option<String>,
    external_id: Option<String>,
    created_at: i64,
    updated_at: i64,
    deleted_at: Option<i64>,
}

impl From<Row> for User {
    fn from(row: Row) -> Self {
        Self {
            id: UserId::from_store(row.id),
            upn: row.upn,
            display_name: row.display_name,
            mail: row.mail,
            sam_account_name: row.sam_account_name,
            security_identifier: row.security_identifier,
            distinguished_name: row.distinguished_name,
            // Whoever is deleted signs in nowhere.
            enabled: row.enabled && row.deleted_at.is_none(),
            details: Details {
                given_name: row.given_name,
                surname: row.surname,
                job_title: row.job_title,
                department: row.department,
                office_location: row.office_location,
                mobile_phone: row.mobile_phone,
                employee_id: row.employee_id,
                usage_location: row.usage_location,
                preferred_language: row.preferred_language,
                external_id: row.external_id,
            },
        }
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
        enabled: user.enabled,
        given_name: user.details.given_name.clone(),
        surname: user.details.surname.clone(),
        job_title: user.details.job_title.clone(),
        department: user.details.department.clone(),
        office_location: user.details.office_location.clone(),
        mobile_phone: user.details.mobile_phone.clone(),
        employee_id: user.details.employee_id.clone(),
        usage_location: user.details.usage_location.clone(),
        preferred_language: user.details.preferred_language.clone(),
        external_id: user.details.external_id.clone(),
        created_at: now.0,
        updated_at: now.0,
        deleted_at: None,
    };
    diesel::insert_into(users::table).values(row).execute(tx.conn())?;
    Ok(())
}

/// The user of that UPN (any case).
///
/// # Errors
/// Only the database's own.
pub fn find_user_by_upn(conn: &mut Conn, upn: &str) -> Result<Option<User>> {
    let row = users::table
        .filter(users::upn.eq(upn.trim().to_lowercase()))
        .filter(users::deleted_at.is_null())
        .select(Row::as_select())
        .first(conn)
        .optional()?;
    Ok(row.map(User::from))
}

/// Who has these user principal names (in small letters): name and id.
///
/// # Errors
/// Only the database's own.
pub fn list_by_upns(conn: &mut Conn, upns: &[&str]) -> Result<Vec<(String, UserId)>> {
    let mut found = Vec::new();
    for piece in upns.chunks(CHUNK) {
        let query = users::table.filter(users::upn.eq_any(piece)).filter(users::deleted_at.is_null()).select((users::upn, users::id));
        let rows: Vec<(String, String)> = query.load(conn)?;
        found.extend(rows.into_iter().map(|(upn, id)| (upn, UserId::from_store(id))));
    }
    Ok(found)
}

/// The people who are called so: whose user principal name, mail address or account name is among the names, in any case, or whose security
/// identifier among the others.
///
/// # Errors
/// Only the database's own.
pub fn list_named(conn: &mut Conn, names: &BTreeSet<String>, sids: &BTreeSet<String>) -> Result<Vec<UserId>> {
    let mut found = Vec::new();
    let folded = ["t.upn", "lower(t.mail)", "lower(t.sam_account_name)"];
    for (columns, texts) in [(&folded[..], names), (&["t.security_identifier"], sids)] {
        for piece in texts.iter().collect::<Vec<_>>().chunks(CHUNK) {
            let places: Vec<String> = (1..=piece.len()).map(|number| format!("${number}")).collect();
            let any: Vec<String> = columns.iter().map(|column| format!("{column} IN ({})", places.join(", "))).collect();
            let statement = format!("SELECT t.id AS id FROM users t WHERE t.deleted_at IS NULL AND ({})", any.join(" OR "));
            let rows: Vec<Named> = each_backend!(conn, c => {
                let mut query = diesel::sql_query(statement).into_boxed();
                for text in piece {
                    query = query.bind::<Text, _>((*text).clone());
                }
                query.load(c)
            })?;
            found.extend(rows.into_iter().map(|row| UserId::from_store(row.id)));
        }
    }
    Ok(found)
}

#[derive(QueryableByName)]
struct Named {
    #[diesel(sql_type = Text)]
    id: String,
}

/// The user, who must exist and not be deleted.
///
/// # Errors
/// [`Error::NotFound`].
pub fn load_present_user(conn: &mut Conn, id: &UserId) -> Result<User> {
    Ok(users::table.find(id.as_str()).filter(users::deleted_at.is_null()).select(Row::as_select()).first(conn)?.into())
}

/// The user, who must exist and may be deleted: devices and certificates name such users, too. Who is deleted is not enabled.
///
/// # Errors
/// [`Error::NotFound`].
pub fn load_user(conn: &mut Conn, id: &UserId) -> Result<User> {
    Ok(users::table.find(id.as_str()).select(Row::as_select()).first(conn)?.into())
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
    Ok(row.into())
}

/// A page of users by UPN, after `after`.
///
/// # Errors
/// Only the database's own.
pub fn list_users(conn: &mut Conn, after: &str, limit: i64) -> Result<Vec<User>> {
    let rows = users::table
        .filter(users::upn.gt(after))
        .filter(users::deleted_at.is_null())
        .order(users::upn)
        .limit(limit)
        .select(Row::as_select())
        .load(conn)?;
    Ok(rows.into_iter().map(User::from).collect())
}

/// Stores what is known of the user, over what was.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] when the UPN is taken.
pub fn update_user(tx: &mut Tx<'_>, user: &User, now: Time) -> Result<()> {
    let changed = diesel::update(users::table.find(user.id.as_str()).filter(users::deleted_at.is_null()))
        .set((
            users::upn.eq(user.upn.to_lowercase()),
            users::display_name.eq(&user.display_name),
            users::mail.eq(&user.mail),
            users::sam_account_name.eq(&user.sam_account_name),
            users::security_identifier.eq(&user.security_identifier),
            users::distinguished_name.eq(&user.distinguished_name),
            users::enabled.eq(user.enabled),
            (
                users::given_name.eq(&user.details.given_name),
                users::surname.eq(&user.details.surname),
                users::job_title.eq(&user.details.job_title),
                users::department.eq(&user.details.department),
                users::office_location.eq(&user.details.office_location),
                users::mobile_phone.eq(&user.details.mobile_phone),
                users::employee_id.eq(&user.details.employee_id),
                users::usage_location.eq(&user.details.usage_location),
                users::preferred_language.eq(&user.details.preferred_language),
                users::external_id.eq(&user.details.external_id),
            ),
            users::updated_at.eq(now.0),
        ))
        .execute(tx.conn())?;
    if changed == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// Deletes a user, who can be restored.
///
/// # Errors
/// [`Error::NotFound`].
pub fn delete_user(tx: &mut Tx<'_>, id: &UserId, now: Time) -> Result<()> {
    let gone = diesel::update(users::table.find(id.as_str()).filter(users::deleted_at.is_null()))
        .set((users::deleted_at.eq(Some(now.0)), users::updated_at.eq(now.0)))
        .execute(tx.conn())?;
    if gone == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// Restores a user who is deleted.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] when the UPN is taken.
pub fn restore_user(tx: &mut Tx<'_>, id: &UserId, now: Time) -> Result<()> {
    let back = diesel::update(users::table.find(id.as_str()).filter(users::deleted_at.is_not_null()))
        .set((users::deleted_at.eq(None::<i64>), users::updated_at.eq(now.0)))
        .execute(tx.conn())?;
    if back == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// Deletes a user who is deleted, for good.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] while devices, enrolments or certificates name the user.
pub fn purge_user(tx: &mut Tx<'_>, id: &UserId) -> Result<()> {
    let gone = diesel::delete(users::table.find(id.as_str()).filter(users::deleted_at.is_not_null())).execute(tx.conn())?;
    if gone == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// A page of those who were deleted before a time, by id, after `after`.
///
/// # Errors
/// Only the database's own.
pub fn list_deleted_before(conn: &mut Conn, before: Time, after: &str, limit: i64) -> Result<Vec<UserId>> {
    let ids: Vec<String> = users::table
        .filter(users::deleted_at.lt(before.0))
        .filter(users::id.gt(after))
        .order(users::id)
        .limit(limit)
        .select(users::id)
        .load(conn)?;
    Ok(ids.into_iter().map(UserId::from_store).collect())
}

/// Users as the API finds them.
pub const SET: Set = Set {
    name: "users",
    from: "users t",
    key: "t.id",
    base: "t.deleted_at IS NULL",
    reach: "t.id IN (SELECT m.member_id FROM group_members m WHERE m.member_kind = 'user' AND m.group_id IN ({groups}))",
    properties: &[
        Property::new("id", "t.id", Kind::Id),
        Property::new("displayName", "t.display_name", Kind::Text).ordered().searched(),
        Property::new("userPrincipalName", "t.upn", Kind::Text).ordered().searched(),
        Property::new("mail", "t.mail", Kind::Text).searched(),
        Property::new("givenName", "t.given_name", Kind::Text),
        Property::new("surname", "t.surname", Kind::Text),
        Property::new("jobTitle", "t.job_title", Kind::Text),
        Property::new("department", "t.department", Kind::Text),
        Property::new("officeLocation", "t.office_location", Kind::Text),
        Property::new("employeeId", "t.employee_id", Kind::Text),
        Property::new("usageLocation", "t.usage_location", Kind::Text),
        Property::new("accountEnabled", "t.enabled", Kind::Bool),
        Property::new("createdDateTime", "t.created_at", Kind::Time),
        Property::new("onPremisesSecurityIdentifier", "t.security_identifier", Kind::Text),
        Property::new("onPremisesSamAccountName", "t.sam_account_name", Kind::Text),
    ],
    lists: &[],
    types: &[("user", "TRUE")],
    newest_first: None,
};

/// Users who are deleted, as the API finds them.
pub const DELETED: Set = Set {
    name: "deleted users",
    base: "t.deleted_at IS NOT NULL",
    // What is deleted is in no group.
    reach: "FALSE AND t.id IN ({groups})",
    properties: &[
        Property::new("id", "t.id", Kind::Id),
        Property::new("displayName", "t.display_name", Kind::Text).ordered().searched(),
        Property::new("userPrincipalName", "t.upn", Kind::Text).ordered().searched(),
        Property::new("mail", "t.mail", Kind::Text).searched(),
        Property::new("deletedDateTime", "t.deleted_at", Kind::Time).ordered(),
    ],
    ..SET
};

/// The deleted users with these ids, with when they came and were deleted.
///
/// # Errors
/// Only the database's own.
pub fn list_deleted_by_ids(conn: &mut Conn, ids: &[String]) -> Result<Vec<(User, Time, Time)>> {
    let rows: Vec<Row> =
        users::table.filter(users::id.eq_any(ids)).filter(users::deleted_at.is_not_null()).select(Row::as_select()).load(conn)?;
    let times = |row: &Row| (Time(row.created_at), Time(row.deleted_at.unwrap_or_default()));
    Ok(rows.into_iter().map(|row| (times(&row), row)).map(|((created, deleted), row)| (User::from(row), created, deleted)).collect())
}

/// The users with these ids, those that exist and are not deleted.
///
/// # Errors
/// Only the database's own.
pub fn list_by_ids(conn: &mut Conn, ids: &[String]) -> Result<Vec<(User, Time)>> {
    let rows: Vec<Row> =
        users::table.filter(users::id.eq_any(ids)).filter(users::deleted_at.is_null()).select(Row::as_select()).load(conn)?;
    Ok(rows.into_iter().map(|row| (Time(row.created_at), row)).map(|(created, row)| (User::from(row), created)).collect())
}

/// [`list_by_ids`], with when they came and when they were changed last.
///
/// # Errors
/// Only the database's own.
pub fn list_with_times(conn: &mut Conn, ids: &[String]) -> Result<Vec<(User, Time, Time)>> {
    let rows: Vec<Row> =
        users::table.filter(users::id.eq_any(ids)).filter(users::deleted_at.is_null()).select(Row::as_select()).load(conn)?;
    Ok(rows
        .into_iter()
        .map(|row| (Time(row.created_at), Time(row.updated_at), row))
        .map(|(made, at, row)| (row.into(), made, at))
        .collect())
}
