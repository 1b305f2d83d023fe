//! Authorities and service keys.

use diesel::prelude::*;

use super::schema::{authorities, authority_requests, certificates as issued, service_keys};
use super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::domain::Refusal;
use crate::domain::authority::{KeyRecord, Kind, Pending, Record, Status};
use crate::domain::certificate::{CertificateStatus, KeyAlgorithm, Purpose};
use crate::ids::{AuthorityId, CertificateId};
use crate::wire::asn1::Reader;

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = authorities)]
struct Row {
    id: String,
    name: String,
    kind: String,
    status: String,
    parent_id: Option<String>,
    key_algorithm: String,
    certificate: Vec<u8>,
    sealed_key: Vec<u8>,
    crl_number: i64,
    crl_due_at: i64,
    not_before: i64,
    not_after: i64,
    created_at: i64,
    upper_chain: Vec<u8>,
    display_name: String,
    description: String,
    updated_at: i64,
    version: i64,
}

/// Certificates that were stored one behind the other.
fn certificates(bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut reader = Reader::new(bytes);
    let mut found = Vec::new();
    while !reader.is_empty() {
        found.push(reader.element().map_err(|_| Error::corrupt("authorities.upper_chain"))?.raw.to_vec());
    }
    Ok(found)
}

impl TryFrom<Row> for Record {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            id: AuthorityId::from_store(row.id),
            name: row.name,
            kind: Kind::parse(&row.kind).ok_or_else(|| Error::corrupt("authorities.kind"))?,
            status: Status::parse(&row.status).ok_or_else(|| Error::corrupt("authorities.status"))?,
            parent_id: row.parent_id.map(AuthorityId::from_store),
            key_algorithm: KeyAlgorithm::parse(&row.key_algorithm).ok_or_else(|| Error::corrupt("authorities.key_algorithm"))?,
            certificate: row.certificate,
            sealed_key: row.sealed_key,
            crl_number: row.crl_number,
            crl_due_at: Time(row.crl_due_at),
            not_before: Time(row.not_before),
            not_after: Time(row.not_after),
            created_at: Time(row.created_at),
            upper_chain: certificates(&row.upper_chain)?,
            display_name: row.display_name,
            description: row.description,
            updated_at: Time(row.updated_at),
            version: row.version,
        })
    }
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = authority_requests)]
struct PendingRow {
    id: String,
    name: String,
    common_name: String,
    key_algorithm: String,
    sealed_key: Vec<u8>,
    request: Vec<u8>,
    created_at: i64,
    display_name: String,
    description: String,
    updated_at: i64,
    version: i64,
}

impl TryFrom<PendingRow> for Pending {
    type Error = Error;

    fn try_from(row: PendingRow) -> Result<Self> {
        Ok(Self {
            id: AuthorityId::from_store(row.id),
            name: row.name,
            common_name: row.common_name,
            key_algorithm: KeyAlgorithm::parse(&row.key_algorithm).ok_or_else(|| Error::corrupt("authority_requests.key_algorithm"))?,
            sealed_key: row.sealed_key,
            request: row.request,
            created_at: Time(row.created_at),
            display_name: row.display_name,
            description: row.description,
            updated_at: Time(row.updated_at),
            version: row.version,
        })
    }
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = service_keys)]
struct KeyRow {
    id: String,
    authority_id: String,
    purpose: String,
    certificate: Vec<u8>,
    sealed_key: Vec<u8>,
    not_before: i64,
    not_after: i64,
    created_at: i64,
}

impl TryFrom<KeyRow> for KeyRecord {
    type Error = Error;

    fn try_from(row: KeyRow) -> Result<Self> {
        Ok(Self {
            id: CertificateId::from_store(row.id),
            authority_id: AuthorityId::from_store(row.authority_id),
            purpose: Purpose::parse(&row.purpose).ok_or_else(|| Error::corrupt("service_keys.purpose"))?,
            certificate: row.certificate,
            sealed_key: row.sealed_key,
            not_before: Time(row.not_before),
            not_after: Time(row.not_after),
            created_at: Time(row.created_at),
        })
    }
}

