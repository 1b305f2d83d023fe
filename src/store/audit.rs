//! The audit log and its hash chain.

use diesel::prelude::*;

use super::schema::{audit, audit_head};
use super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::domain::audit::{Entry, Link};

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

/// Appends a row. Call it last in the transaction: on PostgreSQL the chain's head is locked until the commit.
///
/// # Errors
/// Only the database's own.
pub fn append(tx: &mut Tx<'_>, entry: &Entry, now: Time) -> Result<()> {
    // The update takes the head's row lock, so two nodes never extend the same head.
    diesel::update(audit_head::table.find(1)).set(audit_head::seq.eq(audit_head::seq + 1)).execute(tx.conn())?;
    let (seq, previous_hash): (i64, String) = audit_head::table.find(1).select((audit_head::seq, audit_head::hash)).first(tx.conn())?;
    let mut row = Row {
        seq,
        at: now.0,
        actor: entry.actor.clone(),
        action: entry.action.to_owned(),
        target: entry.target.clone(),
        origin: entry.origin.clone(),
        before: entry.before.clone(),
        after: entry.after.clone(),
        previous_hash,
        hash: String::new(),
    };
    row.hash = row.link().hash();
    diesel::update(audit_head::table.find(1)).set(audit_head::hash.eq(&row.hash)).execute(tx.conn())?;
    diesel::insert_into(audit::table).values(row).execute(tx.conn())?;
    Ok(())
}

/// A page of rows after `seq`, oldest first.
///
/// # Errors
/// Only the database's own.
pub fn list(conn: &mut Conn, after: i64, limit: i64) -> Result<Vec<Row>> {
    audit::table.filter(audit::seq.gt(after)).order(audit::seq).limit(limit).select(Row::as_select()).load(conn).map_err(Error::from)
}

/// Position and hash of the newest row.
///
/// # Errors
/// Only the database's own.
pub fn head(conn: &mut Conn) -> Result<(i64, String)> {
    audit_head::table.find(1).select((audit_head::seq, audit_head::hash)).first(conn).map_err(Error::from)
}
