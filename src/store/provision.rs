//! Users, groups and members as identity providers that provision them ask for them: names of attributes are SCIM's
//! ([`crate::wire::scim::path::Place::name`]). Members are written by few statements, whatever their number.

use std::collections::{BTreeSet, HashMap};

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::dialect::each_backend;
use super::odata::{Kind, List, Property, Set};
use super::schema::{devices, group_members, users};
use super::{Conn, Result, Tx};
use crate::clock::Time;
use crate::domain::group::Member;
use crate::ids::{DeviceId, GroupId, UserId};

/// How many identifiers a statement names at most.
const CHUNK: usize = 500;

/// Users.
pub const USERS: Set = Set {
    name: "provisioned users",
    from: "users t",
    key: "t.id",
    base: "t.deleted_at IS NULL",
    reach: "FALSE AND t.id IN ({groups})",
    properties: &[
        Property::new("id", "t.id", Kind::Id),
        Property::new("externalId", "t.external_id", Kind::Exact),
        Property::new("meta.resourceType", "'User'", Kind::Text),
        Property::new("meta.created", "t.created_at", Kind::Time),
        Property::new("meta.lastModified", "t.updated_at", Kind::Time),
        Property::new("userName", "t.upn", Kind::Text),
        Property::new("name.givenName", "t.given_name", Kind::Text),
        Property::new("name.familyName", "t.surname", Kind::Text),
        Property::new("displayName", "t.display_name", Kind::Text),
        Property::new("title", "t.job_title", Kind::Text),
        Property::new("preferredLanguage", "t.preferred_language", Kind::Text),
        Property::new("active", "t.enabled", Kind::Bool),
        Property::new("emails.value", "t.mail", Kind::Text),
        Property::new("emails.type", "CASE WHEN t.mail IS NULL THEN NULL ELSE 'work' END", Kind::Text),
        Property::new("emails.primary", "CASE WHEN t.mail IS NULL THEN NULL ELSE TRUE END", Kind::Bool),
        Property::new("phoneNumbers.value", "t.mobile_phone", Kind::Text),
        Property::new("phoneNumbers.type", "CASE WHEN t.mobile_phone IS NULL THEN NULL ELSE 'mobile' END", Kind::Text),
        Property::new("addresses.formatted", "t.office_location", Kind::Text),
        Property::new("addresses.type", "CASE WHEN t.office_location IS NULL THEN NULL ELSE 'work' END", Kind::Text),
        Property::new("urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:employeeNumber", "t.employee_id", Kind::Text),
        Property::new("urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department", "t.department", Kind::Text),
    ],
    lists: &[List {
        name: "groups",
        from: Some("FROM group_members m WHERE m.member_kind = 'user' AND m.member_id = t.id"),
        member: "m.group_id",
        kind: Kind::Id,
    }],
    types: &[],
    newest_first: None,
};

/// Groups.
pub const GROUPS: Set = Set {
    name: "provisioned groups",
    from: "groups t",
    key: "t.id",
    base: "t.deleted_at IS NULL",
    reach: "FALSE AND t.id IN ({groups})",
    properties: &[
        Property::new("id", "t.id", Kind::Id),
        Property::new("externalId", "t.external_id", Kind::Exact),
        Property::new("meta.resourceType", "'Group'", Kind::Text),
        Property::new("meta.created", "t.created_at", Kind::Time),
        Property::new("displayName", "t.display_name", Kind::Text),
    ],
    lists: &[List {
        name: "members",
        from: Some("FROM group_members m WHERE m.member_kind = 'user' AND m.group_id = t.id"),
        member: "m.member_id",
        kind: Kind::Id,
    }],
    types: &[],
    newest_first: None,
};

/// How many people belong to each of the groups; those without any are not named.
///
/// # Errors
/// Only the database's own.
pub fn count_members_of(conn: &mut Conn, groups: &[String]) -> Result<HashMap<String, i64>> {
    let counts: Vec<(String, i64)> = group_members::table
        .filter(group_members::group_id.eq_any(groups))
        .filter(group_members::member_kind.eq("user"))
        .group_by(group_members::group_id)
        .select((group_members::group_id, diesel::dsl::count_star()))
        .load(conn)?;
    Ok(counts.into_iter().collect())
}

