//! SCEP challenges and transactions.

use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::Bool;

use super::dialect::delete_some;
use super::schema::{certificates, scep_challenges, scep_transactions};
use super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::domain::certificate::Grant;
use crate::domain::scep::{Challenge, State, Transaction};
use crate::ids::{AuthorityId, CertificateId, DeviceId, EnrollmentId, ProfileId, UserId};

/// Most identifiers in one statement.
const IDS: usize = 500;

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = scep_challenges)]
struct ChallengeRow {
    id: String,
    authority_id: String,
    profile_id: Option<String>,
    enrollment_id: Option<String>,
    device_id: Option<String>,
    user_id: Option<String>,
    grant_document: String,
    needs_approval: bool,
    expires_at: i64,
    consumed_at: Option<i64>,
    created_at: i64,
}

impl TryFrom<ChallengeRow> for Challenge {
    type Error = Error;

    fn try_from(row: ChallengeRow) -> Result<Self> {
        Ok(Self {
            id: row.id,
            authority_id: AuthorityId::from_store(row.authority_id),
            profile_id: row.profile_id.map(ProfileId::from_store),
            enrollment_id: row.enrollment_id.map(EnrollmentId::from_store),
            device_id: row.device_id.map(DeviceId::from_store),
            user_id: row.user_id.map(UserId::from_store),
            grant: serde_json::from_str(&row.grant_document)?,
            needs_approval: row.needs_approval,
            expires_at: Time(row.expires_at),
            consumed_at: row.consumed_at.map(Time),
        })
    }
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = scep_transactions)]
struct TransactionRow {
    authority_id: String,
    transaction_id: String,
    signer_hash: String,
    request_hash: String,
    challenge_id: Option<String>,
    state: String,
    request: Vec<u8>,
    grant_document: String,
    certificate_id: Option<String>,
    created_at: i64,
    decided_at: Option<i64>,
    decided_by: Option<String>,
    renews: Option<String>,
}

impl TryFrom<TransactionRow> for Transaction {
    type Error = Error;

    fn try_from(row: TransactionRow) -> Result<Self> {
        Ok(Self {
            authority_id: AuthorityId::from_store(row.authority_id),
            transaction_id: row.transaction_id,
            signer_hash: row.signer_hash,
            request_hash: row.request_hash,
            challenge_id: row.challenge_id,
            state: State::parse(&row.state).ok_or_else(|| Error::corrupt("scep_transactions.state"))?,
            request: row.request,
            grant: serde_json::from_str(&row.grant_document)?,
            certificate_id: row.certificate_id.map(CertificateId::from_store),
            created_at: Time(row.created_at),
            decided_at: row.decided_at.map(Time),
            decided_by: row.decided_by,
            renews: row.renews.map(CertificateId::from_store),
        })
    }
}

/// The state of transactions that wait, spelt out: with a bound value the indexes of those that wait would not be used.
fn waiting() -> SqlLiteral<Bool> {
    sql("scep_transactions.state = 'pending'")
}

/// Inserts a fresh challenge.
///
/// # Errors
/// [`Error::Conflict`] when the identifier is taken or the authority does not exist.
pub fn insert_challenge(tx: &mut Tx<'_>, challenge: &Challenge, now: Time) -> Result<()> {
    let text = |id: &str| id.to_owned();
    let row = ChallengeRow {
        id: challenge.id.clone(),
        authority_id: challenge.authority_id.to_string(),
        profile_id: challenge.profile_id.as_ref().map(|id| text(id.as_str())),
        enrollment_id: challenge.enrollment_id.as_ref().map(|id| text(id.as_str())),
        device_id: challenge.device_id.as_ref().map(|id| text(id.as_str())),
        user_id: challenge.user_id.as_ref().map(|id| text(id.as_str())),
        grant_document: serde_json::to_string(&challenge.grant)?,
        needs_approval: challenge.needs_approval,
        expires_at: challenge.expires_at.0,
        consumed_at: challenge.consumed_at.map(|at| at.0),
        created_at: now.0,
    };
    diesel::insert_into(scep_challenges::table).values(row).execute(tx.conn())?;
    Ok(())
}

/// The challenge, if it exists.
///
/// # Errors
/// Only the database's own.
pub fn find_challenge(conn: &mut Conn, id: &str) -> Result<Option<Challenge>> {
    let row = scep_challenges::table.find(id).select(ChallengeRow::as_select()).first(conn).optional()?;
    row.map(Challenge::try_from).transpose()
}

/// Uses a challenge up; false when somebody else did, or it is over.
///
/// # Errors
/// Only the database's own.
pub fn claim_challenge(tx: &mut Tx<'_>, id: &str, now: Time) -> Result<bool> {
    let open = scep_challenges::table
        .filter(scep_challenges::id.eq(id))
        .filter(scep_challenges::consumed_at.is_null())
        .filter(scep_challenges::expires_at.gt(now.0));
    Ok(diesel::update(open).set(scep_challenges::consumed_at.eq(now.0)).execute(tx.conn())? == 1)
}

