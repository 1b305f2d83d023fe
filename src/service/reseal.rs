//! Master keys: recognising the right one, and moving to a new one while servers run.
//!
//! Which key is in force is written in the database: it is the one that the canary is sealed under. `prepare` puts the next key into the key
//! file, where it opens and does not seal yet, so that it can be carried to the other nodes. `rotate` writes it in front, seals the canary
//! under it, then everything else; the other nodes [`follow`] within seconds. `retire` drops the old keys once nothing is sealed under them.
//! The order makes a crash harmless: the file has the new key before the first value uses it.

use std::path::PathBuf;

use serde_json::json;

use crate::app::{App, has_keys_in_environment, read_master_keys};
use crate::clock::{MINUTE, Time};
use crate::domain::Refusal;
use crate::domain::audit::Entry;
use crate::secret::{SealError, Sealer, key_id};
use crate::service::{Error, Result};
use crate::store::{self, Store, meta, sealed};

/// How many values are sealed again between two looks at the database.
const BATCH: i64 = 200;
/// How long after a rotation the old keys stay: every node has followed by then.
const SETTLE: i64 = MINUTE;
/// Where the moment of the last rotation is kept.
const ROTATED_AT: &str = "master_key.rotated_at";

/// What re-sealing did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Values that were sealed again.
    pub resealed: u64,
    /// Values that are under the present key already.
    pub current: u64,
}

/// Checks that the master keys belong to this database, before anything is sealed or opened with them. A new database gets a canary, a
/// sealed value that only the right key opens; nothing is ever made anew because a key does not fit.
///
/// # Errors
/// [`Error::Unavailable`] with what to do when the keys are of another database.
pub async fn check_master_key(store: &Store, sealer: &Sealer) -> Result<()> {
    let found = store.read(|c| meta::find_value(c, sealed::CANARY)).await?;
    let found = match found {
        Some(found) => found,
        None => {
            let fresh = hex::encode(sealer.seal(sealed::CANARY, b"muster")?);
            // Another node may have come first, perhaps with another key: what stays is judged like any other.
            store.write(move |tx| meta::insert_value_once(tx, sealed::CANARY, &fresh)).await?
        }
    };
    let bytes = hex::decode(&found).map_err(Error::internal)?;
    match sealer.open(sealed::CANARY, &bytes) {
        Ok(_) => Ok(()),
        Err(SealError::UnknownKey(id)) => Err(Error::Unavailable(format!(
            "the master key does not belong to this database, which is sealed under key {id:08x}; restore the right master.key (from a \
             backup) and start again"
        ))),
        Err(error) => Err(Error::Unavailable(format!(
            "the master key does not open this database ({error}); restore the right master.key (from a backup) and start again"
        ))),
    }
}

/// The key file; refused when the keys come from the environment, which this process cannot change.
fn key_file(app: &App) -> Result<PathBuf> {
    if has_keys_in_environment() { Err(Refusal::MasterKeyNotInFile.into()) } else { Ok(app.config.master_key_path()) }
}

/// Puts the key in force that the database is sealed under, when another node has changed it: from the keys at hand, else from the key file
/// or the environment. What is in use already goes on when the key is nowhere to be found.
///
/// # Errors
/// [`Error::Unavailable`] with what to do when this node does not hold the key; else only the database's own.
pub async fn follow(app: &App) -> Result<()> {
    let _alone = app.rotation.lock().await;
    let Some(canary) = app.store.read(|c| meta::find_value(c, sealed::CANARY)).await? else { return Ok(()) };
    let canary = hex::decode(&canary).map_err(Error::internal)?;
    let sealer = app.sealer();
    if sealer.is_current(&canary) {
        return Ok(());
    }
    let id = key_id(&canary).unwrap_or_default();
    let held = || read_master_keys(&app.config).ok().and_then(|read| sealer.joined(&read).promoted(id));
    let Some(new) = sealer.promoted(id).or_else(held) else {
        return Err(Error::Unavailable(format!(
            "another node seals with master key {id:08x}, which this node does not hold; copy that node's key file to {}",
            app.config.master_key_path().display()
        )));
    };
    new.open(sealed::CANARY, &canary)?;
    app.replace_sealer(new);
    tracing::info!(key = format!("{id:08x}"), "another node has changed the master key");
    Ok(())
}

