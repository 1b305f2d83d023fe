//! Everything that is sealed, in one list, for re-sealing under a new master key: columns named `sealed_…`, and values of `meta` whose
//! key begins with `sealed.` (in hex). A value is sealed for the purpose `table.column`, or for its key in `meta`, so that none opens in the
//! place of another.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Text};

use super::schema::meta;
use super::{Conn, Result, Tx};

/// Purpose of sealed push addresses of Apple devices.
pub const APPLE_PUSH: &str = "apple_channels.sealed_push";
/// Purpose of what Apple devices entrusted to the server, sealed.
pub const APPLE_SECRET: &str = "apple_secrets.sealed_value";
/// Purpose of sealed private keys that sign tokens.
pub const SIGNING_KEY: &str = "signing_keys.sealed_key";
/// Purpose of the sealed `clientState` of subscriptions.
pub const SUBSCRIPTION_STATE: &str = "subscriptions.sealed_client_state";
/// Purpose of sealed `Authorization` values of receivers.
pub const RECEIVER_AUTHORIZATION: &str = "receivers.sealed_authorization";
/// Purpose of the sealed private keys of push certificates.
pub const APPLE_PUSH_KEY: &str = "apple_push.sealed_key";
/// Purpose of the sealed private keys that open server tokens of Apple Business Manager.
pub const ADE_KEY: &str = "ade_servers.sealed_key";
/// Purpose of these tokens, sealed.
pub const ADE_TOKEN: &str = "ade_servers.sealed_token";
/// Purpose of the content token of Apps and Books, sealed.
pub const CONTENT_TOKEN: &str = "apple_content.sealed_token";
/// Purpose of sealed private keys of authorities.
pub const AUTHORITY_KEY: &str = "authorities.sealed_key";
/// Purpose of sealed private keys of authorities that wait for their certificate.
pub const REQUEST_KEY: &str = "authority_requests.sealed_key";
/// Purpose of sealed private keys of service certificates.
pub const SERVICE_KEY: &str = "service_keys.sealed_key";
/// Purpose of sealed MD5 credentials of enrolments.
pub const ENROLLMENT_MD5: &str = "enrollments.sealed_md5";
/// Purpose of sealed parts of large objects that devices are sending.
pub const PIECE: &str = "dm_pieces.sealed_text";
/// Purpose of sealed answers of management sessions.
pub const SESSION_RESPONSE: &str = "dm_sessions.sealed_response";
/// Purpose of sealed states of management sessions.
pub const SESSION_STATE: &str = "dm_sessions.sealed_state";
/// Purpose of what sealed orders ask a device to do.
pub const COMMAND_PAYLOAD: &str = "commands.sealed_payload";
/// Purpose of what devices said to orders, sealed.
pub const COMMAND_RESULT: &str = "commands.sealed_result";
/// Purpose of what is large in an order.
pub const COMMAND_LARGE: &str = "commands.sealed_large";
/// Purpose of the sealed documents of profiles.
pub const PROFILE_DOCUMENT: &str = "profile_versions.sealed_document";
/// Purpose of sealed keys that wait for their device.
pub const ISSUED_KEY: &str = "issued_keys.sealed_identity";
/// Purpose of sealed identities that were imported.
pub const IMPORTED_PFX: &str = "imported_pfx.sealed_identity";
/// The value in `meta` that shows whether a master key belongs to this database.
pub const CANARY: &str = "sealed.canary";
/// The key that marks the head of the audit log.
pub const AUDIT_KEY: &str = "sealed.audit_key";
/// The key that marks SCEP challenges as ours.
pub const SCEP_CHALLENGE_KEY: &str = "sealed.scep_challenge_key";
/// The key that registration tokens are made with.
pub const REGISTRATION_KEY: &str = "sealed.registration_key";
/// The pepper of Temporary Access Passes.
pub const TAP_PEPPER: &str = "sealed.tap_pepper";
/// The key that marks the addresses of manifests of applications.
pub const MANIFEST_KEY: &str = "sealed.manifest_key";
/// The key that marks what comes back with the terms of use.
pub const TERMS_KEY: &str = "sealed.terms_key";
/// The key for which passwords of imported identities are encrypted.
pub const PFX_PASSWORD_KEY: &str = "sealed.pfx_password_key";
/// The key that marks the tokens of pages.
pub const PAGE_KEY: &str = "sealed.page_key";
/// The key that marks refresh tokens as ours.
pub const REFRESH_KEY: &str = "sealed.refresh_key";
/// The keys of all sealed values in `meta`.
pub const META: &[&str] = &[
    AUDIT_KEY,
    CANARY,
    MANIFEST_KEY,
    PAGE_KEY,
    PFX_PASSWORD_KEY,
    REFRESH_KEY,
    REGISTRATION_KEY,
    SCEP_CHALLENGE_KEY,
    TAP_PEPPER,
    TERMS_KEY,
];

