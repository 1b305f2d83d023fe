//! Whether the server can do its work.

use super::{Error, Result};
use crate::app::App;
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
