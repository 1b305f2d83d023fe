//! `muster keys`: the master keys.

use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::app::App;
use crate::service::{Result, reseal};

/// What is done to the master keys.
#[derive(Debug, Deserialize, Serialize, Subcommand)]
pub enum Command {
    /// Shows the master keys, and how much is sealed under an old one
    Status,
    /// Makes a new master key and seals everything again under it; keep a copy of the file
    Rotate,
    /// Drops the old master keys; older copies of the database need them
    Retire,
}

pub(super) async fn run(app: &App, command: Command, actor: &str) -> Result<Value> {
    match command {
        Command::Status => {}
        Command::Rotate => drop(reseal::rotate(app, actor).await?),
        Command::Retire => reseal::retire(app, actor).await?,
    }
    let status = reseal::status(app).await?;
    Ok(json!({
        "current": format!("{:08x}", status.current),
        "keys": status.keys,
        "sealed_under_it": status.sealed_under_it,
        "sealed_under_old_ones": status.sealed_under_old_ones,
        "file": app.config.master_key_path(),
    }))
}
