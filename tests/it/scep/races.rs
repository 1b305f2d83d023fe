//! SCEP requests that meet others: what a renewal brings along, what others keep overtaking, and what nobody decides on.

use diesel::connection::SimpleConnection as _;
use muster::clock::DAY;
use muster::service::jobs;
use muster::service::pki::scep;
use muster::store::{Conn, audit};
use muster::wire::pkcs10::Wish;
use muster::wire::scep::MessageType;

use super::{Answer, Device, grant, issued, mint, reason, rsa, start};
use crate::support::server::Options;

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_uses_up_the_challenge_that_it_brings_along() {
    let tweak = Box::new(|config: &mut muster::config::Config| config.scep.renewal_percent = 100);
    let server = start(Options { tweak, ..Options::default() }).await;
    let app = &server.app;
    let device = Device::new(app);
    let challenge = mint(app, grant("PC"), false).await;
    let certificate = device.send(app, &device.csr("PC", &challenge)).await.unwrap();
    let mut device = device.holding(certificate, MessageType::RenewalReq);
    let second = mint(app, grant("PC"), false).await;
    let wish = Wish { challenge: Some(second.clone()), ..Wish::common_name("PC") };
    device.ask_for_key(app, scep::DEFAULT, &wish, &rsa(2048)).await.unwrap();
    assert_eq!(issued(app).await, 2);
    // Whoever has read the renewal, or the device itself, buys nothing by it.
    let other = Device::new(app);
    let refused = other.send(app, &other.csr("PC", &second)).await;
    assert!(matches!(refused, Err(Answer::Failure(_))), "{refused:?}");
    assert_eq!(reason(app).await, "ChallengeUsed");
    assert_eq!(issued(app).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_others_keep_overtaking_is_refused_by_name() {
    let server = start(Options::default()).await;
    let app = &server.app;
    let device = Device::new(app);
    let challenge = mint(app, grant("PC"), false).await;
    let message = device.message(app, &device.csr("PC", &challenge)).await;
    let run = async |sql: &'static str| {
        let done = app.store.write(move |tx| match tx.conn() {
            Conn::Sqlite(c) => Ok(c.batch_execute(sql)?),
            Conn::Postgres(c) => Ok(c.batch_execute(sql)?),
        });
        done.await.unwrap();
    };
    // Each time that the challenge is to be used, it is gone when it comes to writing.
    run("CREATE TRIGGER others BEFORE UPDATE ON scep_challenges BEGIN SELECT RAISE(IGNORE); END").await;
    let refused = scep::receive(app, "default", message.clone(), "test").await.unwrap_err();
    assert!(refused.to_string().starts_with("SCP0005"), "{refused}");
    let mut http = muster::sim::http::Client::new(&[openssl::x509::X509::from_pem(&server.root_pem).unwrap()], None).unwrap();
    let url = reqwest::Url::parse(&format!("{}/scep/default/pkiclient.exe?operation=PKIOperation", server.web)).unwrap();
    let answer = http.send("POST", &url, &[("Content-Type", "application/x-pki-message")], &message).await.unwrap();
    assert_eq!(answer.status, 503);
    assert!(String::from_utf8_lossy(&answer.body).contains("SCP0005"));
    assert_eq!(issued(app).await, 0);
    run("DROP TRIGGER others").await;
    device.read(&scep::receive(app, "default", message, "test").await.unwrap()).unwrap();
    assert_eq!(issued(app).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_decided_on_in_a_month_is_said_in_the_audit_log_when_it_goes() {
    let server = start(Options::default()).await;
    let app = &server.app;
    let mut names = Vec::new();
    for _ in 0..2 {
        let device = Device::new(app);
        let challenge = mint(app, grant("PC"), true).await;
        assert_eq!(device.send(app, &device.csr("PC", &challenge)).await, Err(Answer::Pending));
        names.push(device.transaction);
    }
    let decided = Device::new(app);
    let challenge = mint(app, grant("PC"), false).await;
    decided.send(app, &decided.csr("PC", &challenge)).await.unwrap();
    let said = async || {
        jobs::run_due(app).await.unwrap();
        let rows = app.store.read(|c| audit::list(c, 0, 10_000)).await.unwrap();
        rows.into_iter().filter(|row| row.action == "scep.expired").collect::<Vec<_>>()
    };
    server.clock.advance(29 * DAY);
    assert!(said().await.is_empty());
    server.clock.advance(2 * DAY);
    let rows = said().await;
    assert_eq!(rows.len(), 1, "one row for all of them");
    let after: serde_json::Value = serde_json::from_str(rows[0].after.as_deref().unwrap()).unwrap();
    assert_eq!(after["count"], 2);
    let listed = after["transactions"].to_string();
    assert!(names.iter().all(|name| listed.contains(name.as_str())) && !listed.contains(&decided.transaction), "{listed}");
    assert!(scep::list_pending(app, 10).await.unwrap().is_empty());
}
