//! Orders from other machines: what comes in over `POST /api/orders` is carried out as what comes in over the control socket is, in the name
//! of who signed in, and as far as their roles reach.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::need::Place;
use super::who::Who;
use super::{Order, control};
use crate::app::App;
use crate::domain::Refusal;
use crate::domain::access::Caller;
use crate::http::orders::{Carried, Carrier};
use crate::http::server::Routes;
use crate::service::callers::Weight;
use crate::service::{Error, Result, audit};
use crate::wire::nul;

/// The route tables of a server that takes orders.
#[must_use]
pub fn routes() -> Routes {
    Routes { orders: Some(&Orders), ..Routes::default() }
}

/// The orders from other machines that are carried out at once.
static ALL: Semaphore = Semaphore::const_new(32);
/// Those of them that read very much.
static HEAVY: Semaphore = Semaphore::const_new(2);
/// How long an order waits for its turn.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
struct Orders;

impl Carrier for Orders {
    fn carry(&self, app: Arc<App>, caller: Caller, origin: String, body: Vec<u8>) -> Carried {
        Box::pin(carry(app, caller, origin, body))
    }
}

async fn carry(app: Arc<App>, caller: Caller, origin: String, body: Vec<u8>) -> Result<Value> {
    let unreadable = |error: serde_json::Error| {
        // What was sent may be a secret; the place and the kind of error are not.
        Error::Invalid(Refusal::OrderUnreadable, format!("{:?} at column {}", error.classify(), error.column()))
    };
    let order: Order = serde_json::from_slice(&body).map_err(unreadable)?;
    let odd = nul::in_json(&body);
    drop(zeroize::Zeroizing::new(body));
    let name = order.words();
    // Of a file that is imported each row is judged by itself.
    if odd && !name.to_ascii_lowercase().ends_with("import") {
        return Err(Error::Invalid(Refusal::OrderUnreadable, "it has the letter U+0000".into()));
    }
    let client_id = caller.client_id.clone();
    let Place::Anywhere(needs) = order.place() else { return Err(Refusal::OrderLocalOnly.into()) };
    let changes = order.applies_files() || needs.iter().any(|need| need.action.is_none_or(|action| !action.as_str().ends_with("_Read")));
    let heavy = order.is_heavy();
    let weight = match changes || heavy {
        _ if order.is_urgent() => Weight::Urgent,
        true => Weight::Write,
        false => Weight::Read,
    };
    app.callers.count(&caller, weight).map_err(Error::Throttled)?;
    let who = Who::remote(caller, origin);
    for need in &needs {
        who.check(*need)?;
    }
    // What only shows is not recorded here: what shows secrets records itself, but for what is seen of them by comparing.
    if changes || order.compares_secrets() {
        let state = json!({ "order": name, "application": client_id });
        audit::record_order(&app, &state, &who.by).await?;
    }
    let (given, by) = (Arc::clone(&app), who.by.clone());
    let place = if heavy { &HEAVY } else { &ALL };
    let place = tokio::time::timeout(PATIENCE, place.acquire()).await.map_err(|_| Error::Unavailable("too many orders at once".into()))?;
    let place = place.map_err(Error::internal)?;
    let work = async move {
        // It is held until the work has ended, whether anybody still waits for the answer or not.
        let _place = place;
        order.run_for(&given, &who).await
    };
    control::carry_out(&app, &name, &by.actor, work).await
}
