//! What thieves and careless applications try.

use super::*;

/// What is wrong before it is known who may hear of it is shown to the person, who is sent nowhere.
#[actix_web::test]
async fn nobody_is_sent_to_an_address_that_is_not_the_applications() {
    let mut house = House::new().await;
    house.sign_in().await;
    for uri in [
        "https://evil.example/",
        "https://app.example.evil.example/cb?keep=1",
        "https://app.example/cb?keep=1&more=2",
        "https://app.example/CB?keep=1",
        "https://app.example/cb/../evil?keep=1",
        "https://app.example@evil.example/cb?keep=1",
        "http://localhost.evil.example:4711/",
        "http://localhost@evil.example/",
        "http://127.0.0.1:4711/",
        "javascript:alert(1)",
        "//evil.example",
    ] {
        let seen = house.authorize(&[("redirect_uri", uri)]).await;
        assert!(seen.status == 400 && seen.location.is_empty() && seen.html.contains("AADSTS50011"), "{uri} {} {}", seen.status, seen.html);
        // Nor with a failure.
        let seen = house.authorize(&[("redirect_uri", uri), ("response_type", "token")]).await;
        assert!(seen.status == 400 && seen.location.is_empty(), "{uri}");
    }
    for (fields, number) in [
        (&[("client_id", "00000000-0000-0000-0000-000000000000")][..], "AADSTS700016"),
        (&[("client_id", "")], "AADSTS900144"),
        (&[("redirect_uri", "")], "AADSTS900144"),
        (&[("state", "x".repeat(2049).as_str())], "AADSTS9002313"),
    ] {
        let seen = house.authorize(fields).await;
        assert!(seen.status == 400 && seen.location.is_empty() && seen.html.contains(number), "{fields:?} {}", seen.html);
    }
    // A field that is there twice could be read in two ways.
    let twice = format!("{}&redirect_uri=https%3A%2F%2Fevil.example", house.path(&[]));
    assert_eq!(house.browser.get(&twice).await.status, 400);
    let foreign = house.path(&[]).replace(house.server.app.tenant.as_str(), "00000000-0000-0000-0000-000000000000");
    assert_eq!(house.browser.get(&foreign).await.status, 400);
}

#[actix_web::test]
async fn the_application_hears_what_is_wrong_with_its_request() {
    let mut house = House::new().await;
    house.sign_in().await;
    for (fields, word, number) in [
        (&[("response_type", "token")][..], "unsupported_response_type", 700_051),
        (&[("response_type", "code id_token")], "unsupported_response_type", 700_051),
        (&[("response_mode", "web_message")], "unsupported_response_type", 700_051),
        (&[("scope", "Nope")], "invalid_scope", 70_011),
        (&[("scope", "")], "invalid_request", 900_144),
        (&[("scope", "https://vault.example/.default")], "invalid_resource", 500_011),
        (&[("max_age", "-1")], "invalid_request", 9_002_313),
        // PKCE cannot be left out, nor weakened.
        (&[("code_challenge", ""), ("code_challenge_method", "")], "invalid_request", 9_002_325),
        (&[("code_challenge_method", "plain")], "invalid_request", 9_002_325),
        (&[("code_challenge_method", "")], "invalid_request", 9_002_325),
        (&[("code_challenge", "")], "invalid_request", 9_002_325),
        (&[("code_challenge", ""), ("code_challenge_method", ""), ("redirect_uri", SPA)], "invalid_request", 9_002_325),
        (&[("code_challenge", ""), ("code_challenge_method", ""), ("redirect_uri", WEB), ("nonce", "")], "invalid_request", 9_002_325),
        (&[("code_challenge", "abc")], "invalid_request", 9_002_313),
    ] {
        let told = answered(&house.authorize(fields).await);
        assert_eq!((told["error"].as_str(), told["state"].as_str()), (word, "st&te=1"), "{fields:?}");
        assert!(told["error_description"].starts_with(&format!("AADSTS{number}: ")), "{fields:?} {told:?}");
        assert!(!told.contains_key("code"));
    }
}

