//! Enrolments, and the one read that a management session starts with.

pub mod managed;
mod wake;

use std::collections::BTreeSet;

use diesel::backend::Backend;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::serialize::ToSql;
use diesel::sql_types::{BigInt, HasSqlType, Nullable, Text};

use super::schema::{certificates, commands, enrollments};
use super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::domain::Refusal;
use crate::domain::authority;
use crate::domain::command;
use crate::domain::device::Platform;
use crate::domain::enrollment::{Enrollment, Kind, State};
use crate::ids::{AuthorityId, CertificateId, DeviceId, EnrollmentId, UserId};

pub use wake::{ToWake, list_to_wake, list_waiting};

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = enrollments)]
struct Row {
    id: String,
    device_id: String,
    platform: String,
    kind: String,
    state: String,
    mdm_id: String,
    provider_id: Option<String>,
    user_id: Option<String>,
    context: String,
    channel_uri: Option<String>,
    certificate_id: Option<String>,
    work_at: Option<i64>,
    waiting_since: Option<i64>,
    last_seen_at: Option<i64>,
    enrolled_at: i64,
    ended_at: Option<i64>,
    version: i64,
}

impl Row {
    fn of(enrollment: &Enrollment) -> Self {
        Self {
            id: enrollment.id.to_string(),
            device_id: enrollment.device_id.to_string(),
            platform: enrollment.platform.to_string(),
            kind: enrollment.kind.to_string(),
            state: enrollment.state.to_string(),
            mdm_id: enrollment.mdm_id.clone(),
            provider_id: enrollment.provider_id.clone(),
            user_id: enrollment.user_id.as_ref().map(UserId::to_string),
            context: enrollment.context.clone(),
            channel_uri: enrollment.channel_uri.clone(),
            certificate_id: enrollment.certificate_id.as_ref().map(CertificateId::to_string),
            work_at: enrollment.work_at.map(|t| t.0),
            waiting_since: enrollment.waiting_since.map(|t| t.0),
            last_seen_at: enrollment.last_seen_at.map(|t| t.0),
            enrolled_at: enrollment.enrolled_at.0,
            ended_at: enrollment.ended_at.map(|t| t.0),
            version: enrollment.version,
        }
    }
}

impl TryFrom<Row> for Enrollment {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            id: EnrollmentId::from_store(row.id),
            device_id: DeviceId::from_store(row.device_id),
            platform: Platform::parse(&row.platform).ok_or_else(|| Error::corrupt("enrollments.platform"))?,
            kind: Kind::parse(&row.kind).ok_or_else(|| Error::corrupt("enrollments.kind"))?,
            state: State::parse(&row.state).ok_or_else(|| Error::corrupt("enrollments.state"))?,
            mdm_id: row.mdm_id,
            provider_id: row.provider_id,
            user_id: row.user_id.map(UserId::from_store),
            context: row.context,
            channel_uri: row.channel_uri,
            certificate_id: row.certificate_id.map(CertificateId::from_store),
            work_at: row.work_at.map(Time),
            waiting_since: row.waiting_since.map(Time),
            last_seen_at: row.last_seen_at.map(Time),
            enrolled_at: Time(row.enrolled_at),
            ended_at: row.ended_at.map(Time),
            version: row.version,
        })
    }
}

/// Who is at the other end of a mutual TLS connection: the certificate's row with its enrolment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate shown.
    pub certificate: IdentityCertificate,
    /// Its enrolment, but for its `context`: nobody who speaks needs what was said while enrolling.
    pub enrollment: Enrollment,
    /// Hash of what the device last said of itself.
    pub report_hash: Option<String>,
}

