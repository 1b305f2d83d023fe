//! `/deviceManagement/cloudCertificationAuthority`: authorities, and what is done to them. Each has one version of its certificate.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::leaf_certificates;
use crate::domain::access::{Action, Need, Scope};
use crate::domain::authority::{Status, name_of};
use crate::domain::certificate::{AttributeType, KeyAlgorithm, Rdn, RevocationReason};
use crate::http::graph::answer::{Answer, base, object};
use crate::http::graph::error::{GraphProblem, Result};
use crate::http::graph::list;
use crate::http::graph::route::{Call, routes};
use crate::service::pki::authority::{self, Called, NewAuthority};
use crate::service::pki::cloud::{self, CloudAuthority, Place};
use crate::service::pki::external::{self, Import, Ordered};
use crate::wire::odata::edm;
use crate::wire::odata::shape::Shape;

/// What whoever reads authorities and their certificates needs.
pub(super) const READ: Need = Need { scopes: &[Scope::CloudCaReadAll, Scope::CloudCaReadWriteAll], action: Some(Action::AuthoritiesRead) };

const fn write(action: Action) -> Need {
    Need { scopes: &[Scope::CloudCaReadWriteAll], action: Some(action) }
}

const SET: &str = "deviceManagement/cloudCertificationAuthority";
/// The only version that the certificate of an authority has.
const VERSION: i64 = 1;
/// The longest life that can be asked for, in years.
const LONGEST_LIFE: u32 = 25;

const SHAPE: Shape = Shape {
    usual: &[
        "certificateDownloadUrl",
        "certificateKeySize",
        "certificateRevocationListUrl",
        "certificateSigningRequest",
        "certificationAuthorityIssuerId",
        "certificationAuthorityIssuerUri",
        "certificationAuthorityStatus",
        "cloudCertificationAuthorityHashingAlgorithm",
        "cloudCertificationAuthorityType",
        "commonName",
        "countryName",
        "createdDateTime",
        "description",
        "displayName",
        "eTag",
        "extendedKeyUsages",
        "issuerCommonName",
        "keyPlatform",
        "lastModifiedDateTime",
        "localityName",
        "ocspResponderUri",
        "organizationName",
        "organizationUnit",
        "roleScopeTagIds",
        "rootCertificateCommonName",
        "scepServerUrl",
        "serialNumber",
        "stateName",
        "subjectName",
        "thumbprint",
        "validityEndDateTime",
        "validityPeriodInYears",
        "validityStartDateTime",
        "versionNumber",
    ],
    more: &[],
    beta: &[],
};

routes! {
    Get "deviceManagement/cloudCertificationAuthority", READ => list_all, beta;
    Post "deviceManagement/cloudCertificationAuthority", write(Action::AuthoritiesCreate) => create, beta;
    Get "deviceManagement/cloudCertificationAuthority/$count", READ => count, beta;
    Get "deviceManagement/cloudCertificationAuthority/{id}", READ => show, beta;
    Patch "deviceManagement/cloudCertificationAuthority/{id}", write(Action::AuthoritiesUpdate) => update, beta;
    Delete "deviceManagement/cloudCertificationAuthority/{id}", write(Action::AuthoritiesUpdate) => delete, beta;
    Get "deviceManagement/cloudCertificationAuthority/{id}/cloudCertificationAuthorityLeafCertificate", READ => leaves, beta;
    Get "deviceManagement/cloudCertificationAuthority/{id}/cloudCertificationAuthorityLeafCertificate/{leaf}", READ => leaf, beta;
    Post "deviceManagement/cloudCertificationAuthority/{id}/getCloudCertificationAuthority", READ => show, beta;
    Post "deviceManagement/cloudCertificationAuthority/{id}/getAllCloudCertificationAuthority", READ => list_all, beta;
    Post "deviceManagement/cloudCertificationAuthority/{id}/getAllCloudCertificationAuthorityLeafCertificates", READ => leaves, beta;
    Post "deviceManagement/cloudCertificationAuthority/{id}/changeCloudCertificationAuthorityStatus",
        write(Action::AuthoritiesUpdate) => change_status, beta;
    Post "deviceManagement/cloudCertificationAuthority/{id}/revokeCloudCertificationAuthorityCertificate",
        write(Action::AuthoritiesUpdate) => revoke, beta, urgent;
    Post "deviceManagement/cloudCertificationAuthority/{id}/revokeLeafCertificate",
        write(Action::CertificatesRevoke) => revoke_leaf, beta, urgent;
    Post "deviceManagement/cloudCertificationAuthority/{id}/revokeLeafCertificateBySerialNumber",
        write(Action::CertificatesRevoke) => revoke_serial, beta, urgent;
    Post "deviceManagement/cloudCertificationAuthority/{id}/searchCloudCertificationAuthorityLeafCertificateBySerialNumber",
        READ => search_serial, beta;
    Post "deviceManagement/cloudCertificationAuthority/{id}/uploadExternallySignedCertificationAuthorityCertificate",
        write(Action::AuthoritiesUpdate) => upload, beta;
}

