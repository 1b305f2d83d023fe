//! What falls with an authority that is revoked: the identities that it issued are good no longer. Their devices are refused from that moment
//! on; that they are not compliant any more is found by the worker, page by page, however many they are.

use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::clock::{DAY, Time};
use crate::domain::signal::Initiator;
use crate::ids::AuthorityId;
use crate::service::outbox::{Deliverer, Delivery, Outcome};
use crate::service::{Result, compliance};
use crate::store::outbox::{Claim, Lease, Message, enqueue};
use crate::store::{self, Tx, enrollments};

/// The outbox topic.
pub const TOPIC: &str = "authority.fallen";
/// How many enrolments are looked at together.
const PAGE: i64 = 200;

#[derive(Serialize, Deserialize)]
struct Payload {
    authority: AuthorityId,
}

/// Has the devices judged whose identities an authority issued, in the transaction that revokes it. Ring `app.outbox` after the commit.
///
/// # Errors
/// Only the database's own.
pub(super) fn enqueue_judging(tx: &mut Tx<'_>, authority: &AuthorityId, now: Time) -> store::Result<()> {
    let key = format!("fallen/{authority}");
    let payload = serde_json::to_string(&Payload { authority: authority.clone() })?;
    enqueue(tx, &Message { topic: TOPIC, order_key: key.clone(), dedup_key: key, payload }, now)
}

/// Judges the devices.
pub struct Fallen;

async fn judge(app: &App, claim: &Claim) -> Result<()> {
    let Payload { authority } = serde_json::from_str(&claim.payload).map_err(crate::service::Error::internal)?;
    let mut after = String::new();
    loop {
        let (of, from) = (authority.clone(), after.clone());
        let page = app.store.read(move |conn| enrollments::list_current_with_authority(conn, &from, PAGE)).await?;
        let Some((last, ..)) = page.last() else { return Ok(()) };
        last.as_str().clone_into(&mut after);
        // Sorted, as all take them.
        let mut devices: Vec<_> = page.into_iter().filter(|(.., issued_by)| *issued_by == of).map(|(_, device, _)| device).collect();
        devices.sort_unstable();
        compliance::judge(app, devices, Initiator::Admin).await?;
    }
}

impl Deliverer for Fallen {
    fn topic(&self) -> &'static str {
        TOPIC
    }

    fn retention(&self, _app: &App) -> i64 {
        30 * DAY
    }

    fn deliver<'a>(&'a self, app: &'a App, _lease: &'a Lease, claim: &'a Claim) -> Delivery<'a> {
        Box::pin(async move {
            match judge(app, claim).await {
                Ok(()) => Outcome::Done,
                Err(error) => Outcome::Retry { reason: error.to_string(), after: None, destination: false },
            }
        })
    }
}
