//! Configured receivers.

use serde_json::json;

use super::caep;
use crate::app::App;
use crate::domain::Refusal;
use crate::domain::signal::{Receiver, ReceiverStatus};
use crate::ids::ReceiverId;
use crate::secret::Secret;
use crate::service::directory::By;
use crate::service::outbound::check_url_and_addresses;
use crate::service::{Error, Result};
use crate::store::outbox::{Row, find_fortune};
use crate::store::{self, receivers, sealed};

pub use crate::store::outbox::Fortune;

/// A receiver to be.
#[derive(Debug)]
pub struct NewReceiver {
    /// Name for people; unique.
    pub name: String,
    /// Where signals are pushed to.
    pub endpoint_url: String,
    /// The `aud` claim; default: the URL.
    pub audience: Option<String>,
    /// Sent as it is in `Authorization`; without one no such header is sent.
    pub authorization: Option<Secret>,
}

/// Adds a receiver, which gets every flip from now on.
///
/// # Errors
/// The refusals of [`check_url_and_addresses`], [`Refusal::AuthorizationNotSendable`], or a conflict when the name is taken.
pub async fn add(app: &App, new: NewReceiver, by: &By) -> Result<Receiver> {
    let url = check_url_and_addresses(&app.config, &new.endpoint_url).await?;
    let sealed_authorization = match &new.authorization {
        None => None,
        Some(value) => {
            reqwest::header::HeaderValue::from_bytes(value.expose()).map_err(|_| Refusal::AuthorizationNotSendable)?;
            Some(app.sealer().seal(sealed::RECEIVER_AUTHORIZATION, value.expose())?)
        }
    };
    let now = app.now();
    let receiver = Receiver {
        id: ReceiverId::new(),
        name: new.name,
        audience: new.audience.unwrap_or_else(|| url.to_string()),
        endpoint_url: url.into(),
        sealed_authorization,
        status: ReceiverStatus::Enabled,
        status_reason: None,
        created_at: now,
    };
    let (row, by) = (receiver.clone(), by.clone());
    app.store
        .write(move |tx| {
            receivers::insert_receiver(tx, &row)?;
            let after = json!({ "name": row.name, "endpoint_url": row.endpoint_url, "audience": row.audience });
            store::audit::append(tx, &by.entry("receiver.create", format!("receiver:{}", row.id)).after(&after), now)
        })
        .await?;
    Ok(receiver)
}

/// The receiver of that name or id.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn load(app: &App, name: &str) -> Result<Receiver> {
    let text = name.to_owned();
    let found = app.store.read(move |c| match ReceiverId::parse(&text) {
        Some(id) => receivers::find_receiver(c, &id),
        None => receivers::find_receiver_by_name(c, &text),
    });
    found.await?.ok_or(Error::NotFound("receiver"))
}

/// All receivers by name, and how each has fared.
///
/// # Errors
/// Only the database's own.
pub async fn list(app: &App) -> Result<Vec<(Fortune, Receiver)>> {
    let read = app.store.read(|conn| {
        let all = receivers::list_receivers(conn)?;
        all.into_iter().map(|receiver| Ok((find_fortune(conn, &caep::destination(&receiver.id))?, receiver))).collect()
    });
    Ok(read.await?)
}

/// The receiver of that name or id, and how it has fared.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn find(app: &App, name: &str) -> Result<(Fortune, Receiver)> {
    let receiver = load(app, name).await?;
    let destination = caep::destination(&receiver.id);
    Ok((app.store.read(move |conn| find_fortune(conn, &destination)).await?, receiver))
}

/// Removes a receiver and gives up what waits for it.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn remove(app: &App, name: &str, by: &By) -> Result<()> {
    let (receiver, by, now) = (load(app, name).await?, by.clone(), app.now());
    app.store
        .write(move |tx| {
            receivers::delete_receiver(tx, &receiver.id)?;
            store::outbox::missed::delete_of_destination(tx, &caep::destination(&receiver.id))?;
            let given_up = store::outbox::update_abandoned(tx, &caep::destination(&receiver.id), "the receiver was removed", now)?;
            let before = json!({ "name": receiver.name, "endpoint_url": receiver.endpoint_url, "given_up": given_up });
            store::audit::append(tx, &by.entry("receiver.delete", format!("receiver:{}", receiver.id)).before(&before), now)
        })
        .await?;
    Ok(())
}

/// Holds signals back from a receiver, or lets them go again: of each device what it missed, held or given up, in one signal or none.
///
/// # Errors
/// Only the database's own.
pub async fn set_status(app: &App, id: &ReceiverId, status: ReceiverStatus, reason: Option<String>, by: &By) -> Result<()> {
    let (receiver, by, now) = (id.clone(), by.clone(), app.now());
    let id = receiver.clone();
    app.store
        .write(move |tx| {
            receivers::update_status(tx, &id, status, reason.as_deref())?;
            let mut superseded = 0;
            if status == ReceiverStatus::Enabled {
                superseded = caep::resume(tx, &id, now)?;
            }
            let after = json!({ "status": status, "reason": reason, "superseded": superseded });
            store::audit::append(tx, &by.entry("receiver.status", format!("receiver:{id}")).after(&after), now)
        })
        .await?;
    let mut after = (status == ReceiverStatus::Enabled).then(String::new);
    while let Some(lane) = after {
        let id = receiver.clone();
        after = app.store.write(move |tx| caep::tell_missed(tx, &id, &lane, now)).await?;
    }
    app.outbox.notify_waiters();
    Ok(())
}

/// Sends a verification event; returns its `jti`.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn test(app: &App, name: &str, by: &By) -> Result<String> {
    let (receiver, by, now) = (load(app, name).await?, by.clone(), app.now());
    let sending = app.store.write(move |tx| {
        let jti = caep::enqueue_verification(tx, &receiver.id, now)?;
        store::audit::append(tx, &by.entry("receiver.test", format!("receiver:{}", receiver.id)).after(&json!({ "jti": jti })), now)?;
        Ok(jti)
    });
    let jti = sending.await?;
    app.outbox.notify_waiters();
    Ok(jti)
}

/// What became of a verification event that was put in with that `jti`, if it is still known.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn fate(app: &App, name: &str, jti: &str) -> Result<Option<Row>> {
    let (receiver, jti) = (load(app, name).await?, jti.to_owned());
    Ok(app.store.read(move |conn| caep::find_verification(conn, &receiver.id, &jti)).await?)
}