/// Makes the next master key and puts it into the key file, to be copied to every node before [`rotate`]; does nothing when there is one.
///
/// # Errors
/// [`Refusal::MasterKeyNotInFile`], or when the file or the database fails.
pub async fn prepare(app: &App, actor: &str) -> Result<()> {
    let _alone = app.rotation.lock().await;
    let path = key_file(app)?;
    let sealer = app.sealer();
    if sealer.prepared().is_some() {
        return Ok(());
    }
    let fresh = sealer.with_prepared()?;
    fresh.write(&path)?;
    let id = fresh.prepared().unwrap_or_default();
    app.replace_sealer(fresh);
    record(app, actor, "master_key.prepare", id, &json!({})).await
}

/// How the master keys stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The key that seals.
    pub current: u32,
    /// The key that is to seal next.
    pub prepared: Option<u32>,
    /// How many keys there are, with the old ones.
    pub keys: usize,
    /// Values under the key that seals.
    pub sealed_under_it: u64,
    /// Values under old keys.
    pub sealed_under_old_ones: u64,
}

/// Counts what is sealed under which key.
///
/// # Errors
/// When the database fails.
pub async fn status(app: &App) -> Result<Status> {
    let sealer = app.sealer();
    let mut status = Status {
        current: sealer.current(),
        prepared: sealer.prepared(),
        keys: sealer.count(),
        sealed_under_it: 0,
        sealed_under_old_ones: 0,
    };
    let mut count = |value: &[u8]| {
        let place = if sealer.is_current(value) { &mut status.sealed_under_it } else { &mut status.sealed_under_old_ones };
        *place += 1;
    };
    for column in sealed::COLUMNS {
        let mut after = String::new();
        loop {
            let from = after.clone();
            let page = app.store.read(move |c| sealed::list_values(c, *column, &from, BATCH)).await?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.key);
            page.iter().for_each(|value| count(&value.sealed));
        }
    }
    for (_, text) in app.store.read(sealed::list_meta).await? {
        count(&hex::decode(&text).map_err(Error::internal)?);
    }
    Ok(status)
}

/// Puts the prepared master key (else, where there is one node, a new one) in force, keeps the old ones for opening, and seals everything
/// again.
///
/// # Errors
/// [`Refusal::MasterKeyNotPrepared`] when there may be other nodes; [`Refusal::MasterKeyNotInFile`]; [`Error::Conflict`] when another node
/// rotates; or when the file or the database fails: then run it again.
pub async fn rotate(app: &App, actor: &str) -> Result<Report> {
    let fresh = {
        let _alone = app.rotation.lock().await;
        let sealer = app.sealer();
        let prepared = sealer.prepared().is_some();
        if app.store.is_shared() && !prepared {
            return Err(Refusal::MasterKeyNotPrepared.into());
        }
        let path = match key_file(app) {
            Ok(path) => Some(path),
            // The environment of every node has the key already, and the database says that it is in force.
            Err(_) if prepared => None,
            Err(refused) => return Err(refused),
        };
        check_master_key(&app.store, &sealer).await?;
        let fresh = sealer.rotated()?;
        if let Some(path) = path {
            fresh.write(&path)?;
        }
        move_canary(app, &fresh).await?;
        app.replace_sealer(fresh);
        app.sealer()
    };
    let mut report = reseal(app).await?;
    // The canary went first.
    report.resealed += 1;
    report.current = report.current.saturating_sub(1);
    record(app, actor, "master_key.rotate", fresh.current(), &json!({ "resealed": report.resealed })).await?;
    Ok(report)
}

