//! `/api/certificates`: what was issued, issuing for a key of one's own, and revoking.

use super::authorities::{READ, UPDATE};
use crate::domain::Refusal;
use crate::domain::access::{Action, Need, Scope};
use crate::domain::certificate::{Certificate, CertificateStatus, Purpose, RevocationReason};
use crate::http::api::base;
use crate::http::api::page::{Limit, Page, limit};
use crate::http::api::problem::{ApiProblem, Result};
use crate::http::api::route::{Call, Reply, routes};
use crate::http::api::schema::{At, Lines, Nothing, Number, Text, shown, taken};
use crate::ids::CertificateId;
use crate::service::pki::revoke::{self, Search};
use crate::service::pki::wanted::Wanted;
use crate::service::pki::{authority, issue, names};
use crate::service::{Error, directory};

const REVOKE: Need = Need { scopes: &[Scope::CloudCaReadWriteAll], action: Some(Action::CertificatesRevoke) };

routes! {
    /// Lists issued certificates, newest first; after an id, oldest first.
    Get "certificates", READ, Asked, Nothing => 200 Page<IssuedCertificate>, [], list;
    /// Issues a certificate for the key of a request; nothing else is taken from the request.
    Post "certificates", UPDATE, Nothing, NewCertificate => 201 CertificateInFull,
        [AuthorityIsRoot, AuthorityNotActive, AuthorityTooShort, CertificateKeyRefused, CertificateNameInvalid, CertificateNameMissing,
         CertificateNameNotPermitted, CertificateNameTooLong, CertificateRequestInvalid, CertificateSidMissing, CertificateUsageForbidden,
         CertificateUsageInvalid, MethodsOfSuperior, TemplateInvalid, TemplateValueRefused, TemplateVariableMissing, TemplateVariableOfUser,
         TemplateVariableUnknown], create;
    /// Shows one by its id.
    Get "certificates/{id}", READ, Nothing, Nothing => 200 CertificateInFull, [], show;
    /// Revokes a certificate, or puts it on hold.
    Post "certificates/{id}/revoke", REVOKE, Nothing, Revocation => 200 Revoked,
        [AuthorityRevocationUnconfirmed, CertificateRevokedBefore], revoke_one, urgent;
    /// Releases a certificate from hold.
    Post "certificates/{id}/release", REVOKE, Nothing, Nothing => 204 Nothing, [CertificateNotHeld], release;
}

taken! {
    /// Which certificates.
    Asked {
        /// Of this device, by its id.
        device: Option<Text<1, 64>>,
        /// Of this user, by id or name.
        user: Option<Text<1, 256>>,
        /// In this state.
        status: Option<CertificateStatus>,
        /// With this serial number, hex.
        serial: Option<Text<1, 64>>,
        /// Whose subject begins so.
        subject: Option<Text<1, 256>>,
        /// Those that were issued after this one, oldest first: its id.
        after: Option<Text<1, 64>>,
        /// Those that were issued before this one: its id.
        before: Option<Text<1, 64>>,
        /// How many at most; default 100.
        limit: Limit,
    }
}

taken! {
    /// A certificate to be. Names may hold variables, such as {{UserPrincipalName}} and {{DeviceId}}.
    NewCertificate {
        /// A request (PKCS#10, PEM), whose key is certified.
        csr: Lines<65_536>,
        /// The authority that issues; the one that issues to devices when it is left out.
        authority: Option<Text<1, 40>>,
        /// The subject, such as CN=printer,O=Example.
        subject: Option<Text<0, 1024>>,
        /// Alternative names: host names.
        dns: Option<Vec<Text<1, 255>>>,
        /// Alternative names: mail addresses.
        email: Option<Vec<Text<1, 255>>>,
        /// Alternative names: user principal names.
        upn: Option<Vec<Text<1, 255>>>,
        /// Alternative names: URIs.
        uri: Option<Vec<Text<1, 1024>>>,
        /// Alternative names: addresses.
        ip: Option<Vec<Text<1, 64>>>,
        /// Extended key usages, dotted; client authentication when they are left out.
        eku: Option<Vec<Text<1, 64>>>,
        /// Its life in days; 365 when it is left out.
        days: Option<Number<5, 1095>>,
        /// The user (id or name) whom it is for, and who fills variables.
        user: Option<Text<1, 256>>,
        /// The device (id) that it is for, and which fills variables.
        device: Option<Text<1, 64>>,
        /// Puts the user's SID into the security extension.
        sid: Option<bool>,
    }
}

