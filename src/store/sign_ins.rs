//! The sign-in log.

use diesel::prelude::*;

use super::dialect::delete_some;
use super::schema::sign_ins;
use super::{Conn, Result, Tx};
use crate::clock::Time;
use crate::domain::sign_in::SignIn;
use crate::ids::SignInId;
use crate::store::odata::{Kind, List, Property, Set};

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = sign_ins)]
struct Row {
    id: String,
    created_at: i64,
    user_id: String,
    user_principal_name: String,
    user_display_name: String,
    app_id: String,
    app_display_name: String,
    resource_id: String,
    resource_display_name: String,
    ip_address: String,
    client_app_used: String,
    user_agent: String,
    correlation_id: String,
    is_interactive: bool,
    method: String,
    error_code: i64,
    failure_reason: String,
}

impl From<Row> for SignIn {
    fn from(row: Row) -> Self {
        Self {
            id: SignInId::from_store(row.id),
            created_at: Time(row.created_at),
            user_id: row.user_id,
            user_principal_name: row.user_principal_name,
            user_display_name: row.user_display_name,
            app_id: row.app_id,
            app_display_name: row.app_display_name,
            resource_id: row.resource_id,
            resource_display_name: row.resource_display_name,
            ip_address: row.ip_address,
            client_app_used: row.client_app_used,
            user_agent: row.user_agent,
            correlation_id: row.correlation_id,
            is_interactive: row.is_interactive,
            method: row.method,
            error_code: row.error_code,
            failure_reason: row.failure_reason,
        }
    }
}

/// Inserts a row.
///
/// # Errors
/// Only the database's own.
pub fn insert_sign_in(tx: &mut Tx<'_>, sign_in: &SignIn) -> Result<()> {
    let sign_in = sign_in.clone();
    let row = Row {
        id: sign_in.id.to_string(),
        created_at: sign_in.created_at.0,
        user_id: sign_in.user_id,
        user_principal_name: sign_in.user_principal_name,
        user_display_name: sign_in.user_display_name,
        app_id: sign_in.app_id,
        app_display_name: sign_in.app_display_name,
        resource_id: sign_in.resource_id,
        resource_display_name: sign_in.resource_display_name,
        ip_address: sign_in.ip_address,
        client_app_used: sign_in.client_app_used,
        user_agent: sign_in.user_agent,
        correlation_id: sign_in.correlation_id,
        is_interactive: sign_in.is_interactive,
        method: sign_in.method,
        error_code: sign_in.error_code,
        failure_reason: sign_in.failure_reason,
    };
    diesel::insert_into(sign_ins::table).values(row).execute(tx.conn())?;
    Ok(())
}

/// The newest rows, newest first.
///
/// # Errors
/// Only the database's own.
pub fn list_sign_ins(conn: &mut Conn, limit: i64) -> Result<Vec<SignIn>> {
    let rows: Vec<Row> =
        sign_ins::table.order((sign_ins::created_at.desc(), sign_ins::id.desc())).limit(limit).select(Row::as_select()).load(conn)?;
    Ok(rows.into_iter().map(SignIn::from).collect())
}

/// The log as the API finds it.
pub const SET: Set = Set {
    name: "sign_ins",
    from: "sign_ins t",
    key: "t.id",
    base: "TRUE",
    reach: "t.user_id IN (SELECT m.member_id FROM group_members m WHERE m.member_kind = 'user' AND m.group_id IN ({groups}))",
    properties: &[
        Property::new("id", "t.id", Kind::Id),
        Property::new("createdDateTime", "t.created_at", Kind::Time).ordered(),
        Property::new("userId", "t.user_id", Kind::Id),
        Property::new("userPrincipalName", "t.user_principal_name", Kind::Text).searched(),
        Property::new("userDisplayName", "t.user_display_name", Kind::Text).searched(),
        Property::new("appId", "t.app_id", Kind::Id),
        Property::new("appDisplayName", "t.app_display_name", Kind::Text),
        Property::new("resourceId", "t.resource_id", Kind::Id),
        Property::new("resourceDisplayName", "t.resource_display_name", Kind::Text),
        Property::new("ipAddress", "t.ip_address", Kind::Id),
        Property::new("clientAppUsed", "t.client_app_used", Kind::Text),
        Property::new("correlationId", "t.correlation_id", Kind::Id),
        Property::new("isInteractive", "t.is_interactive", Kind::Bool),
        Property::new("status/errorCode", "t.error_code", Kind::Number),
    ],
    lists: &[List {
        name: "signInEventTypes",
        from: None,
        member: "CASE WHEN t.is_interactive THEN 'interactiveUser' ELSE 'nonInteractiveUser' END",
        kind: Kind::Text,
    }],
    types: &[("signIn", "TRUE")],
    newest_first: Some("createdDateTime"),
};

/// The rows with these ids, those that exist.
///
/// # Errors
/// Only the database's own.
pub fn list_by_ids(conn: &mut Conn, ids: &[String]) -> Result<Vec<SignIn>> {
    let rows: Vec<Row> = sign_ins::table.filter(sign_ins::id.eq_any(ids)).select(Row::as_select()).load(conn)?;
    Ok(rows.into_iter().map(SignIn::from).collect())
}

/// Removes rows older than `before`, at most `limit`, and says how many.
///
/// # Errors
/// Only the database's own.
pub fn purge_sign_ins(tx: &mut Tx<'_>, before: Time, limit: i64) -> Result<usize> {
    Ok(delete_some!(tx, sign_ins, id: String, sign_ins::created_at.lt(before.0), limit))
}
