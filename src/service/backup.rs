//! Copies of the database, and what has to be done once a copy has come back.

use std::path::Path;

use serde_json::json;

use super::Result;
use crate::app::App;
use crate::domain::audit::Entry;
use crate::store::{self, authorities, meta};

/// How far CRL numbers jump: more lists than an authority can publish in the life of a backup (one in 15 seconds for half a year).
const CRL_JUMP: i64 = 1 << 20;

/// Writes a copy of the database to `target`, which must not exist.
///
/// # Errors
/// [`super::Error::Unavailable`] on PostgreSQL, or when the copy cannot be written.
pub async fn back_up(app: &App, target: &Path, actor: &str) -> Result<()> {
    app.store.backup(target).await?;
    let (now, entry) = (app.now(), Entry::new(actor, "instance.backup", format!("file:{}", target.display()), "local"));
    Ok(app.store.write(move |tx| store::audit::append(tx, &entry, now).map(drop)).await?)
}

/// Ends a restoration, at the first start after it: CRL numbers jump beyond those that were published since the copy was made, so that none
/// is used twice and clients take the new lists for newer ones, new lists are due at once, and the audit log says so.
///
/// # Errors
/// Only the database's own.
pub async fn finish_restore(app: &App) -> Result<()> {
    if app.store.read(|c| meta::find_value(c, store::backup::RESTORED)).await?.is_none() {
        return Ok(());
    }
    let now = app.now();
    let write = move |tx: &mut store::Tx<'_>| {
        // Another node may have come first.
        let Some(note) = meta::take_value(tx, store::backup::RESTORED)? else { return Ok(false) };
        let note: store::backup::Note = serde_json::from_str(&note)?;
        authorities::update_crl_numbers(tx, CRL_JUMP)?;
        let entry = Entry::new(note.by, "instance.restore", format!("file:{}", note.from), "local")
            .after(&json!({ "restoredAt": note.at, "crlNumbersBy": CRL_JUMP }));
        store::audit::append(tx, &entry, now)?;
        Ok(true)
    };
    if app.store.write(write).await? {
        tracing::warn!("this database was restored from a copy: revocations and enrolments since the copy are lost, look at them again");
    }
    Ok(())
}
