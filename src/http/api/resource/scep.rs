//! `/api/scep/requests`: requests by SCEP that wait for an administrator.

use super::authorities::{READ, UPDATE};
use crate::domain::certificate::show_name;
use crate::http::api::page::{Limit, Page, limit};
use crate::http::api::problem::Result;
use crate::http::api::route::{Call, Reply, routes};
use crate::http::api::schema::{At, Nothing, shown, taken};
use crate::service::pki::{authority, scep};

routes! {
    /// Lists the requests that wait, oldest first; who decides sees all that is asked for.
    Get "scep/requests", READ, Asked, Nothing => 200 Page<ScepRequest>, [], list;
    /// Grants a request of an authority by its transaction: the certificate is issued now.
    Post "scep/requests/{authority}/{transaction}/approve", UPDATE, Nothing, Nothing => 200 GrantedRequest,
        [AuthorityIsRoot, AuthorityNotActive, AuthorityTooShort, CertificateHeld, CertificateKeyRefused, CertificateNameInvalid,
         CertificateNameNotPermitted, CertificateRevoked, MethodsOfSuperior, ScepHolderGone, ScepRenewalTooMany, ScepTransactionDecided], approve;
    /// Refuses a request.
    Post "scep/requests/{authority}/{transaction}/refuse", UPDATE, Nothing, Nothing => 204 Nothing, [ScepTransactionDecided], refuse;
}

taken! {
    /// How many.
    Asked {
        /// How many at most; default 100. Decide on these to see those behind them.
        limit: Limit,
    }
}

shown! {
    /// A request that waits.
    ScepRequest {
        /// The client's transaction id.
        transaction: String,
        /// The authority that was asked.
        authority: String,
        /// The subject that the certificate will have.
        subject: String,
        /// Its alternative names, each with its kind.
        names: Vec<String>,
        /// The profile that it is for.
        profile: Option<String>,
        /// The name of the device that it is for.
        device: Option<String>,
        /// Its id.
        device_id: Option<String>,
        /// The name of the user that it is for.
        user: Option<String>,
        /// Their id.
        user_id: Option<String>,
        /// Whether it renews a certificate.
        renews: bool,
        /// The serial number of that.
        renews_serial: Option<String>,
        /// Since when it waits.
        since: At,
        /// Who made the challenge, where no profile did.
        challenged_by: Option<String>,
        /// SHA-256 of the key that signed the request, hex.
        key_sha256: String,
    }
}

shown! {
    /// A request that was granted.
    GrantedRequest {
        /// The id of its certificate.
        certificate: String,
    }
}

async fn list(call: Call<'_>, asked: Asked, _: Nothing) -> Result<Reply<Page<ScepRequest>>> {
    call.of_all()?;
    let authorities = authority::list(call.app).await?;
    let waiting = scep::list_waiting(call.app, limit(asked.limit)).await?;
    let rows = waiting.into_iter().map(|waiting| {
        let (transaction, grant) = (&waiting.transaction, &waiting.transaction.grant);
        ScepRequest {
            transaction: transaction.transaction_id.clone(),
            authority: authorities.iter().find(|a| a.id == transaction.authority_id).map(|a| a.name.clone()).unwrap_or_default(),
            subject: show_name(&grant.subject),
            names: grant.sans.iter().map(|san| format!("{}:{}", san.kind(), san.text())).collect(),
            profile: waiting.profile,
            device: waiting.device,
            device_id: grant.device_id.as_ref().map(ToString::to_string),
            user: waiting.user,
            user_id: grant.user_id.as_ref().map(ToString::to_string),
            renews: transaction.renews.is_some(),
            renews_serial: waiting.renews,
            since: transaction.created_at.into(),
            challenged_by: waiting.challenged_by,
            key_sha256: transaction.signer_hash.clone(),
        }
    });
    Ok(Page::whole(rows.collect()).into())
}

async fn approve(call: Call<'_>, _: Nothing, _: Nothing) -> Result<Reply<GrantedRequest>> {
    call.of_all()?;
    let by = call.by();
    let id = scep::approve_for(call.app, call.key(0)?, call.key(1)?, Some(call.caller), &by).await?;
    Ok(GrantedRequest { certificate: id.to_string() }.into())
}

async fn refuse(call: Call<'_>, _: Nothing, _: Nothing) -> Result<Reply<Nothing>> {
    call.of_all()?;
    let by = call.by();
    scep::refuse(call.app, call.key(0)?, call.key(1)?, &by.actor, &by.origin).await?;
    Ok(Nothing {}.into())
}
