//! `muster demo`: a server, a sample organisation, simulated devices and a signal receiver, on loopback in a throw-away folder. What it
//! claims at the end was looked at from the outside: by the devices, by the receiver, and with certificates and answers as published.

mod board;
mod verify;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::StreamExt as _;
use openssl::x509::X509;
use reqwest::Url;

use super::{control, init};
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

use board::Board;
use verify::Check;

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
/// How often devices call in once everything is shown.
const CALL: Duration = Duration::from_secs(3);
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
    fn done(&mut self, what: &'static str, since: Instant, board: Option<&Board>) {
        let took = since.elapsed();
        let line = format!("  done: {what} ({:.1} s)", took.as_secs_f64());
        match board {
            Some(board) => board.say(&line),
            None => println!("{line}"),
        }
        self.0.push((what, took));
    }
}

/// Runs it.
pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = Folder::new()?;
    let shown = AtomicBool::new(false);
    let mut play = std::pin::pin!(play(arguments, &folder, &shown));
    tokio::select! {
        done = &mut play => done,
        // The folder goes, whenever one has seen enough.
        pressed = tokio::signal::ctrl_c() => {
            pressed?;
            ensure!(shown.load(Ordering::Relaxed), "interrupted before everything was verified");
            play.await
        }
    }
}

async fn play(arguments: &Arguments, folder: &Folder, shown: &AtomicBool) -> anyhow::Result<()> {
    let mut config = settings(&folder.0);
    let listeners = server::bind(&mut config)?;
    let mut stages = Stages::default();
    println!("Muster demo: {} simulated Windows devices on loopback\n", arguments.devices);

    let began = Instant::now();
    let app = init::prepare(config).await?;
    let by = By::local("cli:demo");
    crate::service::setup::complete(&app, "admin@demo.example", &by.actor).await?;
    let running = server::start(&app, listeners, super::serve::identity(&app).await?, Routes::default())?;
    let control = control::listen(Arc::clone(&app))?;
    let background = background::start(&app)?;
    let root = X509::from_der(&authority::root_certificate(&app).await?)?;
    stages.done("authorities and server", began, None);

    let began = Instant::now();
    let (users, group) = people(&app, arguments.devices.div_ceil(SHARE), &by).await?;
    profiles(&app, &group, &by).await?;
    let receiver = Arc::new(listen(&app, &root, &by).await?);
    stages.done("people, profiles, receiver", began, None);
    let board = Board::start(&app, &receiver);

    let began = Instant::now();
    let mut fleet = enroll(&app, arguments, &users, &root, &by, &board).await?;
    stages.done("devices enrolled", began, Some(&board));
    let began = Instant::now();
    settle(&mut fleet, arguments, &board).await?;
    board.refresh().await;
    stages.done("policies and certificates delivered", began, Some(&board));

    let (outlaw, leaver) = (0, fleet.len() - 1);
    let began = Instant::now();
    board.begin("BitLocker goes off", 1);
    let flip = fall(&app, &mut fleet, outlaw, &receiver, &by).await?;
    stages.done("BitLocker off, signal received", began, Some(&board));
    let began = Instant::now();
    board.begin("a device is retired", 1);
    leave(&app, &mut fleet, leaver, &by).await?;
    board.refresh().await;
    stages.done("device retired", began, Some(&board));

    let began = Instant::now();
    board.begin("verifying", fleet.len() as u64);
    let checks = verify::all(&app, &fleet, (outlaw, leaver), &receiver, &flip, &root, &board).await?;
    board.end();
    board.refresh().await;
    stages.done("verified from the outside", began, Some(&board));
    let failed = checks.iter().filter(|check| !check.passed).count();
    if !arguments.once && failed == 0 {
        shown.store(true, Ordering::Relaxed);
        board.say(&format!("\n{}\n{}\n{}", told(&checks), summary(&stages, fleet.len(), &checks), guide(&app)));
        tokio::select! {
            () = live_on(&mut fleet) => {}
            pressed = tokio::signal::ctrl_c() => pressed?,
        }
        board.finish().await;
    } else {
        board.finish().await;
        println!("\n{}\n{}", told(&checks), summary(&stages, fleet.len(), &checks));
    }
    control.abort();
    running.stop().await;
    background.stop().await;
    ensure!(failed == 0, "{failed} of {} checks failed", checks.len());
    Ok(())
}

/// What was looked at.
fn told(checks: &[Check]) -> String {
    checks.iter().map(|check| format!("  {} {}\n", if check.passed { "ok  " } else { "FAIL" }, check.what)).collect()
}

