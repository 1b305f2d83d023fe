//! Effects that leave after the commit, at least once, and in order within an order key.
//!
//! The unit that nodes lease is the *lane*: an order key with something to send. While a node holds a lane it sends the lane's oldest
//! queued row, and nobody sends another one of it. A lane that waits for a retry, or is leased, has a `next_at` in the future, so the
//! search for work touches only lanes that are due, however many rows are waiting behind them or are done. A row that is given up
//! (`dead`) leaves its lane, and the rows behind it go on: order is kept among what is delivered.

mod fortune;
pub mod missed;
mod resumed;

use diesel::prelude::*;

pub use self::fortune::{Fortune, find_fortune};
pub use self::resumed::{Crowded, update_held, update_resumed, update_superseded};
use super::dialect::each_backend;
use super::schema::{outbox, outbox_lanes};
use super::{Conn, Result, Tx};
use crate::clock::{MINUTE, Time};
use crate::domain::Refusal;

pub(super) const QUEUED: &str = "queued";
const DONE: &str = "done";
const DEAD: &str = "dead";
/// By how much a clock may be set back, in milliseconds, without anything being done about it: what was set before then waits longer by that.
const LEAP: i64 = MINUTE;

/// An effect on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Which deliverer takes it, such as `signal.push` or `wns.wake`.
    pub topic: &'static str,
    /// `destination/subject`: messages of one order key leave one after the other; a destination that fails is left in peace for a
    /// while as a whole.
    pub order_key: String,
    /// A message with a key that is already there is not put in again. Use a key within one order key only.
    pub dedup_key: String,
    /// What the deliverer needs, as JSON.
    pub payload: String,
}

/// A message that this node holds for sending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its row.
    pub seq: i64,
    /// Which deliverer takes it.
    pub topic: String,
    /// Its lane.
    pub order_key: String,
    /// What the deliverer needs, as JSON.
    pub payload: String,
    /// How many tries failed so far.
    pub attempts: i64,
    /// When it was put in.
    pub queued_at: Time,
    /// The lane's version under which it is held.
    version: i64,
}

impl Claim {
    /// The destination: the order key up to the first slash.
    #[must_use]
    pub fn destination(&self) -> &str {
        destination(&self.order_key)
    }
}

/// Under what a node holds lanes.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The node.
    pub node: String,
    /// Topics whose rows give up their dedup key when they are claimed: what is enqueued from then on is a new message.
    pub coalesced: Vec<&'static str>,
    /// How long a lease lasts, in milliseconds: longer than any try.
    pub millis: i64,
}

/// What became of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Sent.
    Done,
    /// Not needed any more: nothing was sent.
    Skipped,
    /// Given up, with the reason: this try did not reach the other side, or it said no.
    Dead(String),
    /// Given up after a try of which nobody knows whether it reached the other side, with the reason.
    Expired(String),
    /// To be tried again at that moment, with the reason.
    Retry(Time, String),
}

/// A row as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable, serde::Serialize)]
#[diesel(table_name = outbox)]
pub struct Row {
    /// Position.
    pub seq: i64,
    /// Which deliverer takes it.
    pub topic: String,
    /// Its lane.
    pub order_key: String,
    /// `queued`, `done` or `dead`.
    pub state: String,
    /// How many tries failed.
    pub attempts: i64,
    /// Why the last try failed.
    pub last_error: Option<String>,
    /// When it was put in, in milliseconds.
    pub queued_at: i64,
    /// When it was sent or given up, in milliseconds.
    pub settled_at: Option<i64>,
}

fn destination(order_key: &str) -> &str {
    order_key.split_once('/').map_or(order_key, |(head, _)| head)
}

