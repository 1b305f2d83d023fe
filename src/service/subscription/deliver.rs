//! Delivers what subscriptions are told. What a receiver does not take within four hours is given up, and it is told that it missed something.

use std::time::Duration;

use reqwest::Client;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::clock::{HOUR, Time};
use crate::domain::access::Reach;
use crate::domain::audit::Entry;
use crate::domain::subscription::{ChangeType, Subscription};
use crate::ids::SubscriptionId;
use crate::service::identity::oauth::access_token;
use crate::service::outbound::{check_url, retry_after, unanswered};
use crate::service::outbox::{Aftermath, Deliverer, Delivery, Outcome};
use crate::service::{Error, Result};
use crate::store::outbox::{self, Claim, Lease, Message, Settled};
use crate::store::{Conn, Tx, audit, sealed, subscriptions};
use crate::wire::odata::edm;

const TOPIC: &str = "subscription.notify";
/// How many changes one message has at most.
pub const MOST_ITEMS: usize = 100;
/// How long a receiver may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// For how long a message is tried, in milliseconds.
const RETENTION: i64 = 4 * HOUR;

/// A change that is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// What happened.
    pub change: ChangeType,
    /// To which object.
    pub id: String,
    /// Who came into a group (`true`) and left it.
    pub members: Vec<(String, bool)>,
    /// The id of the note.
    pub note: String,
}

impl Item {
    /// A change of an object.
    #[must_use]
    pub fn new(change: ChangeType, id: String) -> Self {
        Self { change, id, members: Vec::new(), note: uuid::Uuid::now_v7().to_string() }
    }
}

/// What happens to a subscription itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Event {
    /// Something was given up: its owner reads everything anew.
    Missed,
    /// It ends soon.
    ReauthorizationRequired,
    /// It is gone.
    SubscriptionRemoved,
}

#[derive(Debug, Serialize, Deserialize)]
enum Payload {
    Changes {
        subscription: SubscriptionId,
        items: Vec<Item>,
    },
    /// Whole, as the subscription may be gone.
    Lifecycle {
        subscription: SubscriptionId,
        event: Event,
        url: String,
        sealed_state: Option<String>,
        expires_at: i64,
    },
}

/// All that an application subscribed to is one destination: it takes its share of what is sent at once, and no more.
fn enqueue(tx: &mut Tx<'_>, of: &Subscription, lane: &str, key: &str, payload: &Payload, now: Time) -> crate::store::Result<()> {
    let order_key = format!("subscriptions-{}/{}/{lane}", of.application, of.id);
    let message = Message { topic: TOPIC, dedup_key: format!("{order_key}/{key}"), order_key, payload: serde_json::to_string(payload)? };
    outbox::enqueue(tx, &message, now)
}

/// Puts in a message about changes.
pub(super) fn changes(tx: &mut Tx<'_>, to: &Subscription, items: Vec<Item>, now: Time) -> crate::store::Result<()> {
    let key = items.first().map(|item| item.note.clone()).unwrap_or_default();
    enqueue(tx, to, "changes", &key, &Payload::Changes { subscription: to.id.clone(), items }, now)
}

/// Puts in a message about the subscription, where its owner wants to hear of that.
pub(super) fn lifecycle(tx: &mut Tx<'_>, of: &Subscription, event: Event, key: &str, now: Time) -> crate::store::Result<()> {
    let Some(url) = of.lifecycle_url.clone() else { return Ok(()) };
    let payload = Payload::Lifecycle {
        subscription: of.id.clone(),
        event,
        url,
        sealed_state: of.sealed_state.as_ref().map(hex::encode),
        expires_at: of.expires_at.0,
    };
    enqueue(tx, of, "lifecycle", key, &payload, now)
}

/// A receiver that takes nothing is told so at its other address.
fn settled(tx: &mut Tx<'_>, claim: &Claim, how: &Settled) -> crate::store::Result<()> {
    let (Settled::Dead(_) | Settled::Expired(_)) = how else { return Ok(()) };
    let Ok(Payload::Changes { subscription, .. }) = serde_json::from_str(&claim.payload) else { return Ok(()) };
    match subscriptions::find_subscription(tx.conn(), &subscription)? {
        // Once an hour: whoever missed something reads everything anew.
        Some(of) => {
            let at = claim.queued_at.plus(RETENTION);
            lifecycle(tx, &of, Event::Missed, &format!("missed/{}", at.0 / HOUR), at)
        }
        None => Ok(()),
    }
}

/// Tells subscriptions what changed.
pub struct Notify {
    client: Client,
}

