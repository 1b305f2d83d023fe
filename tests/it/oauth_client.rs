//! Applications that get tokens in their own name, over real TLS: how they prove themselves, and every way in which they do not.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use muster::clock::{DAY, HOUR, MINUTE};
use muster::domain::access::Scope;
use muster::domain::application::{Application, Credential, Grants, Proof};
use muster::service::application::{self, New};
use muster::service::directory::By;
use muster::wire::jwk;
use muster::wire::jwt::{self, Compact};
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::ecdsa::EcdsaSig;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::{Padding, Rsa};
use openssl::sign::{RsaPssSaltlen, Signer, Verifier};
use openssl::x509::{X509, X509NameBuilder};
use reqwest::Response;
use serde_json::{Value, json};

use crate::support::server::Server;

const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

fn by() -> By {
    By::local("cli:test")
}

/// An application with a secret, which may do these things.
pub async fn register(server: &Server, own: &[Scope]) -> (Application, String) {
    let made = application::create(&server.app, New { display_name: "Nightly job".into(), ..New::default() }, &by()).await.unwrap();
    let grants = Grants { own: own.iter().copied().collect(), ..Grants::default() };
    application::grant(&server.app, &made.id, grants, &by()).await.unwrap();
    let secret = application::add_secret(&server.app, &made.id, "first", 30 * DAY, &by()).await.unwrap();
    let text = secret.show().to_owned();
    (made, text)
}

async fn ask(server: &Server, fields: &[(&str, &str)]) -> Response {
    let url = format!("{}/{}/oauth2/v2.0/token", server.web, server.app.tenant);
    server.client().post(url).form(fields).send().await.unwrap()
}

/// The status and the numbers of a failure.
async fn failure(response: Response) -> (u16, String, u64) {
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    let number = body["error_codes"][0].as_u64().unwrap();
    assert!(body["error_description"].as_str().unwrap().starts_with(&format!("AADSTS{number}: ")), "{body}");
    (status, body["error"].as_str().unwrap().to_owned(), number)
}

#[actix_web::test]
async fn a_secret_gives_a_token_that_the_published_keys_verify() {
    let server = Server::start().await;
    let (application, secret) = register(&server, &[Scope::UserReadAll, Scope::GroupReadWriteAll]).await;
    // As azure-identity sends it.
    let scope = format!("{}/.default", server.web);
    let claims = json!({ "access_token": { "xms_cc": { "values": ["CP1"] } } }).to_string();
    let answer = ask(
        &server,
        &[
            ("client_id", &application.client_id),
            ("client_secret", &secret),
            ("grant_type", "client_credentials"),
            ("scope", &scope),
            ("client_info", "1"),
            ("claims", &claims),
        ],
    )
    .await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let answer: Value = answer.json().await.unwrap();
    assert_eq!((&answer["token_type"], &answer["expires_in"]), (&json!("Bearer"), &json!(3600)));

    let base = format!("{}/{}", server.web, server.app.tenant);
    let read = async |url: &str| server.client().get(url).send().await.unwrap().json::<Value>().await.unwrap();
    let metadata = read(&format!("{base}/v2.0/.well-known/openid-configuration")).await;
    assert_eq!(metadata["token_endpoint"], format!("{base}/oauth2/v2.0/token"));
    let keys = read(metadata["jwks_uri"].as_str().unwrap()).await;

    let text = answer["access_token"].as_str().unwrap();
    let token = Compact::parse(text).unwrap();
    let key = keys["keys"].as_array().unwrap().iter().find(|key| key["kid"].as_str() == token.head("kid")).unwrap();
    let (n, e) = jwk::rsa_parts(key).unwrap();
    let key = Rsa::from_public_components(BigNum::from_slice(&n).unwrap(), BigNum::from_slice(&e).unwrap()).unwrap();
    let key = PKey::from_rsa(key).unwrap();
    let mut verifier = Verifier::new(MessageDigest::sha256(), &key).unwrap();
    assert!(verifier.verify_oneshot(&token.signature, token.input.as_bytes()).unwrap());
    assert_eq!(token.text("iss"), metadata["issuer"].as_str());
    assert_eq!(token.text("aud"), Some(server.web.as_str()));
    assert_eq!(token.text("azp"), Some(application.client_id.as_str()));
    assert_eq!((token.text("idtyp"), token.text("azpacr")), (Some("app"), Some("1")));
    assert_eq!(token.claims["roles"], json!(["Group.ReadWrite.All", "User.Read.All"]));
    assert_eq!(token.claims["xms_cc"], json!(["CP1"]));
    assert_eq!(token.number("exp").unwrap() - token.number("iat").unwrap(), 3600);
}

