//! `muster user import` and `muster group import`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::app::App;
use crate::service::Result;
use crate::service::directory::By;
use crate::service::directory::import::{LONGEST, Outcome, Report, groups, users};

/// How many rows are shown at most.
const MANY: usize = 1000;

/// A table to be imported.
#[derive(Debug, clap::Args, Deserialize, Serialize)]
pub struct Import {
    /// The table (CSV), whose first line names the columns
    #[arg(value_name = "FILE", value_parser = read)]
    file: Table,
    /// Shows what would come of it, and changes nothing
    #[arg(long)]
    dry_run: bool,
}

/// The text of a table.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub(super) struct Table(String);

/// Reads a file; what Windows programs write as UTF-16 or in the old code page is no UTF-8.
fn read(name: &str) -> std::result::Result<Table, String> {
    let length = std::fs::metadata(name).map_err(|error| error.to_string())?.len();
    if usize::try_from(length).map_or(true, |length| length > LONGEST) {
        return Err(format!("longer than {LONGEST} bytes; divide it"));
    }
    let bytes = std::fs::read(name).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map(Table).map_err(|_| "not UTF-8; save it as \"CSV UTF-8\"".to_owned())
}

impl Import {
    /// Imports users.
    pub(super) async fn users(self, app: &App, by: &By) -> Result<Value> {
        Ok(show(&users(app, &self.file.0, self.dry_run, by).await?, "user", self.dry_run))
    }

    /// Imports groups.
    pub(super) async fn groups(self, app: &App, by: &By) -> Result<Value> {
        let report = groups(app, &self.file.0, self.dry_run, by).await?;
        let mut shown = show(&report, "group", self.dry_run);
        if let Some(fields) = shown.as_object_mut() {
            fields.insert("members_added".into(), report.joined.into());
        }
        Ok(shown)
    }
}

fn show(report: &Report, what: &str, dry_run: bool) -> Value {
    let moved = report.rows.iter().filter(|(.., outcome)| *outcome != Outcome::Unchanged);
    let word = |outcome: Outcome| if outcome == Outcome::Created { "created" } else { "changed" };
    let rows: Vec<Value> =
        moved.take(MANY).map(|(line, name, outcome)| json!({ "line": line, what: name, "result": word(*outcome) })).collect();
    let (created, changed, unchanged) = (report.count(Outcome::Created), report.count(Outcome::Changed), report.count(Outcome::Unchanged));
    json!({
        "result": format!("{created} created, {changed} changed, {unchanged} unchanged"),
        "dry_run": dry_run,
        "created": created,
        "changed": changed,
        "unchanged": unchanged,
        "more": created + changed > MANY,
        "rows": rows,
    })
}
