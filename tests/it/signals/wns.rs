//! Wakes, against a stand-in for Microsoft's service.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use muster::clock::{DAY, MINUTE};
use muster::domain::device::Platform;
use muster::ids::EnrollmentId;
use muster::service::outbox::Worker;
use muster::service::push::wns;
use muster::sim::listener::{Answer, Listener, Request, listen};
use muster::store::{audit, devices, enrollments};
use serde_json::json;

use super::worker;
use crate::desired::{device, enrollment};
use crate::support::server::Server;

#[derive(Default)]
struct State {
    tokens: Vec<Request>,
    knocks: Vec<Request>,
    script: VecDeque<Answer>,
}

/// A server, its worker, and a stand-in for WNS.
struct Rig {
    server: Server,
    worker: Arc<Worker>,
    state: Arc<Mutex<State>>,
    channel: String,
    _listener: Listener,
}

impl Rig {
    async fn new() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let seen = Arc::clone(&state);
        let handler = Arc::new(move |request: Request| -> muster::sim::listener::Answering {
            let mut state = seen.lock().unwrap();
            let answer = if request.path == "/token" {
                state.tokens.push(request);
                Answer::of(200)
                    .json(&json!({ "access_token": format!("t{}", state.tokens.len()), "expires_in": 86_400, "token_type": "bearer" }))
            } else {
                state.knocks.push(request);
                state.script.pop_front().unwrap_or_else(|| Answer::of(200))
            };
            Box::pin(std::future::ready(answer))
        });
        let listener = listen("127.0.0.1:0".parse().unwrap(), None, handler).await.unwrap();
        let address = listener.address;
        let server = Server::tweaked(move |config| {
            config.windows.wns.client_id = "ms-app://s-1-15-2".into();
            config.windows.wns.client_secret = "se&cret".to_owned().into();
            config.windows.wns.token_url = format!("http://{address}/token");
            config.windows.wns.channel_hosts = vec!["127.0.0.1".into()];
        })
        .await;
        let worker = worker(&server.app);
        Self { server, worker, state, channel: format!("http://{address}/?token=AwYAAAB"), _listener: listener }
    }

    fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state.lock().unwrap().script.extend(answers);
    }

    /// How many tokens and how many knocks there were.
    fn counts(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap();
        (state.tokens.len(), state.knocks.len())
    }

    async fn enrolled(&self, channel: &str) -> EnrollmentId {
        let pc = device("PC", Platform::Windows, None);
        let now = self.server.app.now();
        let mut enrolled = enrollment(&pc, now);
        enrolled.channel_uri = Some(channel.to_owned());
        let id = enrolled.id.clone();
        let store = &self.server.app.store;
        store
            .write(move |tx| {
                devices::insert_device(tx, &pc, now)?;
                enrollments::insert_enrollment(tx, &enrolled)
            })
            .await
            .unwrap();
        id
    }

    async fn wake(&self, id: &EnrollmentId) {
        let (id, now) = (id.clone(), self.server.app.now());
        self.server.app.store.write(move |tx| wns::enqueue_wake(tx, &id, now)).await.unwrap();
    }

    async fn drain(&self) -> usize {
        self.worker.drain().await.unwrap()
    }

    async fn channel_of(&self, id: &EnrollmentId) -> Option<String> {
        let id = id.clone();
        self.server.app.store.read(move |c| enrollments::find_channel(c, &id)).await.unwrap()
    }

    async fn drops(&self) -> usize {
        let rows = self.server.app.store.read(|c| audit::list(c, 0, 10_000)).await.unwrap();
        rows.iter().filter(|row| row.action == "enrollment.channel_drop").count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wakes_share_a_token_and_carry_what_wns_asks_for() {
    let rig = Rig::new().await;
    let pcs = [rig.enrolled(&rig.channel).await, rig.enrolled(&rig.channel).await];
    for _ in 0..3 {
        for pc in &pcs {
            rig.wake(pc).await;
        }
    }
    assert_eq!(rig.drain().await, 2, "what waits is put in once");
    assert_eq!(rig.counts(), (1, 2));
    {
        let state = rig.state.lock().unwrap();
        assert_eq!(state.tokens[0].header("content-type"), Some("application/x-www-form-urlencoded"));
        assert_eq!(
            String::from_utf8_lossy(&state.tokens[0].body),
            "grant_type=client_credentials&client_id=ms%2Dapp%3A%2F%2Fs%2D1%2D15%2D2&client_secret=se%26cret&scope=notify.windows.com"
        );
        for knock in &state.knocks {
            assert_eq!((knock.method.as_str(), knock.path.as_str()), ("POST", "/?token=AwYAAAB"));
            assert_eq!(knock.header("authorization"), Some("Bearer t1"));
            assert_eq!(knock.header("x-wns-type"), Some("wns/raw"));
            assert_eq!(knock.header("content-type"), Some("application/octet-stream"));
        }
    }
    rig.wake(&pcs[0]).await;
    assert_eq!(rig.drain().await, 1);
    assert_eq!(rig.counts(), (1, 3));
    // The token's day is over, but for the margin.
    rig.server.clock.advance(DAY - 5 * MINUTE);
    rig.wake(&pcs[0]).await;
    assert_eq!(rig.drain().await, 1);
    assert_eq!(rig.counts(), (2, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_wns_no_longer_takes_is_replaced_once() {
    let rig = Rig::new().await;
    let pc = rig.enrolled(&rig.channel).await;
    rig.script([Answer::of(401)]);
    rig.wake(&pc).await;
    assert_eq!(rig.drain().await, 1);
    assert_eq!(rig.counts(), (2, 2));
    assert_eq!(rig.state.lock().unwrap().knocks[1].header("authorization"), Some("Bearer t2"));
    // Refused with a fresh token, too: no third try now, and nobody else is asked for a while.
    rig.script([Answer::of(401), Answer::of(401)]);
    rig.wake(&pc).await;
    assert_eq!(rig.drain().await, 1);
    assert_eq!(rig.counts(), (3, 4));
    assert_eq!(rig.drain().await, 0);
    rig.server.clock.advance(MINUTE);
    assert_eq!(rig.drain().await, 1);
    assert_eq!(rig.counts().1, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_is_gone_or_not_ours_is_forgotten() {
    for status in [403, 404, 410] {
        let rig = Rig::new().await;
        let pc = rig.enrolled(&rig.channel).await;
        rig.script([Answer::of(status)]);
        rig.wake(&pc).await;
        assert_eq!(rig.drain().await, 1);
        assert_eq!((rig.channel_of(&pc).await, rig.drops().await), (None, 1), "{status}");
        rig.wake(&pc).await;
        assert_eq!(rig.drain().await, 1);
        assert_eq!(rig.counts(), (1, 1), "the device polls");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_on_a_foreign_host_is_never_asked() {
    let rig = Rig::new().await;
    for uri in [rig.channel.replace("127.0.0.1", "localhost"), "https://wns.example.org/?token=x".into(), "file:///etc/passwd".into()] {
        let pc = rig.enrolled(&uri).await;
        rig.wake(&pc).await;
        assert_eq!(rig.drain().await, 1);
        assert_eq!(rig.channel_of(&pc).await, None, "{uri}");
    }
    assert_eq!((rig.counts(), rig.drops().await), ((0, 0), 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn wns_is_left_in_peace_for_as_long_as_it_asks_and_a_wake_is_given_up_after_the_poll() {
    let rig = Rig::new().await;
    let pc = rig.enrolled(&rig.channel).await;
    rig.script([Answer::of(406).header("Retry-After", "1200")]);
    rig.wake(&pc).await;
    assert_eq!(rig.drain().await, 1);
    let other = rig.enrolled(&rig.channel).await;
    rig.wake(&other).await;
    rig.server.clock.advance(20 * MINUTE - 1);
    assert_eq!(rig.drain().await, 0);
    rig.server.clock.advance(1);
    assert_eq!(rig.drain().await, 2);
    assert_eq!(rig.counts(), (1, 3));

    rig.script([Answer::of(503)]);
    rig.wake(&pc).await;
    rig.server.clock.advance(DAY);
    assert_eq!(rig.drain().await, 1);
    let dead = rig.server.app.store.read(|c| muster::store::outbox::list_rows(c, "dead", 0, 10)).await.unwrap();
    assert_eq!(dead.len(), 1);
}
