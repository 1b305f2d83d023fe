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
mod find;
mod group;
mod import;
mod init;
mod keys;
mod output;
mod page;
mod pfx;
mod profile;
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

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

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
    /// Shows the configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Shows the product: a server, a sample organisation and simulated devices, on loopback, in a throw-away folder
    Demo(demo::Arguments),
    /// Checks names, certificates, clocks and the database, and says what to do
    Doctor,
    /// Makes an organisation: folder, master key, database, authorities, first administrator
    Init(init::Arguments),
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
    /// Does it, in the name of `actor` (`cli:<user>`).
    ///
    /// # Errors
    /// The use case's.
    pub async fn run(self, app: &Arc<App>, actor: &str) -> service::Result<serde_json::Value> {
        match self {
            Self::App(command) => app::run(app, command, actor).await,
            Self::Apple(command) => apple::run(app, command, actor).await,
            Self::Audit(command) => audit::run(app, command).await,
            Self::Backup(arguments) => backup::run(app, arguments, actor).await,
            Self::Ca(command) => ca::run(app, command, actor).await,
            Self::Deleted(command) => deleted::run(app, command, actor).await,
            Self::Device(command) => device::run(app, command, actor).await,
            Self::Enroll(command) => enroll::run(app, command, actor).await,
            Self::Group(command) => group::run(app, command, actor).await,
            Self::Keys(command) => keys::run(app, command, actor).await,
            Self::Policy(command) => profile::run(app, Kind::Compliance, command, actor).await,
            Self::Profile(command) => profile::run(app, Kind::Configuration, command, actor).await,
            Self::Role(command) => role::run(app, command, actor).await,
            Self::Settings => Ok(serde_json::json!(app.config.settings())),
            Self::Signals(command) => signals::run(app, command, actor).await,
            Self::Status => status::run(app).await,
            Self::User(command) => user::run(app, command, actor).await,
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
        Command::Simulate(arguments) => simulate::run(&config, &arguments, line.json).await?,
        Command::Order(order) => {
            view = order.view();
            let (is_status, is_test) = (matches!(order, Order::Status), order.is_receiver_test());
            let answer = give(config.clone(), order).await?;
            if is_test {
                let (answer, taken) = signals::follow(&config, answer).await?;
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

/// Has the order done by the server that has the instance open, or here.
async fn give(config: Config, order: Order) -> anyhow::Result<serde_json::Value> {
    match &order {
        Order::Profile(profile::Command::Known(known)) => return Ok(known.show(Kind::Configuration)?),
        Order::Policy(profile::Command::Known(known)) => return Ok(known.show(Kind::Compliance)?),
        _ => {}
    }
    let order = order.absolute()?;
    if let Some(answer) = control::send(&config.control_path(), &order).await? {
        return Ok(answer);
    }
    let app = Arc::new(App::open(config, Arc::new(SystemClock)).await?);
    Ok(order.run(&app, &control::own_name()).await?)
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
