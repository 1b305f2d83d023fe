//! SCEP over HTTP, and the simulated device's client over TLS.

use base64::Engine as _;
use muster::sim;
use muster::sim::scep::{Error, Outcome};
use muster::wire::cms::SignedData;
use muster::wire::pkcs10::Wish;
use muster::wire::scep::Capabilities;
use openssl::x509::X509;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::StatusCode;

use super::{Device, grant, issued, mint, start};
use crate::support::server::{Options, Server};

#[tokio::test(flavor = "multi_thread")]
async fn row_1_capabilities_are_told_whatever_the_message_says() {
    let server = start(Options::default()).await;
    let client = server.client();
    for path in ["/scep/default", "/scep/issuing/pkiclient.exe", "/cgi-bin/pkiclient.exe", "/certsrv/mscep/mscep.dll/pkiclient.exe"] {
        let url = format!("{}{path}?operation=GetCACaps&message=anything", server.web);
        let head = client.head(&url).send().await.unwrap();
        assert_eq!(head.status(), StatusCode::OK);
        let answer = client.get(&url).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        assert_eq!(answer.headers()["content-type"], "text/plain");
        let length: usize = answer.headers()["content-length"].to_str().unwrap().parse().unwrap();
        let text = answer.text().await.unwrap();
        assert_eq!(text.len(), length);
        assert!(text.lines().all(|line| !line.is_empty()) && !text.ends_with('\n'));
        let capabilities = Capabilities::parse(&text);
        assert!(["SHA-256", "AES", "POSTPKIOperation", "Renewal"].iter().all(|word| capabilities.has(word)));
        assert!(!capabilities.has("SHA-1") && !capabilities.has("GetNextCACert"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_2_and_24_the_certificates_are_handed_out_with_and_without_the_root_and_no_next_one() {
    let server = start(Options::default()).await;
    let client = server.client();
    for (query, count) in [("", 3), ("&includeRoot=true", 3), ("&includeRoot=false", 2)] {
        let url = format!("{}/scep/issuing?operation=GetCACert&message=0{query}", server.web);
        let answer = client.get(url).send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/x-x509-ca-ra-cert");
        let body = answer.bytes().await.unwrap();
        let list = SignedData::parse(&body).unwrap().certificates;
        assert_eq!(list.len(), count);
        let registration = String::from_utf8(X509::from_der(list[0]).unwrap().to_text().unwrap()).unwrap();
        assert!(registration.contains("Digital Signature, Key Encipherment"), "{registration}");
        let issuing = String::from_utf8(X509::from_der(list[1]).unwrap().to_text().unwrap()).unwrap();
        assert!(issuing.contains("CA:TRUE") && !issuing.contains("Key Encipherment"));
    }
    let next = client.get(format!("{}/scep/issuing?operation=GetNextCACert", server.web)).send().await.unwrap();
    assert_eq!(next.status(), StatusCode::NOT_FOUND);
    let unknown = client.get(format!("{}/scep/nobody?operation=GetCACert", server.web)).send().await.unwrap();
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    let odd = client.get(format!("{}/scep/issuing?operation=getcacaps", server.web)).send().await.unwrap();
    assert_eq!(odd.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_7_messages_arrive_by_get_in_every_spelling_and_by_post() {
    let server = start(Options::default()).await;
    let client = server.client();
    for spelling in 0..6 {
        let device = Device::new(&server.app);
        let challenge = mint(&server.app, grant("PC"), false).await;
        let message = device.message(&server.app, &device.csr("PC", &challenge)).await;
        let standard = base64::engine::general_purpose::STANDARD.encode(&message);
        let lines = standard.as_bytes().chunks(64).map(|c| std::str::from_utf8(c).unwrap()).collect::<Vec<_>>().join("%0A");
        let text = match spelling {
            0 => utf8_percent_encode(&standard, NON_ALPHANUMERIC).to_string(),
            1 => standard.replace('=', "%3D"),
            2 => lines,
            3 => base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&message),
            _ => String::new(),
        };
        let base = format!("{}/scep/default/pkiclient.exe", server.web);
        let answer = match spelling {
            4 => client.post(&base).body(message),
            5 => client.post(format!("{base}?operation=PKIOperation")).header("content-type", "application/octet-stream").body(message),
            _ => client.get(format!("{base}?operation=PKIOperation&message={text}")),
        };
        let answer = answer.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{spelling}");
        assert_eq!(answer.headers()["content-type"], "application/x-pki-message");
        device.read(&answer.bytes().await.unwrap()).unwrap();
    }
    assert_eq!(issued(&server.app).await, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_20_bodies_beyond_64_kib_and_garbage_are_refused() {
    let server = start(Options::default()).await;
    let client = server.client();
    let url = format!("{}/scep/default?operation=PKIOperation", server.web);
    let send = async |body: Vec<u8>| client.post(&url).body(body).send().await.unwrap().status();
    assert_eq!(send(vec![0x30; 64 * 1024 + 1]).await, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(send([0x30, 0x80].repeat(10_000)).await, StatusCode::BAD_REQUEST);
    assert_eq!(send(vec![0x30, 0x82, 0x10, 0x00, 0x06]).await, StatusCode::BAD_REQUEST);
    let garbage = client.get(format!("{url}&message=!!!")).send().await.unwrap();
    assert_eq!(garbage.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn head_carries_no_message_out() {
    let server = start(Options::default()).await;
    let app = &server.app;
    let device = Device::new(app);
    let challenge = mint(app, grant("PC"), false).await;
    let message = device.message(app, &device.csr("PC", &challenge)).await;
    let text = base64::prelude::BASE64_STANDARD.encode(message);
    let escaped = utf8_percent_encode(&text, NON_ALPHANUMERIC);
    let url = format!("{}/scep/default?operation=PKIOperation&message={escaped}", server.web);
    let client = server.client();
    assert_eq!(client.head(&url).send().await.unwrap().status(), StatusCode::BAD_REQUEST);
    assert_eq!(issued(app).await, 0);
    assert_eq!(client.get(&url).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(issued(app).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_answers_only_where_it_is_switched_on() {
    for (on, status) in [(false, StatusCode::NOT_FOUND), (true, StatusCode::OK)] {
        let tweak = Box::new(move |config: &mut muster::config::Config| config.scep.plain_http = on);
        let server = start(Options { tweak, ..Options::default() }).await;
        let url = format!("{}/scep/default?operation=GetCACaps", server.pki);
        assert_eq!(server.client().get(url).send().await.unwrap().status(), status);
    }
}

fn device_client(server: &Server) -> sim::http::Client {
    sim::http::Client::new(&[X509::from_pem(&server.root_pem).unwrap()], None).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simulated_device_enrols_waits_and_renews() {
    let tweak = Box::new(|config: &mut muster::config::Config| config.scep.renewal_percent = 100);
    let server = start(Options { tweak, ..Options::default() }).await;
    let app = &server.app;
    let mut http = device_client(&server);
    let url = format!("{}/scep/default", server.web);
    let known = sim::scep::Server::discover(&mut http, &url, sim::scep::Options::default()).await.unwrap();
    let wish = |challenge: String| Wish { challenge: Some(challenge), ..Wish::common_name("PC") };
    let asked = wish(mint(app, grant("PC"), false).await);
    let Outcome::Issued(identity) = known.enroll(&mut http, &asked, app.now()).await.unwrap() else { panic!("waits") };
    let Outcome::Issued(renewed) = known.renew(&mut http, &Wish::common_name("PC"), &identity).await.unwrap() else { panic!("waits") };
    assert_ne!(identity.certificate, renewed.certificate);
    let asked = wish(mint(app, grant("PC"), true).await);
    let Outcome::Pending(waiting) = known.enroll(&mut http, &asked, app.now()).await.unwrap() else { panic!("does not wait") };
    assert!(matches!(known.poll(&mut http, &waiting).await.unwrap(), Outcome::Pending(_)));
    let pending = muster::service::pki::scep::list_pending(app, 10).await.unwrap();
    muster::service::pki::scep::approve(app, "default", &pending[0].transaction_id, "cli:root", "local").await.unwrap();
    assert!(matches!(known.poll(&mut http, &waiting).await.unwrap(), Outcome::Issued(_)));
    let refused = known.enroll(&mut http, &wish("guess".into()), app.now()).await;
    assert!(matches!(refused, Err(Error::Refused(info)) if info.as_str() == "badRequest"));
}
