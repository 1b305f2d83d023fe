//! What a running server is made of. Built here and nowhere else; use cases receive `&App`.

use std::path::PathBuf;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use tokio::sync::Notify;

use crate::clock::{Clock, Time};
use crate::config::Config;
use crate::domain::apple::profile::Names;
use crate::ids::TenantId;
use crate::secret::{SealError, Sealer, Secret};
use crate::service::callers::Callers;
use crate::service::identity::oauth::keys::TokenKeys;
use crate::service::pki::keys::Keys;
use crate::service::presence::Presence;
use crate::service::repeats::Repeats;
use crate::service::strangers::Strangers;
use crate::service::windows::entra::KeyCache;
use crate::store::{Location, Store};

/// The variable that may hold the master keys instead of a file.
const KEYS_VARIABLE: &str = "MUSTER_MASTER_KEY";

/// Why a server cannot be wired together.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The instance does not exist yet.
    #[error(
        "there is no organisation in {0} yet: run `muster init` first, or name its folder by --data-dir; a server at another machine is reached by `muster login https://HOST`"
    )]
    Empty(PathBuf),
    /// Nobody knows whether it exists.
    #[error("{0}: {1}")]
    Hidden(PathBuf, std::io::Error),
    /// The HTTP client cannot be built.
    #[error("HTTP client: {0}")]
    Http(#[from] reqwest::Error),
    /// The master keys cannot be read.
    #[error(transparent)]
    Keys(#[from] SealError),
    /// A use case failed.
    #[error(transparent)]
    Service(#[from] crate::service::Error),
    /// The database does not open.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
}

/// The master keys from the environment or the configured file.
///
/// # Errors
/// [`SealError::KeyFile`] says what is wrong with the file.
pub fn read_master_keys(config: &Config) -> Result<Sealer, SealError> {
    match std::env::var(KEYS_VARIABLE) {
        Ok(text) => Sealer::parse(&zeroize::Zeroizing::new(text)),
        Err(_) => Sealer::read(&config.master_key_path()),
    }
}

/// Whether the master keys come from the environment, so that no file is to be made.
#[must_use]
pub fn has_keys_in_environment() -> bool {
    std::env::var_os(KEYS_VARIABLE).is_some()
}

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
    /// Authorities and their keys, as read from the store.
    pub keys: Keys,
    /// The keys of tokens, as read from the store.
    pub token_keys: TokenKeys,
    /// The key that marks SCEP challenges as ours, once it was asked for: garbage is refused without asking the database.
    pub challenge_key: OnceLock<Secret>,
    /// How profiles for Apple devices are named, once it was asked for.
    pub apple_names: OnceLock<Names>,
    /// Published keys of the organisations whose tokens are accepted for enrolment.
    pub entra_keys: KeyCache,
    /// When devices were last heard of, not written yet.
    pub presence: Presence,
    /// When a write was last tried to see whether the database takes one, in milliseconds.
    pub probed_at: AtomicI64,
    /// Held while the master keys change.
    pub rotation: tokio::sync::Mutex<()>,
    /// Who was turned away from the management server lately.
    pub strangers: Strangers,
    /// Which audit rows devices caused lately.
    pub repeats: Repeats,
    /// How often each caller of the API has called lately.
    pub callers: Callers,
    clock: Arc<dyn Clock>,
    sealer: RwLock<Arc<Sealer>>,
}

/// The database and the keys of an instance, held before anything else is: nobody else can have a SQLite file from here on.
#[derive(Debug)]
pub struct Held {
    /// The database.
    pub store: Store,
    /// The master keys.
    pub sealer: Sealer,
}

impl Held {
    /// Takes what `config` describes; it must exist.
    ///
    /// # Errors
    /// [`OpenError`] says what is missing.
    pub fn take(config: &Config) -> Result<Self, OpenError> {
        // Said before the master key is missed, which is made with the database.
        if let Location::Sqlite(path) = config.location() {
            match path.try_exists() {
                Ok(true) => {}
                Ok(false) => return Err(OpenError::Empty(config.data_dir.clone())),
                Err(error) => return Err(OpenError::Hidden(path, error)),
            }
        }
        let sealer = read_master_keys(config)?;
        Ok(Self { store: Store::open_within(&config.location(), config.database_connections, config.database_patience())?, sealer })
    }
}

impl App {
    /// Opens the instance that `config` describes; it must exist.
    ///
    /// # Errors
    /// [`OpenError`] says what is missing.
    pub async fn open(config: Config, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let held = Held::take(&config)?;
        Self::open_held(held, config, clock).await
    }

    /// Opens the instance whose database and keys are held.
    ///
    /// # Errors
    /// [`OpenError`] says what is missing.
    pub async fn open_held(held: Held, config: Config, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let Held { store, sealer } = held;
        let tenant = crate::service::setup::find_tenant(&store, &sealer).await?.ok_or_else(|| OpenError::Empty(config.data_dir.clone()))?;
        let app = Self::new(store, config, tenant, clock, sealer)?;
        crate::service::reseal::follow(&app).await?;
        crate::service::backup::finish_restore(&app).await?;
        Ok(app)
    }

    /// Wires a server together.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(store: Store, config: Config, tenant: TenantId, clock: Arc<dyn Clock>, sealer: Sealer) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(std::time::Duration::from_secs(u64::from(config.signals.timeout_seconds)))
            .build()?;
        let callers = Callers::new(&config.limits);
        Ok(Self {
            store,
            config: Arc::new(config),
            tenant,
            node: uuid::Uuid::now_v7().to_string(),
            http,
            outbox: Notify::new(),
            keys: Keys::default(),
            token_keys: TokenKeys::default(),
            challenge_key: OnceLock::new(),
            apple_names: OnceLock::new(),
            entra_keys: KeyCache::default(),
            presence: Presence::default(),
            probed_at: AtomicI64::default(),
            rotation: tokio::sync::Mutex::new(()),
            strangers: Strangers::default(),
            repeats: Repeats::default(),
            callers,
            clock,
            sealer: RwLock::new(Arc::new(sealer)),
        })
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// The clock itself, for a read that waits for a connection before it looks at the time.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// The present moment as all nodes know it: the database's where several nodes may share one, whose own clocks may differ. For leases
    /// and whatever else nodes decide among each other.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn common_now(&self) -> Result<Time, crate::store::Error> {
        if !(self.store.is_shared() && self.clock.is_of_machine()) {
            return Ok(self.now());
        }
        let own = self.now();
        self.store.read(move |conn| crate::store::clock::now(conn, own)).await
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
