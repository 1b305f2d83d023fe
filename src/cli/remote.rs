//! Orders to a server at another machine: over HTTPS, with the tokens of `muster login`. The server is known by the system's certificates, or by
//! those alone that were given at the login.

use std::time::Duration;

use anyhow::Context as _;
use openssl::x509::X509;
use reqwest::StatusCode;
use serde_json::Value;

use super::Order;
use super::logins::{self, Login};
use super::output::is_unseen;
use crate::clock::{Clock as _, SystemClock};
use crate::domain::application::COMMAND_LINE;
use crate::http::orders::PATH;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(20);
/// How long an answer may take: an order may work for ten minutes.
const ANSWER: Duration = Duration::from_secs(660);
/// How many seconds before its end a token is renewed.
const EARLY: i64 = 60;
/// Longest text of a server that is shown, in letters.
const LONGEST: usize = 2000;

/// The present moment by this machine's clock, in seconds.
pub(super) fn now() -> i64 {
    SystemClock.now().seconds()
}

/// A client that trusts the system's certificates, or these (PEM) alone.
///
/// # Errors
/// When they are none.
pub(super) fn client(ca: Option<&str>) -> anyhow::Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .https_only(true)
        .redirect(reqwest::redirect::Policy::none())
        .tls_version_min(reqwest::tls::Version::TLS_1_2)
        .connect_timeout(CONNECT)
        .timeout(ANSWER);
    if let Some(pem) = ca {
        builder = builder.tls_certs_only(read_certificates(pem)?);
    }
    Ok(builder.build()?)
}

fn read_certificates(pem: &str) -> anyhow::Result<Vec<reqwest::Certificate>> {
    let all = X509::stack_from_pem(pem.as_bytes()).context("the file of the CA holds no certificates in PEM")?;
    anyhow::ensure!(!all.is_empty(), "the file of the CA holds no certificates in PEM");
    all.iter().map(|one| Ok(reqwest::Certificate::from_der(&one.to_der()?)?)).collect()
}

/// A text of a server as it may stand on a terminal.
pub(super) fn tame(text: &str) -> String {
    text.chars().take(LONGEST).map(|c| if is_unseen(c) && c != '\n' { ' ' } else { c }).collect()
}

/// Why a server could not be asked, with all that is known of it.
pub(super) fn unreachable(server: &str, error: reqwest::Error) -> anyhow::Error {
    let mut text = String::new();
    let error = error.without_url();
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(known) = cause {
        let said = known.to_string();
        if !text.contains(&said) {
            text = if text.is_empty() { said } else { format!("{text}: {said}") };
        }
        cause = known.source();
    }
    let advice = if text.contains("certificate") {
        "; it shows a certificate that is not trusted here: log in with --ca FILE when it is one of your own CA"
    } else {
        ""
    };
    anyhow::anyhow!("{server}: {}{advice}", tame(&text))
}

/// The answer as JSON, and its status.
///
/// # Errors
/// When it is none.
pub(super) async fn read(server: &str, answer: reqwest::Response) -> anyhow::Result<(StatusCode, Value)> {
    let status = answer.status();
    let body = answer.bytes().await.map_err(|error| unreachable(server, error))?;
    let value =
        serde_json::from_slice(&body).with_context(|| format!("{server}: the answer ({status}) is not one of this program's server"))?;
    Ok((status, value))
}

/// What the answer of the token endpoint says of an error.
pub(super) fn failure(body: &Value) -> String {
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
    tame(if text("error_description").is_empty() { text("error") } else { text("error_description") })
}

/// A server that somebody is logged in to.
pub(super) struct Remote {
    client: reqwest::Client,
    login: Login,
}

impl Remote {
    /// The server of that login.
    ///
    /// # Errors
    /// When its certificates are damaged.
    pub(super) fn new(login: Login) -> anyhow::Result<Self> {
        Ok(Self { client: client(login.ca.as_deref())?, login })
    }

    /// What is known of it.
    pub(super) fn login(&self) -> &Login {
        &self.login
    }

