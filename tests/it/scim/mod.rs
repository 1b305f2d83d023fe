//! Provisioning by identity providers (SCIM 2.0) over real TLS.

mod access;
mod groups;
mod judge;
mod many;
mod users;

use muster::clock::DAY;
use muster::domain::access::Scope;
use muster::domain::application::{Application, Grants};
use muster::service::application::{self, New};
use muster::service::directory::By;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::server::Server;

fn by() -> By {
    By::local("cli:test")
}

/// An application that may provision.
async fn register(server: &Server, own: &[Scope]) -> Application {
    let made = application::create(&server.app, New { display_name: "Entra ID".into(), ..New::default() }, &by()).await.unwrap();
    let grants = Grants { own: own.iter().copied().collect(), ..Grants::default() };
    application::grant(&server.app, &made.id, grants, &by()).await.unwrap();
    made
}

/// An identity provider with a token that was pasted.
struct Provider {
    server: Server,
    application: Application,
    token: String,
    client: reqwest::Client,
}

impl Provider {
    async fn new() -> Self {
        Self::of(Server::start().await, &[Scope::SynchronizationDataUserUpload]).await
    }

    async fn of(server: Server, own: &[Scope]) -> Self {
        let application = register(&server, own).await;
        let made = application::add_scim_token(&server.app, &application.id, "scim", 30 * DAY, &by()).await.unwrap();
        Self { token: made.show().to_owned(), application, client: server.client(), server }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}/scim/v2{path}", self.server.web)).bearer_auth(&self.token)
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Response {
        let request = self.request(method, path);
        let request = match body {
            Some(body) => request.header("content-type", "application/scim+json; charset=utf-8").body(body.to_string()),
            None => request,
        };
        request.send().await.unwrap()
    }

    /// What a call that has to do is answered with.
    async fn told(&self, method: Method, path: &str, body: Option<Value>, status: u16) -> Value {
        let answer = self.send(method, path, body).await;
        let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
        let got = answer.status();
        let text = answer.text().await.unwrap();
        assert_eq!(got, status, "{path}: {text}");
        if text.is_empty() {
            return Value::Null;
        }
        assert_eq!(kind, "application/scim+json", "{path}");
        serde_json::from_str(&text).unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        self.told(Method::GET, path, None, 200).await
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.told(Method::POST, path, Some(body), 201).await
    }

    async fn patch_user(&self, id: &str, operations: Value) -> Value {
        self.told(Method::PATCH, &format!("/Users/{id}"), Some(patch(&operations)), 200).await
    }

    async fn patch_group(&self, id: &str, operations: Value) {
        self.told(Method::PATCH, &format!("/Groups/{id}"), Some(patch(&operations)), 204).await;
    }

    /// Status and `scimType` of a call that fails, with the code of a refusal where the detail begins with one.
    async fn refused(&self, method: Method, path: &str, body: Option<Value>) -> (u16, String) {
        let answer = self.send(method, path, body).await;
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["schemas"], json!(["urn:ietf:params:scim:api:messages:2.0:Error"]), "{path}");
        assert_eq!(body["status"], json!(status.to_string()), "{path}");
        let detail = body["detail"].as_str().unwrap();
        let code = detail.split([':', ' ']).next().filter(|word| word.len() == 7 && word.ends_with(|c: char| c.is_ascii_digit()));
        let kind = body["scimType"].as_str().unwrap_or_default();
        (status, [Some(kind).filter(|kind| !kind.is_empty()), code].into_iter().flatten().collect::<Vec<_>>().join(" "))
    }

    /// A user with that name, as simple as can be.
    async fn user(&self, name: &str) -> String {
        let made = self.post("/Users", json!({ "schemas": [USER], "userName": name })).await;
        made["id"].as_str().unwrap().to_owned()
    }
}

const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
const GROUP: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";

fn patch(operations: &Value) -> Value {
    json!({ "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": operations })
}

/// A filter as it stands in an address.
fn filter(text: &str) -> String {
    format!("filter={}", percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC))
}

fn refusal(status: u16, kind: &str) -> (u16, String) {
    (status, kind.to_owned())
}