impl Identity {
    /// Whether the holder of the certificate may speak for the enrolment: the certificate is the identity (MS-MDM 2.1).
    ///
    /// # Errors
    /// [`Refusal::CertificateRevoked`], [`Refusal::CertificateExpired`], [`Refusal::EnrollmentEnded`].
    pub fn may_speak(&self, now: Time) -> std::result::Result<(), Refusal> {
        if self.certificate.is_revoked() {
            return Err(Refusal::CertificateRevoked);
        }
        if now < self.certificate.not_before || now >= self.certificate.not_after {
            return Err(Refusal::CertificateExpired);
        }
        match self.enrollment.state {
            State::Provisioned | State::Active | State::Unenrolling => Ok(()),
            State::Ended => Err(Refusal::EnrollmentEnded),
        }
    }
}

/// The certificate of an [`Identity`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityCertificate {
    /// Identifier.
    pub id: CertificateId,
    /// Start of its life.
    pub not_before: Time,
    /// End of its life.
    pub not_after: Time,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Time>,
    /// Whether the authority that issued it is revoked.
    pub fallen: bool,
    /// When it was issued.
    pub created_at: Time,
}

impl IdentityCertificate {
    /// Whether it was revoked, or fell with its authority.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.revoked_at.is_some() || self.fallen
    }
}

#[derive(Queryable)]
struct CertificateRow {
    id: String,
    not_before: i64,
    not_after: i64,
    revoked_at: Option<i64>,
    authority: String,
    created_at: i64,
}

/// The query of [`find_identity`], written out: it runs with every message of every device, and walking the tree of a query's types three
/// times over costs more than the lookup itself.
struct FindIdentity<'a> {
    certificate_sha256: &'a str,
}

const FIND_IDENTITY: &str = "SELECT c.id, c.not_before, c.not_after, c.revoked_at, a.status, c.created_at, \
    e.id, e.device_id, e.platform, e.kind, e.state, e.mdm_id, e.provider_id, e.user_id, '', e.channel_uri, e.certificate_id, \
    e.work_at, e.waiting_since, e.last_seen_at, e.enrolled_at, e.ended_at, e.version, e.report_hash \
    FROM certificates c \
    JOIN enrollments e ON e.id = c.enrollment_id \
    JOIN authorities a ON a.id = c.authority_id \
    WHERE c.purpose = ";

impl<DB> QueryFragment<DB> for FindIdentity<'_>
where
    DB: Backend + HasSqlType<Text>,
    str: ToSql<Text, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_sql(FIND_IDENTITY);
        out.push_bind_param::<Text, str>(IDENTITY_PURPOSE)?;
        out.push_sql(" AND c.sha256 = ");
        out.push_bind_param::<Text, str>(self.certificate_sha256)
    }
}

impl QueryId for FindIdentity<'_> {
    type QueryId = FindIdentity<'static>;

    const HAS_STATIC_QUERY_ID: bool = true;
}

type MaybeText = Nullable<Text>;
type MaybeTime = Nullable<BigInt>;
/// As the fields of [`Row`].
#[rustfmt::skip]
type EnrollmentSqlType = (
    Text, Text, Text, Text, Text, Text, MaybeText, MaybeText, Text, MaybeText, MaybeText, MaybeTime, MaybeTime, MaybeTime, BigInt,
    MaybeTime, BigInt,
);

impl Query for FindIdentity<'_> {
    /// Certificate, enrolment, the report's hash: as in [`FIND_IDENTITY`].
    type SqlType = ((Text, BigInt, BigInt, MaybeTime, Text, BigInt), EnrollmentSqlType, MaybeText);
}

impl RunQueryDsl<Conn> for FindIdentity<'_> {}

/// The enrolment whose identity certificate has that SHA-256 (lower-case hex of the DER), with all that a session needs to begin: one
/// read over unique indexes. Judging status and dates is the caller's.
///
/// # Errors
/// Only the database's own.
pub fn find_identity(conn: &mut Conn, certificate_sha256: &str) -> Result<Option<Identity>> {
    let found: Option<(CertificateRow, Row, Option<String>)> = FindIdentity { certificate_sha256 }.get_result(conn).optional()?;
    let Some((certificate, enrollment, report_hash)) = found else { return Ok(None) };
    Ok(Some(Identity {
        certificate: IdentityCertificate {
            id: CertificateId::from_store(certificate.id),
            not_before: Time(certificate.not_before),
            not_after: Time(certificate.not_after),
            revoked_at: certificate.revoked_at.map(Time),
            fallen: certificate.authority == authority::Status::Revoked.as_str(),
            created_at: Time(certificate.created_at),
        },
        enrollment: enrollment.try_into()?,
        report_hash,
    }))
}

