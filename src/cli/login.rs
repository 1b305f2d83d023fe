//! `muster login`, `logout` and `whoami`: signing in to a server at another machine by a code that a browser anywhere is given (RFC 8628).

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::logins::{self, Login, read_server};
use super::remote::{self, Remote, failure, tame};
use crate::clock::Time;
use crate::domain::application::COMMAND_LINE;
use crate::service::identity::oauth::device_code::GRANT_TYPE;
use crate::wire::jwt::Compact;

/// What is asked for: all that the person's roles allow, and to stay signed in.
const SCOPE: &str = "openid profile offline_access .default";
/// How much longer to wait when the server says that it is asked too often, in seconds (RFC 8628, section 3.5).
const SLOWER: u64 = 5;
/// Longest wait between two questions, in seconds.
const LONGEST_WAIT: u64 = 120;
/// Largest file of a CA, in bytes.
const LARGEST: u64 = 128 * 1024;

/// Signing in.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// The server; default: the one of the login that there is
    #[arg(value_name = "https://HOST[:PORT]", value_parser = read_server)]
    at: Option<String>,
    /// Certificates of the CA by which alone the server is known (PEM); default: those of the system, or of the login before
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Only shows who is logged in where, and until when
    #[arg(long)]
    status: bool,
}

/// Signing out.
#[derive(clap::Args, Debug)]
pub(super) struct Logout {
    /// The server; default: the one of the login that there is
    #[arg(value_name = "https://HOST[:PORT]", value_parser = read_server)]
    at: Option<String>,
    /// Forgets the login here although the server cannot be told: there it lasts until it ends by itself
    #[arg(long)]
    forget: bool,
}

/// The login that is meant: of that server, or the only one.
///
/// # Errors
/// When there is none, or several.
pub(super) fn choose(server: Option<&str>) -> anyhow::Result<Login> {
    if let Some(server) = server {
        return logins::find(server)?.with_context(|| format!("nobody is logged in at {server}: run muster login {server}"));
    }
    let mut all = logins::list()?;
    match (all.pop(), all.len()) {
        (None, _) => anyhow::bail!("nobody is logged in: run muster login https://HOST"),
        (Some(login), 0) => Ok(login),
        (Some(login), _) => {
            let names: Vec<_> = all.iter().map(|login| login.server.as_str()).chain([login.server.as_str()]).collect();
            anyhow::bail!("there are logins at {}; say which is meant by --server", names.join(", "))
        }
    }
}

fn show(login: &Login) -> Value {
    let moment = |seconds| Time::from_seconds(seconds).to_string();
    json!({
        "server": login.server,
        "user": login.user,
        "token_until": moment(login.access_until),
        "login_until": moment(login.refresh_until),
        "ca": if login.ca.is_some() { "of the login" } else { "of the system" },
    })
}

/// Signs in, or shows the logins.
pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<Value> {
    if arguments.status {
        let logins = match &arguments.at {
            Some(server) => vec![choose(Some(server))?],
            None => logins::list()?,
        };
        return Ok(logins.iter().map(show).collect());
    }
    let server = match &arguments.at {
        Some(server) => server.clone(),
        None => choose(None)?.server,
    };
    let ca = match &arguments.ca {
        Some(path) => Some(read_ca(path)?),
        // A login that is damaged does not stand in the way of another one.
        None => logins::find(&server).ok().flatten().and_then(|login| login.ca),
    };
    let client = remote::client(ca.as_deref())?;
    let form = [("client_id", COMMAND_LINE), ("scope", SCOPE)];
    let sent = client.post(format!("{server}/common/oauth2/v2.0/devicecode")).form(&form).send().await;
    let (status, begun) = remote::read(&server, sent.map_err(|error| remote::unreachable(&server, error))?).await?;
    anyhow::ensure!(status.is_success(), "{server}: {}", failure(&begun));
    let text =
        |name: &str| begun.get(name).and_then(Value::as_str).map(tame).with_context(|| format!("{server}: the answer has no {name}"));
    let seconds = |name: &str, usual| begun.get(name).and_then(Value::as_u64).unwrap_or(usual);
    let code = text("device_code")?;
    eprintln!("To sign in, open {} in a browser and enter the code\n\n    {}\n", text("verification_uri")?, text("user_code")?);
    std::io::stderr().flush()?;
    let ends = remote::now().saturating_add(i64::try_from(seconds("expires_in", 900)).unwrap_or(900));
    let mut wait = seconds("interval", 5).clamp(1, LONGEST_WAIT);
    let tokens = loop {
        tokio::time::sleep(Duration::from_secs(wait)).await;
        anyhow::ensure!(remote::now() < ends, "the code has expired; run muster login again");
        let form = [("grant_type", GRANT_TYPE), ("client_id", COMMAND_LINE), ("device_code", code.as_str())];
        let answer = match client.post(format!("{server}/common/oauth2/v2.0/token")).form(&form).send().await {
            Ok(answer) => remote::read(&server, answer).await.ok(),
            Err(_) => None,
        };
        match step(answer.as_ref().map(|(status, body)| (status.as_u16(), body)), wait) {
            Step::Wait(longer) => wait = longer,
            Step::Over(why) => anyhow::bail!("{why}"),
            Step::Done => break answer.map(|(_, body)| body).unwrap_or_default(),
        }
    };
    let id_token = tokens.get("id_token").and_then(Value::as_str).unwrap_or_default();
    // It comes from the server itself, over a connection that is known to be the server's (OpenID Connect Core, section 3.1.3.7).
    let user = Compact::parse(id_token).ok().and_then(|token| token.text("preferred_username").map(tame)).unwrap_or_default();
    let blank = Login {
        server: server.clone(),
        ca,
        user,
        access_token: String::new(),
        access_until: 0,
        refresh_token: String::new(),
        refresh_until: 0,
    };
    let login = remote::with_tokens(blank, &tokens, remote::now()).with_context(|| format!("{server}: the answer has no tokens"))?;
    let held = logins::lock(&server)?;
    let before = logins::find(&server).ok().flatten();
    logins::write(&login)?;
    drop(held);
    // The login before it would last for months, and nobody could end it from here.
    if let Some(before) = before {
        drop(Remote::new(before)?.end().await);
    }
    Ok(show(&login))
}

