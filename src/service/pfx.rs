//! Identities that an administrator brings as a file (PFX, PKCS#12) for a person. They are sealed, and leave again only for the devices of
//! that person, encrypted anew for each; nobody reads them out.

use openssl::sha::sha256;
use serde_json::json;

use super::apple::identities::{IMPORTED, STALE};
use super::directory::By;
use super::page::{self, Found, find};
use super::pki::pkcs12::Identity;
use super::{Result, pfx_password, push};
use crate::app::App;
use crate::clock::Time;
use crate::domain::Refusal;
use crate::domain::access::Reach;
use crate::domain::desired::{self, Input, Timing};
use crate::domain::device::State as DeviceState;
use crate::domain::enrollment::State;
use crate::domain::pfx::{MOST, Pfx, Purpose, Sent};
use crate::ids::{PfxId, UserId};
use crate::secret::Secret;
use crate::store::devices::Filter;
use crate::store::sealed::IMPORTED_PFX;
use crate::store::{self, Tx, audit, desired_items, devices, enrollments, pfx, users};
use crate::wire::odata::query::Query;

/// Devices of one person that are looked at together.
const PAGE: i64 = 100;

/// What somebody brings.
#[derive(Clone, Copy, Debug)]
pub struct Brought<'a> {
    /// What it is for.
    pub purpose: Purpose,
    /// The file.
    pub file: &'a [u8],
    /// What opens it; encrypted, when it was sent so.
    pub password: &'a Secret,
    /// How the password is encrypted.
    pub sent: Option<&'a Sent>,
    /// Which certificate it is, when that is said.
    pub thumbprint: Option<&'a str>,
}

impl Brought<'_> {
    /// The identity in the file.
    async fn open(&self, app: &App) -> Result<Identity> {
        let password = match self.sent {
            Some(sent) => pfx_password::open(app, sent, self.password.expose()).await?,
            None => self.password.clone(),
        };
        let identity = Identity::open(self.file, std::str::from_utf8(password.expose()).map_err(|_| Refusal::PfxUnreadable)?)?;
        let found = thumbprint(&identity)?;
        match self.thumbprint {
            Some(said) if !said.eq_ignore_ascii_case(&found) => Err(Refusal::PfxOther.into()),
            _ => Ok(identity),
        }
    }
}

/// Opens a file and keeps what is in it for the person; their devices get it where a profile says so.
///
/// # Errors
/// [`Refusal::PfxUnreadable`], [`Refusal::PfxNotOneIdentity`], [`Refusal::PfxOther`], [`Refusal::PfxPasswordLocked`],
/// [`Refusal::PfxPresent`], [`Refusal::PfxTooMany`]; [`NotFound`](super::Error::NotFound) without such a person.
pub async fn import(app: &App, user: &UserId, brought: Brought<'_>, by: &By) -> Result<Pfx> {
    let identity = brought.open(app).await?;
    let certificate = identity.certificate();
    let at = |time: &openssl::asn1::Asn1TimeRef| -> Result<Time> {
        let since = openssl::asn1::Asn1Time::from_unix(0)?.diff(time)?;
        Ok(Time::from_seconds(i64::from(since.days) * 86_400 + i64::from(since.secs)))
    };
    let names = certificate.subject_name().entries().filter_map(|entry| entry.data().to_string().ok());
    let now = app.now();
    let new = Pfx {
        id: PfxId::new(),
        user_id: user.clone(),
        purpose: brought.purpose,
        sha256: hex::encode(sha256(&certificate.to_der()?)),
        thumbprint: thumbprint(&identity)?,
        subject: names.collect::<Vec<_>>().join(", ").chars().take(200).collect(),
        not_before: at(certificate.not_before())?,
        not_after: at(certificate.not_after())?,
        sent: brought.sent.cloned(),
        created_at: now,
        updated_at: now,
    };
    let sealed = app.sealer().seal(IMPORTED_PFX, identity.to_bytes()?.expose())?;
    let (row, by, push) = (new.clone(), by.clone(), push::wns::enabled(&app.config));
    app.store
        .write(move |tx| {
            users::load_present_user(tx.conn(), &row.user_id)?;
            let all = pfx::list_of_user(tx.conn(), &row.user_id)?;
            if all.iter().any(|other| other.sha256 == row.sha256) {
                return Err(Refusal::PfxPresent.into());
            }
            if all.len() >= MOST {
                return Err(Refusal::PfxTooMany.into());
            }
            tell(tx, &row.user_id, push, now)?;
            pfx::insert_pfx(tx, &row, &sealed)?;
            audit::append(tx, &by.entry("pfx.import", format!("pfx:{}", row.id)).after(&shown(&row)), now)
        })
        .await?;
    app.outbox.notify_waiters();
    Ok(new)
}

fn thumbprint(identity: &Identity) -> Result<String> {
    Ok(hex::encode(identity.certificate().digest(openssl::hash::MessageDigest::sha1())?))
}