/// Puts a message in, in the transaction of the change that causes it. A known dedup key is left as it is.
///
/// # Errors
/// Only the database's own.
pub fn enqueue(tx: &mut Tx<'_>, message: &Message, now: Time) -> Result<()> {
    // The lane first: on PostgreSQL its row lock makes the seq numbers of a lane grow in commit order, and keeps the lane from being
    // taken away while this transaction adds to it.
    touch_lane(tx, &message.order_key, now)?;
    let known: i64 = outbox::table.filter(outbox::dedup_key.eq(&message.dedup_key)).count().get_result(tx.conn())?;
    if known > 0 {
        return Ok(());
    }
    diesel::insert_into(outbox::table)
        .values((
            outbox::topic.eq(message.topic),
            outbox::order_key.eq(&message.order_key),
            outbox::dedup_key.eq(&message.dedup_key),
            outbox::payload.eq(&message.payload),
            outbox::state.eq(QUEUED),
            outbox::attempts.eq(0),
            outbox::queued_at.eq(now.0),
        ))
        .execute(tx.conn())?;
    Ok(())
}

/// Makes the lane, or locks the one that is there: until the commit nobody takes it or adds to it.
///
/// # Errors
/// Only the database's own.
pub fn touch_lane(tx: &mut Tx<'_>, order_key: &str, now: Time) -> Result<()> {
    each_backend!(tx.conn(), c => diesel::insert_into(outbox_lanes::table)
        .values((
            outbox_lanes::order_key.eq(order_key),
            outbox_lanes::destination.eq(destination(order_key)),
            outbox_lanes::next_at.eq(now.0),
            outbox_lanes::set_at.eq(now.0),
            outbox_lanes::version.eq(1),
        ))
        .on_conflict(outbox_lanes::order_key)
        .do_update()
        .set(outbox_lanes::destination.eq(destination(order_key)))
        .execute(c))?;
    Ok(())
}

/// Claims up to `limit` lanes that are due, leaving out some destinations; gives the oldest queued row of each. A lane that was set while the
/// clock was ahead is due, too.
///
/// # Errors
/// Only the database's own.
pub fn claim_due(tx: &mut Tx<'_>, lease: &Lease, without: &[String], limit: i64, now: Time) -> Result<Vec<Claim>> {
    update_put_right(tx, lease, now)?;
    let due: Vec<(String, i64)> = outbox_lanes::table
        .filter(outbox_lanes::next_at.le(now.0))
        .filter(outbox_lanes::destination.ne_all(without))
        .order((outbox_lanes::next_at, outbox_lanes::order_key))
        .limit(limit)
        .select((outbox_lanes::order_key, outbox_lanes::version))
        .load(tx.conn())?;
    let mut claims = Vec::with_capacity(due.len());
    for (order_key, version) in due {
        let won = diesel::update(outbox_lanes::table.find(&order_key).filter(outbox_lanes::version.eq(version)))
            .set((
                outbox_lanes::lease_owner.eq(Some(&lease.node)),
                outbox_lanes::next_at.eq(now.plus(lease.millis).0),
                outbox_lanes::set_at.eq(now.0),
                outbox_lanes::version.eq(version.saturating_add(1)),
            ))
            .execute(tx.conn())?;
        if won == 1 {
            claims.extend(next_of_lane(tx, &order_key, version.saturating_add(1), &lease.coalesced)?);
        }
    }
    Ok(claims)
}

/// The lane's oldest queued row; an empty lane is taken away.
fn next_of_lane(tx: &mut Tx<'_>, order_key: &str, version: i64, coalesced: &[&str]) -> Result<Option<Claim>> {
    type Fields = (i64, String, String, String, i64, i64);
    let row: Option<Fields> = outbox::table
        .filter(outbox::order_key.eq(order_key))
        .filter(outbox::state.eq(QUEUED))
        .order(outbox::seq)
        .select((outbox::seq, outbox::topic, outbox::dedup_key, outbox::payload, outbox::attempts, outbox::queued_at))
        .first(tx.conn())
        .optional()?;
    let Some((seq, topic, dedup_key, payload, attempts, queued_at)) = row else {
        diesel::delete(outbox_lanes::table.find(order_key)).execute(tx.conn())?;
        return Ok(None);
    };
    let marked = format!("#{seq}");
    if coalesced.contains(&topic.as_str()) && !dedup_key.ends_with(&marked) {
        diesel::update(outbox::table.find(seq)).set(outbox::dedup_key.eq(format!("{dedup_key}{marked}"))).execute(tx.conn())?;
    }
    Ok(Some(Claim { seq, topic, order_key: order_key.to_owned(), payload, attempts, queued_at: Time(queued_at), version }))
}