/// Inserts an enrolment.
///
/// # Errors
/// [`Error::Conflict`] when the device has another that has not ended.
pub fn insert_enrollment(tx: &mut Tx<'_>, enrollment: &Enrollment) -> Result<()> {
    diesel::insert_into(enrollments::table).values(Row::of(enrollment)).execute(tx.conn())?;
    Ok(())
}

/// Writes the enrolment if nobody changed it since it was read, and counts its version up. `context` stays what it was when the device
/// enrolled. `last_seen_at`, `work_at` and `waiting_since` are left as they are, too: [`update_last_seen`], [`update_work_at`] and
/// [`update_work_and_wait`] write them, which do not count the version.
///
/// # Errors
/// [`Error::Busy`] when somebody did: read it again.
pub fn claim_update(tx: &mut Tx<'_>, enrollment: &Enrollment) -> Result<()> {
    let row = Row::of(enrollment);
    let target = enrollments::table.find(row.id).filter(enrollments::version.eq(row.version));
    let changed = diesel::update(target)
        .set((
            enrollments::kind.eq(row.kind),
            enrollments::state.eq(row.state),
            enrollments::mdm_id.eq(row.mdm_id),
            enrollments::user_id.eq(row.user_id),
            enrollments::channel_uri.eq(row.channel_uri),
            enrollments::certificate_id.eq(row.certificate_id),
            enrollments::ended_at.eq(row.ended_at),
            enrollments::version.eq(row.version.saturating_add(1)),
        ))
        .execute(tx.conn())?;
    if changed == 0 { Err(Error::Busy) } else { Ok(()) }
}

/// Takes the row of an enrolment for the rest of the transaction: whoever else writes it waits. What was read of it before is old.
///
/// # Errors
/// Only the database's own.
pub fn lock_enrollment(tx: &mut Tx<'_>, id: &EnrollmentId) -> Result<()> {
    diesel::update(enrollments::table.find(id.as_str())).set(enrollments::work_at.eq(enrollments::work_at)).execute(tx.conn())?;
    Ok(())
}

/// Takes the row of the present enrolment of a device for the rest of the transaction, as [`lock_enrollment`] does, and gives it as it is
/// then. Whoever changes what a device may ask for, what it was given, or its certificates takes this first.
///
/// # Errors
/// Only the database's own.
pub fn hold_current(tx: &mut Tx<'_>, device: &DeviceId) -> Result<Option<Enrollment>> {
    if let Conn::Postgres(c) = tx.conn() {
        let current = enrollments::table.filter(enrollments::device_id.eq(device.as_str())).filter(enrollments::ended_at.is_null());
        // On SQLite there is one transaction that writes at a time.
        current.select(enrollments::id).order(enrollments::id).for_no_key_update().load::<String>(c)?;
    }
    find_current_enrollment(tx.conn(), device)
}

/// The enrolment, which must exist.
///
/// # Errors
/// [`Error::NotFound`].
pub fn load_enrollment(conn: &mut Conn, id: &EnrollmentId) -> Result<Enrollment> {
    enrollments::table.find(id.as_str()).select(Row::as_select()).first(conn)?.try_into()
}

/// The enrolment of a device that has not ended.
///
/// # Errors
/// Only the database's own.
pub fn find_current_enrollment(conn: &mut Conn, device: &DeviceId) -> Result<Option<Enrollment>> {
    let row = enrollments::table
        .filter(enrollments::device_id.eq(device.as_str()))
        .filter(enrollments::ended_at.is_null())
        .select(Row::as_select())
        .first(conn)
        .optional()?;
    row.map(Enrollment::try_from).transpose()
}