/// Changes what an identity is for. A file may be brought along when it holds the same certificate.
///
/// # Errors
/// [`Refusal::PfxOther`] for another certificate; those of opening the file; [`NotFound`](super::Error::NotFound).
pub async fn update(app: &App, before: &Pfx, purpose: Purpose, again: Option<Brought<'_>>, by: &By) -> Result<()> {
    let mut after = Pfx { purpose, updated_at: app.now(), ..before.clone() };
    if let Some(again) = again {
        Brought { thumbprint: Some(&before.thumbprint), ..again }.open(app).await?;
        after.sent = again.sent.cloned();
    }
    let (before, by, now, push) = (before.clone(), by.clone(), after.updated_at, push::wns::enabled(&app.config));
    app.store
        .write(move |tx| {
            if after.purpose != before.purpose {
                tell(tx, &after.user_id, push, now)?;
            }
            pfx::update_pfx(tx, &after)?;
            audit::append(tx, &by.entry("pfx.update", format!("pfx:{}", after.id)).before(&shown(&before)).after(&shown(&after)), now)
        })
        .await?;
    app.outbox.notify_waiters();
    Ok(())
}

fn shown(pfx: &Pfx) -> serde_json::Value {
    json!({ "user": pfx.user_id, "purpose": pfx.purpose, "sha256": pfx.sha256, "subject": pfx.subject, "notAfter": pfx.not_after.to_string() })
}

/// What is kept for a person.
///
/// # Errors
/// Only the database's own.
pub async fn list(app: &App, user: &UserId) -> Result<Vec<Pfx>> {
    let user = user.clone();
    Ok(app.store.read(move |conn| pfx::list_of_user(conn, &user)).await?)
}

/// A page of what is kept, each with the name of its person.
///
/// # Errors
/// [`page::Error::Wrong`] when the query asks for what identities have not.
pub async fn page_pfx(app: &App, query: &Query, reach: &Reach, limit: u32) -> std::result::Result<Found<(Pfx, String)>, page::Error> {
    let load = |conn: &mut store::Conn, ids: &[String]| {
        Ok(pfx::list_by_ids(conn, ids)?.into_iter().map(|found| (found.0.id.to_string(), found)).collect())
    };
    find(app, &pfx::SET, query, page::within(reach), limit, load).await
}

/// Deletes what was kept for a person: their devices give it back.
///
/// # Errors
/// [`NotFound`](super::Error::NotFound).
pub async fn delete(app: &App, user: &UserId, id: &PfxId, by: &By) -> Result<()> {
    let (user, id, by, now, push) = (user.clone(), id.clone(), by.clone(), app.now(), push::wns::enabled(&app.config));
    app.store
        .write(move |tx| {
            tell(tx, &user, push, now)?;
            let before = pfx::delete_pfx(tx, &user, &id)?;
            audit::append(tx, &by.entry("pfx.delete", format!("pfx:{id}")).before(&shown(&before)), now)
        })
        .await?;
    app.outbox.notify_waiters();
    Ok(())
}

/// Has the profiles made anew that hand out what was imported for the person.
fn tell(tx: &mut Tx<'_>, user: &UserId, push: bool, now: Time) -> store::Result<()> {
    let filter = Filter { user_id: Some(user.clone()), state: Some(DeviceState::Managed), ..Filter::default() };
    let mut after = String::new();
    loop {
        let page = devices::list_devices(tx.conn(), &filter, &after, PAGE)?;
        let Some(last) = page.last() else { break };
        after = last.id.to_string();
        for device in &page {
            // In the order of their ids, as all take them.
            let Some(enrollment) = enrollments::hold_current(tx, &device.id)? else { continue };
            if !matches!(enrollment.state, State::Provisioned | State::Active) {
                continue;
            }
            let before: Vec<_> = desired_items::list_items(tx.conn(), &device.id)?.into_iter().map(|(item, _)| item).collect();
            let mut items = before.clone();
            let mut keys = Vec::new();
            for (key, record) in items.iter_mut().flat_map(|item| &mut item.detail.records) {
                if record.winner.is_none() && record.memory.contains_key(IMPORTED) {
                    record.memory.insert(STALE.into(), true.into());
                    keys.push(key.clone());
                }
            }
            for key in &keys {
                // How long a look at what is verified takes does not matter here.
                desired::apply(&mut items, key, Input::Changed, Timing::hours(1), now);
            }
            let (items, _) = desired::settle(items);
            for item in items.iter().filter(|item| !before.contains(item)) {
                desired_items::update_item(tx, item, now)?;
            }
            if !keys.is_empty() {
                // A session that has read the items looks again.
                enrollments::claim_update(tx, &enrollment)?;
                enrollments::update_work_at(tx, &enrollment.id, Some(now))?;
            }
        }
    }
    push::due::enqueue(tx, push, now)
}
