//! Applications get tokens in a person's name, over real TLS and with a browser's cookies: codes, refresh tokens, codes for other devices,
//! consent, signing out; and what thieves and careless applications try.

mod attacks;
mod device;
mod msal;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use muster::clock::{DAY, HOUR, MINUTE};
use muster::domain::access::Scope;
use muster::domain::application::{Application, Client, Grants, Redirect};
use muster::domain::tap::Policy;
use muster::ids::UserId;
use muster::service::application::{self, New};
use muster::service::directory::{self, By};
use muster::service::identity::{session, sign_in, tap};
use muster::store::audit;
use muster::wire::jwt::Compact;
use openssl::sha::sha256;
use reqwest::Url;
use serde_json::{Value, json};

use crate::desired::user;
use crate::support::browser::{Browser, Seen};
use crate::support::server::Server;

const ANA: &str = "ana@example.org";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const NATIVE: &str = "http://localhost:4711/";
const WEB: &str = "https://app.example/cb?keep=1";
const SPA: &str = "https://spa.example/";

fn by() -> By {
    By::local("cli:test")
}

/// A server, a person at a browser, and an application of three kinds of redirect URIs.
struct House {
    server: Server,
    ana: UserId,
    application: Application,
    browser: Browser,
}

impl House {
    async fn new() -> Self {
        let server = Server::start().await;
        let ana = directory::create_user(&server.app, user(ANA), &by()).await.unwrap().id;
        let application = application_of(&server, "Companion", &[Scope::DeviceReadAll]).await;
        let browser = Browser::new(&server);
        Self { server, ana, application, browser }
    }

    /// The person signs in with a pass that lasts.
    async fn sign_in(&mut self) -> String {
        self.sign_in_for(8 * HOUR).await
    }

    async fn sign_in_for(&mut self, lifetime: i64) -> String {
        let reusable = Policy { one_time: false, lifetime, ..Policy::default() };
        let pass = tap::create(&self.server.app, &self.ana, reusable, None, "cli:test", "local").await.unwrap().show().to_owned();
        assert_eq!(self.browser.sign_in("/account/security", ANA, &pass).await.status, 303);
        pass
    }

