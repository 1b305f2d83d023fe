//! `muster backup` and `muster restore`.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::app::{App, has_keys_in_environment, read_master_keys};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::service;
use crate::store::backup::{self, Note};
use crate::store::sealed::AUDIT_KEY;
use crate::store::{self, Location, Store, meta};

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
    /// File that `muster backup` wrote; none on PostgreSQL, to say that its database was restored by other means
    from: Option<PathBuf>,
}

pub(super) async fn run(app: &Arc<App>, arguments: Backup, actor: &str) -> service::Result<Value> {
    service::backup::back_up(app, &arguments.to, actor).await?;
    let key = app.config.master_key_path();
    let note = if has_keys_in_environment() {
        "the copy is of no use without the master keys that the environment holds: keep them in another safe place".to_owned()
    } else {
        format!("the copy is of no use without {}: keep a copy of it, in another safe place", key.display())
    };
    Ok(json!({ "file": arguments.to, "master_key": note }))
}

pub(super) async fn restore(config: &Config, arguments: &Restore) -> anyhow::Result<Value> {
    let now = SystemClock.now();
    let note = |from: String| Note { by: super::control::own_name(), from, at: now.to_string() };
    let master = read_master_keys(config);
    let keys = master.as_ref().map(|_| "found").unwrap_or("missing: bring the master key of the copied instance");
    let next = "run `muster doctor`, then `muster serve`; look again at what was revoked or enrolled since the copy was made";
    match (config.location(), &arguments.from) {
        (location @ Location::Postgres(_), None) => {
            let text = serde_json::to_string(&note("postgresql".into()))?;
            let store = Store::open_within(&location, 1, config.database_patience())?;
            store.write(move |tx| meta::upsert_value(tx, backup::RESTORED, &text)).await?;
            Ok(json!({ "master_key": keys, "next": next }))
        }
        (Location::Postgres(_), Some(_)) => anyhow::bail!(
            "this instance is on PostgreSQL: stop every server, restore with pg_restore or psql, then run `muster restore` without a file"
        ),
        (Location::Sqlite(_), None) => anyhow::bail!("name the file that `muster backup` wrote"),
        (Location::Sqlite(target), Some(from)) => {
            if let (Ok(master), Some(sealed)) = (&master, backup::find_value_in(from, AUDIT_KEY)) {
                let opens = hex::decode(sealed).is_ok_and(|sealed| master.open(AUDIT_KEY, &sealed).is_ok());
                anyhow::ensure!(
                    opens,
                    "the master key that is configured does not open {}: bring that of the copied instance; nothing was changed",
                    from.display()
                );
            }
            if let Some(folder) = target.parent() {
                super::init::make_folder(folder)?;
            }
            let kept = backup::restore(from, &target, &now.seconds().to_string(), &note(from.display().to_string()));
            let kept = kept.map_err(|error| match error {
                // It is the copy or a file that does not do, not the database.
                store::Error::Unavailable(why) => anyhow::anyhow!(why),
                other => other.into(),
            })?;
            Ok(json!({ "database": target, "before": kept, "master_key": keys, "next": next }))
        }
    }
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
