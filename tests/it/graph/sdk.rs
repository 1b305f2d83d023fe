//! Microsoft's own libraries run an administrator's day against the server (`tests/clients`). `scripts/graph-clients` installs them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster::domain::access::Scope;
use muster::domain::application::Application;
use muster::domain::certificate::{Grant, KeyAlgorithm, Purpose};
use muster::domain::compliance::{State, Verdict};
use muster::domain::device::Platform;
use muster::domain::passkey::Passkey;
use muster::domain::sign_in::SignIn;
use muster::ids::PasskeyId;
use muster::service::outbox::Worker;
use muster::service::pki::keys::SigningKey;
use muster::service::subscription::tell;
use muster::service::{application, pfx_password, pki};
use muster::store::{compliance, devices, enrollments, passkeys, sign_ins};
use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::x509::{X509, X509NameBuilder};

use super::{by, register, user};
use crate::desired::{device, enrollment};
use crate::support::ca::Ca;
use crate::support::server::{Options, Server};
use crate::support::tools;

/// Somebody who has a passkey and has signed in.
async fn sign_in(server: &Server) {
    let keys = user(server, "keys@day.example", "Keys").await;
    let now = server.app.now();
    let row = SignIn {
        user_agent: "Mozilla/5.0 (X11; Linux x86_64) Firefox/121.0".into(),
        ..SignIn::new("passkey", "Account pages", "192.0.2.1", now)
    };
    let row = row.of(Some(&keys));
    let passkey = Passkey {
        id: PasskeyId::new(),
        user_id: keys.id,
        credential_id: "AQID".into(),
        credential: "{}".into(),
        display_name: "Laptop".into(),
        aa_guid: "7fd635b3-2ef9-4542-8d9d-164f2c771efc".into(),
        model: "macOS Platform Credential".into(),
        attested: true,
        attestation_certificates: vec!["AQID".into()],
        created_at: now,
        last_used_at: Some(now),
    };
    server
        .app
        .store
        .write(move |tx| {
            passkeys::insert_passkey(tx, &passkey)?;
            sign_ins::insert_sign_in(tx, &row)
        })
        .await
        .unwrap();
}

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

/// A server full of devices, and an application that may do everything in its own name.
struct Day {
    server: Server,
    application: Application,
    secret: String,
}

impl Day {
    async fn begin() -> Self {
        let day = Self::empty().await;
        fill(&day.server).await;
        day
    }

