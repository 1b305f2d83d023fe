//! The Graph-shaped API over real TLS.

pub mod access;
mod admin;
mod batch;
mod belongings;
mod catalogue;
mod deleted;
mod delta;
mod enrolment;
mod etags;
mod kinds;
mod methods;
mod options;
mod pki;
mod policies;
mod queries;
mod sdk;
mod secrets;
mod sets;
mod subscriptions;
mod tokens;

use muster::clock::DAY;
use muster::domain::access::Scope;
use muster::domain::application::{Application, Grants};
use muster::domain::user::User;
use muster::service::application::{self, New};
use muster::service::directory::{self, By};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::desired;
use crate::support::server::Server;

pub(crate) fn by() -> By {
    By::local("cli:test")
}

/// An application with a secret, which may do these things.
pub(crate) async fn register(server: &Server, own: &[Scope]) -> (Application, String) {
    let made = application::create(&server.app, New { display_name: "Nightly job".into(), ..New::default() }, &by()).await.unwrap();
    let grants = Grants { own: own.iter().copied().collect(), ..Grants::default() };
    application::grant(&server.app, &made.id, grants, &by()).await.unwrap();
    let secret = application::add_secret(&server.app, &made.id, "first", 30 * DAY, &by()).await.unwrap();
    let text = secret.show().to_owned();
    (made, text)
}

/// A token for the application, which must get one.
pub async fn token(server: &Server, application: &Application, secret: &str) -> String {
    let scope = format!("{}/.default", server.web);
    let fields =
        [("grant_type", "client_credentials"), ("client_id", application.client_id.as_str()), ("client_secret", secret), ("scope", &scope)];
    let url = format!("{}/{}/oauth2/v2.0/token", server.web, server.app.tenant);
    let answer = server.client().post(url).form(&fields).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.json::<Value>().await.unwrap()["access_token"].as_str().unwrap().to_owned()
}

/// A server and a caller who may do these things in an application's own name.
pub(crate) struct Caller {
    pub(crate) server: Server,
    pub(crate) token: String,
    pub(crate) client: reqwest::Client,
}

impl Caller {
    pub(crate) async fn with(own: &[Scope]) -> Self {
        let server = Server::start().await;
        let (application, secret) = register(&server, own).await;
        let token = token(&server, &application, &secret).await;
        Self::of(server, token)
    }

    pub(crate) fn of(server: Server, token: String) -> Self {
        Self { client: server.client(), server, token }
    }

    pub(crate) async fn everything() -> Self {
        Self::on(Server::start().await).await
    }

    /// Who may do everything that an application may, on that server.
    pub(crate) async fn on(server: Server) -> Self {
        let all: Vec<Scope> = Scope::ALL.iter().copied().filter(|scope| !scope.is_of_a_person()).collect();
        let (application, secret) = register(&server, &all).await;
        let token = token(&server, &application, &secret).await;
        Self::of(server, token)
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Response {
        let request = self.client.request(method, format!("{}{path}", self.server.web)).bearer_auth(&self.token);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        request.send().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.send(Method::GET, path, None).await;
        let status = answer.status();
        let body = answer.text().await.unwrap();
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Status and code of a call that fails.
    async fn refused(&self, method: Method, path: &str, body: Option<Value>) -> (u16, String) {
        let answer = self.send(method, path, body).await;
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap();
        (status, body["error"]["code"].as_str().unwrap_or_else(|| panic!("{path}: {body}")).to_owned())
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        let answer = self.send(Method::POST, path, Some(body)).await;
        let status = answer.status();
        let body = answer.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {body}");
        serde_json::from_str(&body).unwrap_or(json!(null))
    }
}

/// An object without its version, which it must have.
fn untagged(mut shown: Value) -> Value {
    assert!(shown.as_object_mut().unwrap().remove("@odata.etag").is_some_and(|etag| etag.as_str().unwrap().starts_with("W/")));
    shown
}

/// A user of the directory, made without the API.
pub(crate) async fn user(server: &Server, upn: &str, name: &str) -> User {
    let user = User { display_name: name.into(), ..desired::user(upn) };
    directory::create_user(&server.app, user, &by()).await.unwrap()
}

pub(crate) fn names(page: &Value, property: &str) -> Vec<String> {
    page["value"].as_array().unwrap().iter().map(|one| one[property].as_str().unwrap_or_default().to_owned()).collect()
}
