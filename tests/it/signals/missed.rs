//! What a receiver has missed because signals were given up: it is told the change between what it last heard and what is now.

use std::sync::Arc;

use muster::clock::{DAY, HOUR};
use muster::domain::signal::ReceiverStatus;
use muster::service::{Error, outbox, signals};
use muster::sim::listener::Answer;
use muster::sim::receiver::{Expect, Receiver, refusal};
use openssl::x509::X509;

use super::{AUTHORIZATION, Rig, add};
use crate::both_backends;
use crate::support::server::Options;

async fn rig(store: muster::store::Store, devices: usize) -> Rig {
    Rig::with(devices, Options { store: Some(store), ..Options::default() }).await
}

impl Rig {
    async fn set(&self, status: ReceiverStatus) {
        let app = &self.server.app;
        let id = signals::receiver::load(app, "ours").await.unwrap().id;
        signals::receiver::set_status(app, &id, status, None, &muster::service::directory::By::local("cli:test")).await.unwrap();
    }

    /// The next `count` signals are refused for good.
    fn refuse(&self, count: usize) {
        self.receiver.script(std::iter::repeat_n(refusal("invalid_request", "not today"), count));
    }

    /// What the receiver was told, in order: the state and the reason.
    fn told(&self) -> Vec<(String, String)> {
        told(&self.receiver)
    }

    async fn dead(&self) -> Vec<i64> {
        outbox::list(&self.server.app, "dead", 0, 100).await.unwrap().iter().map(|row| row.seq).collect()
    }
}

fn told(receiver: &Receiver) -> Vec<(String, String)> {
    let of = |event: &muster::sim::receiver::Accepted| {
        (event.members["current_status"].as_str().unwrap().to_owned(), event.reason().unwrap().to_owned())
    };
    assert_eq!(receiver.complaints(), [""; 0]);
    receiver.events().iter().map(of).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(state, reason)| ((*state).to_owned(), (*reason).to_owned())).collect()
}

