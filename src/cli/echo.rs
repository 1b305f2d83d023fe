//! `muster echo`: the server's own faces with nothing behind them, as a measure for `muster simulate --report`.

use tokio::signal::unix::{SignalKind, signal};

use super::{init, serve};
use crate::config::Config;
use crate::http::echo::ROUTES;
use crate::http::server;

/// Answers until SIGINT or SIGTERM. The folder is made as `muster init` makes it.
pub(super) async fn run(mut config: Config) -> anyhow::Result<()> {
    let listeners = server::bind(&mut config)?;
    let app = init::prepare(config).await?;
    crate::service::pki::authority::create_hierarchy(&app, &super::control::own_name(), "local").await?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let running = server::start(&app, listeners, serve::identity(&app).await?, ROUTES)?;
    tracing::info!(web = app.config.web_url(), device = app.config.device_url(), pki = app.config.pki_url(), "serving");
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    running.stop().await;
    Ok(())
}
