//! `muster init`.

use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{Order, control};
use crate::app::{App, Held, has_keys_in_environment, read_master_keys};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, Face};
use crate::secret::Sealer;
use crate::service::identity::sign_in;
use crate::service::setup;
use crate::store::Store;

/// What the new organisation starts with.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// User name of the first administrator
    #[arg(long, value_name = "UPN", default_value = "admin@localhost")]
    admin: String,
}

/// Makes what is missing and leaves alone what is there: may be run again.
pub(super) async fn run(config: Config, arguments: &Arguments) -> anyhow::Result<Value> {
    // A server that runs has made all of it, and keeps a SQLite database to itself.
    if let Some(status) = control::send(&config.control_path(), &Order::Status).await? {
        return Ok(json!({
            "organisation": status.get("organisation"),
            "tenant": status.get("tenant"),
            "administrator": null,
            "next": "nothing: the instance is set up, and its server runs; `muster user` looks after administrators",
        }));
    }
    let app = prepare(config).await?;
    let welcome = setup::complete(&app, &arguments.admin, &control::own_name()).await?;
    let (organisation, tenant, administrator) = (&app.config.organisation, app.tenant.as_str(), &welcome.administrator);
    let mut answer = match &welcome.pass {
        Some(pass) => json!({
            "organisation": organisation, "tenant": tenant, "administrator": administrator, "temporary_access_pass": pass,
            "sign_in_link": sign_in::link(&app, administrator, pass),
            "good_for": format!("one sign-in within a day, by the link or to enrol a device; later: muster user tap {administrator}"),
            "next": "muster serve",
        }),
        None => json!({
            "organisation": organisation, "tenant": tenant, "administrator": administrator,
            "next": format!(
                "nothing: the instance is set up, and nobody was added; `muster serve` runs it, `muster user tap {administrator}` makes a new \
                 pass, `muster user create UPN --administrator` another administrator"
            ),
        }),
    };
    if let (Some(warning), Some(fields)) = (unnamed(&app.config), answer.as_object_mut()) {
        fields.insert("warning".into(), warning.into());
    }
    Ok(answer)
}

/// What to do when devices and certificates are told addresses that other machines cannot reach.
fn unnamed(config: &Config) -> Option<String> {
    let open = |face: &Face| face.url.is_none() && !face.listen.ip().is_loopback();
    let mut said = Vec::new();
    if open(&config.pki) {
        said.push(format!(
            "pki.url is not set: certificates say that lists of revocation are at {}. Set it to the address that devices use, delete {} and \
             run init again before anybody enrols",
            config.pki_url(),
            config.data_dir.display()
        ));
    }
    if open(&config.web) || (open(&config.device) && !config.single_port) {
        said.push(format!(
            "web.url or device.url is not set: other machines are told {} and {}. Set them to names that devices reach before anybody enrols",
            config.web_url(),
            config.device_url()
        ));
    }
    (!said.is_empty()).then(|| said.join("; "))
}

/// Makes authorities and administrator where they are missing, and says on standard output how to sign in.
pub(super) async fn welcome(app: &Arc<App>, admin: &str) -> anyhow::Result<()> {
    let welcome = setup::complete(app, admin, &control::own_name()).await?;
    if let (Some(warning), true) = (unnamed(&app.config), welcome.pass.is_some()) {
        tracing::warn!("{warning}");
    }
    if let Some(pass) = welcome.pass {
        println!("First administrator: {}\nTemporary Access Pass (one day, one use): {pass}", welcome.administrator);
    }
    Ok(())
}

/// Makes the folder, the master key, the database and the organisation where they are missing, and opens the instance.
pub(super) async fn prepare(config: Config) -> anyhow::Result<Arc<App>> {
    let held = make(&config).await?;
    Ok(Arc::new(App::open_held(held, config, Arc::new(SystemClock)).await?))
}

/// Makes the folder, the master key, the database and the organisation where they are missing.
pub(super) async fn make(config: &Config) -> anyhow::Result<Held> {
    make_folder(&config.data_dir)?;
    let key = config.master_key_path();
    let fresh = !key.exists() && !has_keys_in_environment();
    let sealer = if fresh { Sealer::generate()? } else { read_master_keys(config)? };
    let store = Store::open_within(&config.location(), config.database_connections, config.database_patience())?;
    if fresh {
        // A key made for a database that has another would only hide what is wrong.
        setup::find_tenant(&store, &sealer).await.with_context(|| format!("{} is missing", key.display()))?;
        sealer.write(&key)?;
    }
    setup::create_tenant(&store, &sealer, &control::own_name(), SystemClock.now()).await?;
    Ok(Held { store, sealer })
}

/// Makes a folder that only its owner may enter; one that is there is told apart when others may write into it.
pub(super) fn make_folder(folder: &Path) -> anyhow::Result<()> {
    let shown = folder.display();
    if !folder.exists() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(|| format!("{shown}"))?;
    }
    let mode = std::fs::metadata(folder).with_context(|| format!("{shown}"))?.permissions().mode();
    anyhow::ensure!(mode & 0o002 == 0, "{shown} can be written by everybody: run chmod 700 on it, or choose another data_dir");
    Ok(())
}
