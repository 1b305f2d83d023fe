//! `muster device autopilot`.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::page;
use crate::app::App;
use crate::domain::access::Reach;
use crate::service::autopilot::{self, Change, Known};
use crate::service::directory::By;
use crate::service::page as pages;
use crate::service::{Error, Result};
use crate::wire::odata::query::Query;

/// Longest table, in bytes: a thousand hardware hashes are in it.
const LONGEST: u64 = 6 * 1024 * 1024;

/// What is done to PCs that are registered for Windows Autopilot.
#[derive(Debug, Deserialize, Serialize, Subcommand)]
pub enum Command {
    /// Registers the PCs of a table that Get-WindowsAutopilotInfo wrote
    Import {
        /// The file (CSV: Device Serial Number, Windows Product ID, Hardware Hash, Group Tag, Assigned User)
        #[arg(value_name = "FILE", value_parser = read_file)]
        table: String,
    },
    /// Shows the PCs that are registered, and the devices that they are
    List {
        /// With this group tag
        #[arg(long)]
        group_tag: Option<String>,
        /// How many at most
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Changes what is noted of a PC
    Change {
        /// Id or serial number
        device: String,
        /// What groups by a rule tell it by; empty takes it away
        #[arg(long)]
        group_tag: Option<String>,
        /// Whose it is to be: a user name; empty takes it away
        #[arg(long, value_name = "UPN")]
        user: Option<String>,
        /// Name for people
        #[arg(long)]
        name: Option<String>,
    },
    /// Takes a PC off the list; a device that is enrolled stays
    Remove {
        /// Id or serial number
        device: String,
    },
}

/// The file is read here, because the order may be carried out by another process.
fn read_file(path: &str) -> std::result::Result<String, String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes)).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > LONGEST { Err("longer than 6 MiB".into()) } else { Ok(STANDARD.encode(bytes)) }
}

pub(super) async fn run(app: &App, command: Command, by: &By) -> Result<Value> {
    match command {
        Command::Import { table } => {
            let bytes = STANDARD.decode(table).map_err(Error::internal)?;
            let imported = autopilot::import(app, autopilot::read_table(&bytes)?, by).await?;
            let show = |one: &crate::domain::autopilot::Imported| {
                json!({
                    "serial": one.serial,
                    "group_tag": one.group_tag,
                    "user": one.user_principal_name,
                    "id": one.outcome.as_ref().ok(),
                    "refused": one.outcome.as_ref().err().map(|failure| failure.refusal().to_string()),
                })
            };
            Ok(imported.iter().map(show).collect())
        }
        Command::List { group_tag, limit } => {
            let found = list(app, group_tag, limit).await?;
            let more = found.next.is_some();
            Ok(page::mark(found.objects.iter().map(show).collect(), more, |_| None))
        }
        Command::Change { device, group_tag, user, name } => {
            let known = autopilot::find(app, &device, &Reach::All).await?;
            let change = Change { user_principal_name: user, addressable_user_name: None, group_tag, display_name: name };
            autopilot::change(app, &known.identity.id, change, by).await?;
            Ok(show(&autopilot::find(app, known.identity.id.as_str(), &Reach::All).await?))
        }
        Command::Remove { device } => {
            let known = autopilot::find(app, &device, &Reach::All).await?;
            autopilot::delete(app, &known.identity.id, by).await?;
            Ok(json!({ "removed": known.identity.serial }))
        }
    }
}

async fn list(app: &App, group_tag: Option<String>, limit: u32) -> Result<pages::Found<Known>> {
    use crate::wire::odata::filter::{Comparison, Expr, Literal};
    let filter = group_tag.map(|tag| Expr::Compare("groupTag".into(), Comparison::Equal, Literal::Text(tag)));
    match autopilot::page_known(app, &Query { filter, ..Query::default() }, &Reach::All, limit).await {
        Ok(found) => Ok(found),
        Err(pages::Error::Service(error)) => Err(error),
        Err(pages::Error::Wrong(wrong)) => Err(Error::internal(wrong)),
        Err(pages::Error::Resync) => Err(Error::NotFound("place")),
    }
}

fn show(known: &Known) -> Value {
    let identity = &known.identity;
    json!({
        "serial": identity.serial,
        "group_tag": identity.group_tag,
        "user": known.user_principal_name,
        "name": identity.display_name,
        "device": known.device.as_ref().map(|(device, _)| &device.display_name),
        "enrolled": known.device.as_ref().is_some_and(|(_, enrolled)| enrolled.is_some()),
        "id": identity.id,
    })
}
