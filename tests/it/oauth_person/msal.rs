//! Microsoft's MSAL signs a person in (`tests/clients/person_day.py`).

use std::path::Path;
use std::process::Command;

use super::*;
use crate::support::server::Options;
use crate::support::tools;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn msal_signs_a_person_in() {
    let Some(python) = tools::client("bin/python", "Microsoft's Python libraries") else { return };
    // MSAL looks at the machine's clock.
    let server = Server::with(Options { system_clock: true, ..Options::default() }).await;
    let ana = directory::create_user(&server.app, user(ANA), &by()).await.unwrap().id;
    let redirects = vec![Redirect::new(Client::Native, "http://localhost").unwrap()];
    let new = New { display_name: "Companion".into(), public: true, redirects, ..New::default() };
    let made = application::create(&server.app, new, &by()).await.unwrap();
    let pass = tap::create(&server.app, &ana, Policy::default(), None, "cli:test", "local").await.unwrap().show().to_owned();
    let root = server.folder().join("root.pem");
    std::fs::write(&root, &server.root_pem).unwrap();
    let mut command = Command::new("timeout");
    command
        .env_clear()
        .args(["120".as_ref(), python.as_os_str()])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/person_day.py"))
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("BASE", &server.web)
        .env("TENANT", server.app.tenant.as_str())
        .env("CLIENT", &made.client_id)
        .env("USER", ANA)
        .env("PASS", &pass)
        .env("ROOT", &root)
        .env("REQUESTS_CA_BUNDLE", &root)
        .env("NO_PROXY", "*");
    let out = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let (said, why) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{said}\n{why}");
    assert!(said.lines().filter(|line| line.starts_with("ok: ")).count() >= 17, "{said}");
}
