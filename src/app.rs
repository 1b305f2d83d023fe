//! What a running server is made of. Built here and nowhere else; use cases receive `&App`.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Notify;

use crate::clock::{Clock, Time};
use crate::config::Config;
use crate::ids::TenantId;
use crate::secret::Sealer;
use crate::store::Store;

/// The parts that use cases work with.
pub struct App {
    /// The database.
    pub store: Store,
    /// The configuration.
    pub config: Arc<Config>,
    /// The organisation.
    pub tenant: TenantId,
    /// This process's name among the nodes, for leases.
    pub node: String,
    /// HTTP client for everything that leaves: no redirects, bounded in time.
    pub http: reqwest::Client,
    /// Rung after a commit that put something into the outbox.
    pub outbox: Notify,
    clock: Arc<dyn Clock>,
    sealer: RwLock<Arc<Sealer>>,
}

impl App {
    /// Wires a server together.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(store: Store, config: Config, tenant: TenantId, clock: Arc<dyn Clock>, sealer: Sealer) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(std::time::Duration::from_secs(u64::from(config.signals.timeout_seconds)))
            .build()?;
        Ok(Self {
            store,
            config: Arc::new(config),
            tenant,
            node: uuid::Uuid::now_v7().to_string(),
            http,
            outbox: Notify::new(),
            clock,
            sealer: RwLock::new(Arc::new(sealer)),
        })
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// The master keys in force.
    #[must_use]
    pub fn sealer(&self) -> Arc<Sealer> {
        Arc::clone(&self.sealer.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts other master keys in force.
    pub fn replace_sealer(&self, sealer: Sealer) {
        *self.sealer.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(sealer);
    }
}
