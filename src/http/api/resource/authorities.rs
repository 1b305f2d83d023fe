//! `/api/authorities`: the authorities, their revocation lists, and whether they issue.

use crate::domain::access::{Action, Need, Scope};
use crate::domain::authority::Kind;
use crate::domain::certificate::{KeyAlgorithm, RevocationReason};
use crate::http::api::base;
use crate::http::api::page::Page;
use crate::http::api::problem::Result;
use crate::http::api::route::{Call, Reply, routes};
use crate::http::api::schema::{At, Nothing, Number, Text, shown, taken};
use crate::service::pki::authority::{self, Authority, NewAuthority};
use crate::service::pki::{crl, external};

/// To see authorities and certificates.
pub(super) const READ: Need = Need { scopes: &[Scope::CloudCaReadAll, Scope::CloudCaReadWriteAll], action: Some(Action::AuthoritiesRead) };
/// To run authorities, and decide who gets a certificate.
pub(super) const UPDATE: Need = Need { scopes: &[Scope::CloudCaReadWriteAll], action: Some(Action::AuthoritiesUpdate) };
const CREATE: Need = Need { scopes: &[Scope::CloudCaReadWriteAll], action: Some(Action::AuthoritiesCreate) };

routes! {
    /// Lists the authorities, and those that wait for their certificate from outside.
    Get "authorities", READ, Nothing, Nothing => 200 Page<CertificationAuthority>, [], list;
    /// Makes an authority with a key of its own, below a root or as one.
    Post "authorities", CREATE, Nothing, NewCertificationAuthority => 201 CertificationAuthority,
        [AuthorityIsRoot, AuthorityNameInvalid, AuthorityNameTaken, AuthorityNotActive, AuthorityRequested, AuthorityTooShort,
         CertificateNameInvalid, CertificateNameMissing, CertificateNameNotPermitted, CertificateNameTooLong], create;
    /// Shows one by its name.
    Get "authorities/{name}", READ, Nothing, Nothing => 200 CertificationAuthority, [], show;
    /// Pauses an authority: it issues nothing, and answers as before.
    Post "authorities/{name}/pause", UPDATE, Nothing, Nothing => 200 CertificationAuthority, [AuthorityNotActive], pause;
    /// Lets a paused authority issue again.
    Post "authorities/{name}/activate", UPDATE, Nothing, Nothing => 200 CertificationAuthority, [AuthorityNotActive], activate;
    /// Revokes an authority for good: all that it issued falls with it.
    Post "authorities/{name}/revoke", UPDATE, Nothing, AuthorityRevocation => 200 RevokedAuthority,
        [AuthorityIsAnchor, AuthorityNotHeld, AuthorityRevocationUnconfirmed, CertificateRevokedBefore], revoke, urgent;
    /// Shows the newest revocation list of an authority.
    Get "authorities/{name}/crl", READ, Nothing, Nothing => 200 RevocationList, [], show_crl;
    /// Publishes a revocation list now.
    Post "authorities/{name}/crl", UPDATE, Nothing, Nothing => 200 RevocationList, [], publish;
}

shown! {
    /// An authority.
    CertificationAuthority {
        /// Its name in addresses.
        name: String,
        /// Its place in the hierarchy; null as long as it waits for its certificate.
        kind: Option<Kind>,
        /// Whether it issues: active, paused, revoked, or signing-pending (waits for its certificate).
        status: String,
        /// Its own name.
        subject: String,
        /// Its key.
        key: KeyAlgorithm,
        /// Its end.
        not_after: Option<At>,
        /// SHA-1 of its certificate, hex.
        sha1: Option<String>,
        /// Where its revocation list is.
        crl: Option<String>,
        /// Where it answers by OCSP.
        ocsp: Option<String>,
        /// Where its certificate is.
        certificate: Option<String>,
    }
}

taken! {
    /// An authority to be.
    NewCertificationAuthority {
        /// Its name in addresses: lower-case letters, digits and hyphens.
        name: Text<1, 40>,
        /// Common name of its certificate.
        common_name: Text<1, 64>,
        /// The root that signs it; without one it is a root itself.
        parent: Option<Text<1, 40>>,
        /// Its key; rsa-3072 when it is left out.
        key: Option<KeyAlgorithm>,
        /// Its life in days; 3650 when it is left out. It ends no later than the root.
        days: Option<Number<1, 36_500>>,
    }
}

taken! {
    /// How an authority is revoked.
    AuthorityRevocation {
        /// Why; unspecified when it is left out.
        reason: Option<RevocationReason>,
        /// Yes, although all that it issued falls with it.
        confirmed: bool,
    }
}

