//! Temporary Access Passes and enrolment tokens: making, checking, slowing down guesses.

use std::net::IpAddr;

use muster::clock::{DAY, MINUTE, Time};
use muster::domain::Refusal;
use muster::domain::device::Platform;
use muster::domain::tap::Policy;
use muster::domain::user::{Details, User};
use muster::ids::UserId;
use muster::service::Error;
use muster::service::backup::finish_restore;
use muster::service::identity::{tap, token};
use muster::store::backup::{Note, RESTORED};
use muster::store::{audit, meta, users};

use crate::support::server::Server;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

async fn person(server: &Server, upn: &str, enabled: bool) -> UserId {
    let user = User {
        id: UserId::new(),
        upn: upn.into(),
        display_name: upn.into(),
        mail: None,
        sam_account_name: None,
        security_identifier: None,
        distinguished_name: None,
        enabled,
        details: Details::default(),
    };
    let id = user.id.clone();
    server.app.store.write(move |tx| users::insert_user(tx, &user, Time(1))).await.unwrap();
    id
}

async fn pass(server: &Server, user: &UserId, policy: Policy) -> String {
    tap::create(&server.app, user, policy, None, "cli:test", "local").await.unwrap().show().to_owned()
}

fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> &'static str {
    match result {
        Err(Error::Refused(refusal)) => refusal.code(),
        Err(Error::Throttled(_)) => "throttled",
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pass_signs_in_as_it_is_typed_and_a_one_time_pass_once() {
    let server = Server::start().await;
    let ana = person(&server, "ana@example.org", true).await;
    let text = pass(&server, &ana, Policy::default()).await;
    assert_eq!(text.len(), 14, "{text}");
    assert_eq!(tap::check(&server.app, " ANA@example.org ", &text.to_uppercase(), HERE).await.unwrap().user.id, ana);
    let made = token::create_with_tap(&server.app, "ana@example.org", &text.replace('-', ""), HERE, Platform::Windows, None).await.unwrap();
    assert_eq!(token::check(&server.app, made.expose(), &[Platform::Windows]).await.unwrap().user.id, ana);
    assert_eq!(code(token::check(&server.app, made.expose(), &[Platform::Ios]).await), Refusal::TokenInvalid.code());
    let again = token::create_with_tap(&server.app, "ana@example.org", &text, HERE, Platform::Windows, None).await;
    assert_eq!(code(again), Refusal::SignInFailed.code());
    let by = muster::service::directory::By::local("cli:test");
    muster::service::directory::enable_user(&server.app, &ana, false, &by).await.unwrap();
    assert_eq!(code(token::check(&server.app, made.expose(), &[Platform::Windows]).await), "AUT0001");
    server.clock.advance(token::LIFETIME);
    assert_eq!(code(token::check(&server.app, made.expose(), &[Platform::Windows]).await), Refusal::TokenInvalid.code());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reusable_pass_is_good_until_it_expires() {
    let server = Server::start().await;
    let ana = person(&server, "ana@example.org", true).await;
    let text = pass(&server, &ana, Policy { one_time: false, length: 20, lifetime: DAY }).await;
    for _ in 0..3 {
        token::create_with_tap(&server.app, "ana@example.org", &text, HERE, Platform::Windows, None).await.unwrap();
    }
    server.clock.advance(DAY);
    assert_eq!(code(tap::check(&server.app, "ana@example.org", &text, HERE).await), Refusal::SignInFailed.code());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guesses_are_slowed_down_alike_for_known_unknown_and_disabled_users_and_lock_nobody_out_elsewhere() {
    let server = Server::start().await;
    let ana = person(&server, "ana@example.org", true).await;
    let ben = person(&server, "ben@example.org", true).await;
    let right = pass(&server, &ana, Policy::default()).await;
    let disabled = pass(&server, &ben, Policy::default()).await;
    let by = muster::service::directory::By::local("cli:test");
    muster::service::directory::enable_user(&server.app, &ben, false, &by).await.unwrap();
    for (name, text) in [("ana@example.org", "abcdefgh"), ("nobody@example.org", "abcdefgh"), ("ben@example.org", disabled.as_str())] {
        for _ in 0..5 {
            assert_eq!(code(tap::check(&server.app, name, text, HERE).await), Refusal::SignInFailed.code(), "{name}");
        }
        for _ in 0..5 {
            assert_eq!(code(tap::check(&server.app, name, text, HERE).await), "throttled", "{name}");
        }
    }
    assert_eq!(code(tap::check(&server.app, "ana@example.org", &right, HERE).await), "throttled", "even the right pass waits");
    assert_eq!(tap::check(&server.app, "ana@example.org", &right, THERE).await.unwrap().user.id, ana, "from elsewhere she gets in");
    server.clock.advance(MINUTE);
    assert_eq!(tap::check(&server.app, "ana@example.org", &right, HERE).await.unwrap().user.id, ana);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_tried_too_often_is_shut_for_wrong_passes_only() {
    let server = Server::start().await;
    let (ana, ben) = (person(&server, "ana@example.org", true).await, person(&server, "ben@example.org", true).await);
    let reusable = Policy { one_time: false, ..Policy::default() };
    let (anas, bens) = (pass(&server, &ana, reusable).await, pass(&server, &ben, reusable).await);
    for number in 0..60 {
        let name = format!("invented{number}@example.org");
        assert_eq!(code(tap::check(&server.app, &name, "abcdefgh", HERE).await), Refusal::SignInFailed.code());
    }
    assert_eq!(code(tap::check(&server.app, "another@example.org", "abcdefgh", HERE).await), "throttled");
    assert_eq!(tap::check(&server.app, "ana@example.org", &anas, HERE).await.unwrap().user.id, ana);
    // Guesses at one person are counted all the same.
    for _ in 0..5 {
        assert_eq!(code(tap::check(&server.app, "ben@example.org", "abcdefgh", HERE).await), "throttled");
    }
    assert_eq!(code(tap::check(&server.app, "ben@example.org", &bens, HERE).await), "throttled");
    assert_eq!(tap::check(&server.app, "ben@example.org", &bens, THERE).await.unwrap().user.id, ben);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_guesses_at_once_are_a_hundred_guesses() {
    let server = Server::start().await;
    person(&server, "ana@example.org", true).await;
    let tries = (0..100).map(|_| tap::check(&server.app, "ana@example.org", "abcdefgh", HERE));
    let results = futures_util::future::join_all(tries).await;
    let refused = results.into_iter().map(code).filter(|code| *code != "throttled").count();
    assert_eq!(refused, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_are_nowhere_to_be_read() {
    let server = Server::start().await;
    let ana = person(&server, "ana@example.org", true).await;
    let text = pass(&server, &ana, Policy::default()).await;
    tap::check(&server.app, "ana@example.org", &text, HERE).await.unwrap();
    let rows = server.app.store.read(|c| audit::list(c, 0, 100)).await.unwrap();
    let shown = format!("{rows:?}");
    assert!(shown.contains("tap.create") && !shown.contains(&text) && !shown.contains(&text.replace('-', "")));
}

#[tokio::test]
async fn guesses_from_one_network_of_ipv6_count_together() {
    let server = Server::start().await;
    person(&server, "ana@example.org", true).await;
    for n in 0..5_u16 {
        let address = IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, n]);
        assert_eq!(code(tap::check(&server.app, "ana@example.org", "abcdefgh", address).await), Refusal::SignInFailed.code());
    }
    let (same, other) = (IpAddr::from([0x2001, 0xdb8, 0, 1, 9, 9, 9, 9]), IpAddr::from([0x2001, 0xdb8, 0, 2, 0, 0, 0, 0]));
    assert_eq!(code(tap::check(&server.app, "ana@example.org", "abcdefgh", same).await), "throttled");
    assert_eq!(code(tap::check(&server.app, "ana@example.org", "abcdefgh", other).await), Refusal::SignInFailed.code());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_may_be_used_once_outlives_a_restoration() {
    let server = Server::start().await;
    let app = &server.app;
    let ana = person(&server, "ana@example.org", true).await;
    let used = pass(&server, &ana, Policy::default()).await;
    let open = token::create_with_tap(app, "ana@example.org", &used, HERE, Platform::Windows, None).await.unwrap();
    let text = pass(&server, &ana, Policy::default()).await;
    let note = Note { by: "cli:test".into(), from: "copy.db".into(), at: "2026-01-01T00:00:00Z".into() };
    let note = serde_json::to_string(&note).unwrap();
    app.store.write(move |tx| meta::upsert_value(tx, RESTORED, &note)).await.unwrap();
    finish_restore(app).await.unwrap();
    assert_eq!(code(tap::check(app, "ana@example.org", &text, HERE).await), Refusal::SignInFailed.code());
    assert_eq!(code(token::check(app, open.expose(), &[Platform::Windows]).await), Refusal::TokenInvalid.code());
    let rows = app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    let row = rows.iter().find(|row| row.action == "instance.restore").unwrap();
    assert!(row.after.as_deref().unwrap().contains("\"ended\":3"), "{row:?}");
    // What is made from then on is good.
    let fresh = pass(&server, &ana, Policy::default()).await;
    assert_eq!(tap::check(app, "ana@example.org", &fresh, HERE).await.unwrap().user.id, ana);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_has_one_open_pass_and_a_new_one_takes_its_place() {
    let server = Server::start().await;
    let ana = person(&server, "ana@example.org", true).await;
    let create = || tap::create(&server.app, &ana, Policy::default(), None, "cli:test", "local");
    // Also when several are made at once.
    for made in futures_util::future::join_all((0..8).map(|_| create())).await {
        made.unwrap();
    }
    assert_eq!(tap::list(&server.app, &ana).await.unwrap().len(), 1);
    let before = create().await.unwrap().show().to_owned();
    let newest = create().await.unwrap().show().to_owned();
    assert_eq!(code(tap::check(&server.app, "ana@example.org", &before, HERE).await), "AUT0002");
    assert_eq!(tap::check(&server.app, "ana@example.org", &newest, HERE).await.unwrap().user.id, ana);
    assert_eq!(tap::end_open(&server.app, &ana, "cli:test", "local").await.unwrap(), 1);
    assert_eq!(code(tap::check(&server.app, "ana@example.org", &newest, HERE).await), "AUT0002");
    create().await.unwrap();
    let by = muster::service::directory::By::local("cli:test");
    muster::service::directory::enable_user(&server.app, &ana, false, &by).await.unwrap();
    assert_eq!(code(create().await), "AUT0001");
}
