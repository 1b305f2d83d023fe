//! The audit log, its hash chain, and the marked head of the chain.

use diesel::prelude::*;
use diesel::sql_types::Text;

use super::schema::{audit, audit_head, certificates, commands, enrollments};
use super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::domain::Refusal;
use crate::domain::audit::{Entry, Head, Link};
use crate::ids::{DeviceId, UserId};
use crate::secret::SealError;
use crate::store::odata::{Kind, Property, Set};

/// A stored row.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable, Insertable, serde::Serialize)]
#[diesel(table_name = audit)]
pub struct Row {
    /// Position in the chain.
    pub seq: i64,
    /// When, in milliseconds.
    pub at: i64,
    /// Who.
    pub actor: String,
    /// Did what.
    pub action: String,
    /// To what.
    pub target: String,
    /// From where.
    pub origin: String,
    /// State before.
    pub before: Option<String>,
    /// State after.
    pub after: Option<String>,
    /// Hash of the row before.
    pub previous_hash: String,
    /// Hash of this row.
    pub hash: String,
}

impl Row {
    /// The fields as the hash covers them.
    #[must_use]
    pub fn link(&self) -> Link<'_> {
        Link {
            seq: self.seq,
            at: Time(self.at),
            actor: &self.actor,
            action: &self.action,
            target: &self.target,
            origin: &self.origin,
            before: self.before.as_deref(),
            after: self.after.as_deref(),
            previous_hash: &self.previous_hash,
        }
    }
}

/// Marks the head of a log that has no row yet, so that its first row can be marked. For the transaction that makes an instance and no
/// other: an empty log of an instance that is there already was emptied by somebody, and must stay without a mark.
///
/// # Errors
/// [`Error::Corrupt`] when the store has no key for it; OpenSSL's, and the database's own.
pub fn update_head_begun(tx: &mut Tx<'_>) -> Result<()> {
    let mark = tx.head_key().ok_or_else(|| Error::corrupt("there is no key for the audit log"))?.mark(0, "").map_err(crypto)?;
    let untouched = audit_head::table.find(1).filter(audit_head::seq.eq(0)).filter(audit_head::mark.eq(""));
    diesel::update(untouched).set(audit_head::mark.eq(mark)).execute(tx.conn())?;
    Ok(())
}

/// Appends a row. It is written when everything else of the transaction is, whenever this is called: on PostgreSQL the chain's head is locked
/// until the commit, and who holds it waits for nobody.
///
/// # Errors
/// None; those of the writing end the transaction (`write_kept`).
pub fn append(tx: &mut Tx<'_>, entry: &Entry, now: Time) -> Result<()> {
    tx.keep_entry(entry.clone(), now);
    Ok(())
}

/// Writes the rows that a transaction appended, at its end.
///
/// The new head is marked only when the old one bears our mark: a chain that somebody made without our key stays without a mark, whatever is
/// appended. An older head of ours that was put back bears it, and goes on as if nothing had been after it.
///
/// # Errors
/// [`Refusal::AuditHeadMissing`] when there is no head; OpenSSL's, and the database's own.
pub(super) fn write_kept(tx: &mut Tx<'_>) -> Result<()> {
    let entries = tx.take_entries();
    let Ok(count @ 1..) = i64::try_from(entries.len()) else { return Ok(()) };
    // The update takes the head's row lock, so two nodes never extend the same head.
    diesel::update(audit_head::table.find(1)).set(audit_head::seq.eq(audit_head::seq + count)).execute(tx.conn())?;
    let taken = head(tx.conn())?;
    let before = Head { seq: taken.seq - count, ..taken };
    let (mut seq, mut previous) = (before.seq, before.hash.clone());
    for (entry, at) in entries {
        seq += 1;
        let mut row = Row {
            seq,
            at: at.0,
            actor: entry.actor,
            action: entry.action.to_owned(),
            target: entry.target,
            origin: entry.origin,
            before: entry.before,
            after: entry.after,
            previous_hash: previous,
            hash: String::new(),
        };
        row.hash = row.link().hash();
        previous = row.hash.clone();
        diesel::insert_into(audit::table).values(row).execute(tx.conn())?;
    }
    let mark = match tx.head_key() {
        Some(key) if key.fits(&before).map_err(crypto)? => key.mark(seq, &previous).map_err(crypto)?,
        _ => String::new(),
    };
    diesel::update(audit_head::table.find(1)).set((audit_head::hash.eq(previous), audit_head::mark.eq(mark))).execute(tx.conn())?;
    Ok(())
}

fn crypto(error: openssl::error::ErrorStack) -> Error {
    SealError::from(error).into()
}

/// A page of rows after `seq`, oldest first.
///
/// # Errors
/// Only the database's own.
pub fn list(conn: &mut Conn, after: i64, limit: i64) -> Result<Vec<Row>> {
    audit::table.filter(audit::seq.gt(after)).order(audit::seq).limit(limit).select(Row::as_select()).load(conn).map_err(Error::from)
}

/// Of whom rows are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Party {
    /// What a device did, and what was done to it, its enrolments, its orders and its certificates.
    Device(DeviceId),
    /// What a user did, and what was done to the user, the user's enrolments and certificates.
    User(UserId),
}

/// Which rows are looked for; an empty search finds all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// Those after this position, and then oldest first.
    pub after: Option<i64>,
    /// Those before this position.
    pub before: Option<i64>,
    /// Of this action, or of the actions whose first part it is.
    pub action: Option<String>,
    /// Those of this party.
    pub of: Option<Party>,
}

