//! Applications that call the API: registering them, what they prove themselves with, and what they may do.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::pkey::Id;
use openssl::sha::{sha1, sha256};
use openssl::x509::X509;
use serde_json::{Value, json};

use super::directory::{By, check_name};
use super::{Error, Result};
use crate::app::App;
use crate::clock::{HOUR, Time};
use crate::domain::Refusal;
use crate::domain::access::{ADMINISTRATOR, Caller, Identity, Principal, Role, Scope, may_give};
use crate::domain::application::{Application, Credential, Grants, LONGEST_SECRET, MOST_CREDENTIALS, MOST_REDIRECTS, Proof, Redirect};
use crate::ids::{ApplicationId, CredentialId};
use crate::secret::{Secret, random};
use crate::store::{self, Tx, applications, audit, roles};
use crate::wire::x509::Parts;

/// How many letters of a secret are kept to tell it from others.
const HINT: usize = 3;
/// Largest certificate that is read.
const LARGEST_CERTIFICATE: usize = 64 * 1024;

/// An application to be.
#[derive(Clone, Debug, Default)]
pub struct New {
    /// Name for people.
    pub display_name: String,
    /// Keeps no secret.
    pub public: bool,
    /// Where people may be sent back to.
    pub redirects: Vec<Redirect>,
    /// Where people may be sent after signing out.
    pub logout_redirects: Vec<String>,
}

fn shown(application: &Application) -> Value {
    json!({
        "client_id": application.client_id,
        "name": application.display_name,
        "enabled": application.enabled,
        "public": application.public,
        "redirects": application.redirects,
        "logout_redirects": application.logout_redirects,
    })
}

fn check(application: &Application) -> Result<()> {
    check_name(&application.display_name)?;
    if application.redirects.len().max(application.logout_redirects.len()) > MOST_REDIRECTS {
        return Err(Refusal::ApplicationTooManyParts.into());
    }
    for redirect in &application.redirects {
        Redirect::new(redirect.client, &redirect.uri)?;
    }
    for uri in &application.logout_redirects {
        Redirect::new(crate::domain::application::Client::Web, uri)?;
    }
    Ok(())
}

/// Registers an application. It may do nothing yet.
///
/// # Errors
/// `PRF0004`, `OAU0001`, `OAU0002`.
pub async fn create(app: &App, new: New, by: &By) -> Result<Application> {
    let application = Application {
        id: ApplicationId::new(),
        client_id: uuid::Uuid::new_v4().to_string(),
        display_name: new.display_name,
        enabled: true,
        public: new.public,
        redirects: new.redirects,
        logout_redirects: new.logout_redirects,
        version: 1,
    };
    check(&application)?;
    let (by, now, row) = (by.clone(), app.now(), application.clone());
    app.store
        .write(move |tx| {
            applications::insert_application(tx, &row, now)?;
            audit::append(tx, &by.entry("application.create", format!("application:{}", row.id)).after(&shown(&row)), now)
        })
        .await?;
    Ok(application)
}

/// Changes an application as it was read.
///
/// # Errors
/// `PRF0004`, `OAU0001`, `OAU0002`, `OAU0006`; [`Error::NotFound`]; [`Error::Unavailable`] when somebody else was faster.
pub async fn update(app: &App, application: Application, by: &By) -> Result<()> {
    check(&application)?;
    let (by, now) = (by.clone(), app.now());
    app.store
        .write(move |tx| {
            let before = applications::load_application(tx.conn(), &application.id)?;
            let only_enabled = Application { enabled: application.enabled, version: application.version, ..before.clone() };
            if before.is_built_in() && application != only_enabled {
                return Err(Refusal::ApplicationBuiltIn.into());
            }
            applications::claim_update(tx, &application, now)?;
            let entry = by.entry("application.update", format!("application:{}", application.id));
            audit::append(tx, &entry.before(&shown(&before)).after(&shown(&application)), now)
        })
        .await?;
    Ok(())
}

/// Deletes an application: its tokens open nothing from now on.
///
/// # Errors
/// `OAU0006`; [`Error::NotFound`].
pub async fn delete(app: &App, id: &ApplicationId, by: &By) -> Result<()> {
    let (id, by, now) = (id.clone(), by.clone(), app.now());
    app.store
        .write(move |tx| {
            let before = load_own(tx, &id)?;
            roles::delete_memberships(tx, &Principal::Application(id.clone()))?;
            applications::delete_application(tx, &id)?;
            audit::append(tx, &by.entry("application.delete", format!("application:{id}")).before(&shown(&before)), now)
        })
        .await?;
    Ok(())
}

/// A secret that was just made: the only moment at which its text is known.
#[derive(Debug)]
pub struct NewSecret {
    /// What is kept of it.
    pub credential: Credential,
    /// The text.
    pub text: Secret,
}

impl NewSecret {
    /// The text, for showing it once.
    #[must_use]
    pub fn show(&self) -> &str {
        std::str::from_utf8(self.text.expose()).unwrap_or_default()
    }
}

