//! Identities that an administrator brings as a file (PFX, PKCS#12) for a person. They are sealed, and leave again only for the devices of
//! that person, encrypted anew for each; nobody reads them out.

use openssl::sha::sha256;
use serde_json::json;

use super::apple::identities::{IMPORTED, STALE};
use super::directory::By;
use super::pki::pkcs12::Identity;
use super::{Result, push};
use crate::app::App;
use crate::clock::Time;
use crate::domain::Refusal;
use crate::domain::desired::{self, Input, Timing};
use crate::domain::device::State as DeviceState;
use crate::domain::enrollment::State;
use crate::domain::pfx::{MOST, Pfx, Purpose};
use crate::ids::{PfxId, UserId};
use crate::secret::Secret;
use crate::store::devices::Filter;
use crate::store::sealed::IMPORTED_PFX;
use crate::store::{self, Tx, audit, desired_items, devices, enrollments, pfx, users};

/// Devices of one person that are looked at together.
const PAGE: i64 = 100;

/// Opens a file and keeps what is in it for the person; their devices get it where a profile says so.
///
/// # Errors
/// [`Refusal::PfxUnreadable`], [`Refusal::PfxNotOneIdentity`], [`Refusal::PfxPresent`], [`Refusal::PfxTooMany`];
/// [`NotFound`](super::Error::NotFound) without such a person.
pub async fn import(app: &App, user: &UserId, purpose: Purpose, file: &[u8], password: &Secret, by: &By) -> Result<Pfx> {
    let password = std::str::from_utf8(password.expose()).map_err(|_| Refusal::PfxUnreadable)?;
    let identity = Identity::open(file, password)?;
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
        purpose,
        sha256: hex::encode(sha256(&certificate.to_der()?)),
        subject: names.collect::<Vec<_>>().join(", ").chars().take(200).collect(),
        not_before: at(certificate.not_before())?,
        not_after: at(certificate.not_after())?,
        created_at: now,
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
