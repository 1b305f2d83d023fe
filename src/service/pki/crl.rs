//! Publishing revocation lists: on schedule and on revocation, with a number that is taken before the list is made.

use crate::app::App;
use crate::clock::{HOUR, MINUTE, Time};
use crate::ids::AuthorityId;
use crate::service::directory::By;
use crate::service::{Error, Result};
use crate::store::crls::Crl;
use crate::store::{authorities, certificates, crls};
use crate::wire::crl::{Revoked, ToBeSigned};
use crate::wire::x509::signed;

/// When a list that was begun and not finished is begun anew.
const RETRY: i64 = MINUTE;

/// Publishes the lists that are due; says how many. For a job.
///
/// # Errors
/// The first failure; the lists stay due.
pub async fn due(app: &App) -> Result<usize> {
    let now = app.now();
    let ids = app.store.read(move |c| authorities::list_crl_due(c, now)).await?;
    let mut published = 0;
    for id in ids {
        published += usize::from(make(app, &id, Some(now), &By::local("system")).await?);
    }
    Ok(published)
}

/// Publishes a list now, as something else asks for it.
///
/// # Errors
/// [`Error::NotFound`] for an unknown authority.
pub async fn publish(app: &App, authority: &AuthorityId) -> Result<()> {
    publish_for(app, authority, &By::local("system")).await
}

/// Publishes a list now, as somebody asks for it.
///
/// # Errors
/// [`Error::NotFound`] for an unknown authority.
pub async fn publish_for(app: &App, authority: &AuthorityId, by: &By) -> Result<()> {
    make(app, authority, None, by).await.map(|_| ())
}

async fn make(app: &App, id: &AuthorityId, only_due: Option<Time>, by: &By) -> Result<bool> {
    let authority = super::authority::by_id(app, id).await?;
    let (now, retry_at) = (app.now(), app.now().plus(RETRY));
    let life = i64::from(app.config.ca.crl_hours.max(1)) * HOUR;
    let claimed = {
        let id = id.clone();
        app.store.write(move |tx| authorities::claim_crl_number(tx, &id, only_due, retry_at)).await?
    };
    let Some(number) = claimed else { return Ok(false) };
    // Read after the number was committed, and not in that transaction, where everybody who writes would wait for it: whatever was revoked
    // before the number was taken is seen, and what is revoked after this look makes another list due, which has a higher number.
    let revoked = {
        let id = id.clone();
        // An ended certificate stays for one more list, for those who verify what was signed before.
        app.store.read(move |c| certificates::list_revoked(c, &id, now.plus(-life))).await?
    };
    let count = revoked.len();
    let next_update = now.plus(life);
    let der = tokio::task::spawn_blocking(move || -> Result<Vec<u8>> {
        let mut entries = Vec::with_capacity(revoked.len());
        for (serial, at, reason) in revoked {
            entries.push(Revoked { serial: hex::decode(serial).map_err(Error::internal)?, at: at.seconds(), reason });
        }
        let to_be_signed = ToBeSigned {
            algorithm: authority.key.signature_algorithm(),
            issuer: &authority.subject,
            issuer_key: &authority.key_identifier,
            number: number.unsigned_abs(),
            this_update: now.seconds(),
            next_update: next_update.seconds(),
            revoked: &entries,
        }
        .der();
        Ok(signed(&to_be_signed, authority.key.signature_algorithm(), &authority.key.sign(&to_be_signed)?))
    })
    .await
    .map_err(Error::internal)??;
    let list = Crl { number, der, this_update: now, next_update };
    let entry = by
        .entry("crl.publish", format!("authority:{id}"))
        .after(&serde_json::json!({ "number": number, "entries": count, "nextUpdate": next_update.to_string() }));
    let (id, next) = (id.clone(), now.plus(i64::from(app.config.ca.crl_refresh_hours.max(1)) * HOUR));
    app.store
        .write(move |tx| {
            if crls::upsert_crl(tx, &id, &list)? {
                authorities::claim_crl_published(tx, &id, number, retry_at, next)?;
                crate::store::audit::append(tx, &entry, now)?;
            }
            Ok(())
        })
        .await?;
    metrics::counter!("muster_crl_published_total").increment(1);
    Ok(true)
}

/// The newest list of the authority of that name.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn find(app: &App, name: &str) -> Result<Crl> {
    let authority = super::authority::by_name(app, name).await?;
    let found = app.store.read(move |c| crls::find_crl(c, &authority.id)).await?;
    found.ok_or(Error::NotFound("revocation list"))
}

/// The names of authorities whose newest list has less than a day (or half its life) left: somebody must look why it was not renewed.
///
/// # Errors
/// When the store fails.
pub async fn ending(app: &App) -> Result<Vec<String>> {
    let now = app.now();
    let mut names = Vec::new();
    for authority in super::authority::list(app).await? {
        let id = authority.id.clone();
        let list = app.store.read(move |c| crls::find_crl(c, &id)).await?;
        let margin = (24 * HOUR).min(i64::from(app.config.ca.crl_hours.max(1)) * HOUR / 2);
        if now < authority.not_after && list.is_none_or(|l| l.next_update < now.plus(margin)) {
            names.push(authority.name.clone());
        }
    }
    Ok(names)
}
