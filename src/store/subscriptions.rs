//! Subscriptions to changes.

use diesel::prelude::*;

use super::schema::subscriptions;
use super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::domain::subscription::{ChangeType, Kind, Subscription, words};
use crate::ids::{ApplicationId, GrantId, SubscriptionId, UserId};

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = subscriptions)]
struct Row {
    id: String,
    application_id: String,
    user_id: Option<String>,
    grant_id: Option<String>,
    resource: String,
    kind: String,
    object_id: Option<String>,
    change_types: String,
    notification_url: String,
    lifecycle_url: Option<String>,
    sealed_client_state: Option<Vec<u8>>,
    created_at: i64,
    expires_at: i64,
    warned_at: Option<i64>,
}

impl TryFrom<Row> for Subscription {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            id: SubscriptionId::from_store(row.id),
            application: ApplicationId::from_store(row.application_id),
            user: row.user_id.map(UserId::from_store),
            grant: row.grant_id.map(GrantId::from_store),
            resource: row.resource,
            kind: Kind::parse(&row.kind).ok_or_else(|| Error::corrupt("subscriptions.kind"))?,
            object: row.object_id,
            types: ChangeType::list(&row.change_types).ok_or_else(|| Error::corrupt("subscriptions.change_types"))?,
            notification_url: row.notification_url,
            lifecycle_url: row.lifecycle_url,
            sealed_state: row.sealed_client_state,
            created_at: Time(row.created_at),
            expires_at: Time(row.expires_at),
            warned_at: row.warned_at.map(Time),
        })
    }
}

/// Inserts a subscription.
///
/// # Errors
/// [`Error::Conflict`] when application or user are gone.
pub fn insert_subscription(tx: &mut Tx<'_>, new: &Subscription) -> Result<()> {
    let row = Row {
        id: new.id.to_string(),
        application_id: new.application.to_string(),
        user_id: new.user.as_ref().map(ToString::to_string),
        grant_id: new.grant.as_ref().map(ToString::to_string),
        resource: new.resource.clone(),
        kind: new.kind.as_str().to_owned(),
        object_id: new.object.clone(),
        change_types: words(&new.types),
        notification_url: new.notification_url.clone(),
        lifecycle_url: new.lifecycle_url.clone(),
        sealed_client_state: new.sealed_state.clone(),
        created_at: new.created_at.0,
        expires_at: new.expires_at.0,
        warned_at: new.warned_at.map(|at| at.0),
    };
    diesel::insert_into(subscriptions::table).values(row).execute(tx.conn())?;
    Ok(())
}

/// The subscriptions of an application in its own name, or in a person's, that are not over at `now`, the oldest first.
///
/// # Errors
/// Only the database's own.
pub fn list_of(conn: &mut Conn, application: &ApplicationId, user: Option<&UserId>, now: Time, limit: i64) -> Result<Vec<Subscription>> {
    let mut query = subscriptions::table
        .filter(subscriptions::application_id.eq(application.as_str()))
        .filter(subscriptions::expires_at.gt(now.0))
        .order(subscriptions::id)
        .limit(limit)
        .select(Row::as_select())
        .into_boxed();
    query = match user {
        Some(user) => query.filter(subscriptions::user_id.eq(user.as_str())),
        None => query.filter(subscriptions::user_id.is_null()),
    };
    let rows: Vec<Row> = query.load(conn)?;
    rows.into_iter().map(Subscription::try_from).collect()
}

/// A page of all that are not over at `now`, by id, after `after`.
///
/// # Errors
/// Only the database's own.
pub fn list_live(conn: &mut Conn, now: Time, after: &str, limit: i64) -> Result<Vec<Subscription>> {
    let rows: Vec<Row> = subscriptions::table
        .filter(subscriptions::expires_at.gt(now.0))
        .filter(subscriptions::id.gt(after))
        .order(subscriptions::id)
        .limit(limit)
        .select(Row::as_select())
        .load(conn)?;
    rows.into_iter().map(Subscription::try_from).collect()
}

/// The subscription, where there is one.
///
/// # Errors
/// Only the database's own.
pub fn find_subscription(conn: &mut Conn, id: &SubscriptionId) -> Result<Option<Subscription>> {
    let row: Option<Row> = subscriptions::table.find(id.as_str()).select(Row::as_select()).first(conn).optional()?;
    row.map(Subscription::try_from).transpose()
}

/// Sets when it ends and by which grant it lives; its owner is told again before that.
///
/// # Errors
/// [`Error::NotFound`].
pub fn update_end(tx: &mut Tx<'_>, id: &SubscriptionId, grant: Option<&GrantId>, expires_at: Time) -> Result<()> {
    let grant = subscriptions::grant_id.eq(grant.map(GrantId::as_str));
    let set = (grant, subscriptions::expires_at.eq(expires_at.0), subscriptions::warned_at.eq(None::<i64>));
    let changed = diesel::update(subscriptions::table.find(id.as_str())).set(set).execute(tx.conn())?;
    if changed == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// Writes down that its owner was told, or that it said since that it goes on (`None`).
///
/// # Errors
/// [`Error::NotFound`].
pub fn update_warned(tx: &mut Tx<'_>, id: &SubscriptionId, at: Option<Time>) -> Result<()> {
    let set = subscriptions::warned_at.eq(at.map(|at| at.0));
    let changed = diesel::update(subscriptions::table.find(id.as_str())).set(set).execute(tx.conn())?;
    if changed == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// Takes it away; says whether it was there.
///
/// # Errors
/// Only the database's own.
pub fn delete_subscription(tx: &mut Tx<'_>, id: &SubscriptionId) -> Result<bool> {
    Ok(diesel::delete(subscriptions::table.find(id.as_str())).execute(tx.conn())? > 0)
}

/// Takes all away; says how many there were. For a database that was restored.
///
/// # Errors
/// Only the database's own.
pub fn delete_all(tx: &mut Tx<'_>) -> Result<usize> {
    Ok(diesel::delete(subscriptions::table).execute(tx.conn())?)
}

/// Takes away at most `limit` that are over; says how many.
///
/// # Errors
/// Only the database's own.
pub fn purge_subscriptions(tx: &mut Tx<'_>, now: Time, limit: i64) -> Result<usize> {
    Ok(super::dialect::delete_some!(tx, subscriptions, id: String, subscriptions::expires_at.le(now.0), limit))
}
