//! `/deviceManagement/cloudCertificationAuthorityLeafCertificate`: certificates that were issued to those who enrolled.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::cloud_authorities::READ;
use super::devices::system;
use crate::clock::Time;
use crate::domain::certificate::{CertificateStatus, KeyUsage};
use crate::http::graph::answer::{Answer, object};
use crate::http::graph::error::{GraphProblem, Result};
use crate::http::graph::list::{self, MANAGEMENT};
use crate::http::graph::route::{Call, routes};
use crate::ids::AuthorityId;
use crate::service::page::Found;
use crate::service::pki::cloud::{self, CloudAuthority};
use crate::service::pki::leaf::{Leaf, page_leaves};
use crate::wire::odata::edm;
use crate::wire::odata::filter::{Comparison, Expr, Literal};
use crate::wire::odata::query::Query;
use crate::wire::odata::shape::Shape;

const SET: &str = "deviceManagement/cloudCertificationAuthorityLeafCertificate";

const SHAPE: Shape = Shape {
    usual: &[
        "certificateStatus",
        "certificationAuthorityIssuerUri",
        "crlDistributionPointUrl",
        "deviceId",
        "deviceName",
        "devicePlatform",
        "extendedKeyUsages",
        "issuerId",
        "issuerName",
        "keyUsages",
        "ocspResponderUri",
        "revocationDateTime",
        "serialNumber",
        "subjectName",
        "thumbprint",
        "userId",
        "userPrincipalName",
        "validityEndDateTime",
        "validityStartDateTime",
    ],
    more: &[],
    beta: &[],
};

routes! {
    Get "deviceManagement/cloudCertificationAuthorityLeafCertificate", READ => list_all, beta;
    Get "deviceManagement/cloudCertificationAuthorityLeafCertificate/$count", READ => count, beta;
    Get "deviceManagement/cloudCertificationAuthorityLeafCertificate/{id}", READ => show, beta;
}

/// Who signed them, by id.
type Issuers = HashMap<AuthorityId, CloudAuthority>;

async fn issuers(call: &Call<'_>) -> Result<Issuers> {
    Ok(cloud::list(call.app).await?.into_iter().map(|authority| (authority.id.clone(), authority)).collect())
}

fn status(leaf: &Leaf, now: Time) -> &'static str {
    let certificate = &leaf.certificate;
    match certificate.status {
        // One on hold is revoked for whoever asks, until it is released.
        CertificateStatus::Held | CertificateStatus::Revoked => "revoked",
        CertificateStatus::Active if certificate.not_after <= now => "expired",
        CertificateStatus::Active => "active",
    }
}

fn json(leaf: &Leaf, issuers: &Issuers, now: Time) -> Map<String, Value> {
    let (certificate, grant) = (&leaf.certificate, &leaf.certificate.grant);
    let issuer = issuers.get(&certificate.authority_id);
    let shown = issuer.and_then(|issuer| issuer.certificate.as_ref());
    let usage = |usage: &KeyUsage| match usage {
        KeyUsage::DigitalSignature => "digitalSignature",
        KeyUsage::KeyEncipherment => "keyEncipherment",
    };
    object! {
        "id": certificate.id,
        "certificateStatus": status(leaf, now),
        "certificationAuthorityIssuerUri": shown.map(|shown| &shown.download_url),
        "crlDistributionPointUrl": shown.map(|shown| &shown.crl_url),
        "deviceId": grant.device_id,
        "deviceName": leaf.device.as_ref().map(|device| &device.display_name),
        "devicePlatform": leaf.device.as_ref().map(|device| system(device.platform)),
        "extendedKeyUsages": grant.extended_key_usages,
        "issuerId": certificate.authority_id,
        "issuerName": issuer.map(|issuer| &issuer.display_name),
        "keyUsages": grant.key_usages.iter().map(usage).collect::<Vec<_>>(),
        "ocspResponderUri": shown.map(|shown| &shown.ocsp_url),
        "revocationDateTime": edm::time_or_null(certificate.revoked_at.map(|at| at.0)),
        "serialNumber": certificate.serial,
        "subjectName": certificate.subject,
        "thumbprint": certificate.sha1.to_ascii_uppercase(),
        "userId": grant.user_id,
        "userPrincipalName": leaf.user.as_ref().map(|user| &user.upn),
        "validityEndDateTime": edm::time(certificate.not_after.0),
        "validityStartDateTime": edm::time(certificate.not_before.0),
    }
}

/// A page of them, of one authority or of all.
pub(super) async fn list_of(call: &Call<'_>, authority: Option<&AuthorityId>) -> Result<Answer> {
    let (issuers, now) = (issuers(call).await?, call.app.now());
    let find = async |query: &_, limit| page_leaves(call.app, query, authority, &call.reach, limit).await;
    list::answer(call, (&SHAPE, MANAGEMENT, SET), find, |leaf| json(leaf, &issuers, now)).await
}

/// The one whose property has this value.
pub(super) async fn find_one(call: &Call<'_>, authority: Option<&AuthorityId>, (name, value): (&str, &str)) -> Result<Leaf> {
    let filter = Expr::Compare(name.to_owned(), Comparison::Equal, Literal::Text(value.to_owned()));
    let query = Query { filter: Some(filter), ..Query::default() };
    let found: Found<Leaf> = page_leaves(call.app, &query, authority, &call.reach, 1).await?;
    found.objects.into_iter().next().ok_or_else(GraphProblem::not_found)
}

/// The same, as an answer.
pub(super) async fn show_one(call: &Call<'_>, authority: Option<&AuthorityId>, by: (&str, &str)) -> Result<Answer> {
    let found = find_one(call, authority, by).await?;
    let shown = json(&found, &issuers(call).await?, call.app.now());
    Ok(Answer::ok(list::single(call, &SHAPE, SET, shown)?))
}

async fn list_all(call: Call<'_>) -> Result<Answer> {
    list_of(&call, None).await
}

async fn count(call: Call<'_>) -> Result<Answer> {
    let query = Query { count: true, ..list::query(call.request, &SHAPE)? };
    let found = page_leaves(call.app, &query, None, &call.reach, 1).await?;
    Ok(Answer::text(found.count.unwrap_or_default().to_string()))
}

async fn show(call: Call<'_>) -> Result<Answer> {
    show_one(&call, None, ("id", call.key(0)?)).await
}
