//! What a server does besides answering: carrying out effects, running jobs, and writing down when devices were heard of.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Result, jobs, outbox, presence, reseal};
use crate::app::App;

/// How long a device's sign of life waits in memory.
const PRESENCE: Duration = Duration::from_secs(1);
/// How often a node looks whether another one has changed the master key.
const KEYS: Duration = Duration::from_secs(10);

/// The running background of a server.
#[derive(Debug)]
pub struct Background {
    jobs: jobs::Running,
    outbox: outbox::Running,
    presence: JoinHandle<()>,
    keys: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

/// Starts it.
///
/// # Errors
/// When the outbox's HTTP client cannot be made.
pub fn start(app: &Arc<App>) -> Result<Background> {
    let (stop, mut stopped) = watch::channel(false);
    let own = Arc::clone(app);
    let presence = tokio::spawn(async move {
        let mut tick = tokio::time::interval(PRESENCE);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                _ = stopped.changed() => break,
            }
            if let Err(error) = presence::flush(&own).await {
                tracing::warn!(%error, "signs of life wait for the database");
            }
        }
        if let Err(error) = presence::flush(&own).await {
            tracing::warn!(%error, "the last signs of life are lost");
        }
    });
    let keys = tokio::spawn(follow_keys(Arc::clone(app), stop.subscribe()));
    Ok(Background { jobs: jobs::start(Arc::clone(app)), outbox: outbox::start(Arc::clone(app))?, presence, keys, stop })
}

async fn follow_keys(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(KEYS);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stopped.changed() => return,
        }
        let followed = reseal::follow(&app).await;
        metrics::gauge!("muster_master_key_missing").set(if matches!(followed, Err(super::Error::Unavailable(_))) { 1.0 } else { 0.0 });
        if let Err(error) = followed {
            tracing::error!(%error, "the master keys cannot be followed");
        }
    }
}

impl Background {
    /// Stops it, after the faces have: what they left behind is carried out or stays in the store for the next start.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        drop((self.presence.await, self.keys.await));
        self.jobs.stop().await;
        self.outbox.stop().await;
    }
}