/// To how many groups each of the people belongs; those who belong to none are not named.
///
/// # Errors
/// Only the database's own.
pub fn count_memberships_of(conn: &mut Conn, people: &[String]) -> Result<HashMap<String, i64>> {
    let counts: Vec<(String, i64)> = group_members::table
        .filter(group_members::member_id.eq_any(people))
        .filter(group_members::member_kind.eq("user"))
        .group_by(group_members::member_id)
        .select((group_members::member_id, diesel::dsl::count_star()))
        .load(conn)?;
    Ok(counts.into_iter().collect())
}

/// The people who belong to groups, each with the group, by group.
///
/// # Errors
/// Only the database's own.
pub fn list_members(conn: &mut Conn, groups: &[String]) -> Result<Vec<(GroupId, UserId)>> {
    let rows: Vec<(String, String)> = group_members::table
        .filter(group_members::group_id.eq_any(groups))
        .filter(group_members::member_kind.eq("user"))
        .order((group_members::group_id, group_members::member_id))
        .select((group_members::group_id, group_members::member_id))
        .load(conn)?;
    Ok(rows.into_iter().map(|(group, user)| (GroupId::from_store(group), UserId::from_store(user))).collect())
}

/// The groups that people belong to, each with the person.
///
/// # Errors
/// Only the database's own.
pub fn list_memberships(conn: &mut Conn, people: &[String]) -> Result<Vec<(UserId, GroupId)>> {
    let rows: Vec<(String, String)> = group_members::table
        .filter(group_members::member_id.eq_any(people))
        .filter(group_members::member_kind.eq("user"))
        .order((group_members::member_id, group_members::group_id))
        .select((group_members::member_id, group_members::group_id))
        .load(conn)?;
    Ok(rows.into_iter().map(|(user, group)| (UserId::from_store(user), GroupId::from_store(group))).collect())
}

/// How many people belong to a group, and when the last one came: both together are another when somebody came or went.
///
/// # Errors
/// Only the database's own.
pub fn count_members(conn: &mut Conn, group: &GroupId) -> Result<(i64, Option<Time>)> {
    let people = group_members::table.filter(group_members::group_id.eq(group.as_str())).filter(group_members::member_kind.eq("user"));
    let count: i64 = people.count().get_result(conn)?;
    let last: Option<i64> = people.select(diesel::dsl::max(group_members::added_at)).first(conn)?;
    Ok((count, last.map(Time)))
}

/// All people who belong to a group.
///
/// # Errors
/// Only the database's own.
pub fn list_people(tx: &mut Tx<'_>, group: &GroupId) -> Result<BTreeSet<UserId>> {
    let ids: Vec<String> = group_members::table
        .filter(group_members::group_id.eq(group.as_str()))
        .filter(group_members::member_kind.eq("user"))
        .select(group_members::member_id)
        .load(tx.conn())?;
    Ok(ids.into_iter().map(UserId::from_store).collect())
}

/// The identifiers of users among members, and those of devices, in pieces that a statement can name.
fn pieces(members: &BTreeSet<Member>) -> Vec<(&'static str, Vec<String>)> {
    let (mut people, mut things) = (Vec::new(), Vec::new());
    for member in members {
        match member {
            Member::User(id) => people.push(id.to_string()),
            Member::Device(id) => things.push(id.to_string()),
        }
    }
    let cut = |kind, ids: &[String]| ids.chunks(CHUNK).map(|piece| (kind, piece.to_vec())).collect::<Vec<_>>();
    [cut("user", &people), cut("device", &things)].concat()
}

fn member(kind: &str, id: String) -> Member {
    if kind == "user" { Member::User(UserId::from_store(id)) } else { Member::Device(DeviceId::from_store(id)) }
}

