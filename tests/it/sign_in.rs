//! People sign in at a browser: passes, passkeys, sessions, and what strangers try.

use muster::clock::{DAY, HOUR, MINUTE};
use muster::domain::passkey::{Enforcement, KeyRestrictions, Policy as PasskeyPolicy};
use muster::domain::tap::{Policy, Rules};
use muster::ids::UserId;
use muster::secret::Sealer;
use muster::service::directory::{self, By};
use muster::service::identity::{break_glass, passkey, policy, session, sign_in, tap};
use muster::store::audit;

use crate::desired::user;
use crate::support::browser::{Browser, Seen};
use crate::support::passkey::{Authenticator, PRESENT};
use crate::support::server::{Options, Server};

pub const ANA: &str = "ana@example.org";
pub const SECURITY: &str = "/account/security";
const PASSKEYS: &str = "/account/security/passkeys";
const SESSION: &str = "__Host-muster-session";
/// The model that macOS names.
const MAC: &str = "7fd635b3-2ef9-4542-8d9d-164f2c771efc";

fn by() -> By {
    By::local("cli:test")
}

/// A server with a name, as passkeys need it, and one user.
pub async fn house() -> (Server, UserId) {
    let server = Server::tweaked(|config| config.web.listen = "0.0.0.0:0".parse().unwrap()).await;
    let ana = directory::create_user(&server.app, user(ANA), &by()).await.unwrap().id;
    (server, ana)
}

pub async fn pass(server: &Server, user: &UserId, policy: Policy) -> String {
    tap::create(&server.app, user, policy, None, "cli:test", "local").await.unwrap().show().to_owned()
}

/// A browser that has just signed in with a pass.
pub async fn signed_in(server: &Server, user: &UserId) -> Browser {
    let (mut browser, pass) = (Browser::new(server), pass(server, user, Policy::default()).await);
    assert_eq!(browser.sign_in(SECURITY, ANA, &pass).await.status, 303);
    browser
}

pub async fn register(browser: &mut Browser, key: &mut Authenticator) -> Seen {
    let mark = browser.get(SECURITY).await.field("mark");
    let page = browser.post(PASSKEYS, &[("mark", &mark)]).await;
    let answer = key.create(&page.options());
    browser.post(PASSKEYS, &[("mark", &mark), ("ceremony", &page.field("ceremony")), ("answer", &answer), ("name", "Laptop")]).await
}

async fn ask(browser: &mut Browser) -> (Seen, String) {
    let mark = browser.get("/signin?again=1").await.field("mark");
    let page = browser.post("/signin/passkey", &[("mark", &mark), ("next", SECURITY)]).await;
    (page, mark)
}

async fn answer(browser: &mut Browser, mark: &str, ceremony: &str, answer: &str) -> Seen {
    browser.post("/signin/passkey", &[("mark", mark), ("next", SECURITY), ("ceremony", ceremony), ("answer", answer)]).await
}

