//! Gets licences of the App Store for devices and gives them back, every minute.

use crate::app::App;
use crate::service::Result;
use crate::service::apple::licences;

pub(super) const SCHEDULE: &str = "45 * * * * *";

pub(super) async fn run(app: &App) -> Result<()> {
    licences::work(app).await
}
