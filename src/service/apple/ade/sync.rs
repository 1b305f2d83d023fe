//! Reads the list of devices, and has Apple tell them where to enrol.
//!
//! A page is kept together with the place where it ends, so that nothing is passed over when the server dies in between; a place that
//! somebody else moved meanwhile ends this reading.

use std::collections::BTreeMap;

use reqwest::Method;
use serde::Serialize;
use serde_json::json;

use super::client::{Client, Failure};
use super::{load, profile, target, unavailable};
use crate::app::App;
use crate::clock::{SECOND, Time};
use crate::domain::Refusal;
use crate::domain::apple::ade::{Device, Heard, Next, Phase, Progress, Server, Told};
use crate::domain::audit::Entry;
use crate::service::{Error, Result};
use crate::store;
use crate::store::apple::ade;
use crate::wire::apple::ade::{Assign, Assigned, Complaint, Defined, Device as Listed, Fetch, Page};

/// Devices of one request.
const LIMIT: usize = 1000;
/// Most pages of one reading: two million devices. What is left is read the next time.
const PAGES: usize = 2000;
/// Most pages in a row that say that more follows and name nothing.
const EMPTY: usize = 50;

/// What a reading did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The server.
    pub server: String,
    /// How many devices Apple named.
    pub named: usize,
    /// How many left the list.
    pub gone: usize,
    /// How many are told our profile from now on.
    pub told: usize,
    /// How many could not be told this time.
    pub later: usize,
}

/// Reads the list of a server, and tells its devices the profile.
///
/// # Errors
/// [`Refusal::AdeServerUnknown`], [`Refusal::AdeTokenMissing`], [`Refusal::AdeTermsOpen`], [`Refusal::AdeAccessDenied`],
/// [`Refusal::AdeListEndless`];
/// [`Error::Unavailable`] when Apple cannot be asked, or asked to be left alone; [`Error::Conflict`] when somebody else is reading it.
pub async fn sync(app: &App, name: &str, actor: &str, origin: &str) -> Result<Outcome> {
    let server = load(app, name).await?;
    let read = read(app, &server, actor, origin).await;
    let alarm = match &read {
        Ok(_) => Some(None),
        Err(Error::Refused(refusal @ (Refusal::AdeTermsOpen | Refusal::AdeAccessDenied | Refusal::AdeListEndless))) => {
            Some(Some(refusal.to_string()))
        }
        Err(_) => None,
    };
    if let Some(alarm) = alarm {
        note(app, &server, alarm).await?;
    }
    read
}

