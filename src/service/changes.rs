//! Following what changes (delta queries): all of a set first, and from then on what has changed since.
//!
//! A follower holds a token that says how far it is. The first round gives the whole set by key, while the place from which the second one
//! goes on was taken before it began: what changes meanwhile is told again. After that each round gives what changed between the place
//! of the token and the horizon, as it is now; an object may come several times, and none is missed. Places are kept for thirty days.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::sha::sha256;
use serde::{Deserialize, Serialize};

use super::identity::instance_key;
use super::page::Error;
use super::{Error as Failure, Result};
use crate::app::App;
use crate::clock::{DAY, Time};
use crate::domain::subscription::Kind;
use crate::secret::{hmac_sha256, random, same};
use crate::store::changes::{self, MemberChange};
use crate::store::odata::{self, Last, Set, Within};
use crate::store::sealed::PAGE_KEY;
use crate::store::{Conn, Tx, meta};
use crate::wire::odata::Wrong;
use crate::wire::odata::filter::{Comparison, Expr, Literal};
use crate::wire::odata::query::Query;

/// For how long a place is kept, in milliseconds.
pub const KEPT: i64 = 30 * DAY;
/// Where the name of the database's course of changes is kept: a restored copy begins another one.
const COURSE: &str = "changes_course";
/// Where it is written down how far changes went at which times.
const MARKS: &str = "changes_marks";
/// Where it is written down which changes were forgotten.
const FORGOTTEN: &str = "changes_forgotten";
/// How often that is written down, in milliseconds.
const MARK_EVERY: i64 = DAY;
/// How many changes go at once.
const BATCH: i64 = 500;

/// Why an object is told as gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is no longer in what is followed, and may come back.
    Changed,
    /// It is gone for good.
    Deleted,
}

/// Somebody or something in a group, or no longer in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The group.
    pub group: String,
    /// `user` or `device`.
    pub kind: String,
    /// Who.
    pub member: String,
    /// Belongs to it.
    pub present: bool,
}

/// Where a follower goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// At once: there is more.
    Next(String),
    /// Later: that was all for now.
    Later(String),
}

/// What a follower is told.
#[derive(Debug)]
pub struct Told<T> {
    /// Objects as they are now.
    pub objects: Vec<T>,
    /// Objects that are no longer there.
    pub removed: Vec<(String, Reason)>,
    /// Who came into groups and left them.
    pub members: Vec<Membership>,
    /// Where to go on.
    pub link: Link,
}

