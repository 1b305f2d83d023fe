//! Deletes what has run out: passes, enrolment tokens, throttles, message signatures, sessions, enrolments that were begun and given up, SCEP challenges and transactions, and versions of
//! profiles that no device has any more.

use crate::app::App;
use crate::clock::{DAY, HOUR};
use crate::service::Result;
use crate::store::apple::sessions;
use crate::store::{dm_sessions, enrollment_tokens, message_signatures, profiles, scep, taps, throttles};

/// How many sessions go in one transaction.
const BATCH: i64 = 500;

pub(super) const SCHEDULE: &str = "0 27 * * * *";

pub(super) async fn run(app: &App) -> Result<()> {
    let now = app.now();
    app.store
        .write(move |tx| {
            message_signatures::purge_signatures(tx, now)?;
            enrollment_tokens::purge_tokens(tx, now.plus(-HOUR))?;
            taps::purge_taps(tx, now.plus(-30 * DAY))?;
            sessions::purge_sessions(tx, now.plus(-HOUR))?;
            throttles::purge_throttles(tx, now.plus(-DAY))?;
            scep::purge(tx, now.plus(-30 * DAY))?;
            profiles::purge_versions(tx)?;
            Ok(())
        })
        .await?;
    // There may be as many as devices: in pieces, so that others get to write in between.
    while app.store.write(move |tx| dm_sessions::purge_sessions(tx, now.plus(-30 * DAY), BATCH)).await? > 0 {}
    Ok(())
}
