//! The document at `/api/openapi.json` before judges that others wrote: openapi-spec-validator says whether it is one, and Schemathesis
//! whether the server keeps to it. `scripts/schemathesis` installs both.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::graph::Caller;
use crate::support::server::Server;
use crate::support::tools::missing;

/// How many calls of a kind are made up for each operation: the more, the longer.
const EXAMPLES: &str = "15";

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

#[actix_web::test]
async fn schemathesis_finds_that_the_server_keeps_to_the_document() {
    let Some(program) = judge("schemathesis") else { return };
    let caller = Caller::on(Server::tweaked(|config| config.limits.api_per_second = 0).await).await;
    let root = caller.server.folder().join("root.pem");
    std::fs::write(&root, &caller.server.root_pem).unwrap();
    let mut command = Command::new(program);
    command.current_dir(caller.server.folder());
    command.args(["run", &format!("{}/api/openapi.json", caller.server.web)]);
    command.args(["--header", &format!("Authorization: Bearer {}", caller.token)]);
    command.arg("--tls-verify").arg(&root).env("REQUESTS_CA_BUNDLE", &root).env("SSL_CERT_FILE", &root);
    command.args(["--phases", "coverage,fuzzing", "--max-examples", EXAMPLES, "--seed", "4", "--no-shrink", "--warnings", "off"]);
    command.args(["--continue-on-failure", "--suppress-health-check", "all", "--generation-database", "none"]);
    // A rule of the product may say no to what the schema allows: 422.
    command.args(["--exclude-checks", "positive_data_acceptance"]);
    let said = run(command).await;
    assert!(said.contains("No issues found") || said.contains("passed"), "{said}");
}
