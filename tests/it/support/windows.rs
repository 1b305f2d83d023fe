//! Windows devices against a test server: a directory with one user, and PCs that enrol.

use muster::clock::{DAY, HOUR};
use muster::config::Config;
use muster::domain::assignment::{Mode, Target};
use muster::domain::desired::Loaded;
use muster::domain::tap::Policy;
use muster::domain::user::User;
use muster::ids::{DeviceId, ProfileId, TapId, UserId};
use muster::service::directory::{self, By};
use muster::service::identity::tap;
use muster::service::profile::{self, Draft};
use muster::sim::http::Client;
use muster::sim::windows::Device;
use muster::sim::windows::enroll::{self, Failure, Identity, Machine, SignIn, new_key};
use muster::store::Store;
use muster::store::devices::Filter;
use muster::store::{desired_items, devices};
use openssl::pkey::{PKey, Private};
use openssl::x509::X509;
use reqwest::Url;

use super::server::{Options, Server};
use crate::desired::user;

/// A server with one user.
pub struct House {
    pub server: Server,
    pub user: UserId,
    pub kept: tokio::sync::Mutex<Option<(TapId, String)>>,
}

pub const UPN: &str = "ana@example.org";

impl House {
    pub async fn new() -> Self {
        Self::on(Server::start().await).await
    }

    /// With another configuration.
    pub async fn tweaked(tweak: impl FnOnce(&mut Config) + Send + 'static) -> Self {
        Self::on(Server::tweaked(tweak).await).await
    }

    /// On that database, with another configuration.
    pub async fn over(store: Store, tweak: impl FnOnce(&mut Config) + Send + 'static) -> Self {
        Self::with(Options { tweak: Box::new(tweak), store: Some(store), ..Options::default() }).await
    }

    /// With the machine's clock, for what simulated devices sign with their own time.
    pub async fn with(options: Options) -> Self {
        Self::on(Server::with(options).await).await
    }

    pub async fn on(server: Server) -> Self {
        let user = User { display_name: "Ana".into(), ..user(UPN) };
        let user = directory::create_user(&server.app, user, &by()).await.unwrap().id;
        Self { server, user, kept: tokio::sync::Mutex::default() }
    }

    pub fn roots(&self) -> Vec<X509> {
        X509::stack_from_pem(&self.server.root_pem).unwrap()
    }

    pub fn discovery(&self) -> Url {
        Url::parse(&format!("{}/EnrollmentServer/Discovery.svc", self.server.web)).unwrap()
    }

    /// A client without a certificate.
    pub fn client(&self) -> Client {
        Client::new(&self.roots(), None).unwrap()
    }

    /// A pass for a day, good any number of times: the same one for devices that enrol side by side, as a new one ends it.
    pub async fn pass(&self) -> String {
        let mut kept = self.kept.lock().await;
        let open = tap::list(&self.server.app, &self.user).await.unwrap();
        if let Some((id, text)) = kept.as_ref()
            && open.iter().any(|pass| pass.id == *id && pass.expires_at.since(self.server.app.now()) > HOUR)
        {
            return text.clone();
        }
        let policy = Policy { one_time: false, lifetime: DAY, ..Policy::default() };
        let made = tap::create(&self.server.app, &self.user, policy, None, "cli:test", "local").await.unwrap();
        let text = made.show().to_owned();
        *kept = Some((made.id, text.clone()));
        text
    }

    pub async fn sign_in(&self) -> SignIn {
        SignIn::Pass { user: UPN.into(), pass: self.pass().await }
    }

    /// Enrols that machine; what it got.
    pub async fn join(&self, machine: &Machine) -> Result<Identity, Failure> {
        let sign_in = self.sign_in().await;
        enroll::enroll(&mut self.client(), &self.discovery(), machine, &sign_in, &key()).await
    }

    pub async fn enroll(&self, number: u64) -> Device {
        let sign_in = self.sign_in().await;
        let machine = Machine::windows_11(number);
        Device::enroll(&self.roots(), &self.discovery(), machine, &sign_in, &key()).await.unwrap()
    }

    /// Applies a baseline and assigns it to all devices.
    pub async fn assign_baseline(&self, file: &str) -> ProfileId {
        let draft = profile::ready().unwrap().into_iter().find(|(name, _)| name == file).unwrap().1;
        self.assign(draft).await
    }

    pub async fn assign(&self, draft: Draft) -> ProfileId {
        let applied = profile::apply(&self.server.app, draft, &by()).await.unwrap();
        let id = applied.profile.id;
        profile::assign(&self.server.app, &id, Mode::Include, Target::AllDevices, &by()).await.unwrap();
        id
    }

    pub async fn device_ids(&self) -> Vec<DeviceId> {
        let all = self.server.app.store.read(|c| devices::list_devices(c, &Filter::default(), "", 1000)).await.unwrap();
        all.into_iter().map(|device| device.id).collect()
    }

    pub async fn items(&self, device: &DeviceId) -> Vec<Loaded> {
        let (device, sealer) = (device.clone(), self.server.app.sealer());
        self.server.app.store.read(move |c| desired_items::list_for_device(c, &sealer, &device)).await.unwrap()
    }
}

pub fn by() -> By {
    By::local("cli:test")
}

/// One of a few RSA keys: making one takes long.
pub fn key() -> PKey<Private> {
    static KEYS: std::sync::OnceLock<Vec<PKey<Private>>> = std::sync::OnceLock::new();
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let keys = KEYS.get_or_init(|| (0..4).map(|_| new_key().unwrap()).collect());
    keys[NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % keys.len()].clone()
}
