//! Checks the audit log's chain and its head's mark once a day.

use crate::app::App;
use crate::service::{Error, Result, audit};

pub(super) const SCHEDULE: &str = "0 17 3 * * *";

pub(super) async fn run(app: &App) -> Result<()> {
    let report = audit::verify(app, None).await?;
    metrics::gauge!("muster_audit_broken").set(if report.broken.is_some() { 1.0 } else { 0.0 });
    match report.broken {
        None => {
            // Logs that are kept elsewhere keep a note to check against.
            tracing::info!(head = report.head.map(|head| head.to_string()), "the audit log is sound");
            Ok(())
        }
        Some(broken) => Err(Error::Invalid(broken.why, format!("row {}", broken.seq))),
    }
}
