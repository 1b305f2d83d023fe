//! Subscriptions to changes (Graph's change notifications): made after the receiver has shown that it wants them, told from the places that
//! changes are followed by, delivered by the outbox.

pub mod deliver;
pub mod tell;

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use serde_json::json;

use super::directory::By;
use super::outbound::{check_url_and_addresses, client, read_bounded, unanswered};
use super::{Error, Result};
use crate::app::App;
use crate::clock::Time;
use crate::domain::Refusal;
use crate::domain::access::{Caller, Reach};
use crate::domain::subscription::{ChangeType, LONGEST_STATE, MOST, Subscription, end, resource, words};
use crate::ids::{SubscriptionId, UserId};
use crate::secret::{Secret, random, same};
use crate::store::{audit, sealed, subscriptions};

/// How long a receiver has to answer the validation request.
const VALIDATION: Duration = Duration::from_secs(10);

/// A subscription to be.
#[derive(Debug)]
pub struct New {
    /// What is subscribed to, such as `users`.
    pub resource: String,
    /// Which changes, such as `created,updated`.
    pub change_type: String,
    /// Where changes are told.
    pub notification_url: String,
    /// Where is told what happens to the subscription.
    pub lifecycle_url: Option<String>,
    /// What each message repeats.
    pub client_state: Option<String>,
    /// When it ends.
    pub expires_at: Time,
}

/// Whose a subscription is: of an application in its own name, or of a person through one.
fn is_of(subscription: &Subscription, caller: &Caller) -> bool {
    subscription.application == caller.application && subscription.user.as_ref() == caller.person()
}

/// Makes a subscription, once its addresses have answered with the token that they were sent.
///
/// # Errors
/// `SIG0007` for a resource, changes or a state that are none, `SIG0008` for an end that is over or too far away, `SIG0009` for one too many,
/// `SIG0010` when an address does not answer as it should, `SIG0011` without the right to read the resource everywhere, and what
/// [`check_url_and_addresses`] refuses.
pub async fn create(app: &App, caller: &Caller, new: New, by: &By) -> Result<Subscription> {
    let invalid = |what: &str| Error::Invalid(Refusal::SubscriptionInvalid, what.to_owned());
    let (kind, object) = resource(&new.resource).ok_or_else(|| invalid("resource"))?;
    let types = ChangeType::list(&new.change_type).ok_or_else(|| invalid("changeType"))?;
    if new.client_state.as_ref().is_some_and(|state| state.chars().count() > LONGEST_STATE) {
        return Err(invalid("clientState"));
    }
    if caller.reach(kind.need()) != Some(Reach::All) {
        return Err(Refusal::SubscriptionNotAllowed.into());
    }
    let now = app.now();
    let expires_at = end(new.expires_at, now).ok_or(Refusal::SubscriptionEnd)?;
    for url in std::iter::once(&new.notification_url).chain(&new.lifecycle_url) {
        validate(app, check_url_and_addresses(&app.config, url).await?).await?;
    }
    let sealed_state =
        new.client_state.as_ref().map(|state| app.sealer().seal(sealed::SUBSCRIPTION_STATE, state.as_bytes())).transpose()?;
    let subscription = Subscription {
        id: SubscriptionId::new(),
        application: caller.application.clone(),
        user: caller.person().cloned(),
        grant: caller.grant.clone(),
        resource: new.resource,
        kind,
        object,
        types,
        notification_url: new.notification_url,
        lifecycle_url: new.lifecycle_url,
        sealed_state,
        created_at: now,
        expires_at,
        warned_at: None,
    };
    let (row, by) = (subscription.clone(), by.clone());
    app.store
        .write(move |tx| {
            let most = i64::try_from(MOST).unwrap_or(i64::MAX);
            if subscriptions::list_of(tx.conn(), &row.application, row.user.as_ref(), now, most)?.len() >= MOST {
                return Err(Refusal::SubscriptionTooMany.into());
            }
            subscriptions::insert_subscription(tx, &row)?;
            tell::begin(tx, now)?;
            audit::append(tx, &by.entry("subscription.create", format!("subscription:{}", row.id)).after(&shown(&row)), now)
        })
        .await?;
    Ok(subscription)
}

/// What the audit log says of one: without the query of its addresses, where receivers put secrets.
fn shown(subscription: &Subscription) -> serde_json::Value {
    let bare = |url: &str| url.split('?').next().unwrap_or_default().to_owned();
    json!({
        "resource": subscription.resource,
        "change_type": words(&subscription.types),
        "notification_url": bare(&subscription.notification_url),
        "lifecycle_url": subscription.lifecycle_url.as_deref().map(bare),
        "expires_at": subscription.expires_at,
    })
}

