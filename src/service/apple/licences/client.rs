//! Requests to Apps and Books.

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client as Http, Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::app::App;
use crate::clock::MINUTE;
use crate::secret::Secret;
use crate::service::outbound::{self, read_bounded, retry_after, unanswered};
use crate::service::{Error, Result};
use crate::wire::apple::books::Complaint;

/// Largest answer.
const LARGEST: usize = 8 * 1024 * 1024;
/// How long to wait where Apple asks to be left alone and does not say for how long.
const WAIT: i64 = MINUTE;

/// Why a request got no answer that can be used.
#[derive(Debug)]
pub(super) enum Failure {
    /// The token is not good (any more).
    Token(String),
    /// Ask again after so many milliseconds.
    Later(i64),
    /// Apple said no.
    Refused(String),
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
            Self::Token(words) | Self::Refused(words) => Error::Unavailable(format!("Apps and Books: {words}")),
            Self::Later(_) => Error::Unavailable("Apps and Books asks to be left alone for a while".into()),
        }
    }
}

/// A client with a content token.
pub(super) struct Client<'a> {
    app: &'a App,
    http: Http,
    authorization: HeaderValue,
}

impl<'a> Client<'a> {
    pub(super) fn new(app: &'a App, token: &Secret) -> Result<Self> {
        let http = outbound::fixed(&app.config, app.config.apple.content.service_root_file.as_deref())?;
        let mut value = b"Bearer ".to_vec();
        value.extend_from_slice(token.expose());
        let mut authorization = HeaderValue::from_bytes(&value).map_err(Error::internal)?;
        authorization.set_sensitive(true);
        Ok(Self { app, http, authorization })
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> std::result::Result<T, Failure> {
        self.answer(self.http.request(Method::GET, self.url(path, query)?)).await
    }

    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> std::result::Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(Error::internal)?;
        self.answer(self.http.request(Method::POST, self.url(path, &[])?).header(CONTENT_TYPE, "application/json").body(body)).await
    }

    async fn answer<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> std::result::Result<T, Failure> {
        let unavailable = |why: String| Failure::Ours(Error::Unavailable(format!("Apps and Books: {why}")));
        let request = request.header(AUTHORIZATION, self.authorization.clone());
        let mut answer = request.send().await.map_err(|error| unavailable(unanswered(&error)))?;
        let (status, wait) = (answer.status(), retry_after(answer.headers(), self.app.now()));
        let body = read_bounded(&mut answer, LARGEST).await;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|_| unavailable("an answer that is not understood".into()));
        }
        let complaint: Complaint = serde_json::from_slice(&body).unwrap_or_default();
        let words = format!("{} {}", status.as_u16(), complaint.words());
        Err(match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Failure::Later(wait.unwrap_or(WAIT)),
            StatusCode::UNAUTHORIZED => Failure::Token(words),
            _ if complaint.is_of_token() => Failure::Token(words),
            status if status.is_server_error() => unavailable(words),
            _ => Failure::Refused(words),
        })
    }

    fn url(&self, path: &str, query: &[(&str, &str)]) -> Result<reqwest::Url> {
        let base = self.app.config.apple.content.service_url.trim_end_matches('/');
        let mut url = reqwest::Url::parse(&format!("{base}{path}")).map_err(Error::internal)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }
}
