//! Chromium, with an authenticator that it plays itself, signs in with a pass, registers a passkey and opens an application with it; each
//! page is held against axe's rules (`tests/clients/sign_in_day.mjs`).

use std::path::Path;
use std::process::Command;

use muster::domain::access::Scope;
use muster::domain::application::{Client, Grants, Redirect};
use muster::domain::tap::Policy;
use muster::service::application::{self, New};
use muster::service::directory::{self, By};
use muster::service::identity::{sign_in, tap};
use muster::wire::jwt::Compact;
use serde_json::{Value, json};

use crate::desired::user;
use crate::graph::access::give;
use crate::support::server::Server;
use crate::support::tools;

const ANA: &str = "ana@example.org";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chromium_registers_a_passkey_and_opens_an_application_with_it() {
    let what = "axe, and Node for it";
    let (Some(node), Some(_)) = (tools::client("bin/node", what), tools::client("node/node_modules/axe-core", what)) else { return };
    let Some(chromium) = tools::find("chromium", "chromium") else { return };
    let by = By::local("cli:test");
    // Passkeys need a name.
    let server = Server::tweaked(|config| config.web.listen = "0.0.0.0:0".parse().unwrap()).await;
    let app = &server.app;
    let ana = directory::create_user(app, user(ANA), &by).await.unwrap().id;
    give(&server, "administrator", &ana).await;
    let pass = tap::create(app, &ana, Policy::default(), None, "cli:test", "local").await.unwrap().show().to_owned();
    let redirects = vec![Redirect::new(Client::Native, "http://127.0.0.1/cb").unwrap()];
    let new = New { display_name: "Companion".into(), redirects, ..New::default() };
    let made = application::create(app, new, &by).await.unwrap();
    let grants = Grants { delegated: [Scope::DeviceReadAll].into(), ..Grants::default() };
    application::grant(app, &made.id, grants, &by).await.unwrap();
    let authorize = format!(
        "{}/{}/oauth2/v2.0/authorize?client_id={}&response_type=code&state=back&code_challenge={CHALLENGE}&code_challenge_method=S256",
        server.web, app.tenant, made.client_id
    );
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("timeout");
    command
        .args(["300".as_ref(), node.as_os_str(), tests.join("tests/clients/sign_in_day.mjs").as_os_str()])
        .env("BASE", &server.web)
        .env("LINK", sign_in::link(app, ANA, &pass))
        .env("AUTHORIZE", format!("{authorize}&scope=openid%20User.Read"))
        .env("CONSENT", format!("{authorize}&scope=openid%20Group.Read.All"))
        .env("CHROMIUM", chromium)
        .env("NODE_FOLDER", tests.join("target/graph-clients/node"));
    let out = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said}\n{}", String::from_utf8_lossy(&out.stderr));
    let got: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    // The application exchanges what the browser brought.
    let fields = [
        ("client_id", made.client_id.as_str()),
        ("grant_type", "authorization_code"),
        ("code", got["code"].as_str().unwrap()),
        ("redirect_uri", got["redirect_uri"].as_str().unwrap()),
        ("code_verifier", VERIFIER),
    ];
    let url = format!("{}/{}/oauth2/v2.0/token", server.web, app.tenant);
    let tokens: Value = server.client().post(url).form(&fields).send().await.unwrap().json().await.unwrap();
    let token = Compact::parse(tokens["id_token"].as_str().unwrap_or_else(|| panic!("{tokens}"))).unwrap();
    assert_eq!((token.text("sub"), &token.claims["amr"]), (Some(ana.as_str()), &json!(["fido", "mfa", "ngcmfa"])));
}