    fn path(&self, fields: &[(&str, &str)]) -> String {
        let challenge = URL_SAFE_NO_PAD.encode(sha256(VERIFIER.as_bytes()));
        let mut all: BTreeMap<&str, &str> = BTreeMap::from([
            ("client_id", self.application.client_id.as_str()),
            ("response_type", "code"),
            ("redirect_uri", NATIVE),
            ("scope", "openid profile offline_access User.Read"),
            ("state", "st&te=1"),
            ("nonce", "n-1"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        all.extend(fields.iter().copied());
        all.retain(|_, value| !value.is_empty());
        let query = Url::parse_with_params("https://x/", all).unwrap().query().unwrap().to_owned();
        format!("/{}/oauth2/v2.0/authorize?{query}", self.server.app.tenant)
    }

    async fn authorize(&mut self, fields: &[(&str, &str)]) -> Seen {
        let path = self.path(fields);
        self.browser.get(&path).await
    }

    /// A code for the native program of a person who is signed in.
    async fn code(&mut self, fields: &[(&str, &str)]) -> String {
        let seen = self.authorize(fields).await;
        answered(&seen)["code"].clone()
    }

    async fn token(&self, fields: &[(&str, &str)]) -> (u16, Value) {
        let url = format!("{}/{}/oauth2/v2.0/token", self.server.web, self.server.app.tenant);
        let mut all: BTreeMap<&str, &str> = BTreeMap::from([("client_id", self.application.client_id.as_str())]);
        all.extend(fields.iter().copied());
        all.retain(|_, value| !value.is_empty());
        let answer = self.server.client().post(url).form(&all).send().await.unwrap();
        assert_eq!(answer.headers()["access-control-allow-origin"], "*", "programs in a browser read it");
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn exchange(&self, code: &str, more: &[(&str, &str)]) -> (u16, Value) {
        let mut fields = vec![("grant_type", "authorization_code"), ("code", code), ("redirect_uri", NATIVE), ("code_verifier", VERIFIER)];
        fields.extend_from_slice(more);
        self.token(&fields).await
    }

    async fn refresh(&self, token: &str) -> (u16, Value) {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", token)]).await
    }

    /// The status of the API for that access token.
    async fn me(&self, token: &Value) -> u16 {
        let request = self.server.client().get(format!("{}/v1.0/me", self.server.web)).bearer_auth(token.as_str().unwrap());
        request.send().await.unwrap().status().as_u16()
    }

    /// Tokens of a person who has just signed in.
    async fn tokens(&mut self) -> Value {
        let code = self.code(&[]).await;
        let (status, tokens) = self.exchange(&code, &[]).await;
        assert_eq!(status, 200, "{tokens}");
        tokens
    }
}

async fn application_of(server: &Server, name: &str, delegated: &[Scope]) -> Application {
    let redirects = [(Client::Native, "http://localhost"), (Client::Web, WEB), (Client::SinglePage, SPA)]
        .map(|(client, uri)| Redirect::new(client, uri).unwrap())
        .to_vec();
    let new = New { display_name: name.into(), redirects, logout_redirects: vec!["https://app.example/out".into()], ..New::default() };
    let made = application::create(&server.app, new, &by()).await.unwrap();
    let grants = Grants { delegated: delegated.iter().copied().collect(), ..Grants::default() };
    application::grant(&server.app, &made.id, grants, &by()).await.unwrap();
    made
}

/// What the application is told in the query.
fn answered(seen: &Seen) -> BTreeMap<String, String> {
    assert_eq!(seen.status, 302, "{} {}", seen.location, seen.html);
    let url = Url::parse(&seen.location).unwrap();
    url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

/// The number of a failure, and its word.
fn failure((status, body): (u16, Value)) -> (u16, String, u64) {
    (status, body["error"].as_str().unwrap_or_default().to_owned(), body["error_codes"][0].as_u64().unwrap_or_default())
}

fn claims(token: &Value) -> Value {
    Value::Object(Compact::parse(token.as_str().unwrap()).unwrap().claims)
}

#[actix_web::test]
async fn a_person_signs_in_to_an_application_that_reads_who_they_are() {
    let mut house = House::new().await;
    let path = house.path(&[("login_hint", ANA)]);
    let away = house.browser.get(&path).await;
    assert!(away.status == 303 && away.location.starts_with("/signin?next="), "{}", away.location);
    assert!(away.location.ends_with("&login_hint=ana%40example%2Eorg"), "{}", away.location);
    // The sign-in page leads back to the request, and its form may end at the application.
    let pass = tap::create(&house.server.app, &house.ana, Policy::default(), None, "cli:test", "local").await.unwrap().show().to_owned();
    let page = house.browser.get(&away.location).await;
    let (mark, next) = (page.field("mark"), page.field("next"));
    let inside = house.browser.post("/signin", &[("mark", &mark), ("next", &next), ("user_name", ANA), ("pass", &pass)]).await;
    assert_eq!((inside.status, &inside.location), (303, &next));
    let seen = house.browser.get(&next).await;
    let told = answered(&seen);
    assert_eq!(told["state"], "st&te=1");
    assert_eq!(told["iss"], format!("{}/{}/v2.0", house.server.web, house.server.app.tenant));
    let link = seen.html.split_once("href=\"").unwrap().1.split_once('"').unwrap().0.replace("&amp;", "&");
    assert_eq!(link, seen.location, "some clients read the page and not the header");

    let (status, tokens) = house.exchange(&told["code"], &[("client_info", "1")]).await;
    assert_eq!(status, 200, "{tokens}");
    assert_eq!((&tokens["token_type"], &tokens["scope"]), (&json!("Bearer"), &json!("openid profile User.Read")));
    assert!(tokens["expires_in"].as_i64().unwrap() > 3500 && tokens["refresh_token"].as_str().unwrap().contains('.'));
    let info: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(tokens["client_info"].as_str().unwrap()).unwrap()).unwrap();
    assert_eq!(info, json!({ "uid": house.ana, "utid": house.server.app.tenant }));
    let id = claims(&tokens["id_token"]);
    assert_eq!((&id["aud"], &id["nonce"]), (&json!(house.application.client_id), &json!("n-1")));
    assert_eq!((&id["sub"], &id["preferred_username"]), (&json!(house.ana), &json!(ANA)));
    assert_eq!(id["amr"], json!(["otp", "mfa", "ngcmfa"]));
    assert_eq!(id["email"], Value::Null, "it was not asked for");
    assert_eq!(house.me(&tokens["access_token"]).await, 200);
    let access = claims(&tokens["access_token"]);
    assert_eq!((&access["scp"], &access["azp"]), (&json!("openid profile User.Read"), &json!(house.application.client_id)));

    let userinfo = async |token: &str| {
        let request = house.server.client().get(format!("{}/oidc/userinfo", house.server.web)).bearer_auth(token);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let (status, said) = userinfo(tokens["access_token"].as_str().unwrap()).await;
    assert_eq!((status, &said["sub"], &said["preferred_username"]), (200, &json!(house.ana), &json!(ANA)));
    assert_eq!(userinfo(tokens["id_token"].as_str().unwrap()).await.0, 401, "an identity token opens nothing");
    assert_eq!(house.me(&tokens["id_token"]).await, 401);

    // The log names the application.
    let log = sign_in::list(&house.server.app, 10).await.unwrap();
    assert_eq!((log[0].app_id.as_str(), log[0].app_display_name.as_str()), (house.application.client_id.as_str(), "Companion"));
    assert_eq!(log[0].user_principal_name, ANA);
}

#[actix_web::test]
async fn answers_come_in_the_way_that_was_asked_for() {
    let mut house = House::new().await;
    house.sign_in().await;
    let seen = house.authorize(&[("response_mode", "fragment")]).await;
    assert!(seen.location.starts_with(&format!("{NATIVE}#code=")), "{}", seen.location);
    let page = house
        .authorize(&[("response_mode", "form_post"), ("redirect_uri", WEB), ("code_challenge", ""), ("code_challenge_method", "")])
        .await;
    assert_eq!((page.status, page.field("state").as_str()), (200, "st&te=1"));
    assert!(page.html.contains("action=\"https://app.example/cb?keep=1\""), "{}", page.html);
    assert!(page.field("code").len() > 40);
    let seen = house.authorize(&[("redirect_uri", WEB)]).await;
    assert!(seen.location.starts_with("https://app.example/cb?keep=1&code="), "{}", seen.location);
    // By a form, too; and the older form of the protocol names the resource.
    let path = house.path(&[]);
    let (path, query) = path.split_once('?').unwrap();
    let fields: Vec<(String, String)> = Url::parse(&format!("https://x/?{query}")).unwrap().query_pairs().into_owned().collect();
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert!(answered(&house.browser.post(path, &fields).await).contains_key("code"));
    let old = house.path(&[("scope", ""), ("resource", "00000003-0000-0000-c000-000000000000")]).replace("/oauth2/v2.0/", "/OAuth2/");
    let code = answered(&house.browser.get(&old).await)["code"].clone();
    let url = format!("{}/common/oauth2/token", house.server.web);
    let fields = [
        ("client_id", house.application.client_id.as_str()),
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", NATIVE),
        ("code_verifier", VERIFIER),
        ("resource", "https://graph.microsoft.com"),
    ];
    let tokens: Value = house.server.client().post(url).form(&fields).send().await.unwrap().json().await.unwrap();
    assert_eq!((&tokens["resource"], &tokens["expires_in"]), (&json!("https://graph.microsoft.com"), &json!("3600")), "{tokens}");
    assert_eq!(tokens["scope"], "openid profile Device.Read.All");
    assert!(tokens["expires_on"].is_string() && tokens["id_token"].is_string());
}

#[actix_web::test]
async fn a_program_says_how_fresh_the_sign_in_must_be() {
    let mut house = House::new().await;
    let told = answered(&house.authorize(&[("prompt", "none")]).await);
    assert_eq!((told["error"].as_str(), told["state"].as_str()), ("login_required", "st&te=1"));
    assert!(told["error_description"].starts_with("AADSTS50058: "));
    let pass = house.sign_in().await;
    assert!(answered(&house.authorize(&[("prompt", "none")]).await).contains_key("code"));
    house.server.clock.advance(10 * MINUTE);
    assert!(answered(&house.authorize(&[("max_age", "900")]).await).contains_key("code"));
    for fields in [&[("max_age", "300")], &[("max_age", "0")], &[("prompt", "login")]] {
        let away = house.authorize(fields).await;
        assert!(away.location.starts_with("/signin?next=") && away.location.contains("&again=1"), "{fields:?} {}", away.location);
        let back = house.browser.get(&away.location).await.field("next");
        let again = house.browser.get(&back).await;
        assert_eq!(again.status, 303, "the old sign-in does not do: {fields:?}");
        house.server.clock.advance(1);
        let entered = house.browser.sign_in(&back, ANA, &pass).await;
        assert_eq!(entered.status, 303);
        assert!(answered(&house.browser.get(&back).await).contains_key("code"), "{fields:?}");
        house.server.clock.advance(10 * MINUTE);
    }
    let choose = house.authorize(&[("prompt", "select_account")]).await;
    assert!(choose.status == 200 && choose.html.contains(ANA) && choose.html.contains("Use another account"), "{}", choose.html);
    let go_on = choose.html.split_once("href=\"").unwrap().1.split_once('"').unwrap().0.replace("&#38;", "&").replace("&amp;", "&");
    assert!(answered(&house.browser.get(&go_on).await).contains_key("code"));
    let told = answered(&house.authorize(&[("prompt", "none login")]).await);
    assert_eq!(told["error"], "invalid_request");
}

#[actix_web::test]
async fn refresh_tokens_are_exchanged_and_end() {
    let mut house = House::new().await;
    house.sign_in().await;
    let first = house.tokens().await;
    let (status, second) = house.refresh(first["refresh_token"].as_str().unwrap()).await;
    assert_eq!(status, 200, "{second}");
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    assert_eq!(claims(&second["id_token"])["auth_time"], claims(&first["id_token"])["auth_time"]);
    // The answer was lost: a moment later the same comes again.
    let (_, again) = house.refresh(first["refresh_token"].as_str().unwrap()).await;
    assert_eq!(again["refresh_token"], second["refresh_token"]);
    // Other permissions that an administrator consented to, and none that he did not.
    let with = async |tokens: &Value, scope: &str| {
        let fields = [("grant_type", "refresh_token"), ("refresh_token", tokens["refresh_token"].as_str().unwrap()), ("scope", scope)];
        house.token(&fields).await
    };
    let (_, third) = with(&second, "Device.Read.All").await;
    assert_eq!(third["scope"], "Device.Read.All");
    let (status, missing) = with(&third, "User.ReadWrite.All").await;
    assert_eq!(missing["suberror"], "consent_required");
    assert_eq!(failure((status, missing)), (400, "invalid_grant".into(), 65001));
    assert_eq!(failure(with(&third, "Nope").await), (400, "invalid_scope".into(), 70011));
    // What was refused has used nothing up, however much later the client goes on.
    house.server.clock.advance(5 * MINUTE);
    let (_, third) = house.refresh(third["refresh_token"].as_str().unwrap()).await;
    // No token outlives the pass.
    house.server.clock.advance(8 * HOUR - 10 * MINUTE);
    let (_, late) = with(&third, "User.Read").await;
    assert!((290..=300).contains(&late["expires_in"].as_i64().unwrap()), "{late}");
    assert!(house.refresh(late["refresh_token"].as_str().unwrap()).await.1["id_token"].is_string());
    let id = claims(&third["id_token"]);
    assert_eq!(id["exp"].as_i64().unwrap() - id["iat"].as_i64().unwrap(), 3600);
    house.server.clock.advance(6 * MINUTE);
    assert_eq!(failure(house.refresh(late["refresh_token"].as_str().unwrap()).await), (400, "invalid_grant".into(), 70008));
}

#[actix_web::test]
async fn what_a_person_gave_ends_with_the_pass_the_session_and_the_account() {
    let mut house = House::new().await;
    let ends = async |house: &mut House, how: &str| {
        house.sign_in().await;
        let tokens = house.tokens().await;
        assert_eq!(house.me(&tokens["access_token"]).await, 200, "{how}");
        let app = &house.server.app;
        match how {
            "by order" => assert_eq!(session::end_all(app, &house.ana, &by()).await.unwrap(), 1),
            "with the pass" => assert_eq!(tap::end_open(app, &house.ana, "cli:test", "local").await.unwrap(), 1),
            _ => {
                directory::enable_user(app, &house.ana, false, &by()).await.unwrap();
                directory::enable_user(app, &house.ana, true, &by()).await.unwrap();
            }
        }
        assert_eq!(house.me(&tokens["access_token"]).await, 401, "{how}");
        assert_eq!(failure(house.refresh(tokens["refresh_token"].as_str().unwrap()).await), (400, "invalid_grant".into(), 70000), "{how}");
    };
    for how in ["by order", "with the pass", "with the account"] {
        ends(&mut house, how).await;
    }
    // Consent that is taken back takes the permission, though not who signed in.
    house.sign_in().await;
    let code = house.code(&[("scope", "offline_access Device.Read.All")]).await;
    let (_, tokens) = house.exchange(&code, &[]).await;
    application::grant(&house.server.app, &house.application.id, Grants::default(), &by()).await.unwrap();
    assert_eq!(failure(house.refresh(tokens["refresh_token"].as_str().unwrap()).await), (400, "invalid_grant".into(), 65001));
}

#[actix_web::test]
async fn an_administrator_consents_for_everybody_and_nobody_else_does() {
    let mut house = House::new().await;
    house.sign_in().await;
    let wish = [("scope", "User.Read Group.ReadWrite.All")];
    let seen = house.authorize(&wish).await;
    assert!(seen.status == 400 && seen.location.is_empty() && seen.html.contains("AADSTS65001"), "{} {}", seen.status, seen.html);
    let told = answered(&house.authorize(&[wish[0], ("prompt", "none")]).await);
    assert_eq!(told["error"], "consent_required");
    // Who may not consent cannot do so by the form either.
    let mark = house.browser.get("/account/security").await.field("mark");
    let path = house.path(&wish);
    let query = path.split_once('?').unwrap().1.to_owned();
    let tenant = house.server.app.tenant.to_string();
    let fields = [("mark", mark.as_str()), ("tenant", &tenant), ("request", &query), ("shown", "Group.ReadWrite.All"), ("accept", "yes")];
    assert!(house.browser.post("/consent", &fields).await.html.contains("AADSTS65001"));
    assert_eq!(
        house
            .browser
            .post("/consent", &[("mark", "x"), ("tenant", &tenant), ("request", &query), ("shown", ""), ("accept", "yes")])
            .await
            .status,
        403
    );

    crate::graph::access::give(&house.server, "administrator", &house.ana).await;
    // What began with the pass ended with the new role.
    house.sign_in().await;
    let page = house.authorize(&wish).await;
    assert!(
        page.status == 200 && page.html.contains("<code>Group.ReadWrite.All</code>") && !page.html.contains("<code>User.Read</code>"),
        "{}",
        page.html
    );
    let (mark, request) = (page.field("mark"), page.field("request"));
    let shown = page.field("shown");
    let no = house.browser.post("/consent", &[("mark", &mark), ("tenant", &tenant), ("request", &request), ("shown", &shown)]).await;
    assert_eq!(answered(&no)["error"], "access_denied");
    let yes = [("mark", mark.as_str()), ("tenant", &tenant), ("request", &request), ("shown", "User.Read"), ("accept", "yes")];
    let unseen = house.browser.post("/consent", &yes).await;
    let again = house.browser.get(&unseen.location).await;
    assert!(again.status == 200 && again.html.contains("Accept for everybody"), "what was not shown is not accepted");
    let yes = [("mark", mark.as_str()), ("tenant", &tenant), ("request", &request), ("shown", &shown), ("accept", "yes")];
    let yes = house.browser.post("/consent", &yes).await;
    assert_eq!(yes.status, 303);
    assert!(answered(&house.browser.get(&yes.location).await).contains_key("code"));
    let log = house.server.app.store.read(|conn| audit::list(conn, 0, 500)).await.unwrap();
    let actor = format!("user:{}", house.ana);
    assert!(log.iter().any(|row| row.action == "application.grant" && row.actor == actor), "{log:?}");
}

#[actix_web::test]
async fn a_person_signs_out_at_the_wish_of_an_application_that_knows_them() {
    let mut house = House::new().await;
    house.sign_in().await;
    let tokens = house.tokens().await;
    let tenant = house.server.app.tenant.clone();
    let path = |fields: &[(&str, &str)]| {
        let query = Url::parse_with_params("https://x/", fields).unwrap().query().unwrap().to_owned();
        format!("/{}/oauth2/v2.0/logout?{query}", tenant)
    };
    let out = "https://app.example/out";
    let plain = path(&[("client_id", &house.application.client_id), ("post_logout_redirect_uri", out)]);
    let hint = tokens["id_token"].as_str().unwrap();
    let known = path(&[("id_token_hint", hint), ("post_logout_redirect_uri", out), ("state", "a b")]);
    let elsewhere = path(&[("id_token_hint", hint), ("post_logout_redirect_uri", "https://evil.example/")]);
    // A link on another page signs nobody out.
    let asked = house.browser.get(&plain).await;
    assert!(asked.status == 200 && asked.html.contains("Sign out?"), "{}", asked.html);
    assert_eq!(house.browser.get("/account/security").await.status, 200);
    let (mark, request) = (asked.field("mark"), asked.field("request"));
    assert_eq!(house.browser.post("/signout", &[("mark", &mark), ("request", &request)]).await.location, out, "and back");
    house.sign_in().await;
    let gone = house.browser.get(&known).await;
    assert_eq!((gone.status, gone.location.as_str()), (303, "https://app.example/out?state=a%20b"));
    assert_eq!(house.browser.get("/account/security").await.status, 303);
    house.sign_in().await;
    assert_eq!(house.browser.get(&elsewhere).await.location, "/signin", "nobody is sent where no application lives");
    // Signed out already: back at once, when the application is known.
    assert_eq!(house.browser.get(&plain).await.location, out);
    assert_eq!(house.browser.get(&path(&[("post_logout_redirect_uri", out)])).await.location, "/signin");
}

#[actix_web::test]
async fn codes_and_refresh_tokens_live_as_long_as_their_kind() {
    let mut house = House::new().await;
    house.sign_in().await;
    let late = house.code(&[]).await;
    house.server.clock.advance(10 * MINUTE);
    assert_eq!(failure(house.exchange(&late, &[]).await), (400, "invalid_grant".into(), 70008));
    // In a browser for a day, however often it is used; on a machine for as long as it is.
    house.sign_in_for(30 * DAY).await;
    let code = house.code(&[("redirect_uri", SPA)]).await;
    let (_, browser) = house.exchange(&code, &[("redirect_uri", SPA)]).await;
    let machine = house.tokens().await;
    house.server.clock.advance(23 * HOUR);
    let (status, browser) = house.refresh(browser["refresh_token"].as_str().unwrap()).await;
    assert_eq!((status, &browser["refresh_token_expires_in"]), (200, &json!(3600)));
    let (_, machine) = house.refresh(machine["refresh_token"].as_str().unwrap()).await;
    house.server.clock.advance(HOUR);
    assert_eq!(failure(house.refresh(browser["refresh_token"].as_str().unwrap()).await), (400, "invalid_grant".into(), 70008));
    house.server.clock.advance(20 * DAY);
    assert_eq!(house.refresh(machine["refresh_token"].as_str().unwrap()).await.0, 200);
}
