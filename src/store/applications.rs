//! Applications, their secrets and certificates, and what they may do.

use diesel::prelude::*;

use super::dialect::{delete_some, each_backend};
use super::schema::{application_credentials, application_grants, applications, used_assertions};
use super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::domain::access::Scope;
use crate::domain::application::{Application, Credential, Grants, Proof};
use crate::ids::{ApplicationId, CredentialId};

/// How grants in an application's own name are stored, and those in a person's.
const OWN: &str = "own";
const DELEGATED: &str = "delegated";

#[derive(Queryable, Selectable)]
#[diesel(table_name = applications)]
struct Row {
    id: String,
    client_id: String,
    display_name: String,
    enabled: bool,
    public: bool,
    redirects: String,
    logout_redirects: String,
    version: i64,
}

impl TryFrom<Row> for Application {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            id: ApplicationId::from_store(row.id),
            client_id: row.client_id,
            display_name: row.display_name,
            enabled: row.enabled,
            public: row.public,
            redirects: serde_json::from_str(&row.redirects).map_err(|_| Error::corrupt("applications.redirects"))?,
            logout_redirects: serde_json::from_str(&row.logout_redirects).map_err(|_| Error::corrupt("applications.logout_redirects"))?,
            version: row.version,
        })
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Inserts an application.
///
/// # Errors
/// [`Error::Conflict`] when the client id is taken.
pub fn insert_application(tx: &mut Tx<'_>, application: &Application, now: Time) -> Result<()> {
    diesel::insert_into(applications::table)
        .values((
            applications::id.eq(application.id.as_str()),
            applications::client_id.eq(&application.client_id),
            applications::display_name.eq(&application.display_name),
            applications::enabled.eq(application.enabled),
            applications::public.eq(application.public),
            applications::redirects.eq(json(&application.redirects)),
            applications::logout_redirects.eq(json(&application.logout_redirects)),
            applications::created_at.eq(now.0),
            applications::updated_at.eq(now.0),
            applications::version.eq(application.version),
        ))
        .execute(tx.conn())?;
    Ok(())
}

/// Writes an application if nobody changed it since it was read, and counts its version up.
///
/// # Errors
/// [`Error::Busy`] when somebody did.
pub fn claim_update(tx: &mut Tx<'_>, application: &Application, now: Time) -> Result<()> {
    let row = applications::table.find(application.id.as_str()).filter(applications::version.eq(application.version));
    let changed = diesel::update(row)
        .set((
            applications::display_name.eq(&application.display_name),
            applications::enabled.eq(application.enabled),
            applications::public.eq(application.public),
            applications::redirects.eq(json(&application.redirects)),
            applications::logout_redirects.eq(json(&application.logout_redirects)),
            applications::updated_at.eq(now.0),
            applications::version.eq(application.version.saturating_add(1)),
        ))
        .execute(tx.conn())?;
    if changed == 0 { Err(Error::Busy) } else { Ok(()) }
}