/// Withdraws what a device may still ask for, or what one payload of a profile lets it ask for: unused challenges are removed, and
/// requests that wait are refused in the name of `by`. Says how many there were.
///
/// # Errors
/// Only the database's own.
pub fn withdraw(tx: &mut Tx<'_>, device: &DeviceId, payload: Option<(&ProfileId, &str)>, by: &str, now: Time) -> Result<usize> {
    let mut query = scep_challenges::table
        .filter(scep_challenges::device_id.eq(device.as_str()))
        .select((scep_challenges::id, scep_challenges::grant_document))
        .into_boxed();
    if let Some((profile, _)) = payload {
        query = query.filter(scep_challenges::profile_id.eq(profile.as_str()));
    }
    let mut ids = Vec::new();
    for (id, document) in query.load::<(String, String)>(tx.conn())? {
        let grant: Grant = serde_json::from_str(&document)?;
        if payload.is_none_or(|(_, name)| grant.payload.as_deref() == Some(name)) {
            ids.push(id);
        }
    }
    let mut withdrawn = 0;
    for ids in ids.chunks(IDS) {
        let open = scep_challenges::table.filter(scep_challenges::id.eq_any(ids)).filter(scep_challenges::consumed_at.is_null());
        withdrawn += diesel::delete(open).execute(tx.conn())?;
        let waiting = scep_transactions::table.filter(scep_transactions::challenge_id.eq_any(ids)).filter(waiting());
        withdrawn += diesel::update(waiting)
            .set((
                scep_transactions::state.eq(State::Refused.as_str()),
                scep_transactions::request.eq(Vec::new()),
                scep_transactions::decided_at.eq(now.0),
                scep_transactions::decided_by.eq(by),
            ))
            .execute(tx.conn())?;
    }
    Ok(withdrawn + refuse_renewals(tx, device, payload, by, now)?)
}

/// Refuses the requests that wait to renew a certificate of a device, or of one payload of a profile on it.
fn refuse_renewals(tx: &mut Tx<'_>, device: &DeviceId, payload: Option<(&ProfileId, &str)>, by: &str, now: Time) -> Result<usize> {
    let own = certificates::table.filter(certificates::device_id.eq(device.as_str())).select(certificates::id.nullable());
    let renewals = scep_transactions::table
        .filter(waiting())
        .filter(scep_transactions::renews.eq_any(own))
        .order((scep_transactions::authority_id, scep_transactions::transaction_id))
        .select(TransactionRow::as_select())
        .load(tx.conn())?;
    let mut refused = 0;
    for renewal in renewals {
        let renewal = Transaction::try_from(renewal)?;
        let grant = &renewal.grant;
        let meant =
            payload.is_none_or(|(profile, name)| grant.profile_id.as_ref() == Some(profile) && grant.payload.as_deref() == Some(name));
        refused += usize::from(meant && claim_decision(tx, &renewal, None, by, now)?);
    }
    Ok(refused)
}

/// Inserts a transaction; `replaces` says that there is one of that name that no longer answers for it.
///
/// # Errors
/// [`Error::Conflict`] when the name is taken.
pub fn insert_transaction(tx: &mut Tx<'_>, transaction: &Transaction, replaces: bool, now: Time) -> Result<()> {
    let old = if replaces { find_transaction(tx.conn(), &transaction.authority_id, &transaction.transaction_id)? } else { None };
    if old.is_some_and(|old| !old.is_live(now)) {
        let old = scep_transactions::table.find((transaction.authority_id.as_str(), transaction.transaction_id.as_str()));
        diesel::delete(old).execute(tx.conn())?;
    }
    let row = TransactionRow {
        authority_id: transaction.authority_id.to_string(),
        transaction_id: transaction.transaction_id.clone(),
        signer_hash: transaction.signer_hash.clone(),
        request_hash: transaction.request_hash.clone(),
        challenge_id: transaction.challenge_id.clone(),
        state: transaction.state.to_string(),
        request: transaction.request.clone(),
        grant_document: serde_json::to_string(&transaction.grant)?,
        certificate_id: transaction.certificate_id.as_ref().map(ToString::to_string),
        created_at: transaction.created_at.0,
        decided_at: transaction.decided_at.map(|at| at.0),
        decided_by: transaction.decided_by.clone(),
        renews: transaction.renews.as_ref().map(ToString::to_string),
    };
    diesel::insert_into(scep_transactions::table).values(row).execute(tx.conn())?;
    Ok(())
}

/// The transaction of that name, if it exists.
///
/// # Errors
/// Only the database's own.
pub fn find_transaction(conn: &mut Conn, authority: &AuthorityId, id: &str) -> Result<Option<Transaction>> {
    let row = scep_transactions::table.find((authority.as_str(), id)).select(TransactionRow::as_select()).first(conn).optional()?;
    row.map(Transaction::try_from).transpose()
}

/// The undecided transactions, oldest first.
///
/// # Errors
/// Only the database's own.
pub fn list_pending(conn: &mut Conn, limit: i64) -> Result<Vec<Transaction>> {
    let rows = scep_transactions::table
        .filter(waiting())
        .order((scep_transactions::created_at, scep_transactions::transaction_id))
        .limit(limit)
        .select(TransactionRow::as_select())
        .load(conn)?;
    rows.into_iter().map(Transaction::try_from).collect()
}

