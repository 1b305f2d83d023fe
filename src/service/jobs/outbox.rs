//! Deletes what the outbox has sent a week ago and given up a month ago.

use crate::app::App;
use crate::clock::DAY;
use crate::service::Result;
use crate::store;

pub(super) const SCHEDULE: &str = "0 42 * * * *";
/// How many rows go in one transaction, so that others are not held up.
const BATCH: i64 = 500;

pub(super) async fn run(app: &App) -> Result<()> {
    let now = app.now();
    metrics::gauge!("muster_outbox_lanes").set(app.store.read(store::outbox::count_lanes).await? as f64);
    while app.store.write(move |tx| store::outbox::purge_settled(tx, now.plus(-7 * DAY), now.plus(-30 * DAY), BATCH)).await? > 0 {}
    Ok(())
}