/// What Graph calls kinds of keys.
const KEYS: [(KeyAlgorithm, &str); 5] = [
    (KeyAlgorithm::Rsa2048, "rsa2048"),
    (KeyAlgorithm::Rsa3072, "rsa3072"),
    (KeyAlgorithm::Rsa4096, "rsa4096"),
    (KeyAlgorithm::P256, "eCP256"),
    (KeyAlgorithm::P384, "eCP384"),
];

const ROOT: &str = "rootCertificationAuthority";
const ISSUING: &str = "issuingCertificationAuthority";
const EXTERNAL: &str = "issuingCertificationAuthorityWithExternalRoot";

fn key_word(algorithm: KeyAlgorithm) -> &'static str {
    KEYS.iter().find(|(known, _)| *known == algorithm).map_or("unknown", |(_, word)| word)
}

/// How keys of that kind sign.
fn hashing(algorithm: KeyAlgorithm) -> &'static str {
    match algorithm {
        KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::P256 => "sha256",
        KeyAlgorithm::Rsa4096 | KeyAlgorithm::P384 => "sha384",
    }
}

/// The version of an authority, which counts its changes.
fn etag(version: i64) -> String {
    format!("W/\"{version}\"")
}

fn json(authority: &CloudAuthority) -> Map<String, Value> {
    let (certificate, tag) = (authority.certificate.as_ref(), etag(authority.version));
    let names = certificate.map(|shown| shown.names.clone()).unwrap_or_default();
    let place = match authority.place {
        Place::Root => ROOT,
        Place::Issuing => ISSUING,
        Place::External => EXTERNAL,
    };
    object! {
        "@odata.etag": tag,
        "id": authority.id,
        "certificateDownloadUrl": certificate.map(|shown| &shown.download_url),
        "certificateKeySize": key_word(authority.key_algorithm),
        "certificateRevocationListUrl": certificate.map(|shown| &shown.crl_url),
        "certificateSigningRequest": authority.request,
        "certificationAuthorityIssuerId": authority.parent_id,
        "certificationAuthorityIssuerUri": certificate.and_then(|shown| shown.issuer_url.as_ref()),
        "certificationAuthorityStatus": authority.status.map_or("signingPending", Status::as_str),
        "cloudCertificationAuthorityHashingAlgorithm": hashing(authority.key_algorithm),
        "cloudCertificationAuthorityType": place,
        "commonName": names.common_name.as_ref().or(authority.common_name.as_ref()),
        "countryName": names.country,
        "createdDateTime": edm::time(authority.created_at.0),
        "description": authority.description,
        "displayName": authority.display_name,
        "eTag": tag,
        "extendedKeyUsages": Value::Array(Vec::new()),
        "issuerCommonName": certificate.and_then(|shown| shown.issuer_common_name.as_ref()),
        "keyPlatform": "software",
        "lastModifiedDateTime": edm::time(authority.updated_at.0),
        "localityName": names.locality,
        "ocspResponderUri": certificate.map(|shown| &shown.ocsp_url),
        "organizationName": names.organization,
        "organizationUnit": names.unit,
        "roleScopeTagIds": ["0"],
        "rootCertificateCommonName": certificate.and_then(|shown| shown.root_common_name.as_ref()),
        "scepServerUrl": certificate.and_then(|shown| shown.scep_url.as_ref()),
        "serialNumber": certificate.map(|shown| &shown.serial),
        "stateName": names.state,
        "subjectName": certificate.map(|shown| &shown.subject),
        "thumbprint": certificate.map(|shown| &shown.thumbprint),
        "validityEndDateTime": edm::time_or_null(certificate.map(|shown| shown.not_after.0)),
        "validityPeriodInYears": certificate.map_or(0, |shown| shown.years),
        "validityStartDateTime": edm::time_or_null(certificate.map(|shown| shown.not_before.0)),
        "versionNumber": VERSION,
    }
}

