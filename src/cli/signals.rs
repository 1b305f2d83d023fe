//! `muster signals`.

use std::time::{Duration, Instant};

use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::find::{self, missing};
use super::who::Who;
use super::{Order, Way, output, page};
use crate::app::App;
use crate::clock::Time;
use crate::domain::signal::{Receiver, ReceiverStatus};
use crate::secret::Secret;
use crate::service::outbox;
use crate::service::signals::receiver::{self, NewReceiver};
use crate::service::signals::{self, caep};
use crate::service::signing_keys as keys;
use crate::service::{Error, Result};
use crate::store::outbox::{Fortune, Row};

/// How often `receiver test` looks whether its event is settled.
const LOOK: Duration = Duration::from_millis(200);

/// What is done with signals to other systems.
#[derive(Debug, Deserialize, Serialize, Subcommand)]
pub enum Command {
    /// Looks after those who get signals
    #[command(subcommand)]
    Receiver(ReceiverCommand),
    /// Looks after the keys that sign
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Shows what waits to be sent, or what was given up
    Outbox {
        /// queued, done or dead
        #[arg(long, default_value = "queued", value_parser = ["queued", "done", "dead"])]
        state: String,
        /// Those that come after this number
        #[arg(long, default_value_t = 0, value_name = "NUMBER")]
        after: i64,
        /// How many at most
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=1000))]
        limit: i64,
    },
    /// Puts what was given up in again
    Retry {
        /// Its number
        number: i64,
    },
}

/// What is done to receivers.
#[derive(Debug, Deserialize, Serialize, Subcommand)]
pub enum ReceiverCommand {
    /// Shows them
    List,
    /// Adds one, which gets every change of compliance from now on
    Add(Box<Add>),
    /// Sends one a verification event and says whether it was taken; the exit status says it, too
    Test {
        /// Name or id
        receiver: String,
    },
    /// What became of a verification event; asked by `test` until it is settled
    #[command(skip)]
    Fate {
        /// Name or id
        receiver: String,
        /// Which event
        jti: String,
    },
    /// Holds signals back; they wait
    Pause {
        /// Name or id
        receiver: String,
        /// Why
        #[arg(long)]
        reason: Option<String>,
    },
    /// Lets signals go again
    Resume {
        /// Name or id
        receiver: String,
    },
    /// Removes one, and gives up what waits for it
    Remove {
        /// Name or id
        receiver: String,
    },
}

/// A receiver to be.
#[derive(clap::Args, Deserialize, Serialize)]
pub struct Add {
    /// Name for people
    name: String,
    /// Where signals are pushed to (RFC 8935)
    url: String,
    /// The audience claim; default: the URL
    #[arg(long)]
    audience: Option<String>,
    /// File with the value of the Authorization header, such as Bearer and a token
    #[arg(long, value_name = "FILE", value_parser = read_authorization)]
    authorization_file: Option<String>,
}

impl std::fmt::Debug for Add {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Add").field("name", &self.name).field("url", &self.url).finish_non_exhaustive()
    }
}

/// What is done to the keys that sign.
#[derive(Debug, Deserialize, Serialize, Subcommand)]
pub enum KeysCommand {
    /// Shows the published keys
    List,
    /// For an emergency: a new key signs at once, and all others are no longer published
    Replace,
}

/// The file is read here, because the order may be carried out by another process.
fn read_authorization(path: &str) -> std::result::Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    let value = text.trim_end();
    if value.is_empty() || value.len() > 8 * 1024 { Err(format!("{path} holds no header value")) } else { Ok(value.to_owned()) }
}

