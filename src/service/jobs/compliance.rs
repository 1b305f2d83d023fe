//! Judges the devices whose time has come: graces that end, devices that fell silent, policies that came or went.

use crate::app::App;
use crate::service::{Result, compliance};

pub(super) const SCHEDULE: &str = "0 * * * * *";

pub(super) async fn run(app: &App) -> Result<()> {
    let judged = compliance::run_due(app).await?;
    metrics::counter!("muster_compliance_judged_total").increment(judged as u64);
    Ok(())
}
