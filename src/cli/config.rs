//! `muster config`.

use crate::config::Config;

/// What to show of the configuration.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Shows all settings in force as a commented file; secrets are masked
    Print,
    /// Shows the table of settings for the manual
    Manual,
}

pub(super) fn run(config: &Config, command: &Command) -> serde_json::Value {
    match command {
        Command::Print => config.to_file().into(),
        Command::Manual => Config::manual().into(),
    }
}
