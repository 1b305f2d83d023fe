//! `muster demo`: a server, a sample organisation, simulated devices and a signal receiver, on loopback in a throw-away folder. What it
//! claims at the end was looked at from the outside: by the devices, by the receiver, and with certificates and answers as published.

mod table;
mod verify;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use openssl::x509::X509;
use reqwest::Url;

use super::init;
use crate::app::App;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::domain::assignment::{Mode, Target};
use crate::domain::group::Member;
use crate::domain::tap::Policy;
use crate::domain::user::{Role, User};
use crate::http::server::{self, Routes};
use crate::ids::{DeviceId, GroupId, UserId};
use crate::secret::Secret;
use crate::service::directory::{self, By};
use crate::service::identity::tap;
use crate::service::pki::authority;
use crate::service::signals::receiver::{self, NewReceiver};
use crate::service::{background, device, profile, signals};
use crate::sim::receiver::{Expect, Receiver};
use crate::sim::windows::Device;
use crate::sim::windows::enroll::{Machine, SignIn, new_key};

/// How the demo runs.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// How many simulated Windows devices
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(2..=5000))]
    devices: u32,
    /// Ends by itself; the exit status says whether every step was verified
    #[arg(long)]
    once: bool,
    /// How many devices enrol at the same time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    concurrency: u32,
}

/// How long the receiver may take to hear of a flip.
const PATIENCE: Duration = Duration::from_secs(30);
/// Rounds of sessions after which a device must have everything.
const ROUNDS: usize = 4;
/// The profiles of the demo, by file name.
const BASELINES: [&str; 4] = ["trusted-root", "windows-hello-for-business", "scep-device-certificate", "windows-compliance"];
/// Devices per person.
const SHARE: u32 = 5;

/// A simulated device and what the server calls it.
struct Placed {
    id: DeviceId,
    device: Device,
}

