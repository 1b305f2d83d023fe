//! `muster audit`.

use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{find, output, page};
use crate::app::App;
use crate::clock::Time;
use crate::domain::audit::Place;
use crate::service::{Error, Result, audit};
use crate::store::audit::{Party, Row, Search};

/// What is done with the audit log.
#[derive(Debug, Deserialize, Serialize, Subcommand)]
pub enum Command {
    /// Checks that nobody altered, removed or added a row, and says where the log ends, to be noted elsewhere
    Verify {
        /// A row that was noted at an earlier check: the log must still hold it
        #[arg(long, value_name = "NUMBER:HASH")]
        expect: Option<Place>,
    },
    /// Shows rows, newest first
    List(Box<List>),
}

/// Which rows.
#[derive(Debug, clap::Args, Deserialize, Serialize)]
pub struct List {
    /// Those that come after this row, oldest first
    #[arg(long, value_name = "NUMBER")]
    after: Option<i64>,
    /// Those that come before this row
    #[arg(long, value_name = "NUMBER")]
    before: Option<i64>,
    /// What was done, such as user.create, or all that begins so, such as user
    #[arg(long)]
    action: Option<String>,
    /// What this device did, and what was done to it, its enrolments, orders and certificates: id, name or serial number
    #[arg(long, conflicts_with = "user")]
    device: Option<String>,
    /// What this user did, and what was done to the user, the user's enrolments and certificates: name or id
    #[arg(long, value_name = "UPN|ID")]
    user: Option<String>,
    /// How many at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    limit: i64,
    /// With what was before and after
    #[arg(long)]
    full: bool,
}

pub(super) async fn run(app: &App, command: Command) -> Result<Value> {
    match command {
        Command::Verify { expect } => {
            let report = audit::verify(app, expect.as_ref()).await?;
            match report.broken {
                None => Ok(json!({
                    "sound": report.sound, "head": report.head.map(|place| place.to_string()),
                    "noted": expect.map(|noted| format!("row {} is as it was noted", noted.seq)),
                })),
                Some(broken) => Err(Error::Invalid(broken.why, format!("row {}", broken.seq))),
            }
        }
        Command::List(list) => show_rows(app, *list).await,
    }
}

async fn show_rows(app: &App, list: List) -> Result<Value> {
    let of = match (&list.device, &list.user) {
        (Some(device), _) => Some(Party::Device(find::device(app, device).await?.id)),
        (None, Some(user)) => Some(Party::User(find::user(app, user).await?.id)),
        (None, None) => None,
    };
    let search = Search { after: list.after, before: list.before, action: list.action, of };
    let ascending = search.after.is_some();
    let (rows, more) = audit::search(app, search, list.limit).await?;
    let names = audit::names(app, &rows).await?;
    let show = |row: &Row| {
        let mut shown = json!({
            "seq": row.seq, "at": Time(row.at).to_string(), "actor": row.actor, "action": row.action, "target": row.target,
            "origin": row.origin, "actor_name": names.get(&row.actor), "target_name": names.get(&row.target),
        });
        if let (true, Some(fields)) = (list.full, shown.as_object_mut()) {
            fields.insert("before".into(), state(row.before.as_deref()));
            fields.insert("after".into(), state(row.after.as_deref()));
            fields.insert("hash".into(), json!(row.hash));
        }
        shown
    };
    let way = if ascending { "after" } else { "before" };
    Ok(page::mark(rows.iter().map(show).collect(), more, |last| Some(format!("--{way} {}", last.get("seq")?))))
}

/// A state as it was kept: JSON, and whatever else as a text.
fn state(kept: Option<&str>) -> Value {
    kept.map_or(Value::Null, |text| serde_json::from_str(text).unwrap_or_else(|_| text.into()))
}

/// A row with what was before and after below it, whole.
fn in_full(row: &serde_json::Map<String, Value>, width: Option<usize>) -> String {
    let of = |name: &str| row.get(name).map_or_else(String::new, output::entry);
    let head = format!("{}  {}  {}  {}  by {} from {}", of("seq"), of("at"), of("action"), of("target"), of("actor"), of("origin"));
    let mut text = output::wrap(&head, output::readable(width), "");
    for name in ["before", "after", "hash"] {
        if row.get(name).is_some_and(|value| !value.is_null()) {
            text.push_str(&output::wrap(&format!("{name}: {}", of(name)), output::readable(width), "    "));
        }
    }
    text
}

/// The table; where not all columns find room, actors are cut before targets are left out.
fn in_brief(answer: &Value, width: Option<usize>) -> String {
    let mut answer = answer.clone();
    let mut text = output::render(&answer, width);
    for longest in [16, 8] {
        let nothing = answer.as_array().is_none_or(Vec::is_empty);
        if nothing || text.lines().next().is_some_and(|head| head.contains("  TARGET")) {
            break;
        }
        for row in answer.as_array_mut().into_iter().flatten() {
            if let Some(Value::String(actor)) = row.get_mut("actor")
                && actor.chars().count() > longest
            {
                *actor = actor.chars().take(longest - 1).chain(['…']).collect();
            }
        }
        text = output::render(&answer, width);
    }
    text
}

/// Rows with names in the place of ids, and how to see those that are not shown.
pub(super) fn render(answer: &Value, width: Option<usize>) -> String {
    let mut answer = answer.clone();
    let rest = page::rest(&mut answer);
    for row in answer.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        for party in ["actor", "target"] {
            if let Some(Value::String(name)) = row.remove(&format!("{party}_name"))
                && let Some(Value::String(text)) = row.get_mut(party)
                && let Some((kind, _)) = text.split_once(':')
            {
                *text = format!("{kind}:{name}");
            }
        }
    }
    let rows = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    let full = rows.iter().any(|row| row.get("hash").is_some());
    let mut text =
        if full { rows.iter().filter_map(Value::as_object).map(|row| in_full(row, width)).collect() } else { in_brief(&answer, width) };
    text.push_str(&rest);
    text
}