fn read_ca(path: &std::path::Path) -> anyhow::Result<String> {
    let named = || path.display().to_string();
    anyhow::ensure!(std::fs::metadata(path).with_context(named)?.len() <= LARGEST, "{}: longer than {LARGEST} bytes", path.display());
    let text = std::fs::read_to_string(path).with_context(named)?;
    // Before anything is sent.
    remote::client(Some(&text)).with_context(named)?;
    Ok(text)
}

/// What comes of a question.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// The person has not finished: ask again after so many seconds.
    Wait(u64),
    /// It ended without tokens.
    Over(String),
    /// There are tokens.
    Done,
}

/// Reads an answer of the token endpoint (RFC 8628, section 3.5); `None` when there was none: then the next question waits longer.
fn step(answer: Option<(u16, &Value)>, wait: u64) -> Step {
    let Some((status, body)) = answer else { return Step::Wait(wait.saturating_mul(2).min(LONGEST_WAIT)) };
    match (status, body.get("error").and_then(Value::as_str).unwrap_or_default()) {
        (200, _) => Step::Done,
        (_, "authorization_pending") => Step::Wait(wait),
        (_, "slow_down") => Step::Wait(wait.saturating_add(SLOWER).min(LONGEST_WAIT)),
        (429 | 500.., _) => Step::Wait(wait.saturating_mul(2).min(LONGEST_WAIT)),
        (_, "authorization_declined" | "access_denied") => Step::Over("the sign-in was turned away at the browser".into()),
        (_, "expired_token") => Step::Over("the code has expired; run muster login again".into()),
        _ => Step::Over(failure(body)),
    }
}

/// Signs out: the server ends all that came of the login.
pub(super) async fn logout(arguments: &Logout, server: Option<&str>) -> anyhow::Result<Value> {
    let login = choose(arguments.at.as_deref().or(server))?;
    // A process that renews meanwhile would leave tokens behind that nobody ends.
    let held = logins::lock(&login.server)?;
    let login = logins::find(&login.server)?.unwrap_or(login);
    let ended = Remote::new(login.clone())?.end().await;
    match ended {
        Err(error) if !arguments.forget => Err(error.context("the login still lasts; --forget takes it away here only")),
        ended => {
            logins::remove(&login.server)?;
            drop(held);
            Ok(json!({ "server": login.server, "user": login.user, "ended_at_the_server": ended.is_ok() }))
        }
    }
}

/// Says who is logged in, as the server has it.
pub(super) async fn who(server: Option<&str>) -> anyhow::Result<Value> {
    let mut remote = Remote::new(choose(server)?)?;
    let me = remote.me().await?;
    let mut shown = show(remote.login());
    if let Some(fields) = shown.as_object_mut() {
        let text = |name: &str| me.get(name).and_then(Value::as_str).map(tame);
        fields.insert("user".into(), json!(text("userPrincipalName")));
        fields.insert("name".into(), json!(text("displayName")));
        fields.insert("id".into(), json!(text("id")));
    }
    Ok(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_waits_as_the_server_says_and_ends_when_it_is_over() {
        let error = |word: &str| json!({ "error": word, "error_description": "why" });
        let step = |status, body: &Value| step(Some((status, body)), 5);
        assert_eq!(step(200, &json!({})), Step::Done);
        assert_eq!(step(400, &error("authorization_pending")), Step::Wait(5));
        assert_eq!(step(400, &error("slow_down")), Step::Wait(10));
        assert_eq!(step(503, &json!({})), Step::Wait(10));
        assert_eq!(super::step(None, 100), Step::Wait(120));
        assert_eq!(step(400, &error("expired_token")), Step::Over("the code has expired; run muster login again".into()));
        assert_eq!(step(400, &error("authorization_declined")), Step::Over("the sign-in was turned away at the browser".into()));
        assert_eq!(step(400, &error("invalid_grant")), Step::Over("why".into()));
    }
}
