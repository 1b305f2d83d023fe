//! Issued certificates.

pub mod leaf;
mod line;

use diesel::prelude::*;

pub use line::{has_held, is_barred, list_predecessors, list_successors, list_superseded, update_superseded, update_superseded_alike};

use super::schema::certificates;
use super::{Conn, Error, Result, Tx, authorities, ocsp_responses, schema};
use crate::clock::Time;
use crate::domain::Refusal;
use crate::domain::authority;
use crate::domain::certificate::{Certificate, CertificateStatus, Purpose, RevocationReason, San};
use crate::ids::{AuthorityId, CertificateId, DeviceId, ProfileId, UserId};

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = certificates)]
struct Row {
    id: String,
    authority_id: String,
    serial: String,
    sha1: String,
    sha256: String,
    subject: String,
    purpose: String,
    status: String,
    not_before: i64,
    not_after: i64,
    revoked_at: Option<i64>,
    revocation_reason: Option<i64>,
    device_id: Option<String>,
    user_id: Option<String>,
    enrollment_id: Option<String>,
    profile_id: Option<String>,
    superseded_by: Option<String>,
    grant_document: String,
    certificate: Vec<u8>,
    created_at: i64,
    names_hash: String,
}

impl TryFrom<Row> for Certificate {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            id: CertificateId::from_store(row.id),
            authority_id: AuthorityId::from_store(row.authority_id),
            serial: row.serial,
            sha1: row.sha1,
            sha256: row.sha256,
            subject: row.subject,
            status: status(&row.status)?,
            not_before: Time(row.not_before),
            not_after: Time(row.not_after),
            revoked_at: row.revoked_at.map(Time),
            revocation_reason: row.revocation_reason.and_then(RevocationReason::from_code),
            superseded_by: row.superseded_by.map(CertificateId::from_store),
            grant: serde_json::from_str(&row.grant_document)?,
            der: row.certificate,
            created_at: Time(row.created_at),
        })
    }
}

