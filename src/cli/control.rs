//! The control socket: how the command line reaches the server that has the instance open.
//!
//! A Unix socket in the data folder, mode 0600; only the server's own user and root are heard. One order per connection, as JSON, ended by
//! closing the writing half; the answer likewise.

use std::future::Future;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::Order;
use super::who::Who;
use crate::app::App;
use crate::service;

/// Largest order, in bytes (a profile or a certificate file may be in it).
const LARGEST: u64 = 16 * 1024 * 1024;
/// How long sending an order may take, and taking the answer.
const SEND: Duration = Duration::from_secs(10);
/// How many orders are carried out at once; more wait for their turn.
const AT_ONCE: usize = 32;
/// How long an order may take.
const WORK: Duration = Duration::from_secs(600);

/// The code of a failure whose text says everything.
const FAILED: &str = "failed";

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Done(Value),
    Failed { code: String, text: String },
}

/// Asks the server behind `path`; `None` when there is none.
pub(super) async fn send(path: &Path, order: &Order) -> anyhow::Result<Option<Value>> {
    let Ok(mut stream) = UnixStream::connect(path).await else { return Ok(None) };
    stream.write_all(&serde_json::to_vec(order)?).await.context("sending the order to the server")?;
    stream.shutdown().await?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.context("reading the server's answer")?;
    match serde_json::from_slice(&text).context("the server closed the connection without an answer; its log may say why")? {
        Answer::Done(value) => Ok(Some(value)),
        Answer::Failed { code, text } if code == FAILED || text.starts_with(&code) => anyhow::bail!("{text}"),
        Answer::Failed { code, text } => anyhow::bail!("{code}: {text}"),
    }
}

/// Starts listening; the task ends when it is aborted.
pub(super) fn listen(app: Arc<App>) -> anyhow::Result<tokio::task::JoinHandle<()>> {
    let path = app.config.control_path();
    if std::os::unix::net::UnixStream::connect(&path).is_ok() {
        anyhow::bail!("{}: another server listens here; give each node a data folder of its own", path.display());
    }
    drop(std::fs::remove_file(&path));
    let listener = UnixListener::bind(&path).with_context(|| format!("{} (a socket's path may have 107 bytes)", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(tokio::spawn(async move {
        // A task each, so that one who is slow holds up nobody else; they end with this one.
        let mut orders = JoinSet::new();
        loop {
            while orders.try_join_next().is_some() {}
            if orders.len() >= AT_ONCE {
                orders.join_next().await;
            }
            match listener.accept().await {
                Ok((stream, _)) => {
                    let app = Arc::clone(&app);
                    orders.spawn(async move {
                        if let Err(error) = answer(&app, stream).await {
                            tracing::warn!(error = %format!("{error:#}"), "control socket");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "control socket");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }))
}

async fn answer(app: &Arc<App>, mut stream: UnixStream) -> anyhow::Result<()> {
    let uid = stream.peer_cred()?.uid();
    anyhow::ensure!(uid == 0 || uid == own_uid(), "user id {uid} may not give orders");
    let mut text = Vec::new();
    tokio::time::timeout(SEND, (&mut stream).take(LARGEST).read_to_end(&mut text)).await.context("the order took too long")??;
    let answer = match serde_json::from_slice::<Order>(&text) {
        Err(error) => Answer::Failed { code: "order".into(), text: format!("this server is of another version: {error}") },
        Ok(order) => {
            let who = Who::local(&format!("cli:{}", name_of(uid)));
            let (name, given, actor) = (order.name(), Arc::clone(app), who.by.actor.clone());
            match carry_out(app, &name, &actor, async move { order.run_for(&given, &who).await }).await {
                Ok(value) => Answer::Done(value),
                Err(error) => failed(&error),
            }
        }
    };
    reply(stream, &answer, SEND).await
}

/// Has an order done in a task of its own, so that a panic costs the order and not the socket; the panic is counted, logged and audited.
pub(super) async fn carry_out(
    app: &App,
    name: &str,
    actor: &str,
    work: impl Future<Output = service::Result<Value>> + Send + 'static,
) -> service::Result<Value> {
    match tokio::time::timeout(WORK, tokio::spawn(work)).await {
        Ok(Ok(done)) => done,
        Ok(Err(ended)) => {
            if ended.is_panic() {
                metrics::counter!("muster_panics_total").increment(1);
                tracing::error!(order = name, actor, "an order panicked: this is a bug");
                if let Err(error) = service::audit::record_panic(app, name, actor).await {
                    tracing::error!(%error, order = name, actor, "the panic of an order cannot be recorded");
                }
            }
            Err(service::Error::internal(anyhow::anyhow!("the server failed; its log has the reason")))
        }
        Err(_) => Err(service::Error::Unavailable("the order takes too long; it goes on in the server".into())),
    }
}

/// Sends the answer to a client that takes it in time.
async fn reply(mut stream: UnixStream, answer: &Answer, patience: Duration) -> anyhow::Result<()> {
    let text = serde_json::to_vec(answer)?;
    let sent = async {
        stream.write_all(&text).await?;
        stream.shutdown().await
    };
    tokio::time::timeout(patience, sent).await.context("the answer was not taken")??;
    Ok(())
}

fn failed(error: &service::Error) -> Answer {
    let code = match error {
        service::Error::Refused(refusal) | service::Error::Invalid(refusal, _) => refusal.code(),
        service::Error::Internal(reason) => {
            tracing::error!(error = ?reason, "an order failed");
            "internal"
        }
        _ => FAILED,
    };
    Answer::Failed { code: code.to_owned(), text: error.to_string() }
}

/// `cli:<user>` of this process.
pub(super) fn own_name() -> String {
    format!("cli:{}", name_of(own_uid()))
}

fn own_uid() -> u32 {
    std::fs::metadata("/proc/self").map_or(u32::MAX, |m| m.uid())
}

/// The login name of a user id, or the number.
fn name_of(uid: u32) -> String {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| uid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_order_that_panics_is_answered_by_a_code_and_audited() {
        let folder = tempfile::tempdir().unwrap();
        let config = crate::config::Config { data_dir: folder.path().join("data"), ..Default::default() };
        let app = super::super::init::prepare(config).await.unwrap();
        let order: Order = serde_json::from_value(serde_json::json!({ "Keys": "Status" })).unwrap();
        let answer = carry_out(&app, &order.name(), "cli:test", async { panic!("on purpose") }).await;
        assert!(matches!(&answer, Err(service::Error::Internal(_))), "{answer:?}");
        assert!(matches!(failed(&answer.unwrap_err()), Answer::Failed { code, .. } if code == "internal"));
        let rows = app.store.read(|c| crate::store::audit::list(c, 0, 100)).await.unwrap();
        let last = rows.last().unwrap();
        assert_eq!((last.action.as_str(), last.target.as_str(), last.actor.as_str()), ("order.panic", "order:keys", "cli:test"));
        assert!(matches!(carry_out(&app, "status", "cli:test", async { Ok(Value::Null) }).await, Ok(Value::Null)));
    }

    #[tokio::test]
    async fn a_client_that_does_not_take_its_answer_is_left() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let long = Answer::Done(Value::String("x".repeat(4 << 20)));
        let error = reply(ours, &long, Duration::from_millis(20)).await.unwrap_err().to_string();
        assert!(error.contains("not taken"), "{error}");
        drop(theirs);
    }
}