impl Notify {
    /// With a client that cannot be led elsewhere.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    async fn try_once(&self, app: &App, claim: &Claim) -> Result<Outcome> {
        let (url, body) = match serde_json::from_str(&claim.payload).map_err(Error::internal)? {
            Payload::Changes { subscription, items } => {
                let id = subscription.clone();
                let found = app.store.read(move |conn| subscriptions::find_subscription(conn, &id)).await?;
                let Some(subscription) = found.filter(|one| one.expires_at > app.now()) else { return Ok(Outcome::Skipped) };
                // The first one that grew too old was tried once more and given up; what waited behind it was missed with it.
                if claim.attempts == 0 && app.now() >= claim.queued_at.plus(RETENTION) {
                    return Ok(Outcome::Skipped);
                }
                if !may_hear(app, &subscription).await? {
                    remove(app, subscription).await?;
                    return Ok(Outcome::Skipped);
                }
                let state = super::client_state(app, &subscription)?;
                let state = state.map(|state| String::from_utf8_lossy(state.expose()).into_owned());
                let value: Vec<Value> = items.iter().map(|item| note(app, &subscription, item, state.as_deref())).collect();
                (subscription.notification_url, json!({ "value": value }))
            }
            Payload::Lifecycle { subscription, event, url, sealed_state, expires_at } => {
                let state = match sealed_state {
                    None => None,
                    Some(sealed) => {
                        let sealed = hex::decode(sealed).map_err(Error::internal)?;
                        Some(String::from_utf8_lossy(app.sealer().open(sealed::SUBSCRIPTION_STATE, &sealed)?.expose()).into_owned())
                    }
                };
                let body = json!({ "value": [{
                    "lifecycleEvent": event,
                    "subscriptionId": subscription,
                    "subscriptionExpirationDateTime": edm::time(expires_at),
                    "tenantId": app.tenant,
                    "clientState": state,
                }] });
                (url, body)
            }
        };
        let url = match check_url(&app.config, &url) {
            Ok(url) => url,
            Err(refusal) => return Ok(Outcome::Rejected(refusal.to_string())),
        };
        let later = |reason: String, after| Outcome::Retry { reason, after, destination: true };
        Ok(match self.client.post(url).json(&body).timeout(PATIENCE).send().await {
            Ok(answer) if answer.status().is_success() => Outcome::Done,
            Ok(answer) => later(answer.status().to_string(), retry_after(answer.headers(), app.now())),
            Err(error) => later(unanswered(&error), None),
        })
    }
}

/// One note about a change.
fn note(app: &App, of: &Subscription, item: &Item, state: Option<&str>) -> Value {
    let path = of.kind.path();
    let mut data = Map::from_iter([
        ("@odata.type".to_owned(), json!(of.kind.type_name())),
        ("@odata.id".to_owned(), json!(format!("{path}/{}", item.id))),
        ("id".to_owned(), json!(item.id)),
    ]);
    if !item.members.is_empty() {
        let shown = |(id, present): &(String, bool)| match present {
            true => json!({ "id": id }),
            false => json!({ "id": id, "@removed": "deleted" }),
        };
        data.insert("members@delta".into(), item.members.iter().map(shown).collect());
    }
    json!({
        "id": item.note,
        "subscriptionId": of.id,
        "subscriptionExpirationDateTime": edm::time(of.expires_at.0),
        "clientState": state,
        "changeType": item.change,
        "resource": format!("{path}/{}", item.id),
        "tenantId": app.tenant,
        "resourceData": data,
    })
}

/// Whether its owner may still read what it is about, everywhere.
async fn may_hear(app: &App, subscription: &Subscription) -> Result<bool> {
    let (application, now) = (subscription.application.clone(), app.now());
    let person = match (subscription.user.clone(), subscription.grant.clone()) {
        (Some(user), Some(grant)) => Some((user, grant)),
        (None, _) => None,
        (Some(_), None) => return Ok(false),
    };
    let look = move |conn: &mut Conn| {
        let person = person.as_ref().map(|(user, grant)| (user, grant));
        access_token::caller_now(conn, &application, person, now)
    };
    let caller = app.store.read(look).await?;
    Ok(caller.is_some_and(|caller| caller.reach(subscription.kind.need()) == Some(Reach::All)))
}

/// Takes away a subscription whose owner may not hear of its changes any more.
async fn remove(app: &App, subscription: Subscription) -> Result<()> {
    let now = app.now();
    app.store
        .write(move |tx| {
            if subscriptions::delete_subscription(tx, &subscription.id)? {
                lifecycle(tx, &subscription, Event::SubscriptionRemoved, "removed", now)?;
                let entry = Entry::new("system", "subscription.delete", format!("subscription:{}", subscription.id), "outbox");
                audit::append(tx, &entry.before(&super::shown(&subscription)), now)?;
            }
            Ok(())
        })
        .await?;
    app.outbox.notify_waiters();
    Ok(())
}

impl Deliverer for Notify {
    fn topic(&self) -> &'static str {
        TOPIC
    }

    fn aftermath(&self) -> Option<Aftermath> {
        Some(settled)
    }

    fn retention(&self, _: &App) -> i64 {
        RETENTION
    }

    fn deliver<'a>(&'a self, app: &'a App, _: &'a Lease, claim: &'a Claim) -> Delivery<'a> {
        Box::pin(async move {
            self.try_once(app, claim).await.unwrap_or_else(|error| Outcome::Retry {
                reason: error.to_string(),
                after: None,
                destination: false,
            })
        })
    }
}
