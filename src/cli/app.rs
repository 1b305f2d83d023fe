//! `muster app`.

use std::path::PathBuf;

use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::find;
use super::who::Who;
use crate::app::App;
use crate::clock::DAY;
use crate::domain::Refusal;
use crate::domain::access::Scope;
use crate::domain::application::{Application, Client, Credential, Grants, Proof, Redirect};
use crate::ids::CredentialId;
use crate::service::application::{self, New};
use crate::service::identity::oauth;
use crate::service::{Error, Result};
use crate::store::applications;

/// Life of a secret that is made with its application.
const SECRET_LIFETIME: i64 = 180 * DAY;
/// How many applications are listed at most.
const MANY: i64 = 1000;

/// What is done to applications.
#[derive(Debug, Deserialize, Serialize, Subcommand)]
pub enum Command {
    /// Shows the applications that are registered
    List,
    /// Shows an application with its secrets (not their texts), certificates and permissions
    Show {
        /// Client id, id or name
        app: String,
    },
    /// Registers an application
    Create(Create),
    /// Lets an application get tokens again
    Enable {
        /// Client id, id or name
        app: String,
    },
    /// Lets an application get no tokens; those that it has open nothing
    Disable {
        /// Client id, id or name
        app: String,
    },
    /// Deletes an application; its tokens open nothing any more
    Delete {
        /// Client id, id or name
        app: String,
    },
    /// Makes a secret, and shows it once
    Secret {
        /// Client id, id or name
        app: String,
        /// What it is for
        #[arg(long, default_value = "secret")]
        name: String,
        /// How long it is good, in days
        #[arg(long, default_value_t = 180)]
        days: u32,
    },
    /// Makes a token with which an identity provider provisions users and groups (SCIM), and shows it once
    ScimToken {
        /// Client id, id or name
        app: String,
        /// What it is for
        #[arg(long, default_value = "scim")]
        name: String,
        /// How long it is good, in days
        #[arg(long, value_name = "DAYS", default_value_t = 365)]
        expires: u32,
    },
    /// Registers a certificate with whose key the application proves itself
    Certificate {
        /// Client id, id or name
        app: String,
        /// What it is for
        #[arg(long, default_value = "certificate")]
        name: String,
        /// The certificate, PEM or DER
        #[arg(value_name = "FILE", value_parser = read_file)]
        file: Contents,
    },
    /// Takes a secret, token or certificate away
    RemoveCredential {
        /// Client id, id or name
        app: String,
        /// Its id
        credential: String,
    },
    /// Says what an application may do: its permissions become these
    Grant {
        /// Client id, id or name
        app: String,
        /// A permission in the application's own name; may be repeated
        #[arg(long, value_name = "PERMISSION")]
        own: Vec<String>,
        /// A permission in the name of the person who signed in; may be repeated
        #[arg(long, value_name = "PERMISSION")]
        delegated: Vec<String>,
    },
    /// Shows the permissions that there are
    Permissions,
}

/// An application to be.
#[derive(Debug, clap::Args, Deserialize, Serialize)]
pub struct Create {
    /// Its name
    name: String,
    /// Keeps no secret: a program on a device or in a browser
    #[arg(long)]
    public: bool,
    /// Where people are sent back to, for a program on a server; may be repeated
    #[arg(long, value_name = "URI")]
    web: Vec<String>,
    /// The same for a program in a browser
    #[arg(long, value_name = "URI")]
    spa: Vec<String>,
    /// The same for a program on a device
    #[arg(long, value_name = "URI")]
    native: Vec<String>,
    /// Where people are sent after signing out; may be repeated
    #[arg(long, value_name = "URI")]
    logout: Vec<String>,
    /// A permission in the application's own name; may be repeated
    #[arg(long, value_name = "PERMISSION")]
    own: Vec<String>,
    /// A permission in the name of the person who signed in; may be repeated
    #[arg(long, value_name = "PERMISSION")]
    delegated: Vec<String>,
    /// Makes a secret at once, and shows it once
    #[arg(long)]
    secret: bool,
}

/// What was read from a file.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Contents(Vec<u8>);

fn read_file(name: &str) -> std::result::Result<Contents, String> {
    std::fs::read(PathBuf::from(name)).map(Contents).map_err(|error| error.to_string())
}

/// Reads permissions by their names.
fn scopes(names: &[String]) -> Result<std::collections::BTreeSet<Scope>> {
    let unknown = |name: &str| Error::Invalid(Refusal::PermissionUnknown, name.chars().take(100).collect());
    names.iter().map(|name| Scope::parse(name).ok_or_else(|| unknown(name))).collect()
}