/// Rows that were searched for: newest first, or, where they are to follow a row, oldest first.
///
/// # Errors
/// Only the database's own.
pub fn search(conn: &mut Conn, search: &Search, limit: i64) -> Result<Vec<Row>> {
    let mut query = audit::table.limit(limit).select(Row::as_select()).into_boxed();
    query = if search.after.is_some() { query.order(audit::seq.asc()) } else { query.order(audit::seq.desc()) };
    if let Some(after) = search.after {
        query = query.filter(audit::seq.gt(after));
    }
    if let Some(before) = search.before {
        query = query.filter(audit::seq.lt(before));
    }
    if let Some(action) = &search.action {
        let parts = format!("{}.%", action.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"));
        query = query.filter(audit::action.eq(action).or(audit::action.like(parts).escape('\\')));
    }
    let named = |kind: &str| format!("{kind}:").into_sql::<Text>();
    match &search.of {
        None => {}
        Some(Party::Device(id)) => {
            let own = format!("device:{id}");
            let enrolled = enrollments::table.filter(enrollments::device_id.eq(id.as_str()));
            let issued = certificates::table.filter(certificates::device_id.eq(id.as_str()));
            let ordered = commands::table.filter(commands::enrollment_id.eq_any(enrolled.select(enrollments::id)));
            query = query.filter(
                audit::actor
                    .eq(own.clone())
                    .or(audit::target.eq(own))
                    .or(audit::target.eq_any(enrolled.select(named("enrollment").concat(enrollments::id))))
                    .or(audit::target.eq_any(issued.select(named("certificate").concat(certificates::id))))
                    .or(audit::target.eq_any(ordered.select(named("command").concat(commands::id)))),
            );
        }
        Some(Party::User(id)) => {
            let own = format!("user:{id}");
            let enrolled = enrollments::table.filter(enrollments::user_id.eq(id.as_str()));
            let issued = certificates::table.filter(certificates::user_id.eq(id.as_str()));
            query = query.filter(
                audit::actor
                    .eq(own.clone())
                    .or(audit::target.eq(own))
                    .or(audit::target.eq_any(enrolled.select(named("enrollment").concat(enrollments::id))))
                    .or(audit::target.eq_any(issued.select(named("certificate").concat(certificates::id)))),
            );
        }
    }
    query.load(conn).map_err(Error::from)
}

/// Who did that to a target first, if anybody did.
///
/// # Errors
/// Only the database's own.
pub fn find_actor(conn: &mut Conn, target: &str, action: &str) -> Result<Option<String>> {
    let rows = audit::table.filter(audit::target.eq(target)).filter(audit::action.eq(action)).order(audit::seq);
    rows.select(audit::actor).first(conn).optional().map_err(Error::from)
}

/// What a target was before that was done to it last, as it was kept; where it was done.
///
/// # Errors
/// Only the database's own.
pub fn find_before(conn: &mut Conn, target: &str, action: &str) -> Result<Option<String>> {
    let rows = audit::table.filter(audit::target.eq(target)).filter(audit::action.eq(action)).order(audit::seq.desc());
    Ok(rows.select(audit::before).first::<Option<String>>(conn).optional()?.flatten())
}

/// The lowest position that a row has; `None` in an empty log.
///
/// # Errors
/// Only the database's own.
pub fn first_seq(conn: &mut Conn) -> Result<Option<i64>> {
    audit::table.select(diesel::dsl::min(audit::seq)).first(conn).map_err(Error::from)
}

/// Where the chain ends.
///
/// # Errors
/// [`Refusal::AuditHeadMissing`] when somebody took it away; the database's own.
pub fn head(conn: &mut Conn) -> Result<Head> {
    let found = audit_head::table.find(1).select((audit_head::seq, audit_head::hash, audit_head::mark)).first(conn).optional()?;
    let (seq, hash, mark) = found.ok_or(Refusal::AuditHeadMissing)?;
    Ok(Head { seq, hash, mark })
}

/// The log as the API finds it.
pub const SET: Set = Set {
    name: "audit",
    from: "audit t",
    key: "CAST(t.seq AS TEXT)",
    base: "TRUE",
    // Rows are of the whole organisation.
    reach: "t.seq < 0 AND '' IN ({groups})",
    properties: &[
        Property::new("id", "CAST(t.seq AS TEXT)", Kind::Id),
        Property::new("activityDateTime", "t.at", Kind::Time).ordered(),
        Property::new("activity", "t.action", Kind::Text).searched(),
        Property::new("activityDisplayName", "t.action", Kind::Text),
        Property::new("displayName", "t.action", Kind::Text),
        Property::new("initiatedBy", "t.actor", Kind::Text).searched(),
    ],
    lists: &[],
    types: &[("auditEvent", "TRUE"), ("directoryAudit", "TRUE")],
    newest_first: Some("activityDateTime"),
};

/// The rows at these places, those that there are.
///
/// # Errors
/// Only the database's own.
pub fn list_by_places(conn: &mut Conn, places: &[String]) -> Result<Vec<Row>> {
    let places: Vec<i64> = places.iter().filter_map(|place| place.parse().ok()).collect();
    Ok(audit::table.filter(audit::seq.eq_any(places)).select(Row::as_select()).load(conn)?)
}
