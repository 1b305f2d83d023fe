//! This program once more, as a server in a throw-away folder.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use clap::Parser as _;
use reqwest::Url;
use serde_json::Value;

use crate::cli::{Command as Subcommand, Line, control};
use crate::config::Config;
use crate::sim::apns::Apns;
use crate::sim::measure::Usage;

/// A folder that goes when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn make() -> std::io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = std::env::temp_dir().join(format!("muster-{}", uuid::Uuid::new_v4().simple()));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// An instance that is not served yet.
pub(super) struct Instance {
    folder: Folder,
    settings: Vec<String>,
    /// The root that its server certificate chains to, PEM.
    pub(super) root: String,
}

impl Instance {
    /// Makes one, with the keys, workers and way of Apple devices to show themselves of `config`, and with the push service that is given.
    pub(super) fn make(config: &Config, apns: Option<&Apns>) -> anyhow::Result<Self> {
        let mut settings = vec![
            "limits.anonymous_per_second=0".to_owned(),
            format!("ca.key_algorithm={}", config.ca.key_algorithm),
            format!("apple.sign_messages={}", config.apple.sign_messages),
            format!("workers={}", config.workers),
            format!("database_connections={}", config.database_connections),
        ];
        settings.extend(["web", "device", "pki"].map(|face| format!("{face}.listen=127.0.0.1:0")));
        let folder = Folder::make()?;
        if let Some(apns) = apns {
            let root = folder.0.join("apns.pem");
            std::fs::write(&root, &apns.root_pem)?;
            settings.extend([format!("apple.apns.url={}", apns.url()), format!("apple.apns.root_file={}", root.display())]);
        }
        let mut made = Self { folder, settings, root: String::new() };
        made.ask(&["init"])?;
        made.root = made.ask(&["ca", "export", "root"])?.as_str().unwrap_or_default().to_owned();
        Ok(made)
    }

    /// The data folder.
    pub(super) fn data(&self) -> PathBuf {
        self.folder.0.join("data")
    }

    fn command(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        // Nothing of this process's surroundings may point the other one at a real instance.
        command.current_dir(&self.folder.0).env_clear().stdin(Stdio::null());
        command.args(["--log", "warn,muster::cli=info", "--data-dir"]).arg(self.data());
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        Ok(command)
    }

    fn ask(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let output = self.command()?.arg("--json").args(arguments).output()?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Serves it, by `serve` or `echo`, and returns when it answers.
    pub(super) fn start(self, how: &str) -> anyhow::Result<Server> {
        let mut process = self.command()?.arg(how).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(process.stderr.take().context("no standard error")?).lines();
        let mut said = String::new();
        let serving = loop {
            let Some(line) = lines.next() else {
                drop(process.wait());
                anyhow::bail!("the server did not start: {}", said.trim());
            };
            let line = line?;
            match serde_json::from_str::<Value>(&line) {
                Ok(value) if value.get("message").and_then(Value::as_str) == Some("serving") => break value,
                _ => said = format!("{said}\n{line}"),
            }
        };
        // A full pipe would stop the server; what it complains about belongs to whoever measures.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("{line}")));
        let url = |face: &str| -> anyhow::Result<Url> {
            Ok(Url::parse(serving.get(face).and_then(Value::as_str).context("the server did not say where it serves")?)?)
        };
        Ok(Server { web: url("web")?, device: url("device")?, pki: url("pki")?, process, instance: self })
    }
}

/// A served instance; stopped when it is dropped.
pub(super) struct Server {
    process: Child,
    instance: Instance,
    /// Base URL of the web face.
    pub(super) web: Url,
    /// Base URL of the device face.
    pub(super) device: Url,
    /// Base URL of the CA's plain HTTP face.
    pub(super) pki: Url,
}

impl Server {
    /// The root that the server certificate chains to, PEM.
    pub(super) fn root(&self) -> &str {
        &self.instance.root
    }

    /// A file that goes with the instance, for an order that reads one.
    pub(super) fn file(&self, name: &str, content: &[u8]) -> anyhow::Result<String> {
        let path = self.instance.folder.0.join(name);
        std::fs::write(&path, content)?;
        Ok(path.display().to_string())
    }

    /// What the process has used so far.
    pub(super) fn usage(&self) -> Usage {
        Usage::of(self.process.id()).unwrap_or_default()
    }

    /// Gives an order as on the command line.
    pub(super) async fn order(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let line = Line::try_parse_from([&["muster"], arguments].concat())?;
        let Subcommand::Order(order) = line.command else { anyhow::bail!("no order: {}", arguments.join(" ")) };
        let socket: &Path = &self.instance.data().join("control.sock");
        control::send(socket, &order).await?.context("the server is gone")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
