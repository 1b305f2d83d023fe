//! Authorities: making a hierarchy, and its states.

use std::sync::Arc;

use openssl::sha::{sha1, sha256};
use openssl::x509::X509;
use serde_json::json;

use super::issue::{self, Subject};
use super::keys::{self, ServiceKey, SigningKey};
use super::service_key;
use crate::app::App;
use crate::clock::Time;
use crate::domain::Refusal;
use crate::domain::audit::Entry;
use crate::domain::authority::{KeyRecord, Kind, Record, Status, is_name};
use crate::domain::certificate::{AttributeType, Grant, KeyAlgorithm, Purpose, Rdn, RevocationReason};
use crate::ids::AuthorityId;
use crate::secret::Sealer;
use crate::service::directory::By;
use crate::service::{Error, Result};
use crate::store::sealed::{AUTHORITY_KEY, SERVICE_KEY};
use crate::store::{authorities, certificates};
use crate::wire::constraints::Constraints;
use crate::wire::x509::{NAME_CONSTRAINTS, Parts};

/// Names of the hierarchy that `init` makes.
pub const ROOT: &str = "root";
/// Name of its issuing authority.
pub const ISSUING: &str = "issuing";

/// An authority, ready for use: parsed once, kept in the cache.
#[derive(Debug)]
pub struct Authority {
    /// Identifier.
    pub id: AuthorityId,
    /// Name in addresses.
    pub name: String,
    /// Place in the hierarchy.
    pub kind: Kind,
    /// Whether it issues.
    pub status: Status,
    /// Who signed its certificate.
    pub parent_id: Option<AuthorityId>,
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// Its certificate and those above it, to the root, DER.
    pub chain: Vec<Vec<u8>>,
    /// Its name, DER, byte for byte as its certificate has it.
    pub subject: Vec<u8>,
    /// Its subject key identifier, as its certificate states it.
    pub key_identifier: Vec<u8>,
    /// First moment of validity.
    pub not_before: Time,
    /// Last moment of validity.
    pub not_after: Time,
    /// Its key.
    pub key: SigningKey,
    /// Its service certificates that have not ended, newest first.
    pub service_keys: Vec<Arc<ServiceKey>>,
    /// What it and those above it may certify.
    pub(super) constraints: Vec<Constraints>,
    pub(super) x509: X509,
    pub(super) name_hashes: ([u8; 20], [u8; 32]),
    pub(super) key_hashes: ([u8; 20], [u8; 32]),
    base: String,
}

impl Authority {
    /// Whether it issues certificates at that moment.
    #[must_use]
    pub fn issues(&self, now: Time) -> bool {
        self.status == Status::Active && now < self.not_after
    }

    pub(super) fn build(sealer: &Sealer, base: &str, record: &Record, keys: &[KeyRecord], chain: &[Vec<u8>]) -> Result<Self> {
        let key = SigningKey::open(sealer, AUTHORITY_KEY, &record.sealed_key, record.key_algorithm)?;
        let mut service_keys = Vec::with_capacity(keys.len());
        for row in keys {
            let algorithm = service_key::algorithm(row.purpose);
            service_keys.push(Arc::new(ServiceKey {
                purpose: row.purpose,
                certificate: row.certificate.clone(),
                key: SigningKey::open(sealer, SERVICE_KEY, &row.sealed_key, algorithm)?,
                not_before: row.not_before,
                not_after: row.not_after,
            }));
        }
        Self::assemble(record, key, service_keys, chain, base)
    }