/// The enrolment of an Apple device that has not ended, by the identifier that the device gives itself.
///
/// # Errors
/// Only the database's own.
pub fn find_live_apple(conn: &mut Conn, mdm_id: &str) -> Result<Option<Enrollment>> {
    let row = enrollments::table
        .filter(enrollments::mdm_id.eq(mdm_id))
        .filter(enrollments::ended_at.is_null())
        .filter(enrollments::platform.eq_any([Platform::MacOs.as_str(), Platform::Ios.as_str()]))
        .order(enrollments::id.desc())
        .select(Row::as_select())
        .first(conn)
        .optional()?;
    row.map(Enrollment::try_from).transpose()
}

/// All enrolments that a device has had, newest first.
///
/// # Errors
/// Only the database's own.
pub fn list_enrollments(conn: &mut Conn, device: &DeviceId, limit: i64) -> Result<Vec<Enrollment>> {
    let rows: Vec<Row> = enrollments::table
        .filter(enrollments::device_id.eq(device.as_str()))
        .order(enrollments::id.desc())
        .limit(limit)
        .select(Row::as_select())
        .load(conn)?;
    rows.into_iter().map(Enrollment::try_from).collect()
}

/// Notes when enrolments were last heard of: many at once, because sessions with nothing to do are collected for about a second. A later
/// moment is never put back. Nobody is waited for, who may wait for one of the many: enrolments that others hold are given back, to be
/// written later.
///
/// # Errors
/// Only the database's own.
pub fn update_last_seen(tx: &mut Tx<'_>, seen: &[(EnrollmentId, Time)]) -> Result<Vec<(EnrollmentId, Time)>> {
    // On SQLite there is one transaction that writes at a time.
    let held: BTreeSet<String> = match tx.conn() {
        Conn::Sqlite(_) => BTreeSet::new(),
        Conn::Postgres(c) => {
            let rows = || enrollments::table.filter(enrollments::id.eq_any(seen.iter().map(|(id, _)| id.as_str()))).select(enrollments::id);
            let free: BTreeSet<String> =
                rows().order(enrollments::id).for_no_key_update().skip_locked().load::<String>(c)?.into_iter().collect();
            if free.len() == seen.len() {
                BTreeSet::new()
            } else {
                rows().load::<String>(c)?.into_iter().filter(|id| !free.contains(id)).collect()
            }
        }
    };
    let (held, free): (Vec<_>, Vec<_>) = seen.iter().cloned().partition(|(id, _)| held.contains(id.as_str()));
    for (id, at) in &free {
        diesel::update(
            enrollments::table.find(id.as_str()).filter(enrollments::last_seen_at.is_null().or(enrollments::last_seen_at.lt(at.0))),
        )
        .set(enrollments::last_seen_at.eq(at.0))
        .execute(tx.conn())?;
    }
    Ok(held)
}

/// Keeps the hash of what the device says of itself in each first message.
///
/// # Errors
/// Only the database's own.
pub fn update_report_hash(tx: &mut Tx<'_>, id: &EnrollmentId, hash: &str) -> Result<()> {
    diesel::update(enrollments::table.find(id.as_str())).set(enrollments::report_hash.eq(Some(hash))).execute(tx.conn())?;
    Ok(())
}

/// Says when the server next has something to ask or tell; `None` while there is nothing.
///
/// # Errors
/// Only the database's own.
pub fn update_work_at(tx: &mut Tx<'_>, id: &EnrollmentId, work_at: Option<Time>) -> Result<()> {
    diesel::update(enrollments::table.find(id.as_str())).set(enrollments::work_at.eq(work_at.map(|t| t.0))).execute(tx.conn())?;
    Ok(())
}

