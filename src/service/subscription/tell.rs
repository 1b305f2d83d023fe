//! Tells those who subscribed what changed: from the place where the last run stopped to the horizon, each step in a transaction of its own
//! with the messages that it makes, so that none is made twice and none is lost.

use serde::{Deserialize, Serialize};

use super::deliver::{self, Event, Item};
use crate::app::App;
use crate::clock::Time;
use crate::domain::subscription::{ChangeType, Kind, Subscription};
use crate::service::Result;
use crate::store::changes::{self, MemberChange};
use crate::store::odata::{self, Set, Within};
use crate::store::{Conn, Tx, devices, enrollments, groups, meta, subscriptions, users};
use crate::wire::odata::query::Query;

/// Where the place is kept.
const PLACE: &str = "subscriptions_place";
/// How many changes one step takes.
const STEP: i64 = 200;
/// How many subscriptions are looked at in all.
const MOST: i64 = 10_000;

/// How far it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Place {
    /// What is below this number was told.
    from: i64,
    /// What is being told goes up to this one.
    to: Option<i64>,
    /// Which kind is being told; the last one is who belongs to groups.
    stage: usize,
    /// After which object.
    after: Option<(i64, String)>,
    /// After which member.
    after_member: Option<MemberChange>,
}

impl Place {
    fn at(from: i64) -> Self {
        Self { from, to: None, stage: 0, after: None, after_member: None }
    }
}

/// The order of the kinds; who belongs to groups comes after them.
const STAGES: [Kind; 4] = [Kind::User, Kind::Group, Kind::Device, Kind::ManagedDevice];

fn set(kind: Kind) -> &'static Set {
    match kind {
        Kind::User => &users::SET,
        Kind::Group => &groups::SET,
        Kind::Device => &devices::SET,
        Kind::ManagedDevice => &enrollments::managed::MANAGED,
    }
}

/// The first subscription begins here: nothing of before is told.
pub(super) fn begin(tx: &mut Tx<'_>) -> crate::store::Result<()> {
    let place = Place::at(changes::horizon(tx.conn())?);
    meta::insert_value_once(tx, PLACE, &serde_json::to_string(&place)?).map(drop)
}

/// Tells what changed since the last run, and who has to renew; says how many messages were made.
///
/// # Errors
/// Only the database's own.
pub async fn run(app: &App) -> Result<usize> {
    let (now, mut made) = (app.now(), 0);
    let known = app.store.read(move |conn| Ok((meta::find_value(conn, PLACE)?, subscriptions::list_live(conn, now, "", 1)?))).await?;
    match known {
        (None, live) if live.is_empty() => return Ok(0),
        // Nobody listens any more: whoever comes next begins anew.
        (Some(_), live) if live.is_empty() => {
            app.store.write(|tx| meta::take_value(tx, PLACE).map(drop)).await?;
            return Ok(0);
        }
        _ => {}
    }
    made += app.store.write(move |tx| warn(tx, now)).await?;
    loop {
        let (more, count) = app.store.write(move |tx| step(tx, now)).await?;
        made += count;
        if !more {
            break;
        }
    }
    if made > 0 {
        app.outbox.notify_waiters();
    }
    Ok(made)
}

/// Says to owners that their subscriptions end soon.
fn warn(tx: &mut Tx<'_>, now: Time) -> crate::store::Result<usize> {
    let mut made = 0;
    for one in subscriptions::list_live(tx.conn(), now, "", MOST)? {
        if one.warned_at.is_none() && one.lifecycle_url.is_some() && now >= one.warn_at() {
            deliver::lifecycle(tx, &one, Event::ReauthorizationRequired, &format!("warn/{}", one.expires_at.0), now)?;
            subscriptions::update_warned(tx, &one.id, Some(now))?;
            made += 1;
        }
    }
    Ok(made)
}

