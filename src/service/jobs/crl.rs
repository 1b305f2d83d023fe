//! Publishes revocation lists that are due: on schedule, and soon after a revocation (revocations within one turn share a list).

use crate::app::App;
use crate::service::Result;
use crate::service::pki::crl;

pub(super) const SCHEDULE: &str = "*/5 * * * * *";

pub(super) async fn run(app: &App) -> Result<()> {
    crl::due(app).await.map(drop)
}