/// All names of a certificate, in one value that can be looked for: SHA-256 in hexadecimal over the subject and the set of alternative names,
/// whatever their order.
fn names_hash(subject: &str, sans: &[San]) -> String {
    let mut names: Vec<String> = sans
        .iter()
        .map(|san| match san {
            San::Dns(name) => format!("dns:{}", name.to_ascii_lowercase()),
            other => format!("{}:{}", other.kind(), other.text()),
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    let mut all = openssl::sha::Sha256::new();
    for name in std::iter::once(subject).chain(names.iter().map(String::as_str)) {
        all.update(&(name.len() as u64).to_be_bytes());
        all.update(name.as_bytes());
    }
    hex::encode(all.finish())
}

fn status(word: &str) -> Result<CertificateStatus> {
    CertificateStatus::parse(word).ok_or_else(|| Error::corrupt("certificates.status"))
}

/// Records an issued certificate. Commit it before the certificate leaves the process.
///
/// # Errors
/// [`Error::Conflict`] when the authority has the serial number already; [`Refusal::AuthorityNotActive`] when the certificate is not one
/// of our own and the authority was paused or revoked since it signed.
pub fn insert_certificate(tx: &mut Tx<'_>, certificate: &Certificate, now: Time) -> Result<()> {
    let grant = &certificate.grant;
    // Whoever signed went by a cache: another node may have paused or revoked the authority meanwhile.
    if !grant.purpose.is_ours() && !authorities::lock_active(tx, &certificate.authority_id)? {
        return Err(Refusal::AuthorityNotActive.into());
    }
    let row = Row {
        id: certificate.id.to_string(),
        authority_id: certificate.authority_id.to_string(),
        serial: certificate.serial.clone(),
        sha1: certificate.sha1.clone(),
        sha256: certificate.sha256.clone(),
        subject: certificate.subject.clone(),
        purpose: grant.purpose.to_string(),
        status: certificate.status.to_string(),
        not_before: certificate.not_before.0,
        not_after: certificate.not_after.0,
        revoked_at: certificate.revoked_at.map(|at| at.0),
        revocation_reason: certificate.revocation_reason.map(|reason| i64::from(reason.code())),
        device_id: grant.device_id.as_ref().map(ToString::to_string),
        user_id: grant.user_id.as_ref().map(ToString::to_string),
        enrollment_id: grant.enrollment_id.as_ref().map(ToString::to_string),
        profile_id: grant.profile_id.as_ref().map(ToString::to_string),
        superseded_by: certificate.superseded_by.as_ref().map(ToString::to_string),
        grant_document: serde_json::to_string(grant)?,
        certificate: certificate.der.clone(),
        created_at: now.0,
        names_hash: names_hash(&certificate.subject, &grant.sans),
    };
    diesel::insert_into(certificates::table).values(row).execute(tx.conn())?;
    Ok(())
}

/// Says whose device an identity is that was issued before its device was known.
///
/// # Errors
/// [`Error::NotFound`].
pub fn update_device(tx: &mut Tx<'_>, id: &CertificateId, device: &DeviceId) -> Result<()> {
    let mut grant = load_certificate(tx.conn(), id)?.grant;
    grant.device_id = Some(device.clone());
    let document = serde_json::to_string(&grant)?;
    let change = (certificates::device_id.eq(Some(device.to_string())), certificates::grant_document.eq(document));
    diesel::update(certificates::table.find(id.to_string())).set(change).execute(tx.conn())?;
    Ok(())
}

/// The certificate, which must exist.
///
/// # Errors
/// [`Error::NotFound`].
pub fn load_certificate(conn: &mut Conn, id: &CertificateId) -> Result<Certificate> {
    certificates::table.find(id.as_str()).select(Row::as_select()).first(conn)?.try_into()
}

/// The certificate of a serial number (lower-case hex) of an authority.
///
/// # Errors
/// Only the database's own.
pub fn find_certificate_by_serial(conn: &mut Conn, authority: &AuthorityId, serial: &str) -> Result<Option<Certificate>> {
    let row = certificates::table
        .filter(certificates::authority_id.eq(authority.as_str()))
        .filter(certificates::serial.eq(serial))
        .select(Row::as_select())
        .first(conn)
        .optional()?;
    row.map(Certificate::try_from).transpose()
}

/// The certificate of a SHA-256 thumbprint (lower-case hex).
///
/// # Errors
/// Only the database's own.
pub fn find_certificate_by_sha256(conn: &mut Conn, sha256: &str) -> Result<Option<Certificate>> {
    let row = certificates::table.filter(certificates::sha256.eq(sha256)).select(Row::as_select()).first(conn).optional()?;
    row.map(Certificate::try_from).transpose()
}

/// Whether a certificate was issued, and if so when and why it was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its state.
    pub status: CertificateStatus,
    /// When it was revoked or put on hold.
    pub revoked_at: Option<Time>,
    /// Why.
    pub reason: Option<RevocationReason>,
}

/// The row of a standing; its type depends on the database, hence no function.
macro_rules! standing_row {
    ($authority:expr, $serial:expr) => {
        certificates::table.filter(certificates::authority_id.eq($authority.as_str())).filter(certificates::serial.eq($serial)).select((
            certificates::status,
            certificates::revoked_at,
            certificates::revocation_reason,
        ))
    };
}

/// The standing of a serial number (lower-case hex): what OCSP needs, in one indexed read.
///
/// # Errors
/// Only the database's own.
pub fn find_standing(conn: &mut Conn, authority: &AuthorityId, serial: &str) -> Result<Option<Standing>> {
    standing(standing_row!(authority, serial).first(conn).optional()?)
}

/// [`find_standing`], and until the end of the transaction nobody changes it.
///
/// # Errors
/// Only the database's own.
pub fn lock_standing(tx: &mut Tx<'_>, authority: &AuthorityId, serial: &str) -> Result<Option<Standing>> {
    standing(match tx.conn() {
        Conn::Postgres(c) => standing_row!(authority, serial).for_share().first(c).optional()?,
        // On SQLite there is one transaction that writes at a time.
        Conn::Sqlite(c) => standing_row!(authority, serial).first(c).optional()?,
    })
}

fn standing(row: Option<(String, Option<i64>, Option<i64>)>) -> Result<Option<Standing>> {
    let Some((word, at, reason)) = row else { return Ok(None) };
    Ok(Some(Standing { status: status(&word)?, revoked_at: at.map(Time), reason: reason.and_then(RevocationReason::from_code) }))
}

/// What to look for; every field that is set must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Search {
    /// Issued by.
    pub authority: Option<AuthorityId>,
    /// Serial number, hex in any case.
    pub serial: Option<String>,
    /// Issued for this device.
    pub device: Option<DeviceId>,
    /// Issued for this user.
    pub user: Option<UserId>,
    /// In this state.
    pub status: Option<CertificateStatus>,
    /// With a subject (RFC 4514) that begins so.
    pub subject: Option<String>,
    /// After this identifier.
    pub after: Option<CertificateId>,
    /// Before this identifier.
    pub before: Option<CertificateId>,
    /// The newest first.
    pub newest_first: bool,
}