fn step(tx: &mut Tx<'_>, now: Time) -> crate::store::Result<(bool, usize)> {
    let known = meta::find_value(tx.conn(), PLACE)?.and_then(|text| serde_json::from_str::<Place>(&text).ok());
    let horizon = changes::horizon(tx.conn())?;
    // A restored database counts anew.
    let mut place = known.filter(|place| place.from <= horizon).unwrap_or_else(|| Place::at(horizon));
    let live = subscriptions::list_live(tx.conn(), now, "", MOST)?;
    let to = place.to.unwrap_or(horizon);
    if to == place.from {
        return Ok((false, 0));
    }
    let heard = |kind: Kind| live.iter().any(|one| one.kind == kind);
    // Kinds of which nothing changed, or nobody hears, take no transaction of their own.
    let (mut made, mut looked) = (0, 0);
    let over = loop {
        match STAGES.get(place.stage) {
            Some(kind) if heard(*kind) => {
                let found = changes::list_changes(tx.conn(), *kind, place.from, to, place.after.as_ref(), STEP)?;
                let told = types(tx.conn(), *kind, place.from, &found)?;
                let items: Vec<Item> = told.into_iter().map(|(id, change)| Item::new(change, id)).collect();
                looked += found.len();
                advance(&mut place, found.last().map(|last| (last.seq, last.id.clone())), found.len());
                made += send(tx, &live, *kind, &items, now)?;
            }
            Some(_) => advance(&mut place, None, 0),
            None if heard(Kind::Group) => {
                let found = changes::list_member_changes(tx.conn(), place.from, to, place.after_member.as_ref(), STEP)?;
                let present = changes::list_present(tx.conn(), &found)?;
                looked += found.len();
                place.after_member = found.last().filter(|_| is_full(found.len())).cloned();
                made += send(tx, &live, Kind::Group, &members(&found, &present), now)?;
                if place.after_member.is_none() {
                    break true;
                }
            }
            None => break true,
        }
        if looked > 0 {
            break false;
        }
    };
    let place = if over { Place::at(to) } else { Place { to: Some(to), ..place } };
    meta::upsert_value(tx, PLACE, &serde_json::to_string(&place)?)?;
    Ok((!over, made))
}

/// Whether a step took as much as it can: there may be more.
fn is_full(count: usize) -> bool {
    count >= usize::try_from(STEP).unwrap_or(usize::MAX)
}

/// Goes on behind the last object, or to the next kind.
fn advance(place: &mut Place, last: Option<(i64, String)>, count: usize) {
    if last.is_some() && is_full(count) {
        place.after = last;
    } else {
        place.stage += 1;
        place.after = None;
    }
}

/// What happened to each object. People and groups that are deleted and can be restored are changed, as in Graph.
fn types(conn: &mut Conn, kind: Kind, from: i64, found: &[changes::Change]) -> crate::store::Result<Vec<(String, ChangeType)>> {
    let ids: Vec<String> = found.iter().map(|change| change.id.clone()).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let limit = u32::try_from(ids.len()).unwrap_or(u32::MAX);
    let there = match odata::page(conn, set(kind), &Query::default(), &[Within::Keys(ids.clone())], None, limit) {
        Ok(page) => page.keys,
        Err(odata::Refused::Store(error)) => return Err(error),
        Err(odata::Refused::Wrong(wrong)) => return Err(crate::store::Error::corrupt(wrong)),
    };
    let kept = changes::list_kept(conn, kind, &ids)?;
    let told = found.iter().map(|change| {
        let what = if !there.contains(&change.id) {
            if kept.contains(&change.id) { ChangeType::Updated } else { ChangeType::Deleted }
        } else if change.made_seq >= from {
            ChangeType::Created
        } else {
            ChangeType::Updated
        };
        (change.id.clone(), what)
    });
    Ok(told.collect())
}

/// Who came into groups and left them: each is a change of its group.
fn members(found: &[MemberChange], present: &[MemberChange]) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    for one in found {
        let member = (one.member.clone(), present.contains(one));
        match items.iter_mut().find(|item| item.id == one.group) {
            Some(item) => item.members.push(member),
            None => items.push(Item { members: vec![member], ..Item::new(ChangeType::Updated, one.group.clone()) }),
        }
    }
    items
}

/// Puts one message for each subscription that wants to hear of some of it.
fn send(tx: &mut Tx<'_>, live: &[Subscription], kind: Kind, items: &[Item], now: Time) -> crate::store::Result<usize> {
    let mut made = 0;
    for one in live {
        let own: Vec<Item> = items.iter().filter_map(|item| heard_as(one, kind, item, now)).collect();
        for some in own.chunks(deliver::MOST_ITEMS) {
            deliver::changes(tx, one, some.to_vec(), now)?;
            made += 1;
        }
    }
    Ok(made)
}

/// The item as a subscription hears of it. Whoever asked for changes of people or groups, and not for new ones, hears of new ones, too, as
/// Graph tells of them.
fn heard_as(one: &Subscription, kind: Kind, item: &Item, now: Time) -> Option<Item> {
    if one.wants(kind, &item.id, item.change, now) {
        return Some(item.clone());
    }
    let in_graph = matches!(kind, Kind::User | Kind::Group) && item.change == ChangeType::Created;
    (in_graph && one.wants(kind, &item.id, ChangeType::Updated, now)).then(|| Item { change: ChangeType::Updated, ..item.clone() })
}
