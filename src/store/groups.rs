//! Groups and their members.

use diesel::prelude::*;
use diesel::sql_types::Text;

use super::dialect::each_backend;
use super::schema::{deleted_members, devices, group_members, groups};
use super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::domain::group::{Group, Member};
use crate::ids::{DeviceId, GroupId, UserId};
use crate::store::odata::{Kind, Property, Set};

const USER: &str = "user";
const DEVICE: &str = "device";

#[derive(Queryable, Selectable)]
#[diesel(table_name = groups)]
struct Row {
    id: String,
    display_name: String,
    description: String,
    membership_rule: Option<String>,
    external_id: Option<String>,
    mail_nickname: Option<String>,
}

impl From<Row> for Group {
    fn from(row: Row) -> Self {
        Self {
            id: GroupId::from_store(row.id),
            display_name: row.display_name,
            description: row.description,
            rule: row.membership_rule,
            external_id: row.external_id,
            mail_nickname: row.mail_nickname,
        }
    }
}

fn parts(member: &Member) -> (&'static str, &str) {
    match member {
        Member::User(id) => (USER, id.as_str()),
        Member::Device(id) => (DEVICE, id.as_str()),
    }
}

fn member(kind: &str, id: String) -> Result<Member> {
    match kind {
        USER => Ok(Member::User(UserId::from_store(id))),
        DEVICE => Ok(Member::Device(DeviceId::from_store(id))),
        _ => Err(Error::corrupt("group_members.member_kind")),
    }
}

/// Inserts a group.
///
/// # Errors
/// [`Error::Conflict`] when the name is taken.
pub fn insert_group(tx: &mut Tx<'_>, group: &Group, now: Time) -> Result<()> {
    diesel::insert_into(groups::table)
        .values((
            groups::id.eq(group.id.as_str()),
            groups::display_name.eq(&group.display_name),
            groups::description.eq(&group.description),
            groups::membership_rule.eq(&group.rule),
            groups::rule_subject.eq(super::group_rules::subject(group)),
            groups::external_id.eq(&group.external_id),
            groups::mail_nickname.eq(&group.mail_nickname),
            groups::created_at.eq(now.0),
        ))
        .execute(tx.conn())?;
    Ok(())
}

