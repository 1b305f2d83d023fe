//! Requests that wait for an administrator.

use serde_json::json;

use super::decide::{is_barred, record};
use super::holder;
use crate::app::App;
use crate::domain::Refusal;
use crate::domain::access::Caller;
use crate::domain::audit::Entry;
use crate::domain::scep::{State, Transaction};
use crate::ids::CertificateId;
use crate::service::apple;
use crate::service::directory::By;
use crate::service::pki::{issue, namesake};
use crate::service::{Error, Result};
use crate::store::{self, audit, certificates, devices, profiles, scep, users};
use crate::wire::pkcs10::Request;

/// A request that waits, and what there is to know for the decision.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The request.
    pub transaction: Transaction,
    /// The name of the profile that it is for.
    pub profile: Option<String>,
    /// What the device is called.
    pub device: Option<String>,
    /// What the user is called.
    pub user: Option<String>,
    /// The serial number of the certificate that would be renewed.
    pub renews: Option<String>,
    /// Who made the challenge, where no profile did.
    pub challenged_by: Option<String>,
}

/// The undecided requests of all authorities, oldest first, with the names of whom they are for.
///
/// # Errors
/// Only our own.
pub async fn list_waiting(app: &App, limit: i64) -> Result<Vec<Waiting>> {
    let read = app.store.read(move |c| {
        let mut all = Vec::new();
        for transaction in scep::list_pending(c, limit)? {
            let grant = &transaction.grant;
            let profile = grant.profile_id.as_ref().map_or(Ok(None), |id| profiles::find_name(c, id))?;
            let device = grant.device_id.as_ref().map(|id| devices::load_device(c, id));
            let user = grant.user_id.as_ref().map(|id| users::load_user(c, id));
            let renews = transaction.renews.as_ref().map(|id| certificates::load_certificate(c, id));
            let challenged_by = match (&transaction.challenge_id, &grant.profile_id) {
                (Some(id), None) => audit::find_actor(c, &format!("scep-challenge:{id}"), "scep.challenge")?,
                _ => None,
            };
            all.push(Waiting {
                profile,
                device: known(device)?.map(|device| device.display_name),
                user: known(user)?.map(|user| user.upn),
                renews: known(renews)?.map(|older| older.serial),
                challenged_by,
                transaction,
            });
        }
        Ok(all)
    });
    Ok(read.await?)
}

/// Who is gone has no name.
fn known<T>(found: Option<store::Result<T>>) -> store::Result<Option<T>> {
    match found {
        Some(Err(store::Error::NotFound)) => Ok(None),
        found => found.transpose(),
    }
}

/// The undecided requests of all authorities, oldest first.
///
/// # Errors
/// Only our own.
pub async fn list_pending(app: &App, limit: i64) -> Result<Vec<Transaction>> {
    Ok(app.store.read(move |c| scep::list_pending(c, limit)).await?)
}

/// Grants a waiting request: the certificate is issued now and handed out at the next poll.
///
/// # Errors
/// [`Error::NotFound`]; [`Refusal::ScepTransactionDecided`]; [`Refusal::ScepHolderGone`] when the device has left since, its user is
/// disabled, or it should not have the profile any more; [`Refusal::CertificateRevoked`] when the certificate that renews itself was
/// revoked or has ended; [`Refusal::CertificateHeld`] when one in its place is on hold; [`Refusal::ScepRenewalTooMany`]; what the issuing core refuses.
pub async fn approve(app: &App, authority: &str, transaction_id: &str, actor: &str, origin: &str) -> Result<CertificateId> {
    let by = By { actor: actor.to_owned(), origin: origin.to_owned() };
    approve_for(app, authority, transaction_id, None, &by).await
}

