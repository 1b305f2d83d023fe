//! `muster ca scep`: requests that wait for an administrator.

use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::app::App;
use crate::service::pki::{authority, scep};
use crate::service::{Error, Result};

/// What is done to waiting requests.
#[derive(Debug, Deserialize, Serialize, Subcommand)]
pub enum Command {
    /// Shows the requests that wait, oldest first
    Pending {
        /// How many at most
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=1000))]
        limit: i64,
    },
    /// Grants a request: its certificate is issued now
    Approve(Which),
    /// Refuses a request
    Refuse(Which),
}

/// One request.
#[derive(Debug, clap::Args, Deserialize, Serialize)]
pub struct Which {
    /// The client's transaction id
    transaction: String,
    /// The authority that was asked; needed only when two were asked under one id
    #[arg(long)]
    authority: Option<String>,
}

/// Most waiting requests that are searched for an id.
const MANY: i64 = 10_000;

impl Which {
    /// The authority's name.
    async fn authority(&self, app: &App) -> Result<String> {
        if let Some(name) = &self.authority {
            return Ok(name.clone());
        }
        let pending = scep::list_pending(app, MANY).await?;
        let mut asked = pending.iter().filter(|t| t.transaction_id == self.transaction).map(|t| &t.authority_id);
        let first = asked.next().ok_or(Error::NotFound("SCEP transaction that waits"))?;
        if asked.next().is_some() {
            return Err(Error::Conflict("several authorities were asked under this id: name one with --authority".into()));
        }
        name_of(app, first).await
    }
}

async fn name_of(app: &App, id: &crate::ids::AuthorityId) -> Result<String> {
    let all = authority::list(app).await?;
    all.iter().find(|a| a.id == *id).map(|a| a.name.clone()).ok_or(Error::NotFound("authority"))
}

pub(super) async fn run(app: &App, command: Command, actor: &str) -> Result<Value> {
    match command {
        Command::Pending { limit } => {
            let mut rows = Vec::new();
            for waiting in scep::list_pending(app, limit).await? {
                rows.push(json!({
                    "transaction": waiting.transaction_id,
                    "authority": name_of(app, &waiting.authority_id).await?,
                    "since": waiting.created_at.to_string(),
                    "device": waiting.grant.device_id,
                    "user": waiting.grant.user_id,
                    "key_sha256": waiting.signer_hash,
                }));
            }
            Ok(Value::Array(rows))
        }
        Command::Approve(which) => {
            let id = scep::approve(app, &which.authority(app).await?, &which.transaction, actor, "local").await?;
            Ok(json!({ "transaction": which.transaction, "certificate": id }))
        }
        Command::Refuse(which) => {
            scep::refuse(app, &which.authority(app).await?, &which.transaction, actor, "local").await?;
            Ok(json!({ "transaction": which.transaction, "refused": true }))
        }
    }
}
