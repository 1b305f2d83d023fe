//! The three faces over real TLS.

use std::process::{Command, Stdio};
use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::web::{Data, ServiceConfig, get, post, resource};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster::http::limits::{Anonymous, Body};
use muster::http::peer::Peer;
use muster::http::routes;
use muster::http::server::Routes;
use reqwest::{Client, StatusCode};
use serde_json::Value;
use tokio::sync::Notify;

use crate::support::ca::{Ca, Leaf};
use crate::support::server::{Options, Server};
use crate::support::tools;

/// Routes that show what handlers see and how they fail, beside the product's own.
fn probes(table: &mut ServiceConfig) {
    async fn show_peer(peer: Peer) -> HttpResponse {
        HttpResponse::Ok().json(serde_json::json!({
            "face": peer.face.as_str(),
            "sha256": peer.certificate.as_ref().map(|c| c.sha256.clone()),
            "address": peer.address.to_string(),
            "via_proxy": peer.via_proxy,
        }))
    }
    async fn panic_now() -> HttpResponse {
        panic!("on purpose")
    }
    async fn take(body: Body<1000>) -> String {
        body.len().to_string()
    }
    async fn stroll(_: Anonymous) -> &'static str {
        "in"
    }
    async fn wait(gate: Data<Gate>) -> &'static str {
        gate.entered.notify_one();
        gate.open.notified().await;
        "worth waiting for"
    }
    table
        .service(resource("/test/peer").route(get().to(show_peer)))
        .service(resource("/test/panic").route(get().to(panic_now)))
        .service(resource("/test/body").route(post().to(take)))
        .service(resource("/test/anonymous").route(get().to(stroll)))
        .app_data(Data::from(Gate::only()))
        .service(resource("/test/wait").route(get().to(wait)));
}

#[derive(Default)]
struct Gate {
    entered: Notify,
    open: Notify,
}

impl Gate {
    fn only() -> Arc<Self> {
        static GATE: std::sync::OnceLock<Arc<Gate>> = std::sync::OnceLock::new();
        Arc::clone(GATE.get_or_init(Arc::default))
    }
}

fn with_probes() -> Routes {
    fn web(table: &mut ServiceConfig) {
        routes::web(table);
        probes(table);
    }
    fn device(table: &mut ServiceConfig) {
        routes::device(table);
        probes(table);
    }
    fn pki(table: &mut ServiceConfig) {
        routes::pki(table);
        probes(table);
    }
    Routes { web, device, pki, orders: None }
}

async fn server(tweak: impl FnOnce(&mut muster::config::Config) + Send + 'static) -> Server {
    Server::with(Options { tweak: Box::new(tweak), authorities: false, routes: with_probes(), ..Options::default() }).await
}

async fn peer(client: &Client, base: &str) -> Value {
    let response = client.get(format!("{base}/test/peer")).send().await.unwrap();
    assert!(response.headers().contains_key("content-length"));
    response.json().await.unwrap()
}

fn client_leaf() -> Leaf {
    Ca::new("Some CA").leaf("device", &[])
}