/// How long each stage took.
fn summary(stages: &Stages, devices: usize, checks: &[Check]) -> String {
    let seconds = |took: &Duration| format!("{:>7.1} s", took.as_secs_f64());
    let mut text: String = stages.0.iter().map(|(what, took)| format!("  {what:<36} {}\n", seconds(took))).collect();
    let total: Duration = stages.0.iter().map(|(_, took)| *took).sum();
    let passed = checks.iter().filter(|check| check.passed).count();
    text.push_str(&format!("  {:<36} {}\n\n{devices} devices, {passed} of {} checks passed\n", "all", seconds(&total), checks.len()));
    text
}

/// The devices call in now and then, so that orders reach them.
async fn live_on(fleet: &mut [Placed]) {
    loop {
        for placed in fleet.iter_mut().filter(|placed| !placed.device.left) {
            if let Err(error) = placed.device.settle().await {
                tracing::debug!(%error, "a session of the demo failed");
            }
            if placed.device.left {
                say_goodbye(placed).await;
            }
        }
        tokio::time::sleep(CALL).await;
    }
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
async fn enroll(
    app: &Arc<App>,
    arguments: &Arguments,
    users: &[(UserId, String)],
    root: &X509,
    by: &By,
    board: &Board,
) -> anyhow::Result<Vec<Placed>> {
    board.begin("enrolling", u64::from(arguments.devices));
    let policy = Policy { one_time: false, ..Policy::default() };
    let mut sign_ins = Vec::new();
    for (id, upn) in users {
        let pass = tap::create(app, id, policy, None, &by.actor, "local").await?;
        sign_ins.push(SignIn::Pass { user: upn.clone(), pass: pass.show().to_owned() });
    }
    let discovery = Url::parse(&format!("{}/EnrollmentServer/Discovery.svc", app.config.web_url()))?;
    let jobs = (0..arguments.devices).map(|number| {
        let (discovery, root) = (discovery.clone(), root.clone());
        let sign_in = sign_ins.get((number / SHARE) as usize).cloned();
        async move {
            let sign_in = sign_in.context("no user for the device")?;
            let key = tokio::task::spawn_blocking(new_key).await??;
            let machine = Machine::windows_11(u64::from(number) + 1);
            let device = Device::enroll(&[root], &discovery, machine, &sign_in, &key).await?;
            let id = DeviceId::parse(&device.identity.management.entity_id).context("the server gave no device id")?;
            board.enrolled(number, &device.machine.name, &id);
            board.step();
            anyhow::Ok(Placed { id, device })
        }
    });
    let all: Vec<anyhow::Result<Placed>> = futures_util::stream::iter(jobs).buffered(arguments.concurrency as usize).collect().await;
    board.end();
    all.into_iter().collect()
}

/// Holds sessions until every device has what it should.
async fn settle(fleet: &mut [Placed], arguments: &Arguments, board: &Board) -> anyhow::Result<()> {
    board.begin("management sessions", fleet.len() as u64);
    let jobs = (0..).zip(fleet.iter_mut()).map(|(number, placed)| async move {
        for _ in 0..ROUNDS {
            let report = placed.device.settle().await?;
            if report.commands == 0 {
                break;
            }
        }
        if let Some(held) = placed.device.certificates.values().next() {
            let number_of = X509::from_der(&held.identity.certificate)?.serial_number().to_bn()?.to_hex_str()?;
            board.holds(number, &number_of);
        }
        board.step();
        anyhow::Ok(())
    });
    let all: Vec<anyhow::Result<()>> = futures_util::stream::iter(jobs).buffered(arguments.concurrency as usize).collect().await;
    board.end();
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
    say_goodbye(placed).await;
    Ok(())
}

/// The last words of a device that was told to leave; the answer does not matter to it.
async fn say_goodbye(placed: &mut Placed) {
    placed.device.ask_to_leave();
    drop(placed.device.session().await);
}

fn guide(app: &App) -> String {
    let (web, folder) = (app.config.web_url(), app.config.data_dir.display());
    format!(
        "Where to go next, until you press Ctrl-C:\n  \
         enrolment page   {web}/enroll/windows\n  \
         signal metadata  {web}/.well-known/ssf-configuration\n  \
         CA certificate   {}/aia/issuing.pem\n  \
         another shell    export MUSTER_DATA_DIR={folder}\n  \
         devices          muster device list\n  \
         one of them      muster device explain PC-00001\n  \
         give an order    muster device command PC-00002 reboot --yes\n  \
         one more PC      muster enroll windows --user ana0@demo.example\n\
         For keeps: muster init, then muster serve; docs/getting-started.md says more.\n",
        app.config.pki_url()
    )
}

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let name: [u8; 4] = crate::secret::random()?;
        let path = std::env::temp_dir().join(format!("muster-demo-{}", hex::encode(name)));
        init::make_folder(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