#[actix_web::test]
async fn a_code_is_good_once_for_who_asked_and_with_its_verifier() {
    let mut house = House::new().await;
    house.sign_in().await;
    let code = house.code(&[]).await;
    let grant = |status| (status, "invalid_grant".to_owned());
    let refused = async |house: &House, more: &[(&str, &str)]| {
        let (status, word, number) = failure(house.exchange(&code, more).await);
        ((status, word), number)
    };
    // Nothing of this uses the code up, or a stranger could keep the application from it.
    assert_eq!(refused(&house, &[("code_verifier", "wrong-wrong-wrong-wrong-wrong-wrong-wrong-wrong")]).await, (grant(400), 501_481));
    assert_eq!(refused(&house, &[("code_verifier", "")]).await, (grant(400), 501_481));
    assert_eq!(refused(&house, &[("redirect_uri", "http://localhost:4712/")]).await, ((400, "invalid_request".into()), 50_011));
    assert_eq!(refused(&house, &[("redirect_uri", "")]).await, ((400, "invalid_request".into()), 50_011));
    let other = application_of(&house.server, "Other", &[]).await;
    assert_eq!(refused(&house, &[("client_id", &other.client_id)]).await, (grant(400), 70_000));
    assert_eq!(failure(house.exchange("guessed", &[]).await), (400, "invalid_grant".into(), 70_000));
    let (status, tokens) = house.exchange(&code, &[]).await;
    assert_eq!((status, house.me(&tokens["access_token"]).await), (200, 200));
    // Somebody else has the code, too: all that came of it ends.
    assert_eq!(refused(&house, &[]).await, (grant(400), 54_005));
    assert_eq!(house.me(&tokens["access_token"]).await, 401);
    assert_eq!(failure(house.refresh(tokens["refresh_token"].as_str().unwrap()).await), (400, "invalid_grant".into(), 70_000));
    let log = house.server.app.store.read(|conn| audit::list(conn, 0, 500)).await.unwrap();
    assert!(log.iter().any(|row| row.action == "grant.stolen"));
}

#[actix_web::test]
async fn a_stolen_refresh_token_ends_the_grant_for_both() {
    let mut house = House::new().await;
    house.sign_in().await;
    let first = house.tokens().await;
    let text = |tokens: &Value| tokens["refresh_token"].as_str().unwrap().to_owned();
    let (_, thief) = house.refresh(&text(&first)).await;
    assert_eq!(house.me(&thief["access_token"]).await, 200);
    house.server.clock.advance(MINUTE);
    // The application shows the one that the thief has used.
    assert_eq!(failure(house.refresh(&text(&first)).await), (400, "invalid_grant".into(), 70_000));
    assert_eq!(failure(house.refresh(&text(&thief)).await), (400, "invalid_grant".into(), 70_000));
    assert_eq!(house.me(&thief["access_token"]).await, 401);
    // Made up, changed, of another application.
    let good = text(&house.tokens().await);
    let (body, mac) = good.rsplit_once('.').unwrap();
    let next = format!("{}2.{mac}", body.strip_suffix('1').unwrap());
    for bad in ["", "x", "1.x.1.x", &next, &format!("{good}A"), body] {
        if !bad.is_empty() {
            assert_eq!(failure(house.refresh(bad).await), (400, "invalid_grant".into(), 70_000), "{bad}");
        }
    }
    let other = application_of(&house.server, "Other", &[]).await;
    let fields = [("grant_type", "refresh_token"), ("refresh_token", good.as_str()), ("client_id", &other.client_id)];
    assert_eq!(failure(house.token(&fields).await), (400, "invalid_grant".into(), 70_000));
    assert_eq!(house.refresh(&good).await.0, 200, "none of that harmed the right one");
}

