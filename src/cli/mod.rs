//! The command line: one file per subcommand.
//!
//! What works on an instance is an [`Order`]: when a server has the instance open, the order goes to it through its control socket, and
//! else this process opens the instance itself. Files named in arguments are read before the order is sent.

mod app;
mod apple;
mod ask;
mod audit;
mod autopilot;
mod backup;
mod ca;
mod config;
mod control;
mod deleted;
mod demo;
mod device;
mod doctor;
mod echo;
mod enroll;
mod explain;
mod files;
mod find;
mod group;
mod import;
mod init;
mod keys;
mod login;
mod logins;
mod need;
mod orders;
mod output;
mod page;
mod pfx;
mod profile;
mod remote;
mod revocation;
mod role;
mod scep;
mod serve;
mod settings;
mod signals;
mod simulate;
mod status;
mod user;
mod wanted;
mod who;

pub use need::Place;
pub use orders::routes;
pub use who::Who;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::clock::SystemClock;
use crate::config::{Config, Sources};
use crate::domain::profile::Kind;
use crate::{service, telemetry};

/// The heading of the options that every order takes.
const EVERYWHERE: &str = "Options of all orders";

/// Device management, passwordless sign-in and a certification authority in one program.
#[derive(Debug, Parser)]
#[command(name = "muster", version, propagate_version = true)]
struct Line {
    /// Configuration file; default: muster.toml where it exists
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "MUSTER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the database, the master key and the control socket
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Changes a setting, such as --set web.listen=0.0.0.0:443
    #[arg(long = "set", global = true, help_heading = EVERYWHERE, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Gives the order to the server of that login; MUSTER_SERVER says so, too
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "https://HOST[:PORT]", value_parser = logins::read_url)]
    server: Option<reqwest::Url>,
    /// Gives the order to the server of the only login, whatever is on this machine
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    remote: bool,
    /// Answers in JSON
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    json: bool,
    /// What is logged, in the syntax of RUST_LOG
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "MUSTER_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes groups, profiles, policies and assignments what the files of a folder say, after showing the difference
    Apply(files::Apply),
    /// Shows the configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Shows the product: a server, a sample organisation and simulated devices, on loopback, in a throw-away folder
    Demo(demo::Arguments),
    /// Checks names, certificates, clocks and the database, and says what to do
    Doctor,
    /// Writes groups, profiles, policies and assignments as files, for version control and for another instance
    Export(files::Export),
    /// Makes an organisation: folder, master key, database, authorities, first administrator
    Init(init::Arguments),
    /// Signs in to a server at another machine, by a code that is entered in a browser
    Login(login::Arguments),
    /// Signs out there
    Logout(login::Logout),
    /// Shows who is signed in there
    Whoami,
    /// Puts a copy in the place of the database of a stopped server
    Restore(backup::Restore),
    /// Runs the server
    Serve(serve::Arguments),
    /// Simulates devices against a server, or measures what this machine can serve
    Simulate(Box<simulate::Arguments>),
    /// Serves faces that only give back what they are sent
    #[command(hide = true)]
    Echo,
    #[command(flatten)]
    Order(Order),
}

/// What is done to an instance, by the server that has it open or by this process.
#[derive(Debug, Deserialize, Serialize, Subcommand)]
pub enum Order {
    /// Looks after programs that call the API: what they prove themselves with, and what they may do
    #[command(subcommand)]
    App(app::Command),
    /// Looks after what Apple gives: the push certificate
    #[command(subcommand)]
    Apple(apple::Command),
    /// Reads and checks the audit log
    #[command(subcommand)]
    Audit(audit::Command),
    /// Writes a copy of the SQLite database while it is in use
    Backup(backup::Backup),
    /// Shows how a device is enrolled
    #[command(subcommand)]
    Enroll(enroll::Command),
    /// Looks after authorities and certificates
    #[command(subcommand)]
    Ca(ca::Command),
    /// Looks after users and groups that are deleted
    #[command(subcommand)]
    Deleted(deleted::Command),
    /// Looks after devices
    #[command(subcommand)]
    Device(device::Command),
    /// What is managed as files
    #[command(skip)]
    Files(files::Command),
    /// Looks after groups of users and devices
    #[command(subcommand)]
    Group(group::Command),
    /// Looks after the master keys
    #[command(subcommand)]
    Keys(keys::Command),
    /// Looks after compliance policies: what a device has to be like
    #[command(subcommand)]
    Policy(profile::Command),
    /// Looks after configuration profiles: what a device is given
    #[command(subcommand)]
    Profile(profile::Command),
    /// Looks after roles: who may do what, and where
    #[command(subcommand)]
    Role(role::Command),
    /// Shows the settings in force, secrets masked
    #[command(hide = true)]
    Settings,
    /// Looks after signals to other systems
    #[command(subcommand)]
    Signals(signals::Command),
    /// Shows what this instance is; an alarm in it fails
    Status,
    /// Looks after users
    #[command(subcommand)]
    User(user::Command),
}

