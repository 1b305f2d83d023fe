//! What an administrator is shown of a request before deciding on it.

use std::sync::Arc;

use muster::app::App;
use muster::cli::Order;
use muster::domain::certificate::{Grant, Purpose, Renewal, San};
use muster::service::pki::scep;
use muster::wire::pkcs10::{GeneralName, Wish};
use muster::wire::scep::MessageType;
use serde_json::{Value, json};

use super::{Answer, Device, mint, rsa, start};
use crate::support::server::Options;

async fn shown(app: &Arc<App>) -> Value {
    let order: Order = serde_json::from_value(json!({ "Ca": { "Scep": { "Pending": { "limit": 10 } } } })).unwrap();
    let mut rows = order.run(app, "cli:test").await.unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 1, "{rows}");
    rows[0].take()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waits_is_shown_with_its_names_and_with_what_it_comes_from() {
    let tweak = Box::new(|config: &mut muster::config::Config| config.scep.renewal_percent = 100);
    let server = start(Options { tweak, ..Options::default() }).await;
    let app = &server.app;
    let mut granted = Grant::client(Purpose::Manual, "printer 1", 30);
    granted.sans = vec![San::Dns("printer1.example.org".into()), San::Ip("192.0.2.7".into())];
    granted.renewal = Some(Renewal::Approved);
    let device = Device::new(app);
    let challenge = mint(app, granted, true).await;
    let san = vec![GeneralName::Dns("printer1.example.org".into()), GeneralName::Ip(vec![192, 0, 2, 7])];
    let wish = Wish { san, challenge: Some(challenge), ..Wish::common_name("printer 1") };
    assert_eq!(device.send(app, &device.csr_of(&wish)).await, Err(Answer::Pending));
    let row = shown(app).await;
    assert_eq!((&row["subject"], &row["names"]), (&json!("CN=printer 1"), &json!("dns:printer1.example.org, ip:192.0.2.7")));
    assert_eq!((&row["renews"], &row["renews_serial"], &row["profile"]), (&json!(false), &Value::Null, &Value::Null));
    assert_eq!((&row["challenged_by"], row["challenge"].as_str().unwrap().len()), (&json!("test"), 32));
    let first = scep::approve(app, "default", &device.transaction, "cli:test", "local").await.unwrap();
    let first = app.store.read(move |c| muster::store::certificates::load_certificate(c, &first)).await.unwrap();
    let mut device = device.holding(first.der, MessageType::RenewalReq);
    let again = device.ask_for_key(app, scep::DEFAULT, &Wish { challenge: None, ..wish }, &rsa(2048)).await;
    assert_eq!(again, Err(Answer::Pending));
    let row = shown(app).await;
    assert_eq!((&row["renews"], &row["renews_serial"]), (&json!(true), &json!(first.serial)));
    assert_eq!((&row["subject"], &row["challenge"]), (&json!("CN=printer 1"), &Value::Null));
}