/// The same for every server with a token; one that fails does not keep the others.
///
/// # Errors
/// That of the last one that failed.
pub async fn sync_all(app: &App) -> Result<()> {
    let mut failed = None;
    for server in app.store.read(ade::list_servers).await? {
        let waits = server.wait_until.is_some_and(|until| app.now() < until);
        if server.link.is_none() || waits {
            continue;
        }
        if let Err(error) = sync(app, &server.name, "system", "jobs").await {
            tracing::warn!(server = server.name, %error, "the list of Apple Business Manager was not read");
            failed = Some(error);
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Notes what an administrator has to see to, or that it is seen to.
async fn note(app: &App, server: &Server, alarm: Option<String>) -> Result<()> {
    if server.alarm.as_ref().map(|(why, _)| why) == alarm.as_ref() {
        return Ok(());
    }
    let (id, now) = (server.id.clone(), app.now());
    let entry = Entry::new("system", "apple.ade_alarm", target(&server.name), "apple").after(&json!({ "alarm": alarm }));
    if let Some(why) = &alarm {
        tracing::error!(server = server.name, why, "Apple Business Manager wants something of an administrator");
    }
    app.store
        .write(move |tx| {
            if ade::claim_alarm(tx, &id, alarm.as_deref(), now)? {
                store::audit::append(tx, &entry, now)?;
            }
            Ok(())
        })
        .await?;
    Ok(())
}

async fn read(app: &App, server: &Server, actor: &str, origin: &str) -> Result<Outcome> {
    let link = server.link.as_ref().ok_or(Refusal::AdeTokenMissing)?;
    if link.ends_at <= app.now() {
        return Err(Refusal::AdeAccessDenied.into());
    }
    let mut reading =
        Reading { app, server, client: Client::of(app, link)?, outcome: Outcome { server: server.name.clone(), ..Outcome::default() } };
    let ended = match reading.list().await {
        Ok(()) => reading.tell().await,
        failed => failed,
    };
    let outcome = reading.outcome;
    if outcome != (Outcome { server: server.name.clone(), ..Outcome::default() }) {
        let (now, entry) = (app.now(), Entry::new(actor, "apple.ade_sync", target(&server.name), origin).after(&json!(outcome)));
        app.store.write(move |tx| store::audit::append(tx, &entry, now)).await?;
    }
    ended.map(|()| outcome)
}

struct Reading<'a> {
    app: &'a App,
    server: &'a Server,
    client: Client<'a>,
    outcome: Outcome,
}

impl Reading<'_> {
    /// Reads what Apple lists, page by page.
    async fn list(&mut self) -> Result<()> {
        let mut progress = self.server.progress.clone();
        let (mut lost, mut empty) = (false, 0);
        for _ in 0..PAGES {
            let before = (self.outcome.named, self.outcome.gone);
            let (next, step) = match self.page(&progress).await {
                Ok(page) => self.keep(&progress, page).await?,
                Err(Failure::Refused { complaint: Complaint::CursorExhausted, .. }) => self.turn(&progress, Heard::Exhausted).await?,
                Err(Failure::Refused { complaint: Complaint::CursorLost, .. }) if !lost => {
                    lost = true;
                    self.turn(&progress, Heard::Lost).await?
                }
                Err(failure) => return Err(self.error(failure).await?),
            };
            progress = next;
            if step == Next::Done {
                return Ok(());
            }
            empty = if before == (self.outcome.named, self.outcome.gone) { empty + 1 } else { 0 };
            if empty >= EMPTY {
                break;
            }
        }
        Err(Refusal::AdeListEndless.into())
    }

    async fn page(&mut self, progress: &Progress) -> std::result::Result<Page, Failure> {
        let path = match progress.phase {
            Phase::Full => "/server/devices",
            Phase::Changes => "/devices/sync",
        };
        self.client.send(Method::POST, path, &Fetch { limit: LIMIT, cursor: progress.cursor.as_deref() }).await
    }

    /// Keeps a page and the place where it ends.
    async fn keep(&mut self, before: &Progress, page: Page) -> Result<(Progress, Next)> {
        let (after, whole, next) = before.clone().step(Heard::Page { cursor: &page.cursor, more: page.more_to_follow });
        let (mut kept, mut deleted) = (Vec::new(), Vec::new());
        for device in last_of_each(page.devices.into_iter().filter_map(Listed::bounded)) {
            if device.is_deleted() {
                deleted.push(device.serial_number);
            } else {
                kept.push(of_wire(device));
            }
        }
        self.outcome.named += kept.len();
        self.outcome.gone += deleted.len();
        let (id, now, from, to) = (self.server.id.clone(), self.app.now(), before.clone(), after.clone());
        let gone = self.app.store.write(move |tx| {
            let end = (next == Next::Done).then_some(now);
            if !ade::claim_progress(tx, &id, &from, &to, end)? {
                return Err(store::Error::Conflict("the list is being read already".into()));
            }
            for device in &kept {
                ade::upsert_device(tx, &id, to.generation, device)?;
            }
            ade::delete_devices(tx, &id, &deleted)?;
            if whole { ade::delete_older(tx, &id, to.generation) } else { Ok(0) }
        });
        self.outcome.gone += gone.await?;
        Ok((after, next))
    }

    /// Notes an answer without devices.
    async fn turn(&mut self, before: &Progress, heard: Heard<'static>) -> Result<(Progress, Next)> {
        let (after, whole, next) = before.clone().step(heard);
        let (id, now, from, to) = (self.server.id.clone(), self.app.now(), before.clone(), after.clone());
        let gone = self.app.store.write(move |tx| {
            if !ade::claim_progress(tx, &id, &from, &to, (next == Next::Done).then_some(now))? {
                return Err(store::Error::Conflict("the list is being read already".into()));
            }
            if whole { ade::delete_older(tx, &id, to.generation) } else { Ok(0) }
        });
        self.outcome.gone += gone.await?;
        Ok((after, next))
    }

    /// Has Apple tell every device our profile that is told another one, or none.
    async fn tell(&mut self) -> Result<()> {
        let uuid = self.profile().await?;
        let mut after = String::new();
        loop {
            let (id, wanted, from) = (self.server.id.clone(), uuid.clone(), after);
            let limit = i64::try_from(LIMIT).unwrap_or(i64::MAX);
            let serials = self.app.store.read(move |c| ade::list_untold(c, &id, &wanted, &from, limit)).await?;
            let Some(last) = serials.last() else { return Ok(()) };
            after = last.clone();
            let asked = self.client.send(Method::PUT, "/profile/devices", &Assign { profile_uuid: &uuid, devices: &serials }).await;
            let answer: Assigned = match asked {
                Ok(answer) => answer,
                Err(failure) => return Err(self.error(failure).await?),
            };
            let of = |told: Told| -> Vec<String> {
                serials
                    .iter()
                    .filter(|serial| answer.devices.get(*serial).map_or(Told::Later, |word| Told::parse(word)) == told)
                    .cloned()
                    .collect()
            };
            let (done, gone) = (of(Told::Done), of(Told::Gone));
            self.outcome.told += done.len();
            self.outcome.gone += gone.len();
            self.outcome.later += serials.len().saturating_sub(done.len() + gone.len());
            let (id, uuid) = (self.server.id.clone(), uuid.clone());
            let wait = answer.retry_after_seconds.map(|seconds| self.app.now().plus(i64::from(seconds).saturating_mul(SECOND)));
            self.app
                .store
                .write(move |tx| {
                    ade::update_told(tx, &id, &done, &uuid)?;
                    ade::delete_devices(tx, &id, &gone)?;
                    wait.map_or(Ok(()), |until| ade::update_wait(tx, &id, until))
                })
                .await?;
            if wait.is_some() {
                return Ok(());
            }
        }
    }

    /// What Apple calls the profile that is configured; another one is told to Apple first.
    async fn profile(&mut self) -> Result<String> {
        let (profile, hash) = profile::configured(self.app).await?;
        if let Some((uuid, _)) = self.server.profile.as_ref().filter(|(_, known)| *known == hash) {
            return Ok(uuid.clone());
        }
        let defined: Defined = match self.client.send(Method::POST, "/profile", &profile).await {
            Ok(defined) => defined,
            Err(failure) => return Err(self.error(failure).await?),
        };
        let (id, uuid, now) = (self.server.id.clone(), defined.profile_uuid.clone(), self.app.now());
        let after = json!({ "profile": uuid, "hash": hash, "name": profile.profile_name });
        let entry = Entry::new("system", "apple.ade_profile", target(&self.server.name), "apple").after(&after);
        self.app
            .store
            .write(move |tx| {
                ade::update_profile(tx, &id, &uuid, &hash)?;
                store::audit::append(tx, &entry, now)
            })
            .await?;
        Ok(defined.profile_uuid)
    }

    /// What a failure means for the reading.
    async fn error(&self, failure: Failure) -> Result<Error> {
        let Failure::Refused { complaint, words, wait } = failure else { return Ok(failure.into_error()) };
        Ok(match complaint {
            Complaint::TermsNotSigned => Refusal::AdeTermsOpen.into(),
            Complaint::AccessDenied | Complaint::SessionOver => Refusal::AdeAccessDenied.into(),
            Complaint::Throttled => {
                let (id, until) = (self.server.id.clone(), self.app.now().plus(wait));
                self.app.store.write(move |tx| ade::update_wait(tx, &id, until)).await?;
                unavailable(format!("Apple Business Manager asks to be left alone until {until}"))
            }
            _ => unavailable(format!("Apple Business Manager: {words}")),
        })
    }
}

/// What a page says last of each device: a device that was taken away and given back is there twice. By the moment, as far as it is told,
/// else in the order of the page.
fn last_of_each(devices: impl IntoIterator<Item = Listed>) -> Vec<Listed> {
    let at = |device: &Listed| device.op_date.as_deref().and_then(Time::parse);
    let mut last: BTreeMap<String, Listed> = BTreeMap::new();
    for device in devices {
        let older = |known: &Listed| at(&device).zip(at(known)).is_some_and(|(this, known)| this < known);
        if !last.get(&device.serial_number).is_some_and(older) {
            last.insert(device.serial_number.clone(), device);
        }
    }
    last.into_values().collect()
}

fn of_wire(device: Listed) -> Device {
    let time = |text: Option<String>| text.as_deref().and_then(Time::parse);
    Device {
        serial: device.serial_number,
        model: device.model,
        description: device.description,
        color: device.color,
        asset_tag: device.asset_tag,
        os: device.os,
        family: device.device_family,
        profile_status: device.profile_status,
        profile_uuid: device.profile_uuid,
        assigned_at: time(device.device_assigned_date),
        migration_deadline: time(device.mdm_migration_deadline),
    }
}