/// Changes name, description and rule.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] when the name is taken.
pub fn update_group(tx: &mut Tx<'_>, group: &Group) -> Result<()> {
    let changed = diesel::update(groups::table.find(group.id.as_str()).filter(groups::deleted_at.is_null()))
        .set((
            groups::display_name.eq(&group.display_name),
            groups::description.eq(&group.description),
            groups::membership_rule.eq(&group.rule),
            groups::rule_subject.eq(super::group_rules::subject(group)),
            groups::external_id.eq(&group.external_id),
            groups::mail_nickname.eq(&group.mail_nickname),
        ))
        .execute(tx.conn())?;
    if changed == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// Deletes a group, which can be restored. The assignments to it stay, and reach nobody once its members are set aside
/// ([`super::deleted_members::set_aside_of_group`]); recompute its profiles afterwards.
///
/// # Errors
/// [`Error::NotFound`].
pub fn delete_group(tx: &mut Tx<'_>, id: &GroupId, now: Time) -> Result<()> {
    let gone = diesel::update(groups::table.find(id.as_str()).filter(groups::deleted_at.is_null()))
        .set(groups::deleted_at.eq(Some(now.0)))
        .execute(tx.conn())?;
    if gone == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// Restores a group that is deleted.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] when the name is taken.
pub fn restore_group(tx: &mut Tx<'_>, id: &GroupId) -> Result<()> {
    let back = diesel::update(groups::table.find(id.as_str()).filter(groups::deleted_at.is_not_null()))
        .set(groups::deleted_at.eq(None::<i64>))
        .execute(tx.conn())?;
    if back == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// Deletes a group that is deleted, for good, and the assignments to it.
///
/// # Errors
/// [`Error::NotFound`].
pub fn purge_group(tx: &mut Tx<'_>, id: &GroupId) -> Result<()> {
    let gone = diesel::delete(groups::table.find(id.as_str()).filter(groups::deleted_at.is_not_null())).execute(tx.conn())?;
    if gone == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// A page of those that were deleted before a time, by id, after `after`.
///
/// # Errors
/// Only the database's own.
pub fn list_deleted_before(conn: &mut Conn, before: Time, after: &str, limit: i64) -> Result<Vec<GroupId>> {
    let ids: Vec<String> = groups::table
        .filter(groups::deleted_at.lt(before.0))
        .filter(groups::id.gt(after))
        .order(groups::id)
        .limit(limit)
        .select(groups::id)
        .load(conn)?;
    Ok(ids.into_iter().map(GroupId::from_store).collect())
}

/// The group, which must exist and not be deleted.
///
/// # Errors
/// [`Error::NotFound`].
pub fn load_group(conn: &mut Conn, id: &GroupId) -> Result<Group> {
    Ok(groups::table.find(id.as_str()).filter(groups::deleted_at.is_null()).select(Row::as_select()).first(conn)?.into())
}

/// [`load_group`], and until the end of the transaction nobody changes the group itself.
///
/// # Errors
/// [`Error::NotFound`].
pub fn lock_group(tx: &mut Tx<'_>, id: &GroupId) -> Result<Group> {
    let present = groups::table.find(id.as_str()).filter(groups::deleted_at.is_null());
    let row: Row = match tx.conn() {
        Conn::Postgres(c) => present.select(Row::as_select()).for_no_key_update().first(c)?,
        // On SQLite there is one transaction that writes at a time.
        Conn::Sqlite(c) => present.select(Row::as_select()).first(c)?,
    };
    Ok(row.into())
}

/// The group, which must exist and may be deleted: assignments name such groups, too.
///
/// # Errors
/// [`Error::NotFound`].
pub fn load_group_or_deleted(conn: &mut Conn, id: &GroupId) -> Result<Group> {
    Ok(groups::table.find(id.as_str()).select(Row::as_select()).first(conn)?.into())
}

/// The group of that name.
///
/// # Errors
/// Only the database's own.
pub fn find_group_by_name(conn: &mut Conn, name: &str) -> Result<Option<Group>> {
    let found =
        groups::table.filter(groups::display_name.eq(name)).filter(groups::deleted_at.is_null()).select(Row::as_select()).first(conn);
    Ok(found.optional()?.map(Group::from))
}

/// A page of groups by name, after `after`.
///
/// # Errors
/// Only the database's own.
pub fn list_groups(conn: &mut Conn, after: &str, limit: i64) -> Result<Vec<Group>> {
    let rows = groups::table
        .filter(groups::display_name.gt(after))
        .filter(groups::deleted_at.is_null())
        .order(groups::display_name)
        .limit(limit)
        .select(Row::as_select())
        .load(conn)?;
    Ok(rows.into_iter().map(Group::from).collect())
}

/// Adds a member; `false` when it was one already. The member must exist (the use case looks it up).
///
/// # Errors
/// [`Error::Conflict`] when the group does not exist.
pub fn insert_member(tx: &mut Tx<'_>, group: &GroupId, member: &Member, now: Time) -> Result<bool> {
    let (kind, id) = parts(member);
    let known: i64 = group_members::table.find((group.as_str(), kind, id)).count().get_result(tx.conn())?;
    if known > 0 {
        return Ok(false);
    }
    diesel::insert_into(group_members::table)
        .values((
            group_members::group_id.eq(group.as_str()),
            group_members::member_kind.eq(kind),
            group_members::member_id.eq(id),
            group_members::added_at.eq(now.0),
        ))
        .execute(tx.conn())?;
    Ok(true)
}

/// Takes a member out; `false` when it was none.
///
/// # Errors
/// Only the database's own.
pub fn delete_member(tx: &mut Tx<'_>, group: &GroupId, member: &Member) -> Result<bool> {
    let (kind, id) = parts(member);
    Ok(diesel::delete(group_members::table.find((group.as_str(), kind, id))).execute(tx.conn())? > 0)
}

/// Takes a user or device out of every group, when it is deleted for good.
///
/// # Errors
/// Only the database's own.
pub fn delete_memberships(tx: &mut Tx<'_>, member: &Member) -> Result<()> {
    let (kind, id) = parts(member);
    diesel::delete(group_members::table.filter(group_members::member_kind.eq(kind)).filter(group_members::member_id.eq(id)))
        .execute(tx.conn())?;
    diesel::delete(deleted_members::table.filter(deleted_members::member_kind.eq(kind)).filter(deleted_members::member_id.eq(id)))
        .execute(tx.conn())?;
    Ok(())
}

/// A page of a group's members, after `after` (kind and id of the last one seen; empty texts for the first page).
///
/// # Errors
/// Only the database's own.
pub fn list_members(conn: &mut Conn, group: &GroupId, after: (&str, &str), limit: i64) -> Result<Vec<Member>> {
    let rows: Vec<(String, String)> = group_members::table
        .filter(group_members::group_id.eq(group.as_str()))
        .filter(group_members::member_kind.gt(after.0).or(group_members::member_kind.eq(after.0).and(group_members::member_id.gt(after.1))))
        .order((group_members::member_kind, group_members::member_id))
        .limit(limit)
        .select((group_members::member_kind, group_members::member_id))
        .load(conn)?;
    rows.into_iter().map(|(kind, id)| member(&kind, id)).collect()
}

#[derive(QueryableByName)]
#[diesel(table_name = group_members)]
struct MemberRow {
    group_id: String,
    member_kind: String,
    member_id: String,
}

/// The first members of each of these groups, at most `limit` of one: as many stretches of the index as there are groups, in one statement.
///
/// # Errors
/// Only the database's own.
pub fn list_first_members(conn: &mut Conn, of: &[GroupId], limit: i64) -> Result<Vec<(GroupId, Member)>> {
    if of.is_empty() {
        return Ok(Vec::new());
    }
    // In the order in which they are bound: SQLite counts them so.
    let one = |number: usize| {
        format!(
            "SELECT * FROM (SELECT group_id, member_kind, member_id FROM group_members WHERE group_id = ${number} \
             ORDER BY member_kind, member_id LIMIT {limit}) AS g{number}"
        )
    };
    let text = (1..=of.len()).map(one).collect::<Vec<_>>().join(" UNION ALL ");
    let rows: Vec<MemberRow> = each_backend!(conn, c => {
        let mut query = diesel::sql_query(text).into_boxed();
        for group in of {
            query = query.bind::<Text, _>(group.to_string());
        }
        query.load(c)?
    });
    rows.into_iter().map(|row| Ok((GroupId::from_store(row.group_id), member(&row.member_kind, row.member_id)?))).collect()
}

/// The groups that the device belongs to, by itself or by its user.
///
/// # Errors
/// [`Error::NotFound`] when there is no such device.
pub fn list_groups_of_device(conn: &mut Conn, device: &DeviceId) -> Result<Vec<Group>> {
    let user: Option<String> = devices::table.find(device.as_str()).select(devices::user_id).first(conn)?;
    let rows = groups::table
        .filter(
            groups::id.eq_any(
                group_members::table
                    .filter(
                        group_members::member_kind
                            .eq(DEVICE)
                            .and(group_members::member_id.eq(device.as_str()))
                            .or(group_members::member_kind.eq(USER).and(group_members::member_id.eq(user.unwrap_or_default()))),
                    )
                    .select(group_members::group_id),
            ),
        )
        .order(groups::display_name)
        .select(Row::as_select())
        .load(conn)?;
    Ok(rows.into_iter().map(Group::from).collect())
}

/// Groups as the API finds them.
pub const SET: Set = Set {
    name: "groups",
    from: "groups t",
    key: "t.id",
    base: "t.deleted_at IS NULL",
    reach: "t.id IN ({groups})",
    properties: &[
        Property::new("id", "t.id", Kind::Id),
        Property::new("displayName", "t.display_name", Kind::Text).ordered().searched(),
        Property::new("description", "t.description", Kind::Text).searched(),
        Property::new("createdDateTime", "t.created_at", Kind::Time),
    ],
    lists: &[],
    types: &[("group", "TRUE")],
    newest_first: None,
};

/// Groups that are deleted, as the API finds them.
pub const DELETED: Set = Set {
    name: "deleted groups",
    base: "t.deleted_at IS NOT NULL",
    // What is deleted is in no group.
    reach: "FALSE AND t.id IN ({groups})",
    properties: &[
        Property::new("id", "t.id", Kind::Id),
        Property::new("displayName", "t.display_name", Kind::Text).ordered().searched(),
        Property::new("deletedDateTime", "t.deleted_at", Kind::Time).ordered(),
    ],
    ..SET
};

/// The deleted groups with these ids, with when they were made and deleted.
///
/// # Errors
/// Only the database's own.
pub fn list_deleted_by_ids(conn: &mut Conn, ids: &[String]) -> Result<Vec<(Group, Time, Time)>> {
    let rows: Vec<(Row, i64, Option<i64>)> = groups::table
        .filter(groups::id.eq_any(ids))
        .filter(groups::deleted_at.is_not_null())
        .select((Row::as_select(), groups::created_at, groups::deleted_at))
        .load(conn)?;
    Ok(rows.into_iter().map(|(row, made, deleted)| (Group::from(row), Time(made), Time(deleted.unwrap_or_default()))).collect())
}

/// Members of groups as the API finds them: the key is the kind and the id.
pub const MEMBERS: Set = Set {
    name: "members",
    from: "group_members t",
    key: "t.member_kind || ':' || t.member_id",
    base: "TRUE",
    reach: "t.group_id IN ({groups})",
    properties: &[Property::new("id", "t.member_id", Kind::Id)],
    lists: &[],
    types: &[("user", "t.member_kind = 'user'"), ("device", "t.member_kind = 'device'")],
    newest_first: None,
};

/// The groups with these ids, those that exist and are not deleted, with when they were made.
///
/// # Errors
/// Only the database's own.
pub fn list_by_ids(conn: &mut Conn, ids: &[String]) -> Result<Vec<(Group, Time)>> {
    let rows: Vec<(Row, i64)> = groups::table
        .filter(groups::id.eq_any(ids))
        .filter(groups::deleted_at.is_null())
        .select((Row::as_select(), groups::created_at))
        .load(conn)?;
    Ok(rows.into_iter().map(|(row, created)| (Group::from(row), Time(created))).collect())
}

/// The groups that a user belongs to.
///
/// # Errors
/// Only the database's own.
pub fn list_groups_of_user(conn: &mut Conn, user: &UserId) -> Result<Vec<Group>> {
    let theirs = group_members::table
        .filter(group_members::member_kind.eq(USER))
        .filter(group_members::member_id.eq(user.as_str()))
        .select(group_members::group_id);
    let rows = groups::table.filter(groups::id.eq_any(theirs)).order(groups::display_name).select(Row::as_select()).load(conn)?;
    Ok(rows.into_iter().map(Group::from).collect())
}
