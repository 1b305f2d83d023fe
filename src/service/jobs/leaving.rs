//! Ends the enrolment of devices that were told to leave and fell silent, and of those that never finished it.

use crate::app::App;
use crate::service::{Result, device};

pub(super) const SCHEDULE: &str = "0 */5 * * * *";

pub(super) async fn run(app: &App) -> Result<()> {
    let ended = device::end_silent(app).await?;
    metrics::counter!("muster_enrollments_ended_by_silence_total").increment(ended as u64);
    let ended = device::end_unfinished(app).await?;
    metrics::counter!("muster_enrollments_ended_unfinished_total").increment(ended as u64);
    Ok(())
}