    fn assemble(record: &Record, key: SigningKey, service_keys: Vec<Arc<ServiceKey>>, chain: &[Vec<u8>], base: &str) -> Result<Self> {
        let parts = Parts::parse(&record.certificate)?;
        let mut constraints = Vec::new();
        for tier in chain {
            if let Some(value) = Parts::parse(tier)?.extension(&NAME_CONSTRAINTS)? {
                constraints.push(Constraints::parse(value)?);
            }
        }
        Ok(Self {
            constraints,
            id: record.id.clone(),
            name: record.name.clone(),
            kind: record.kind,
            status: record.status,
            parent_id: record.parent_id.clone(),
            certificate: record.certificate.clone(),
            chain: chain.to_vec(),
            subject: parts.subject.to_vec(),
            key_identifier: parts.subject_key_identifier()?,
            not_before: record.not_before,
            not_after: record.not_after,
            key,
            service_keys,
            x509: X509::from_der(&record.certificate)?,
            name_hashes: (sha1(parts.subject), sha256(parts.subject)),
            key_hashes: (sha1(parts.key_bits), sha256(parts.key_bits)),
            base: base.to_owned(),
        })
    }

    /// The newest service certificate of this kind that is valid at `now`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when there is none.
    pub fn service_key(&self, purpose: Purpose, now: Time) -> Result<&Arc<ServiceKey>> {
        let found = self.service_keys.iter().find(|key| key.purpose == purpose && key.not_before <= now && now <= key.not_after);
        found.ok_or_else(|| Error::Unavailable(format!("authority {} has no {purpose} certificate", self.name)))
    }

    /// Where its CRL is.
    #[must_use]
    pub fn crl_url(&self) -> String {
        crl_url(&self.base, &self.name)
    }

    /// Where its certificate is.
    #[must_use]
    pub fn certificate_url(&self) -> String {
        certificate_url(&self.base, &self.name)
    }

    /// Where its OCSP responder is.
    #[must_use]
    pub fn ocsp_url(&self) -> String {
        ocsp_url(&self.base, &self.name)
    }

    /// Its subject for people.
    #[must_use]
    pub fn subject_text(&self) -> String {
        let attributes = self.x509.subject_name().entries().map(|entry| {
            let value = entry.data().to_string().unwrap_or_default();
            format!("{}={value}", entry.object().nid().short_name().unwrap_or("?"))
        });
        attributes.collect::<Vec<_>>().join(", ")
    }
}

/// Where the CRL of the authority of that name is, below the base of the pki face.
pub(super) fn crl_url(base: &str, name: &str) -> String {
    format!("{base}/crl/{name}.crl")
}

/// Where its certificate is.
pub(super) fn certificate_url(base: &str, name: &str) -> String {
    format!("{base}/aia/{name}.cer")
}

/// Where its OCSP responder is.
pub(super) fn ocsp_url(base: &str, name: &str) -> String {
    format!("{base}/ocsp/{name}")
}

/// A certificate as PEM text.
#[must_use]
pub fn pem(certificate: &[u8]) -> String {
    let text = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// All authorities, oldest first.
///
/// # Errors
/// When the store fails or a key does not open under the master key.
pub async fn list(app: &App) -> Result<Vec<Arc<Authority>>> {
    Ok(keys::load(app).await?.authorities.clone())
}

/// The authority of that id.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn by_id(app: &App, id: &AuthorityId) -> Result<Arc<Authority>> {
    let found = keys::load(app).await?.authorities.iter().find(|a| a.id == *id).map(Arc::clone);
    found.ok_or(Error::NotFound("authority"))
}

/// The authority of that name.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn by_name(app: &App, name: &str) -> Result<Arc<Authority>> {
    let found = keys::load(app).await?.authorities.iter().find(|a| a.name == name).map(Arc::clone);
    found.ok_or(Error::NotFound("authority"))
}

/// The authority that issues to devices: the oldest active issuing authority.
///
/// # Errors
/// [`Refusal::AuthorityNotActive`] when there is none.
pub async fn issuing(app: &App) -> Result<Arc<Authority>> {
    let (loaded, now) = (keys::load(app).await?, app.now());
    let found = loaded.authorities.iter().find(|a| a.kind == Kind::Issuing && a.issues(now));
    found.map(Arc::clone).ok_or(Error::Refused(Refusal::AuthorityNotActive))
}