impl Order {
    /// Does it, in the name of `actor` (`cli:<user>`), at the server's own machine.
    ///
    /// # Errors
    /// The use case's.
    pub async fn run(self, app: &Arc<App>, actor: &str) -> service::Result<serde_json::Value> {
        self.run_for(app, &Who::local(actor)).await
    }

    /// Does it, on behalf of `who`.
    ///
    /// # Errors
    /// The use case's.
    pub async fn run_for(self, app: &Arc<App>, who: &Who) -> service::Result<serde_json::Value> {
        match self {
            Self::App(command) => app::run(app, command, who).await,
            Self::Apple(command) => apple::run(app, command, who).await,
            Self::Audit(command) => audit::run(app, command).await,
            Self::Backup(arguments) => backup::run(app, arguments, &who.by.actor).await,
            Self::Ca(command) => ca::run(app, command, who).await,
            Self::Deleted(command) => deleted::run(app, command, who).await,
            Self::Device(command) => device::run(app, command, who).await,
            Self::Enroll(command) => enroll::run(app, command, who).await,
            Self::Files(command) => files::run(app, command, who).await,
            Self::Group(command) => group::run(app, command, who).await,
            Self::Keys(command) => keys::run(app, command, &who.by.actor).await,
            Self::Policy(command) => profile::run(app, Kind::Compliance, command, who).await,
            Self::Profile(command) => profile::run(app, Kind::Configuration, command, who).await,
            Self::Role(command) => role::run(app, command, who).await,
            Self::Settings => Ok(serde_json::json!(app.config.settings())),
            Self::Signals(command) => signals::run(app, command, who).await,
            Self::Status => status::run(app).await,
            Self::User(command) => user::run(app, command, who).await,
        }
    }
}

