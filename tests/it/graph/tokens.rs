//! Whose token opens something, and every token that opens nothing.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use muster::clock::{HOUR, MINUTE};
use muster::domain::access::Scope;
use muster::domain::application::{Application, Grants};
use muster::service::{application, signing_keys};
use muster::wire::jwt::{self, Compact};
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::sign::Signer;
use reqwest::Response;
use serde_json::{Value, json};

use super::{by, register, token};
use crate::support::server::Server;

async fn show(server: &Server, authorization: Option<&str>) -> Response {
    let request = server.client().get(format!("{}/v1.0/users", server.web));
    let request = authorization.into_iter().fold(request, |request, value| request.header("Authorization", value));
    request.send().await.unwrap()
}

async fn refused(server: &Server, token: &str) -> (u16, Value, String) {
    let answer = show(server, Some(&format!("Bearer {token}"))).await;
    let challenge = answer.headers().get("www-authenticate").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    (answer.status().as_u16(), answer.json().await.unwrap(), challenge)
}

/// The token with another header and other claims, signed by the server's own key.
async fn resigned(server: &Server, token: &str, change: impl FnOnce(&mut Value, &mut Value)) -> String {
    let parsed = Compact::parse(token).unwrap();
    let (mut header, mut claims) = (Value::Object(parsed.header.clone()), Value::Object(parsed.claims.clone()));
    change(&mut header, &mut claims);
    let input = jwt::signing_input(&header, &claims);
    let key = signing_keys::active(&server.app).await.unwrap();
    let signature = key.sign(input.clone()).await.unwrap();
    jwt::join(input, &signature)
}

#[actix_web::test]
async fn a_missing_header_is_explained() {
    let server = Server::start().await;
    let answer = show(&server, None).await;
    assert_eq!(answer.status(), 401);
    assert!(answer.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer realm=\"\", authorization_uri=\""));
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["error"]["code"], "InvalidAuthenticationToken");
    let text = body["error"]["message"].as_str().unwrap();
    assert!(text.contains("Authorization") && text.contains("allowed_hosts") && text.contains("customHosts"), "{text}");
    for wrong in ["Basic dTpw", "Bearer", "x"] {
        assert_eq!(show(&server, Some(wrong)).await.status(), 401, "{wrong}");
    }
}

