//! Copies of the database, and what has to be done once a copy has come back.

use std::path::Path;

use serde_json::json;

use super::Result;
use crate::app::App;
use crate::domain::audit::Entry;
use crate::store::{
    self, authorities, ceremonies, enrollment_tokens, grants, meta, registration_tokens, scep, subscriptions, taps, web_sessions,
};

/// Writes a copy of the database to `target`, which must not exist.
///
/// # Errors
/// [`super::Error::Conflict`] when it does; [`super::Error::Unavailable`] on PostgreSQL, or when the copy cannot be written.
pub async fn back_up(app: &App, target: &Path, actor: &str) -> Result<()> {
    app.store.backup(target).await?;
    let (now, entry) = (app.now(), Entry::new(actor, "instance.backup", format!("file:{}", target.display()), "local"));
    Ok(app.store.write(move |tx| store::audit::append(tx, &entry, now).map(drop)).await?)
}

/// Ends a restoration, at the first start after it.
///
/// - CRL numbers go on at the present moment in milliseconds since 1970, which is beyond all that were used since the copy was made, also
///   when one copy is restored again: lists are published far less often. So clients take the new lists, which are due at once, for newer.
/// - What may be used once and was open in the copy (passes, enrolment and registration tokens, SCEP challenges) ends, and so do sessions: it may have been used since.
/// - The audit log says so.
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
        authorities::update_crl_numbers(tx, now.0)?;
        let mut ended = taps::delete_all(tx)? + enrollment_tokens::delete_all(tx)? + scep::delete_challenges(tx)?;
        ended +=
            registration_tokens::delete_all(tx)? + ceremonies::delete_all(tx)? + web_sessions::delete_all(tx)? + grants::delete_all(tx)?;
        ended += subscriptions::delete_all(tx)?;
        // Whoever follows changes was told of some that never were.
        super::changes::begin_anew(tx)?;
        let entry = Entry::new(note.by, "instance.restore", format!("file:{}", note.from), "local")
            .after(&json!({ "restoredAt": note.at, "crlNumbersFrom": now.0, "ended": ended }));
        store::audit::append(tx, &entry, now)?;
        Ok(true)
    };
    if app.store.write(write).await? {
        tracing::warn!("this database was restored from a copy: revocations and enrolments since the copy are lost, look at them again");
    }
    Ok(())
}