pub async fn use_passkey(browser: &mut Browser, key: &mut Authenticator) -> Seen {
    let (page, mark) = ask(browser).await;
    let signed = key.get(&page.options());
    answer(browser, &mark, &page.field("ceremony"), &signed).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pass_opens_a_session_without_scripts_and_leads_to_a_passkey() {
    let (server, ana) = house().await;
    let mut browser = Browser::new(&server);
    let away = browser.get(SECURITY).await;
    assert_eq!((away.status, away.location.as_str()), (303, "/signin?next=%2Faccount%2Fsecurity"));
    let wrong = browser.sign_in(SECURITY, ANA, "abcd-efgh-jkmn").await;
    assert!(wrong.status == 200 && wrong.html.contains("(AUT0002)") && !browser.cookies.contains_key(SESSION), "{}", wrong.html);
    let text = pass(&server, &ana, Policy::default()).await;
    let inside = browser.sign_in(SECURITY, ANA, &text).await;
    assert_eq!((inside.status, inside.location.as_str()), (303, "/signin/welcome?next=%2Faccount%2Fsecurity"));
    let cookie = inside.cookies.iter().find(|cookie| cookie.starts_with(SESSION)).unwrap();
    for part in ["; Secure", "; HttpOnly", "; SameSite=Lax", "; Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Domain"), "{cookie}");
    let welcome = browser.get(&inside.location).await;
    assert!(welcome.html.contains("Register a passkey") && welcome.html.contains("Not now"));
    assert_eq!(browser.get(SECURITY).await.status, 200);
    // The token is nowhere in the database.
    let token = browser.cookies[SESSION].clone();
    assert!(session::find(&server.app, &token).await.unwrap().is_some_and(|signed| signed.session.hash != token));
    let again = browser.get("/signin").await;
    assert_eq!((again.status, again.location.as_str()), (303, SECURITY), "who is signed in is not asked");
    let mut other = Browser::new(&server);
    assert!(other.sign_in(SECURITY, ANA, &text).await.html.contains("(AUT0002)"), "it was for one sign-in");
    let mark = browser.get(SECURITY).await.field("mark");
    assert_eq!(browser.post("/signout", &[("mark", &mark)]).await.location, "/signin");
    assert!(!browser.cookies.contains_key(SESSION));
    browser.cookies.insert(SESSION.into(), token);
    assert_eq!(browser.get(SECURITY).await.status, 303, "the session is gone on the server, too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_with_its_pass_by_idleness_by_disabling_and_by_order() {
    let (server, ana) = house().await;
    let app = &server.app;
    let reusable = Policy { one_time: false, ..Policy::default() };
    let enter = async |browser: &mut Browser, text: &str| assert_eq!(browser.sign_in(SECURITY, ANA, text).await.status, 303);
    let mut browser = Browser::new(&server);
    // The pass ends.
    let text = pass(&server, &ana, reusable).await;
    enter(&mut browser, &text).await;
    server.clock.advance(HOUR - 1);
    assert_eq!(browser.get(SECURITY).await.status, 200);
    server.clock.advance(1);
    assert_eq!(browser.get(SECURITY).await.status, 303);
    // Another pass takes its place, and then it is deleted.
    let text = pass(&server, &ana, reusable).await;
    enter(&mut browser, &text).await;
    let next = pass(&server, &ana, reusable).await;
    assert_eq!(browser.get(SECURITY).await.status, 303);
    assert!(browser.sign_in(SECURITY, ANA, &text).await.html.contains("(AUT0002)"), "there is one pass");
    enter(&mut browser, &next).await;
    tap::end_open(app, &ana, "cli:test", "local").await.unwrap();
    assert_eq!(browser.get(SECURITY).await.status, 303);
    // The account is disabled, and enabled again.
    let text = pass(&server, &ana, reusable).await;
    enter(&mut browser, &text).await;
    directory::enable_user(app, &ana, false, &by()).await.unwrap();
    assert_eq!(browser.get(SECURITY).await.status, 303);
    directory::enable_user(app, &ana, true, &by()).await.unwrap();
    assert_eq!(browser.get(SECURITY).await.status, 303, "what ended does not come back");
    // By order.
    enter(&mut browser, &text).await;
    assert_eq!(session::end_all(app, &ana, &by()).await.unwrap(), 1);
    assert_eq!(browser.get(SECURITY).await.status, 303);
    // Nobody uses it; and whoever does, not for ever.
    let long = pass(&server, &ana, Policy { one_time: false, lifetime: 30 * DAY, ..Policy::default() }).await;
    enter(&mut browser, &long).await;
    for _ in 0..3 {
        server.clock.advance(23 * HOUR);
        assert_eq!(browser.get(SECURITY).await.status, 200);
    }
    server.clock.advance(24 * HOUR);
    assert_eq!(browser.get(SECURITY).await.status, 303);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passkey_registers_and_signs_in_without_a_user_name() {
    let (server, ana) = house().await;
    let mut browser = signed_in(&server, &ana).await;
    let mut key = Authenticator::new(&server.web);
    let added = register(&mut browser, &mut key).await;
    assert_eq!((added.status, added.location.as_str()), (303, "/account/security?said=added"), "{}", added.html);
    let page = browser.get(&added.location).await;
    assert!(page.html.contains("Laptop") && page.html.contains("The passkey is registered"), "{}", page.html);
    let mut other = Browser::new(&server);
    let (asked, _) = ask(&mut other).await;
    let options = asked.options();
    assert_eq!((&options["rpId"], &options["userVerification"]), (&"localhost".into(), &"required".into()), "{options}");
    assert!(options["allowCredentials"].as_array().is_none_or(Vec::is_empty), "nobody has said who they are");
    let inside = use_passkey(&mut other, &mut key).await;
    assert_eq!((inside.status, inside.location.as_str()), (303, SECURITY), "{}", inside.html);
    assert!(other.get(SECURITY).await.html.contains("in use now"));
    let known = passkey::list(&server.app, &ana).await.unwrap();
    assert!(known.len() == 1 && known[0].last_used_at.is_some() && !known[0].attested);
    // Who has a passkey is not asked for one.
    let text = pass(&server, &ana, Policy::default()).await;
    assert_eq!(Browser::new(&server).sign_in(SECURITY, ANA, &text).await.location, SECURITY);
    let rows = sign_in::list(&server.app, 10).await.unwrap();
    let said: Vec<_> = rows.iter().map(|row| (row.method.as_str(), row.error_code, row.user_principal_name.as_str())).collect();
    assert_eq!(said, [("tap", 0, ANA), ("passkey", 0, ANA), ("tap", 0, ANA)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passkey_that_is_wrong_in_any_way_is_refused_and_the_log_says_why() {
    let (server, ana) = house().await;
    let mut browser = signed_in(&server, &ana).await;
    let mut key = Authenticator::new(&server.web);
    assert_eq!(register(&mut browser, &mut key).await.status, 303);
    let mut other = Browser::new(&server);
    assert_eq!(use_passkey(&mut other, &mut key).await.status, 303);
    type Spoil = fn(&mut Authenticator);
    let wrongs: [(&str, Spoil); 6] = [
        ("origin", |key| key.origin = "https://evil.example".into()),
        ("relying party", |key| key.host = "evil.example".into()),
        ("verification", |key| key.flags = PRESENT),
        ("counter", |key| key.counter = 0),
        ("user handle", |key| key.user = vec![7; 16]),
        ("credential", |key| key.id = vec![9; 32]),
    ];
    let mut reasons = std::collections::BTreeSet::new();
    for (what, spoil) in wrongs {
        let mut bad = key.clone();
        bad.counter += 10;
        spoil(&mut bad);
        let refused = use_passkey(&mut other, &mut bad).await;
        assert!(refused.status == 200 && refused.html.contains("(AUT0015)"), "{what}: {}", refused.html);
        let row = sign_in::list(&server.app, 1).await.unwrap().remove(0);
        assert!(row.error_code == 50126 && row.method == "passkey" && !row.failure_reason.is_empty(), "{what}: {row:?}");
        assert!(!refused.html.contains(&row.failure_reason), "{what}: the reason is for the log");
        assert!(reasons.insert(row.failure_reason.clone()), "{what}: {}", row.failure_reason);
    }
    // A signature over another challenge, and an answer that was used.
    let (one, mark) = ask(&mut other).await;
    let (two, _) = ask(&mut other).await;
    let signed = key.get(&one.options());
    assert!(answer(&mut other, &mark, &two.field("ceremony"), &signed).await.html.contains("(AUT0015)"));
    assert_eq!(answer(&mut other, &mark, &one.field("ceremony"), &signed).await.status, 303);
    assert!(answer(&mut other, &mark, &one.field("ceremony"), &signed).await.html.contains("(AUT0010)"), "once");
    let (late, mark) = ask(&mut other).await;
    let signed = key.get(&late.options());
    server.clock.advance(passkey::LIFETIME);
    assert!(answer(&mut other, &mark, &late.field("ceremony"), &signed).await.html.contains("(AUT0010)"), "in time");
    // The same answer for somebody who may not sign in.
    directory::enable_user(&server.app, &ana, false, &by()).await.unwrap();
    assert!(use_passkey(&mut other, &mut key).await.html.contains("(AUT0015)"));
    let audited = server.app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    assert!(audited.iter().filter(|row| row.action == "signin.refused").count() >= 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_shuts_passkeys_for_others_behind_the_same_address() {
    let (server, ana) = house().await;
    let mut browser = signed_in(&server, &ana).await;
    let mut key = Authenticator::new(&server.web);
    assert_eq!(register(&mut browser, &mut key).await.status, 303);
    let spoil = async || {
        let begun = passkey::begin_sign_in(&server.app).await.unwrap();
        let visit = sign_in::Visit::of_pages([127, 0, 0, 1].into(), "x");
        passkey::finish_sign_in(&server.app, begun.token(), "{}", &visit, None).await.unwrap_err().to_string()
    };
    for _ in 0..60 {
        assert!(spoil().await.starts_with("AUT0015"));
    }
    let logged = async || sign_in::list(&server.app, 1000).await.unwrap().len();
    let before = logged().await;
    assert!(!spoil().await.starts_with("AUT0015"), "what is wrong waits");
    assert_eq!(logged().await, before, "and fills no log");
    assert_eq!(use_passkey(&mut Browser::new(&server), &mut key).await.status, 303);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_organisation_says_which_passkeys_are_taken() {
    let (server, ana) = house().await;
    let app = &server.app;
    let mut browser = signed_in(&server, &ana).await;
    let listed = |enforcement_type| PasskeyPolicy {
        key_restrictions: KeyRestrictions { is_enforced: true, enforcement_type, aa_guids: vec![MAC.into()] },
        ..PasskeyPolicy::default()
    };
    let mac =
        |server: &Server| Authenticator { aaguid: *uuid::Uuid::try_parse(MAC).unwrap().as_bytes(), ..Authenticator::new(&server.web) };
    policy::update_passkey(app, listed(Enforcement::Allow), &by()).await.unwrap();
    assert!(register(&mut browser, &mut Authenticator::new(&server.web)).await.html.contains("(AUT0011)"));
    let mut key = mac(&server);
    assert_eq!(register(&mut browser, &mut key).await.status, 303);
    assert_eq!(passkey::list(app, &ana).await.unwrap()[0].model, "macOS Platform Credential");
    // A model that is blocked later signs in no more.
    policy::update_passkey(app, listed(Enforcement::Block), &by()).await.unwrap();
    assert!(register(&mut browser, &mut mac(&server)).await.html.contains("(AUT0011)"));
    let mut other = Browser::new(&server);
    assert!(use_passkey(&mut other, &mut key).await.html.contains("(AUT0015)"));
    // Nobody vouches for this authenticator.
    let ca = crate::support::ca::Ca::new("Maker").root.to_pem().unwrap();
    let attested = PasskeyPolicy {
        is_attestation_enforced: true,
        attestation_authorities: vec![String::from_utf8(ca).unwrap()],
        ..listed(Enforcement::Allow)
    };
    policy::update_passkey(app, attested, &by()).await.unwrap();
    assert!(register(&mut browser, &mut mac(&server)).await.html.contains("(AUT0015)"));
    let closed = PasskeyPolicy { is_self_service_registration_allowed: false, ..PasskeyPolicy::default() };
    policy::update_passkey(app, closed, &by()).await.unwrap();
    let mark = browser.get(SECURITY).await.field("mark");
    assert!(browser.post(PASSKEYS, &[("mark", &mark)]).await.html.contains("(AUT0013)"));
    policy::update_passkey(app, PasskeyPolicy { enabled: false, ..PasskeyPolicy::default() }, &by()).await.unwrap();
    let page = other.get("/signin").await;
    assert!(!page.html.contains("/signin/passkey"), "{}", page.html);
    assert_eq!(
        policy::update_passkey(app, PasskeyPolicy { is_attestation_enforced: true, ..PasskeyPolicy::default() }, &by())
            .await
            .unwrap_err()
            .to_string()
            .get(..7),
        Some("AUT0014")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn methods_change_after_a_fresh_sign_in_only_and_removing_one_ends_what_began_with_it() {
    let (server, ana) = house().await;
    let mut browser = signed_in(&server, &ana).await;
    let mut key = Authenticator::new(&server.web);
    assert_eq!(register(&mut browser, &mut key).await.status, 303);
    let mut other = Browser::new(&server);
    assert_eq!(use_passkey(&mut other, &mut key).await.status, 303);
    let id = passkey::list(&server.app, &ana).await.unwrap()[0].id.clone();
    let (name, remove) = (format!("{PASSKEYS}/{id}/name"), format!("{PASSKEYS}/{id}/remove"));
    // A one-time pass opens this for ten minutes, a passkey for fifteen.
    server.clock.advance(10 * MINUTE);
    let mark = browser.get(SECURITY).await.field("mark");
    let stale = "/signin?next=%2Faccount%2Fsecurity&again=1";
    for (path, more) in [(PASSKEYS, ""), (name.as_str(), "x"), (remove.as_str(), "")] {
        assert_eq!(browser.post(path, &[("mark", &mark), ("name", more)]).await.location, stale, "{path}");
    }
    let mark = other.get(SECURITY).await.field("mark");
    assert_eq!(other.post(&name, &[("mark", &mark), ("name", "Key ring")]).await.location, "/account/security?said=renamed");
    assert!(other.get(SECURITY).await.html.contains("Key ring"));
    // Not somebody else's.
    let ben = directory::create_user(&server.app, user("ben@example.org"), &by()).await.unwrap().id;
    let text = pass(&server, &ben, Policy::default()).await;
    let mut thief = Browser::new(&server);
    assert_eq!(thief.sign_in(SECURITY, "ben@example.org", &text).await.status, 303);
    let theirs = thief.get(SECURITY).await.field("mark");
    for path in [&name, &remove] {
        assert_eq!(thief.post(path, &[("mark", &theirs), ("name", "x")]).await.status, 404, "{path}");
    }
    // The only one does not go by one press.
    let asked = other.post(&remove, &[("mark", &mark)]).await;
    assert!(asked.status == 200 && asked.html.contains("your only passkey: say that you know that"), "{}", asked.html);
    assert_eq!(passkey::list(&server.app, &ana).await.unwrap().len(), 1);
    assert_eq!(other.post(&remove, &[("mark", &mark), ("sure", "yes")]).await.status, 303);
    assert_eq!(other.get(SECURITY).await.status, 303, "that session began with it");
    assert!(use_passkey(&mut other, &mut key).await.html.contains("(AUT0015)"));
    assert_eq!(browser.get(SECURITY).await.status, 200, "this one did not");
    let audited = server.app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    for action in ["passkey.create", "passkey.update", "passkey.delete"] {
        assert!(audited.iter().any(|row| row.action == action && row.actor == format!("user:{ana}")), "{action}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_has_twenty_passkeys_at_most() {
    let (server, ana) = house().await;
    let mut browser = signed_in(&server, &ana).await;
    for _ in 0..20 {
        assert_eq!(register(&mut browser, &mut Authenticator::new(&server.web)).await.status, 303);
    }
    let mark = browser.get(SECURITY).await.field("mark");
    assert!(browser.post(PASSKEYS, &[("mark", &mark)]).await.html.contains("(AUT0016)"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forms_of_other_sites_are_refused() {
    let (server, ana) = house().await;
    let mut browser = signed_in(&server, &ana).await;
    let mut key = Authenticator::new(&server.web);
    assert_eq!(register(&mut browser, &mut key).await.status, 303);
    let id = passkey::list(&server.app, &ana).await.unwrap()[0].id.clone();
    // The mark of a stranger's own session, and that of a sign-in page, are none of this session.
    let strange = Browser::new(&server).get("/signin").await.field("mark");
    let ben = directory::create_user(&server.app, user("ben@example.org"), &by()).await.unwrap().id;
    for mark in ["", "x", &strange] {
        for path in [PASSKEYS.to_owned(), format!("{PASSKEYS}/{id}/name"), format!("{PASSKEYS}/{id}/remove"), "/signout".into()] {
            let refused = browser.post(&path, &[("mark", mark), ("name", "x")]).await;
            assert!(refused.status == 403 && refused.html.contains("form-origin"), "{path}");
        }
        let text = pass(&server, &ben, Policy { one_time: false, ..Policy::default() }).await;
        let fields = [("mark", mark), ("next", "/"), ("user_name", "ben@example.org"), ("pass", text.as_str())];
        let mut fresh = Browser::new(&server);
        assert_eq!(fresh.post("/signin", &fields).await.status, 403, "nobody is signed in as somebody else");
        assert_eq!(fresh.post("/signin/passkey", &[("mark", mark), ("next", "/")]).await.status, 403);
    }
    assert_eq!(passkey::list(&server.app, &ana).await.unwrap()[0].display_name, "Laptop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_in_leads_to_no_other_host() {
    let (server, ana) = house().await;
    let text = pass(&server, &ana, Policy { one_time: false, ..Policy::default() }).await;
    let mut key = Authenticator::new(&server.web);
    let mut browser = Browser::new(&server);
    assert_eq!(browser.sign_in(SECURITY, ANA, &text).await.status, 303);
    assert_eq!(register(&mut browser, &mut key).await.status, 303);
    for evil in ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/\t/evil.example", "\\\\evil.example"]
    {
        let mut fresh = Browser::new(&server);
        assert_eq!(fresh.sign_in(evil, ANA, &text).await.location, SECURITY, "{evil}");
        // As one writes it into the form itself, and into the address.
        let mark = fresh.get("/signin?again=1").await.field("mark");
        let fields = [("mark", mark.as_str()), ("next", evil), ("user_name", ANA), ("pass", text.as_str())];
        assert_eq!(fresh.post("/signin", &fields).await.location, SECURITY, "{evil}");
        let query = reqwest::Url::parse_with_params("https://x/", [("next", evil)]).unwrap().query().unwrap().to_owned();
        assert_eq!(fresh.get(&format!("/signin?{query}")).await.location, SECURITY, "{evil}");
        assert!(!fresh.get(&format!("/signin/welcome?{query}")).await.html.contains("evil"), "{evil}");
    }
    let mut fresh = Browser::new(&server);
    assert_eq!(fresh.sign_in("/account/devices", ANA, &text).await.location, "/account/devices");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sign_in_log_has_every_try_and_no_secret_and_is_kept_as_long_as_set() {
    let server = Server::tweaked(|config| {
        config.web.listen = "0.0.0.0:0".parse().unwrap();
        config.sign_in_days = 7;
    })
    .await;
    let ana = directory::create_user(&server.app, user(ANA), &by()).await.unwrap().id;
    let text = pass(&server, &ana, Policy::default()).await;
    let mut browser = Browser::new(&server);
    for (name, typed) in [("my-secret-word", "hunter2hunter2"), (ANA, "abcd-efgh-jkmn"), (ANA, &text)] {
        browser.sign_in(SECURITY, name, typed).await;
    }
    for _ in 0..6 {
        browser.sign_in(SECURITY, ANA, "abcd-efgh-jkmn").await;
    }
    let rows = sign_in::list(&server.app, 100).await.unwrap();
    let codes: Vec<_> = rows.iter().rev().map(|row| row.error_code).collect();
    assert_eq!(codes, [50126, 50126, 0, 50126, 50126, 50126, 50126, 50126, 50053]);
    assert_eq!(rows[8].user_principal_name, "", "what was typed as a name may be a secret");
    assert!(rows.iter().all(|row| row.ip_address == "127.0.0.1" && row.app_display_name == "Account pages" && row.is_interactive));
    let shown = format!("{rows:?}");
    for secret in ["hunter2", "my-secret-word", "abcd", &text] {
        assert!(!shown.contains(secret), "{secret}");
    }
    server.clock.advance(6 * DAY);
    muster::service::jobs::run_due(&server.app).await.unwrap();
    assert_eq!(sign_in::list(&server.app, 100).await.unwrap().len(), 9);
    server.clock.advance(DAY + 1);
    muster::service::jobs::run_due(&server.app).await.unwrap();
    assert_eq!(sign_in::list(&server.app, 100).await.unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_organisation_says_how_passes_are_and_nobody_makes_one_for_themselves() {
    let (server, ana) = house().await;
    let app = &server.app;
    let rules = Rules { minimum_lifetime_in_minutes: 30, maximum_lifetime_in_minutes: 120, is_usable_once: true, ..Rules::default() };
    policy::update_tap(app, rules, &by()).await.unwrap();
    let make = async |minutes: i64, actor: &str| {
        let asked = Policy { lifetime: minutes * MINUTE, one_time: false, ..Policy::default() };
        tap::create(app, &ana, asked, None, actor, "local")
            .await
            .map(|made| made.show().to_owned())
            .map_err(|error| error.to_string()[..7].to_owned())
    };
    assert_eq!(make(29, "cli:test").await.unwrap_err(), "AUT0019");
    assert_eq!(make(121, "cli:test").await.unwrap_err(), "AUT0019");
    assert_eq!(make(60, &format!("user:{ana}")).await.unwrap_err(), "AUT0009");
    let text = make(60, "cli:test").await.unwrap();
    let mut browser = Browser::new(&server);
    assert_eq!(browser.sign_in(SECURITY, ANA, &text).await.status, 303);
    assert!(Browser::new(&server).sign_in(SECURITY, ANA, &text).await.html.contains("(AUT0002)"), "all passes are for one use");
    let text = make(60, "cli:test").await.unwrap();
    policy::update_tap(app, Rules { enabled: false, ..rules }, &by()).await.unwrap();
    assert!(browser.sign_in(SECURITY, ANA, &text).await.html.contains("(AUT0002)"));
    policy::update_tap(app, rules, &by()).await.unwrap();
    assert_eq!(browser.sign_in(SECURITY, ANA, &text).await.status, 303);
    let bad = Rules { minimum_lifetime_in_minutes: 9, ..rules };
    assert_eq!(policy::update_tap(app, bad, &by()).await.unwrap_err().to_string()[..7], *"AUT0020");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_ends_what_one_began() {
    let (server, ana) = house().await;
    let mut browser = signed_in(&server, &ana).await;
    let mut key = Authenticator::new(&server.web);
    assert_eq!(register(&mut browser, &mut key).await.status, 303);
    let begun = passkey::begin_sign_in(&server.app).await.unwrap();
    let sealer = Sealer::parse(&server.app.sealer().to_text()).unwrap();
    let url = server.web.clone();
    let other = Server::with(Options {
        tweak: Box::new(move |config| config.web.url = Some(url)),
        store: Some(server.app.store.clone()),
        sealer: Some(sealer),
        ..Options::default()
    })
    .await;
    let signed = key.get(&serde_json::from_str(&begun.options).unwrap());
    let visit = sign_in::Visit::of_pages("192.0.2.1".parse().unwrap(), "test");
    let inside = passkey::finish_sign_in(&other.app, begun.token(), &signed, &visit, None).await.unwrap();
    assert_eq!(session::find(&server.app, inside.token()).await.unwrap().unwrap().user.id, ana);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_see_their_own_devices_and_why_they_are_not_in_order() {
    let house = crate::support::windows::House::new().await;
    house.enroll(1).await;
    let mut browser = Browser::new(&house.server);
    let text = house.pass().await;
    browser.sign_in("/account/devices", ANA, &text).await;
    let page = browser.get("/account/devices").await;
    assert!(page.status == 200 && page.html.contains("last seen") && page.html.contains("Windows PC"), "{}", page.html);
    let ben = directory::create_user(&house.server.app, user("ben@example.org"), &by()).await.unwrap().id;
    let text = pass(&house.server, &ben, Policy::default()).await;
    let mut other = Browser::new(&house.server);
    other.sign_in("/account/devices", "ben@example.org", &text).await;
    assert!(other.get("/account/devices").await.html.contains("You have no device here"), "not those of others");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passkeys_need_a_host_with_a_name_and_a_fresh_sign_in() {
    // Its address is a number.
    let server = Server::start().await;
    let ana = directory::create_user(&server.app, user(ANA), &by()).await.unwrap().id;
    let mut browser = Browser::new(&server);
    let text = pass(&server, &ana, Policy::default()).await;
    assert_eq!(browser.sign_in(SECURITY, ANA, &text).await.location, SECURITY, "nobody is asked for what does not work");
    assert!(!browser.get("/signin?again=1").await.html.contains("/signin/passkey"));
    let signed = session::find(&server.app, &browser.cookies[SESSION]).await.unwrap().unwrap();
    assert_eq!(passkey::begin_registration(&server.app, &signed).await.unwrap_err().to_string()[..7], *"AUT0012");
    server.clock.advance(10 * MINUTE);
    assert_eq!(passkey::begin_registration(&server.app, &signed).await.unwrap_err().to_string()[..7], *"AUT0017");
}

/// What `muster status` says of accounts for emergencies.
async fn break_glass_status(server: &Server) -> serde_json::Value {
    break_glass::status(&server.app).await.unwrap().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_for_emergencies_gets_in_past_the_policies_and_each_use_is_an_alarm() {
    let (server, ana) = house().await;
    let app = &server.app;
    assert!(break_glass_status(&server).await.is_null());
    let mut key = Authenticator::new(&server.web);
    let mut browser = signed_in(&server, &ana).await;
    register(&mut browser, &mut key).await;
    let text = pass(&server, &ana, Policy { one_time: false, lifetime: 20 * DAY, ..Policy::default() }).await;
    // Passes are off, and no passkey of this kind is taken any more.
    policy::update_tap(app, Rules { enabled: false, ..Rules::default() }, &by()).await.unwrap();
    let key_restrictions = KeyRestrictions { is_enforced: true, enforcement_type: Enforcement::Allow, aa_guids: vec![MAC.into()] };
    policy::update_passkey(app, PasskeyPolicy { key_restrictions, ..PasskeyPolicy::default() }, &by()).await.unwrap();
    let mut other = Browser::new(&server);
    assert!(other.sign_in(SECURITY, ANA, &text).await.html.contains("(AUT0002)"));
    assert!(use_passkey(&mut other, &mut key).await.html.contains("(AUT0013)") || !other.cookies.contains_key(SESSION));
    break_glass::add(app, &ana, &by()).await.unwrap();
    break_glass::add(app, &ana, &by()).await.unwrap();
    let said = break_glass_status(&server).await;
    assert_eq!((said["accounts"].as_u64(), said["alarm"].as_str()), (Some(1), None), "{said}");
    assert!(said["advice"].as_str().unwrap().contains("at least two"), "{said}");
    assert_eq!(use_passkey(&mut other, &mut key).await.status, 303);
    assert!(break_glass_status(&server).await["alarm"].is_string());
    assert_eq!(other.sign_in(SECURITY, ANA, &text).await.status, 303);
    let log = app.store.read(|conn| audit::list(conn, 0, 500)).await.unwrap();
    assert_eq!(log.iter().filter(|row| row.action == "break-glass.use").count(), 2, "each use");
    // Nobody takes it away by the way.
    let refused = directory::enable_user(app, &ana, false, &by()).await.unwrap_err();
    assert!(matches!(refused, muster::service::Error::Refused(refusal) if refusal.code() == "USR0015"), "{refused:?}");
    let refused = directory::delete_user(app, &ana, &by()).await.unwrap_err();
    assert!(matches!(refused, muster::service::Error::Refused(refusal) if refusal.code() == "USR0015"), "{refused:?}");
    server.clock.advance(8 * DAY);
    assert!(break_glass_status(&server).await["alarm"].is_null(), "old news");
    break_glass::remove(app, &ana, &by()).await.unwrap();
    assert!(matches!(break_glass::remove(app, &ana, &by()).await, Err(muster::service::Error::NotFound(_))));
    assert!(other.sign_in(SECURITY, ANA, &text).await.html.contains("(AUT0002)"), "the policies hold again");
    directory::enable_user(app, &ana, false, &by()).await.unwrap();
    let refused = break_glass::add(app, &ana, &by()).await.unwrap_err();
    assert!(matches!(refused, muster::service::Error::Refused(muster::domain::Refusal::AccountDisabled)), "{refused:?}");
    for number in 0..10 {
        let made = directory::create_user(app, user(&format!("spare{number}@example.org")), &by()).await.unwrap();
        break_glass::add(app, &made.id, &by()).await.unwrap();
    }
    let more = directory::create_user(app, user("spare@example.org"), &by()).await.unwrap();
    let refused = break_glass::add(app, &more.id, &by()).await.unwrap_err();
    assert!(matches!(refused, muster::service::Error::Refused(refusal) if refusal.code() == "USR0016"), "{refused:?}");
}
