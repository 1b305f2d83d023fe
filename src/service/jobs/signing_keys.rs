//! Moves the keys that sign tokens along their life.

use crate::app::App;
use crate::service::Result;
use crate::service::signing_keys;

pub(super) const SCHEDULE: &str = "0 11 * * * *";

pub(super) async fn run(app: &App) -> Result<()> {
    signing_keys::refresh(app).await
}
