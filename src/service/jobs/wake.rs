//! Wakes the Apple devices whose time has come, and again those that did not come.

use crate::app::App;
use crate::service::Result;
use crate::service::push::due;

pub(super) const SCHEDULE: &str = "30 * * * * *";

pub(super) async fn run(app: &App) -> Result<()> {
    due::sweep(app).await
}