#[actix_web::test]
async fn two_who_refresh_at_once_get_the_same() {
    let mut house = House::new().await;
    house.sign_in().await;
    let token = house.tokens().await["refresh_token"].as_str().unwrap().to_owned();
    let all = futures_util::future::join_all((0..8).map(|_| house.refresh(&token))).await;
    for (status, tokens) in &all {
        assert_eq!((*status, &tokens["refresh_token"]), (200, &all[0].1["refresh_token"]), "{tokens}");
    }
    let codes = house.code(&[]).await;
    let all = futures_util::future::join_all((0..8).map(|_| house.exchange(&codes, &[]))).await;
    assert!(all.iter().filter(|(status, _)| *status == 200).count() <= 1, "{all:?}");
}

#[actix_web::test]
async fn a_program_on_a_server_proves_itself_and_one_without_a_verifier_gets_none_added() {
    let mut house = House::new().await;
    house.sign_in().await;
    let web = [("redirect_uri", WEB), ("code_challenge", ""), ("code_challenge_method", "")];
    let code = house.code(&web).await;
    let redeem = [("redirect_uri", WEB), ("code_verifier", "")];
    assert_eq!(failure(house.exchange(&code, &redeem).await), (401, "invalid_client".into(), 7_000_218));
    let secret = application::add_secret(&house.server.app, &house.application.id, "first", 30 * DAY, &by()).await.unwrap();
    let with = |verifier: &'static str| [("redirect_uri", WEB), ("code_verifier", verifier), ("client_secret", secret.show())];
    // Whoever injects a code into somebody else's session has another verifier (RFC 9700, section 2.1.1).
    assert_eq!(failure(house.exchange(&code, &with(VERIFIER)).await), (400, "invalid_grant".into(), 501_481));
    let (status, tokens) = house.exchange(&code, &with("")).await;
    assert_eq!(status, 200, "{tokens}");
    assert_eq!(claims(&tokens["access_token"])["azpacr"], "1");
    let token = tokens["refresh_token"].as_str().unwrap();
    assert_eq!(failure(house.refresh(token).await), (401, "invalid_client".into(), 7_000_218));
    let fields = [("grant_type", "refresh_token"), ("refresh_token", token), ("client_secret", secret.show())];
    assert_eq!(house.token(&fields).await.0, 200);
    assert_eq!(failure(house.token(&[("grant_type", "password")]).await), (400, "unsupported_grant_type".into(), 70_003));
}

#[actix_web::test]
async fn what_began_with_a_pass_that_was_stolen_ends_with_the_next_pass() {
    let mut house = House::new().await;
    let pass = tap::create(&house.server.app, &house.ana, Policy::default(), None, "cli:test", "local").await.unwrap().show().to_owned();
    // The thief uses the pass, which was for one time; the person asks for another one.
    assert_eq!(house.browser.sign_in("/account/security", ANA, &pass).await.status, 303);
    let thief = house.tokens().await;
    assert_eq!(house.me(&thief["access_token"]).await, 200);
    tap::create(&house.server.app, &house.ana, Policy::default(), None, "cli:test", "local").await.unwrap();
    assert_eq!((house.me(&thief["access_token"]).await, house.browser.get("/account/security").await.status), (401, 303));
}

#[actix_web::test]
async fn what_began_with_a_pass_ends_when_the_person_gets_a_role() {
    let mut house = House::new().await;
    house.sign_in().await;
    let before = house.tokens().await;
    assert_eq!(house.me(&before["access_token"]).await, 200);
    crate::graph::access::give(&house.server, "administrator", &house.ana).await;
    assert_eq!((house.me(&before["access_token"]).await, house.browser.get("/account/security").await.status), (401, 303));
    assert_eq!(failure(house.refresh(before["refresh_token"].as_str().unwrap()).await), (400, "invalid_grant".into(), 70_000));
    house.sign_in().await;
    let tokens = house.tokens().await;
    assert_eq!(house.me(&tokens["access_token"]).await, 200, "and a pass of afterwards is good");
}

