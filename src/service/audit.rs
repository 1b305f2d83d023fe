//! Verifying and reading the audit log.

use std::collections::{BTreeMap, BTreeSet};

use crate::app::App;
use crate::domain::Refusal;
use crate::domain::access::Reach;
use crate::domain::audit::{Entry, Place};
use crate::ids::{CommandId, DeviceId, ProfileId, UserId};
use crate::service::Result;
use crate::service::directory::By;
use crate::service::page::{self, Found};
use crate::store;
use crate::store::audit;
use crate::wire::odata::query::Query;

pub use crate::store::audit::Row;

/// How many rows are read at once.
const PAGE: i64 = 1000;

/// What a check of the whole chain found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Rows that are as they were written.
    pub sound: i64,
    /// The newest of them, to be noted elsewhere; none in an empty log.
    pub head: Option<Place>,
    /// The first thing that is wrong.
    pub broken: Option<Broken>,
}

/// A row that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Where in the chain.
    pub seq: i64,
    /// What is wrong.
    pub why: Refusal,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (row {})", self.why, self.seq)
    }
}

/// Walks the whole chain and names the first row that does not fit: altered, taken out from between others, moved, or added; then the head
/// must bear our mark. With `noted`, the chain must hold that row. Rows that are written meanwhile do no harm.
///
/// What it cannot find by itself is an end that was cut off where the head was put back, too: the mark says that a head was ours, not that
/// it is the newest. Whoever copied position, hash and mark of an older head (from the database itself, or from a backup) and writes the
/// database puts them back and deletes the rows after it, and the shorter log is sound in itself. Only a place that was noted elsewhere
/// since then shows it.
///
/// # Errors
/// [`Refusal::AuditNoteInvalid`] when `noted` is before the first row; the database's own, and OpenSSL's.
pub async fn verify(app: &App, noted: Option<&Place>) -> Result<Report> {
    if noted.is_some_and(|noted| noted.seq < 1) {
        return Err(Refusal::AuditNoteInvalid.into());
    }
    // The walk begins at 1, and nothing of ours is before it.
    if let Some(stray) = app.store.read(audit::first_seq).await?.filter(|first| *first < 1) {
        return Ok(broken(stray, Refusal::AuditRowAdded));
    }
    let (mut seq, mut hash) = (0_i64, String::new());
    loop {
        let after = seq;
        // The rows before the head: a row and its head are written together, so no row that is read here lies beyond the head.
        let read = app.store.read(move |c| Ok((audit::list(c, after, PAGE)?, audit::head(c)?))).await;
        let (rows, head) = match read {
            Err(store::Error::Refused(why @ Refusal::AuditHeadMissing)) => return Ok(broken(seq + 1, why)),
            other => other?,
        };
        for row in &rows {
            let next = seq + 1;
            let why = if row.seq != next {
                Some(Refusal::AuditRowMissing)
            } else if row.previous_hash != hash {
                Some(Refusal::AuditRowMoved)
            } else if row.link().hash() != row.hash {
                Some(Refusal::AuditRowAltered)
            } else if noted.is_some_and(|noted| noted.seq == next && noted.hash != row.hash) {
                Some(Refusal::AuditNoteDiffers)
            } else if next == head.seq && row.hash != head.hash {
                Some(Refusal::AuditHeadDiffers)
            } else {
                None
            };
            if let Some(why) = why {
                return Ok(broken(next, why));
            }
            (seq, hash) = (next, row.hash.clone());
        }
        if i64::try_from(rows.len()).unwrap_or(PAGE) < PAGE {
            return Ok(match seq.cmp(&head.seq) {
                // The head may be of a moment after the rows.
                std::cmp::Ordering::Less if still_missing(app, seq).await? => broken(seq + 1, Refusal::AuditRowMissing),
                std::cmp::Ordering::Less => continue,
                std::cmp::Ordering::Greater => broken(head.seq + 1, Refusal::AuditRowAdded),
                std::cmp::Ordering::Equal => match app.store.head_key() {
                    Some(key) if key.fits(&head)? => match noted {
                        Some(noted) if noted.seq > seq => broken(seq + 1, Refusal::AuditNoteMissing),
                        _ => Report { sound: seq, head: (seq > 0).then_some(Place { seq, hash }), broken: None },
                    },
                    _ => broken(seq, Refusal::AuditHeadForeign),
                },
            });
        }
    }
}

