//! Master keys: recognising the right one, and moving to a new one while the server runs.
//!
//! `rotate` puts a new key in front of the key file and seals everything again under it; the old key still opens. `retire` drops the old
//! keys once nothing is sealed under them. The order makes a crash harmless: the file has the new key before the first value uses it.

use std::path::PathBuf;

use serde_json::json;

use crate::app::App;
use crate::domain::Refusal;
use crate::domain::audit::Entry;
use crate::secret::{SealError, Sealer};
use crate::service::{Error, Result};
use crate::store::{self, Store, meta, sealed};

/// How many values are sealed again between two looks at the database.
const BATCH: i64 = 200;

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
    let Some(found) = found else {
        let fresh = hex::encode(sealer.seal(sealed::META_VALUE, b"muster")?);
        store.write(move |tx| meta::upsert_value(tx, sealed::CANARY, &fresh)).await?;
        return Ok(());
    };
    let bytes = hex::decode(&found).map_err(Error::internal)?;
    match sealer.open(sealed::META_VALUE, &bytes) {
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
    if std::env::var_os("MUSTER_MASTER_KEY").is_some() {
        return Err(Refusal::MasterKeyNotInFile.into());
    }
    Ok(app.config.master_key_file.clone().unwrap_or_else(|| app.config.data_dir.join("master.key")))
}

/// How the master keys stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The key that seals.
    pub current: u32,
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
    let mut status = Status { current: sealer.current(), keys: sealer.count(), sealed_under_it: 0, sealed_under_old_ones: 0 };
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

/// Makes a new master key, keeps the old ones for opening, and seals everything again.
///
/// # Errors
/// [`Refusal::MasterKeyNotInFile`], or when the file or the database fails; then run it again.
pub async fn rotate(app: &App, actor: &str) -> Result<Report> {
    let path = key_file(app)?;
    let fresh = app.sealer().rotated()?;
    fresh.write(&path)?;
    let id = fresh.current();
    app.replace_sealer(fresh);
    let report = reseal(app).await?;
    record(app, actor, "master_key.rotate", id, &json!({ "resealed": report.resealed })).await?;
    Ok(report)
}

/// Drops the old master keys.
///
/// # Errors
/// [`Refusal::MasterKeyInUse`] while something is sealed under one of them.
pub async fn retire(app: &App, actor: &str) -> Result<()> {
    let path = key_file(app)?;
    let report = reseal(app).await?;
    let again = reseal(app).await?;
    if again.resealed > 0 {
        return Err(Refusal::MasterKeyInUse.into());
    }
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
        if let Some(fresh) = sealed_again(&app.sealer(), sealed::META_VALUE, &key, &bytes)? {
            let fresh = hex::encode(fresh);
            app.store.write(move |tx| sealed::claim_meta(tx, &key, &old, &fresh)).await?;
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