/// Makes a secret for an application.
///
/// # Errors
/// `PRF0004`, `OAU0002`, `OAU0003`; [`Error::NotFound`].
pub async fn add_secret(app: &App, id: &ApplicationId, display_name: &str, lifetime: i64, by: &By) -> Result<NewSecret> {
    check_name(display_name)?;
    if !(HOUR..=LONGEST_SECRET).contains(&lifetime) {
        return Err(Refusal::SecretLifetime.into());
    }
    let now = app.now();
    let text = URL_SAFE_NO_PAD.encode(random::<32>()?);
    let proof = Proof::Secret { sha256: sha256(text.as_bytes()).to_vec(), hint: text.chars().take(HINT).collect() };
    let credential =
        Credential { id: CredentialId::new(), display_name: display_name.to_owned(), proof, starts_at: now, ends_at: now.plus(lifetime) };
    add(app, id, &credential, by).await?;
    Ok(NewSecret { credential, text: Secret::new(text.into_bytes()) })
}

/// What tokens for provisioning begin with, so that one that is lost somewhere is known for what it is.
pub const SCIM_TOKEN: &str = "muster_scim_";

/// Makes a token with which an identity provider provisions users and groups in the name of the application (SCIM).
///
/// # Errors
/// `PRF0004`, `OAU0002`, `OAU0003`; `OAU0005` when the application may not do that; [`Error::NotFound`].
pub async fn add_scim_token(app: &App, id: &ApplicationId, display_name: &str, lifetime: i64, by: &By) -> Result<NewSecret> {
    check_name(display_name)?;
    if !(HOUR..=LONGEST_SECRET).contains(&lifetime) {
        return Err(Refusal::SecretLifetime.into());
    }
    let owner = id.clone();
    let grants = app.store.read(move |conn| applications::load_grants(conn, &owner)).await?;
    if !grants.own.contains(&Scope::SynchronizationDataUserUpload) {
        return Err(Refusal::ScimPermissionMissing.into());
    }
    let now = app.now();
    let text = format!("{SCIM_TOKEN}{}", URL_SAFE_NO_PAD.encode(random::<32>()?));
    let hint = text.chars().take(SCIM_TOKEN.len() + HINT).collect();
    let proof = Proof::Token { sha256: sha256(text.as_bytes()).to_vec(), hint };
    let credential =
        Credential { id: CredentialId::new(), display_name: display_name.to_owned(), proof, starts_at: now, ends_at: now.plus(lifetime) };
    add(app, id, &credential, by).await?;
    Ok(NewSecret { credential, text: Secret::new(text.into_bytes()) })
}

/// Who shows a token for provisioning: its application in its own name, with that permission alone; `None` when it is none that is good.
///
/// # Errors
/// When the database fails.
pub async fn find_by_scim_token(app: &App, text: &str) -> Result<Option<Caller>> {
    let (shown, now) = (sha256(text.as_bytes()), app.now());
    let found = app.store.look_up(move |conn| {
        // A token has 256 random bits, so that its hash can be looked up.
        let Some((application, credential)) = applications::find_by_token(conn, &shown)? else { return Ok(None) };
        if !application.enabled || !credential.is_good(now) {
            return Ok(None);
        }
        // The token lies in somebody else's forms: it is good for provisioning, whatever else the application may do.
        let mut scopes = applications::load_grants(conn, &application.id)?.own;
        scopes.retain(|scope| *scope == Scope::SynchronizationDataUserUpload);
        let identity = Identity::Application;
        Ok(Some(Caller {
            application: application.id,
            client_id: application.client_id,
            identity,
            scopes,
            roles: Vec::new(),
            signed_in_at: None,
            grant: None,
        }))
    });
    Ok(found.await?)
}

/// Registers a certificate (PEM or DER) with whose key an application signs its assertions. It is a name for the key: who issued it does not
/// matter, only its validity counts.
///
/// # Errors
/// `PRF0004`, `OAU0002`, `OAU0004`; [`Error::NotFound`].
pub async fn add_certificate(app: &App, id: &ApplicationId, display_name: &str, certificate: &[u8], by: &By) -> Result<Credential> {
    check_name(display_name)?;
    let invalid = || Error::Refused(Refusal::CredentialInvalid);
    if certificate.len() > LARGEST_CERTIFICATE {
        return Err(invalid());
    }
    let parsed = X509::from_pem(certificate).or_else(|_| X509::from_der(certificate)).map_err(|_| invalid())?;
    let key = parsed.public_key().map_err(|_| invalid())?;
    let strong = match key.id() {
        Id::RSA => (2048..=8192).contains(&key.bits()),
        Id::EC => key.bits() == 256,
        _ => false,
    };
    if !strong {
        return Err(invalid());
    }
    let der = parsed.to_der()?;
    let parts = Parts::parse(&der).map_err(|_| invalid())?;
    let (not_before, not_after) = (Time::from_seconds(parts.not_before), Time::from_seconds(parts.not_after));
    let credential = Credential {
        id: CredentialId::new(),
        display_name: display_name.to_owned(),
        proof: Proof::Certificate { sha1: hex::encode(sha1(&der)), sha256: hex::encode(sha256(&der)), der: der.clone() },
        starts_at: not_before,
        ends_at: not_after,
    };
    add(app, id, &credential, by).await?;
    Ok(credential)
}