/// Those of the members that exist and can be members: users who are not deleted, and devices.
///
/// # Errors
/// Only the database's own.
pub fn list_existing(conn: &mut Conn, members: &BTreeSet<Member>) -> Result<BTreeSet<Member>> {
    let mut found = BTreeSet::new();
    for (kind, ids) in pieces(members) {
        let known: Vec<String> = if kind == "user" {
            users::table.filter(users::id.eq_any(&ids)).filter(users::deleted_at.is_null()).select(users::id).load(conn)?
        } else {
            devices::table.filter(devices::id.eq_any(&ids)).select(devices::id).load(conn)?
        };
        found.extend(known.into_iter().map(|id| member(kind, id)));
    }
    Ok(found)
}

/// Those of the members that belong to the group.
///
/// # Errors
/// Only the database's own.
pub fn list_belonging(conn: &mut Conn, group: &GroupId, members: &BTreeSet<Member>) -> Result<BTreeSet<Member>> {
    let mut found = BTreeSet::new();
    for (kind, ids) in pieces(members) {
        let known: Vec<String> = group_members::table
            .filter(group_members::group_id.eq(group.as_str()))
            .filter(group_members::member_kind.eq(kind))
            .filter(group_members::member_id.eq_any(&ids))
            .select(group_members::member_id)
            .load(conn)?;
        found.extend(known.into_iter().map(|id| member(kind, id)));
    }
    Ok(found)
}

/// Adds members that exist ([`list_existing`]); those that belong to the group already stay as they are.
///
/// # Errors
/// [`super::Error::Conflict`] when the group does not exist.
pub fn insert_members(tx: &mut Tx<'_>, group: &GroupId, members: &BTreeSet<Member>, now: Time) -> Result<()> {
    for (kind, ids) in pieces(members) {
        let names: Vec<String> = (0..ids.len()).map(|number| format!("${}", number + 3)).collect();
        let from = if kind == "user" { "users t WHERE t.deleted_at IS NULL AND" } else { "devices t WHERE" };
        let statement = format!(
            "INSERT INTO group_members (group_id, member_kind, member_id, added_at)
             SELECT $1, '{kind}', t.id, $2 FROM {from} t.id IN ({}) ON CONFLICT DO NOTHING",
            names.join(", ")
        );
        each_backend!(tx.conn(), c => {
            let mut query = diesel::sql_query(statement).into_boxed().bind::<Text, _>(group.to_string()).bind::<BigInt, _>(now.0);
            for id in ids {
                query = query.bind::<Text, _>(id);
            }
            query.execute(c)
        })?;
    }
    Ok(())
}

/// Takes members out.
///
/// # Errors
/// Only the database's own.
pub fn delete_members(tx: &mut Tx<'_>, group: &GroupId, members: &BTreeSet<Member>) -> Result<()> {
    for (kind, ids) in pieces(members) {
        let gone = group_members::table
            .filter(group_members::group_id.eq(group.as_str()))
            .filter(group_members::member_kind.eq(kind))
            .filter(group_members::member_id.eq_any(&ids));
        diesel::delete(gone).execute(tx.conn())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::scim::path::Place;
    use crate::wire::scim::schema::{COMMON, GROUP, Resource, Type, USER};

    #[test]
    fn what_is_kept_can_be_filtered_by() {
        let names = |resource: &Resource| {
            let mut names = Vec::new();
            for schema in resource.schemas() {
                let extension = (schema.urn != resource.core.urn).then_some(schema);
                let common = if extension.is_none() { COMMON } else { &[] };
                for attribute in common.iter().chain(schema.attributes) {
                    let place = Place { extension, attribute, sub: None };
                    if attribute.kind != Type::Complex {
                        names.push(place.name());
                    }
                    names.extend(attribute.subs.iter().map(|sub| Place { sub: Some(sub), ..place }.name()));
                }
            }
            names
        };
        for (set, resource, not) in [
            (&USERS, &USER, &["meta.location", "meta.version", "groups.value", "groups.$ref", "groups.display"][..]),
            (&GROUPS, &GROUP, &["meta.location", "meta.version", "meta.lastModified", "members.value", "members.$ref", "members.type"][..]),
        ] {
            let known: BTreeSet<String> = set.properties.iter().map(|property| property.name.to_owned()).collect();
            let kept: BTreeSet<String> = names(resource).into_iter().filter(|name| !not.contains(&name.as_str())).collect();
            assert_eq!(known, kept);
        }
    }
}