/// Stores what a deliverer made of the payload before it sends it, so that a retry sends the same bytes. `false` when the lane is not
/// held any more: then nothing may be sent.
///
/// # Errors
/// Only the database's own.
pub fn update_payload(tx: &mut Tx<'_>, claim: &Claim, lease: &Lease, payload: &str) -> Result<bool> {
    let held = lock_held(tx, claim, lease)?;
    if held {
        diesel::update(outbox::table.find(claim.seq)).set(outbox::payload.eq(payload)).execute(tx.conn())?;
    }
    Ok(held)
}

/// Locks the lane of a claim until the commit; `false` when it is not held any more.
///
/// # Errors
/// Only the database's own.
pub fn lock_held(tx: &mut Tx<'_>, claim: &Claim, lease: &Lease) -> Result<bool> {
    Ok(diesel::update(held_lane(claim, &lease.node)).set(outbox_lanes::version.eq(claim.version)).execute(tx.conn())? == 1)
}

#[diesel::dsl::auto_type(no_type_alias)]
fn held_lane<'a>(claim: &'a Claim, node: &'a str) -> _ {
    let key: &'a str = claim.order_key.as_str();
    let version: i64 = claim.version;
    outbox_lanes::table
        .filter(outbox_lanes::order_key.eq(key))
        .filter(outbox_lanes::lease_owner.eq(node))
        .filter(outbox_lanes::version.eq(version))
}

/// Records what became of a claim. After success or giving up, the lane's next row comes back, still held, when `keep` is set; else the
/// lane is let go. A lane that this node lost meanwhile is left alone.
///
/// # Errors
/// Only the database's own.
pub fn settle(tx: &mut Tx<'_>, claim: &Claim, lease: &Lease, settled: &Settled, keep: bool, now: Time) -> Result<Option<Claim>> {
    let version = claim.version.saturating_add(1);
    let (owner, next_at) = match settled {
        Settled::Retry(at, _) => (None, *at),
        _ if keep => (Some(&lease.node), now.plus(lease.millis)),
        _ => (None, now),
    };
    // The lane's row lock is taken here, before the look for more rows: an enqueue either comes before (and its row is seen) or after
    // (and it makes the lane anew).
    let held = diesel::update(held_lane(claim, &lease.node))
        .set((
            outbox_lanes::lease_owner.eq(owner),
            outbox_lanes::next_at.eq(next_at.0),
            outbox_lanes::set_at.eq(now.0),
            outbox_lanes::version.eq(version),
        ))
        .execute(tx.conn())?;
    if held == 0 {
        return Ok(None);
    }
    let row = outbox::table.find(claim.seq);
    match settled {
        Settled::Done => diesel::update(row)
            .set((outbox::state.eq(DONE), outbox::settled_at.eq(Some(now.0)), outbox::last_error.eq(None::<String>)))
            .execute(tx.conn())?,
        Settled::Skipped => diesel::update(row)
            .set((outbox::state.eq(DONE), outbox::settled_at.eq(Some(now.0)), outbox::last_error.eq(Some("not needed any more"))))
            .execute(tx.conn())?,
        Settled::Dead(why) | Settled::Expired(why) => diesel::update(row)
            .set((
                outbox::state.eq(DEAD),
                outbox::attempts.eq(claim.attempts.saturating_add(1)),
                outbox::settled_at.eq(Some(now.0)),
                outbox::last_error.eq(Some(why)),
            ))
            .execute(tx.conn())?,
        Settled::Retry(_, why) => {
            diesel::update(row)
                .set((outbox::attempts.eq(claim.attempts.saturating_add(1)), outbox::last_error.eq(Some(why))))
                .execute(tx.conn())?;
            return Ok(None);
        }
    };
    let next = next_of_lane(tx, &claim.order_key, version, if keep { &lease.coalesced } else { &[] })?;
    Ok(next.filter(|_| keep))
}

