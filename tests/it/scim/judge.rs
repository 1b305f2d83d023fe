//! A judge that is not ours: `scim2-tester` (`tests/clients/scim_judge.py`). `scripts/scim-clients` installs it.

use std::path::Path;
use std::process::Command;

use super::Provider;
use crate::support::server::{Options, Server};
use crate::support::tools;
use muster::domain::access::Scope;

#[actix_web::test]
async fn scim2_tester_finds_no_fault() {
    let Some(python) = tools::scim_client("bin/python") else { return };
    let server = Server::with(Options { system_clock: true, ..Options::default() }).await;
    let idp = Provider::of(server, &[Scope::SynchronizationDataUserUpload]).await;
    let root = idp.server.folder().join("root.pem");
    std::fs::write(&root, &idp.server.root_pem).unwrap();
    let mut command = Command::new(python);
    command.env_clear().arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/scim_judge.py"));
    command.env("BASE", format!("{}/scim/v2/", idp.server.web)).env("TOKEN", &idp.token).env("ROOT", root);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let (said, why) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{why}");
    let good = said.lines().find_map(|line| line.strip_prefix("good: ")).and_then(|count| count.parse::<u32>().ok());
    assert!(good.is_some_and(|good| good >= 80), "{said}");
}