fn sha256(leaf: &Leaf) -> String {
    hex::encode(openssl::sha::sha256(&leaf.certificate.to_der().unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_device_face_hands_the_certificate_to_the_handler_in_every_protocol_version() {
    let server = server(|_| ()).await;
    let leaf = client_leaf();
    for version in [reqwest::tls::Version::TLS_1_2, reqwest::tls::Version::TLS_1_3] {
        for only_http1 in [true, false] {
            let mut builder = server.builder().identity(leaf.identity()).tls_version_min(version).tls_version_max(version);
            if only_http1 {
                builder = builder.http1_only();
            }
            let client = builder.build().unwrap();
            let response = client.get(format!("{}/test/peer", server.device)).send().await.unwrap();
            let version = if only_http1 { reqwest::Version::HTTP_11 } else { reqwest::Version::HTTP_2 };
            assert_eq!(response.version(), version);
            let seen: Value = response.json().await.unwrap();
            assert_eq!((seen["face"].as_str(), seen["sha256"].as_str()), (Some("device"), Some(&*sha256(&leaf))));
            let seen = peer(&client, &server.web).await;
            assert_eq!((seen["face"].as_str(), seen["sha256"].as_str()), (Some("web"), None));
        }
    }
    let seen = peer(&server.client(), &server.device).await;
    assert_eq!((seen["face"].as_str(), seen["sha256"].as_str()), (Some("device"), None));
}

/// What the server sends in its handshake, as `openssl s_client -msg` shows it; `None` without the program.
fn handshake(address: std::net::SocketAddr, version: &str, name: Option<&str>) -> Option<String> {
    let mut command = Command::new(tools::find("openssl", "openssl")?);
    command.args(["s_client", "-msg", version, "-connect", &address.to_string()]);
    match name {
        Some(name) => command.args(["-servername", name]),
        None => command.arg("-noservername"),
    };
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().unwrap();
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Row 22 of the reference on SCEP: its face never asks for a certificate.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_device_face_asks_for_a_certificate() {
    let server = server(|_| ()).await;
    let running = server.running.as_ref().unwrap();
    let (web, device) = (running.web, running.device);
    tokio::task::spawn_blocking(move || {
        for version in ["-tls1_2", "-tls1_3"] {
            let Some(seen) = handshake(web, version, Some("localhost")) else { return };
            assert!(seen.contains("ServerHello") && !seen.contains("CertificateRequest"), "{seen}");
            let Some(seen) = handshake(device, version, Some("localhost")) else { return };
            assert!(seen.contains("CertificateRequest"), "{seen}");
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_port_serves_both_faces_by_name() {
    let server = server(|config| {
        config.single_port = true;
        config.web.url = Some("https://console.test".into());
        config.device.url = Some("https://mdm.test".into());
    })
    .await;
    let address = server.running.as_ref().unwrap().web;
    let leaf = client_leaf();
    let client = server.builder().identity(leaf.identity()).resolve("console.test", address).resolve("mdm.test", address).build().unwrap();
    let base = |name: &str| format!("https://{name}:{}", address.port());
    let seen = peer(&client, &base("mdm.test")).await;
    assert_eq!((seen["face"].as_str(), seen["sha256"].as_str()), (Some("device"), Some(&*sha256(&leaf))));
    let seen = peer(&client, &base("console.test")).await;
    assert_eq!((seen["face"].as_str(), seen["sha256"].as_str()), (Some("web"), None));
    // Asking the device face's connection for the web host by header does not change the face.
    let response = client.get(format!("{}/readyz", base("mdm.test"))).header("host", "console.test").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    tokio::task::spawn_blocking(move || {
        for (name, asks) in [(Some("console.test"), false), (Some("MDM.test"), true), (None, true)] {
            let Some(seen) = handshake(address, "-tls1_3", name) else { return };
            assert_eq!(seen.contains("CertificateRequest"), asks, "{name:?}");
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_header_counts_only_from_a_configured_proxy() {
    let leaf = client_leaf();
    let header = format!(":{}:", STANDARD.encode(leaf.certificate.to_der().unwrap()));
    let ask = async |server: &Server, base: &str, cert: &str| {
        let request = server.client().get(format!("{base}/test/peer"));
        request.header("client-cert", cert).header("x-forwarded-for", "192.0.2.7").send().await.unwrap()
    };
    let trusting = server(|config| config.proxies = vec!["127.0.0.1".parse().unwrap()]).await;
    let seen: Value = ask(&trusting, &trusting.device, &header).await.json().await.unwrap();
    assert_eq!((seen["sha256"].as_str(), seen["address"].as_str()), (Some(&*sha256(&leaf)), Some("192.0.2.7")));
    let seen: Value = ask(&trusting, &trusting.web, &header).await.json().await.unwrap();
    assert_eq!(seen["sha256"].as_str(), None, "the web face knows no certificates");
    let wrong = ask(&trusting, &trusting.device, ":AAAA:").await;
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
    assert_eq!(wrong.json::<Value>().await.unwrap()["code"], "client-cert");
    // The proxy's own certificate is not the device's.
    let seen = peer(&trusting.client_as(leaf.identity()), &trusting.device).await;
    assert_eq!((seen["sha256"].as_str(), seen["via_proxy"].as_bool()), (None, Some(true)));

    let strict = server(|_| ()).await;
    let seen: Value = ask(&strict, &strict.device, &header).await.json().await.unwrap();
    assert_eq!((seen["sha256"].as_str(), seen["address"].as_str()), (None, Some("127.0.0.1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_costs_its_own_request_only() {
    let server = server(|_| ()).await;
    let client = server.client();
    for base in [&server.web, &server.device, &server.pki] {
        let response = client.get(format!("{base}/test/panic")).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["code"], "internal");
        assert_eq!(problem["trace_id"].as_str().unwrap().len(), 32);
        assert_eq!(peer(&client, base).await["address"], "127.0.0.1");
    }
    let numbers = client.get(format!("{}/metrics", server.pki)).send().await.unwrap().text().await.unwrap();
    let counted = numbers.lines().find_map(|l| l.strip_prefix("muster_panics_total ")).unwrap();
    assert!(counted.parse::<u64>().unwrap() >= 3);
    assert!(numbers.contains("muster_http_request_seconds_bucket{face=\"web\",route=\"/test/peer\""), "{numbers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_its_bound_is_refused() {
    let server = server(|_| ()).await;
    for http1 in [true, false] {
        let builder = server.builder();
        let client = if http1 { builder.http1_only() } else { builder }.build().unwrap();
        let url = format!("{}/test/body", server.web);
        let send = async |size: usize| client.post(&url).body(vec![b'x'; size]).send().await.unwrap();
        assert_eq!(send(1000).await.text().await.unwrap(), "1000");
        let refused = send(1001).await;
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(refused.json::<Value>().await.unwrap()["code"], "too-large");
        let packed = client.post(&url).header("content-encoding", "gzip").body("x").send().await.unwrap();
        assert_eq!(packed.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_waits_for_answers_in_flight() {
    let server = server(|_| ()).await;
    let (client, web) = (server.client(), server.web.clone());
    let gate = Gate::only();
    let asked = tokio::spawn({
        let (client, web) = (client.clone(), web.clone());
        async move { client.get(format!("{web}/test/wait")).send().await.unwrap().text().await.unwrap() }
    });
    gate.entered.notified().await;
    let stopped = tokio::spawn(server.stop());
    // The stop has begun when new requests are turned away while the old one is still being answered.
    while client.get(format!("{web}/healthz")).send().await.unwrap().status() == StatusCode::OK {}
    gate.open.notify_one();
    assert_eq!(asked.await.unwrap(), "worth waiting for");
    stopped.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_ask_too_often_wait() {
    let server = server(|config| {
        config.limits.anonymous_per_second = 1;
        config.limits.anonymous_burst = 2;
    })
    .await;
    let client = server.client();
    let ask = async || client.get(format!("{}/test/anonymous", server.web)).send().await.unwrap();
    assert_eq!((ask().await.status(), ask().await.status()), (StatusCode::OK, StatusCode::OK));
    let refused = ask().await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "throttled");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_told_and_the_numbers_stay_on_the_machine() {
    let server = server(|config| config.proxies = vec!["127.0.0.1".parse().unwrap()]).await;
    let client = server.client();
    let status = async |base: &str, path: &str| client.get(format!("{base}{path}")).send().await.unwrap().status();
    for base in [&server.web, &server.pki] {
        assert_eq!(status(base, "/healthz").await, StatusCode::OK);
        assert_eq!(status(base, "/readyz").await, StatusCode::OK);
        assert_eq!(status(base, "/metrics").await, StatusCode::FORBIDDEN, "asked by way of a proxy");
    }
    assert_eq!(status(&server.device, "/metrics").await, StatusCode::NOT_FOUND);
    let response = client.get(format!("{}/nothing", server.web)).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    for header in ["content-security-policy", "x-content-type-options", "x-frame-options", "referrer-policy", "content-length"] {
        assert!(response.headers().contains_key(header), "{header}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_server_certificate_is_shown_from_the_next_handshake_on() {
    let server = server(|_| ()).await;
    let ca = Ca::new("Next root");
    let Leaf { certificate, key } = ca.leaf("Next server", &server.app.config.server_names());
    server.running.as_ref().unwrap().certificate.replace(muster::http::tls::Identity { certificate, chain: Vec::new(), key });
    let url = format!("{}/healthz", server.web);
    assert!(server.client().get(&url).send().await.is_err(), "the old root does not vouch for it");
    let root = reqwest::Certificate::from_der(&ca.root.to_der().unwrap()).unwrap();
    let client = Client::builder().tls_certs_only([root]).no_proxy().build().unwrap();
    assert_eq!(client.get(&url).send().await.unwrap().version(), reqwest::Version::HTTP_2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_database_takes_no_writes_is_not_ready_until_it_takes_them_again() {
    use muster::store::{Conn, meta};
    let server = server(|_| ()).await;
    let client = server.client();
    let ready = async || client.get(format!("{}/readyz", server.web)).send().await.unwrap().status();
    let pages = async |count: &'static str| {
        let set = move |tx: &mut muster::store::Tx<'_>| {
            use diesel::connection::SimpleConnection as _;
            if let Conn::Sqlite(c) = tx.conn() {
                c.batch_execute(&format!("PRAGMA max_page_count = {count}"))?;
            }
            Ok(())
        };
        server.app.store.write(set).await.unwrap();
    };
    let write = async |size| server.app.store.write(move |tx| meta::upsert_value(tx, "filler", &"x".repeat(size))).await;
    assert_eq!(ready().await, StatusCode::OK);
    // Not below what there is: the file is full.
    pages("1").await;
    let refused = write(1_000_000).await.unwrap_err();
    assert!(refused.to_string().contains("full"), "{refused}");
    assert_eq!(ready().await, StatusCode::SERVICE_UNAVAILABLE, "a write is tried, in vain");
    assert_eq!(ready().await, StatusCode::SERVICE_UNAVAILABLE);
    server.clock.advance(muster::clock::MINUTE);
    assert_eq!(ready().await, StatusCode::SERVICE_UNAVAILABLE, "and again");
    pages("1073741823").await;
    write(1_000_000).await.unwrap();
    assert_eq!(ready().await, StatusCode::OK);
    // A write that failed for its own sake does not take the server out.
    let wrong =
        move |tx: &mut muster::store::Tx<'_>| Ok(diesel::RunQueryDsl::execute(diesel::sql_query("UPDATE nothing SET a = 1"), tx.conn())?);
    server.app.store.write(wrong).await.unwrap_err();
    server.clock.advance(muster::clock::MINUTE);
    assert_eq!(ready().await, StatusCode::OK);
    assert_eq!(server.app.store.trouble(), None);
}