#[actix_web::test]
async fn paths_and_names_are_taken_as_clients_write_them() {
    let server = Server::tweaked(|config| config.domains = vec!["contoso.example".into()]).await;
    let (application, secret) = register(&server, &[]).await;
    let host = server.app.config.web_host();
    for path in [
        format!("/{}/oauth2/v2.0/token", server.app.tenant),
        "/common/oAuth2/v2.0/token".into(),
        "/Organizations/oauth2/V2.0/Token".into(),
        "/contoso.example//oauth2/v2.0/token".into(),
        format!("/{host}/oauth2/v2.0/token/"),
    ] {
        let without_port = format!("https://{host}/.default");
        let body = format!("grant_type=client_credentials&client_id={}&client_secret={secret}&scope={without_port}", application.client_id);
        // No media type, and nothing escaped: there are such clients.
        let answer = server.client().post(format!("{}{path}", server.web)).body(body).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
    let url = format!("{}/{}/oauth2/v2.0/token", server.web, server.app.tenant);
    let fields = [("grant_type", "client_credentials"), ("scope", "00000003-0000-0000-c000-000000000000/.default")];
    let answer = server.client().post(&url).basic_auth(&application.client_id, Some(&secret)).form(&fields).send().await.unwrap();
    assert_eq!(answer.status(), 200, "Basic");
    let other = format!("{}/fabrikam.example/oauth2/v2.0/token", server.web);
    let answer = server.client().post(other).basic_auth(&application.client_id, Some(&secret)).form(&fields).send().await.unwrap();
    assert_eq!(failure(answer).await, (400, "invalid_request".into(), 90002));
}

#[actix_web::test]
async fn who_proves_nothing_gets_nothing() {
    let server = Server::start().await;
    let (application, secret) = register(&server, &[Scope::UserReadAll]).await;
    let public =
        application::create(&server.app, New { display_name: "Tool".into(), public: true, ..New::default() }, &by()).await.unwrap();
    let scope = format!("{}/.default", server.web);
    let own = application.client_id.as_str();
    let unknown = uuid::Uuid::new_v4().to_string();
    let cc = ("grant_type", "client_credentials");
    type Case<'a> = (&'a [(&'a str, &'a str)], (u16, &'a str, u64));
    let cases: [Case<'_>; 11] = [
        (&[("client_id", own), ("client_secret", &secret), ("scope", &scope)], (400, "invalid_request", 900144)),
        (&[cc, ("client_secret", &secret), ("scope", &scope)], (400, "invalid_request", 900144)),
        (&[cc, ("client_id", &unknown), ("client_secret", &secret), ("scope", &scope)], (400, "unauthorized_client", 700016)),
        (&[cc, ("client_id", own), ("client_secret", "wrong"), ("scope", &scope)], (401, "invalid_client", 7000215)),
        (&[cc, ("client_id", own), ("scope", &scope)], (401, "invalid_client", 7000218)),
        (&[cc, ("client_id", &public.client_id), ("scope", &scope)], (401, "invalid_client", 7000218)),
        (&[cc, ("client_id", &public.client_id), ("client_secret", "x"), ("scope", &scope)], (401, "invalid_client", 700025)),
        (&[cc, ("client_id", own), ("client_secret", &secret), ("scope", "User.Read.All")], (400, "invalid_scope", 70011)),
        (
            &[cc, ("client_id", own), ("client_secret", &secret), ("scope", "https://vault.example/.default")],
            (400, "invalid_resource", 500011),
        ),
        (&[("grant_type", "password"), ("client_id", own), ("client_secret", &secret)], (400, "unsupported_grant_type", 70003)),
        (&[cc, cc, ("client_id", own), ("client_secret", &secret), ("scope", &scope)], (400, "invalid_request", 9002313)),
    ];
    for (fields, (status, word, number)) in cases {
        assert_eq!(failure(ask(&server, fields).await).await, (status, word.to_owned(), number), "{fields:?}");
    }
    let good = [cc, ("client_id", own), ("client_secret", secret.as_str()), ("scope", scope.as_str())];
    server.clock.advance(31 * DAY);
    assert_eq!(failure(ask(&server, &good).await).await, (401, "invalid_client".into(), 7000222));
    let (other, text) = register(&server, &[]).await;
    let cross = [cc, ("client_id", other.client_id.as_str()), ("client_secret", secret.as_str()), ("scope", scope.as_str())];
    assert_eq!(failure(ask(&server, &cross).await).await.2, 7000215, "another application's secret");
    let fields = [cc, ("client_id", other.client_id.as_str()), ("client_secret", text.as_str()), ("scope", scope.as_str())];
    assert_eq!(ask(&server, &fields).await.status(), 200);
    let disabled = Application { enabled: false, version: 3, ..other.clone() };
    application::update(&server.app, disabled, &by()).await.unwrap();
    assert_eq!(failure(ask(&server, &fields).await).await.2, 700016, "disabled");
}

struct Holder {
    key: PKey<Private>,
    certificate: X509,
}

/// A key with a certificate that nobody issued.
fn holder(key: PKey<Private>) -> Holder {
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "client").unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(30).unwrap()).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    Holder { key, certificate: builder.build() }
}

