//! Deletes what has run out: passes, enrolment tokens, throttles, message signatures, sessions, SCEP challenges and transactions, and versions of
//! profiles that no device has any more.

use crate::app::App;
use crate::clock::{DAY, HOUR};
use crate::service::Result;
use crate::store::{dm_sessions, enrollment_tokens, message_signatures, profiles, scep, taps, throttles};

pub(super) const SCHEDULE: &str = "0 27 * * * *";

pub(super) async fn run(app: &App) -> Result<()> {
    let now = app.now();
    app.store
        .write(move |tx| {
            message_signatures::purge_signatures(tx, now)?;
            enrollment_tokens::purge_tokens(tx, now.plus(-HOUR))?;
            taps::purge_taps(tx, now.plus(-30 * DAY))?;
            throttles::purge_throttles(tx, now.plus(-DAY))?;
            dm_sessions::purge_sessions(tx, now.plus(-30 * DAY))?;
            scep::purge(tx, now.plus(-30 * DAY))?;
            profiles::purge_versions(tx)?;
            Ok(())
        })
        .await?;
    Ok(())
}
