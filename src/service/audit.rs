//! Verifying and reading the audit log.

use crate::app::App;
use crate::service::Result;
use crate::store::audit::{self, Row};

/// How many rows are read at once.
const PAGE: i64 = 1000;

/// What a check of the whole chain found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Rows that are as they were written.
    pub sound: i64,
    /// The first thing that is wrong.
    pub broken: Option<Broken>,
}

/// A row that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Broken {
    /// Where in the chain.
    pub seq: i64,
    /// What is wrong.
    pub what: &'static str,
}

/// Walks the whole chain and names the first row that was altered, removed, moved or added. Rows that are written meanwhile do no harm.
///
/// # Errors
/// Only the database's own.
pub async fn verify(app: &App) -> Result<Report> {
    let (mut seq, mut hash) = (0_i64, String::new());
    let broken = |seq, what| Ok(Report { sound: seq - 1, broken: Some(Broken { seq, what }) });
    loop {
        let after = seq;
        // The rows before the head: a row and its head are written together, so no row that is read here lies beyond the head.
        let (rows, head) = app.store.read(move |c| Ok((audit::list(c, after, PAGE)?, audit::head(c)?))).await?;
        for row in &rows {
            let next = seq + 1;
            if row.seq != next {
                return broken(next, "the row is missing");
            }
            if row.previous_hash != hash {
                return broken(next, "the row does not follow the one before it");
            }
            if row.link().hash() != row.hash {
                return broken(next, "the row was altered");
            }
            (seq, hash) = (next, row.hash.clone());
            if seq == head.0 && hash != head.1 {
                return broken(next, "the row is not the one that was written last");
            }
        }
        if i64::try_from(rows.len()).unwrap_or(PAGE) < PAGE {
            return match seq.cmp(&head.0) {
                // The head may be of a moment after the rows.
                std::cmp::Ordering::Less if still_missing(app, seq).await? => broken(seq + 1, "the row is missing"),
                std::cmp::Ordering::Less => continue,
                std::cmp::Ordering::Greater => broken(head.0 + 1, "the row was added from outside"),
                std::cmp::Ordering::Equal => Ok(Report { sound: seq, broken: None }),
            };
        }
    }
}

/// Whether nothing follows a row although the head says so.
async fn still_missing(app: &App, seq: i64) -> Result<bool> {
    Ok(app.store.read(move |c| audit::list(c, seq, 1)).await?.is_empty())
}

/// A page of rows after `after`, oldest first.
///
/// # Errors
/// Only the database's own.
pub async fn list(app: &App, after: i64, limit: i64) -> Result<Vec<Row>> {
    Ok(app.store.read(move |c| audit::list(c, after, limit.clamp(1, 10_000))).await?)
}
