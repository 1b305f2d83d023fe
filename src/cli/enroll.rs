//! `muster enroll`.

use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::clock::MINUTE;
use crate::domain::tap::Policy;
use crate::service;
use crate::service::windows::enroll;

/// What kind of device is to be enrolled.
#[derive(Debug, Deserialize, Serialize, Subcommand)]
pub enum Command {
    /// Makes a Temporary Access Pass and shows what to type or open on a Windows PC
    Windows(Windows),
}

/// For whom.
#[derive(clap::Args, Debug, Deserialize, Serialize)]
pub struct Windows {
    /// User principal name of whoever will use the PC
    #[arg(long, value_name = "UPN")]
    user: String,
    /// How long the pass is good, in minutes
    #[arg(long, default_value_t = 60, value_name = "MINUTES")]
    minutes: u32,
    /// How many letters the pass has
    #[arg(long, default_value_t = 12, value_name = "LETTERS")]
    length: usize,
    /// The pass may enrol any number of PCs while it is good, as a provisioning package needs it
    #[arg(long)]
    reusable: bool,
}

pub(super) async fn run(app: &App, command: Command, actor: &str) -> service::Result<Value> {
    let Command::Windows(arguments) = command;
    let lifetime = i64::from(arguments.minutes).saturating_mul(MINUTE);
    let policy = Policy { length: arguments.length, lifetime, one_time: !arguments.reusable };
    let invitation = enroll::invite(app, &arguments.user, policy, actor, "local").await?;
    let package: Map<String, Value> = invitation.package.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    Ok(json!({
        "user": invitation.user.upn,
        "temporary_access_pass": invitation.tap.show(),
        "good_until": invitation.tap.expires_at.to_string(),
        "one_time": policy.one_time,
        "open_on_the_pc": invitation.deep_link,
        "explained_at": invitation.page_url,
        "server_to_type": invitation.discovery_url,
        "provisioning_package": package,
    }))
}