pub(super) async fn run(app: &App, command: Command, who: &Who) -> Result<Value> {
    match command {
        Command::Receiver(command) => run_receiver(app, command, who).await,
        Command::Keys(KeysCommand::List) => Ok(Value::Array(keys::list(app).await?.iter().map(show_key).collect())),
        Command::Keys(KeysCommand::Replace) => Ok(json!({ "kid": keys::replace_all(app, &who.by).await? })),
        Command::Outbox { state, after, limit } => {
            let rows = outbox::list(app, &state, after, page::probe(limit)).await?;
            let called = signals::lanes::names(app, &rows).await?;
            let show = |(row, (receiver, device)): (&Row, (Option<String>, Option<String>))| {
                json!({
                    "number": row.seq, "receiver": receiver, "device": device, "attempts": row.attempts, "last_error": row.last_error,
                    "since": Time(row.queued_at).to_string(), "settled": row.settled_at.map(|at| Time(at).to_string()), "state": row.state,
                    "topic": row.topic, "lane": row.order_key,
                })
            };
            Ok(page::cut(rows.iter().zip(called).map(show).collect(), limit, page::after("number")))
        }
        Command::Retry { number } => {
            outbox::retry(app, number, &who.by.actor, &who.by.origin).await.map_err(|error| match error {
                Error::NotFound(_) => missing("signal that was given up", &number.to_string(), "signals outbox --state dead"),
                other => other,
            })?;
            Ok(json!({ "number": number, "state": "queued" }))
        }
    }
}

/// Waits until the event of `test` is settled or was tried in vain; the answer with how it went, and whether the receiver took it. Without
/// a server nobody sends it.
pub(super) async fn follow(way: &mut Way, patience: Duration, mut answer: Value) -> anyhow::Result<(Value, bool)> {
    let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (receiver, jti) = (text("receiver"), text("jti"));
    let mut told = (TestResult::NotSent, None);
    // One try, and one more look of the worker.
    let until = Instant::now() + patience + Duration::from_secs(5);
    while Instant::now() < until {
        let ask = ReceiverCommand::Fate { receiver: receiver.clone(), jti: jti.clone() };
        let Some(fate) = way.ask_server(&Order::Signals(Command::Receiver(ask))).await? else { break };
        // A receiver that is paused is not tried, and says so.
        let tried = fate.get("last_error").is_some_and(Value::is_string);
        match fate.get("state").and_then(Value::as_str) {
            Some("done") => told = (TestResult::Taken, None),
            Some("queued") if !tried => {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            _ => told = (TestResult::Failed, fate.get("last_error").cloned()),
        }
        break;
    }
    let (result, why) = told;
    let next = match result {
        TestResult::Taken => None,
        TestResult::NotSent => Some("it is sent while a server runs; `muster signals receiver list` shows how it went"),
        TestResult::Failed => {
            Some("it is tried again; `muster signals receiver list` shows failed tries, the last error and whether it is paused")
        }
    };
    if let Some(fields) = answer.as_object_mut() {
        fields.insert("result".into(), result.as_str().into());
        fields.extend(why.map(|why| ("last_error".to_owned(), why)));
        fields.extend(next.map(|next| ("next".to_owned(), next.into())));
    }
    Ok((answer, result == TestResult::Taken))
}

/// How a verification event went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TestResult {
    Taken,
    Failed,
    NotSent,
}

impl TestResult {
    fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Failed => "failed",
            Self::NotSent => "not sent yet",
        }
    }
}

/// What waits for receivers, and apart from it the wakes of devices, which are no signals.
pub(super) fn render_outbox(answer: &Value, width: Option<usize>) -> String {
    let mut answer = answer.clone();
    let rest = page::rest(&mut answer);
    let rows = answer.as_array().cloned().unwrap_or_default();
    let is_signal = |row: &Value| row.get("topic").and_then(Value::as_str) == Some(caep::TOPIC);
    let (signals, mut wakes): (Vec<Value>, Vec<Value>) = rows.into_iter().partition(is_signal);
    for wake in wakes.iter_mut().filter_map(Value::as_object_mut) {
        wake.remove("receiver");
    }
    let mut shown = output::render(&Value::Array(signals), width);
    if !wakes.is_empty() {
        shown.push_str(&format!("\nwakes of devices by push services, no signals\n{}", output::render(&Value::Array(wakes), width)));
    }
    shown + &rest
}

