//! Reads what Apple Business Manager lists, every quarter of an hour.

use crate::app::App;
use crate::service::Result;
use crate::service::apple::ade;

pub(super) const SCHEDULE: &str = "0 */15 * * * *";

pub(super) async fn run(app: &App) -> Result<()> {
    ade::warn(app).await?;
    ade::sync_all(app).await
}