both_backends! {
    async fn what_was_refused_is_told_once_the_receiver_is_resumed(store: Store) {
        let rig = rig(store, 2).await;
        rig.flip(0, false, "disabled").await;
        rig.drain().await;
        rig.refuse(1);
        rig.flip(0, true, "enabled").await;
        rig.drain().await;
        let rows = outbox::list(&rig.server.app, "dead", 0, 100).await.unwrap();
        assert_eq!((rows.len(), rows[0].attempts), (1, 1), "the try that it was given up for counts");
        rig.set(ReceiverStatus::Paused).await;
        rig.set(ReceiverStatus::Enabled).await;
        assert_eq!(rig.drain().await, 1);
        assert_eq!(rig.told(), pairs(&[("not-compliant", "disabled"), ("compliant", "enabled")]));
        // Once, and to a receiver that was told nothing more is missing.
        rig.set(ReceiverStatus::Enabled).await;
        assert_eq!(rig.drain().await, 0);
        // Refused again, it is still missed; and asked for twice, it waits once.
        rig.refuse(2);
        rig.flip(0, false, "again").await;
        rig.drain().await;
        rig.set(ReceiverStatus::Enabled).await;
        rig.drain().await;
        assert_eq!(rig.dead().await.len(), 3);
        rig.set(ReceiverStatus::Enabled).await;
        rig.set(ReceiverStatus::Enabled).await;
        assert_eq!(rig.drain().await, 1);
        assert_eq!(rig.told()[2..], pairs(&[("not-compliant", "again")]));
    }

    async fn of_flips_that_came_to_nothing_while_one_was_given_up_nothing_is_told(store: Store) {
        let rig = rig(store, 1).await;
        rig.flip(0, false, "one").await;
        rig.drain().await;
        rig.refuse(1);
        rig.flip(0, true, "refused").await;
        rig.flip(0, false, "back").await;
        rig.drain().await;
        let fares = async || signals::receiver::list(&rig.server.app).await.unwrap().remove(0).0;
        let sent = fares().await.last_success.unwrap();
        rig.server.clock.advance(HOUR);
        rig.refuse(1);
        rig.flip(0, true, "refused").await;
        rig.flip(0, false, "back").await;
        rig.drain().await;
        assert_eq!(fares().await.last_success, Some(sent), "what was not needed was not sent");
        rig.set(ReceiverStatus::Enabled).await;
        assert_eq!(rig.drain().await, 0);
        assert_eq!(rig.told(), pairs(&[("not-compliant", "one")]));
        // Paused meanwhile, with one given up before: what is held is reckoned from what was heard.
        rig.refuse(1);
        rig.flip(0, true, "refused").await;
        rig.drain().await;
        rig.set(ReceiverStatus::Paused).await;
        for (current, reason) in [(false, "held"), (true, "last")] {
            rig.flip(0, current, reason).await;
        }
        rig.drain().await;
        rig.set(ReceiverStatus::Enabled).await;
        rig.drain().await;
        let told = rig.told();
        assert_eq!((told.len(), told[1].0.as_str()), (2, "compliant"), "{told:?}");
        assert_eq!(outbox::list(&rig.server.app, "queued", 0, 100).await.unwrap().len(), 0);
    }

    async fn what_may_have_arrived_is_never_taken_for_unheard(store: Store) {
        let rig = rig(store, 3).await;
        for device in 0..3 {
            rig.flip(device, false, "one").await;
        }
        rig.drain().await;
        // The receiver takes it, and nobody hears of that; then it is paused, and the flip comes to nothing.
        rig.receiver.lose_answers(1);
        rig.flip(0, true, "lost").await;
        rig.drain().await;
        rig.set(ReceiverStatus::Paused).await;
        rig.flip(0, false, "back").await;
        rig.server.clock.advance(HOUR);
        rig.drain().await;
        rig.set(ReceiverStatus::Enabled).await;
        rig.server.clock.advance(HOUR);
        rig.drain().await;
        assert_eq!(rig.told()[3..], pairs(&[("compliant", "lost"), ("not-compliant", "back")]));
        // Taken without a word, and given up when it comes again.
        rig.receiver.lose_answers(1);
        rig.flip(1, true, "lost").await;
        rig.drain().await;
        rig.refuse(1);
        rig.server.clock.advance(HOUR);
        rig.drain().await;
        assert_eq!(rig.dead().await.len(), 1);
        rig.flip(1, false, "back").await;
        rig.drain().await;
        assert_eq!(rig.told()[5..], pairs(&[("compliant", "lost"), ("not-compliant", "back")]));
        // Given up at the end of the retention, with a pause after that.
        rig.receiver.lose_answers(1);
        rig.flip(2, true, "lost").await;
        rig.drain().await;
        rig.set(ReceiverStatus::Paused).await;
        rig.server.clock.advance(8 * DAY);
        rig.drain().await;
        assert_eq!(rig.dead().await.len(), 2);
        rig.flip(2, false, "back").await;
        rig.set(ReceiverStatus::Enabled).await;
        rig.server.clock.advance(HOUR);
        rig.drain().await;
        assert_eq!(rig.told()[7..], pairs(&[("compliant", "lost"), ("not-compliant", "back")]));
        // Now it is known again: what comes to nothing is not told.
        rig.set(ReceiverStatus::Paused).await;
        rig.flip(2, true, "there").await;
        rig.flip(2, false, "and back").await;
        rig.set(ReceiverStatus::Enabled).await;
        rig.drain().await;
        assert_eq!(rig.told().len(), 9);
    }

    async fn what_comes_to_nothing_after_one_was_given_up_is_not_told_in_any_number_of_flips(store: Store) {
        let rig = rig(store, 1).await;
        rig.flip(0, false, "one").await;
        rig.drain().await;
        rig.refuse(1);
        rig.flip(0, true, "refused").await;
        rig.drain().await;
        rig.set(ReceiverStatus::Paused).await;
        for (current, reason) in [(false, "back"), (true, "again"), (false, "as it was")] {
            rig.flip(0, current, reason).await;
        }
        rig.drain().await;
        rig.set(ReceiverStatus::Enabled).await;
        rig.set(ReceiverStatus::Enabled).await;
        rig.drain().await;
        assert_eq!(rig.told(), pairs(&[("not-compliant", "one")]));
        rig.flip(0, true, "news").await;
        rig.drain().await;
        assert_eq!(rig.told()[1..], pairs(&[("compliant", "news")]));
    }

    async fn a_first_try_after_the_retention_that_may_have_arrived_is_not_taken_for_unheard(store: Store) {
        let rig = rig(store, 1).await;
        rig.flip(0, false, "old").await;
        // Nobody was there to send it.
        rig.server.clock.advance(30 * DAY);
        rig.receiver.lose_answers(1);
        rig.drain().await;
        assert_eq!(rig.dead().await.len(), 1);
        rig.flip(0, true, "back").await;
        rig.set(ReceiverStatus::Enabled).await;
        rig.server.clock.advance(HOUR);
        rig.drain().await;
        assert_eq!(rig.told(), pairs(&[("not-compliant", "old"), ("compliant", "back")]));
    }

    async fn what_was_held_for_too_long_is_told_once_the_receiver_is_resumed(store: Store) {
        let rig = rig(store, 3).await;
        rig.set(ReceiverStatus::Paused).await;
        for device in 0..3 {
            rig.flip(device, false, "held").await;
        }
        rig.flip(1, true, "undone").await;
        rig.drain().await;
        rig.server.clock.advance(7 * DAY);
        rig.drain().await;
        assert_eq!((rig.dead().await.len(), rig.receiver.requests().len()), (4, 0));
        rig.flip(2, true, "undone later").await;
        rig.drain().await;
        rig.set(ReceiverStatus::Enabled).await;
        rig.drain().await;
        assert_eq!(rig.told(), pairs(&[("not-compliant", "held")]));
        assert_eq!(rig.receiver.events()[0].device.as_deref(), Some(rig.devices[0].as_str()));
    }

    async fn what_one_receiver_refuses_the_other_one_is_told_as_ever(store: Store) {
        let rig = rig(store, 1).await;
        let expect = Expect {
            issuer: signals::issuer(&rig.server.app.config),
            audience: "urn:theirs".into(),
            authorization: Some(AUTHORIZATION.into()),
            roots: X509::stack_from_pem(&rig.server.root_pem).unwrap(),
            clock: Arc::new(rig.server.clock.clone()),
        };
        let theirs = Receiver::start("127.0.0.1:0".parse().unwrap(), None, expect).await.unwrap();
        add(&rig.server.app, "theirs", &theirs.url, "urn:theirs").await;
        rig.refuse(1);
        for (current, reason) in [(false, "one"), (true, "two"), (false, "three")] {
            rig.flip(0, current, reason).await;
        }
        rig.drain().await;
        assert_eq!(rig.told(), pairs(&[("not-compliant", "three")]), "the second undid the first");
        let all = pairs(&[("not-compliant", "one"), ("compliant", "two"), ("not-compliant", "three")]);
        assert_eq!(told(&theirs), all);
        // A removed receiver leaves nothing behind.
        rig.refuse(1);
        rig.flip(0, true, "four").await;
        rig.drain().await;
        let id = signals::receiver::load(&rig.server.app, "ours").await.unwrap().id;
        signals::receiver::remove(&rig.server.app, "ours", &muster::service::directory::By::local("cli:test")).await.unwrap();
        let of = signals::caep::destination(&id);
        let left = rig.server.app.store.read(move |c| muster::store::outbox::missed::list_missed(c, &of, "", 10)).await.unwrap();
        assert_eq!(left, []);
    }

    async fn a_signal_that_is_put_in_again_tells_what_is_now(store: Store) {
        let rig = rig(store, 1).await;
        let app = &rig.server.app;
        let retry = |seq| outbox::retry(app, seq, "cli:test", "local");
        let refused = |error: Error| matches!(&error, Error::Refused(r) if r.code() == "SIG0001");
        rig.refuse(2);
        for (current, reason) in [(false, "one"), (true, "two"), (false, "three")] {
            rig.flip(0, current, reason).await;
        }
        rig.drain().await;
        let dead = rig.dead().await;
        assert_eq!(dead.len(), 2);
        assert!(refused(retry(dead[0]).await.unwrap_err()), "the second made it needless");
        retry(dead[1]).await.unwrap();
        rig.server.clock.advance(HOUR);
        assert_eq!(rig.drain().await, 1);
        assert_eq!(rig.told(), pairs(&[("not-compliant", "three")]));
        // While a newer one waits, the old one is not put before it.
        rig.refuse(1);
        rig.flip(0, true, "four").await;
        rig.drain().await;
        rig.receiver.script([Answer::of(503)]);
        rig.flip(0, false, "five").await;
        rig.flip(0, true, "six").await;
        rig.drain().await;
        let last = *rig.dead().await.last().unwrap();
        assert!(refused(retry(last).await.unwrap_err()));
        rig.server.clock.advance(HOUR);
        rig.drain().await;
        assert_eq!(rig.told()[1..], pairs(&[("compliant", "six")]));
        assert!(refused(retry(last).await.unwrap_err()));
    }
}