    /// Without devices.
    async fn empty() -> Self {
        let server = Server::with(Options { system_clock: true, ..Options::default() }).await;
        let all: Vec<Scope> = Scope::ALL.iter().copied().filter(|scope| !scope.is_of_a_person()).collect();
        let (application, secret) = register(&server, &all).await;
        Self { server, application, secret }
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.server.folder().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Tells those who subscribed, as a server's jobs do.
    async fn tell(&self) {
        let worker = Arc::new(Worker::new(Arc::clone(&self.server.app)).unwrap());
        let mut turns = tokio::time::interval(Duration::from_millis(200));
        loop {
            turns.tick().await;
            tell::run(&self.server.app).await.unwrap();
            worker.drain().await.unwrap();
        }
    }

    /// Runs the day; it says `ok: ` so many times or more.
    async fn run(&self, mut command: Command, times: usize) {
        command
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("BASE", &self.server.web)
            .env("TENANT", self.server.app.tenant.as_str())
            .env("CLIENT", &self.application.client_id)
            .env("SECRET", &self.secret)
            .env("NO_PROXY", "*");
        let ran = tokio::task::spawn_blocking(move || command.output());
        let output = tokio::select! {
            output = ran => output.unwrap().unwrap(),
            () = self.tell() => unreachable!("it never ends"),
        };
        let (said, why) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{said}\n{why}");
        assert!(said.lines().filter(|line| line.starts_with("ok: ")).count() >= times, "{said}");
    }
}

#[actix_web::test]
async fn microsofts_python_libraries_run_a_day() {
    let Some(python) = tools::client("bin/python", "Microsoft's Python libraries") else { return };
    let day = Day::begin().await;
    sign_in(&day.server).await;
    let (both, public) = certificate();
    application::add_certificate(&day.server.app, &day.application.id, "key", &public, &by()).await.unwrap();
    let (root, key) = (day.file("root.pem", &day.server.root_pem), day.file("client.pem", &both));
    let mut command = Command::new(python);
    command.env_clear().arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/graph_day.py"));
    command.env("CERTIFICATE", key).env("REQUESTS_CA_BUNDLE", &root).env("SSL_CERT_FILE", &root);
    command.env("MUSTER", env!("CARGO_BIN_EXE_muster"));
    day.run(command, 25).await;
}

/// A certificate of the issuing authority.
async fn certify(server: &Server, grant: Grant) {
    let spki = SigningKey::generate(KeyAlgorithm::P256).unwrap().spki().unwrap();
    let issuing = pki::authority::issuing(&server.app).await.unwrap();
    pki::issue::issue(&server.app, &issuing.id, &grant, &spki, "cli:test", "local").await.unwrap();
}

#[actix_web::test]
async fn microsofts_python_libraries_look_after_certificates() {
    let Some(python) = tools::client("bin/python", "Microsoft's Python libraries") else { return };
    let day = Day::empty().await;
    let (owner, now) = (user(&day.server, "leaf@day.example", "Leaf").await, day.server.app.now());
    let pc = device("PC-LEAF", Platform::Windows, Some(&owner.id));
    let grant = Grant { device_id: Some(pc.id.clone()), user_id: Some(owner.id), ..Grant::client(Purpose::Authentication, "leaf", 30) };
    day.server.app.store.write(move |tx| devices::insert_device(tx, &pc, now)).await.unwrap();
    certify(&day.server, grant).await;
    let root = day.file("root.pem", &day.server.root_pem);
    let mut command = Command::new(python);
    command.env_clear().arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/pki_day.py"));
    command.env("REQUESTS_CA_BUNDLE", &root).env("SSL_CERT_FILE", &root);
    day.run(command, 28).await;
}

#[actix_web::test]
async fn each_kind_of_configuration_comes_back_as_microsofts_library_sent_it() {
    let Some(python) = tools::client("bin/python", "Microsoft's Python libraries") else { return };
    let server = Server::with(Options { system_clock: true, ..Options::default() }).await;
    let all: Vec<Scope> = Scope::ALL.iter().copied().filter(|scope| !scope.is_of_a_person()).collect();
    let (application, secret) = register(&server, &all).await;
    user(&server, "ana@day.example", "Ana").await;
    let leaf = Ca::new("Mail CA").leaf("ana", &[]);
    let mut builder = openssl::pkcs12::Pkcs12::builder();
    builder.pkey(&leaf.key).cert(&leaf.certificate);
    let file = builder.build2("pässword").unwrap().to_der().unwrap();
    let key = pfx_password::public(&server.app).await.unwrap();
    let day = Day { server, application, secret };
    let root = day.file("root.pem", &day.server.root_pem);
    let mut command = Command::new(python);
    command.env_clear().arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/config_day.py"));
    command.env("REQUESTS_CA_BUNDLE", &root).env("SSL_CERT_FILE", &root).env("PYTHONUTF8", "1");
    command.env("PFX", STANDARD.encode(file)).env("PFX_PASSWORD", "pässword");
    command.env("THUMBPRINT", hex::encode_upper(leaf.certificate.digest(MessageDigest::sha1()).unwrap()));
    command.env("KEY_NAME", &key.key_name).env("PUBLIC_KEY", &key.pem);
    day.run(command, 19).await;
}

#[actix_web::test]
async fn microsofts_javascript_libraries_run_a_day() {
    let what = "Microsoft's JavaScript libraries, and Node for them";
    let (Some(node), Some(modules)) = (tools::client("bin/node", what), tools::client("node/node_modules", what)) else { return };
    let day = Day::begin().await;
    let root = day.file("root.pem", &day.server.root_pem);
    certify(&day.server, Grant::client(Purpose::Manual, "printer", 30)).await;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/graph_day.mjs");
    // Modules are looked for beside the program.
    let program = day.file("graph_day.mjs", &std::fs::read(source).unwrap());
    std::os::unix::fs::symlink(modules, day.server.folder().join("node_modules")).unwrap();
    let mut command = Command::new(node);
    command.env_clear().arg(program).env("NODE_EXTRA_CA_CERTS", root);
    day.run(command, 19).await;
}