/// The same, and since when what the device was given waits for it; `None` while nothing does.
///
/// # Errors
/// Only the database's own.
pub fn update_work_and_wait(tx: &mut Tx<'_>, id: &EnrollmentId, work_at: Option<Time>, waiting_since: Option<Time>) -> Result<()> {
    diesel::update(enrollments::table.find(id.as_str()))
        .set((enrollments::work_at.eq(work_at.map(|t| t.0)), enrollments::waiting_since.eq(waiting_since.map(|t| t.0))))
        .execute(tx.conn())?;
    Ok(())
}

/// What MD5 authentication of an enrolment needs (OMA-DM 1.2 security).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The sealed credentials (column `enrollments.sealed_md5`).
    pub sealed: Vec<u8>,
    /// The nonce that the device must use next, and until when.
    pub nonce: Option<(Vec<u8>, Time)>,
}

/// The MD5 credentials of an enrolment, when it has some.
///
/// # Errors
/// Only the database's own.
pub fn find_digest(conn: &mut Conn, id: &EnrollmentId) -> Result<Option<Digest>> {
    type Columns = (Option<Vec<u8>>, Option<Vec<u8>>, Option<i64>);
    let row: Option<Columns> = enrollments::table
        .find(id.as_str())
        .select((enrollments::sealed_md5, enrollments::nonce, enrollments::nonce_expires_at))
        .first(conn)
        .optional()?;
    Ok(row.and_then(|(sealed, nonce, expires)| {
        let nonce = nonce.zip(expires).map(|(nonce, expires)| (nonce, Time(expires)));
        sealed.map(|sealed| Digest { sealed, nonce })
    }))
}