/// The authority that devices are told of: [`issuing`], and while no authority issues the newest that is not revoked, one that has not ended
/// before one that has, so that devices are managed on; what needs a certificate waits ([`Authority::issues`]).
///
/// # Errors
/// [`Refusal::AuthorityNotActive`] when all are revoked.
pub async fn told_of(app: &App) -> Result<Arc<Authority>> {
    let (loaded, now) = (keys::load(app).await?, app.now());
    let all = || loaded.authorities.iter().filter(|a| a.kind == Kind::Issuing && matches!(a.status, Status::Active | Status::Paused));
    let newest = || all().rfind(|a| now < a.not_after).or_else(|| all().next_back());
    let found = all().find(|a| a.issues(now)).or_else(newest);
    found.map(Arc::clone).ok_or(Error::Refused(Refusal::AuthorityNotActive))
}

/// The root of the authority that issues to devices, DER: what devices must trust.
///
/// # Errors
/// As [`issuing`].
pub async fn root_certificate(app: &App) -> Result<Vec<u8>> {
    issuing(app).await?.chain.last().cloned().ok_or(Error::NotFound("authority"))
}

/// An authority to be made.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NewAuthority {
    /// Name in addresses.
    pub name: String,
    /// Common name of its certificate.
    pub common_name: String,
    /// Who signs it; `None` makes a root.
    pub parent: Option<String>,
    /// Its key.
    pub key_algorithm: KeyAlgorithm,
    /// Its life, in days; ends no later than its parent's.
    pub days: u32,
}

/// What else an authority is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    /// By people.
    pub display_name: String,
    /// For people.
    pub description: String,
    /// Further attributes of its certificate's subject; without an organisation that of the configuration is there.
    pub attributes: Vec<Rdn>,
}

impl Called {
    /// As its name says, and nothing else.
    #[must_use]
    pub fn by(name: &str) -> Self {
        Self { display_name: name.to_owned(), description: String::new(), attributes: Vec::new() }
    }

    /// The subject, from the country down to the common name.
    pub(super) fn subject(&self, organisation: &str, common_name: &str) -> Vec<Rdn> {
        use AttributeType::{CommonName, Country, Locality, Organization, OrganizationalUnit, State};
        let mut subject = self.attributes.clone();
        let kind = |rdn: &Rdn| rdn.0.first().map(|attribute| attribute.kind);
        if !subject.iter().any(|rdn| kind(rdn) == Some(Organization)) {
            subject.push(Rdn::new(Organization, organisation));
        }
        subject.push(Rdn::new(CommonName, common_name));
        let order = [Country, State, Locality, Organization, OrganizationalUnit, CommonName];
        subject.sort_by_key(|rdn| order.iter().position(|known| kind(rdn) == Some(*known)));
        subject
    }
}

/// Makes an authority with a key of its own, its service certificates and its first CRL.
///
/// # Errors
/// [`Refusal::AuthorityNameInvalid`], [`Refusal::CertificateNameInvalid`], [`Refusal::AuthorityNotActive`] (the parent issues nothing),
/// [`Error::NotFound`] (no such parent), [`Refusal::AuthorityNameTaken`].
pub async fn create(app: &App, new: &NewAuthority, actor: &str, origin: &str) -> Result<Arc<Authority>> {
    create_called(app, new, Called::by(&new.name), actor, origin).await
}

