//! Microsoft's own libraries run an administrator's day against the server (`tests/clients/graph_day.py`). `scripts/graph-clients` installs
//! them.

use std::path::Path;

use muster::domain::access::Scope;
use muster::domain::compliance::{State, Verdict};
use muster::domain::device::Platform;
use muster::service::application;
use muster::store::{compliance, devices, enrollments};
use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::x509::{X509, X509NameBuilder};

use super::{by, register};
use crate::desired::{device, enrollment};
use crate::support::server::{Options, Server};
use crate::support::tools;

/// How many devices there are to page through.
const DEVICES: usize = 5000;

async fn fill(server: &Server) {
    let now = server.app.now();
    let mut rows = Vec::new();
    for number in 0..DEVICES {
        let mut one = device(&format!("PC-{number:05}"), Platform::Windows, None);
        one.os_version = Some("10.0.22631.1".into());
        let mut enrolled = enrollment(&one, now);
        enrolled.last_seen_at = Some(now);
        rows.push((one, enrolled));
    }
    let verdict = Verdict {
        state: State::Noncompliant,
        compliant: false,
        grace_expires_at: None,
        reevaluate_at: None,
        held: None,
        policies: Vec::new(),
    };
    server
        .app
        .store
        .write(move |tx| {
            for (number, (device, enrollment)) in rows.iter().enumerate() {
                devices::insert_device(tx, device, now)?;
                enrollments::insert_enrollment(tx, enrollment)?;
                if number == 0 {
                    compliance::claim_verdict(tx, &device.id, &verdict, None, now)?;
                }
            }
            Ok(())
        })
        .await
        .unwrap();
}

/// A key and a certificate in one PEM file, as the libraries want it.
fn certificate() -> (Vec<u8>, Vec<u8>) {
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "job").unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&Asn1Time::from_unix(1_700_000_000).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(30).unwrap()).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    let pem = builder.build().to_pem().unwrap();
    ([key.private_key_to_pem_pkcs8().unwrap(), pem.clone()].concat(), pem)
}

#[actix_web::test]
async fn microsofts_python_libraries_run_a_day() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/graph-clients/bin/python");
    if !python.exists() {
        tools::missing("Microsoft's Python libraries (scripts/graph-clients installs them)");
        return;
    }
    let server = Server::with(Options { system_clock: true, ..Options::default() }).await;
    fill(&server).await;
    let all: Vec<Scope> = Scope::ALL.iter().copied().filter(|scope| !scope.is_of_a_person()).collect();
    let (application, secret) = register(&server, &all).await;
    let (both, public) = certificate();
    application::add_certificate(&server.app, &application.id, "key", &public, &by()).await.unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = server.folder().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let (root, key) = (file("root.pem", &server.root_pem), file("client.pem", &both));
    let mut command = std::process::Command::new(python);
    command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/graph_day.py"))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("BASE", &server.web)
        .env("TENANT", server.app.tenant.as_str())
        .env("CLIENT", &application.client_id)
        .env("SECRET", &secret)
        .env("CERTIFICATE", key)
        .env("REQUESTS_CA_BUNDLE", &root)
        .env("SSL_CERT_FILE", &root)
        .env("NO_PROXY", "*");
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let (said, why) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{why}");
    assert!(said.lines().filter(|line| line.starts_with("ok: ")).count() >= 19, "{said}");
}
