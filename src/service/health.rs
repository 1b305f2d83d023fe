//! Whether the server can do its work.

use std::sync::atomic::Ordering;

use super::{Error, Result};
use crate::app::App;
use crate::clock::{SECOND, Time};
use crate::store;

/// How long the database may take to say that it is there.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// How often, after a write failed, another one is tried, in milliseconds.
const PROBE_EVERY: i64 = 5 * SECOND;
/// Under what a probe is written, and how much: enough to need room in the file.
const PROBE: (&str, usize) = ("readiness.probe", 64 * 1024);

/// The database answers, and takes writes: the last one was done, or another one is done now. Without a write that failed nothing is written.
///
/// # Errors
/// [`Error::Unavailable`] when it does not, or not in time.
pub async fn check_ready(app: &App) -> Result<()> {
    let asked = app.store.read(|conn| store::meta::find_value(conn, "tenant").map(drop));
    in_time(asked).await?;
    let (Some(trouble), now) = (app.store.trouble(), app.now()) else { return Ok(()) };
    let last = Time(app.probed_at.load(Ordering::Relaxed));
    if (0..PROBE_EVERY).contains(&now.since(last)) {
        return Err(Error::Unavailable(trouble));
    }
    app.probed_at.store(now.0, Ordering::Relaxed);
    let (key, size) = PROBE;
    let probe = app.store.write(move |tx| {
        store::meta::upsert_value(tx, key, &"x".repeat(size))?;
        store::meta::take_value(tx, key).map(drop)
    });
    in_time(probe).await.map_err(|error| Error::Unavailable(error.to_string()))
}

async fn in_time(asked: impl Future<Output = store::Result<()>>) -> Result<()> {
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Error::Unavailable("the database does not answer".into())),
    }
}
