//! A whole server in the test process: real TLS on ports of its own, a database of its own, a clock that the test moves.

use std::sync::Arc;

use muster::app::App;
use muster::clock::{Clock, ManualClock, SystemClock};
use muster::config::Config;
use muster::http::server::{self, Routes, Running};
use muster::http::tls::Identity;
use muster::secret::Sealer;
use muster::service::pki::{authority, service_key};
use muster::service::setup;
use muster::store::Store;

use super::ca::{Ca, Leaf};
use super::db;

/// How the server is to be.
pub struct Options {
    /// Changes the configuration before the ports are taken.
    pub tweak: Box<dyn FnOnce(&mut Config) + Send>,
    /// Let the server see the machine's clock instead of [`Server::clock`].
    pub system_clock: bool,
    /// The database; default: a fresh SQLite file.
    pub store: Option<Store>,
    /// The master keys, for a second node on the same database (`Sealer::parse(&first.app.sealer().to_text())`).
    pub sealer: Option<Sealer>,
    /// Make the authorities and show a server certificate of ours; else a stranger's.
    pub authorities: bool,
    /// The route tables; default: the product's.
    pub routes: Routes,
}

impl Default for Options {
    fn default() -> Self {
        Self { tweak: Box::new(|_| ()), system_clock: false, store: None, sealer: None, authorities: true, routes: muster::cli::routes() }
    }
}

/// A server that answers until it is dropped.
pub struct Server {
    /// Its inside.
    pub app: Arc<App>,
    /// Its clock, which stands still at the moment of the start until the test moves it.
    pub clock: ManualClock,
    /// Base URL of the web face.
    pub web: String,
    /// Base URL of the device face.
    pub device: String,
    /// Base URL of the CA's plain HTTP face.
    pub pki: String,
    /// The root that the server certificate chains to.
    pub root_pem: Vec<u8>,
    /// The server; taken by [`Server::stop`].
    pub running: Option<Running>,
    folder: tempfile::TempDir,
}

impl Server {
    /// A server as it comes.
    pub async fn start() -> Self {
        Self::with(Options::default()).await
    }

    /// A server with another configuration.
    pub async fn tweaked(tweak: impl FnOnce(&mut Config) + Send + 'static) -> Self {
        Self::with(Options { tweak: Box::new(tweak), ..Options::default() }).await
    }

    /// A server of that kind.
    pub async fn with(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config { data_dir: folder.path().to_owned(), workers: 2, ..Config::default() };
        for face in [&mut config.web, &mut config.device, &mut config.pki] {
            face.listen = "127.0.0.1:0".parse().unwrap();
        }
        config.limits.anonymous_per_second = 0;
        config.limits.api_per_second = 0;
        config.ca.key_algorithm = "p-256".into();
        config.signals.allow_private_receivers = true;
        (options.tweak)(&mut config);
        let listeners = server::bind(&mut config).unwrap();
        let clock = ManualClock::new(SystemClock.now());
        let seen: Arc<dyn Clock> = if options.system_clock { Arc::new(SystemClock) } else { Arc::new(clock.clone()) };
        let store = options.store.unwrap_or_else(|| db::sqlite(folder.path()));
        let sealer = options.sealer.unwrap_or_else(|| Sealer::generate().unwrap());
        let tenant = setup::create_tenant(&store, &sealer, "cli:test", seen.now()).await.unwrap();
        let app = Arc::new(App::new(store, config, tenant, seen, sealer).unwrap());
        let (identity, root_pem) = if options.authorities {
            authority::create_hierarchy(&app, "cli:test", "local").await.unwrap();
            let (own, chain) = service_key::server_identity(&app).await.unwrap();
            let root = authority::root_certificate(&app).await.unwrap();
            (Identity::from_der(&own.certificate, &chain, own.key.pkey().clone()).unwrap(), authority::pem(&root).into_bytes())
        } else {
            let ca = Ca::new("Test root");
            let Leaf { certificate, key } = ca.leaf("Test server", &app.config.server_names());
            (Identity { certificate, chain: Vec::new(), key }, ca.root.to_pem().unwrap())
        };
        let running = server::start(&app, listeners, identity, options.routes).unwrap();
        Self {
            web: app.config.web_url(),
            device: app.config.device_url(),
            pki: app.config.pki_url(),
            root_pem,
            running: Some(running),
            app,
            clock,
            folder,
        }
    }

    /// A client that trusts the server's root and shows no certificate.
    pub fn client(&self) -> reqwest::Client {
        self.builder().build().unwrap()
    }

    /// A client that shows this certificate when asked.
    pub fn client_as(&self, identity: reqwest::Identity) -> reqwest::Client {
        self.builder().identity(identity).build().unwrap()
    }

    /// A client that trusts the server's root, to be finished by the test.
    pub fn builder(&self) -> reqwest::ClientBuilder {
        let root = reqwest::Certificate::from_pem(&self.root_pem).unwrap();
        reqwest::Client::builder()
            .tls_certs_only([root])
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(std::time::Duration::from_secs(60))
    }

    /// Folder that lives as long as the server.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Stops gracefully.
    pub async fn stop(mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
    }
}