pub(super) async fn run(app: &App, command: Command, who: &Who) -> Result<Value> {
    let by = &who.by;
    match command {
        Command::List => {
            let all = app.store.read(|conn| applications::list_applications(conn, ("", ""), MANY)).await?;
            Ok(all.iter().map(show).collect())
        }
        Command::Show { app: name } => {
            let found = find::application(app, &name).await?;
            show_whole(app, &found).await
        }
        Command::Create(new) => create(app, new, who).await,
        Command::Enable { app: name } => enable(app, &name, true, who).await,
        Command::Disable { app: name } => enable(app, &name, false, who).await,
        Command::Delete { app: name } => {
            let found = find::application(app, &name).await?;
            check_usable(app, &found, who).await?;
            application::delete(app, &found.id, by).await?;
            Ok(json!({ "deleted": found.client_id }))
        }
        Command::Secret { app: name, name: title, days } => {
            let found = find::application(app, &name).await?;
            check_usable(app, &found, who).await?;
            let made = application::add_secret(app, &found.id, &title, i64::from(days) * DAY, by).await?;
            Ok(json!({ "id": made.credential.id, "secret": made.show(), "expires": made.credential.ends_at.to_string() }))
        }
        Command::ScimToken { app: name, name: title, expires } => {
            let found = find::application(app, &name).await?;
            check_usable(app, &found, who).await?;
            let made = application::add_scim_token(app, &found.id, &title, i64::from(expires) * DAY, by).await?;
            Ok(json!({
                "id": made.credential.id,
                "tenant_url": format!("{}{}", app.config.web_url(), crate::http::scim::ROOT),
                "token": made.show(),
                "expires": made.credential.ends_at.to_string(),
            }))
        }
        Command::Certificate { app: name, name: title, file } => {
            let found = find::application(app, &name).await?;
            check_usable(app, &found, who).await?;
            let made = application::add_certificate(app, &found.id, &title, &file.0, by).await?;
            Ok(show_credential(&made))
        }
        Command::RemoveCredential { app: name, credential } => {
            let found = find::application(app, &name).await?;
            check_usable(app, &found, who).await?;
            let id = CredentialId::parse(&credential).ok_or_else(|| Error::Unknown(format!("a secret or certificate \"{credential}\"")))?;
            application::remove_credential(app, &found.id, &id, by).await?;
            Ok(json!({ "removed": id }))
        }
        Command::Grant { app: name, own, delegated } => {
            let found = find::application(app, &name).await?;
            let grants = Grants { own: scopes(&own)?, delegated: scopes(&delegated)? };
            who.check_giver_of_permissions(&grants.own)?;
            check_usable(app, &found, who).await?;
            application::grant(app, &found.id, grants, by).await?;
            show_whole(app, &found).await
        }
        Command::Permissions => Ok(Scope::ALL.iter().map(|scope| json!({ "permission": scope.as_str() })).collect()),
    }
}

async fn create(app: &App, new: Create, who: &Who) -> Result<Value> {
    let mut redirects = Vec::new();
    for (client, uris) in [(Client::Web, &new.web), (Client::SinglePage, &new.spa), (Client::Native, &new.native)] {
        for uri in uris {
            redirects.push(Redirect::new(client, uri).map_err(|refusal| Error::Invalid(refusal, uri.chars().take(100).collect()))?);
        }
    }
    let grants = Grants { own: scopes(&new.own)?, delegated: scopes(&new.delegated)? };
    if grants.own.iter().any(|scope| scope.is_of_a_person()) {
        return Err(Refusal::PermissionOfPerson.into());
    }
    who.check_giver_of_permissions(&grants.own)?;
    let by = &who.by;
    let made =
        application::create(app, New { display_name: new.name, public: new.public, redirects, logout_redirects: new.logout }, by).await?;
    if !grants.own.is_empty() || !grants.delegated.is_empty() {
        application::grant(app, &made.id, grants, by).await?;
    }
    let secret = if new.secret { Some(application::add_secret(app, &made.id, "secret", SECRET_LIFETIME, by).await?) } else { None };
    let mut answer = show_whole(app, &made).await?;
    if let (Some(secret), Some(answer)) = (secret, answer.as_object_mut()) {
        answer.insert("secret".into(), secret.show().into());
        answer.insert("secret_expires".into(), secret.credential.ends_at.to_string().into());
    }
    Ok(answer)
}

/// Whether what an application may do in its own name may be made usable by who asks, or of no use any more. By the command line everybody
/// works at other machines.
async fn check_usable(app: &App, application: &Application, who: &Who) -> Result<()> {
    if application.is_built_in() {
        return who.check_giver_of_permissions(&Scope::ALL.iter().copied().collect());
    }
    let id = application.id.clone();
    let held = app.store.read(move |conn| applications::load_grants(conn, &id)).await?;
    who.check_giver_of_permissions(&held.own)
}

async fn enable(app: &App, name: &str, enabled: bool, who: &Who) -> Result<Value> {
    let found = find::application(app, name).await?;
    check_usable(app, &found, who).await?;
    let changed = Application { enabled, ..found };
    application::update(app, changed.clone(), &who.by).await?;
    Ok(show(&changed))
}

fn show(application: &Application) -> Value {
    json!({
        "id": application.id,
        "client_id": application.client_id,
        "name": application.display_name,
        "enabled": application.enabled,
        "public": application.public,
    })
}

fn show_credential(credential: &Credential) -> Value {
    let (kind, told) = match &credential.proof {
        Proof::Secret { hint, .. } => ("secret", format!("{hint}…")),
        Proof::Token { hint, .. } => ("scim-token", format!("{hint}…")),
        Proof::Certificate { sha1, .. } => ("certificate", sha1.clone()),
    };
    json!({ "id": credential.id, "kind": kind, "name": credential.display_name, "begins": told, "expires": credential.ends_at.to_string() })
}

async fn show_whole(app: &App, application: &Application) -> Result<Value> {
    let id = application.id.clone();
    let (credentials, grants) =
        app.store.read(move |conn| Ok((applications::list_credentials(conn, &id)?, applications::load_grants(conn, &id)?))).await?;
    Ok(json!({
        "id": application.id,
        "client_id": application.client_id,
        "name": application.display_name,
        "enabled": application.enabled,
        "public": application.public,
        "tenant_id": app.tenant,
        "authority": app.config.web_url(),
        "issuer": oauth::issuer(app),
        "redirects": application.redirects,
        "logout_redirects": application.logout_redirects,
        "credentials": credentials.iter().map(show_credential).collect::<Vec<_>>(),
        "own": grants.own.iter().map(|scope| scope.as_str()).collect::<Vec<_>>(),
        "delegated": grants.delegated.iter().map(|scope| scope.as_str()).collect::<Vec<_>>(),
    }))
}