/// A page of certificates, oldest first unless the search says otherwise.
///
/// # Errors
/// Only the database's own.
pub fn list_certificates(conn: &mut Conn, search: &Search, limit: i64) -> Result<Vec<Certificate>> {
    let mut query = certificates::table.into_boxed();
    if let Some(authority) = &search.authority {
        query = query.filter(certificates::authority_id.eq(authority.to_string()));
    }
    if let Some(serial) = &search.serial {
        query = query.filter(certificates::serial.eq(serial.to_ascii_lowercase()));
    }
    if let Some(device) = &search.device {
        query = query.filter(certificates::device_id.eq(device.to_string()));
    }
    if let Some(user) = &search.user {
        query = query.filter(certificates::user_id.eq(user.to_string()));
    }
    if let Some(status) = search.status {
        query = query.filter(certificates::status.eq(status.as_str()));
    }
    if let Some(subject) = &search.subject {
        // Subjects are compared byte by byte in both databases: a range, which their index has.
        let end = format!("{subject}{}", char::MAX);
        query = query.filter(certificates::subject.ge(subject.clone())).filter(certificates::subject.lt(end));
    }
    if let Some(after) = &search.after {
        query = query.filter(certificates::id.gt(after.to_string()));
    }
    if let Some(before) = &search.before {
        query = query.filter(certificates::id.lt(before.to_string()));
    }
    query = if search.newest_first { query.order(certificates::id.desc()) } else { query.order(certificates::id.asc()) };
    let rows = query.limit(limit).select(Row::as_select()).load(conn)?;
    rows.into_iter().map(Certificate::try_from).collect()
}

/// Certificates that have not ended and are not revoked; every field that is set must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Issued for this device.
    pub device: Option<DeviceId>,
    /// Issued for this user.
    pub user: Option<UserId>,
    /// Asked for by this profile.
    pub profile: Option<ProfileId>,
    /// Whether it is the identity of an enrolment.
    pub identity: Option<bool>,
    /// With those on hold.
    pub held: bool,
    /// Without those that fell with their authority.
    pub standing: bool,
}

/// A page of live certificates after the one named, oldest first.
///
/// # Errors
/// Only the database's own.
pub fn list_live(conn: &mut Conn, live: &Live, after: Option<&CertificateId>, now: Time, limit: i64) -> Result<Vec<Certificate>> {
    let mut states = vec![CertificateStatus::Active.as_str()];
    if live.held {
        states.push(CertificateStatus::Held.as_str());
    }
    let mut query = certificates::table.filter(certificates::status.eq_any(states)).filter(certificates::not_after.gt(now.0)).into_boxed();
    if let Some(device) = &live.device {
        query = query.filter(certificates::device_id.eq(device.to_string()));
    }
    if let Some(user) = &live.user {
        query = query.filter(certificates::user_id.eq(user.to_string()));
    }
    if let Some(profile) = &live.profile {
        query = query.filter(certificates::profile_id.eq(profile.to_string()));
    }
    match live.identity {
        Some(true) => query = query.filter(certificates::purpose.eq(Purpose::MdmIdentity.as_str())),
        Some(false) => query = query.filter(certificates::purpose.ne(Purpose::MdmIdentity.as_str())),
        None => {}
    }
    if live.standing {
        let revoked = schema::authorities::status.eq(authority::Status::Revoked.as_str());
        let revoked = schema::authorities::table.filter(revoked).select(schema::authorities::id);
        query = query.filter(certificates::authority_id.ne_all(revoked));
    }
    if let Some(after) = after {
        query = query.filter(certificates::id.gt(after.to_string()));
    }
    let rows = query.order(certificates::id).limit(limit).select(Row::as_select()).load(conn)?;
    rows.into_iter().map(Certificate::try_from).collect()
}