fn rsa() -> Holder {
    holder(PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap())
}

fn sign(holder: &Holder, algorithm: &str, input: &str) -> Vec<u8> {
    match algorithm {
        "RS256" => Signer::new(MessageDigest::sha256(), &holder.key).unwrap().sign_oneshot_to_vec(input.as_bytes()).unwrap(),
        "PS256" => {
            let mut signer = Signer::new(MessageDigest::sha256(), &holder.key).unwrap();
            signer.set_rsa_padding(Padding::PKCS1_PSS).unwrap();
            signer.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH).unwrap();
            signer.sign_oneshot_to_vec(input.as_bytes()).unwrap()
        }
        "ES256" => {
            let signature = EcdsaSig::sign(&openssl::sha::sha256(input.as_bytes()), holder.key.ec_key().unwrap().as_ref()).unwrap();
            let part = |number: &openssl::bn::BigNumRef| number.to_vec_padded(32).unwrap();
            [part(signature.r()), part(signature.s())].concat()
        }
        // The public key as the secret of an HMAC, as an attacker would have it.
        "HS256" => {
            let secret = PKey::hmac(&holder.certificate.public_key().unwrap().public_key_to_pem().unwrap()).unwrap();
            Signer::new(MessageDigest::sha256(), &secret).unwrap().sign_oneshot_to_vec(input.as_bytes()).unwrap()
        }
        _ => Vec::new(),
    }
}

