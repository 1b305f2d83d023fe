//! The first start: tenant, authorities, administrator.

use crate::app::App;
use crate::clock::{DAY, Time};
use crate::domain::Refusal;
use crate::domain::access;
use crate::domain::audit::{Entry, HeadKey};
use crate::domain::tap::Policy;
use crate::domain::user::{Details, User};
use crate::ids::{TenantId, UserId};
use crate::secret::{Sealer, random};
use crate::store::sealed::AUDIT_KEY;
use crate::store::{self, Store};

use super::{Error, Result, directory, identity, pki, reseal, role};

/// Where the tenant's id is kept.
const TENANT: &str = "tenant";

/// The organisation of this database, when it has one; the master keys are tried on the way.
///
/// # Errors
/// [`Error::Unavailable`] when the master keys are not this database's.
pub async fn find_tenant(store: &Store, sealer: &Sealer) -> Result<Option<TenantId>> {
    let Some(tenant) = store.read(|conn| store::meta::find_value(conn, TENANT)).await? else { return Ok(None) };
    reseal::check_master_key(store, sealer).await?;
    open_head_key(store, sealer).await?;
    TenantId::parse(&tenant).ok_or_else(|| Error::internal(anyhow::anyhow!("the tenant id is damaged"))).map(Some)
}

/// Opens the key that marks the head of the audit log. It is made with the organisation and never anew: a log whose key is gone would be
/// one that anybody can write.
async fn open_head_key(store: &Store, sealer: &Sealer) -> Result<()> {
    let Some(sealed) = store.read(|conn| store::meta::find_value(conn, AUDIT_KEY)).await? else {
        return Err(Error::Unavailable("the key of the audit log is missing in the database; restore a backup".into()));
    };
    let key = sealer.open(AUDIT_KEY, &hex::decode(sealed).map_err(Error::internal)?)?;
    store.mark_heads(HeadKey::new(key));
    Ok(())
}

/// Makes the organisation of an empty database; of two that try at once one wins, and both learn the same id.
///
/// # Errors
/// [`Error::Unavailable`] when the master keys are not this database's.
pub async fn create_tenant(store: &Store, sealer: &Sealer, actor: &str, now: Time) -> Result<TenantId> {
    if let Some(tenant) = find_tenant(store, sealer).await? {
        return Ok(tenant);
    }
    reseal::check_master_key(store, sealer).await?;
    let key = hex::encode(sealer.seal(AUDIT_KEY, &random::<32>()?)?);
    // Of nodes that start side by side the first one's key stays, as with the tenant.
    store.write(move |tx| store::meta::insert_value_once(tx, AUDIT_KEY, &key).map(drop)).await?;
    open_head_key(store, sealer).await?;
    let (fresh, actor) = (TenantId::new(), actor.to_owned());
    store
        .write(move |tx| {
            // Of nodes that start side by side the first one's stays.
            if store::meta::insert_value_once(tx, TENANT, fresh.as_str())? != fresh.as_str() {
                return Ok(());
            }
            // The log of an instance that was used before stays without a mark: whoever took the organisation away took its rows, too.
            if store::users::list_users(tx.conn(), "", 1)?.is_empty() {
                store::audit::update_head_begun(tx)?;
            }
            store::audit::append(tx, &Entry::new(actor.clone(), "tenant.create", format!("tenant:{fresh}"), "local"), now)?;
            Ok(())
        })
        .await?;
    find_tenant(store, sealer).await?.ok_or_else(|| Error::internal(anyhow::anyhow!("the tenant did not stay")))
}

/// Who can sign in after the first start.
#[derive(Debug)]
pub struct Welcome {
    /// User name of the administrator.
    pub administrator: String,
    /// A pass for the first sign-in; none when the administrator was there before.
    pub pass: Option<String>,
}

/// Makes what an organisation needs and does not have yet: authorities and the first administrator. May be run again: whoever can run it
/// gets no further administrator and no further pass of one.
///
/// # Errors
/// Those of its steps.
pub async fn complete(app: &App, administrator: &str, actor: &str) -> Result<Welcome> {
    let user = User {
        id: UserId::new(),
        upn: administrator.trim().to_lowercase(),
        display_name: "Administrator".into(),
        mail: None,
        sam_account_name: None,
        security_identifier: None,
        distinguished_name: None,
        enabled: true,
        details: Details::default(),
    };
    directory::check_user(&user)?;
    pki::authority::create_hierarchy(app, actor, "local").await?;
    let first = app.store.read(|conn| match store::roles::find_member(conn, &access::administrator())? {
        Some(id) => Ok(Some(store::users::load_user(conn, &id)?)),
        None => Ok(None),
    });
    if let Some(first) = first.await? {
        return Ok(Welcome { administrator: first.upn, pass: None });
    }
    let (upn, wanted) = (user.upn.clone(), user.upn.clone());
    if app.store.read(move |conn| store::users::find_user_by_upn(conn, &wanted)).await?.is_some() {
        return Ok(Welcome { administrator: upn, pass: None });
    }
    let (id, now) = (user.id.clone(), app.now());
    let entry = Entry::new(actor, "user.create", format!("user:{id}"), "local")
        .after(&serde_json::json!({ "upn": user.upn, "role": "administrator" }));
    let made = app.store.write(move |tx| {
        store::users::insert_user(tx, &user, now)?;
        store::roles::replace_assignment(tx, &role::administrator_assignment(&user.id), now)?;
        store::audit::append(tx, &entry, now).map(drop)
    });
    match made.await {
        // Another node that starts at the same time came first.
        Err(store::Error::Refused(Refusal::UserNameTaken)) => return Ok(Welcome { administrator: upn, pass: None }),
        other => other?,
    }
    let policy = Policy { lifetime: DAY, ..Policy::default() };
    let tap = identity::tap::create(app, &id, policy, None, actor, "local").await?;
    Ok(Welcome { administrator: upn, pass: Some(tap.show().to_owned()) })
}
