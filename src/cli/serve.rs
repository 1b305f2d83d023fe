//! `muster serve`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::{control, init, orders};
use crate::app::{App, Held};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::http::server::{self, Running};
use crate::http::tls::Identity;
use crate::service;
use crate::service::pki::service_key;

/// How the server starts.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Makes the organisation first when there is none, as `muster init` does
    #[arg(long)]
    init: bool,
    /// User name of the first administrator, with --init
    #[arg(long, value_name = "UPN", default_value = "admin@localhost")]
    admin: String,
}

/// How often the server certificate in force is compared with the one to be shown: a job renews ours long before it ends.
const LOOK: Duration = Duration::from_secs(600);

/// Serves until SIGINT or SIGTERM; SIGHUP reads the server certificate anew.
pub(super) async fn run(mut config: Config, arguments: &Arguments) -> anyhow::Result<()> {
    // The database first: that another server has it says more than that its ports are taken.
    let held = if arguments.init { init::make(&config).await? } else { Held::take(&config)? };
    let listeners = server::bind(&mut config)?;
    let app = Arc::new(App::open_held(held, config, Arc::new(SystemClock)).await?);
    if arguments.init {
        init::welcome(&app, &arguments.admin).await?;
    }
    let (mut interrupt, mut terminate, mut hangup) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    let running = server::start(&app, listeners, identity(&app).await?, orders::routes())?;
    let control = control::listen(Arc::clone(&app))?;
    service::compliance::settings_in_force(&app).await?;
    let background = service::background::start(&app)?;
    tracing::info!(web = app.config.web_url(), device = app.config.device_url(), pki = app.config.pki_url(), "serving");
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = hangup.recv() => reload(&app, &running).await,
            _ = look.tick() => reload(&app, &running).await,
        }
    }
    tracing::info!("stopping");
    control.abort();
    drop(std::fs::remove_file(app.config.control_path()));
    // First the requests, which may leave effects behind; then those who carry them out.
    running.stop().await;
    background.stop().await;
    Ok(())
}

async fn reload(app: &Arc<App>, running: &Running) {
    match identity(app).await {
        Ok(identity) if identity.certificate == running.certificate.get().certificate => {}
        Ok(identity) => {
            running.certificate.replace(identity);
            tracing::info!("another server certificate is in force");
        }
        Err(error) => tracing::error!(error = %format!("{error:#}"), "the old server certificate stays in force"),
    }
}

/// The server certificate: from the configured files, or one of our own CA.
pub(super) async fn identity(app: &Arc<App>) -> anyhow::Result<Identity> {
    if let (Some(certificates), Some(key)) = (&app.config.tls.certificate_file, &app.config.tls.key_file) {
        let files = || format!("tls.certificate_file = {}, tls.key_file = {}", certificates.display(), key.display());
        return Identity::read(certificates, key).with_context(files);
    }
    service_key::renew(app).await?;
    let (own, chain) = service_key::server_identity(app).await?;
    Ok(Identity::from_der(&own.certificate, &chain, own.key.pkey().clone())?)
}