/// What is followed.
#[derive(Clone, Copy, Debug)]
pub struct Followed {
    /// Its changes.
    pub kind: Kind,
    /// Its objects.
    pub set: &'static Set,
    /// Whether those who belong to the objects are told, too.
    pub members: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Stage {
    /// The whole set, after this object.
    Whole(Option<Last>),
    /// Who belongs to the objects, after this one.
    Members(Option<MemberChange>),
    /// What changed below the number, after this one. Without a number it is taken now.
    Changes(Option<i64>, Option<(i64, String)>),
    /// Who came and left, likewise.
    MemberChanges(i64, Option<MemberChange>),
}

#[derive(Serialize, Deserialize)]
struct Token {
    set: String,
    query: String,
    course: String,
    /// When the place was taken, in milliseconds.
    at: i64,
    /// From which number on the next round tells.
    from: i64,
    stage: Stage,
}

fn fingerprint(query: &Query, members: bool) -> String {
    hex::encode(sha256(format!("delta {:?} {members}", query.filter).as_bytes()).get(..16).unwrap_or_default())
}

/// The ids that a filter is about, when it is about nothing else.
fn only_ids(query: &Query) -> Option<Vec<String>> {
    fn of(filter: &Expr) -> Option<Vec<String>> {
        let text = |literal: &Literal| match literal {
            Literal::Text(text) => Some(text.to_lowercase()),
            _ => None,
        };
        match filter {
            Expr::Or(one, other) => Some([of(one)?, of(other)?].concat()),
            Expr::Compare(name, Comparison::Equal, literal) if name == "id" => Some(vec![text(literal)?]),
            Expr::In(name, values) if name == "id" => values.iter().map(text).collect(),
            _ => None,
        }
    }
    query.filter.as_ref().and_then(of)
}

fn wrong(text: &'static str) -> Error {
    Error::Wrong(Wrong::new(text))
}

/// The next piece for a follower, of at most `limit` objects as `load` gives them for their keys.
///
/// # Errors
/// [`Error::Wrong`] for a query that is not taken and for a token that is none of ours; [`Error::Resync`] for one of more than thirty days ago,
/// or of before the database was restored: the follower begins anew.
pub async fn follow<T, F>(app: &App, followed: Followed, query: &Query, limit: u32, load: F) -> std::result::Result<Told<T>, Error>
where
    T: Send + 'static,
    F: FnOnce(&mut Conn, &[String]) -> crate::store::Result<Vec<(String, T)>> + Send + 'static,
{
    if !query.order_by.is_empty() || !query.search.is_empty() || !query.expand.is_empty() || query.skip > 0 || query.count {
        return Err(wrong("Whoever follows changes may use $select, $filter and $top only."));
    }
    let limit = limit.max(1);
    if query.filter.as_ref().is_some_and(|filter| filter.names().contains(&"lastSyncDateTime")) {
        return Err(wrong("When a device called last is not followed, and nothing can be filtered by it here."));
    }
    if followed.members && query.filter.is_some() && only_ids(query).is_none() {
        return Err(wrong("Whoever follows members filters by id only; $select other properties to follow the groups alone."));
    }
    let key = instance_key(app, PAGE_KEY).await?;
    let print = fingerprint(query, followed.members);
    let (course, now) = (course(app).await?, app.now());
    let fresh = |from, stage| Token { set: followed.set.name.into(), query: print.clone(), course: course.clone(), at: now.0, from, stage };
    let seal = |token: &Token| seal(key.expose(), token);
    let shown = match (&query.delta_token, &query.skip_token) {
        (Some(word), None) if word.eq_ignore_ascii_case("latest") => {
            let from = app.store.read(changes::horizon).await?;
            let link = Link::Later(seal(&fresh(from, Stage::Changes(None, None)))?);
            return Ok(Told { objects: Vec::new(), removed: Vec::new(), members: Vec::new(), link });
        }
        (Some(text), None) | (None, Some(text)) => Some(open(key.expose(), text)?.ok_or_else(|| wrong("The delta token is not valid."))?),
        (None, None) => None,
        (Some(_), Some(_)) => return Err(wrong("A call has a $deltatoken or a $skiptoken.")),
    };
    let token = match shown {
        None => {
            let from = app.store.read(changes::horizon).await?;
            fresh(from, Stage::Whole(None))
        }
        Some(token) if token.set != followed.set.name || token.query != print => {
            return Err(wrong("The delta token belongs to another question."));
        }
        Some(token) if token.course != course || now.since(Time(token.at)) > KEPT => return Err(Error::Resync),
        Some(token) => token,
    };
    let asked = query.clone();
    let piece = app.store.read(move |conn| Ok(read(conn, followed, &asked, token, limit, now, load))).await??;
    let Some((objects, removed, members, next)) = piece else { return Err(Error::Resync) };
    let link = match next {
        // A later piece of the same round keeps the time of its beginning.
        Going::On(token) => Link::Next(seal(&token)?),
        Going::Over { from, at } => Link::Later(seal(&Token { at, ..fresh(from, Stage::Changes(None, None)) })?),
    };
    Ok(Told { objects, removed, members, link })
}

enum Going {
    On(Token),
    Over { from: i64, at: i64 },
}

type Piece<T> = (Vec<T>, Vec<(String, Reason)>, Vec<Membership>, Going);

fn read<T>(
    conn: &mut Conn,
    followed: Followed,
    query: &Query,
    token: Token,
    limit: u32,
    now: Time,
    load: impl FnOnce(&mut Conn, &[String]) -> crate::store::Result<Vec<(String, T)>>,
) -> odata::Asked<Option<Piece<T>>> {
    let size = i64::from(limit.max(1));
    let on = |token: Token, stage| Going::On(Token { stage, ..token });
    match token.stage.clone() {
        Stage::Whole(last) => {
            let page = odata::page(conn, followed.set, query, &[], last.as_ref(), limit)?;
            let objects = in_order(&page.keys, load(conn, &page.keys)?);
            let going = match (page.next, followed.members) {
                (Some(last), _) => on(token, Stage::Whole(Some(last))),
                (None, true) => on(token, Stage::Members(None)),
                (None, false) => Going::Over { from: token.from, at: token.at },
            };
            Ok(Some((objects, Vec::new(), Vec::new(), going)))
        }
        Stage::Members(after) => {
            let found = changes::list_members(conn, only_ids(query).as_deref(), after.as_ref(), size)?;
            let members = shown(conn, followed, query, &found, &found)?;
            let going = match found.last() {
                Some(last) if found.len() >= limit.max(1) as usize => on(token, Stage::Members(Some(last.clone()))),
                _ => Going::Over { from: token.from, at: token.at },
            };
            Ok(Some((Vec::new(), Vec::new(), members, going)))
        }
        Stage::Changes(to, after) => {
            let horizon = changes::horizon(conn)?;
            // Numbers that nobody has had yet, or that were forgotten: the database is another one, or its clock was ahead.
            if token.from > horizon || token.from < forgotten(conn)? {
                return Ok(None);
            }
            // The place is as old as the number with which the next round begins.
            let (to, token) = match to {
                Some(to) => (to, token),
                None => (horizon, Token { at: now.0, ..token }),
            };
            let found = changes::list_changes(conn, followed.kind, token.from, to, after.as_ref(), size)?;
            let ids: Vec<String> = found.iter().map(|change| change.id.clone()).collect();
            let fits = if ids.is_empty() {
                Vec::new()
            } else {
                odata::page(conn, followed.set, query, &[Within::Keys(ids.clone())], None, limit)?.keys
            };
            let removed = gone(conn, followed, query, &ids, &fits)?;
            let objects = in_order(&ids, load(conn, &fits)?);
            let going = match (found.last(), followed.members) {
                (Some(last), _) if found.len() >= limit.max(1) as usize => {
                    let place = (last.seq, last.id.clone());
                    on(token, Stage::Changes(Some(to), Some(place)))
                }
                (_, true) => on(token, Stage::MemberChanges(to, None)),
                (_, false) => Going::Over { from: to, at: token.at },
            };
            Ok(Some((objects, removed, Vec::new(), going)))
        }
        Stage::MemberChanges(to, after) => {
            let found = changes::list_member_changes(conn, token.from, to, after.as_ref(), size)?;
            let present = changes::list_present(conn, &found)?;
            let members = shown(conn, followed, query, &found, &present)?;
            let going = match found.last() {
                Some(last) if found.len() >= limit.max(1) as usize => on(token, Stage::MemberChanges(to, Some(last.clone()))),
                _ => Going::Over { from: to, at: token.at },
            };
            Ok(Some((Vec::new(), Vec::new(), members, going)))
        }
    }
}

/// The objects in the order of their keys; those that are gone meanwhile are left out.
fn in_order<T>(keys: &[String], loaded: Vec<(String, T)>) -> Vec<T> {
    let mut by_key: std::collections::HashMap<String, T> = loaded.into_iter().collect();
    keys.iter().filter_map(|key| by_key.remove(key)).collect()
}

/// Of objects that changed, those that are not followed any more, and why.
fn gone(conn: &mut Conn, followed: Followed, query: &Query, ids: &[String], fits: &[String]) -> odata::Asked<Vec<(String, Reason)>> {
    let missing: Vec<String> = ids.iter().filter(|id| !fits.contains(id)).cloned().collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let limit = u32::try_from(missing.len()).unwrap_or(u32::MAX);
    let mut kept = changes::list_kept(conn, followed.kind, &missing)?;
    if query.filter.is_some() {
        kept.extend(odata::page(conn, followed.set, &Query::default(), &[Within::Keys(missing.clone())], None, limit)?.keys);
    }
    let told = |id: String| {
        let reason = if kept.contains(&id) { Reason::Changed } else { Reason::Deleted };
        (id, reason)
    };
    Ok(missing.into_iter().map(told).collect())
}

/// The changes of members in groups that are followed.
fn shown(
    conn: &mut Conn,
    followed: Followed,
    query: &Query,
    found: &[MemberChange],
    present: &[MemberChange],
) -> odata::Asked<Vec<Membership>> {
    let mut groups: Vec<String> = found.iter().map(|one| one.group.clone()).collect();
    groups.sort();
    groups.dedup();
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    let limit = u32::try_from(groups.len()).unwrap_or(u32::MAX);
    let fits = odata::page(conn, followed.set, query, &[Within::Keys(groups)], None, limit)?.keys;
    let told = found.iter().filter(|one| fits.contains(&one.group)).map(|one| Membership {
        group: one.group.clone(),
        kind: one.kind.clone(),
        member: one.member.clone(),
        present: present.contains(one),
    });
    Ok(told.collect())
}

/// Below which number changes were forgotten.
fn forgotten(conn: &mut Conn) -> crate::store::Result<i64> {
    Ok(meta::find_value(conn, FORGOTTEN)?.and_then(|text| text.parse().ok()).unwrap_or(i64::MIN))
}

/// The name of the course of changes of this database.
async fn course(app: &App) -> Result<String> {
    if let Some(name) = app.store.read(|conn| meta::find_value(conn, COURSE)).await? {
        return Ok(name);
    }
    let fresh = hex::encode(random::<8>()?);
    Ok(app.store.write(move |tx| meta::insert_value_once(tx, COURSE, &fresh)).await?)
}

/// Begins another course: the database was restored, and what was told since the copy is not true any more.
///
/// # Errors
/// Only the database's own.
pub(super) fn begin_anew(tx: &mut Tx<'_>) -> crate::store::Result<()> {
    changes::delete_all(tx)?;
    meta::take_value(tx, MARKS)?;
    meta::take_value(tx, FORGOTTEN)?;
    meta::take_value(tx, COURSE).map(drop)
}

/// Forgets changes of more than thirty days ago, and writes down how far they went now.
///
/// # Errors
/// Only the database's own.
pub async fn purge(app: &App) -> Result<()> {
    let now = app.now();
    let before = app
        .store
        .write(move |tx| {
            let known = meta::find_value(tx.conn(), MARKS)?;
            // Written while the clock was ahead, they say nothing.
            let mut marks: Vec<(i64, i64)> = known.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
            marks.retain(|(at, _)| *at <= now.0);
            let old = marks.iter().rposition(|(at, _)| now.since(Time(*at)) > KEPT + DAY);
            let before = old.and_then(|place| marks.get(place)).map(|(_, seq)| *seq);
            marks.drain(..old.unwrap_or(0));
            if marks.last().is_none_or(|(at, _)| now.since(Time(*at)) >= MARK_EVERY) {
                marks.push((now.0, changes::horizon(tx.conn())?));
            }
            meta::upsert_value(tx, MARKS, &serde_json::to_string(&marks)?)?;
            if let Some(before) = before {
                meta::upsert_value(tx, FORGOTTEN, &before.to_string())?;
            }
            Ok(before)
        })
        .await?;
    if let Some(before) = before {
        while app.store.write(move |tx| changes::purge_changes(tx, before, BATCH)).await? > 0 {}
    }
    Ok(())
}

fn seal(key: &[u8], token: &Token) -> Result<String> {
    let body = serde_json::to_vec(token).map_err(Failure::internal)?;
    let mark = hmac_sha256(key, &[b"delta", body.as_slice()].concat())?;
    Ok(URL_SAFE_NO_PAD.encode([mark.as_slice(), &body].concat()))
}

fn open(key: &[u8], text: &str) -> Result<Option<Token>> {
    let Ok(bytes) = URL_SAFE_NO_PAD.decode(text) else { return Ok(None) };
    let Some((mark, body)) = bytes.split_at_checked(32) else { return Ok(None) };
    if !same(mark, &hmac_sha256(key, &[b"delta", body].concat())?) {
        return Ok(None);
    }
    Ok(serde_json::from_slice(body).ok())
}
