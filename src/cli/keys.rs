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
    /// Makes the next master key and puts it into the key file: copy that file to every node before `rotate`
    Prepare,
    /// Puts the prepared master key (with SQLite, else a new one) in force and seals everything again; keep a copy of the file
    Rotate,
    /// Drops the old master keys; older copies of the database need them
    Retire,
}

pub(super) async fn run(app: &App, command: Command, actor: &str) -> Result<Value> {
    match command {
        Command::Status => {}
        Command::Prepare => reseal::prepare(app, actor).await?,
        Command::Rotate => drop(reseal::rotate(app, actor).await?),
        Command::Retire => reseal::retire(app, actor).await?,
    }
    let status = reseal::status(app).await?;
    Ok(json!({
        "current": format!("{:08x}", status.current),
        "next": status.prepared.map(|id| format!("{id:08x}")),
        "keys": status.keys,
        "sealed_under_it": status.sealed_under_it,
        "sealed_under_old_ones": status.sealed_under_old_ones,
        "file": app.config.master_key_path(),
    }))
}