async fn run_receiver(app: &App, command: ReceiverCommand, who: &Who) -> Result<Value> {
    match command {
        ReceiverCommand::List => {
            let show = |(fortune, receiver): &(Fortune, Receiver)| {
                json!({
                    "name": receiver.name, "status": receiver.status, "failed_tries": fortune.failed, "last_error": fortune.last_error,
                    "last_success": fortune.last_success.map(|at| Time(at).to_string()), "url": receiver.endpoint_url,
                    "reason": receiver.status_reason, "audience": receiver.audience,
                    "authorization": receiver.sealed_authorization.is_some(), "since": receiver.created_at.to_string(), "id": receiver.id,
                })
            };
            Ok(Value::Array(receiver::list(app).await?.iter().map(show).collect()))
        }
        ReceiverCommand::Add(add) => {
            let new = NewReceiver {
                name: add.name,
                endpoint_url: add.url,
                audience: add.audience,
                authorization: add.authorization_file.map(|text| Secret::new(text.into_bytes())),
            };
            let added = receiver::add(app, new, &who.by).await?;
            let mut shown = show_receiver(&added);
            if let Some(fields) = shown.as_object_mut() {
                fields.insert("issuer".into(), signals::issuer(&app.config).into());
                fields.insert("keys".into(), format!("{}{}", signals::issuer(&app.config), signals::JWKS_PATH).into());
            }
            Ok(shown)
        }
        ReceiverCommand::Test { receiver } => {
            let found = find::receiver(app, &receiver).await?;
            let jti = receiver::test(app, found.id.as_str(), &who.by).await?;
            Ok(json!({ "receiver": found.name, "jti": jti }))
        }
        ReceiverCommand::Fate { receiver, jti } => {
            let fate = receiver::fate(app, &receiver, &jti).await?;
            Ok(json!(fate.map(|row| json!({ "state": row.state, "attempts": row.attempts, "last_error": row.last_error }))))
        }
        ReceiverCommand::Pause { receiver, reason } => set_status(app, &receiver, ReceiverStatus::Paused, reason, who).await,
        ReceiverCommand::Resume { receiver } => set_status(app, &receiver, ReceiverStatus::Enabled, None, who).await,
        ReceiverCommand::Remove { receiver } => {
            let found = find::receiver(app, &receiver).await?;
            receiver::remove(app, found.id.as_str(), &who.by).await?;
            Ok(json!({ "removed": found.name }))
        }
    }
}

async fn set_status(app: &App, name: &str, status: ReceiverStatus, reason: Option<String>, who: &Who) -> Result<Value> {
    let found = find::receiver(app, name).await?;
    receiver::set_status(app, &found.id, status, reason, &who.by).await?;
    Ok(show_receiver(&receiver::load(app, found.id.as_str()).await?))
}

fn show_receiver(receiver: &Receiver) -> Value {
    json!({
        "id": receiver.id,
        "name": receiver.name,
        "status": receiver.status,
        "reason": receiver.status_reason,
        "url": receiver.endpoint_url,
        "audience": receiver.audience,
        "authorization": receiver.sealed_authorization.is_some(),
        "since": receiver.created_at.to_string(),
    })
}

fn show_key(key: &keys::Published) -> Value {
    json!({
        "kid": key.kid, "algorithm": key.algorithm, "signs_from": key.signs_from.to_string(),
        "retired": key.retired_at.map(|at| at.to_string()), "signs_now": key.signs_now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wakes_are_listed_apart_from_signals() {
        let row = |topic: &str| json!({ "number": 1, "receiver": null, "device": "Mac", "topic": topic });
        let shown = render_outbox(&json!([row("apns.wake"), row(caep::TOPIC)]), None);
        let (signals, wakes) = shown.split_once("\nwakes of devices by push services, no signals\n").unwrap();
        assert!(signals.contains(caep::TOPIC) && !signals.contains("apns"), "{shown}");
        assert!(wakes.contains("apns.wake") && !wakes.contains("RECEIVER"), "{shown}");
        assert_eq!(render_outbox(&json!([]), None), "nothing\n");
    }
}