/// What the requests of a device ask for that wait for an administrator and that a payload of a profile lets it make.
///
/// # Errors
/// Only the database's own.
pub fn list_waiting_of(conn: &mut Conn, device: &DeviceId, profile: &ProfileId, payload: &str) -> Result<Vec<Grant>> {
    let documents: Vec<String> = scep_challenges::table
        .inner_join(scep_transactions::table.on(scep_transactions::challenge_id.eq(scep_challenges::id.nullable())))
        .filter(scep_challenges::device_id.eq(device.as_str()))
        .filter(scep_challenges::profile_id.eq(profile.as_str()))
        .filter(waiting())
        .select(scep_transactions::grant_document)
        .load(conn)?;
    let mut grants = Vec::new();
    for document in documents {
        let grant: Grant = serde_json::from_str(&document)?;
        if grant.payload.as_deref() == Some(payload) {
            grants.push(grant);
        }
    }
    Ok(grants)
}

/// How many requests wait to renew one of those certificates.
///
/// # Errors
/// Only the database's own.
pub fn count_renewals(conn: &mut Conn, renews: &[CertificateId]) -> Result<i64> {
    let ids: Vec<&str> = renews.iter().map(CertificateId::as_str).collect();
    let renewals = scep_transactions::table.filter(waiting()).filter(scep_transactions::renews.eq_any(ids));
    Ok(renewals.count().get_result(conn)?)
}

/// Takes hold of an undecided transaction until the end of the caller's transaction; false when it was decided before, or when another
/// request stands under that name now.
///
/// # Errors
/// Only the database's own.
pub fn lock_waiting(tx: &mut Tx<'_>, transaction: &Transaction) -> Result<bool> {
    let open = scep_transactions::table
        .find((transaction.authority_id.as_str(), &transaction.transaction_id))
        .filter(scep_transactions::request_hash.eq(&transaction.request_hash))
        .filter(waiting());
    Ok(diesel::update(open).set(scep_transactions::state.eq(State::Pending.as_str())).execute(tx.conn())? == 1)
}

/// Decides an undecided transaction: with a certificate it is issued, without it is refused. False when it was decided before, or when
/// another request stands under that name now.
///
/// # Errors
/// Only the database's own.
pub fn claim_decision(
    tx: &mut Tx<'_>,
    transaction: &Transaction,
    certificate: Option<&CertificateId>,
    by: &str,
    now: Time,
) -> Result<bool> {
    let state = if certificate.is_some() { State::Issued } else { State::Refused };
    let open = scep_transactions::table
        .filter(scep_transactions::authority_id.eq(transaction.authority_id.as_str()))
        .filter(scep_transactions::transaction_id.eq(&transaction.transaction_id))
        .filter(scep_transactions::request_hash.eq(&transaction.request_hash))
        .filter(waiting());
    let changed = diesel::update(open)
        .set((
            scep_transactions::state.eq(state.as_str()),
            scep_transactions::request.eq(Vec::new()),
            scep_transactions::certificate_id.eq(certificate.map(CertificateId::as_str)),
            scep_transactions::decided_at.eq(now.0),
            scep_transactions::decided_by.eq(by),
        ))
        .execute(tx.conn())?;
    Ok(changed == 1)
}

/// What a purge removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// How many rows.
    pub rows: usize,
    /// Authority and name of each request among them that nobody had decided on.
    pub undecided: Vec<(AuthorityId, String)>,
}

/// Removes challenges that ended and transactions that came before `before`, at most `limit` of each.
///
/// # Errors
/// Only the database's own.
pub fn purge(tx: &mut Tx<'_>, before: Time, limit: i64) -> Result<Purged> {
    let challenges = delete_some!(tx, scep_challenges, id: String, scep_challenges::expires_at.lt(before.0), limit);
    let keys: Vec<(String, String)> = scep_transactions::table
        .filter(scep_transactions::created_at.lt(before.0))
        .order((scep_transactions::authority_id, scep_transactions::transaction_id))
        .limit(limit)
        .select((scep_transactions::authority_id, scep_transactions::transaction_id))
        .load(tx.conn())?;
    let mut purged = Purged { rows: challenges + keys.len(), undecided: Vec::new() };
    for (authority, name) in keys {
        let row = || scep_transactions::table.find((&authority, &name));
        // As it is when it goes: somebody may decide at this moment.
        if diesel::delete(row().filter(waiting())).execute(tx.conn())? == 1 {
            purged.undecided.push((AuthorityId::from_store(authority), name));
        } else {
            diesel::delete(row()).execute(tx.conn())?;
        }
    }
    Ok(purged)
}

/// Removes all challenges; says how many there were. For a database that was restored.
///
/// # Errors
/// Only the database's own.
pub fn delete_challenges(tx: &mut Tx<'_>) -> Result<usize> {
    Ok(diesel::delete(scep_challenges::table).execute(tx.conn())?)
}