taken! {
    /// How a certificate is revoked.
    Revocation {
        /// Why; unspecified when it is left out. certificate-hold can be released.
        reason: Option<RevocationReason>,
    }
}

shown! {
    /// What came of a revocation.
    Revoked {
        /// Serial numbers of certificates that took its place and are still good.
        still_good: Vec<String>,
        /// The device whose identity it was: it is refused from now on.
        device: Option<String>,
    }
}

shown! {
    /// A certificate that was issued.
    IssuedCertificate {
        /// Its id.
        id: String,
        /// Its serial number, hex.
        serial: String,
        /// Whether it may be relied upon; its end is another matter.
        status: CertificateStatus,
        /// What it is for.
        purpose: Purpose,
        /// Its subject.
        subject: String,
        /// The authority that issued it.
        authority: Option<String>,
        /// The name of the device that it is for.
        device: Option<String>,
        /// Its id.
        device_id: Option<String>,
        /// The name of the user that it is for.
        user: Option<String>,
        /// Their id.
        user_id: Option<String>,
        /// Its first moment.
        not_before: At,
        /// Its last moment.
        not_after: At,
        /// Why it was revoked.
        reason: Option<RevocationReason>,
        /// SHA-1 of it, hex.
        sha1: String,
    }
}

shown! {
    /// A certificate with its text.
    CertificateInFull {
        /// What is known of it.
        certificate: IssuedCertificate,
        /// The certificate, PEM.
        pem: String,
    }
}

/// Lists with the names of whom they are for.
async fn shown(call: &Call<'_>, found: Vec<Certificate>) -> Result<Vec<IssuedCertificate>> {
    let names = names::of(call.app, &found).await?;
    let show = |(certificate, names): (Certificate, names::Names)| IssuedCertificate {
        id: certificate.id.to_string(),
        serial: certificate.serial,
        status: certificate.status,
        purpose: certificate.grant.purpose,
        subject: certificate.subject,
        authority: names.authority,
        device: names.device,
        device_id: certificate.grant.device_id.as_ref().map(ToString::to_string),
        user: names.user,
        user_id: certificate.grant.user_id.as_ref().map(ToString::to_string),
        not_before: certificate.not_before.into(),
        not_after: certificate.not_after.into(),
        reason: certificate.revocation_reason,
        sha1: certificate.sha1,
    };
    Ok(found.into_iter().zip(names).map(show).collect())
}

async fn list(call: Call<'_>, asked: Asked, _: Nothing) -> Result<Reply<Page<IssuedCertificate>>> {
    call.of_all()?;
    let id = |text: Option<Text<1, 64>>| match text {
        Some(text) => {
            CertificateId::parse(&text.0).map(Some).ok_or_else(|| ApiProblem::malformed("after and before are ids of certificates"))
        }
        None => Ok(None),
    };
    let serial = match asked.serial {
        Some(text) => Some(revoke::read_serial(&text.0).ok_or_else(|| ApiProblem::malformed("a serial number has hexadecimal digits"))?),
        None => None,
    };
    let device = match asked.device {
        Some(text) => Some(directory::find_device(call.app, &text.0, &call.reach).await?.device.id),
        None => None,
    };
    let user = match asked.user {
        Some(text) => Some(directory::find_user(call.app, &text.0, &call.reach).await?.0.id),
        None => None,
    };
    let search = Search {
        device,
        user,
        status: asked.status,
        serial,
        subject: asked.subject.map(|subject| subject.0),
        newest_first: asked.after.is_none(),
        after: id(asked.after)?,
        before: id(asked.before)?,
        authority: None,
    };
    let way = if search.newest_first { "before" } else { "after" };
    let (found, more) = revoke::search_more(call.app, search, limit(asked.limit)).await?;
    Ok(Page::go_on(&call, shown(&call, found).await?, more, way, |last| last.id.clone()).into())
}

