//! Authorities as the API shows them: those that work, and those that wait for a certificate from outside.

use openssl::nid::Nid;
use openssl::sha::sha1;
use openssl::x509::{X509, X509Req};
use serde_json::json;

use super::authority::{self, certificate_url, crl_url, ocsp_url};
use super::external;
use crate::app::App;
use crate::clock::{DAY, Time};
use crate::domain::Refusal;
use crate::domain::authority::{Kind, Pending, Record, Status};
use crate::domain::certificate::{KeyAlgorithm, RevocationReason};
use crate::ids::AuthorityId;
use crate::service::directory::{By, check_name};
use crate::service::{Error, Result};
use crate::store::{self, audit, authorities};
use crate::wire::x509::Parts;

/// Longest description.
const LONGEST_DESCRIPTION: usize = 1024;

/// What an authority is allowed to be and under whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A root.
    Root,
    /// Below a root of ours.
    Issuing,
    /// Below somebody else's root.
    External,
}

/// The certificate of an authority, as far as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// Its SHA-1, hexadecimal.
    pub thumbprint: String,
    /// First moment.
    pub not_before: Time,
    /// Last moment.
    pub not_after: Time,
    /// Its life in years.
    pub years: i64,
    /// Common name of who signed it.
    pub issuer_common_name: Option<String>,
    /// Common name of the root above it.
    pub root_common_name: Option<String>,
    /// Its subject, for people.
    pub subject: String,
    /// Parts of the subject.
    pub names: Names,
    /// Where it can be fetched.
    pub download_url: String,
    /// Where the certificate of who signed it can be fetched, when that is one of ours.
    pub issuer_url: Option<String>,
    /// Where its revocation list is.
    pub crl_url: String,
    /// Where its OCSP responder is.
    pub ocsp_url: String,
    /// Where devices ask it for certificates; a root is not asked.
    pub scep_url: Option<String>,
}

/// Parts of a subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// CN.
    pub common_name: Option<String>,
    /// C.
    pub country: Option<String>,
    /// L.
    pub locality: Option<String>,
    /// O.
    pub organization: Option<String>,
    /// OU.
    pub unit: Option<String>,
    /// ST.
    pub state: Option<String>,
}

/// An authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudAuthority {
    /// Identifier.
    pub id: AuthorityId,
    /// Name in addresses.
    pub name: String,
    /// What people call it.
    pub display_name: String,
    /// For people.
    pub description: String,
    /// Where it stands.
    pub place: Place,
    /// Whether it issues; `None` while it waits for its certificate.
    pub status: Option<Status>,
    /// The authority of ours that signed it.
    pub parent_id: Option<AuthorityId>,
    /// Its key.
    pub key_algorithm: KeyAlgorithm,
    /// Common name that was asked for, while it waits.
    pub common_name: Option<String>,
    /// The request for its certificate, PEM, while it waits.
    pub request: Option<String>,
    /// Its certificate.
    pub certificate: Option<Shown>,
    /// When it was made.
    pub created_at: Time,
    /// When it was changed last.
    pub updated_at: Time,
    /// How often it was changed.
    pub version: i64,
}

fn names(certificate: &X509) -> Names {
    let part = |kind: Nid| certificate.subject_name().entries_by_nid(kind).next().and_then(|entry| entry.data().to_string().ok());
    Names {
        common_name: part(Nid::COMMONNAME),
        country: part(Nid::COUNTRYNAME),
        locality: part(Nid::LOCALITYNAME),
        organization: part(Nid::ORGANIZATIONNAME),
        unit: part(Nid::ORGANIZATIONALUNITNAME),
        state: part(Nid::STATEORPROVINCENAME),
    }
}

fn common_name(name: &openssl::x509::X509NameRef) -> Option<String> {
    name.entries_by_nid(Nid::COMMONNAME).next().and_then(|entry| entry.data().to_string().ok())
}

fn of_record(app: &App, record: &Record, all: &[Record]) -> Result<CloudAuthority> {
    let certificate = X509::from_der(&record.certificate)?;
    let parts = Parts::parse(&record.certificate)?;
    let parent = record.parent_id.as_ref().and_then(|id| all.iter().find(|other| other.id == *id));
    let root = match (parent, record.upper_chain.last()) {
        (Some(parent), _) => X509::from_der(&parent.certificate)?,
        (None, Some(root)) => X509::from_der(root)?,
        (None, None) => certificate.clone(),
    };
    let text = certificate.subject_name().entries().map(|entry| {
        let value = entry.data().to_string().unwrap_or_default();
        format!("{}={value}", entry.object().nid().short_name().unwrap_or("?"))
    });
    let (pki, life) = (app.config.pki_url(), record.not_after.since(record.not_before));
    let shown = Shown {
        serial: hex::encode(parts.serial),
        thumbprint: hex::encode_upper(sha1(&record.certificate)),
        not_before: record.not_before,
        not_after: record.not_after,
        years: (life + 182 * DAY).div_euclid(365 * DAY),
        issuer_common_name: common_name(certificate.issuer_name()),
        root_common_name: common_name(root.subject_name()),
        subject: text.collect::<Vec<_>>().join(", "),
        names: names(&certificate),
        download_url: certificate_url(&pki, &record.name),
        issuer_url: parent.map(|parent| certificate_url(&pki, &parent.name)),
        crl_url: crl_url(&pki, &record.name),
        ocsp_url: ocsp_url(&pki, &record.name),
        scep_url: (record.kind == Kind::Issuing).then(|| format!("{}/scep/{}", app.config.web_url(), record.name)),
    };
    let place = match (record.kind, &record.parent_id) {
        (Kind::Root, _) => Place::Root,
        (Kind::Issuing, Some(_)) => Place::Issuing,
        (Kind::Issuing, None) => Place::External,
    };
    Ok(CloudAuthority {
        id: record.id.clone(),
        name: record.name.clone(),
        display_name: record.display_name.clone(),
        description: record.description.clone(),
        place,
        status: Some(record.status),
        parent_id: record.parent_id.clone(),
        key_algorithm: record.key_algorithm,
        common_name: None,
        request: None,
        certificate: Some(shown),
        created_at: record.created_at,
        updated_at: record.updated_at,
        version: record.version,
    })
}