/// Lets a claim go without a try.
///
/// # Errors
/// Only the database's own.
pub fn release(tx: &mut Tx<'_>, claim: &Claim, lease: &Lease, now: Time) -> Result<()> {
    diesel::update(held_lane(claim, &lease.node))
        .set((
            outbox_lanes::lease_owner.eq(None::<String>),
            outbox_lanes::next_at.eq(now.0),
            outbox_lanes::set_at.eq(now.0),
            outbox_lanes::version.eq(claim.version.saturating_add(1)),
        ))
        .execute(tx.conn())?;
    Ok(())
}

/// Whether a lane is due, some destinations left out, or one waits for a moment that was reckoned from a wrong clock.
///
/// # Errors
/// Only the database's own.
pub fn has_due(conn: &mut Conn, without: &[String], now: Time) -> Result<bool> {
    let next: Option<i64> = outbox_lanes::table
        .filter(outbox_lanes::destination.ne_all(without))
        .order(outbox_lanes::next_at)
        .select(outbox_lanes::next_at)
        .first(conn)
        .optional()?;
    if next.is_some_and(|next| next <= now.0) {
        return Ok(true);
    }
    let newest: Option<i64> = outbox_lanes::table.select(diesel::dsl::max(outbox_lanes::set_at)).first(conn)?;
    Ok(newest.is_some_and(|newest| newest > now.plus(LEAP).0))
}

/// Makes the lanes due that were set while the clock was ahead of itself: they would else wait until it is that late. Those that are held
/// stay so, unless for longer than anybody holds one.
fn update_put_right(tx: &mut Tx<'_>, lease: &Lease, now: Time) -> Result<()> {
    let free = outbox_lanes::lease_owner.is_null().or(outbox_lanes::next_at.gt(now.plus(LEAP + lease.millis).0));
    diesel::update(outbox_lanes::table.filter(outbox_lanes::set_at.gt(now.plus(LEAP).0)).filter(free))
        .set((
            outbox_lanes::next_at.eq(now.0),
            outbox_lanes::set_at.eq(now.0),
            outbox_lanes::lease_owner.eq(None::<String>),
            outbox_lanes::version.eq(outbox_lanes::version + 1),
        ))
        .execute(tx.conn())?;
    Ok(())
}

/// How many lanes wait or are leased.
///
/// # Errors
/// Only the database's own.
pub fn count_lanes(conn: &mut Conn) -> Result<i64> {
    Ok(outbox_lanes::table.count().get_result(conn)?)
}

/// A page of rows of a state (`queued`, `done`, `dead`) after `after`, oldest first.
///
/// # Errors
/// Only the database's own.
pub fn list_rows(conn: &mut Conn, state: &str, after: i64, limit: i64) -> Result<Vec<Row>> {
    Ok(outbox::table
        .filter(outbox::state.eq(state))
        .filter(outbox::seq.gt(after))
        .order(outbox::seq)
        .limit(limit)
        .select(Row::as_select())
        .load(conn)?)
}

/// The row of a lane with that dedup key, if it is still there.
///
/// # Errors
/// Only the database's own.
pub fn find_row(conn: &mut Conn, lane: &str, dedup_key: &str) -> Result<Option<Row>> {
    let found = outbox::table.filter(outbox::order_key.eq(lane)).filter(outbox::dedup_key.eq(dedup_key));
    Ok(found.order(outbox::seq.desc()).select(Row::as_select()).first(conn).optional()?)
}

/// The row of a lane that was put in last, if one is still there.
///
/// # Errors
/// Only the database's own.
pub fn find_newest(conn: &mut Conn, lane: &str) -> Result<Option<Row>> {
    let newest = outbox::table.filter(outbox::order_key.eq(lane)).order(outbox::seq.desc());
    Ok(newest.select(Row::as_select()).first(conn).optional()?)
}