async fn in_full(call: &Call<'_>, found: Certificate) -> Result<CertificateInFull> {
    let pem = authority::pem(&found.der);
    let certificate = shown(call, vec![found]).await?.pop().ok_or_else(|| ApiProblem::not_found("certificate"))?;
    Ok(CertificateInFull { certificate, pem })
}

async fn named(call: &Call<'_>) -> Result<Certificate> {
    call.of_all()?;
    let id = CertificateId::parse(call.key(0)?).ok_or_else(|| ApiProblem::not_found("certificate"))?;
    Ok(revoke::load(call.app, &id).await?)
}

async fn show(call: Call<'_>, _: Nothing, _: Nothing) -> Result<Reply<CertificateInFull>> {
    let found = named(&call).await?;
    Ok(in_full(&call, found).await?.into())
}

async fn create(call: Call<'_>, _: Nothing, body: NewCertificate) -> Result<Reply<CertificateInFull>> {
    call.of_all()?;
    let spki = issue::request_key(body.csr.0.as_bytes())?;
    let authority = match &body.authority {
        Some(name) => authority::by_name(call.app, &name.0).await?,
        None => authority::issuing(call.app).await?,
    };
    let user = match &body.user {
        Some(text) => Some(directory::find_user(call.app, &text.0, &call.reach).await?.0),
        None => None,
    };
    let device = match &body.device {
        Some(text) => Some(directory::find_device(call.app, &text.0, &call.reach).await?.device),
        None => None,
    };
    let wanted = Wanted {
        template: None,
        subject: body.subject.map(|subject| subject.0).unwrap_or_default(),
        dns: texts(body.dns),
        email: texts(body.email),
        upn: texts(body.upn),
        uri: texts(body.uri),
        ip: texts(body.ip),
        eku: texts(body.eku),
        days: body.days.and_then(|days| u32::try_from(days.0).ok()).unwrap_or(365),
        sid: body.sid.unwrap_or_default(),
        user,
        device,
    };
    let (grant, by) = (wanted.grant().map_err(Error::from)?, call.by());
    let issued = issue::issue_for(call.app, &authority.id, &grant, &spki, Some(call.caller), &by).await?;
    let location = format!("{}/certificates/{}", base(&call.app.config), issued.certificate.id);
    Ok(Reply::from(in_full(&call, issued.certificate).await?).at(location))
}

fn texts<const MOST: usize>(given: Option<Vec<Text<1, MOST>>>) -> Vec<String> {
    given.into_iter().flatten().map(|text| text.0).collect()
}

async fn revoke_one(call: Call<'_>, _: Nothing, body: Revocation) -> Result<Reply<Revoked>> {
    let (found, by) = (named(&call).await?, call.by());
    if found.grant.purpose == Purpose::Authority {
        let text = "it is the certificate of an authority: revoke the authority, by its name";
        return Err(Error::Invalid(Refusal::AuthorityRevocationUnconfirmed, text.to_owned()).into());
    }
    revoke::revoke(call.app, &found.id, body.reason.unwrap_or(RevocationReason::Unspecified), &by.actor, &by.origin).await?;
    let left = revoke::list_successors(call.app, &found.id).await?;
    let device = found.grant.device_id.filter(|_| found.grant.purpose == Purpose::MdmIdentity);
    let still_good = left.into_iter().map(|newer| newer.serial).collect();
    Ok(Revoked { still_good, device: device.map(|id| id.to_string()) }.into())
}

async fn release(call: Call<'_>, _: Nothing, _: Nothing) -> Result<Reply<Nothing>> {
    let (found, by) = (named(&call).await?, call.by());
    revoke::release(call.app, &found.id, &by.actor, &by.origin).await?;
    Ok(Nothing {}.into())
}
