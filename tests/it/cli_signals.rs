//! `muster signals receiver test`, against a receiver that takes what it is sent, one that is not there, and one that is paused.

use std::sync::Arc;

use muster::clock::SystemClock;
use muster::sim::receiver::{Expect, Receiver};
use openssl::x509::X509;
use serde_json::Value;

use crate::cli::{json, run, serve};
use crate::cli_orders::made;

#[test]
fn a_test_waits_and_its_exit_status_says_whether_the_receiver_took_the_event() {
    let folder = made();
    let path = folder.path();
    std::fs::write(path.join("muster.toml"), "[signals]\nallow_private_receivers = true\n").unwrap();
    let _serving = serve(path);
    let issuer = json(path, &["signals", "receiver", "add", "gone", "http://127.0.0.1:9/"])["issuer"].as_str().unwrap().to_owned();
    let roots = X509::stack_from_pem(&run(path, &["ca", "export", "root"]).stdout).unwrap();
    let expect = Expect { issuer, audience: "urn:ids".into(), authorization: None, roots, clock: Arc::new(SystemClock) };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let receiver = runtime.block_on(Receiver::start("127.0.0.1:0".parse().unwrap(), None, expect)).unwrap();
    json(path, &["signals", "receiver", "add", "ids", &receiver.url, "--audience", "urn:ids"]);
    let test = |name: &str| {
        let done = run(path, &["signals", "receiver", "test", name, "--json"]);
        let said: Value = serde_json::from_slice(&done.stdout).unwrap();
        (done.status.code(), said["result"].as_str().unwrap().to_owned(), said["last_error"].as_str().map(str::to_owned))
    };
    assert_eq!(test("ids"), (Some(0), "taken".into(), None));
    assert_eq!(receiver.complaints(), [""; 0]);
    let (code, result, why) = test("gone");
    assert_eq!((code, result.as_str()), (Some(1), "failed"));
    assert!(why.is_some());
    json(path, &["signals", "receiver", "pause", "ids"]);
    assert_eq!(test("ids").0, Some(1));
}