/// Sets the MD5 credentials of an enrolment; no nonce is open after it.
///
/// # Errors
/// [`Error::NotFound`].
pub fn update_digest(tx: &mut Tx<'_>, id: &EnrollmentId, sealed: &[u8]) -> Result<()> {
    let changed = diesel::update(enrollments::table.find(id.as_str()))
        .set((
            enrollments::sealed_md5.eq(Some(sealed)),
            enrollments::nonce.eq(None::<Vec<u8>>),
            enrollments::nonce_expires_at.eq(None::<i64>),
        ))
        .execute(tx.conn())?;
    if changed == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// Puts the next nonce in the place of the one that was just used (or of none): each nonce is good once, on whatever node.
///
/// Returns `false` when somebody else used it first.
///
/// # Errors
/// Only the database's own.
pub fn claim_nonce(tx: &mut Tx<'_>, id: &EnrollmentId, used: Option<&[u8]>, next: &[u8], expires: Time) -> Result<bool> {
    let change = (enrollments::nonce.eq(Some(next)), enrollments::nonce_expires_at.eq(Some(expires.0)));
    let row = enrollments::table.find(id.as_str());
    let changed = match used {
        Some(used) => diesel::update(row.filter(enrollments::nonce.eq(used))).set(change).execute(tx.conn())?,
        None => diesel::update(row).set(change).execute(tx.conn())?,
    };
    Ok(changed == 1)
}

/// How [`Purpose::MdmIdentity`](crate::domain::certificate::Purpose) is stored.
const IDENTITY_PURPOSE: &str = "mdm-identity";

/// The push channel of an active enrolment.
///
/// # Errors
/// Only the database's own.
pub fn find_channel(conn: &mut Conn, id: &EnrollmentId) -> Result<Option<String>> {
    let found: Option<Option<String>> = enrollments::table
        .find(id.as_str())
        .filter(enrollments::ended_at.is_null())
        .select(enrollments::channel_uri)
        .first(conn)
        .optional()?;
    Ok(found.flatten())
}

/// Forgets a push channel that does not work any more; `false` when the enrolment has another one meanwhile.
///
/// # Errors
/// Only the database's own.
pub fn update_channel_dropped(tx: &mut Tx<'_>, id: &EnrollmentId, uri: &str) -> Result<bool> {
    let dropped = diesel::update(enrollments::table.find(id.as_str()).filter(enrollments::channel_uri.eq(uri)))
        .set(enrollments::channel_uri.eq(None::<String>))
        .execute(tx.conn())?;
    Ok(dropped > 0)
}

/// Notes that an administrator ended the enrolment.
///
/// # Errors
/// Only the database's own.
pub fn update_dismissed(tx: &mut Tx<'_>, id: &EnrollmentId) -> Result<()> {
    diesel::update(enrollments::table.find(id.as_str())).set(enrollments::dismissed.eq(true)).execute(tx.conn())?;
    Ok(())
}

/// Whether the enrolment has ended and an administrator ended it.
///
/// # Errors
/// Only the database's own.
pub fn is_dismissed(conn: &mut Conn, id: &EnrollmentId) -> Result<bool> {
    let ended = enrollments::table.find(id.as_str()).filter(enrollments::ended_at.is_not_null());
    Ok(ended.select(enrollments::dismissed).first(conn).optional()?.unwrap_or(false))
}

/// A page of enrolments that have not ended, after `after`, with their devices and who issued their identities.
///
/// # Errors
/// Only the database's own.
pub fn list_current_with_authority(conn: &mut Conn, after: &str, limit: i64) -> Result<Vec<(EnrollmentId, DeviceId, AuthorityId)>> {
    let rows: Vec<(String, String, String)> = enrollments::table
        .inner_join(certificates::table.on(certificates::id.nullable().eq(enrollments::certificate_id)))
        .filter(enrollments::ended_at.is_null())
        .filter(enrollments::id.gt(after))
        .order(enrollments::id)
        .limit(limit)
        .select((enrollments::id, enrollments::device_id, certificates::authority_id))
        .load(conn)?;
    let read = |(id, device, authority)| (EnrollmentId::from_store(id), DeviceId::from_store(device), AuthorityId::from_store(authority));
    Ok(rows.into_iter().map(read).collect())
}

/// Enrolments that were begun before a moment and that no device has finished: those whose id comes after `after`, in order.
///
/// # Errors
/// Only the database's own.
pub fn list_unfinished(conn: &mut Conn, begun_before: Time, after: &str, limit: i64) -> Result<Vec<EnrollmentId>> {
    let ids: Vec<String> = enrollments::table
        .filter(enrollments::state.eq(State::Provisioned.as_str()))
        .filter(enrollments::enrolled_at.le(begun_before.0))
        .filter(enrollments::id.gt(after))
        .order(enrollments::id)
        .limit(limit)
        .select(enrollments::id)
        .load(conn)?;
    Ok(ids.into_iter().map(EnrollmentId::from_store).collect())
}

/// Enrolments of a platform whose device was told to leave and will not answer any more: it has been silent since `silent_since`, when the
/// order had reached it, or it was told before `told_before`, or the order is gone. Those whose id comes after `after`, in order.
///
/// # Errors
/// Only the database's own.
pub fn list_silent_leavers(
    conn: &mut Conn,
    platform: Platform,
    (silent_since, told_before): (Time, Time),
    after: &str,
    limit: i64,
) -> Result<Vec<EnrollmentId>> {
    let reached =
        [command::State::Sent, command::State::Done, command::State::Failed, command::State::Uncertain].map(command::State::as_str);
    let silent = commands::state
        .eq_any(reached)
        .and(commands::updated_at.le(silent_since.0))
        .and(enrollments::last_seen_at.is_null().or(enrollments::last_seen_at.assume_not_null().le(silent_since.0)));
    let ids: Vec<String> = enrollments::table
        .left_join(commands::table.on(commands::enrollment_id.eq(enrollments::id).and(commands::kind.eq(command::UNENROLL))))
        .filter(enrollments::state.eq(State::Unenrolling.as_str()))
        .filter(enrollments::platform.eq(platform.as_str()))
        .filter(enrollments::id.gt(after))
        .filter(commands::id.is_null().or(commands::created_at.le(told_before.0)).or(silent))
        .distinct()
        .order(enrollments::id)
        .limit(limit)
        .select(enrollments::id)
        .load(conn)?;
    Ok(ids.into_iter().map(EnrollmentId::from_store).collect())
}
