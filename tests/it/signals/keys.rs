//! Keys change while signals wait: receivers that keep the published keys for an hour verify everything.

use muster::clock::{DAY, HOUR, MINUTE};
use muster::service::signing_keys as keys;
use muster::sim::listener::Answer;
use muster::wire::set::Token;

use super::Rig;

async fn published(rig: &Rig) -> Vec<String> {
    let set = keys::jwks(&rig.server.app).await.unwrap();
    set["keys"].as_array().unwrap().iter().map(|k| k["kid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_during_a_backlog_breaks_no_signature() {
    let rig = Rig::new(3).await;
    let (app, clock) = (&rig.server.app, &rig.server.clock);
    rig.flip(0, false, "first").await;
    assert_eq!(rig.drain().await, 1);
    let old = published(&rig).await;
    assert_eq!(old.len(), 1);
    clock.advance(89 * DAY - 1);
    keys::refresh(app).await.unwrap();
    assert_eq!(published(&rig).await, old);
    clock.advance(1);
    keys::refresh(app).await.unwrap();
    let both = published(&rig).await;
    assert_eq!((both.len(), &both[0]), (2, &old[0]), "the new key is published a day before it signs");

    clock.advance(DAY - 30 * MINUTE);
    rig.flip(0, true, "keys are fetched").await;
    assert_eq!(rig.drain().await, 1);
    rig.receiver.script([Answer::of(503), Answer::of(503)]);
    rig.flip(1, false, "backlog").await;
    rig.flip(2, false, "backlog").await;
    assert_eq!(rig.drain().await, 2);
    clock.advance(30 * MINUTE);
    keys::refresh(app).await.unwrap();
    rig.flip(0, false, "after").await;
    assert_eq!(rig.drain().await, 3);
    assert_eq!(rig.receiver.complaints(), [""; 0]);
    let kid = |device: usize| {
        let events = rig.receiver.events();
        events.iter().rev().find(|e| e.device.as_deref() == Some(rig.devices[device].as_str())).unwrap().kid.clone()
    };
    assert_eq!((kid(1), kid(2), kid(0)), (both[0].clone(), both[0].clone(), both[1].clone()));

    // Nothing that the old key signed is on its way after the retention and a day.
    clock.advance(3 * DAY + DAY);
    keys::refresh(app).await.unwrap();
    assert_eq!(published(&rig).await, both);
    clock.advance(1);
    keys::refresh(app).await.unwrap();
    assert_eq!(published(&rig).await, both[1..]);
    assert_eq!((rig.audited("signing_key.create").await, rig.audited("signing_key.delete").await), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_replaced_in_an_emergency_signs_nothing_more_and_what_waits_keeps_its_identifier() {
    let rig = Rig::new(1).await;
    rig.receiver.script([Answer::of(503)]);
    rig.flip(0, false, "one").await;
    assert_eq!(rig.drain().await, 1);
    let before = published(&rig).await;
    let fresh = keys::replace_all(&rig.server.app, &muster::service::directory::By::local("cli:test")).await.unwrap();
    assert_eq!(published(&rig).await, [fresh.as_str()]);
    rig.server.clock.advance(HOUR);
    assert_eq!(rig.drain().await, 1);
    let tokens: Vec<Token> =
        rig.receiver.requests().iter().map(|r| Token::decode(std::str::from_utf8(&r.body).unwrap()).unwrap()).collect();
    assert_eq!((&tokens[0].kid, &tokens[1].kid), (&before[0], &fresh));
    assert_eq!(tokens[0].claims.jti, tokens[1].claims.jti);
    assert_eq!((rig.receiver.events().len(), rig.receiver.complaints()), (1, Vec::new()));
}