/// Says why a line is not taken. What is wrong inside a file is said of the file, not of the line.
fn refuse(error: &clap::Error) -> ExitCode {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let said = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let file = said(ContextKind::InvalidArg).is_some_and(|arg| arg.contains("FILE"));
    match (error.kind(), said(ContextKind::InvalidValue), std::error::Error::source(error)) {
        (ErrorKind::ValueValidation, Some(name), Some(why)) if file => eprintln!("error: {name}: {why}"),
        _ => {
            // Whoever closed the stream does not read it.
            let _ = error.print();
        }
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let line = match Line::try_parse() {
        Ok(line) => line,
        Err(error) => return refuse(&error),
    };
    let json = line.json;
    let done = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Into::into).and_then(|r| r.block_on(run(line)));
    match done {
        Ok(code) => code,
        Err(error) => {
            if json {
                eprintln!("{}", serde_json::json!({ "error": format!("{error:#}") }));
            } else {
                eprintln!("error: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(line: Line) -> anyhow::Result<ExitCode> {
    let is_local = line.config.is_some() || line.data_dir.is_some() || names_place(&line.set);
    let about_servers = matches!(
        line.command,
        Command::Order(_) | Command::Apply(_) | Command::Export(_) | Command::Login(_) | Command::Logout(_) | Command::Whoami
    );
    // `muster simulate` has a server of its own kind.
    let named = line.server.filter(|_| !matches!(line.command, Command::Simulate(_)));
    anyhow::ensure!(about_servers || !(line.remote || named.is_some()), "--server and --remote: this is done on the server's own machine");
    let server = named_server(named, is_local)?;
    let mut set = line.set;
    if let Some(folder) = &line.data_dir {
        set.push(format!("data_dir={}", folder.display()));
    }
    let (config, ignored) = Sources::of_process(line.config, set).load()?;
    let logs = matches!(line.command, Command::Serve(_) | Command::Echo);
    telemetry::start_logging(if logs { &line.log } else { "warn" });
    for name in ignored {
        tracing::warn!("the environment variable {name} is no setting of muster and is not looked at");
    }
    let mut view: output::View = output::render;
    // What an order that only looks has found is told by the exit status, too.
    let mut fine = true;
    let answer = match line.command {
        Command::Apply(arguments) => {
            let mut way = Way::choose(config, server.as_deref(), line.remote, is_local)?;
            return files::apply(&mut way, &arguments, line.json).await;
        }
        Command::Export(arguments) => {
            let mut way = Way::choose(config, server.as_deref(), line.remote, is_local)?;
            files::export(&mut way, &arguments).await?
        }
        Command::Config(command) => config::run(&config, &command),
        Command::Demo(arguments) => {
            demo::run(&arguments).await?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Doctor => return doctor::run(config, line.json).await,
        Command::Init(arguments) => init::run(config, &arguments).await?,
        Command::Restore(arguments) => backup::restore(&config, &arguments).await?,
        Command::Serve(arguments) => {
            serve::run(config, &arguments).await?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Echo => {
            echo::run(config).await?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Login(arguments) => login::run(&arguments).await?,
        Command::Logout(arguments) => login::logout(&arguments, server.as_deref()).await?,
        Command::Whoami => login::who(server.as_deref()).await?,
        Command::Simulate(arguments) => simulate::run(&config, &arguments, line.json).await?,
        Command::Order(order) => {
            view = order.view();
            let (is_status, is_test) = (matches!(order, Order::Status), order.is_receiver_test());
            let patience = Duration::from_secs(u64::from(config.signals.timeout_seconds));
            let mut way = Way::choose(config, server.as_deref(), line.remote, is_local)?;
            let answer = way.give(order).await?;
            if is_test {
                let (answer, taken) = signals::follow(&mut way, patience, answer).await?;
                fine = taken;
                answer
            } else {
                fine = !is_status || !status::has_alarm(&answer);
                answer
            }
        }
    };
    output::print(&answer, Some(view).filter(|_| !line.json))?;
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether settings of the line, or variables, say where an instance is.
fn names_place(set: &[String]) -> bool {
    let of_line = set.iter().any(|set| ["data_dir=", "database="].iter().any(|key| set.trim_start().starts_with(key)));
    of_line || ["MUSTER_DATA_DIR", "MUSTER_DATABASE"].iter().any(|name| std::env::var_os(name).is_some())
}

/// The server that the line names, or the environment where the line names no place on this machine.
fn named_server(named: Option<reqwest::Url>, is_local: bool) -> anyhow::Result<Option<String>> {
    let named = named.map(|url| logins::read_server(url.as_str())).transpose().map_err(anyhow::Error::msg)?;
    anyhow::ensure!(named.is_none() || !is_local, "--server and a place on this machine: say one of the two");
    match std::env::var("MUSTER_SERVER") {
        Ok(text) if named.is_none() && !is_local && !text.is_empty() => {
            logins::read_server(&text).map(Some).map_err(|error| anyhow::anyhow!("MUSTER_SERVER: {error}"))
        }
        _ => Ok(named),
    }
}

/// How an order reaches who does it.
enum Way {
    /// The instance that the configuration describes: by its server, or here.
    Local(Box<Config>),
    /// A server at another machine.
    Remote(Box<remote::Remote>),
}

impl Way {
    /// The server that is named; else the instance that the configuration describes; where there is none, and nobody said that there is one,
    /// the server of the login.
    fn choose(config: Config, server: Option<&str>, remote: bool, is_local: bool) -> anyhow::Result<Self> {
        if server.is_some() || remote {
            return Ok(Self::Remote(Box::new(remote::Remote::new(login::choose(server)?)?)));
        }
        let is_here = match config.location() {
            crate::store::Location::Sqlite(path) => path.try_exists().unwrap_or(true),
            crate::store::Location::Postgres(_) => true,
        };
        // Where logins cannot be looked for, there is none.
        if is_local || is_here || logins::list().map_or(true, |all| all.is_empty()) {
            return Ok(Self::Local(Box::new(config)));
        }
        let login = login::choose(None)?;
        if std::io::stderr().is_terminal() {
            eprintln!("at {} as {}", login.server, login.user);
        }
        Ok(Self::Remote(Box::new(remote::Remote::new(login)?)))
    }

    /// Has the order done.
    async fn give(&mut self, order: Order) -> anyhow::Result<serde_json::Value> {
        match &order {
            Order::Profile(profile::Command::Known(known)) => return Ok(known.show(Kind::Configuration)?),
            Order::Policy(profile::Command::Known(known)) => return Ok(known.show(Kind::Compliance)?),
            _ => {}
        }
        if matches!(self, Self::Remote(_)) && order.place() == Place::LocalOnly {
            // Before anything is asked for or sent.
            return Err(crate::domain::Refusal::OrderLocalOnly.into());
        }
        let order = order.absolute()?;
        match self {
            Self::Remote(remote) => remote.give(&order).await,
            Self::Local(config) => {
                if let Some(answer) = control::send(&config.control_path(), &order).await? {
                    return Ok(answer);
                }
                let app = Arc::new(App::open((**config).clone(), Arc::new(SystemClock)).await?);
                Ok(order.run(&app, &control::own_name()).await?)
            }
        }
    }

    /// What a server that runs answers; `None` when none does.
    async fn ask_server(&mut self, order: &Order) -> anyhow::Result<Option<serde_json::Value>> {
        match self {
            Self::Remote(remote) => remote.give(order).await.map(Some),
            Self::Local(config) => control::send(&config.control_path(), order).await,
        }
    }
}

impl Order {
    /// How its answer is shown to people.
    fn view(&self) -> output::View {
        use profile::{Command, Known};
        match self {
            Self::Audit(audit::Command::List(_)) => audit::render,
            Self::Ca(ca::Command::Scep(scep::Command::Pending { .. })) => scep::render_pending,
            Self::Signals(signals::Command::Outbox { .. }) => signals::render_outbox,
            Self::Status => status::render,
            Self::Enroll(_) => |answer, _| enroll::render(answer),
            Self::Device(device::Command::List(_)) => explain::render_list,
            Self::Device(device::Command::Explain { .. }) => explain::render,
            Self::Device(device::Command::Show { .. } | device::Command::Retire { .. }) => explain::render_device,
            Self::Profile(Command::Show { .. } | Command::Assign(_) | Command::Unassign(_))
            | Self::Policy(Command::Show { .. } | Command::Assign(_) | Command::Unassign(_)) => explain::render_profile,
            Self::Profile(Command::Known(Known::Settings(_))) | Self::Policy(Command::Known(Known::Settings(_))) => settings::render,
            _ => output::render,
        }
    }

    /// Whether it applies files: what that needs is asked for when it is known what changes.
    fn applies_files(&self) -> bool {
        matches!(self, Self::Files(files::Command::Apply { .. }))
    }

    /// Whether it reads so much that one at a time is enough: whatever all groups have, or the whole audit log.
    fn is_heavy(&self) -> bool {
        matches!(self, Self::Files(_) | Self::Audit(audit::Command::Verify { .. }))
    }

    /// Whether it tells, by what differs, what secrets there are.
    fn compares_secrets(&self) -> bool {
        matches!(self, Self::Files(command) if command.compares_secrets())
    }

    /// Whether it takes a right away or makes a device harmless: it waits behind no flood of other orders.
    fn is_urgent(&self) -> bool {
        match self {
            Self::App(app::Command::Disable { .. }) | Self::Ca(ca::Command::Revoke { .. }) => true,
            Self::Device(device::Command::Retire { .. }) | Self::User(user::Command::Disable { .. }) => true,
            Self::Device(device::Command::Give(give)) => give.known().is_some_and(|id| id == "lock" || id.starts_with("wipe")),
            _ => false,
        }
    }

    /// Whether it sends a verification event, whose end is waited for.
    fn is_receiver_test(&self) -> bool {
        matches!(self, Self::Signals(signals::Command::Receiver(signals::ReceiverCommand::Test { .. })))
    }

    /// The order's first word, without what it says.
    fn name(&self) -> String {
        let name = match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => name,
            Ok(serde_json::Value::Object(fields)) => fields.keys().next().cloned().unwrap_or_default(),
            _ => String::new(),
        };
        name.to_lowercase()
    }

    /// The order's words, without what it says.
    fn words(&self) -> String {
        let (mut words, mut rest) = (Vec::new(), serde_json::to_value(self).unwrap_or_default());
        while words.len() < 3 {
            rest = match rest {
                serde_json::Value::String(word) if words.len() < 3 => {
                    words.push(word);
                    break;
                }
                // Words of orders are written large, what they say small.
                serde_json::Value::Object(fields) if fields.len() == 1 => match fields.into_iter().next() {
                    Some((word, rest)) if word.starts_with(|c: char| c.is_ascii_uppercase()) => {
                        words.push(word);
                        rest
                    }
                    _ => break,
                },
                _ => break,
            };
        }
        words.join(" ").to_lowercase()
    }

    /// The same with all that only this process can find out: paths that mean the same file in another one, and secrets.
    fn absolute(self) -> anyhow::Result<Self> {
        Ok(match self {
            Self::Backup(arguments) => Self::Backup(arguments.absolute()?),
            Self::Apple(command) => Self::Apple(command.absolute()?),
            Self::Device(device::Command::Give(give)) => Self::Device(device::Command::Give(Box::new(give.with_secrets()?))),
            Self::User(user::Command::Pfx(command)) => Self::User(user::Command::Pfx(command.with_password()?)),
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Line::command().debug_assert();
    }
}
