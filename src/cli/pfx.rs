//! `muster user pfx`: identities that are brought as a file for a person.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ca::{KeyText, read_key};
use super::{ask, find};
use crate::app::App;
use crate::domain::pfx::{Pfx, Purpose};
use crate::ids::PfxId;
use crate::secret::Secret;
use crate::service::directory::By;
use crate::service::pfx::Brought;
use crate::service::{Error, Result, pfx, pfx_password};

/// Largest file that is read, in bytes.
const LARGEST: u64 = 256 * 1024;
/// Longest password, in bytes.
const LONGEST: usize = 1024;

/// What is done to them.
#[derive(Debug, Deserialize, Serialize, Subcommand)]
pub enum Command {
    /// Shows those of a user; nobody gets to see their keys
    List {
        /// User principal name or id
        user: String,
    },
    /// Brings one from a PFX (PKCS#12) file: profiles with imported-pfx hand it to the user's devices
    Import(Box<Import>),
    /// Shows the key for which programs encrypt passwords when they bring identities over the API
    Key,
    /// Deletes one; the user's devices give it back
    Delete {
        /// User principal name or id
        user: String,
        /// Its id, or the SHA-256 of its certificate
        identity: String,
    },
}

/// What is brought.
#[derive(Debug, clap::Args, Deserialize, Serialize)]
pub struct Import {
    /// User principal name or id
    user: String,
    /// The file
    #[arg(value_name = "FILE", value_parser = read_file)]
    file: KeyText,
    /// What it is for: smime-encryption, smime-signing, vpn or wifi
    #[arg(long, value_parser = read_purpose)]
    purpose: Purpose,
    /// File whose first line is the password; default: it is asked for, or read from the standard input
    #[arg(long, value_name = "FILE", value_parser = read_key)]
    password_file: Option<KeyText>,
}

/// The files are read here, because the order may be carried out by another process.
fn read_file(path: &str) -> std::result::Result<KeyText, String> {
    let fail = |error: std::io::Error| error.to_string();
    if std::fs::metadata(path).map_err(fail)?.len() > LARGEST {
        return Err(format!("longer than {LARGEST} bytes"));
    }
    let content = zeroize::Zeroizing::new(std::fs::read(path).map_err(fail)?);
    Ok(KeyText::new(STANDARD.encode(&*content)))
}

fn read_purpose(text: &str) -> std::result::Result<Purpose, String> {
    Purpose::parse(text)
        .ok_or_else(|| format!("use one of {}", Purpose::ALL.iter().map(|purpose| purpose.as_str()).collect::<Vec<_>>().join(", ")))
}

impl Command {
    /// The same with the password, which is asked for where the person is.
    pub(super) fn with_password(self) -> anyhow::Result<Self> {
        Ok(match self {
            Self::Import(import) if import.password_file.is_none() => Self::Import(Box::new(Import {
                password_file: Some(KeyText::new(ask::secret("Password of the file", LONGEST as u64)?)),
                ..*import
            })),
            other => other,
        })
    }
}

/// The first line of a text.
fn password(text: &KeyText) -> Secret {
    let secret = text.secret();
    let line = secret.expose().split(|byte| *byte == b'\n').next().unwrap_or_default();
    Secret::new(line.strip_suffix(b"\r").unwrap_or(line).to_vec())
}

pub(super) async fn run(app: &App, command: Command, by: &By) -> Result<Value> {
    match command {
        Command::List { user } => {
            let user = find::user(app, &user).await?;
            Ok(pfx::list(app, &user.id).await?.iter().map(row).collect())
        }
        Command::Key => {
            let key = pfx_password::public(app).await?;
            Ok(json!({ "key_name": key.key_name, "provider_name": pfx_password::PROVIDER, "public_key": key.pem }))
        }
        Command::Import(import) => {
            let user = find::user(app, &import.user).await?;
            let file = STANDARD.decode(import.file.secret().expose()).map_err(Error::internal)?;
            let password = import.password_file.as_ref().map_or_else(|| Secret::new(Vec::new()), password);
            let brought = Brought { purpose: import.purpose, file: &file, password: &password, sent: None, thumbprint: None };
            Ok(row(&pfx::import(app, &user.id, brought, by).await?))
        }
        Command::Delete { user, identity } => {
            let user = find::user(app, &user).await?;
            let named = PfxId::parse(&identity);
            let found = pfx::list(app, &user.id).await?.into_iter().find(|pfx| Some(&pfx.id) == named.as_ref() || pfx.sha256 == identity);
            let found = found.ok_or_else(|| find::missing("imported identity", &identity, "user pfx list USER"))?;
            pfx::delete(app, &user.id, &found.id, by).await?;
            Ok(json!({ "deleted": found.id }))
        }
    }
}

fn row(pfx: &Pfx) -> Value {
    json!({
        "id": pfx.id, "purpose": pfx.purpose, "subject": pfx.subject, "not_before": pfx.not_before.to_string(),
        "not_after": pfx.not_after.to_string(), "sha256": pfx.sha256,
    })
}
