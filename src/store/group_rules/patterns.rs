//! Rules with patterns (`-match`): databases have none, or others each, so that the objects are read a page at a time and judged here, by
//! expressions that cannot run away. What is read and what is kept in memory is bounded by the page.

use std::collections::{BTreeMap, BTreeSet};

use diesel::deserialize::QueryableByName;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use serde_json::Value as Json;

use super::super::dialect::each_backend;
use super::super::odata::{Kind, Set};
use super::super::schema::group_members;
use super::super::{Conn, Error, Result, Tx};
use super::{Over, member, set};
use crate::clock::Time;
use crate::domain::group::Member;
use crate::domain::group::rule::{Rule, Value};
use crate::ids::GroupId;

/// Objects that are judged together.
const PAGE: usize = 500;

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = Text)]
    properties: String,
}

/// The properties of an object as one JSON text.
fn properties(set: &Set, is_postgres: bool) -> String {
    let (object, array) = if is_postgres { ("json_build_object", "json_agg") } else { ("json_object", "json_group_array") };
    let single = set.properties.iter().map(|property| match property.kind {
        Kind::Bool => format!("'{}', CASE WHEN {} THEN 1 ELSE 0 END", property.name, property.column),
        _ => format!("'{}', {}", property.name, property.column),
    });
    let lists = set.lists.iter().map(|list| {
        let among = list.from.unwrap_or_default();
        // Arrays in SQLite are texts unless they are said to be JSON.
        let all = format!("(SELECT {array}({}) {among})", list.member);
        format!("'{}', {}", list.name, if is_postgres { all } else { format!("json({all})") })
    });
    let object = format!("{object}({})", single.chain(lists).collect::<Vec<_>>().join(", "));
    if is_postgres { format!("CAST({object} AS TEXT)") } else { object }
}

/// What one object has, as rules ask for it.
fn value(of: &BTreeMap<String, Json>, name: &str, set: &Set) -> Value {
    match of.get(name) {
        Some(Json::String(text)) => Value::Text(text.clone()),
        Some(Json::Number(number)) => Value::Bool(number.as_i64() == Some(1)),
        Some(Json::Array(all)) => Value::Texts(all.iter().filter_map(Json::as_str).map(str::to_owned).collect()),
        _ if set.lists.iter().any(|list| list.name == name) => Value::Texts(Vec::new()),
        _ => Value::Null,
    }
}

/// A page of objects after `after`: each with whether the rule is true of it.
fn judge(conn: &mut Conn, rule: &Rule, over: &Over<'_>, after: &str) -> Result<Vec<(String, bool)>> {
    let set = set(rule.subject);
    let is_postgres = matches!(conn, Conn::Postgres(_));
    let (among, text, number) = match over {
        Over::All => ("", "", 0),
        Over::One(id) => ("AND t.id = $2", *id, 0),
        Over::Since(at) => ("AND t.updated_at >= $2", "", at.0),
    };
    let sql = format!(
        "SELECT t.id AS id, {} AS properties FROM {} WHERE ({}) AND t.id > $1 {among} ORDER BY t.id LIMIT {PAGE}",
        properties(set, is_postgres),
        set.from,
        set.base
    );
    let rows: Vec<Row> = each_backend!(conn, c => {
        let query = diesel::sql_query(sql).into_boxed().bind::<Text, _>(after.to_owned());
        let query = match over {
            Over::All => query,
            Over::One(_) => query.bind::<Text, _>(text.to_owned()),
            Over::Since(_) => query.bind::<BigInt, _>(number),
        };
        Ok::<_, Error>(query.load(c)?)
    })?;
    let judged = |row: Row| {
        let of: BTreeMap<String, Json> = serde_json::from_str(&row.properties)?;
        Ok((row.id, rule.test.is_true(&|name| value(&of, name, set))))
    };
    rows.into_iter().map(judged).collect()
}

/// Lets join and leave, as [`super::apply`]; returns how many moved.
pub(super) fn apply(tx: &mut Tx<'_>, group: &GroupId, rule: &Rule, over: &Over<'_>, now: Time) -> Result<usize> {
    let kind = rule.subject.as_str();
    let (mut after, mut moved) = (String::new(), 0);
    loop {
        let page = judge(tx.conn(), rule, over, &after)?;
        let Some((last, _)) = page.last() else { break };
        after.clone_from(last);
        let ids = || page.iter().map(|(id, _)| id.as_str());
        let own = || group_members::table.filter(group_members::group_id.eq(group.as_str())).filter(group_members::member_kind.eq(kind));
        let present: Vec<String> = own().filter(group_members::member_id.eq_any(ids())).select(group_members::member_id).load(tx.conn())?;
        let present: BTreeSet<&str> = present.iter().map(String::as_str).collect();
        let mut leaves = Vec::new();
        for (id, fits) in &page {
            match (fits, present.contains(id.as_str())) {
                (true, false) => {
                    let row = (
                        group_members::group_id.eq(group.as_str()),
                        group_members::member_kind.eq(kind),
                        group_members::member_id.eq(id.as_str()),
                        group_members::added_at.eq(now.0),
                    );
                    moved += diesel::insert_into(group_members::table).values(row).execute(tx.conn())?;
                }
                (false, true) => leaves.push(id.as_str()),
                _ => {}
            }
        }
        moved += diesel::delete(own().filter(group_members::member_id.eq_any(leaves))).execute(tx.conn())?;
    }
    Ok(moved + leave(tx, group, rule, over)?)
}

/// Lets leave who is not there any more, and those of the other kind, which were added before there was a rule.
fn leave(tx: &mut Tx<'_>, group: &GroupId, rule: &Rule, over: &Over<'_>) -> Result<usize> {
    let (set, kind) = (set(rule.subject), rule.subject.as_str());
    let gone = format!("NOT EXISTS (SELECT 1 FROM {} WHERE t.id = group_members.member_id AND ({}))", set.from, set.base);
    let (among, id) = match over {
        Over::All => (format!("(member_kind <> '{kind}' OR {gone})"), None),
        Over::One(id) => (format!("member_kind = '{kind}' AND member_id = $2 AND {gone}"), Some(*id)),
        Over::Since(_) => (format!("member_kind = '{kind}' AND {gone}"), None),
    };
    let sql = format!("DELETE FROM group_members WHERE group_id = $1 AND {among}");
    each_backend!(tx.conn(), c => {
        let query = diesel::sql_query(sql).into_boxed().bind::<Text, _>(group.to_string());
        let query = match id {
            Some(id) => query.bind::<Text, _>(id.to_owned()),
            None => query,
        };
        Ok(query.execute(c)?)
    })
}

/// Of whom a rule is true, as [`super::list_fitting`].
pub(super) fn list_fitting(conn: &mut Conn, rule: &Rule, limit: i64) -> Result<Vec<Member>> {
    let most = usize::try_from(limit).unwrap_or_default();
    let (mut after, mut found) = (String::new(), Vec::new());
    while found.len() < most {
        let page = judge(conn, rule, &Over::All, &after)?;
        let Some((last, _)) = page.last() else { break };
        after.clone_from(last);
        found.extend(page.into_iter().filter(|(_, fits)| *fits).map(|(id, _)| member(rule.subject, id)));
    }
    found.truncate(most);
    Ok(found)
}