    /// Has an order carried out there.
    ///
    /// # Errors
    /// The server's refusals; when it is not there; when the login has ended.
    pub(super) async fn give(&mut self, order: &Order) -> anyhow::Result<Value> {
        let body = zeroize::Zeroizing::new(serde_json::to_vec(order)?);
        let post = |client: &reqwest::Client, url: String| client.post(url).header("Content-Type", "application/json").body(body.to_vec());
        let (status, answer) = self.ask(PATH, post).await?;
        if status.is_success() {
            return Ok(answer);
        }
        Err(refusal(&self.login.server, status, &answer))
    }

    /// Who the server says is signed in.
    ///
    /// # Errors
    /// As [`Self::give`].
    pub(super) async fn me(&mut self) -> anyhow::Result<Value> {
        let (status, answer) = self.ask("/v1.0/me", |client, url| client.get(url)).await?;
        anyhow::ensure!(status.is_success(), "{}: it does not say who is signed in ({status})", self.login.server);
        Ok(answer)
    }

    /// Asks, with a token that is good, and once more with another one when the server says that it is not.
    async fn ask(
        &mut self,
        path: &str,
        request: impl Fn(&reqwest::Client, String) -> reqwest::RequestBuilder,
    ) -> anyhow::Result<(StatusCode, Value)> {
        if self.login.access_until - EARLY <= now() {
            self.renew().await?;
        }
        for again in [false, true] {
            let url = format!("{}{path}", self.login.server);
            let sent = request(&self.client, url).bearer_auth(&self.login.access_token).send().await;
            let answer = sent.map_err(|error| unreachable(&self.login.server, error))?;
            if answer.status() == StatusCode::UNAUTHORIZED && !again {
                self.renew().await?;
                continue;
            }
            return read(&self.login.server, answer).await;
        }
        anyhow::bail!("{}: the login is not taken", self.login.server)
    }

    /// Gets other tokens. Of processes that do so at once one asks, and the others take what it got: a refresh token is good once.
    async fn renew(&mut self) -> anyhow::Result<()> {
        let server = self.login.server.clone();
        let ended = || format!("{server}: the login has ended; run muster login {server}");
        let held = logins::lock(&server)?;
        let kept = logins::find(&server)?.with_context(ended)?;
        if kept.access_token != self.login.access_token {
            self.login = kept;
            return Ok(());
        }
        let form = [("grant_type", "refresh_token"), ("client_id", COMMAND_LINE), ("refresh_token", kept.refresh_token.as_str())];
        let sent = self.client.post(format!("{server}/common/oauth2/v2.0/token")).form(&form).send().await;
        let (status, body) = read(&server, sent.map_err(|error| unreachable(&server, error))?).await?;
        if !status.is_success() {
            return Err(anyhow::anyhow!(failure(&body)).context(ended()));
        }
        self.login = with_tokens(kept, &body, now()).with_context(ended)?;
        logins::write(&self.login)?;
        drop(held);
        Ok(())
    }

    /// Ends the login at the server.
    ///
    /// # Errors
    /// When the server is not there, or says no.
    pub(super) async fn end(&self) -> anyhow::Result<()> {
        let server = &self.login.server;
        let form = [("client_id", COMMAND_LINE), ("token", self.login.refresh_token.as_str()), ("token_type_hint", "refresh_token")];
        let sent = self.client.post(format!("{server}/common/oauth2/v2.0/revoke")).form(&form).send().await;
        let (status, body) = read(server, sent.map_err(|error| unreachable(server, error))?).await?;
        anyhow::ensure!(status.is_success(), "{server}: {}", failure(&body));
        Ok(())
    }
}

/// The login with the tokens of an answer; `None` when it has none.
pub(super) fn with_tokens(login: Login, body: &Value, now: i64) -> Option<Login> {
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
    let until = |name: &str| now.saturating_add(body.get(name).and_then(Value::as_i64).unwrap_or_default());
    Some(Login {
        access_token: text("access_token")?,
        access_until: until("expires_in"),
        refresh_token: text("refresh_token")?,
        refresh_until: until("refresh_token_expires_in"),
        ..login
    })
}

/// What a problem says, as the control socket's answers are said.
fn refusal(server: &str, status: StatusCode, body: &Value) -> anyhow::Error {
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(tame).unwrap_or_default();
    let (code, detail) = (text("code"), text("detail"));
    if code.is_empty() {
        return anyhow::anyhow!("{server}: {status}: this is no server that takes orders");
    }
    anyhow::anyhow!("{code}: {detail}")
}