/// A sealed column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The table.
    pub table: &'static str,
    /// Its primary key.
    pub key: &'static str,
    /// The column.
    pub column: &'static str,
    /// What its values are sealed for.
    pub purpose: &'static str,
}

/// All sealed columns; a test compares them with the schema.
pub const COLUMNS: &[Column] = &[
    Column { table: "ade_servers", key: "id", column: "sealed_key", purpose: ADE_KEY },
    Column { table: "ade_servers", key: "id", column: "sealed_token", purpose: ADE_TOKEN },
    Column { table: "apple_channels", key: "id", column: "sealed_push", purpose: APPLE_PUSH },
    Column { table: "apple_content", key: "slot", column: "sealed_token", purpose: CONTENT_TOKEN },
    Column { table: "apple_push", key: "slot", column: "sealed_key", purpose: APPLE_PUSH_KEY },
    Column { table: "apple_secrets", key: "id", column: "sealed_value", purpose: APPLE_SECRET },
    Column { table: "authorities", key: "id", column: "sealed_key", purpose: AUTHORITY_KEY },
    Column { table: "authority_requests", key: "id", column: "sealed_key", purpose: REQUEST_KEY },
    Column { table: "commands", key: "id", column: "sealed_payload", purpose: COMMAND_PAYLOAD },
    Column { table: "commands", key: "id", column: "sealed_result", purpose: COMMAND_RESULT },
    Column { table: "commands", key: "id", column: "sealed_large", purpose: COMMAND_LARGE },
    Column { table: "dm_pieces", key: "id", column: "sealed_text", purpose: PIECE },
    Column { table: "dm_sessions", key: "enrollment_id", column: "sealed_response", purpose: SESSION_RESPONSE },
    Column { table: "dm_sessions", key: "enrollment_id", column: "sealed_state", purpose: SESSION_STATE },
    Column { table: "enrollments", key: "id", column: "sealed_md5", purpose: ENROLLMENT_MD5 },
    Column { table: "imported_pfx", key: "id", column: "sealed_identity", purpose: IMPORTED_PFX },
    Column { table: "issued_keys", key: "certificate_id", column: "sealed_identity", purpose: ISSUED_KEY },
    Column { table: "profile_versions", key: "id", column: "sealed_document", purpose: PROFILE_DOCUMENT },
    Column { table: "receivers", key: "id", column: "sealed_authorization", purpose: RECEIVER_AUTHORIZATION },
    Column { table: "service_keys", key: "id", column: "sealed_key", purpose: SERVICE_KEY },
    Column { table: "signing_keys", key: "kid", column: "sealed_key", purpose: SIGNING_KEY },
    Column { table: "subscriptions", key: "id", column: "sealed_client_state", purpose: SUBSCRIPTION_STATE },
];

/// A sealed value and the key of its row.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Value {
    /// The row's primary key.
    #[diesel(sql_type = Text)]
    pub key: String,
    /// The sealed bytes.
    #[diesel(sql_type = Binary)]
    pub sealed: Vec<u8>,
}

/// A page of a column's values after the row `after`, by key.
///
/// # Errors
/// Only the database's own.
pub fn list_values(conn: &mut Conn, column: Column, after: &str, limit: i64) -> Result<Vec<Value>> {
    let Column { table, key, column, .. } = column;
    let sql =
        format!("SELECT {key} AS key, {column} AS sealed FROM {table} WHERE {key} > $1 AND {column} IS NOT NULL ORDER BY {key} LIMIT $2");
    Ok(diesel::sql_query(sql).bind::<Text, _>(after).bind::<BigInt, _>(limit).load(conn)?)
}

/// Puts a value in place of another, if that is still there.
///
/// # Errors
/// Only the database's own.
pub fn claim_value(tx: &mut Tx<'_>, column: Column, old: &Value, sealed: &[u8]) -> Result<bool> {
    let Column { table, key, column, .. } = column;
    let sql = format!("UPDATE {table} SET {column} = $1 WHERE {key} = $2 AND {column} = $3");
    let query = diesel::sql_query(sql).bind::<Binary, _>(sealed).bind::<Text, _>(&old.key).bind::<Binary, _>(&old.sealed);
    Ok(query.execute(tx.conn())? > 0)
}

/// The sealed values in `meta` that are there: key and hex.
///
/// # Errors
/// Only the database's own.
pub fn list_meta(conn: &mut Conn) -> Result<Vec<(&'static str, String)>> {
    let mut found = Vec::new();
    for key in META {
        let value: Option<String> = meta::table.find(key).select(meta::value).first(conn).optional()?;
        found.extend(value.map(|value| (*key, value)));
    }
    Ok(found)
}

/// Puts a value in `meta` in place of another, if that is still there.
///
/// # Errors
/// Only the database's own.
pub fn claim_meta(tx: &mut Tx<'_>, key: &str, old: &str, new: &str) -> Result<bool> {
    let changed = diesel::update(meta::table.find(key).filter(meta::value.eq(old))).set(meta::value.eq(new)).execute(tx.conn())?;
    Ok(changed > 0)
}