/// The good certificates of a device, with those on hold, the newest first.
///
/// # Errors
/// Only the database's own.
pub fn list_newest(conn: &mut Conn, device: &DeviceId, now: Time, limit: i64) -> Result<Vec<Certificate>> {
    let rows = certificates::table
        .filter(certificates::device_id.eq(device.as_str()))
        .filter(certificates::status.eq_any([CertificateStatus::Active.as_str(), CertificateStatus::Held.as_str()]))
        .filter(certificates::not_after.gt(now.0))
        .order(certificates::id.desc())
        .limit(limit)
        .select(Row::as_select())
        .load(conn)?;
    rows.into_iter().map(Certificate::try_from).collect()
}

/// The good certificates for the same device, profile and subject, the oldest first; where there is no device, those with the same names,
/// subject and alternative names alike.
///
/// # Errors
/// Only the database's own.
pub fn list_alike(conn: &mut Conn, certificate: &Certificate, now: Time) -> Result<Vec<CertificateId>> {
    list_kind(conn, certificate, true, now)
}

/// The good certificates for the same device and profile, of any subject or of the same only; where there is no device, those with the same
/// names.
fn list_kind(conn: &mut Conn, certificate: &Certificate, same_subject: bool, now: Time) -> Result<Vec<CertificateId>> {
    let grant = &certificate.grant;
    let mut query = certificates::table
        .filter(certificates::status.eq(CertificateStatus::Active.as_str()))
        .filter(certificates::not_after.gt(now.0))
        .into_boxed();
    match &grant.device_id {
        Some(device) => {
            query = query.filter(certificates::device_id.eq(device.as_str()));
            if same_subject {
                query = query.filter(certificates::subject.eq(&certificate.subject));
            }
        }
        None => {
            let names = names_hash(&certificate.subject, &grant.sans);
            query = query.filter(certificates::device_id.is_null()).filter(certificates::names_hash.eq(names));
        }
    }
    match &grant.profile_id {
        Some(profile) => query = query.filter(certificates::profile_id.eq(profile.as_str())),
        None => query = query.filter(certificates::profile_id.is_null()),
    }
    let ids: Vec<String> = query.order(certificates::id).select(certificates::id).load(conn)?;
    Ok(ids.into_iter().map(CertificateId::from_store).collect())
}

/// Takes hold of a certificate that is to be renewed, with all of its device and profile in the order of their ids: until the transaction
/// ends nobody else revokes or renews them, and no two who renew wait for each other. `None` when it is not good any more.
///
/// # Errors
/// [`Error::NotFound`]; else only the database's own.
pub fn claim_renewal(tx: &mut Tx<'_>, id: &CertificateId, now: Time) -> Result<Option<Certificate>> {
    let certificate = load_certificate(tx.conn(), id)?;
    let active = CertificateStatus::Active.as_str();
    let mut good = false;
    for held in list_kind(tx.conn(), &certificate, false, now)? {
        let row = certificates::table.find(held.as_str()).filter(certificates::status.eq(active));
        let taken = diesel::update(row).set(certificates::status.eq(active)).execute(tx.conn())? == 1;
        good |= taken && held == *id;
    }
    Ok(good.then_some(certificate))
}

/// How many certificates of an authority are relied upon at `now`, but for those of our own.
///
/// # Errors
/// Only the database's own.
pub fn count_good(conn: &mut Conn, authority: &AuthorityId, now: Time) -> Result<i64> {
    let ours = Purpose::ALL.iter().filter(|purpose| purpose.is_ours()).map(|purpose| purpose.as_str());
    let good = certificates::table
        .filter(certificates::authority_id.eq(authority.as_str()))
        .filter(certificates::status.eq(CertificateStatus::Active.as_str()))
        .filter(certificates::not_after.gt(now.0))
        .filter(certificates::purpose.ne_all(ours));
    Ok(good.count().get_result(conn)?)
}