fn broken(seq: i64, why: Refusal) -> Report {
    Report { sound: (seq - 1).max(0), head: None, broken: Some(Broken { seq, why }) }
}

/// Whether nothing follows a row although the head says so.
async fn still_missing(app: &App, seq: i64) -> Result<bool> {
    Ok(app.store.read(move |c| audit::list(c, seq, 1)).await?.is_empty())
}

/// Records that an order of the command line broke the server's own rules: what it changed until then stays.
///
/// # Errors
/// The database's own.
pub async fn record_panic(app: &App, order: &str, actor: &str) -> Result<()> {
    let (entry, now) = (Entry::new(actor, "order.panic", format!("order:{order}"), "local"), app.now());
    Ok(app.store.write(move |tx| audit::append(tx, &entry, now)).await?)
}

/// Records that an order came from another machine, by which application; what it changes is recorded beside.
///
/// # Errors
/// The database's own.
pub async fn record_order(app: &App, state: &serde_json::Value, by: &By) -> Result<()> {
    let (entry, now) = (by.entry("order.give", by.actor.clone()).after(state), app.now());
    Ok(app.store.write(move |tx| audit::append(tx, &entry, now)).await?)
}

/// Rows that were searched for, with whether there are more.
///
/// # Errors
/// Only the database's own.
pub async fn search(app: &App, search: audit::Search, limit: i64) -> Result<(Vec<Row>, bool)> {
    let limit = usize::try_from(limit.clamp(1, 10_000)).unwrap_or(1);
    let one_more = i64::try_from(limit + 1).unwrap_or(i64::MAX);
    let mut rows = app.store.read(move |c| audit::search(c, &search, one_more)).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    Ok((rows, more))
}

/// What users, devices, orders and profiles are called that rows name as actor or target, by that name (`user:<id>`). Of what is gone, only
/// profiles have one.
///
/// # Errors
/// Only the database's own.
pub async fn names(app: &App, rows: &[Row]) -> Result<BTreeMap<String, String>> {
    let wanted: BTreeSet<String> = rows.iter().flat_map(|row| [row.actor.clone(), row.target.clone()]).collect();
    let read = app.store.read(move |c| {
        let mut names = BTreeMap::new();
        for party in wanted {
            let name = match party.split_once(':') {
                Some(("user", id)) => match UserId::parse(id).map(|id| store::users::load_user(c, &id)) {
                    None | Some(Err(store::Error::NotFound)) => None,
                    Some(user) => Some(user?.upn),
                },
                Some(("device", id)) => match DeviceId::parse(id) {
                    Some(id) => store::devices::find_device(c, &id)?.map(|device| device.display_name),
                    None => None,
                },
                Some(("command", id)) => match CommandId::parse(id) {
                    Some(id) => store::commands::find_label(c, &id)?.map(|(kind, device)| format!("{kind} on {device}")),
                    None => None,
                },
                Some(("profile", id)) => match ProfileId::parse(id) {
                    Some(id) => match store::profiles::find_name(c, &id)? {
                        Some(name) => Some(name),
                        None => store::profiles::find_deleted_name(c, &id)?.map(|name| format!("{name} (deleted)")),
                    },
                    None => None,
                },
                _ => None,
            };
            names.extend(name.map(|name| (party, name)));
        }
        Ok(names)
    });
    Ok(read.await?)
}

/// A page of the log, the newest first unless the query says otherwise.
///
/// # Errors
/// [`page::Error::Wrong`] when the query asks for what rows have not.
pub async fn page_rows(app: &App, query: &Query, reach: &Reach, limit: u32) -> std::result::Result<Found<Row>, page::Error> {
    let load = |conn: &mut store::Conn, places: &[String]| {
        Ok(audit::list_by_places(conn, places)?.into_iter().map(|row| (row.seq.to_string(), row)).collect())
    };
    page::find(app, &audit::SET, query, page::within(reach), limit, load).await
}