/// Asks the receiver to repeat a token: nobody is sent anything who does not want it.
async fn validate(app: &App, mut url: Url) -> Result<()> {
    let refused = |why: String| Error::Invalid(Refusal::SubscriptionUnvalidated, why);
    let token = format!("Validation: {}", hex::encode(random::<16>()?));
    // The rest of the query stays as it was written.
    let mut query = url.query().map(|query| format!("{query}&")).unwrap_or_default();
    query.push_str("validationToken=");
    query.extend(utf8_percent_encode(&token, NON_ALPHANUMERIC));
    url.set_query(Some(&query));
    let request = client(&app.config).map_err(Error::internal)?.post(url).header(CONTENT_TYPE, "text/plain; charset=utf-8");
    let answered = async {
        let mut answer = request.timeout(VALIDATION).send().await.map_err(|error| refused(unanswered(&error)))?;
        let plain = answer
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|kind| kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/plain"));
        if answer.status().as_u16() != 200 || !plain {
            return Err(refused(format!("{} instead of 200 with text/plain", answer.status())));
        }
        let body = read_bounded(&mut answer, 1024).await;
        if same(&body, token.as_bytes()) { Ok(()) } else { Err(refused("another text than the token".into())) }
    };
    tokio::time::timeout(VALIDATION, answered).await.unwrap_or_else(|_| Err(refused("no answer in time".into())))
}

/// The caller's subscriptions.
///
/// # Errors
/// Only the database's own.
pub async fn list(app: &App, caller: &Caller) -> Result<Vec<Subscription>> {
    let (application, user, now) = (caller.application.clone(), caller.person().cloned(), app.now());
    let most = i64::try_from(MOST).unwrap_or(i64::MAX);
    Ok(app.store.read(move |conn| subscriptions::list_of(conn, &application, user.as_ref(), now, most)).await?)
}

/// One of the caller's subscriptions.
///
/// # Errors
/// [`Error::NotFound`] also for those of others.
pub async fn load(app: &App, caller: &Caller, id: &str) -> Result<Subscription> {
    let missing = || Error::NotFound("subscription");
    let id = SubscriptionId::parse(id).ok_or_else(missing)?;
    let found = app.store.read(move |conn| subscriptions::find_subscription(conn, &id)).await?;
    found.filter(|one| is_of(one, caller) && one.expires_at > app.now()).ok_or_else(missing)
}

/// What each message of a subscription repeats, for its owner.
///
/// # Errors
/// When it cannot be opened.
pub fn client_state(app: &App, subscription: &Subscription) -> Result<Option<Secret>> {
    Ok(subscription.sealed_state.as_ref().map(|sealed| app.sealer().open(sealed::SUBSCRIPTION_STATE, sealed)).transpose()?)
}

/// Sets another end. It lives by what the person gave with the sign-in that renews it.
///
/// # Errors
/// `SIG0008`, `SIG0011`; [`Error::NotFound`].
pub async fn renew(app: &App, caller: &Caller, id: &str, expires_at: Time, by: &By) -> Result<Subscription> {
    let subscription = load(app, caller, id).await?;
    if caller.reach(subscription.kind.need()) != Some(Reach::All) {
        return Err(Refusal::SubscriptionNotAllowed.into());
    }
    let now = app.now();
    let expires_at = end(expires_at, now).ok_or(Refusal::SubscriptionEnd)?;
    let renewed = Subscription { expires_at, warned_at: None, grant: caller.grant.clone(), ..subscription.clone() };
    let (row, by) = (renewed.clone(), by.clone());
    app.store
        .write(move |tx| {
            subscriptions::update_end(tx, &row.id, row.grant.as_ref(), expires_at)?;
            let entry = by.entry("subscription.update", format!("subscription:{}", row.id)).before(&shown(&subscription));
            audit::append(tx, &entry.after(&shown(&row)), now)
        })
        .await?;
    Ok(renewed)
}

/// Its owner says that it goes on wanting it: it is told again before the end.
///
/// # Errors
/// `SIG0011`; [`Error::NotFound`].
pub async fn reauthorize(app: &App, caller: &Caller, id: &str) -> Result<()> {
    let subscription = load(app, caller, id).await?;
    if caller.reach(subscription.kind.need()) != Some(Reach::All) {
        return Err(Refusal::SubscriptionNotAllowed.into());
    }
    let grant = caller.grant.clone();
    Ok(app.store.write(move |tx| subscriptions::update_end(tx, &subscription.id, grant.as_ref(), subscription.expires_at)).await?)
}

/// Ends it.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn delete(app: &App, caller: &Caller, id: &str, by: &By) -> Result<()> {
    let (subscription, by, now) = (load(app, caller, id).await?, by.clone(), app.now());
    app.store
        .write(move |tx| {
            if subscriptions::delete_subscription(tx, &subscription.id)? {
                let entry = by.entry("subscription.delete", format!("subscription:{}", subscription.id));
                audit::append(tx, &entry.before(&shown(&subscription)), now)?;
            }
            Ok(())
        })
        .await?;
    Ok(())
}

/// In whose name a subscription was made, for people.
#[must_use]
pub fn creator(subscription: &Subscription) -> String {
    subscription.user.as_ref().map_or_else(|| subscription.application.to_string(), UserId::to_string)
}