/// Serial number (hex), moment and reason code of each certificate of an authority that is revoked or on hold and had not ended at
/// `ended_before`: the entries of a CRL.
///
/// # Errors
/// Only the database's own.
pub fn list_revoked(conn: &mut Conn, authority: &AuthorityId, ended_before: Time) -> Result<Vec<(String, Time, u8)>> {
    let rows: Vec<(String, Option<i64>, Option<i64>)> = certificates::table
        .filter(certificates::authority_id.eq(authority.as_str()))
        .filter(certificates::revoked_at.is_not_null())
        .filter(certificates::not_after.ge(ended_before.0))
        .order((certificates::revoked_at, certificates::serial))
        .select((certificates::serial, certificates::revoked_at, certificates::revocation_reason))
        .load(conn)?;
    let entry = |(serial, at, reason): (String, Option<i64>, Option<i64>)| {
        (serial, Time(at.unwrap_or_default()), reason.and_then(|code| u8::try_from(code).ok()).unwrap_or_default())
    };
    Ok(rows.into_iter().map(entry).collect())
}

/// Revokes a certificate or puts it on hold; the CRL becomes due and what OCSP had signed about it is dropped, all in the caller's
/// transaction.
///
/// # Errors
/// [`Error::NotFound`]; [`Refusal::CertificateRevokedBefore`] when it is revoked, or is on hold and was to be put on hold.
pub fn update_revoked(tx: &mut Tx<'_>, id: &CertificateId, reason: RevocationReason, now: Time) -> Result<()> {
    let (status, mut from) = if reason == RevocationReason::CertificateHold {
        (CertificateStatus::Held, vec![])
    } else {
        (CertificateStatus::Revoked, vec![CertificateStatus::Held.as_str()])
    };
    from.push(CertificateStatus::Active.as_str());
    let told = tell_authority(tx, id, now)?;
    let changed = diesel::update(certificates::table.find(id.as_str()).filter(certificates::status.eq_any(from)))
        .set((
            certificates::status.eq(status.as_str()),
            certificates::revoked_at.eq(Some(now.0)),
            certificates::revocation_reason.eq(Some(i64::from(reason.code()))),
            // Known for ever, whoever releases it.
            (status == CertificateStatus::Held).then(|| certificates::last_held_at.eq(Some(now.0))),
        ))
        .execute(tx.conn())?;
    // A key that still waited for its device is not handed out any more.
    super::issued_keys::delete_key(tx, id)?;
    tell_ocsp(tx, &told, changed, Refusal::CertificateRevokedBefore)
}

/// Releases a certificate from hold.
///
/// # Errors
/// [`Error::NotFound`]; [`Refusal::CertificateNotHeld`].
pub fn update_released(tx: &mut Tx<'_>, id: &CertificateId, now: Time) -> Result<()> {
    let told = tell_authority(tx, id, now)?;
    let held = certificates::status.eq(CertificateStatus::Held.as_str());
    let changed = diesel::update(certificates::table.find(id.as_str()).filter(held))
        .set((
            certificates::status.eq(CertificateStatus::Active.as_str()),
            certificates::revoked_at.eq(None::<i64>),
            certificates::revocation_reason.eq(None::<i64>),
        ))
        .execute(tx.conn())?;
    tell_ocsp(tx, &told, changed, Refusal::CertificateNotHeld)
}

/// Lets the CRL follow a change of standing that comes next: the authority's row is taken before its certificates, so that no two who revoke
/// several wait for each other. Gives the authority and the serial number.
fn tell_authority(tx: &mut Tx<'_>, id: &CertificateId, now: Time) -> Result<(AuthorityId, String)> {
    let (authority, serial): (String, String) =
        certificates::table.find(id.as_str()).select((certificates::authority_id, certificates::serial)).first(tx.conn())?;
    let authority = AuthorityId::from_store(authority);
    authorities::update_crl_due(tx, &authority, now)?;
    Ok((authority, serial))
}

/// Lets OCSP follow a change of standing. After the change: whoever was keeping an answer has committed it by then.
fn tell_ocsp(tx: &mut Tx<'_>, (authority, serial): &(AuthorityId, String), changed: usize, otherwise: Refusal) -> Result<()> {
    if changed == 0 {
        return Err(otherwise.into());
    }
    ocsp_responses::purge_answers(tx, authority, serial).map(drop)
}