#[actix_web::test]
async fn only_a_token_of_ours_for_this_api_opens_it() {
    let server = Server::start().await;
    let (application, secret) = register(&server, &[Scope::UserReadAll]).await;
    let good = token(&server, &application, &secret).await;
    assert_eq!(show(&server, Some(&format!("bearer {good}"))).await.status(), 200);
    assert_eq!(show(&server, Some(&format!("Bearer {}", resigned(&server, &good, |_, _| ()).await))).await.status(), 200);

    let input = good.rsplit_once('.').unwrap().0;
    let claims = input.split_once('.').unwrap().1;
    let with_header = |header: Value| format!("{}.{claims}", URL_SAFE_NO_PAD.encode(header.to_string()));
    let kid = Compact::parse(&good).unwrap().head("kid").unwrap().to_owned();
    let none = format!("{}.", with_header(json!({ "alg": "none", "typ": "JWT", "kid": kid })));
    let jwks: Value = server.client().get(format!("{}/common/discovery/v2.0/keys", server.web)).send().await.unwrap().json().await.unwrap();
    // The public key as the secret of an HMAC.
    let hmac_input = with_header(json!({ "alg": "HS256", "typ": "JWT", "kid": kid }));
    let hmac_key = PKey::hmac(jwks["keys"][0]["n"].as_str().unwrap().as_bytes()).unwrap();
    let hmac = Signer::new(MessageDigest::sha256(), &hmac_key).unwrap().sign_oneshot_to_vec(hmac_input.as_bytes()).unwrap();
    let stranger = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let foreign = Signer::new(MessageDigest::sha256(), &stranger).unwrap().sign_oneshot_to_vec(input.as_bytes()).unwrap();
    let now = server.app.now().seconds();
    let mut changed = vec![
        none,
        jwt::join(hmac_input, &hmac),
        jwt::join(input.to_owned(), &foreign),
        good[..good.len() - 4].to_owned(),
        good.replacen('.', "..", 1),
        String::new(),
        "x".repeat(100_000),
        resigned(&server, &good, |header, _| header["kid"] = json!("unknown")).await,
        resigned(&server, &good, |header, _| header["typ"] = json!("secevent+jwt")).await,
        resigned(&server, &good, |header, _| header["alg"] = json!("PS256")).await,
        resigned(&server, &good, |header, _| header["crit"] = json!(["exp"])).await,
    ];
    for (name, value) in [
        ("aud", json!("https://evil.example")),
        ("aud", json!("00000003-0000-0000-c000-000000000000")),
        ("iss", json!("https://evil.example/t/v2.0")),
        ("tid", json!(uuid::Uuid::new_v4())),
        ("nbf", json!(now + 3600)),
        ("exp", Value::Null),
        ("oid", Value::Null),
        ("azp", Value::Null),
        ("roles", Value::Null),
        ("idtyp", json!("user")),
    ] {
        changed.push(resigned(&server, &good, |_, claims| claims[name] = value.clone()).await);
    }
    for (number, wrong) in changed.iter().enumerate() {
        let (status, body, challenge) = refused(&server, wrong).await;
        assert_eq!((status, &body["error"]["code"]), (401, &json!("InvalidAuthenticationToken")), "{number}");
        assert!(challenge.contains("error=\"invalid_token\""), "{number}: {challenge}");
    }
    // Another application's object under this client id.
    let (other, _) = register(&server, &[]).await;
    let mixed = resigned(&server, &good, |_, claims| claims["oid"] = json!(other.id)).await;
    assert_eq!(refused(&server, &mixed).await.0, 401);
    server.clock.advance(HOUR + 2 * MINUTE);
    let (status, body, _) = refused(&server, &good).await;
    assert_eq!(status, 401);
    assert!(body["error"]["message"].as_str().unwrap().contains("expired"));
}

#[actix_web::test]
async fn what_was_taken_away_is_gone_at_once() {
    let server = Server::start().await;
    let (application, secret) = register(&server, &[Scope::UserReadAll]).await;
    let good = token(&server, &application, &secret).await;
    let capable = resigned(&server, &good, |_, claims| claims["xms_cc"] = json!(["CP1"])).await;
    application::grant(&server.app, &application.id, Grants::default(), &by()).await.unwrap();
    let (status, body, _) = refused(&server, &good).await;
    assert_eq!((status, &body["error"]["code"]), (403, &json!("Authorization_RequestDenied")), "the permission");
    let known = Application { enabled: false, version: 4, ..application.clone() };
    application::update(&server.app, known, &by()).await.unwrap();
    assert_eq!(refused(&server, &good).await.0, 401, "the application");
    let (status, _, challenge) = refused(&server, &capable).await;
    assert_eq!(status, 401);
    assert!(challenge.contains("error=\"insufficient_claims\""), "{challenge}");
    let claims = challenge.split("claims=\"").nth(1).unwrap().trim_end_matches('"');
    let claims: Value = serde_json::from_slice(&STANDARD.decode(claims).unwrap()).unwrap();
    assert_eq!(claims["access_token"]["nbf"]["essential"], true);
    application::delete(&server.app, &application.id, &by()).await.unwrap();
    assert_eq!(refused(&server, &good).await.0, 401, "deleted");
}

#[actix_web::test]
async fn a_key_that_was_withdrawn_in_an_emergency_opens_nothing() {
    let server = Server::start().await;
    let (application, secret) = register(&server, &[Scope::UserReadAll]).await;
    let good = token(&server, &application, &secret).await;
    assert_eq!(show(&server, Some(&format!("Bearer {good}"))).await.status(), 200);
    signing_keys::replace_all(&server.app, &by()).await.unwrap();
    assert_eq!(refused(&server, &good).await.0, 401, "this node knows at once");
    let fresh = token(&server, &application, &secret).await;
    assert_eq!(show(&server, Some(&format!("Bearer {fresh}"))).await.status(), 200);
}