/// Inserts an authority.
///
/// # Errors
/// [`Refusal::AuthorityNameTaken`]; [`Refusal::AuthorityRequested`] when one of that name waits for its certificate.
pub fn insert_authority(tx: &mut Tx<'_>, record: &Record) -> Result<()> {
    if find_pending(tx.conn(), &record.name)?.is_some() {
        return Err(Refusal::AuthorityRequested.into());
    }
    let row = Row {
        id: record.id.to_string(),
        name: record.name.clone(),
        kind: record.kind.to_string(),
        status: record.status.to_string(),
        parent_id: record.parent_id.as_ref().map(ToString::to_string),
        key_algorithm: record.key_algorithm.to_string(),
        certificate: record.certificate.clone(),
        sealed_key: record.sealed_key.clone(),
        crl_number: record.crl_number,
        crl_due_at: record.crl_due_at.0,
        not_before: record.not_before.0,
        not_after: record.not_after.0,
        created_at: record.created_at.0,
        upper_chain: record.upper_chain.concat(),
        display_name: record.display_name.clone(),
        description: record.description.clone(),
        updated_at: record.updated_at.0,
        version: record.version,
    };
    diesel::insert_into(authorities::table).values(row).execute(tx.conn())?;
    Ok(())
}

/// Inserts an authority that waits for its certificate.
///
/// # Errors
/// [`Refusal::AuthorityNameTaken`]; [`Refusal::AuthorityRequested`] when one of that name waits already.
pub fn insert_pending(tx: &mut Tx<'_>, pending: &Pending) -> Result<()> {
    let used: i64 = authorities::table.filter(authorities::name.eq(&pending.name)).count().get_result(tx.conn())?;
    if used > 0 {
        return Err(Refusal::AuthorityNameTaken.into());
    }
    let row = PendingRow {
        id: pending.id.to_string(),
        name: pending.name.clone(),
        common_name: pending.common_name.clone(),
        key_algorithm: pending.key_algorithm.to_string(),
        sealed_key: pending.sealed_key.clone(),
        request: pending.request.clone(),
        created_at: pending.created_at.0,
        display_name: pending.display_name.clone(),
        description: pending.description.clone(),
        updated_at: pending.updated_at.0,
        version: pending.version,
    };
    diesel::insert_into(authority_requests::table).values(row).execute(tx.conn())?;
    Ok(())
}

/// The authority of that name that waits for its certificate.
///
/// # Errors
/// Only the database's own.
pub fn find_pending(conn: &mut Conn, name: &str) -> Result<Option<Pending>> {
    let row = authority_requests::table.filter(authority_requests::name.eq(name)).select(PendingRow::as_select()).first(conn).optional()?;
    row.map(Pending::try_from).transpose()
}

/// All authorities that wait for their certificate, oldest first.
///
/// # Errors
/// Only the database's own.
pub fn list_pending(conn: &mut Conn) -> Result<Vec<Pending>> {
    let rows = authority_requests::table
        .order((authority_requests::created_at, authority_requests::id))
        .select(PendingRow::as_select())
        .load(conn)?;
    rows.into_iter().map(Pending::try_from).collect()
}

/// Forgets that an authority waits; false when it did not.
///
/// # Errors
/// Only the database's own.
pub fn purge_pending(tx: &mut Tx<'_>, id: &AuthorityId) -> Result<bool> {
    Ok(diesel::delete(authority_requests::table.find(id.as_str())).execute(tx.conn())? == 1)
}

/// All authorities, oldest first.
///
/// # Errors
/// Only the database's own.
pub fn list_authorities(conn: &mut Conn) -> Result<Vec<Record>> {
    let rows = authorities::table.order((authorities::created_at, authorities::id)).select(Row::as_select()).load(conn)?;
    rows.into_iter().map(Record::try_from).collect()
}

/// Whether an authority issues; until the end of the transaction nobody changes that (see [`claim_status`]). Those who issue do not wait
/// for each other, nor for those who publish and revoke.
///
/// # Errors
/// [`Error::NotFound`]; else only the database's own.
pub fn lock_active(tx: &mut Tx<'_>, id: &AuthorityId) -> Result<bool> {
    let status: String = match tx.conn() {
        Conn::Postgres(c) => authorities::table.find(id.as_str()).select(authorities::status).for_key_share().first(c)?,
        // On SQLite there is one transaction that writes at a time.
        Conn::Sqlite(c) => authorities::table.find(id.as_str()).select(authorities::status).first(c)?,
    };
    Ok(status == Status::Active.as_str())
}