/// Names and times of what was done, for the summary.
#[derive(Default)]
struct Stages(Vec<(&'static str, Duration)>);

impl Stages {
    fn done(&mut self, what: &'static str, since: Instant) {
        let took = since.elapsed();
        println!("  {what:<34} {:>8.2} s", took.as_secs_f64());
        self.0.push((what, took));
    }
}

/// Runs it.
pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = Folder::new()?;
    let mut config = settings(&folder.0);
    let listeners = server::bind(&mut config)?;
    let mut stages = Stages::default();
    println!("Muster demo: {} simulated Windows devices on loopback\n", arguments.devices);

    let began = Instant::now();
    let app = init::prepare(config).await?;
    let by = By::local("cli:demo");
    crate::service::setup::complete(&app, "admin@demo.example", &by.actor).await?;
    let running = server::start(&app, listeners, super::serve::identity(&app).await?, Routes::default())?;
    let background = background::start(&app)?;
    let root = X509::from_der(&authority::root_certificate(&app).await?)?;
    stages.done("authorities and server", began);

    let began = Instant::now();
    let (users, group) = people(&app, arguments.devices.div_ceil(SHARE), &by).await?;
    profiles(&app, &group, &by).await?;
    let receiver = listen(&app, &root, &by).await?;
    stages.done("people, profiles, receiver", began);

    let began = Instant::now();
    let mut fleet = enroll(&app, arguments, &users, &root, &by).await?;
    stages.done("devices enrolled", began);
    let began = Instant::now();
    settle(&mut fleet, arguments).await?;
    stages.done("policies, certificates, verified", began);

    let began = Instant::now();
    let (outlaw, leaver) = (0, fleet.len() - 1);
    let flip = fall(&app, &mut fleet, outlaw, &receiver, &by).await?;
    stages.done("BitLocker off, signal received", began);
    let began = Instant::now();
    leave(&app, &mut fleet, leaver, &by).await?;
    stages.done("device retired", began);

    let began = Instant::now();
    let checks = verify::all(&app, &fleet, outlaw, leaver, &receiver, &flip, &root).await?;
    stages.done("verified from the outside", began);

    println!();
    table::print(&app, &fleet, &receiver).await?;
    println!();
    for check in &checks {
        println!("  {} {}", if check.passed { "ok  " } else { "FAIL" }, check.what);
    }
    let total: Duration = stages.0.iter().map(|(_, took)| *took).sum();
    println!("\n{} devices, {} checks, {:.1} s", fleet.len(), checks.len(), total.as_secs_f64());
    let failed = checks.iter().filter(|check| !check.passed).count();
    if !arguments.once {
        guide(&app);
        tokio::signal::ctrl_c().await?;
    }
    running.stop().await;
    background.stop().await;
    ensure!(failed == 0, "{failed} of {} checks failed", checks.len());
    Ok(())
}

fn settings(folder: &std::path::Path) -> Config {
    let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let mut config = Config { data_dir: folder.to_owned(), organisation: "Demo Organisation".into(), ..Config::default() };
    config.web.listen = loopback;
    config.device.listen = loopback;
    config.pki.listen = loopback;
    config.signals.allow_private_receivers = true;
    // All devices of the demo come from one address.
    config.limits.anonymous_per_second = 0;
    config
}

/// People with a group, named by number.
async fn people(app: &App, count: u32, by: &By) -> anyhow::Result<(Vec<(UserId, String)>, GroupId)> {
    let names = ["Ana", "Ben", "Chloé", "Dmitri", "Eva", "Farid", "Grace", "Hiro"];
    let mut users = Vec::new();
    for number in 0..count {
        let first = names.iter().cycle().nth(number as usize).copied().unwrap_or("Ana");
        let plain: String = first.to_lowercase().chars().map(|c| if c == 'é' { 'e' } else { c }).collect();
        let upn = format!("{plain}{number}@demo.example");
        let user = User {
            id: UserId::new(),
            upn: upn.clone(),
            display_name: format!("{first} {number}"),
            mail: Some(upn.clone()),
            sam_account_name: None,
            security_identifier: None,
            distinguished_name: None,
            role: Role::User,
            enabled: true,
        };
        users.push((directory::create_user(app, user, by).await?.id, upn));
    }
    let group = directory::create_group(app, "Everyone with a PC", "Gets the demo's profiles", by).await?.id;
    let members = users.iter().map(|(id, _)| Member::User(id.clone())).collect();
    directory::add_members(app, &group, members, by).await?;
    Ok((users, group))
}

async fn profiles(app: &App, group: &GroupId, by: &By) -> anyhow::Result<()> {
    let ready = profile::ready()?;
    for name in BASELINES {
        let draft = ready.iter().find(|(file, _)| file == name).map(|(_, draft)| draft.clone()).context("a baseline is missing")?;
        let applied = profile::apply(app, draft, by).await?;
        profile::assign(app, &applied.profile.id, Mode::Include, Target::Group(group.clone()), by).await?;
    }
    Ok(())
}

async fn listen(app: &App, root: &X509, by: &By) -> anyhow::Result<Receiver> {
    let token: [u8; 16] = crate::secret::random()?;
    let authorization = format!("Bearer {}", hex::encode(token));
    let audience = "urn:demo:identity-service".to_owned();
    let expect = Expect {
        issuer: signals::issuer(&app.config),
        audience: audience.clone(),
        authorization: Some(authorization.clone()),
        roots: vec![root.clone()],
        clock: Arc::new(SystemClock),
    };
    let heard = Receiver::start(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0), None, expect).await?;
    let new = NewReceiver {
        name: "demo identity service".into(),
        endpoint_url: heard.url.clone(),
        audience: Some(audience),
        authorization: Some(Secret::new(authorization.into_bytes())),
    };
    receiver::add(app, new, &by.actor).await?;
    Ok(heard)
}