#[actix_web::test]
async fn nobody_says_for_the_server_when_a_sign_in_was_asked_for() {
    let mut house = House::new().await;
    let pass = house.sign_in().await;
    house.server.clock.advance(10 * MINUTE);
    let now = house.server.app.now().0.to_string();
    for since in ["0", &now, "0.", "0.AAAA", "9999999999999"] {
        for asked in [("prompt", "login"), ("max_age", "0")] {
            let away = house.authorize(&[asked, ("muster_since", since)]).await;
            assert!(away.status == 303 && away.location.contains("&again=1"), "{since} {asked:?} {}", away.location);
        }
    }
    // What one browser was told is nothing to another, nor to itself much later.
    let away = house.authorize(&[("prompt", "login")]).await;
    let back = house.browser.get(&away.location).await.field("next");
    house.server.clock.advance(1);
    let mut other = Browser::new(&house.server);
    assert_eq!(other.sign_in(&back, ANA, &pass).await.status, 303);
    let seen = other.get(&back).await;
    assert!(seen.status == 303 && seen.location.contains("&again=1"), "{}", seen.location);
    assert_eq!(house.browser.sign_in(&back, ANA, &pass).await.status, 303);
    assert!(answered(&house.browser.get(&back).await).contains_key("code"));
    house.server.clock.advance(15 * MINUTE);
    let seen = house.browser.get(&back).await;
    assert!(seen.status == 303 && seen.location.contains("&again=1"), "{}", seen.location);
}

#[actix_web::test]
async fn an_access_token_is_ended_or_the_client_is_told_that_it_is_not() {
    let mut house = House::new().await;
    house.sign_in().await;
    let revoke = async |house: &House, client: &str, token: &Value, more: &[(&str, &str)]| {
        let url = format!("{}/{}/oauth2/v2.0/revoke", house.server.web, house.server.app.tenant);
        let mut form = vec![("client_id", client), ("token", token.as_str().unwrap())];
        form.extend_from_slice(more);
        let answer = house.server.client().post(url).form(&form).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let tokens = house.tokens().await;
    let other = application_of(&house.server, "Other", &[]).await;
    let mine = house.application.client_id.clone();
    assert_eq!(revoke(&house, &other.client_id, &tokens["access_token"], &[]).await.0, 200);
    assert_eq!(revoke(&house, &mine, &tokens["id_token"], &[]).await.0, 200);
    assert_eq!(house.me(&tokens["access_token"]).await, 200, "neither ends it");
    assert_eq!(revoke(&house, &mine, &tokens["access_token"], &[]).await.0, 200);
    assert_eq!(house.me(&tokens["access_token"]).await, 401);
    assert_eq!(failure(house.refresh(tokens["refresh_token"].as_str().unwrap()).await), (400, "invalid_grant".into(), 70_000));
    // One in the application's own name goes on, and it is not said that it ended.
    let secret = application::add_secret(&house.server.app, &house.application.id, "s", DAY, &by()).await.unwrap();
    let secret = [("client_secret", secret.show())];
    let scope = format!("{}/.default", house.server.web);
    let fields = [&[("grant_type", "client_credentials"), ("scope", scope.as_str())][..], &secret].concat();
    let (status, own) = house.token(&fields).await;
    assert_eq!(status, 200, "{own}");
    let answer = revoke(&house, &mine, &own["access_token"], &secret).await;
    assert_eq!(failure(answer), (400, "unsupported_token_type".into(), 50_027));
    // What is no token ends nothing and is no error; what cannot be read, or is of nobody, is one.
    assert_eq!(revoke(&house, &mine, &json!("nonsense"), &secret).await.0, 200);
    assert_eq!(revoke(&house, &mine, &own["access_token"], &[("client_secret", "wrong")]).await.1["error"], "invalid_client");
    let send = async |tenant: &str, body: String| {
        let url = format!("{}/{tenant}/oauth2/v2.0/revoke", house.server.web);
        let answer = house.server.client().post(url).body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap_or_default())
    };
    let common = format!("client_id={mine}&{}={}", secret[0].0, secret[0].1);
    assert_eq!(send("common", common.clone()).await.1["error"], "invalid_request", "without a token");
    assert_eq!(send("elsewhere.example", format!("{common}&token=x")).await.0, 400);
    assert_eq!(send("common", "token=%zz".into()).await.0, 400);
    // Too long for the endpoint; a short one of its like is no error.
    assert_eq!(send("common", format!("{common}&token={}", "x".repeat(1000))).await.0, 200);
    assert_eq!(send("common", format!("{common}&token={}", "x".repeat(64 * 1024))).await.1["error"], "invalid_request");
}