/// Changes the state of an authority, unless it is revoked, and says what it was before. Waits for those who are issuing: what they sign
/// is committed before, or refused.
///
/// # Errors
/// [`Error::NotFound`]; else only the database's own.
pub fn claim_status(tx: &mut Tx<'_>, id: &AuthorityId, to: Status, now: Time) -> Result<Status> {
    let found: String = match tx.conn() {
        // A plain update would let [`lock_active`] pass.
        Conn::Postgres(c) => authorities::table.find(id.as_str()).select(authorities::status).for_update().first(c)?,
        Conn::Sqlite(c) => authorities::table.find(id.as_str()).select(authorities::status).first(c)?,
    };
    let found = Status::parse(&found).ok_or_else(|| Error::corrupt("authorities.status"))?;
    if found != Status::Revoked && found != to {
        let change =
            (authorities::status.eq(to.as_str()), authorities::updated_at.eq(now.0), authorities::version.eq(authorities::version + 1));
        diesel::update(authorities::table.find(id.as_str())).set(change).execute(tx.conn())?;
    }
    Ok(found)
}

/// What an authority, or one that waits, is called, and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    /// By people.
    pub display_name: String,
    /// For people.
    pub description: String,
    /// How often it was changed.
    pub version: i64,
}

/// What an authority, or one that waits, is called.
///
/// # Errors
/// [`Error::NotFound`].
pub fn load_called(conn: &mut Conn, id: &AuthorityId) -> Result<Called> {
    macro_rules! read {
        ($table:ident) => {
            $table::table.find(id.as_str()).select(($table::display_name, $table::description, $table::version)).first(conn).optional()?
        };
    }
    let found: Option<(String, String, i64)> = read!(authorities);
    let found = if found.is_some() { found } else { read!(authority_requests) };
    let (display_name, description, version) = found.ok_or(Error::NotFound)?;
    Ok(Called { display_name, description, version })
}

/// Changes what an authority, or one that waits, is called, when it is still of that version; false when it is not, or is gone.
///
/// # Errors
/// Only the database's own.
pub fn claim_names(tx: &mut Tx<'_>, id: &AuthorityId, seen: i64, (display_name, description): (&str, &str), now: Time) -> Result<bool> {
    macro_rules! change {
        ($table:ident) => {
            diesel::update($table::table.find(id.as_str()).filter($table::version.eq(seen)))
                .set((
                    $table::display_name.eq(display_name),
                    $table::description.eq(description),
                    $table::updated_at.eq(now.0),
                    $table::version.eq(seen + 1),
                ))
                .execute(tx.conn())?
        };
    }
    Ok(change!(authorities) + change!(authority_requests) > 0)
}

/// Makes a CRL due at `at`, or, where it is due before, a little earlier still: the moment always changes, so that whoever is publishing
/// a list without the revocation sees that another one is due (see [`claim_crl_published`]).
///
/// # Errors
/// Only the database's own.
pub fn update_crl_due(tx: &mut Tx<'_>, id: &AuthorityId, at: Time) -> Result<()> {
    let sooner = diesel::update(authorities::table.find(id.as_str()).filter(authorities::crl_due_at.gt(at.0)))
        .set(authorities::crl_due_at.eq(at.0))
        .execute(tx.conn())?;
    if sooner == 0 {
        diesel::update(authorities::table.find(id.as_str()))
            .set(authorities::crl_due_at.eq(authorities::crl_due_at - 1))
            .execute(tx.conn())?;
    }
    Ok(())
}

/// The authorities whose CRL is due.
///
/// # Errors
/// Only the database's own.
pub fn list_crl_due(conn: &mut Conn, now: Time) -> Result<Vec<AuthorityId>> {
    let ids: Vec<String> = authorities::table.filter(authorities::crl_due_at.le(now.0)).select(authorities::id).load(conn)?;
    Ok(ids.into_iter().map(AuthorityId::from_store).collect())
}

