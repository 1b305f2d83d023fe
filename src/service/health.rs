//! Whether the server can do its work.

use std::path::Path;

use super::{Error, Result};
use crate::app::App;
use crate::domain::audit::Entry;
use crate::store;

/// How long the database may take to say that it is there.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// The database answers.
///
/// # Errors
/// [`Error::Unavailable`] when it does not, or not in time.
pub async fn check_ready(app: &App) -> Result<()> {
    let asked = app.store.read(|conn| store::meta::find_value(conn, "tenant").map(drop));
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Error::Unavailable("the database does not answer".into())),
    }
}

/// Writes a copy of the database to `target`, which must not exist.
///
/// # Errors
/// [`Error::Unavailable`] on PostgreSQL, or when the copy cannot be written.
pub async fn back_up(app: &App, target: &Path, actor: &str) -> Result<()> {
    app.store.backup(target).await?;
    let (now, entry) = (app.now(), Entry::new(actor, "instance.backup", format!("file:{}", target.display()), "local"));
    Ok(app.store.write(move |tx| store::audit::append(tx, &entry, now).map(drop)).await?)
}
