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