/// Takes the next CRL number of an authority, for good, and lets the CRL be due again at `retry_at` should publishing fail. With
/// `only_due`, `None` when no CRL is due at that moment (another node has taken it).
///
/// # Errors
/// Only the database's own.
pub fn claim_crl_number(tx: &mut Tx<'_>, id: &AuthorityId, only_due: Option<Time>, retry_at: Time) -> Result<Option<i64>> {
    let due = only_due.map_or(i64::MAX, |now| now.0);
    let changed = diesel::update(authorities::table.find(id.as_str()).filter(authorities::crl_due_at.le(due)))
        .set((authorities::crl_number.eq(authorities::crl_number + 1), authorities::crl_due_at.eq(retry_at.0)))
        .execute(tx.conn())?;
    if changed == 0 {
        return Ok(None);
    }
    Ok(Some(authorities::table.find(id.as_str()).select(authorities::crl_number).first(tx.conn())?))
}

/// Lets the CRL numbers of all authorities go on at that one at least, and new lists be due at once.
///
/// # Errors
/// Only the database's own.
pub fn update_crl_numbers(tx: &mut Tx<'_>, least: i64) -> Result<()> {
    diesel::update(authorities::table.filter(authorities::crl_number.lt(least)))
        .set(authorities::crl_number.eq(least))
        .execute(tx.conn())?;
    diesel::update(authorities::table).set(authorities::crl_due_at.eq(0)).execute(tx.conn())?;
    Ok(())
}

/// After publishing the list of that number: the next one is due at `next`, unless since [`claim_crl_number`] a certificate was revoked
/// or another number was taken.
///
/// # Errors
/// Only the database's own.
pub fn claim_crl_published(tx: &mut Tx<'_>, id: &AuthorityId, number: i64, retry_at: Time, next: Time) -> Result<()> {
    let untouched = authorities::crl_due_at.eq(retry_at.0).and(authorities::crl_number.eq(number));
    diesel::update(authorities::table.find(id.as_str()).filter(untouched)).set(authorities::crl_due_at.eq(next.0)).execute(tx.conn())?;
    Ok(())
}

/// Inserts a service key.
///
/// # Errors
/// Only the database's own.
pub fn insert_service_key(tx: &mut Tx<'_>, record: &KeyRecord) -> Result<()> {
    let row = KeyRow {
        id: record.id.to_string(),
        authority_id: record.authority_id.to_string(),
        purpose: record.purpose.to_string(),
        certificate: record.certificate.clone(),
        sealed_key: record.sealed_key.clone(),
        not_before: record.not_before.0,
        not_after: record.not_after.0,
        created_at: record.created_at.0,
    };
    diesel::insert_into(service_keys::table).values(row).execute(tx.conn())?;
    Ok(())
}

/// The service keys that have not ended by `now` and whose certificates are good, newest first.
///
/// # Errors
/// Only the database's own.
pub fn list_service_keys(conn: &mut Conn, now: Time) -> Result<Vec<KeyRecord>> {
    let rows: Vec<KeyRow> = service_keys::table
        .filter(service_keys::not_after.gt(now.0))
        .order((service_keys::created_at.desc(), service_keys::id.desc()))
        .select(KeyRow::as_select())
        .load(conn)?;
    // In a second read, since the certificates are many and these are few.
    let good: Vec<String> = issued::table
        .filter(issued::id.eq_any(rows.iter().map(|row| row.id.as_str())))
        .filter(issued::status.eq(CertificateStatus::Active.as_str()))
        .select(issued::id)
        .load(conn)?;
    rows.into_iter().filter(|row| good.contains(&row.id)).map(KeyRecord::try_from).collect()
}

/// Deletes the service keys that ended before `before`; says how many.
///
/// # Errors
/// Only the database's own.
pub fn purge_service_keys(tx: &mut Tx<'_>, before: Time) -> Result<usize> {
    Ok(diesel::delete(service_keys::table.filter(service_keys::not_after.lt(before.0))).execute(tx.conn())?)
}
