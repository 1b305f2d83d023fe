//! Tells those who subscribed what changed: from the place where the last run stopped to the horizon, each step in a transaction of its own
//! with the messages that it makes, so that none is made twice and none is lost.

use std::sync::Arc;

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
/// How many subscriptions are read at once.
const PAGE: i64 = 1000;

/// How far it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Place {
    /// What is below this number was told.
    from: i64,
    /// What is being told goes up to this one.
    to: Option<i64>,
    /// What is being told: each kind's changes and then what was made and changed again before it was told, and last who belongs to groups.
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

    fn text(&self) -> crate::store::Result<String> {
        Ok(serde_json::to_string(self)?)
    }
}

/// The order of the kinds; who belongs to groups comes after them.
const KINDS: [Kind; 4] = [Kind::User, Kind::Group, Kind::Device, Kind::ManagedDevice];

fn set(kind: Kind) -> &'static Set {
    match kind {
        Kind::User => &users::SET,
        Kind::Group => &groups::SET,
        Kind::Device => &devices::SET,
        Kind::ManagedDevice => &enrollments::managed::MANAGED,
    }
}

/// The first subscription begins here: nothing of before is told. For the transaction that inserted it.
pub(super) fn begin(tx: &mut Tx<'_>, now: Time) -> crate::store::Result<()> {
    if subscriptions::list_live(tx.conn(), now, "", 2)?.len() > 1 && meta::find_value(tx.conn(), PLACE)?.is_some() {
        return Ok(());
    }
    let place = Place::at(changes::horizon(tx.conn())?).text()?;
    meta::upsert_value(tx, PLACE, &place)
}

/// Tells what changed since the last run, and who has to renew; says how many messages were made.
///
/// # Errors
/// Only the database's own.
pub async fn run(app: &App) -> Result<usize> {
    let now = app.now();
    let mut live: Vec<Subscription> = Vec::new();
    loop {
        let after = live.last().map(|one| one.id.to_string()).unwrap_or_default();
        let page = app.store.read(move |conn| subscriptions::list_live(conn, now, &after, PAGE)).await?;
        let more = page.len() >= usize::try_from(PAGE).unwrap_or(usize::MAX);
        live.extend(page);
        if !more {
            break;
        }
    }
    if live.is_empty() {
        return Ok(0);
    }
    let mut made = 0;
    for one in live.iter().filter(|one| one.warned_at.is_none() && one.lifecycle_url.is_some() && now >= one.warn_at()) {
        let one = one.clone();
        made += app.store.write(move |tx| warn(tx, &one, now)).await?;
    }
    let live = Arc::new(live);
    loop {
        let heard = Arc::clone(&live);
        let (more, count) = app.store.write(move |tx| step(tx, &heard, now)).await?;
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

/// Says to its owner that a subscription ends soon.
fn warn(tx: &mut Tx<'_>, one: &Subscription, now: Time) -> crate::store::Result<usize> {
    match subscriptions::update_warned(tx, &one.id, Some(now)) {
        Err(crate::store::Error::NotFound) => return Ok(0),
        other => other?,
    }
    deliver::lifecycle(tx, one, Event::ReauthorizationRequired, &format!("warn/{}", one.expires_at.0), now)?;
    Ok(1)
}

fn step(tx: &mut Tx<'_>, live: &[Subscription], now: Time) -> crate::store::Result<(bool, usize)> {
    let stored = meta::find_value(tx.conn(), PLACE)?;
    let known = stored.as_deref().and_then(|text| serde_json::from_str::<Place>(text).ok());
    let horizon = changes::horizon(tx.conn())?;
    // A database that was carried elsewhere counts anew.
    let Some(mut place) = known.filter(|place| place.from <= horizon) else {
        let place = Place::at(horizon).text()?;
        meta::upsert_value(tx, PLACE, &place)?;
        return Ok((false, 0));
    };
    let to = place.to.unwrap_or(horizon);
    if to == place.from {
        return Ok((false, 0));
    }
    let heard = |kind: Kind| live.iter().any(|one| one.kind == kind);
    // Kinds of which nothing changed, or nobody hears, take no transaction of their own.
    let (mut made, mut looked) = (0, 0);
    let over = loop {
        match KINDS.get(place.stage / 2) {
            Some(kind) if heard(*kind) => {
                let after = place.after.as_ref();
                let again = place.stage % 2 == 1;
                let found = match again {
                    false => changes::list_changes(tx.conn(), *kind, place.from, to, after, STEP)?,
                    true => changes::list_made(tx.conn(), *kind, place.from, to, after, STEP)?,
                };
                let told = match again {
                    false => types(tx.conn(), *kind, place.from, &found)?,
                    true => found.iter().map(|change| (change.id.clone(), ChangeType::Created)).collect(),
                };
                let items: Vec<Item> = told.into_iter().map(|(id, change)| Item::new(change, id)).collect();
                looked += found.len();
                let number = |change: &changes::Change| if again { change.made_seq } else { change.seq };
                advance(&mut place, found.last().map(|last| (number(last), last.id.clone())), found.len());
                made += send(tx, live, *kind, &items, now)?;
            }
            Some(_) => advance(&mut place, None, 0),
            None if heard(Kind::Group) => {
                let found = changes::list_member_changes(tx.conn(), place.from, to, place.after_member.as_ref(), STEP)?;
                let present = changes::list_present(tx.conn(), &found)?;
                looked += found.len();
                place.after_member = found.last().filter(|_| is_full(found.len())).cloned();
                made += send(tx, live, Kind::Group, &members(&found, &present), now)?;
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
    // Another node that was as far tells the same: one of the two does.
    if !meta::claim_value(tx, PLACE, stored.as_deref().unwrap_or_default(), &place.text()?)? {
        return Err(crate::store::Error::Busy);
    }
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
