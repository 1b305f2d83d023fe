//! Programs without a browser: a code is typed at another device (RFC 8628).

use muster::domain::application::COMMAND_LINE;

use super::*;

const KIND: &str = "urn:ietf:params:oauth:grant-type:device_code";
const PAGE: &str = "/devicelogin";

/// A house with a program that keeps no secret.
async fn house() -> House {
    let mut house = House::new().await;
    house.application =
        application::create(&house.server.app, New { display_name: "Tool".into(), public: true, ..New::default() }, &by()).await.unwrap();
    house
}

impl House {
    async fn begin(&self, scope: &str) -> (u16, Value) {
        let url = format!("{}/common/oauth2/v2.0/devicecode", self.server.web);
        let fields = [("client_id", self.application.client_id.as_str()), ("scope", scope)];
        let answer = self.server.client().post(url).form(&fields).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn poll(&self, begun: &Value) -> (u16, Value) {
        self.server.clock.advance(5_000);
        self.token(&[("grant_type", KIND), ("device_code", begun["device_code"].as_str().unwrap())]).await
    }

    async fn decide(&mut self, code: &str, decision: &str) -> Seen {
        let mark = self.browser.get(PAGE).await.field("mark");
        self.browser.post(PAGE, &[("mark", &mark), ("code", code), ("decision", decision)]).await
    }
}

#[actix_web::test]
async fn a_person_types_the_code_and_the_program_is_signed_in() {
    let mut house = house().await;
    let (status, begun) = house.begin("openid offline_access User.Read").await;
    assert_eq!((status, &begun["expires_in"], &begun["interval"]), (200, &json!(900), &json!(5)), "{begun}");
    assert_eq!(begun["verification_uri"], format!("{}{PAGE}", house.server.web));
    let code = begun["user_code"].as_str().unwrap().to_owned();
    assert!(begun["message"].as_str().unwrap().contains(&code));
    assert_eq!(failure(house.poll(&begun).await), (400, "authorization_pending".into(), 70_016));
    assert_eq!(house.browser.get(PAGE).await.location, "/signin?next=%2Fdevicelogin");
    house.sign_in().await;
    // As people type.
    let confirm = house.decide(&code.to_lowercase().replace('-', " "), "").await;
    for part in ["Tool", "127.0.0.1", &code, ANA, "<code>User.Read</code>", "Go on only if you started it yourself"] {
        assert!(confirm.html.contains(part), "{part}: {}", confirm.html);
    }
    assert_eq!(failure(house.poll(&begun).await), (400, "authorization_pending".into(), 70_016), "looking is not agreeing");
    assert!(house.decide(&code, "yes").await.html.contains("The program is signed in"));
    let (status, tokens) = house.poll(&begun).await;
    assert_eq!((status, house.me(&tokens["access_token"]).await), (200, 200), "{tokens}");
    assert_eq!(house.refresh(tokens["refresh_token"].as_str().unwrap()).await.0, 200);
    assert!(house.decide(&code, "yes").await.html.contains("AADSTS70018"), "it was used");
    assert_eq!(failure(house.poll(&begun).await), (400, "invalid_grant".into(), 54_005));
    assert_eq!(house.me(&tokens["access_token"]).await, 401, "whoever shows it again is a thief");
}

#[actix_web::test]
async fn a_code_is_declined_expires_and_is_not_for_others() {
    let mut house = house().await;
    house.sign_in().await;
    let (_, begun) = house.begin("User.Read").await;
    let code = begun["user_code"].as_str().unwrap().to_owned();
    // A page of another site cannot agree in the person's name.
    assert_eq!(house.browser.post(PAGE, &[("mark", "x"), ("code", &code), ("decision", "yes")]).await.status, 403);
    assert!(house.decide(&code, "no").await.html.contains("turned away"));
    assert_eq!(failure(house.poll(&begun).await), (400, "authorization_declined".into(), 70_020));
    let (_, begun) = house.begin("User.Read").await;
    let other = house.application.clone();
    house.application =
        application::create(&house.server.app, New { display_name: "Other".into(), public: true, ..New::default() }, &by()).await.unwrap();
    assert_eq!(failure(house.poll(&begun).await), (400, "bad_verification_code".into(), 70_018));
    house.application = other;
    assert_eq!(failure(house.poll(&json!({ "device_code": "guessed" })).await), (400, "bad_verification_code".into(), 70_018));
    house.server.clock.advance(15 * MINUTE);
    assert_eq!(failure(house.poll(&begun).await), (400, "expired_token".into(), 70_019));
    assert!(house.decide(begun["user_code"].as_str().unwrap(), "yes").await.html.contains("AADSTS70018"));
    // An application that keeps a secret signs nobody in so, and what is asked for must exist.
    assert_eq!(failure(house.begin("Nope").await), (400, "invalid_scope".into(), 70_011));
    house.application = application_of(&house.server, "Web", &[]).await;
    assert_eq!(failure(house.begin("User.Read").await), (401, "invalid_client".into(), 7_000_218));
}

#[actix_web::test]
async fn who_asks_too_often_waits_longer_and_who_guesses_codes_waits_too() {
    let mut house = house().await;
    house.sign_in().await;
    let (_, begun) = house.begin("User.Read").await;
    assert_eq!(failure(house.poll(&begun).await).1, "authorization_pending");
    let soon = async |house: &House, seconds: i64| {
        house.server.clock.advance(seconds * 1000);
        failure(house.token(&[("grant_type", KIND), ("device_code", begun["device_code"].as_str().unwrap())]).await)
    };
    assert_eq!(soon(&house, 4).await, (400, "slow_down".into(), 70_021));
    assert_eq!(soon(&house, 6).await.1, "slow_down", "now it is ten seconds, and then fifteen");
    assert_eq!(soon(&house, 15).await.1, "authorization_pending");
    for _ in 0..5 {
        assert!(house.decide("BCDF-GHJKL", "").await.html.contains("AADSTS70018"));
    }
    assert!(house.decide("BCDF-GHJKL", "").await.html.contains("Too many wrong codes"));
    assert!(house.decide(begun["user_code"].as_str().unwrap(), "yes").await.html.contains("Too many wrong codes"), "the right one, too");
    house.server.clock.advance(MINUTE);
    assert!(house.decide(begun["user_code"].as_str().unwrap(), "yes").await.html.contains("The program is signed in"));
}

#[actix_web::test]
async fn what_nobody_consented_to_needs_an_administrator_here_as_well() {
    let mut house = house().await;
    house.sign_in().await;
    let (_, begun) = house.begin("Device.Read.All").await;
    let code = begun["user_code"].as_str().unwrap().to_owned();
    let seen = house.decide(&code, "").await;
    assert!(seen.html.contains("AADSTS65001") && !seen.html.contains("value=\"yes\""), "{}", seen.html);
    assert!(house.decide(&code, "yes").await.html.contains("AADSTS65001"));
    assert_eq!(failure(house.poll(&begun).await).1, "authorization_pending");
    crate::graph::access::give(&house.server, "administrator", &house.ana).await;
    // Her sign-in was by a pass, and ended with the new role.
    house.sign_in().await;
    // Not even who may consent does so here: a stranger may have begun it.
    assert!(house.decide(&code, "yes").await.html.contains("AADSTS65001"));
    let grants = Grants { delegated: [Scope::DeviceReadAll].into(), ..Grants::default() };
    application::grant(&house.server.app, &house.application.id, grants, &by()).await.unwrap();
    assert!(house.decide(&code, "yes").await.html.contains("The program is signed in"));
    assert_eq!(house.poll(&begun).await.1["scope"], "Device.Read.All");
}

#[actix_web::test]
async fn programs_that_wait_push_out_their_like_at_the_same_address_only() {
    let mut house = house().await;
    let other = house.application.clone();
    house.application =
        application::create(&house.server.app, New { display_name: "Other".into(), public: true, ..New::default() }, &by()).await.unwrap();
    let (_, of_other) = house.begin("User.Read").await;
    let mine = std::mem::replace(&mut house.application, other);
    let (_, first) = house.begin("User.Read").await;
    house.server.clock.advance(1);
    let (_, second) = house.begin("User.Read").await;
    for _ in 0..49 {
        house.server.clock.advance(1);
        assert_eq!(house.begin("User.Read").await.0, 200);
    }
    assert_eq!(failure(house.poll(&first).await), (400, "bad_verification_code".into(), 70_018));
    assert_eq!(failure(house.poll(&second).await).1, "authorization_pending");
    house.application = mine;
    assert_eq!(failure(house.poll(&of_other).await).1, "authorization_pending", "another program's stays");
}

#[actix_web::test]
async fn the_command_line_needs_a_fresh_sign_in() {
    let mut house = house().await;
    house.application.client_id = COMMAND_LINE.into();
    house.sign_in().await;
    house.server.clock.advance(16 * MINUTE);
    let (status, begun) = house.begin("offline_access").await;
    assert_eq!(status, 200, "{begun}");
    let code = begun["user_code"].as_str().unwrap().to_owned();
    for decision in ["", "yes"] {
        let seen = house.decide(&code, decision).await;
        assert_eq!((seen.status, seen.location.as_str()), (303, "/signin?next=%2Fdevicelogin%3Fagain%3D1&again=1"));
    }
    assert_eq!(failure(house.poll(&begun).await).1, "authorization_pending");
    let pass = tap::create(&house.server.app, &house.ana, Policy::default(), None, "cli:test", "local").await.unwrap().show().to_owned();
    assert_eq!(house.browser.sign_in("/devicelogin?again=1", ANA, &pass).await.status, 303);
    assert!(house.browser.get("/devicelogin?again=1").await.html.contains("Enter its code once more"));
    assert!(house.decide(&code, "").await.html.contains("all that your roles allow"));
    assert!(house.decide(&code, "yes").await.html.contains("The program is signed in"));
    assert_eq!(house.poll(&begun).await.0, 200);
    // It is turned away without one.
    house.server.clock.advance(16 * MINUTE);
    let (_, begun) = house.begin("offline_access").await;
    assert!(house.decide(begun["user_code"].as_str().unwrap(), "no").await.html.contains("turned away"));
}