#[actix_web::test]
async fn people_end_their_own_programs_and_sign_out_everywhere() {
    let mut house = House::new().await;
    let pass = house.sign_in().await;
    let (one, two) = (house.tokens().await, house.tokens().await);
    let page = house.browser.get("/account/security").await;
    assert_eq!(page.html.matches("<h3>Companion</h3>").count(), 2, "{}", page.html);
    let mark = page.field("mark");
    let of = |tokens: &Value| format!("/account/security/programs/{}/end", claims(&tokens["access_token"])["sid"].as_str().unwrap());
    assert_eq!(house.browser.post(&of(&one), &[("mark", "x")]).await.status, 403);
    assert_eq!(house.me(&one["access_token"]).await, 200);
    assert_eq!(house.browser.post(&of(&one), &[("mark", &mark)]).await.location, "/account/security?said=ended");
    assert_eq!((house.me(&one["access_token"]).await, house.me(&two["access_token"]).await), (401, 200));
    assert_eq!(house.browser.post(&of(&one), &[("mark", &mark)]).await.status, 404);
    // Not those of others.
    let ben = directory::create_user(&house.server.app, user("ben@example.org"), &by()).await.unwrap().id;
    let bens = tap::create(&house.server.app, &ben, Policy::default(), None, "cli:test", "local").await.unwrap().show().to_owned();
    let mut browser = Browser::new(&house.server);
    assert_eq!(browser.sign_in("/account/security", "ben@example.org", &bens).await.status, 303);
    let page = browser.get("/account/security").await;
    assert!(page.html.contains("There are none."), "{}", page.html);
    assert_eq!(browser.post(&of(&two), &[("mark", &page.field("mark"))]).await.status, 404);
    // Everywhere.
    let mut elsewhere = Browser::new(&house.server);
    assert_eq!(elsewhere.sign_in("/account/security", ANA, &pass).await.status, 303);
    assert_eq!(house.browser.post("/account/security/sign-out", &[("mark", "x")]).await.status, 403);
    assert_eq!(house.browser.post("/account/security/sign-out", &[("mark", &mark)]).await.location, "/signin");
    assert_eq!(house.me(&two["access_token"]).await, 401);
    assert_eq!((house.browser.get("/account/security").await.status, elsewhere.get("/account/security").await.status), (303, 303));
    // The same over the API.
    let grants = Grants { delegated: [Scope::UserReadWrite].into(), ..Grants::default() };
    application::grant(&house.server.app, &house.application.id, grants, &by()).await.unwrap();
    house.sign_in().await;
    let code = house.code(&[("scope", "openid User.ReadWrite")]).await;
    let (_, tokens) = house.exchange(&code, &[]).await;
    let post = async |token: &Value| {
        let url = format!("{}/v1.0/me/revokeSignInSessions", house.server.web);
        house.server.client().post(url).bearer_auth(token.as_str().unwrap()).json(&json!({})).send().await.unwrap()
    };
    let answer = post(&tokens["access_token"]).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.json::<Value>().await.unwrap()["value"], true);
    assert_eq!(house.me(&tokens["access_token"]).await, 401);
}
