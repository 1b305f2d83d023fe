//! Follows the rules of groups for devices and people that changed since the last time, every minute, and for all of them at night.

use crate::app::App;
use crate::service::Result;
use crate::service::directory::rules;

pub(super) const SCHEDULE: &str = "20 * * * * *";

pub(super) async fn run(app: &App) -> Result<()> {
    rules::follow(app).await.map(drop)
}
