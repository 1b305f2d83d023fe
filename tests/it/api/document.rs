//! The document at `/api/openapi.json` before judges that others wrote: openapi-spec-validator says whether it is one, and Schemathesis
//! whether the server keeps to it. `scripts/schemathesis` installs both.

use std::path::{Path, PathBuf};
use std::process::Command;

use muster::domain::device::Platform;
use muster::store::{devices, enrollments};
use serde_json::{Value, json};

use crate::desired::{device, enrollment};
use crate::graph::{Caller, user};
use crate::support::server::Server;
use crate::support::tools::missing;

/// How many calls of a kind are made up for each operation: the more, the longer.
const EXAMPLES: &str = "5";

fn judge(name: &str) -> Option<PathBuf> {
    let found = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("target/schemathesis/bin").join(name)).filter(|path| path.exists());
    if found.is_none() {
        missing(&format!("{name} (scripts/schemathesis installs it)"));
    }
    found
}

async fn run(mut command: Command) -> String {
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("NO_PROXY", "*").env("PYTHONDONTWRITEBYTECODE", "1");
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    said
}

#[actix_web::test]
async fn the_document_is_read_without_a_token_and_is_one() {
    let server = Server::start().await;
    let client = server.client();
    let url = format!("{}/api/openapi.json", server.web);
    let answer = client.get(&url).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["content-type"]), (200, &"application/json".parse().unwrap()));
    let etag = answer.headers()["etag"].clone();
    let text = answer.text().await.unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    assert!(!text.contains("127.0.0.1"), "it says nothing of the instance");
    assert_eq!(document["paths"]["/status"]["get"]["x-muster-permissions"][0], "Muster.Operations.Read.All");
    let again = client.get(&url).header("if-none-match", etag).send().await.unwrap();
    assert_eq!(again.status(), 304);
    let Some(validator) = judge("openapi-spec-validator") else { return };
    let file = server.folder().join("openapi.json");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(validator);
    command.arg(file);
    run(command).await;
}

/// Schemathesis before the server; `config` goes before the order, `more` says which calls.
async fn keep_to_the_document(program: &Path, caller: &Caller, config: &[&str], more: &[&str]) {
    let root = caller.server.folder().join("root.pem");
    std::fs::write(&root, &caller.server.root_pem).unwrap();
    let mut command = Command::new(program);
    command.current_dir(caller.server.folder()).args(config);
    command.args(["run", &format!("{}/api/openapi.json", caller.server.web)]);
    command.args(more).args(["--header", &format!("Authorization: Bearer {}", caller.token)]);
    command.arg("--tls-verify").arg(&root).env("REQUESTS_CA_BUNDLE", &root).env("SSL_CERT_FILE", &root);
    command.args(["--phases", "coverage,fuzzing", "--seed", "4", "--no-shrink", "--warnings", "off"]);
    command.args(["--continue-on-failure", "--suppress-health-check", "all", "--generation-database", "none"]);
    // Takes the token of all calls after it away; it has a test of its own.
    command.args(["--exclude-path", "/signals/keys/replace"]);
    // A rule of the product may say no to what the schema allows: 422.
    command.args(["--exclude-checks", "positive_data_acceptance"]);
    let said = run(command).await;
    assert!(said.contains("No issues found"), "{said}");
}

#[actix_web::test]
async fn schemathesis_finds_that_the_server_keeps_to_the_document() {
    let Some(program) = judge("schemathesis") else { return };
    let caller = Caller::on(Server::tweaked(|config| config.limits.api_per_second = 0).await).await;
    keep_to_the_document(&program, &caller, &[], &["--max-examples", EXAMPLES]).await;
}

/// The same with things that exist, so that answers are held against the document, and not refusals only.
#[actix_web::test]
async fn schemathesis_finds_that_what_is_shown_is_as_the_document_says() {
    let Some(program) = judge("schemathesis") else { return };
    let caller = Caller::on(Server::tweaked(|config| config.limits.api_per_second = 0).await).await;
    let app = &caller.server.app;
    let ana = user(&caller.server, "ana@x.example", "Ana").await;
    let (now, pc) = (app.now(), device("PC-A", Platform::Windows, Some(&ana.id)));
    let (row, enrolled) = (pc.clone(), enrollment(&pc, now));
    app.store
        .write(move |tx| {
            devices::insert_device(tx, &row, now)?;
            enrollments::insert_enrollment(tx, &enrolled)
        })
        .await
        .unwrap();
    muster::service::jobs::run_due(app).await.unwrap();
    let receiver = json!({ "name": "ours", "url": "https://127.0.0.1:1/events" });
    caller.post("/api/signals/receivers", receiver).await;
    let sent = caller.post("/api/signals/receivers/ours/verifications", json!({})).await;
    let all = caller.get("/api/certificates?limit=1").await;
    let known = [
        ("/devices/{id}/readiness", format!("id = \"{}\"", pc.id)),
        ("/devices/{id}/explanation", format!("id = \"{}\"", pc.id)),
        ("/signals/subjects/{device}", format!("device = \"{}\"", pc.id)),
        ("/signals/receivers/{receiver}", "receiver = \"ours\"".to_owned()),
        ("/signals/receivers/{receiver}/verifications/{jti}", format!("receiver = \"ours\", jti = {}", sent["jti"])),
        ("/authorities/{name}", "name = \"issuing\"".to_owned()),
        ("/authorities/{name}/crl", "name = \"issuing\"".to_owned()),
        ("/certificates/{id}", format!("id = {}", all["value"][0]["id"])),
    ];
    let one = |(path, keys): &(&str, String)| format!("[[operations]]\ninclude-name = \"GET {path}\"\nparameters = {{ {keys} }}\n");
    let config = caller.server.folder().join("schemathesis.toml");
    std::fs::write(&config, known.iter().map(one).collect::<String>()).unwrap();
    let config = ["--config-file", config.to_str().unwrap()];
    keep_to_the_document(&program, &caller, &config, &["--mode", "positive", "--include-method", "GET", "--max-examples", "5"]).await;
}
