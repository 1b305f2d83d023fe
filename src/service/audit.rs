//! Verifying and reading the audit log.

use crate::app::App;
use crate::domain::Refusal;
use crate::domain::audit::{Entry, Place};
use crate::service::Result;
use crate::store;
use crate::store::audit::{self, Row};

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

/// A page of rows after `after`, oldest first.
///
/// # Errors
/// Only the database's own.
pub async fn list(app: &App, after: i64, limit: i64) -> Result<Vec<Row>> {
    Ok(app.store.read(move |c| audit::list(c, after, limit.clamp(1, 10_000))).await?)
}
