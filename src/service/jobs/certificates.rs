//! Keeps certificates and answers from running out: renews service certificates, signs OCSP answers again, revokes superseded
//! certificates, and warns of revocation lists that nobody renewed and of the end of the push certificate.

use crate::app::App;
use crate::clock::DAY;
use crate::service::Result;
use crate::service::apple::push_certificate;
use crate::service::pki::{crl, ocsp, revoke, service_key};
use crate::store::authorities;

pub(super) const SCHEDULE: &str = "0 41 * * * *";

pub(super) async fn run(app: &App) -> Result<()> {
    service_key::renew(app).await?;
    revoke::revoke_superseded(app).await?;
    ocsp::renew_answers(app).await?;
    for name in crl::ending(app).await? {
        tracing::error!(authority = %name, "the revocation list comes near its end and was not renewed");
        metrics::counter!("muster_crl_ending_total").increment(1);
    }
    push_certificate::warn(app).await?;
    let before = app.now().plus(-30 * DAY);
    app.store.write(move |tx| authorities::purge_service_keys(tx, before)).await?;
    Ok(())
}
