//! Push delivery: what a token is, what becomes of it when the receiver fails, what a crash does.

use std::collections::BTreeSet;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use muster::clock::{DAY, HOUR, MINUTE, SECOND};
use muster::domain::signal::ReceiverStatus;
use muster::service::outbox::{Deliverer as _, Outcome};
use muster::service::signals::push::SignalPush;
use muster::service::{outbound, signals};
use muster::sim::listener::{Answer, Tls};
use muster::sim::receiver::{Expect, Receiver, refusal};
use muster::store::outbox::{Lease, claim_due};
use muster::wire::set::{DEVICE_COMPLIANCE_CHANGE, VERIFICATION};
use openssl::bn::BigNum;
use openssl::rsa::Rsa;
use serde_json::{Value, json};

use super::{AUTHORIZATION, JITTER, Rig, add, node, worker};
use crate::support::ca::Ca;
use crate::support::tools;

fn decoded(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flip_leaves_as_a_token_that_openssl_verifies_by_the_published_keys() {
    let rig = Rig::new(1).await;
    rig.flip(0, false, "tpmRequired").await;
    assert_eq!(rig.drain().await, 1);
    assert_eq!(rig.receiver.complaints(), [""; 0]);
    let request = rig.receiver.requests().remove(0);
    assert_eq!(request.method, "POST");
    assert_eq!(request.header("content-type"), Some("application/secevent+jwt"));
    assert_eq!(request.header("accept"), Some("application/json"));
    assert_eq!(request.header("authorization"), Some(AUTHORIZATION));
    let jws = String::from_utf8(request.body).unwrap();
    let parts: Vec<&str> = jws.split('.').collect();
    let [header, claims, signature] = parts[..] else { panic!("{jws}") };

    let issuer = &rig.server.web;
    let client = rig.server.client();
    let metadata: Value = client.get(format!("{issuer}/.well-known/ssf-configuration")).send().await.unwrap().json().await.unwrap();
    assert_eq!((&metadata["issuer"], &metadata["spec_version"]), (&json!(issuer), &json!("1_0")));
    let answer = client.get(metadata["jwks_uri"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(answer.headers()["cache-control"], "max-age=3600");
    let jwks: Value = answer.json().await.unwrap();
    let jwk = &jwks["keys"][0];
    assert_eq!(jwks["keys"].as_array().unwrap().len(), 1);
    let members: BTreeSet<&str> = jwk.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, BTreeSet::from(["alg", "e", "kid", "kty", "n", "use"]), "and nothing of the private half");

    assert_eq!(decoded(header), json!({ "typ": "secevent+jwt", "alg": "RS256", "kid": jwk["kid"] }));
    let claims_value = decoded(claims);
    let names: BTreeSet<&str> = claims_value.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, BTreeSet::from(["aud", "events", "iat", "iss", "jti", "sub_id", "txn"]), "neither sub nor exp");
    assert_eq!((&claims_value["iss"], &claims_value["aud"]), (&json!(issuer), &json!("urn:ours")));
    assert_eq!(claims_value["iat"], json!(rig.server.app.now().seconds()));
    assert_eq!(
        claims_value["sub_id"],
        json!({
            "format": "complex",
            "device": { "format": "iss_sub", "iss": issuer, "sub": rig.devices[0].as_str() },
            "user": { "format": "email", "email": "ana@example.org" },
            "tenant": { "format": "opaque", "id": rig.server.app.tenant.as_str() },
        })
    );
    assert_eq!(
        claims_value["events"],
        json!({ DEVICE_COMPLIANCE_CHANGE: {
            "previous_status": "compliant", "current_status": "not-compliant", "event_timestamp": rig.server.app.now().seconds(),
            "initiating_entity": "policy", "reason_admin": { "en": "tpmRequired" },
        } })
    );

    let Some(openssl) = tools::find("openssl", "openssl") else { return };
    let number = |name: &str| BigNum::from_slice(&URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap()).unwrap();
    let key = Rsa::from_public_components(number("n"), number("e")).unwrap();
    assert!(key.size() >= 256);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let key = file("key.pem", &key.public_key_to_pem().unwrap());
    let signature = file("signature", &URL_SAFE_NO_PAD.decode(signature).unwrap());
    for (input, good) in [(format!("{header}.{claims}"), true), (format!("{header}.{claims} "), false)] {
        let input = file("input", input.as_bytes());
        let mut command = Command::new(&openssl);
        command.args(["dgst", "-sha256", "-verify"]).arg(&key).arg("-signature").arg(&signature).arg(&input);
        let output = command.output().unwrap();
        assert_eq!(output.status.success(), good, "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_down_gets_the_same_bytes_with_growing_waits() {
    let rig = Rig::new(1).await;
    rig.receiver.script([Answer::of(503), Answer::of(503), Answer::of(503)]);
    rig.flip(0, false, "one").await;
    rig.flip(0, true, "two").await;
    assert_eq!(rig.drain().await, 1, "the second flip waits for the first");
    for wait in [SECOND, 2 * SECOND, 4 * SECOND].map(|cap| i64::try_from(JITTER).unwrap() % cap) {
        rig.server.clock.advance(wait - 1);
        assert_eq!(rig.drain().await, 0, "before {wait} ms");
        rig.server.clock.advance(1);
        assert!(rig.drain().await > 0, "after {wait} ms");
    }
    let bodies: Vec<_> = rig.receiver.requests().into_iter().map(|r| r.body).collect();
    assert_eq!(bodies.len(), 5);
    assert!(bodies[1..4].iter().all(|body| *body == bodies[0]));
    let reasons: Vec<_> = rig.receiver.events().iter().map(|e| e.reason().unwrap().to_owned()).collect();
    assert_eq!(reasons, ["one", "two"]);
    assert_eq!((rig.receiver.duplicates(), rig.receiver.complaints()), (0, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_asks_for_time_gets_it_and_one_that_is_silent_is_asked_again() {
    let rig = Rig::tweaked(1, |c| c.signals.timeout_seconds = 1).await;
    rig.receiver.script([Answer::of(429).header("Retry-After", "600"), Answer::silence()]);
    rig.flip(0, false, "one").await;
    assert_eq!(rig.drain().await, 1);
    rig.server.clock.advance(10 * MINUTE - 1);
    assert_eq!(rig.drain().await, 0);
    rig.server.clock.advance(1);
    assert_eq!(rig.drain().await, 1);
    assert!(rig.rows("queued").await[0].contains("no answer in time from 127.0.0.1"), "{:?}", rig.rows("queued").await);
    rig.server.clock.advance(MINUTE);
    assert_eq!(rig.drain().await, 1);
    assert_eq!((rig.receiver.events().len(), rig.receiver.requests().len()), (1, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_is_given_up_with_the_reason_and_the_next_one_goes_on() {
    let rig = Rig::new(1).await;
    // Same place, another audience: the receiver itself refuses.
    add(&rig.server.app, "misconfigured", &rig.receiver.url, "urn:theirs").await;
    rig.flip(0, false, "one").await;
    // Whoever did not hear of the first flip has nothing to hear of the second.
    rig.flip(0, true, "two").await;
    rig.flip(0, false, "three").await;
    assert_eq!(rig.drain().await, 6);
    let dead = rig.rows("dead").await;
    assert_eq!(dead.len(), 2);
    assert!(dead.iter().all(|why| why.contains("400 invalid_audience: urn:theirs")), "{dead:?}");
    assert_eq!(rig.audited("outbox.dead").await, 2);
    assert_eq!(rig.receiver.events().len(), 3);
    rig.server.clock.advance(HOUR);
    assert_eq!(rig.drain().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed_and_a_retention_ends() {
    let rig = Rig::tweaked(1, |c| c.signals.retention_hours = 2).await;
    let elsewhere = rig.receiver.url.replace("/events", "/elsewhere");
    rig.receiver.script(std::iter::repeat_with(|| Answer::of(302).header("Location", &elsewhere)).take(2));
    rig.flip(0, false, "one").await;
    assert_eq!(rig.drain().await, 1);
    assert!(rig.rows("queued").await[0].contains("redirects are not followed"));
    rig.server.clock.advance(2 * HOUR);
    assert_eq!(rig.drain().await, 1);
    // The receiver is paused, for all to see, and what waits for it is held.
    let stored = signals::receiver::load(&rig.server.app, "ours").await.unwrap();
    assert_eq!(stored.status, ReceiverStatus::Paused);
    let why = stored.status_reason.unwrap();
    assert!(why.starts_with("not delivered within 2 hours; last: 302"), "{why}");
    assert_eq!(rig.rows("queued").await, [why]);
    assert!(rig.receiver.requests().iter().all(|r| r.path == "/events"));
    rig.server.clock.advance(7 * DAY);
    rig.drain().await;
    assert_eq!(rig.rows("dead").await, ["not delivered within 168 hours; last: the receiver is paused"]);
    assert_eq!(rig.receiver.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_keeps_refusing_us_is_paused_and_gets_everything_once_it_is_resumed() {
    for (answer, tries) in [(Answer::of(401), 3), (refusal("invalid_key", "who?"), 2)] {
        let rig = Rig::new(3).await;
        let app = &rig.server.app;
        rig.receiver.script(std::iter::repeat_n(answer.clone(), tries));
        for device in 0..tries {
            rig.flip(device, false, "one").await;
        }
        assert_eq!(rig.drain().await, tries);
        let stored = signals::receiver::load(app, "ours").await.unwrap();
        assert_eq!(stored.status, ReceiverStatus::Paused);
        assert!(stored.status_reason.unwrap().contains("refused us"));
        rig.flip(0, true, "two").await;
        rig.server.clock.advance(HOUR);
        rig.drain().await;
        assert_eq!(rig.receiver.requests().len(), tries, "nothing leaves while it is paused");
        signals::receiver::set_status(app, &stored.id, ReceiverStatus::Enabled, None, &muster::service::directory::By::local("cli:test"))
            .await
            .unwrap();
        // The rest that the destination was given for its refusals is over.
        rig.server.clock.advance(HOUR);
        rig.drain().await;
        // The two flips of the first device come to nothing, and nothing leaves where the receiver has judged the first (400); of one that
        // was tried and kept (401) nobody knows what became of it behind a proxy's answer.
        let in_doubt = usize::from(answer.status == 401);
        assert_eq!(rig.receiver.events().len(), tries - 1 + in_doubt, "{}", answer.status);
        assert_eq!(rig.receiver.complaints(), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_receiver_gets_of_each_device_what_it_missed_in_one_signal() {
    let rig = Rig::new(2).await;
    let app = &rig.server.app;
    let id = signals::receiver::load(app, "ours").await.unwrap().id;
    let by = muster::service::directory::By::local("cli:test");
    let set = |status| signals::receiver::set_status(app, &id, status, None, &by);
    set(ReceiverStatus::Paused).await.unwrap();
    for (device, current, reason) in [(0, false, "one"), (0, true, "two"), (0, false, "three"), (1, false, "four"), (1, true, "five")] {
        rig.flip(device, current, reason).await;
        rig.drain().await;
        rig.server.clock.advance(DAY);
    }
    assert_eq!((rig.receiver.requests().len(), rig.rows("queued").await.len()), (0, 5));
    set(ReceiverStatus::Enabled).await.unwrap();
    // At once: being paused is no failure that the destination has to rest from.
    assert_eq!(rig.drain().await, 1);
    let events = rig.receiver.events();
    assert_eq!(events.iter().map(|event| event.reason().unwrap()).collect::<Vec<_>>(), ["three"]);
    assert_eq!(rig.receiver.complaints(), [""; 0]);
    assert_eq!((rig.rows("queued").await.len(), rig.rows("dead").await.len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_or_after_the_push_loses_nothing_and_repeats_the_same_token() {
    let rig = Rig::new(1).await;
    let app = &rig.server.app;
    rig.flip(0, false, "one").await;
    // The first node dies between the commit and the push: another one finds it.
    let other = worker(&node(&rig.server, std::sync::Arc::new(rig.server.clock.clone())));
    assert_eq!(other.drain().await.unwrap(), 1);

    rig.flip(0, true, "two").await;
    rig.flip(0, false, "three").await;
    // It dies after the push, before it could record it.
    let lease = Lease { node: app.node.clone(), coalesced: Vec::new(), millis: MINUTE };
    let (held, now) = (lease.clone(), app.now());
    let claims = app.store.write(move |tx| claim_due(tx, &held, &[], 10, now)).await.unwrap();
    let push = SignalPush::new(outbound::client(&app.config).unwrap());
    assert_eq!(push.deliver(app, &lease, &claims[0]).await, Outcome::Done);
    assert_eq!(other.drain().await.unwrap(), 0, "the lease runs");
    rig.server.clock.advance(MINUTE);
    assert_eq!(other.drain().await.unwrap(), 2);
    let requests = rig.receiver.requests();
    assert_eq!(requests[1].body, requests[2].body);
    let reasons: Vec<_> = rig.receiver.events().iter().map(|e| e.reason().unwrap().to_owned()).collect();
    assert_eq!(reasons, ["one", "two", "three"]);
    assert_eq!((rig.receiver.duplicates(), rig.receiver.complaints()), (1, Vec::new()));
    // Whoever lost the lane sends nothing more.
    let late = push.deliver(app, &lease, &claims[0]).await;
    assert!(matches!(&late, Outcome::Retry { reason, .. } if reason == "the lease was lost"), "{late:?}");
    assert_eq!(rig.receiver.requests().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_to_a_receiver_whose_certificate_is_not_trusted() {
    let rig = Rig::new(1).await;
    let ca = Ca::new("Somebody's");
    let leaf = ca.leaf("receiver", &["127.0.0.1".into()]);
    let tls = Tls { certificate: leaf.certificate, chain: Vec::new(), key: leaf.key };
    let expect = Expect {
        issuer: rig.server.web.clone(),
        audience: "urn:tls".into(),
        authorization: None,
        roots: Vec::new(),
        clock: std::sync::Arc::new(rig.server.clock.clone()),
    };
    let stranger = Receiver::start("127.0.0.1:0".parse().unwrap(), Some(&tls), expect).await.unwrap();
    // It does answer those who trust it.
    let root = reqwest::Certificate::from_pem(&ca.root.to_pem().unwrap()).unwrap();
    let friend = reqwest::Client::builder().tls_certs_only([root]).no_proxy().build().unwrap();
    assert_eq!(friend.get(&stranger.url).send().await.unwrap().status(), 400);

    add(&rig.server.app, "stranger", &stranger.url, "urn:tls").await;
    rig.flip(0, false, "one").await;
    assert_eq!(rig.drain().await, 2);
    let queued = rig.rows("queued").await;
    assert!(queued.len() == 1 && queued[0].contains("certificate"), "{queued:?}");
    assert_eq!(stranger.requests().len(), 1);
    assert_eq!(rig.receiver.events().len(), 1, "the other receiver is served");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_receiver_gets_nothing_more_and_a_new_one_is_tested_by_a_verification() {
    let rig = Rig::new(1).await;
    let app = &rig.server.app;
    let jti = signals::receiver::test(app, "ours", &muster::service::directory::By::local("cli:test")).await.unwrap();
    assert_eq!(rig.drain().await, 1);
    let event = rig.receiver.events().remove(0);
    assert_eq!((event.jti, event.kind.as_str(), event.device), (jti, VERIFICATION, None));
    rig.flip(0, false, "one").await;
    signals::receiver::remove(app, "ours", &muster::service::directory::By::local("cli:test")).await.unwrap();
    assert_eq!(rig.drain().await, 0);
    assert_eq!(rig.rows("dead").await, ["the receiver was removed"]);
    let new = signals::receiver::NewReceiver {
        name: "x".into(),
        endpoint_url: rig.receiver.url.clone(),
        audience: None,
        authorization: Some(muster::secret::Secret::new(b"a\r\nb".to_vec())),
    };
    let refused = signals::receiver::add(app, new, &muster::service::directory::By::local("cli:test")).await.unwrap_err();
    assert!(matches!(&refused, muster::service::Error::Refused(r) if r.code() == "SIG0004"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receiver_complains_about_what_a_receiver_must_not_take() {
    let rig = Rig::new(1).await;
    rig.flip(0, false, "one").await;
    rig.drain().await;
    let good = rig.receiver.events().remove(0).jws;
    let client = rig.server.client();
    let post = |body: String, authorization: &'static str| {
        let request =
            client.post(&rig.receiver.url).header("Content-Type", "application/secevent+jwt").header("Authorization", authorization);
        async move {
            let answer = request.body(body).send().await.unwrap();
            let status = answer.status().as_u16();
            let error: Value = answer.json().await.unwrap_or_default();
            (status, error["err"].as_str().unwrap_or_default().to_owned())
        }
    };
    assert_eq!(post(good.clone(), AUTHORIZATION).await, (202, String::new()));
    assert_eq!(rig.receiver.duplicates(), 1);
    assert_eq!(post(good.clone(), "Bearer else").await.0, 401);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let other = "A".repeat(signature.len());
    assert_eq!(post(format!("{signed}.{other}"), AUTHORIZATION).await, (400, "invalid_key".into()));
    assert_eq!(post("a.b.c".into(), AUTHORIZATION).await, (400, "invalid_request".into()));
    assert_eq!(rig.receiver.complaints().len(), 3);
    // The same flip twice: what is between them is missing.
    rig.flip(0, false, "again").await;
    rig.drain().await;
    assert!(rig.receiver.complaints()[3].contains("out of order"));
    assert_eq!(rig.receiver.events().len(), 2);
}
