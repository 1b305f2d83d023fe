//! `muster ca revoke` of one certificate or authority: what goes with it is said.

use serde_json::{Value, json};

use super::find;
use super::who::Who;
use crate::app::App;
use crate::domain::certificate::{Certificate, Purpose, RevocationReason};
use crate::service::pki::authority::{self, Authority};
use crate::service::pki::{external, revoke};
use crate::service::{Error, Result};

/// Revokes the authority or certificate that is called so, or discards the authority that waits under this name.
pub(super) async fn revoke_one(app: &App, what: &str, reason: RevocationReason, yes: bool, who: &Who) -> Result<Value> {
    match authority::by_name(app, what).await {
        Ok(found) => return revoke_authority(app, &found, reason, yes, who).await,
        Err(Error::NotFound(_)) => {}
        Err(other) => return Err(other),
    }
    if external::is_pending(app, what).await? {
        external::discard(app, what, &who.by.actor, &who.by.origin).await?;
        return Ok(json!({ "discarded": what }));
    }
    let certificate = find::authority_or_certificate(app, what).await?;
    if certificate.grant.purpose == Purpose::Authority
        && let Some(found) = authority::list(app).await?.iter().find(|found| found.certificate == certificate.der)
    {
        return revoke_authority(app, found, reason, yes, who).await;
    }
    revoke_certificate(app, &certificate, reason, who).await
}

async fn revoke_authority(app: &App, found: &Authority, reason: RevocationReason, yes: bool, who: &Who) -> Result<Value> {
    let good = authority::revoke_confirmed(app, found, reason, yes, &who.by).await?;
    Ok(json!({ "revoked": 1, "authority": found.name, "fallen": good }))
}

async fn revoke_certificate(app: &App, certificate: &Certificate, reason: RevocationReason, who: &Who) -> Result<Value> {
    revoke::revoke(app, &certificate.id, reason, &who.by.actor, &who.by.origin).await?;
    if let (Purpose::MdmIdentity, Some(device)) = (certificate.grant.purpose, &certificate.grant.device_id) {
        return Ok(json!({
            "revoked": 1,
            "device": device,
            "note": "it was the device's identity: the device is refused from now on; enrol it again, or give it up with \
                     `muster device retire DEVICE --give-up`",
        }));
    }
    let left = revoke::list_successors(app, &certificate.id).await?;
    if left.is_empty() {
        return Ok(json!({ "revoked": 1 }));
    }
    Ok(json!({
        "revoked": 1,
        "still_good": left.iter().map(|newer| newer.serial.as_str()).collect::<Vec<_>>(),
        "note": "what took its place is still good; revoke that, too, should its holder not have it",
    }))
}