/// Grants a waiting request as somebody says so; `giver` is `None` for somebody at the server's own machine.
///
/// # Errors
/// As [`approve`]; [`Refusal::MethodsOfSuperior`] for the name of somebody who may do more than they.
pub async fn approve_for(app: &App, authority: &str, transaction_id: &str, giver: Option<&Caller>, by: &By) -> Result<CertificateId> {
    let transaction = load(app, authority, transaction_id).await?;
    let request = Request::parse(&transaction.request)?;
    let issued = issue::prepare(app, &transaction.authority_id, &transaction.grant, &request.spki).await?;
    let (certificate, now) = (issued.certificate, app.now());
    let id = certificate.id.clone();
    let mut entry = issue::audit(&certificate, &by.actor, &by.origin);
    entry.before = Some(json!({ "front": "scep", "transaction": transaction.transaction_id, "approved": true }).to_string());
    let (by, giver) = (by.actor.clone(), giver.cloned());
    let live = usize::try_from(app.config.scep.live_certificates).unwrap_or(usize::MAX);
    app.store
        .write(move |tx| {
            holder::hold(tx, &transaction.grant)?;
            // Requests before certificates, as all take them.
            if !scep::lock_waiting(tx, &transaction)? {
                return Err(Refusal::ScepTransactionDecided.into());
            }
            namesake::check_giver(tx, giver.as_ref(), &transaction.grant)?;
            if holder::judge(tx.conn(), &transaction.grant)?.is_err() {
                return Err(Refusal::ScepHolderGone.into());
            }
            if let Some(older) = &transaction.renews {
                let older = certificates::claim_renewal(tx, older, now)?.ok_or(Refusal::CertificateRevoked)?;
                if is_barred(tx.conn(), &transaction.grant, Some(&older.id), now)? {
                    return Err(Refusal::CertificateHeld.into());
                }
                if certificates::list_alike(tx.conn(), &older, now)?.len() >= live {
                    return Err(Refusal::ScepRenewalTooMany.into());
                }
            } else if is_barred(tx.conn(), &transaction.grant, None, now)? {
                return Err(Refusal::CertificateHeld.into());
            }
            // The certificate's row comes first: the transaction names it.
            record(tx, &certificate, transaction.renews.as_ref(), now)?;
            if !scep::claim_decision(tx, &transaction, Some(&certificate.id), &by, now)? {
                return Err(Refusal::ScepTransactionDecided.into());
            }
            if transaction.renews.is_none() {
                apple::approval::decide_in(tx, &transaction.grant, true, now)?;
            }
            audit::append(tx, &entry, now)
        })
        .await?;
    app.outbox.notify_waiters();
    Ok(id)
}

/// Refuses a waiting request.
///
/// # Errors
/// [`Error::NotFound`]; [`Refusal::ScepTransactionDecided`].
pub async fn refuse(app: &App, authority: &str, transaction_id: &str, actor: &str, origin: &str) -> Result<()> {
    let transaction = load(app, authority, transaction_id).await?;
    let (by, now) = (actor.to_owned(), app.now());
    let entry = Entry::new(actor, "scep.refused", format!("scep-transaction:{transaction_id}"), origin)
        .after(&json!({ "reason": crate::domain::scep::Reason::RefusedByAdministrator, "authority": transaction.authority_id }));
    app.store
        .write(move |tx| {
            holder::hold(tx, &transaction.grant)?;
            if !scep::claim_decision(tx, &transaction, None, &by, now)? {
                return Err(Refusal::ScepTransactionDecided.into());
            }
            if transaction.renews.is_none() {
                apple::approval::decide_in(tx, &transaction.grant, false, now)?;
            }
            audit::append(tx, &entry, now)
        })
        .await?;
    app.outbox.notify_waiters();
    Ok(())
}

async fn load(app: &App, authority: &str, transaction_id: &str) -> Result<Transaction> {
    let (authority, id) = (super::resolve(app, authority).await?.id.clone(), transaction_id.to_owned());
    let found = app.store.read(move |c| scep::find_transaction(c, &authority, &id)).await?;
    let transaction = found.ok_or(Error::NotFound("SCEP transaction"))?;
    if transaction.state != State::Pending {
        return Err(Refusal::ScepTransactionDecided.into());
    }
    Ok(transaction)
}
