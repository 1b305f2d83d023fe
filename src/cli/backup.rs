//! `muster backup` and `muster restore`.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::app::{App, has_keys_in_environment, read_master_keys};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::service;
use crate::store::{Location, backup};

/// Where the copy goes.
#[derive(clap::Args, Debug, serde::Deserialize, serde::Serialize)]
pub struct Backup {
    /// File to write; it must not exist
    to: PathBuf,
}

impl Backup {
    pub(super) fn absolute(self) -> std::io::Result<Self> {
        Ok(Self { to: std::path::absolute(self.to)? })
    }
}

/// Which copy comes back.
#[derive(clap::Args, Debug)]
pub(super) struct Restore {
    /// File that `muster backup` wrote
    from: PathBuf,
}

pub(super) async fn run(app: &Arc<App>, arguments: Backup, actor: &str) -> service::Result<Value> {
    service::health::back_up(app, &arguments.to, actor).await?;
    let key = app.config.master_key_path();
    let note = if has_keys_in_environment() {
        "the copy is of no use without the master keys that the environment holds: keep them in another safe place".to_owned()
    } else {
        format!("the copy is of no use without {}: keep a copy of it, in another safe place", key.display())
    };
    Ok(json!({ "file": arguments.to, "master_key": note }))
}

pub(super) fn restore(config: &Config, arguments: &Restore) -> anyhow::Result<Value> {
    let Location::Sqlite(target) = config.location() else {
        anyhow::bail!("this instance is on PostgreSQL: restore it with pg_restore or psql");
    };
    if let Some(folder) = target.parent() {
        super::init::make_folder(folder)?;
    }
    let stamp = SystemClock.now().seconds().to_string();
    let kept = backup::restore(&arguments.from, &target, &stamp)?;
    let keys = read_master_keys(config).map(|_| "found").unwrap_or("missing: bring the master key of the copied instance");
    let next = "run `muster doctor`, then `muster serve`";
    Ok(json!({ "database": target, "before": kept, "master_key": keys, "next": next }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_path_means_the_same_file_in_another_process() {
        let arguments = Backup { to: "copy.db".into() }.absolute().unwrap();
        assert!(arguments.to.is_absolute());
    }
}