/// [`create`], with what else it is called.
///
/// # Errors
/// As [`create`].
pub async fn create_called(app: &App, new: &NewAuthority, called: Called, actor: &str, origin: &str) -> Result<Arc<Authority>> {
    if !is_name(&new.name) {
        return Err(Refusal::AuthorityNameInvalid.into());
    }
    let parent = match &new.parent {
        Some(name) => Some(by_name(app, name).await?),
        None => None,
    };
    if parent.as_ref().is_some_and(|p| p.status != Status::Active || p.kind != Kind::Root) {
        return Err(Refusal::AuthorityNotActive.into());
    }
    let subject = called.subject(&app.config.organisation, &new.common_name);
    let grant = Grant {
        subject,
        extended_key_usages: Vec::new(),
        key_usages: Vec::new(),
        ..Grant::client(Purpose::Authority, &new.common_name, new.days)
    };
    grant.check()?;
    let (algorithm, now, sealer, id) = (new.key_algorithm, app.now(), app.sealer(), AuthorityId::new());
    let (id_signed, parent_signing) = (id.clone(), parent.clone());
    let (certificate, sealed_key) = tokio::task::spawn_blocking(move || -> Result<_> {
        let key = SigningKey::generate(algorithm)?;
        let issued = match &parent_signing {
            Some(parent) => issue::sign(parent, &grant, &key.spki()?, Subject::Authority, now)?,
            None => issue::sign_root(&id_signed, &key, &grant, now)?,
        };
        Ok((issued.certificate, key.seal(&sealer, AUTHORITY_KEY)?))
    })
    .await
    .map_err(Error::internal)??;
    let record = Record {
        id,
        name: new.name.clone(),
        kind: if parent.is_some() { Kind::Issuing } else { Kind::Root },
        status: Status::Active,
        parent_id: parent.as_ref().map(|p| p.id.clone()),
        key_algorithm: algorithm,
        certificate: certificate.der.clone(),
        sealed_key,
        crl_number: 0,
        crl_due_at: now,
        not_before: certificate.not_before,
        not_after: certificate.not_after,
        created_at: now,
        upper_chain: Vec::new(),
        display_name: called.display_name,
        description: called.description,
        updated_at: now,
        version: 1,
    };
    let audit = Entry::new(actor, "authority.create", format!("authority:{}", record.id), origin).after(&json!({
        "name": record.name, "kind": record.kind, "subject": certificate.subject, "serial": certificate.serial,
        "keyAlgorithm": record.key_algorithm, "notAfter": record.not_after.to_string(), "parent": new.parent,
    }));
    let stored = record.clone();
    app.store
        .write(move |tx| {
            authorities::insert_authority(tx, &stored)?;
            certificates::insert_certificate(tx, &certificate, now)?;
            crate::store::audit::append(tx, &audit, now)
        })
        .await?;
    app.keys.invalidate();
    service_key::renew(app).await?;
    super::crl::publish(app, &record.id).await?;
    by_id(app, &record.id).await
}

/// Makes the root and the issuing authority that the configuration describes; what is there already stays as it is.
///
/// # Errors
/// As [`create`]; [`Error::Conflict`] when the configured key algorithm does not exist.
pub async fn create_hierarchy(app: &App, actor: &str, origin: &str) -> Result<()> {
    let ca = &app.config.ca;
    let key_algorithm = KeyAlgorithm::parse(&ca.key_algorithm)
        .ok_or_else(|| Error::Conflict("ca.key_algorithm must be rsa-2048, rsa-3072, rsa-4096, p-256 or p-384".into()))?;
    let organisation = &app.config.organisation;
    let wanted = [
        (ROOT, format!("{organisation} Root CA"), None, ca.root_days),
        (ISSUING, format!("{organisation} Issuing CA"), Some(ROOT.to_owned()), ca.issuing_days),
    ];
    for (name, common_name, parent, days) in wanted {
        match by_name(app, name).await {
            Ok(_) => {}
            Err(Error::NotFound(_)) => {
                // The name is shortened to what a certificate may hold.
                let common_name = common_name.chars().rev().take(64).collect::<Vec<_>>().into_iter().rev().collect();
                let new = NewAuthority { name: name.into(), common_name, parent, key_algorithm, days };
                match create(app, &new, actor, origin).await {
                    // Another node that starts at the same time came first.
                    Err(Error::Refused(Refusal::AuthorityNameTaken)) => {
                        app.keys.invalidate();
                        by_name(app, name).await?;
                    }
                    created => drop(created?),
                }
            }
            Err(other) => return Err(other),
        }
    }
    service_key::renew(app).await
}