/// Deletes an application with its credentials and grants.
///
/// # Errors
/// [`Error::NotFound`].
pub fn delete_application(tx: &mut Tx<'_>, id: &ApplicationId) -> Result<()> {
    let gone = diesel::delete(applications::table.find(id.as_str())).execute(tx.conn())?;
    if gone == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// The application, which must exist.
///
/// # Errors
/// [`Error::NotFound`].
pub fn load_application(conn: &mut Conn, id: &ApplicationId) -> Result<Application> {
    applications::table.find(id.as_str()).select(Row::as_select()).first(conn)?.try_into()
}

/// The application with that client id.
///
/// # Errors
/// Only the database's own.
pub fn find_by_client_id(conn: &mut Conn, client_id: &str) -> Result<Option<Application>> {
    let row = applications::table.filter(applications::client_id.eq(client_id)).select(Row::as_select()).first(conn).optional()?;
    row.map(Application::try_from).transpose()
}

/// The applications of that name, which need not be one.
///
/// # Errors
/// Only the database's own.
pub fn find_by_name(conn: &mut Conn, name: &str, limit: i64) -> Result<Vec<Application>> {
    let rows: Vec<Row> = applications::table
        .filter(applications::display_name.eq(name))
        .order(applications::id)
        .limit(limit)
        .select(Row::as_select())
        .load(conn)?;
    rows.into_iter().map(Application::try_from).collect()
}

/// A page of applications by name and id, after the last one seen (empty texts for the first page).
///
/// # Errors
/// Only the database's own.
pub fn list_applications(conn: &mut Conn, after: (&str, &str), limit: i64) -> Result<Vec<Application>> {
    let later = applications::display_name.gt(after.0).or(applications::display_name.eq(after.0).and(applications::id.gt(after.1)));
    let rows: Vec<Row> = applications::table
        .filter(later)
        .order((applications::display_name, applications::id))
        .limit(limit)
        .select(Row::as_select())
        .load(conn)?;
    rows.into_iter().map(Application::try_from).collect()
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = application_credentials)]
struct CredentialRow {
    id: String,
    display_name: String,
    secret_sha256: Option<Vec<u8>>,
    token_sha256: Option<Vec<u8>>,
    hint: String,
    certificate: Option<Vec<u8>>,
    starts_at: i64,
    ends_at: i64,
}

impl TryFrom<CredentialRow> for Credential {
    type Error = Error;

    fn try_from(row: CredentialRow) -> Result<Self> {
        let proof = match (row.secret_sha256, row.token_sha256, row.certificate) {
            (Some(sha256), None, None) => Proof::Secret { sha256, hint: row.hint },
            (None, Some(sha256), None) => Proof::Token { sha256, hint: row.hint },
            (None, None, Some(der)) => {
                Proof::Certificate { sha1: hex::encode(openssl::sha::sha1(&der)), sha256: hex::encode(openssl::sha::sha256(&der)), der }
            }
            _ => return Err(Error::corrupt("application_credentials")),
        };
        Ok(Self {
            id: CredentialId::from_store(row.id),
            display_name: row.display_name,
            proof,
            starts_at: Time(row.starts_at),
            ends_at: Time(row.ends_at),
        })
    }
}

/// Inserts a secret or certificate of an application.
///
/// # Errors
/// Only the database's own.
pub fn insert_credential(tx: &mut Tx<'_>, application: &ApplicationId, credential: &Credential) -> Result<()> {
    let (secret, token, hint, certificate) = match &credential.proof {
        Proof::Secret { sha256, hint } => (Some(sha256), None, hint.as_str(), None),
        Proof::Token { sha256, hint } => (None, Some(sha256), hint.as_str(), None),
        Proof::Certificate { der, .. } => (None, None, "", Some(der)),
    };
    diesel::insert_into(application_credentials::table)
        .values((
            application_credentials::id.eq(credential.id.as_str()),
            application_credentials::application_id.eq(application.as_str()),
            application_credentials::display_name.eq(&credential.display_name),
            application_credentials::secret_sha256.eq(secret),
            application_credentials::token_sha256.eq(token),
            application_credentials::hint.eq(hint),
            application_credentials::certificate.eq(certificate),
            application_credentials::starts_at.eq(credential.starts_at.0),
            application_credentials::ends_at.eq(credential.ends_at.0),
        ))
        .execute(tx.conn())?;
    Ok(())
}