/// Seals the canary under the new key: from here on all nodes seal with it.
async fn move_canary(app: &App, fresh: &Sealer) -> Result<()> {
    let old = app.store.read(|c| meta::find_value(c, sealed::CANARY)).await?.unwrap_or_default();
    let bytes = hex::decode(&old).map_err(Error::internal)?;
    let plain = fresh.open(sealed::CANARY, &bytes)?;
    let (new, now) = (hex::encode(fresh.seal(sealed::CANARY, plain.expose())?), app.now());
    let moved = app
        .store
        .write(move |tx| {
            let moved = sealed::claim_meta(tx, sealed::CANARY, &old, &new)?;
            if moved {
                meta::upsert_value(tx, ROTATED_AT, &now.0.to_string())?;
            }
            Ok(moved)
        })
        .await?;
    if moved {
        Ok(())
    } else {
        Err(Error::Conflict("another node changes the master key at this moment; look at `muster keys status`".into()))
    }
}

/// Drops the old master keys.
///
/// # Errors
/// [`Refusal::MasterKeyInUse`] while something is sealed under one of them, or another node may still seal with one.
pub async fn retire(app: &App, actor: &str) -> Result<()> {
    let path = key_file(app)?;
    let rotated = app.store.read(|c| meta::find_value(c, ROTATED_AT)).await?.and_then(|at| at.parse().ok()).map(Time);
    if app.store.is_shared() && rotated.is_some_and(|at| app.now().since(at) < SETTLE) {
        return Err(Refusal::MasterKeyInUse.into());
    }
    let report = reseal(app).await?;
    let again = reseal(app).await?;
    if again.resealed > 0 {
        return Err(Refusal::MasterKeyInUse.into());
    }
    let _alone = app.rotation.lock().await;
    let only = app.sealer().only_current();
    only.write(&path)?;
    let id = only.current();
    app.replace_sealer(only);
    record(app, actor, "master_key.retire", id, &json!({ "resealed": report.resealed, "current": again.current })).await
}

async fn record(app: &App, actor: &str, action: &'static str, id: u32, after: &serde_json::Value) -> Result<()> {
    let entry = Entry::new(actor, action, format!("master_key:{id:08x}"), "local").after(after);
    let now = app.now();
    Ok(app.store.write(move |tx| store::audit::append(tx, &entry, now)).await?)
}

/// Seals everything that is not under the present key again, in batches, while others work.
///
/// # Errors
/// When a value does not open (its row is named in the log) or the database fails.
pub async fn reseal(app: &App) -> Result<Report> {
    let mut report = Report::default();
    for column in sealed::COLUMNS {
        let mut after = String::new();
        loop {
            let from = after.clone();
            let page = app.store.read(move |c| sealed::list_values(c, *column, &from, BATCH)).await?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.key);
            reseal_page(app, *column, page, &mut report).await?;
        }
    }
    for (key, old) in app.store.read(sealed::list_meta).await? {
        let bytes = hex::decode(&old).map_err(Error::internal)?;
        if let Some(fresh) = sealed_again(&app.sealer(), key, key, &bytes)? {
            let fresh = hex::encode(fresh);
            app.store.write(move |tx| sealed::claim_meta(tx, key, &old, &fresh)).await?;
            report.resealed += 1;
        } else {
            report.current += 1;
        }
    }
    Ok(report)
}

async fn reseal_page(app: &App, column: sealed::Column, page: Vec<sealed::Value>, report: &mut Report) -> Result<()> {
    let sealer = app.sealer();
    let mut changes = Vec::new();
    for value in page {
        match sealed_again(&sealer, column.purpose, &value.key, &value.sealed)? {
            Some(fresh) => changes.push((value, fresh)),
            None => report.current += 1,
        }
    }
    if changes.is_empty() {
        return Ok(());
    }
    report.resealed += changes.len() as u64;
    app.store
        .write(move |tx| {
            for (old, fresh) in &changes {
                // A value that changed meanwhile was sealed under the present key by whoever changed it.
                sealed::claim_value(tx, column, old, fresh)?;
            }
            Ok(())
        })
        .await?;
    Ok(())
}

fn sealed_again(sealer: &Sealer, purpose: &'static str, key: &str, value: &[u8]) -> Result<Option<Vec<u8>>> {
    if sealer.is_current(value) {
        return Ok(None);
    }
    let plain =
        sealer.open(purpose, value).inspect_err(|error| tracing::error!(purpose, row = key, %error, "a sealed value does not open"))?;
    Ok(Some(sealer.seal(purpose, plain.expose())?))
}