/// Pauses or activates an authority. CRL, OCSP and downloads go on.
///
/// # Errors
/// [`Error::NotFound`]; [`Refusal::AuthorityNotActive`] when it is revoked.
pub async fn set_paused(app: &App, name: &str, paused: bool, actor: &str, origin: &str) -> Result<()> {
    let authority = by_name(app, name).await?;
    let to = if paused { Status::Paused } else { Status::Active };
    let action = if paused { "authority.pause" } else { "authority.activate" };
    let audit = Entry::new(actor, action, format!("authority:{}", authority.id), origin);
    let (id, now) = (authority.id.clone(), app.now());
    // By the row, not by what is remembered here: another node may have changed it a moment ago.
    let changed = app
        .store
        .write(move |tx| match authorities::claim_status(tx, &id, to, now)? {
            Status::Revoked => Err(Refusal::AuthorityNotActive.into()),
            before if before == to => Ok(()),
            _ => crate::store::audit::append(tx, &audit, now),
        })
        .await;
    app.keys.invalidate();
    Ok(changed?)
}

/// How many good certificates of others fall with an authority.
///
/// # Errors
/// When the store fails.
pub async fn count_good(app: &App, authority: &Authority) -> Result<i64> {
    let (id, now) = (authority.id.clone(), app.now());
    Ok(app.store.read(move |c| certificates::count_good(c, &id, now)).await?)
}

/// Revokes an authority whose fall was confirmed, and says how many good certificates fall with it.
///
/// # Errors
/// [`Refusal::AuthorityRevocationUnconfirmed`] when it is for good and was not confirmed; as [`revoke`].
pub async fn revoke_confirmed(app: &App, found: &Authority, reason: RevocationReason, confirmed: bool, by: &By) -> Result<i64> {
    let good = count_good(app, found).await?;
    let for_good = found.kind != Kind::Root && reason != RevocationReason::CertificateHold;
    if for_good && !confirmed {
        let what = format!("good certificates of {} that fall with it: {good}", found.name);
        return Err(Error::Invalid(Refusal::AuthorityRevocationUnconfirmed, what));
    }
    revoke(app, &found.name, reason, &by.actor, &by.origin).await?;
    Ok(good)
}

/// Revokes an issuing authority: it issues nothing any more, its parent's CRL names it, and devices with identities of it are refused.
/// Where the parent is an outside authority, its CRL is not ours: ask there, too.
///
/// # Errors
/// [`Error::NotFound`]; [`Refusal::AuthorityIsAnchor`] for a root, which nobody can revoke; [`Refusal::AuthorityNotHeld`];
/// [`Refusal::CertificateRevokedBefore`].
pub async fn revoke(app: &App, name: &str, reason: RevocationReason, actor: &str, origin: &str) -> Result<()> {
    let authority = by_name(app, name).await?;
    if authority.kind == Kind::Root {
        return Err(Refusal::AuthorityIsAnchor.into());
    }
    if reason == RevocationReason::CertificateHold {
        return Err(Refusal::AuthorityNotHeld.into());
    }
    let sha256 = hex::encode(sha256(&authority.certificate));
    let audit = Entry::new(actor, "authority.revoke", format!("authority:{}", authority.id), origin).after(&json!({ "reason": reason }));
    let (id, now) = (authority.id.clone(), app.now());
    app.store
        .write(move |tx| {
            // Authorities before certificates, as all take them.
            authorities::claim_status(tx, &id, Status::Revoked, now)?;
            if let Some(row) = certificates::find_certificate_by_sha256(tx.conn(), &sha256)? {
                certificates::update_revoked(tx, &row.id, reason, now)?;
            }
            super::fallen::enqueue_judging(tx, &id, now)?;
            crate::store::audit::append(tx, &audit, now)
        })
        .await?;
    app.keys.invalidate();
    app.outbox.notify_waiters();
    match &authority.parent_id {
        Some(parent) => super::crl::publish(app, parent).await,
        None => Ok(()),
    }
}