/// Authorities are everybody's: whoever is bound to groups changes none.
fn check_writer(call: &Call<'_>) -> Result<()> {
    if call.reach.is_all() { Ok(()) } else { Err(GraphProblem::forbidden("Whoever is bound to groups changes no authorities.")) }
}

async fn named(call: &Call<'_>) -> Result<CloudAuthority> {
    Ok(cloud::find(call.app, call.key(0)?).await?)
}

fn answer(call: &Call<'_>, authority: &CloudAuthority) -> Result<Answer> {
    Ok(Answer::ok(list::single(call, &SHAPE, SET, json(authority))?))
}

async fn list_all(call: Call<'_>) -> Result<Answer> {
    let all = cloud::list(call.app).await?;
    list::few(&call, &SHAPE, SET, all.iter().map(json).collect())
}

async fn count(call: Call<'_>) -> Result<Answer> {
    Ok(Answer::text(cloud::list(call.app).await?.len().to_string()))
}

async fn show(call: Call<'_>) -> Result<Answer> {
    answer(&call, &named(&call).await?)
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Given {
    display_name: Option<String>,
    description: Option<String>,
    cloud_certification_authority_type: Option<String>,
    certificate_key_size: Option<String>,
    cloud_certification_authority_hashing_algorithm: Option<String>,
    certification_authority_issuer_id: Option<String>,
    key_platform: Option<String>,
    extended_key_usages: Option<Vec<Value>>,
    validity_period_in_years: Option<u32>,
    common_name: Option<String>,
    country_name: Option<String>,
    state_name: Option<String>,
    locality_name: Option<String>,
    organization_name: Option<String>,
    organization_unit: Option<String>,
}

fn filled(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

impl Given {
    fn algorithm(&self, configured: &str) -> Result<KeyAlgorithm> {
        let algorithm = match filled(self.certificate_key_size.as_ref()) {
            None => KeyAlgorithm::parse(configured).unwrap_or(KeyAlgorithm::Rsa3072),
            Some(word) => KEYS
                .iter()
                .find(|(_, known)| known.eq_ignore_ascii_case(word))
                .map(|(algorithm, _)| *algorithm)
                .ok_or_else(|| GraphProblem::invalid("certificateKeySize is rsa2048, rsa3072, rsa4096, eCP256 or eCP384."))?,
        };
        let asked = filled(self.cloud_certification_authority_hashing_algorithm.as_ref());
        if asked.is_some_and(|word| !word.eq_ignore_ascii_case(hashing(algorithm))) {
            return Err(GraphProblem::invalid(format!("A key of {} signs with {}.", key_word(algorithm), hashing(algorithm))));
        }
        Ok(algorithm)
    }

    /// Refuses what authorities here are not.
    fn check(&self) -> Result<()> {
        if filled(self.key_platform.as_ref()).is_some_and(|word| !word.eq_ignore_ascii_case("software")) {
            return Err(GraphProblem::invalid("Keys of authorities are kept sealed in the database: keyPlatform is software."));
        }
        if self.extended_key_usages.as_ref().is_some_and(|all| !all.is_empty()) {
            return Err(GraphProblem::invalid("Authorities are bound to no usages, profiles name them: leave extendedKeyUsages empty."));
        }
        match self.validity_period_in_years {
            Some(years) if !(1..=LONGEST_LIFE).contains(&years) => {
                Err(GraphProblem::invalid(format!("validityPeriodInYears is 1 to {LONGEST_LIFE}.")))
            }
            _ => Ok(()),
        }
    }

    fn called(&self, display_name: &str) -> Called {
        let attributes = [
            (AttributeType::Country, &self.country_name),
            (AttributeType::State, &self.state_name),
            (AttributeType::Locality, &self.locality_name),
            (AttributeType::Organization, &self.organization_name),
            (AttributeType::OrganizationalUnit, &self.organization_unit),
        ];
        Called {
            display_name: display_name.to_owned(),
            description: self.description.clone().unwrap_or_default(),
            attributes: attributes.into_iter().filter_map(|(kind, value)| Some(Rdn::new(kind, filled(value.as_ref())?))).collect(),
        }
    }
}

async fn create(call: Call<'_>) -> Result<Answer> {
    check_writer(&call)?;
    let given: Given = call.request.json()?;
    given.check()?;
    let display_name = filled(given.display_name.as_ref()).ok_or_else(|| GraphProblem::invalid("displayName is required."))?;
    cloud::check_names(Some(display_name), given.description.as_deref())?;
    let (ca, by, called) = (&call.app.config.ca, call.by(), given.called(display_name));
    let (name, key_algorithm) = (name_of(display_name), given.algorithm(&ca.key_algorithm)?);
    let common_name = filled(given.common_name.as_ref()).unwrap_or(display_name).to_owned();
    let issuer = filled(given.certification_authority_issuer_id.as_ref());
    let kind = given.cloud_certification_authority_type.as_deref().unwrap_or_default();
    let id = if kind.eq_ignore_ascii_case(EXTERNAL) {
        if issuer.is_some() {
            return Err(GraphProblem::invalid("An authority below an outside root has no certificationAuthorityIssuerId."));
        }
        let ordered = Ordered { name, common_name, key_algorithm };
        external::request_called(call.app, ordered, called, &by.actor, &by.origin).await?.id
    } else {
        let (parent, usual) = match (kind, issuer) {
            (kind, None) if kind.eq_ignore_ascii_case(ROOT) => (None, ca.root_days),
            (kind, Some(issuer)) if kind.eq_ignore_ascii_case(ISSUING) => {
                let unknown = |_| GraphProblem::invalid("certificationAuthorityIssuerId is not the id of an authority.");
                (Some(cloud::find(call.app, issuer).await.map_err(unknown)?.name), ca.issuing_days)
            }
            (kind, _) if kind.eq_ignore_ascii_case(ISSUING) => {
                return Err(GraphProblem::invalid("An issuing authority has the root that signs it in certificationAuthorityIssuerId."));
            }
            _ => {
                return Err(GraphProblem::invalid(format!(
                    "cloudCertificationAuthorityType is {ROOT} (without issuer), {ISSUING} or {EXTERNAL}."
                )));
            }
        };
        let days = given.validity_period_in_years.map_or(usual, |years| years * 365 + years / 4);
        let new = NewAuthority { name, common_name, parent, key_algorithm, days };
        authority::create_called(call.app, &new, called, &by.actor, &by.origin).await?.id.clone()
    };
    let made = cloud::find(call.app, id.as_str()).await?;
    let body = list::single(&call, &SHAPE, SET, json(&made))?;
    Ok(Answer::created(format!("{}/{SET}/{id}", base(&call.app.config, call.request.version)), body))
}

async fn update(call: Call<'_>) -> Result<Answer> {
    check_writer(&call)?;
    let known = named(&call).await?;
    call.request.check_match(&etag(known.version))?;
    let body: Map<String, Value> = call.request.json()?;
    let shown = json(&known);
    // Clients send back what they read; what differs and cannot be changed is refused.
    let fixed = |(name, value): &(&String, &Value)| {
        !matches!(name.as_str(), "displayName" | "description" | "eTag" | "lastModifiedDateTime")
            && !name.contains('@')
            && shown.get(*name).is_none_or(|own| own != *value)
    };
    if let Some((name, _)) = body.iter().find(fixed) {
        let name: String = name.chars().take(100).collect();
        return Err(GraphProblem::invalid(format!("'{name}' of an authority cannot be changed.")));
    }
    let text = |name: &str| match body.get(name) {
        None => Ok(None),
        Some(Value::Null) => Ok(Some("")),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(GraphProblem::invalid(format!("{name} is a text."))),
    };
    // What the caller saw must still be so when it is written.
    let seen = call.request.if_match.as_deref().filter(|wanted| *wanted != "*").map(|_| known.version);
    if !cloud::rename(call.app, &known.id, (text("displayName")?, text("description")?), seen, &call.by()).await? {
        return Err(GraphProblem::precondition());
    }
    show(call).await
}

async fn delete(call: Call<'_>) -> Result<Answer> {
    check_writer(&call)?;
    let known = named(&call).await?;
    call.request.check_match(&etag(known.version))?;
    cloud::delete(call.app, &known, &call.by()).await?;
    Ok(Answer::done())
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StatusGiven {
    certification_authority_status: Option<String>,
    certification_authority_version: Option<i64>,
    signed_certificate: Option<String>,
    trust_chain_certificates: Option<Vec<Tier>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tier {
    certificate: Option<String>,
}

impl StatusGiven {
    fn read(call: &Call<'_>) -> Result<Self> {
        check_writer(call)?;
        let given: Self = call.request.json()?;
        // Clients send 0 for what they do not set.
        match given.certification_authority_version {
            None | Some(0 | VERSION) => Ok(given),
            Some(_) => Err(GraphProblem::invalid("The authority has no such version: certificationAuthorityVersion is 1.")),
        }
    }
}

async fn change_status(call: Call<'_>) -> Result<Answer> {
    let given = StatusGiven::read(&call)?;
    let word = given.certification_authority_status.unwrap_or_default().to_ascii_lowercase();
    let status =
        Status::parse(&word).ok_or_else(|| GraphProblem::invalid("certificationAuthorityStatus is set to active, paused or revoked."))?;
    set_status(call, status).await
}

async fn revoke(call: Call<'_>) -> Result<Answer> {
    StatusGiven::read(&call)?;
    set_status(call, Status::Revoked).await
}

async fn set_status(call: Call<'_>, status: Status) -> Result<Answer> {
    let known = named(&call).await?;
    call.request.check_match(&etag(known.version))?;
    cloud::set_status(call.app, &known, status, &call.by()).await?;
    show(call).await
}

/// A certificate as text: PEM, or the DER or PEM of it in Base64.
pub(super) fn read_pem(text: &str) -> Result<String> {
    use base64::Engine as _;
    if text.contains("-----BEGIN") {
        return Ok(text.to_owned());
    }
    let bare: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let bytes =
        base64::prelude::BASE64_STANDARD.decode(bare).map_err(|_| GraphProblem::invalid("A certificate is PEM, or its DER in Base64."))?;
    match String::from_utf8(bytes) {
        Ok(pem) if pem.contains("-----BEGIN") => Ok(pem),
        Ok(other) => Ok(authority::pem(other.as_bytes())),
        Err(der) => Ok(authority::pem(der.as_bytes())),
    }
}

async fn upload(call: Call<'_>) -> Result<Answer> {
    let given = StatusGiven::read(&call)?;
    let known = named(&call).await?;
    call.request.check_match(&etag(known.version))?;
    let certificate = read_pem(&given.signed_certificate.ok_or_else(|| GraphProblem::invalid("signedCertificate is required."))?)?;
    let tiers = given.trust_chain_certificates.unwrap_or_default();
    let chain = tiers.iter().filter_map(|tier| tier.certificate.as_deref()).map(read_pem).collect::<Result<Vec<_>>>()?.join("\n");
    let by = call.by();
    external::import_certificate(call.app, Import { name: known.name, certificate, chain }, &by.actor, &by.origin).await?;
    show(call).await
}

async fn leaves(call: Call<'_>) -> Result<Answer> {
    let authority = named(&call).await?;
    leaf_certificates::list_of(&call, Some(&authority.id)).await
}

async fn leaf(call: Call<'_>) -> Result<Answer> {
    let authority = named(&call).await?;
    leaf_certificates::show_one(&call, Some(&authority.id), ("id", call.key(1)?)).await
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LeafGiven {
    leaf_certificate_id: Option<String>,
    certificate_serial_number: Option<String>,
}

impl LeafGiven {
    fn id(self) -> Result<String> {
        self.leaf_certificate_id.ok_or_else(|| GraphProblem::invalid("leafCertificateId is required."))
    }

    /// As programs print it.
    fn serial(self) -> Result<String> {
        let text = self.certificate_serial_number.ok_or_else(|| GraphProblem::invalid("certificateSerialNumber is required."))?;
        crate::service::pki::revoke::read_serial(&text)
            .ok_or_else(|| GraphProblem::invalid("certificateSerialNumber has hexadecimal digits."))
    }
}

async fn revoke_found(call: &Call<'_>, by: (&str, &str)) -> Result<Answer> {
    let authority = named(call).await?;
    let found = leaf_certificates::find_one(call, Some(&authority.id), by).await?;
    let who = call.by();
    let id = &found.certificate.id;
    crate::service::pki::revoke::revoke(call.app, id, RevocationReason::Unspecified, &who.actor, &who.origin).await?;
    leaf_certificates::show_one(call, Some(&authority.id), ("id", id.as_str())).await
}

async fn revoke_leaf(call: Call<'_>) -> Result<Answer> {
    let id = call.request.json::<LeafGiven>()?.id()?;
    revoke_found(&call, ("id", &id)).await
}

async fn revoke_serial(call: Call<'_>) -> Result<Answer> {
    let serial = call.request.json::<LeafGiven>()?.serial()?;
    revoke_found(&call, ("serialNumber", &serial)).await
}

async fn search_serial(call: Call<'_>) -> Result<Answer> {
    let authority = named(&call).await?;
    let serial = call.request.json::<LeafGiven>()?.serial()?;
    leaf_certificates::show_one(&call, Some(&authority.id), ("serialNumber", &serial)).await
}
