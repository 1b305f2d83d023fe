//! `muster demo`: a server, a sample organisation, simulated devices and a signal receiver, on loopback in a throw-away folder. What it
//! claims at the end was looked at from the outside: by the devices, by the receiver, and with certificates and answers as published.

mod board;
mod fleet;
mod organisation;
mod verify;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use openssl::x509::X509;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{control, init};
use crate::app::App;
use crate::http::server::{self, Routes};
use crate::ids::DeviceId;
use crate::service::background;
use crate::service::directory::By;
use crate::service::pki::authority;
use crate::sim::apns::{Apns, Authority};
use crate::sim::device::{Device, Held, Kind};

use board::Board;
use fleet::Fleet;
use verify::Check;

/// How the demo runs.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// How many simulated devices: a fifth are Macs, a fifth iPhones, and the rest PCs
    #[arg(long, default_value_t = 41, value_parser = clap::value_parser!(u32).range(5..=5000))]
    devices: u32,
    /// Ends by itself; the exit status says whether every step was verified
    #[arg(long)]
    once: bool,
    /// How many devices enrol at the same time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    concurrency: u32,
}

/// Devices per person.
const SHARE: u32 = 5;

/// A simulated device and what the server calls it.
struct Placed {
    id: DeviceId,
    device: Device,
    /// The certificate that it got by SCEP, once it has.
    certificate: Option<Held>,
    /// How often it was woken and came.
    woken: usize,
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

impl Arguments {
    /// How many devices of each kind.
    fn kinds(&self) -> [(Kind, u32); 3] {
        let fifth = self.devices / 5;
        [(Kind::Windows, self.devices - 2 * fifth), (Kind::Mac, fifth), (Kind::Iphone, fifth)]
    }
}

/// Runs it.
pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    // Before there is a folder that must go.
    let mut stop = Stop::new()?;
    let folder = Folder::new()?;
    let shown = AtomicBool::new(false);
    let mut play = std::pin::pin!(play(arguments, &folder, &shown));
    tokio::select! {
        done = &mut play => done,
        // The folder goes, whenever one has seen enough.
        () = stop.wait() => {
            ensure!(shown.load(Ordering::Relaxed), "interrupted before everything was verified");
            play.await
        }
    }
}

async fn play(arguments: &Arguments, folder: &Folder, shown: &AtomicBool) -> anyhow::Result<()> {
    let apple = Authority::new()?;
    let apns = Arc::new(Apns::start(&apple).await?);
    let mut config = organisation::settings(&folder.0, &apns)?;
    let listeners = server::bind(&mut config)?;
    let mut stages = Stages::default();
    let [pcs, macs, phones] = arguments.kinds().map(|(_, count)| count);
    let counted = |count: u32, one: &str| if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") };
    println!(
        "Muster demo: {}, {} and {}, all simulated, on loopback\n",
        counted(pcs, "PC"),
        counted(macs, "Mac"),
        counted(phones, "iPhone")
    );

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
    organisation::push_certificate(&app, &apple, &by).await?;
    let (users, group) = organisation::people(&app, arguments.devices.div_ceil(SHARE), &by).await?;
    organisation::profiles(&app, &group, &by).await?;
    organisation::application(&app, &group, &by).await?;
    let receiver = Arc::new(organisation::listen(&app, &root, &by).await?);
    stages.done("people, profiles, receiver", began, None);
    let board = Board::start(&app, &receiver);

    let began = Instant::now();
    let mut fleet = Fleet::enroll(&app, arguments, &users, &root, &by, &board, apns).await?;
    stages.done("devices enrolled", began, Some(&board));
    let began = Instant::now();
    fleet.settle(&board).await?;
    board.refresh().await;
    stages.done("policies and certificates delivered", began, Some(&board));

    let (outlaws, leavers) = (fleet.outlaws(), fleet.leavers());
    let began = Instant::now();
    board.begin("encryption goes off", 2);
    let mut flips = Vec::new();
    for at in outlaws {
        flips.push((at, fleet.fall(&app, at, &receiver, &by).await?));
        board.step();
    }
    stages.done("encryption off, signals received", began, Some(&board));
    let began = Instant::now();
    board.begin("devices are retired", 2);
    for at in leavers {
        fleet.retire(&app, at, &by).await?;
        board.step();
    }
    board.refresh().await;
    stages.done("devices retired", began, Some(&board));

    let began = Instant::now();
    board.begin("verifying", fleet.placed.len() as u64);
    let checks = verify::all(&app, &fleet, &receiver, &flips, &root, &board).await?;
    board.end();
    board.refresh().await;
    stages.done("verified from the outside", began, Some(&board));
    let failed = checks.iter().filter(|check| !check.passed).count();
    let count = fleet.placed.len();
    if !arguments.once && failed == 0 {
        shown.store(true, Ordering::Relaxed);
        board.say(&format!("\n{}\n{}\n{}", told(&checks), summary(&stages, count, &checks), guide(&app, arguments)));
        let mut stop = Stop::new()?;
        tokio::select! {
            () = fleet.live_on() => {}
            () = stop.wait() => {}
        }
        board.finish().await;
    } else {
        board.finish().await;
        println!("\n{}\n{}", told(&checks), summary(&stages, count, &checks));
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

fn guide(app: &App, arguments: &Arguments) -> String {
    let [pcs, macs, phones] = arguments.kinds().map(|(_, count)| count);
    // The first of each kind has its part in the play, and an only one leaves.
    let given = [
        (pcs, "give an order", "PC-00002 reboot"),
        (macs, "and by APNs", "MAC-00002 reboot"),
        (phones, "mark as lost", "IPH-00002 enable-lost-mode --with message=Found?"),
    ];
    let orders: String = given
        .iter()
        .filter(|(count, ..)| *count > 2)
        .map(|(_, what, order)| format!("{what:<16} muster device command {order}\n  "))
        .collect();
    let mac = if macs > 0 { "a Mac or iPhone  muster enroll apple --user ana0@demo.example\n  " } else { "" };
    let (web, folder) = (app.config.web_url(), app.config.data_dir.display());
    format!(
        "Where to go next, until you press Ctrl-C:\n  \
         enrolment pages  {web}/enroll/windows, /enroll/apple\n  \
         signal metadata  {web}/.well-known/ssf-configuration\n  \
         CA certificate   {}/aia/root.cer\n  \
         another shell    export MUSTER_DATA_DIR={folder}\n  \
         devices          muster device list\n  \
         one of them      muster device explain PC-00001\n  \
         {orders}one more PC      muster enroll windows --user ana0@demo.example\n  \
         {mac}\
         For keeps: muster init, then muster serve; docs/getting-started.md says more.\n",
        app.config.pki_url()
    )
}

/// What ends a demo: Ctrl-C, SIGTERM, or a terminal that is closed.
struct Stop([Signal; 3]);

impl Stop {
    fn new() -> anyhow::Result<Self> {
        Ok(Self([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]))
    }

    async fn wait(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
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
        // A demo that is ended early still writes for a moment.
        for _ in 0..50 {
            if std::fs::remove_dir_all(&self.0).is_ok() || !self.0.exists() {
                break;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}