shown! {
    /// An authority that was revoked.
    RevokedAuthority {
        /// Its name.
        name: String,
        /// How many good certificates fell with it.
        fallen: i64,
    }
}

shown! {
    /// A revocation list.
    RevocationList {
        /// Its number.
        number: i64,
        /// When it was made.
        this_update: At,
        /// Until when it may be relied upon.
        next_update: At,
        /// Where it is.
        url: String,
    }
}

fn shown(authority: &Authority) -> CertificationAuthority {
    CertificationAuthority {
        name: authority.name.clone(),
        kind: Some(authority.kind),
        status: authority.status.to_string(),
        subject: authority.subject_text(),
        key: authority.key.algorithm(),
        not_after: Some(authority.not_after.into()),
        sha1: Some(hex::encode(openssl::sha::sha1(&authority.certificate))),
        crl: Some(authority.crl_url()),
        ocsp: Some(authority.ocsp_url()),
        certificate: Some(authority.certificate_url()),
    }
}

async fn list(call: Call<'_>, _: Nothing, _: Nothing) -> Result<Reply<Page<CertificationAuthority>>> {
    call.of_all()?;
    let mut all: Vec<CertificationAuthority> = authority::list(call.app).await?.iter().map(|authority| shown(authority)).collect();
    all.extend(external::list_pending(call.app).await?.into_iter().map(|pending| CertificationAuthority {
        name: pending.name,
        kind: None,
        status: "signing-pending".into(),
        subject: pending.common_name,
        key: pending.key_algorithm,
        not_after: None,
        sha1: None,
        crl: None,
        ocsp: None,
        certificate: None,
    }));
    Ok(Page::whole(all).into())
}

async fn create(call: Call<'_>, _: Nothing, body: NewCertificationAuthority) -> Result<Reply<CertificationAuthority>> {
    call.of_all()?;
    let new = NewAuthority {
        name: body.name.0,
        common_name: body.common_name.0,
        parent: body.parent.map(|parent| parent.0),
        key_algorithm: body.key.unwrap_or(KeyAlgorithm::Rsa3072),
        days: body.days.and_then(|days| u32::try_from(days.0).ok()).unwrap_or(3650),
    };
    let by = call.by();
    let made = authority::create(call.app, &new, &by.actor, &by.origin).await?;
    let location = format!("{}/authorities/{}", base(&call.app.config), made.name);
    Ok(Reply::from(shown(&made)).at(location))
}

async fn show(call: Call<'_>, _: Nothing, _: Nothing) -> Result<Reply<CertificationAuthority>> {
    call.of_all()?;
    Ok(shown(&*authority::by_name(call.app, call.key(0)?).await?).into())
}

async fn set_paused(call: &Call<'_>, paused: bool) -> Result<Reply<CertificationAuthority>> {
    call.of_all()?;
    let (name, by) = (call.key(0)?, call.by());
    authority::set_paused(call.app, name, paused, &by.actor, &by.origin).await?;
    Ok(shown(&*authority::by_name(call.app, name).await?).into())
}

async fn pause(call: Call<'_>, _: Nothing, _: Nothing) -> Result<Reply<CertificationAuthority>> {
    set_paused(&call, true).await
}

async fn activate(call: Call<'_>, _: Nothing, _: Nothing) -> Result<Reply<CertificationAuthority>> {
    set_paused(&call, false).await
}

async fn revoke(call: Call<'_>, _: Nothing, body: AuthorityRevocation) -> Result<Reply<RevokedAuthority>> {
    call.of_all()?;
    let by = call.by();
    let found = authority::by_name(call.app, call.key(0)?).await?;
    let reason = body.reason.unwrap_or(RevocationReason::Unspecified);
    let fallen = authority::revoke_confirmed(call.app, &found, reason, body.confirmed, &by).await?;
    Ok(RevokedAuthority { name: found.name.clone(), fallen }.into())
}

async fn newest(call: &Call<'_>) -> Result<Reply<RevocationList>> {
    let authority = authority::by_name(call.app, call.key(0)?).await?;
    let list = crl::find(call.app, &authority.name).await?;
    let shown = RevocationList {
        number: list.number,
        this_update: list.this_update.into(),
        next_update: list.next_update.into(),
        url: authority.crl_url(),
    };
    Ok(shown.into())
}

async fn show_crl(call: Call<'_>, _: Nothing, _: Nothing) -> Result<Reply<RevocationList>> {
    call.of_all()?;
    newest(&call).await
}

async fn publish(call: Call<'_>, _: Nothing, _: Nothing) -> Result<Reply<RevocationList>> {
    call.of_all()?;
    let authority = authority::by_name(call.app, call.key(0)?).await?;
    crl::publish_for(call.app, &authority.id, &call.by()).await?;
    newest(&call).await
}