fn of_pending(pending: &Pending) -> Result<CloudAuthority> {
    Ok(CloudAuthority {
        id: pending.id.clone(),
        name: pending.name.clone(),
        display_name: pending.display_name.clone(),
        description: pending.description.clone(),
        place: Place::External,
        status: None,
        parent_id: None,
        key_algorithm: pending.key_algorithm,
        common_name: Some(pending.common_name.clone()),
        request: Some(String::from_utf8(X509Req::from_der(&pending.request)?.to_pem()?).map_err(Error::internal)?),
        certificate: None,
        created_at: pending.created_at,
        updated_at: pending.updated_at,
        version: pending.version,
    })
}

/// All authorities, oldest first, and those that wait.
///
/// # Errors
/// When the store fails.
pub async fn list(app: &App) -> Result<Vec<CloudAuthority>> {
    let (records, waiting) = app.store.read(|c| Ok((authorities::list_authorities(c)?, authorities::list_pending(c)?))).await?;
    let shown = records.iter().map(|record| of_record(app, record, &records));
    shown.chain(waiting.iter().map(of_pending)).collect()
}

/// One of them.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn find(app: &App, id: &str) -> Result<CloudAuthority> {
    let id = AuthorityId::parse(id).ok_or(Error::NotFound("authority"))?;
    list(app).await?.into_iter().find(|authority| authority.id == id).ok_or(Error::NotFound("authority"))
}

/// Checks what people call an authority.
///
/// # Errors
/// [`Refusal::NameInvalid`].
pub fn check_names(display_name: Option<&str>, description: Option<&str>) -> Result<()> {
    if let Some(name) = display_name {
        check_name(name)?;
    }
    match description.filter(|text| text.chars().count() > LONGEST_DESCRIPTION) {
        Some(text) => Err(Error::Invalid(Refusal::NameInvalid, text.chars().take(64).collect())),
        None => Ok(()),
    }
}

/// Lets an authority issue, pauses it, or revokes it.
///
/// # Errors
/// [`Refusal::AuthorityRequested`] while it waits for its certificate; those of [`authority::set_paused`] and [`authority::revoke`].
pub async fn set_status(app: &App, known: &CloudAuthority, to: Status, by: &By) -> Result<()> {
    if known.status.is_none() {
        return Err(Refusal::AuthorityRequested.into());
    }
    match to {
        Status::Active | Status::Paused => authority::set_paused(app, &known.name, to == Status::Paused, &by.actor, &by.origin).await,
        Status::Revoked => authority::revoke(app, &known.name, RevocationReason::Unspecified, &by.actor, &by.origin).await,
    }
}

/// Discards an authority that waits for its certificate, with its key.
///
/// # Errors
/// [`Refusal::AuthorityKept`] for any other.
pub async fn delete(app: &App, known: &CloudAuthority, by: &By) -> Result<()> {
    if known.status.is_some() {
        return Err(Refusal::AuthorityKept.into());
    }
    external::discard(app, &known.name, &by.actor, &by.origin).await
}

/// Says what people call an authority. `seen` is the version that the caller saw, when that matters.
///
/// # Errors
/// [`Refusal::NameInvalid`]; [`Error::NotFound`]; `false` when it is of another version by now.
pub async fn rename(
    app: &App,
    id: &AuthorityId,
    (display_name, description): (Option<&str>, Option<&str>),
    seen: Option<i64>,
    by: &By,
) -> Result<bool> {
    check_names(display_name, description)?;
    let (id, by, now) = (id.clone(), by.clone(), app.now());
    let given = (display_name.map(str::to_owned), description.map(str::to_owned));
    let changed = app.store.write(move |tx| {
        let known = authorities::load_called(tx.conn(), &id)?;
        if seen.is_some_and(|seen| seen != known.version) {
            return Ok(false);
        }
        let name = given.0.as_ref().unwrap_or(&known.display_name);
        let text = given.1.as_ref().unwrap_or(&known.description);
        // Somebody else may have changed it since it was read: then it is read again.
        if !authorities::claim_names(tx, &id, known.version, (name, text), now)? {
            return Err(store::Error::Busy);
        }
        let entry = by.entry("authority.change", format!("authority:{id}"));
        let entry = entry
            .before(&json!({ "displayName": known.display_name, "description": known.description }))
            .after(&json!({ "displayName": name, "description": text }));
        audit::append(tx, &entry, now)?;
        Ok(true)
    });
    Ok(changed.await?)
}
