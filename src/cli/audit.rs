//! `muster audit`.

use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::app::App;
use crate::clock::Time;
use crate::domain::audit::Place;
use crate::service::{Error, Result, audit};

/// What is done with the audit log.
#[derive(Debug, Deserialize, Serialize, Subcommand)]
pub enum Command {
    /// Checks that nobody altered, removed or added a row, and says where the log ends, to be noted elsewhere
    Verify {
        /// A row that was noted at an earlier check: the log must still hold it
        #[arg(long, value_name = "NUMBER:HASH")]
        expect: Option<Place>,
    },
    /// Shows rows, oldest first
    List {
        /// Those that come after this row
        #[arg(long, default_value_t = 0, value_name = "NUMBER")]
        after: i64,
        /// How many at most
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=10_000))]
        limit: i64,
        /// With what was before and after
        #[arg(long)]
        full: bool,
    },
}

pub(super) async fn run(app: &App, command: Command) -> Result<Value> {
    match command {
        Command::Verify { expect } => {
            let report = audit::verify(app, expect.as_ref()).await?;
            match report.broken {
                None => Ok(json!({ "sound": report.sound, "head": report.head.map(|place| place.to_string()) })),
                Some(broken) => Err(Error::Invalid(broken.why, format!("row {}", broken.seq))),
            }
        }
        Command::List { after, limit, full } => {
            let rows = audit::list(app, after, limit).await?;
            let show = |row: &crate::store::audit::Row| {
                let mut shown = json!({
                    "seq": row.seq, "at": Time(row.at).to_string(), "actor": row.actor, "action": row.action, "target": row.target,
                    "origin": row.origin,
                });
                if let (true, Some(fields)) = (full, shown.as_object_mut()) {
                    fields.insert("before".into(), json!(row.before));
                    fields.insert("after".into(), json!(row.after));
                    fields.insert("hash".into(), json!(row.hash));
                }
                shown
            };
            Ok(Value::Array(rows.iter().map(show).collect()))
        }
    }
}