/// Enrols the fleet, a few at a time.
async fn enroll(app: &Arc<App>, arguments: &Arguments, users: &[(UserId, String)], root: &X509, by: &By) -> anyhow::Result<Vec<Placed>> {
    let bar = progress("enrolling", u64::from(arguments.devices));
    let policy = Policy { one_time: false, ..Policy::default() };
    let mut sign_ins = Vec::new();
    for (id, upn) in users {
        let pass = tap::create(app, id, policy, None, &by.actor, "local").await?;
        sign_ins.push(SignIn::Pass { user: upn.clone(), pass: pass.show().to_owned() });
    }
    let discovery = Url::parse(&format!("{}/EnrollmentServer/Discovery.svc", app.config.web_url()))?;
    let jobs = (0..arguments.devices).map(|number| {
        let (discovery, root, bar) = (discovery.clone(), root.clone(), bar.clone());
        let sign_in = sign_ins.get((number / SHARE) as usize).cloned();
        async move {
            let sign_in = sign_in.context("no user for the device")?;
            let key = tokio::task::spawn_blocking(new_key).await??;
            let machine = Machine::windows_11(u64::from(number) + 1);
            let device = Device::enroll(&[root], &discovery, machine, &sign_in, &key).await?;
            bar.inc(1);
            let id = DeviceId::parse(&device.identity.management.entity_id).context("the server gave no device id")?;
            anyhow::Ok(Placed { id, device })
        }
    });
    let all: Vec<anyhow::Result<Placed>> = futures_util::stream::iter(jobs).buffered(arguments.concurrency as usize).collect().await;
    bar.finish_and_clear();
    all.into_iter().collect()
}

/// Holds sessions until every device has what it should.
async fn settle(fleet: &mut [Placed], arguments: &Arguments) -> anyhow::Result<()> {
    let bar = progress("management sessions", fleet.len() as u64);
    let jobs = fleet.iter_mut().map(|placed| {
        let bar = bar.clone();
        async move {
            for _ in 0..ROUNDS {
                let report = placed.device.settle().await?;
                if report.commands == 0 {
                    break;
                }
            }
            bar.inc(1);
            anyhow::Ok(())
        }
    });
    let all: Vec<anyhow::Result<()>> = futures_util::stream::iter(jobs).buffered(arguments.concurrency as usize).collect().await;
    bar.finish_and_clear();
    all.into_iter().collect()
}

/// Switches BitLocker off on a device, lets it report, and waits for the signal.
async fn fall(app: &App, fleet: &mut [Placed], at: usize, receiver: &Receiver, by: &By) -> anyhow::Result<Option<String>> {
    let placed = fleet.get_mut(at).context("no device")?;
    placed.device.tree.switch_bitlocker(false);
    device::sync(app, &placed.id, by).await?;
    placed.device.settle().await?;
    let id = placed.id.to_string();
    let heard =
        receiver.wait_for(|event| event.device.as_deref() == Some(&id) && event.current_status() == Some("not-compliant"), PATIENCE).await;
    Ok(heard.map(|event| event.jti))
}

/// Retires a device, which then hears the order and leaves.
async fn leave(app: &App, fleet: &mut [Placed], at: usize, by: &By) -> anyhow::Result<()> {
    let placed = fleet.get_mut(at).context("no device")?;
    device::retire(app, &placed.id, &by.actor, &by.origin).await?;
    placed.device.settle().await?;
    ensure!(placed.device.left, "the retired device was not told to leave");
    // Its last words; the answer does not matter to it.
    placed.device.ask_to_leave();
    drop(placed.device.session().await);
    Ok(())
}

fn guide(app: &App) {
    println!("\nThe server keeps running until you press Ctrl-C.");
    println!("  enrolment page   {}/enroll/windows", app.config.web_url());
    println!("  signal metadata  {}/.well-known/ssf-configuration", app.config.web_url());
    println!("  CA certificate   {}/aia/issuing.pem", app.config.pki_url());
    println!("  command line     muster --data-dir {} device list", app.config.data_dir.display());
    println!("For keeps: muster init, then muster serve; docs/getting-started.md says more.");
}

fn progress(what: &'static str, total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("  {msg:<22} {bar:30} {pos}/{len}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style).with_message(what)
}

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("muster-demo-{}", uuid::Uuid::new_v4().simple()));
        init::make_folder(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