#[actix_web::test]
async fn a_certificate_proves_an_application_once_per_assertion() {
    let server = Server::start().await;
    let (application, _) = register(&server, &[Scope::UserReadAll]).await;
    let (rsa, elliptic) =
        (rsa(), holder(PKey::from_ec_key(EcKey::generate(&EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap()).unwrap()).unwrap()));
    let mut thumbprints = Vec::new();
    for holder in [&rsa, &elliptic] {
        let pem = holder.certificate.to_pem().unwrap();
        let Credential { proof, .. } = application::add_certificate(&server.app, &application.id, "key", &pem, &by()).await.unwrap();
        let Proof::Certificate { sha1, sha256, .. } = proof else { panic!("a certificate") };
        thumbprints.push((sha1, sha256));
    }
    // The certificates are of this moment, and the server began a moment ago.
    server.clock.advance(MINUTE);
    let encoded = |hex_text: &str| URL_SAFE_NO_PAD.encode(hex::decode(hex_text).unwrap());
    let now = server.app.now().seconds();
    let audience = format!("{}/{}/oauth2/v2.0/token", server.web, server.app.tenant);
    let claims = json!({
        "iss": application.client_id, "sub": application.client_id, "aud": audience, "exp": now + 600, "nbf": now, "iat": now,
    });
    let scope = format!("{}/.default", server.web);
    let show = async |assertion: &str| {
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", application.client_id.as_str()),
            ("client_assertion_type", TYPE),
            ("client_assertion", assertion),
            ("scope", scope.as_str()),
        ];
        ask(&server, &fields).await
    };
    let make = |holder: &Holder, header: Value, change: &dyn Fn(&mut Value)| {
        let mut claims = claims.clone();
        claims["jti"] = uuid::Uuid::new_v4().to_string().into();
        change(&mut claims);
        let input = jwt::signing_input(&header, &claims);
        let signature = sign(holder, header["alg"].as_str().unwrap_or_default(), &input);
        jwt::join(input, &signature)
    };
    let (sha1, sha256) = (&thumbprints[0].0, &thumbprints[0].1);
    let as_is: &dyn Fn(&mut Value) = &|_| ();
    for (holder, header) in [
        (&rsa, json!({ "alg": "RS256", "typ": "JWT", "x5t": encoded(sha1) })),
        (&rsa, json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": encoded(sha256) })),
        (&rsa, json!({ "alg": "PS256", "kid": sha1.to_uppercase() })),
        (&elliptic, json!({ "alg": "ES256", "x5t#S256": encoded(&thumbprints[1].1) })),
    ] {
        let assertion = make(holder, header.clone(), as_is);
        let answer = show(&assertion).await;
        assert_eq!(answer.status(), 200, "{header}");
        let body: Value = answer.json().await.unwrap();
        assert_eq!(Compact::parse(body["access_token"].as_str().unwrap()).unwrap().text("azpacr"), Some("2"));
        assert_eq!(failure(show(&assertion).await).await, (401, "invalid_client".into(), 700_027), "used before: {header}");
    }
    let header = json!({ "alg": "RS256", "x5t": encoded(sha1) });
    let issuer = json!(format!("{}/{}/v2.0", server.web, server.app.tenant));
    assert_eq!(show(&make(&rsa, header.clone(), &|c| c["aud"] = issuer.clone())).await.status(), 200, "the issuer as the audience");
    let changes: [(&str, Value); 12] = [
        ("iss", json!("somebody")),
        ("sub", json!(server.app.tenant)),
        ("aud", json!("https://evil.example/token")),
        ("aud", json!(format!("{audience}/x"))),
        ("aud", Value::Null),
        ("exp", json!(now - 1)),
        ("exp", json!(now + DAY / 1000 + 3600)),
        ("exp", Value::Null),
        ("nbf", json!(now + 3600)),
        ("iat", json!(now + 3600)),
        ("jti", Value::Null),
        ("jti", json!("")),
    ];
    for (name, value) in changes {
        let assertion = make(&rsa, header.clone(), &|c| c[name] = value.clone());
        assert_eq!(failure(show(&assertion).await).await.2, 700_027, "{name}: {value}");
    }
    let stranger = super::oauth_client::rsa();
    for (holder, header) in [
        (&stranger, header.clone()),
        (&rsa, json!({ "alg": "none", "x5t": encoded(sha1) })),
        (&rsa, json!({ "alg": "HS256", "x5t": encoded(sha1) })),
        (&rsa, json!({ "alg": "RS256" })),
        (&rsa, json!({ "alg": "RS256", "x5t": "AAAA" })),
        (&elliptic, json!({ "alg": "ES256", "x5t": encoded(sha1) })),
        (&rsa, json!({ "alg": "RS256", "x5t": encoded(sha1), "crit": ["exp"] })),
    ] {
        let assertion = make(holder, header.clone(), as_is);
        assert_eq!(failure(show(&assertion).await).await.2, 700_027, "{header}");
    }
    server.clock.advance(2 * HOUR + MINUTE);
    assert_eq!(failure(show(&make(&rsa, header, as_is)).await).await.2, 700_027, "expired");
}

#[actix_web::test]
async fn what_is_no_key_of_a_client_is_refused() {
    let server = Server::start().await;
    let (application, _) = register(&server, &[]).await;
    let weak = holder(PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap());
    let pem = weak.certificate.to_pem().unwrap();
    for bytes in [pem.as_slice(), b"", b"-----BEGIN CERTIFICATE-----", &[0x30; 70_000]] {
        let refused = application::add_certificate(&server.app, &application.id, "key", bytes, &by()).await.unwrap_err();
        assert!(refused.to_string().starts_with("OAU0004"), "{refused}");
    }
    let refused = application::add_secret(&server.app, &application.id, "s", 1000 * DAY, &by()).await.unwrap_err();
    assert!(refused.to_string().starts_with("OAU0003"), "{refused}");
    let own = Grants { own: [Scope::UserRead].into(), ..Grants::default() };
    let refused = application::grant(&server.app, &application.id, own, &by()).await.unwrap_err();
    assert!(refused.to_string().starts_with("ACC0012"), "{refused}");
    for number in 1..20 {
        application::add_secret(&server.app, &application.id, &format!("s{number}"), DAY, &by()).await.unwrap();
    }
    let refused = application::add_secret(&server.app, &application.id, "one more", DAY, &by()).await.unwrap_err();
    assert!(refused.to_string().starts_with("OAU0002"), "{refused}");
}
