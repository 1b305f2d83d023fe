//! Tells those who subscribed what changed.

use crate::app::App;
use crate::service::Result;
use crate::service::subscription::tell;

pub(super) const SCHEDULE: &str = "*/5 * * * * *";

pub(super) async fn run(app: &App) -> Result<()> {
    tell::run(app).await.map(drop)
}