/// Takes a credential away.
///
/// # Errors
/// [`Error::NotFound`] when the application has no such one.
pub fn delete_credential(tx: &mut Tx<'_>, application: &ApplicationId, id: &CredentialId) -> Result<()> {
    let own = application_credentials::table.find(id.as_str()).filter(application_credentials::application_id.eq(application.as_str()));
    if diesel::delete(own).execute(tx.conn())? == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// The credentials of an application, oldest first. There are few ([`crate::domain::application::MOST_CREDENTIALS`]).
///
/// # Errors
/// Only the database's own.
pub fn list_credentials(conn: &mut Conn, application: &ApplicationId) -> Result<Vec<Credential>> {
    let rows: Vec<CredentialRow> = application_credentials::table
        .filter(application_credentials::application_id.eq(application.as_str()))
        .order(application_credentials::id)
        .select(CredentialRow::as_select())
        .load(conn)?;
    rows.into_iter().map(Credential::try_from).collect()
}

/// The application whose token for provisioning has that hash, with the token.
///
/// # Errors
/// Only the database's own.
pub fn find_by_token(conn: &mut Conn, sha256: &[u8]) -> Result<Option<(Application, Credential)>> {
    let found: Option<(String, CredentialRow)> = application_credentials::table
        .filter(application_credentials::token_sha256.eq(sha256))
        .select((application_credentials::application_id, CredentialRow::as_select()))
        .first(conn)
        .optional()?;
    let Some((application, credential)) = found else { return Ok(None) };
    Ok(Some((load_application(conn, &ApplicationId::from_store(application))?, credential.try_into()?)))
}

/// What an application may do.
///
/// # Errors
/// Only the database's own.
pub fn load_grants(conn: &mut Conn, application: &ApplicationId) -> Result<Grants> {
    if let Some(fixed) = Grants::built_in(application) {
        return Ok(fixed);
    }
    let rows: Vec<(String, String)> = application_grants::table
        .filter(application_grants::application_id.eq(application.as_str()))
        .select((application_grants::kind, application_grants::scope))
        .load(conn)?;
    let mut grants = Grants::default();
    for (kind, scope) in rows {
        // A permission of a newer version is none to this one.
        let Some(scope) = Scope::parse(&scope) else { continue };
        match kind.as_str() {
            OWN => grants.own.insert(scope),
            DELEGATED => grants.delegated.insert(scope),
            _ => return Err(Error::corrupt("application_grants.kind")),
        };
    }
    Ok(grants)
}

/// Puts these grants in the place of what an application may do; those that stay keep who gave them when.
///
/// # Errors
/// Only the database's own.
pub fn replace_grants(tx: &mut Tx<'_>, application: &ApplicationId, grants: &Grants, by: &str, now: Time) -> Result<()> {
    for (kind, scopes) in [(OWN, &grants.own), (DELEGATED, &grants.delegated)] {
        let kept: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
        let gone = application_grants::table
            .filter(application_grants::application_id.eq(application.as_str()))
            .filter(application_grants::kind.eq(kind))
            .filter(application_grants::scope.ne_all(&kept));
        diesel::delete(gone).execute(tx.conn())?;
        for scope in kept {
            let row = (
                application_grants::application_id.eq(application.as_str()),
                application_grants::kind.eq(kind),
                application_grants::scope.eq(scope),
                application_grants::granted_by.eq(by),
                application_grants::granted_at.eq(now.0),
            );
            each_backend!(tx.conn(), c => diesel::insert_into(application_grants::table).values(row).on_conflict_do_nothing().execute(c))?;
        }
    }
    Ok(())
}

/// Notes that an assertion was shown; `false` when it was before.
///
/// # Errors
/// Only the database's own.
pub fn claim_assertion(tx: &mut Tx<'_>, hash: &str, expires_at: Time) -> Result<bool> {
    let row = (used_assertions::hash.eq(hash), used_assertions::expires_at.eq(expires_at.0));
    let fresh = each_backend!(tx.conn(), c => diesel::insert_into(used_assertions::table).values(row).on_conflict_do_nothing().execute(c))?;
    Ok(fresh == 1)
}

/// Forgets assertions that expired before `before`, at most `limit`, and says how many.
///
/// # Errors
/// Only the database's own.
pub fn purge_assertions(tx: &mut Tx<'_>, before: Time, limit: i64) -> Result<usize> {
    Ok(delete_some!(tx, used_assertions, hash: String, used_assertions::expires_at.lt(before.0), limit))
}
