//! Deletes what has run out: passes, enrolment tokens, throttles, message signatures, sessions, what people gave applications, enrolments
//! that were begun and given up, SCEP challenges and transactions, keys, identifiers and tokens that no device used, codes of attestations,
//! orders that are over, users and groups that were deleted long ago, and versions of profiles that no device has any more.
//! Licences go back from devices that are not managed any more.

use serde_json::json;

use crate::app::App;
use crate::clock::{DAY, HOUR, Time};
use crate::domain::audit::Entry;
use crate::service::apple::licences;
use crate::service::{Result, changes, directory};
use crate::store::apple::{nonces, sessions};
use crate::store::{Tx, acme_clients, applications, audit, autopilot, ceremonies, commands, device_codes, dm_sessions, enrollment_tokens, grants, issued_keys, message_signatures, profiles, registration_tokens, scep, sign_ins, subscriptions, taps, throttles, web_sessions};

/// How many rows of a table go in one transaction: there may be as many as devices, and others get to write in between.
const BATCH: i64 = 500;
/// How many requests a row of the audit log names at most; the others are counted.
const NAMED: usize = 100;

pub(super) const SCHEDULE: &str = "0 27 * * * *";

pub(super) async fn run(app: &App) -> Result<()> {
    let now = app.now();
    drain(app, move |tx| message_signatures::purge_signatures(tx, now, BATCH)).await?;
    drain(app, move |tx| enrollment_tokens::purge_tokens(tx, now.plus(-HOUR), BATCH)).await?;
    drain(app, move |tx| applications::purge_assertions(tx, now, BATCH)).await?;
    drain(app, move |tx| taps::purge_taps(tx, now.plus(-30 * DAY), BATCH)).await?;
    drain(app, move |tx| ceremonies::purge_ceremonies(tx, now, BATCH)).await?;
    drain(app, move |tx| web_sessions::purge_sessions(tx, now, BATCH)).await?;
    drain(app, move |tx| grants::purge_grants(tx, now, BATCH)).await?;
    // A program that asks too late hears for a while that its code has expired.
    drain(app, move |tx| device_codes::purge_waiting(tx, now.plus(-HOUR), BATCH)).await?;
    let logged = now.plus(-i64::from(app.config.sign_in_days.max(1)) * DAY);
    drain(app, move |tx| sign_ins::purge_sign_ins(tx, logged, BATCH)).await?;
    drain(app, move |tx| autopilot::purge_imports(tx, now.plus(-30 * DAY), BATCH)).await?;
    drain(app, move |tx| sessions::purge_sessions(tx, now.plus(-HOUR), BATCH)).await?;
    drain(app, move |tx| throttles::purge_throttles(tx, now.plus(-DAY), BATCH)).await?;
    drain(app, move |tx| purge_scep(tx, now)).await?;
    drain(app, move |tx| acme_clients::purge_clients(tx, now.plus(-30 * DAY), BATCH)).await?;
    drain(app, move |tx| registration_tokens::purge_tokens(tx, now.plus(-30 * DAY), BATCH)).await?;
    let stale = now.plus(-i64::from(app.config.apple.attestation_days) * DAY);
    drain(app, move |tx| nonces::purge_nonces(tx, stale, BATCH)).await?;
    drain(app, move |tx| issued_keys::purge_keys(tx, now.plus(-30 * DAY), BATCH)).await?;
    drain(app, move |tx| dm_sessions::purge_sessions(tx, now.plus(-30 * DAY), BATCH)).await?;
    let over = now.plus(-i64::from(app.config.order_days.max(1)) * DAY);
    drain(app, move |tx| commands::purge_commands(tx, over, BATCH)).await?;
    directory::deleted::purge_old(app).await?;
    changes::purge(app).await?;
    drain(app, move |tx| subscriptions::purge_subscriptions(tx, now, BATCH)).await?;
    licences::release_departed(app).await?;
    drain(app, |tx| profiles::purge_versions(tx, BATCH)).await
}

/// What nobody decided on in 30 days is over: one row of the audit log says so for all of a batch.
fn purge_scep(tx: &mut Tx<'_>, now: Time) -> crate::store::Result<usize> {
    let purged = scep::purge(tx, now.plus(-30 * DAY), BATCH)?;
    let undecided = purged.undecided.len();
    if undecided > 0 {
        let named: Vec<_> = purged.undecided.iter().take(NAMED).map(|(authority, name)| format!("{authority}/{name}")).collect();
        let entry = Entry::new("job:purge", "scep.expired", "scep-transactions", "local");
        audit::append(tx, &entry.after(&json!({ "count": undecided, "transactions": named })), now)?;
    }
    Ok(purged.rows)
}

/// Repeats a purge, each time in a transaction of its own, until it finds nothing more.
async fn drain<P>(app: &App, purge: P) -> Result<()>
where
    P: Fn(&mut Tx<'_>) -> crate::store::Result<usize> + Clone + Send + 'static,
{
    while app.store.write(purge.clone()).await? > 0 {}
    Ok(())
}