/// How many rows of a lane wait, that one left out.
///
/// # Errors
/// Only the database's own.
pub fn count_queued(conn: &mut Conn, lane: &str, but: Option<i64>) -> Result<i64> {
    let waiting = outbox::table.filter(outbox::order_key.eq(lane)).filter(outbox::state.eq(QUEUED));
    Ok(waiting.filter(outbox::seq.ne(but.unwrap_or(0))).count().get_result(conn)?)
}

/// Puts a dead row in again; gives its topic, lane and payload. Refused when a newer row of its lane has been delivered meanwhile: the old
/// one would overtake it backwards.
///
/// # Errors
/// [`super::Error::NotFound`] when there is no such dead row; [`Refusal::DeadLetterSuperseded`].
pub fn update_requeued(tx: &mut Tx<'_>, seq: i64, now: Time) -> Result<(String, String, String)> {
    let dead = outbox::table.find(seq).filter(outbox::state.eq(DEAD)).select((outbox::topic, outbox::order_key, outbox::payload));
    let (topic, order_key, payload): (String, String, String) = dead.first(tx.conn())?;
    touch_lane(tx, &order_key, now)?;
    let newer: i64 = outbox::table
        .filter(outbox::order_key.eq(&order_key))
        .filter(outbox::state.eq(DONE))
        .filter(outbox::seq.gt(seq))
        .count()
        .get_result(tx.conn())?;
    if newer > 0 {
        return Err(Refusal::DeadLetterSuperseded.into());
    }
    diesel::update(outbox::table.find(seq))
        .set((outbox::state.eq(QUEUED), outbox::attempts.eq(0), outbox::queued_at.eq(now.0), outbox::settled_at.eq(None::<i64>)))
        .execute(tx.conn())?;
    Ok((topic, order_key, payload))
}

/// Gives up every queued row of a destination, such as a removed receiver; returns how many.
///
/// # Errors
/// Only the database's own.
pub fn update_abandoned(tx: &mut Tx<'_>, of_destination: &str, why: &str, now: Time) -> Result<usize> {
    let lanes: Vec<String> =
        outbox_lanes::table.filter(outbox_lanes::destination.eq(of_destination)).select(outbox_lanes::order_key).load(tx.conn())?;
    let mut count = 0;
    for lane in lanes {
        diesel::delete(outbox_lanes::table.find(&lane)).execute(tx.conn())?;
        count += diesel::update(outbox::table.filter(outbox::order_key.eq(&lane)).filter(outbox::state.eq(QUEUED)))
            .set((outbox::state.eq(DEAD), outbox::settled_at.eq(Some(now.0)), outbox::last_error.eq(Some(why))))
            .execute(tx.conn())?;
    }
    Ok(count)
}

/// Deletes up to `limit` rows that were done before `done_before` (keeping what proves that a dead row is superseded) and dead before
/// `dead_before`; returns how many.
///
/// # Errors
/// Only the database's own.
pub fn purge_settled(tx: &mut Tx<'_>, done_before: Time, dead_before: Time, limit: i64) -> Result<usize> {
    let older = diesel::alias!(outbox as older);
    let done: Vec<i64> = outbox::table
        .filter(outbox::state.eq(DONE))
        .filter(outbox::settled_at.lt(done_before.0))
        .filter(diesel::dsl::not(diesel::dsl::exists(
            older
                .filter(older.field(outbox::order_key).eq(outbox::order_key))
                .filter(older.field(outbox::state).eq(DEAD))
                .filter(older.field(outbox::seq).lt(outbox::seq)),
        )))
        .limit(limit)
        .select(outbox::seq)
        .load(tx.conn())?;
    let dead: Vec<i64> = outbox::table
        .filter(outbox::state.eq(DEAD))
        .filter(outbox::settled_at.lt(dead_before.0))
        .limit(limit)
        .select(outbox::seq)
        .load(tx.conn())?;
    let mut count = 0;
    for seqs in [done, dead] {
        count += diesel::delete(outbox::table.filter(outbox::seq.eq_any(seqs))).execute(tx.conn())?;
    }
    Ok(count)
}
