//! Requests to Apple Business Manager: a session by the signed token, kept while Apple keeps it, begun anew once when it is over.

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client as Http, Method};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::unavailable;
use crate::app::App;
use crate::clock::SECOND;
use crate::domain::apple::ade::Link;
use crate::secret::{Secret, random};
use crate::service::outbound::{self, read_bounded, retry_after, unanswered};
use crate::service::{Error, Result};
use crate::store::sealed::ADE_TOKEN;
use crate::wire::apple::ade::{Complaint, PROTOCOL_VERSION, SESSION_HEADER, Session, Token};

/// Largest answer: a thousand devices with everything that is told of them.
const LARGEST: usize = 16 * 1024 * 1024;
/// Longest session.
const LONGEST_SESSION: usize = 8192;
/// How long to wait where Apple throttles and does not say for how long.
const WAIT: i64 = 60 * SECOND;

/// Why a request got no answer that can be used.
#[derive(Debug)]
pub(super) enum Failure {
    /// Apple said no.
    Refused {
        /// What it means.
        complaint: Complaint,
        /// The beginning of what Apple said, for people.
        words: String,
        /// Milliseconds to wait.
        wait: i64,
    },
    /// Something of ours failed, or Apple cannot be reached.
    Ours(Error),
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Ours(error.into())
    }
}

impl Failure {
    /// The error where no answer is expected that has a meaning of its own.
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Ours(error) => error,
            Self::Refused { words, .. } => unavailable(format!("Apple Business Manager: {words}")),
        }
    }
}

/// A client with one server's token.
pub(super) struct Client<'a> {
    app: &'a App,
    http: Http,
    token: Token,
    session: Option<HeaderValue>,
}

impl<'a> Client<'a> {
    /// With the token of a connection.
    pub(super) fn of(app: &'a App, link: &Link) -> Result<Self> {
        let opened = app.sealer().open(ADE_TOKEN, &link.sealed_token)?;
        Self::new(app, serde_json::from_slice(opened.expose()).map_err(Error::internal)?)
    }

    pub(super) fn new(app: &'a App, token: Token) -> Result<Self> {
        let http = outbound::fixed(&app.config, app.config.apple.automated.service_root_file.as_deref())?;
        Ok(Self { app, http, token, session: None })
    }

    /// The token, to be sealed.
    pub(super) fn token(&self) -> Result<Secret> {
        Ok(Secret::new(serde_json::to_vec(&self.token).map_err(Error::internal)?))
    }

    /// Asks without a body.
    pub(super) async fn get<T: DeserializeOwned>(&mut self, path: &str) -> std::result::Result<T, Failure> {
        self.call(Method::GET, path, None::<&()>).await
    }

    /// Asks with a body.
    pub(super) async fn send<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> std::result::Result<T, Failure> {
        self.call(method, path, Some(body)).await
    }

    async fn call<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> std::result::Result<T, Failure> {
        let body = body.map(serde_json::to_vec).transpose().map_err(Error::internal)?;
        match self.once(&method, path, body.as_deref()).await {
            // A session ends when Apple likes.
            Err(Failure::Refused { complaint: Complaint::SessionOver, .. }) => {
                self.session = None;
                self.once(&method, path, body.as_deref()).await
            }
            other => other,
        }
    }

    async fn once<T: DeserializeOwned>(&mut self, method: &Method, path: &str, body: Option<&[u8]>) -> std::result::Result<T, Failure> {
        let session = match &self.session {
            Some(session) => session.clone(),
            None => self.begin().await?,
        };
        let mut request = self
            .http
            .request(method.clone(), self.url(path))
            .header(SESSION_HEADER, session)
            .header("x-server-protocol-version", PROTOCOL_VERSION)
            .header(CONTENT_TYPE, "application/json;charset=UTF8");
        if let Some(body) = body {
            request = request.body(body.to_vec());
        }
        self.answer(request).await
    }

    /// Begins a session.
    async fn begin(&mut self) -> std::result::Result<HeaderValue, Failure> {
        let url = self.url("/session");
        let nonce = hex::encode(random::<16>()?);
        let signed = self.token.authorization(&url, self.app.now().0.div_euclid(SECOND), &nonce)?;
        let answer: Session = self.answer(self.http.get(&url).header(AUTHORIZATION, signed)).await.map_err(|failure| match failure {
            // No session was shown: it is the token that Apple does not take.
            Failure::Refused { complaint: Complaint::SessionOver, words, wait } => {
                Failure::Refused { complaint: Complaint::AccessDenied, words, wait }
            }
            other => other,
        })?;
        let session = sensible(HeaderValue::from_str(&answer.auth_session_token).ok());
        let session = session.ok_or_else(|| unavailable("Apple Business Manager: no session in the answer"))?;
        self.session = Some(session.clone());
        Ok(session)
    }

    async fn answer<T: DeserializeOwned>(&mut self, request: reqwest::RequestBuilder) -> std::result::Result<T, Failure> {
        let unreachable = |error: reqwest::Error| unavailable(format!("Apple Business Manager: {}", unanswered(&error)));
        let mut answer = request.send().await.map_err(unreachable)?;
        if let Some(session) = sensible(answer.headers().get(SESSION_HEADER).cloned()) {
            self.session = Some(session);
        }
        let (status, wait) = (answer.status(), retry_after(answer.headers(), self.app.now()));
        let body = read_bounded(&mut answer, LARGEST).await;
        if status.is_success() {
            // Where nothing is asked, Apple may say nothing.
            let body = if body.is_empty() { b"null".to_vec() } else { body };
            return Ok(serde_json::from_slice(&body).map_err(|_| unavailable("Apple Business Manager: an answer that is not understood"))?);
        }
        let text = String::from_utf8_lossy(&body);
        let plain: String = text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(100).collect();
        let complaint = Complaint::read(status.as_u16(), &text);
        Err(Failure::Refused { complaint, words: format!("{} {plain}", status.as_u16()), wait: wait.unwrap_or(WAIT) })
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.app.config.apple.automated.service_url.trim_end_matches('/'))
    }
}

fn sensible(session: Option<HeaderValue>) -> Option<HeaderValue> {
    session.filter(|session| (1..=LONGEST_SESSION).contains(&session.len())).map(|mut session| {
        session.set_sensitive(true);
        session
    })
}