async fn add(app: &App, id: &ApplicationId, credential: &Credential, by: &By) -> Result<()> {
    let (id, row, by, now) = (id.clone(), credential.clone(), by.clone(), app.now());
    app.store
        .write(move |tx| {
            touch(tx, &id, now)?;
            if applications::list_credentials(tx.conn(), &id)?.len() >= MOST_CREDENTIALS {
                return Err(Refusal::ApplicationTooManyParts.into());
            }
            applications::insert_credential(tx, &id, &row)?;
            let kind = match row.proof {
                Proof::Secret { .. } => "secret",
                Proof::Token { .. } => "scim-token",
                Proof::Certificate { .. } => "certificate",
            };
            let state = json!({ "credential": row.id, "kind": kind, "name": row.display_name, "ends_at": row.ends_at.to_string() });
            audit::append(tx, &by.entry("application.add-credential", format!("application:{id}")).after(&state), now)
        })
        .await?;
    Ok(())
}

/// Takes a secret or certificate away.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn remove_credential(app: &App, id: &ApplicationId, credential: &CredentialId, by: &By) -> Result<()> {
    let (id, credential, by, now) = (id.clone(), credential.clone(), by.clone(), app.now());
    app.store
        .write(move |tx| {
            touch(tx, &id, now)?;
            applications::delete_credential(tx, &id, &credential)?;
            let state = json!({ "credential": credential });
            audit::append(tx, &by.entry("application.remove-credential", format!("application:{id}")).before(&state), now)
        })
        .await?;
    Ok(())
}

/// Says what an application may do, in its own name and in a person's: an administrator's consent for everybody.
///
/// # Errors
/// `ACC0012`; [`Error::NotFound`].
pub async fn grant(app: &App, id: &ApplicationId, grants: Grants, by: &By) -> Result<()> {
    if grants.own.iter().any(|scope| scope.is_of_a_person()) {
        return Err(Refusal::PermissionOfPerson.into());
    }
    let (id, by, now) = (id.clone(), by.clone(), app.now());
    app.store
        .write(move |tx| {
            touch(tx, &id, now)?;
            let before = applications::load_grants(tx.conn(), &id)?;
            applications::replace_grants(tx, &id, &grants, &by.actor, now)?;
            let entry = by.entry("application.grant", format!("application:{id}"));
            audit::append(tx, &entry.before(&shown_grants(&before)).after(&shown_grants(&grants)), now)
        })
        .await?;
    Ok(())
}

/// Adds to what the application may do in a person's name what `missing` says for the present consent; false when it says nothing.
pub(in crate::service) fn add_consent(
    tx: &mut Tx<'_>,
    id: &ApplicationId,
    missing: impl Fn(&BTreeSet<Scope>) -> Option<BTreeSet<Scope>>,
    by: &By,
    now: Time,
) -> store::Result<bool> {
    // The application's row is locked by it, as in `grant`.
    touch(tx, id, now)?;
    let before = applications::load_grants(tx.conn(), id)?;
    let Some(more) = missing(&before.delegated) else { return Ok(false) };
    let mut after = before.clone();
    after.delegated.extend(more);
    applications::replace_grants(tx, id, &after, &by.actor, now)?;
    let entry = by.entry("application.grant", format!("application:{id}"));
    audit::append(tx, &entry.before(&shown_grants(&before)).after(&shown_grants(&after)), now)?;
    Ok(true)
}

fn shown_grants(grants: &Grants) -> Value {
    let words = |scopes: &BTreeSet<Scope>| scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>();
    json!({ "own": words(&grants.own), "delegated": words(&grants.delegated) })
}

/// Counts the application's version up, so that two who change it at once see each other.
fn touch(tx: &mut Tx<'_>, id: &ApplicationId, now: Time) -> store::Result<()> {
    let application = load_own(tx, id)?;
    applications::claim_update(tx, &application, now)
}

/// The application, which the organisation registered itself.
fn load_own(tx: &mut Tx<'_>, id: &ApplicationId) -> store::Result<Application> {
    let application = applications::load_application(tx.conn(), id)?;
    if application.is_built_in() { Err(Refusal::ApplicationBuiltIn.into()) } else { Ok(application) }
}

/// Whether the caller may give an application these permissions in its own name, or the means to use them: whoever has such an application
/// is bound by no role, so only those may who may do everything everywhere.
///
/// # Errors
/// `ACC0015`.
pub fn check_giver(giver: &Caller, own: &BTreeSet<Scope>) -> Result<()> {
    let may = own.is_empty() || Role::built_in(ADMINISTRATOR).is_some_and(|role| may_give(giver, &role));
    if may { Ok(()) } else { Err(Refusal::PermissionBeyondGiver.into()) }
}
