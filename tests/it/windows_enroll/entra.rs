//! Tokens of a tenant, and its terms-of-use page.

use super::*;

/// A tenant with its own key, whose key set a small HTTP server on loopback publishes.
pub(super) struct Tenant {
    key: josekit::jwk::Jwk,
    pub(super) config: EntraTenant,
}

impl Tenant {
    pub(super) async fn start() -> Self {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut key = josekit::jwk::Jwk::generate_rsa_key(2048).unwrap();
        key.set_key_id("k1");
        let mut public = key.to_public_key().unwrap();
        public.set_key_id("k1");
        let body = serde_json::json!({ "keys": [public.as_ref()] }).to_string();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let jwks_uri = format!("http://{}/keys", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4096]).await;
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            }
        });
        let tenant_id = "11111111-2222-3333-4444-555555555555".to_owned();
        let issuer = format!("https://sts.example/{tenant_id}/");
        Self { key, config: EntraTenant { tenant_id, issuer, audience: "https://muster.example".into(), jwks_uri } }
    }

    pub(super) fn token(&self, now: Time, kid: &str, change: impl FnOnce(&mut serde_json::Value)) -> String {
        let mut claims = serde_json::json!({
            "tid": self.config.tenant_id, "iss": self.config.issuer, "aud": self.config.audience, "exp": now.seconds() + 3600,
            "nbf": now.seconds() - 60, "scp": "mdm_delegation", "oid": "o1", "upn": UPN, "deviceid": "entra-device-1",
        });
        change(&mut claims);
        let mut key = self.key.clone();
        key.set_key_id(kid);
        let header = josekit::jws::JwsHeader::new();
        let signer = josekit::jws::RS256.signer_from_jwk(&key).unwrap();
        josekit::jws::serialize_compact(claims.to_string().as_bytes(), &header, &signer).unwrap()
    }
}

async fn house_of(tenant: &Tenant) -> House {
    let config = tenant.config.clone();
    House::tweaked(move |c| c.windows.entra = vec![config]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e7_only_a_sound_token_of_the_tenant_enrols() {
    let tenant = Tenant::start().await;
    let house = house_of(&tenant).await;
    let now = house.server.app.now();
    let good = tenant.token(now, "k1", |_| ());
    let payload = good.split('.').nth(1).unwrap();
    let none = format!("eyJhbGciOiJub25lIiwia2lkIjoiazEifQ.{payload}.");
    let forged = format!("{}A.{}", good.rsplit_once('.').unwrap().0, good.rsplit_once('.').unwrap().1);
    let cases = [
        ("alg none", none),
        ("signature", forged),
        ("kid", tenant.token(now, "unknown", |_| ())),
        ("aud", tenant.token(now, "k1", |c| c["aud"] = "https://other.example".into())),
        ("tid", tenant.token(now, "k1", |c| c["tid"] = "99999999-2222-3333-4444-555555555555".into())),
        ("exp", tenant.token(now, "k1", |c| c["exp"] = (now.seconds() - 3600).into())),
        ("scp", tenant.token(now, "k1", |c| c["scp"] = "other".into())),
        ("rubbish", "rubbish".to_owned()),
    ];
    for (what, bad) in cases {
        let refused =
            enroll::policy(&mut house.client(), &house.url("/EnrollmentServer/Policy.svc"), &Security::Jwt(bad.into_bytes())).await;
        let Err(Failure::Fault(fault)) = refused else { panic!("{what}") };
        assert_eq!(fault.code, Code::Authentication, "{what}");
    }
    let stranger = tenant.token(now, "k1", |c| c["upn"] = "nobody@example.org".into());
    let stranger = Security::Jwt(stranger.into_bytes());
    let refused = enroll::policy(&mut house.client(), &house.url("/EnrollmentServer/Policy.svc"), &stranger).await;
    assert_eq!(fault(refused).0, Code::Authorization);
    assert!(house.refused("ENR0016").await);
    house.enable(false).await;
    let disabled = Security::Jwt(good.clone().into_bytes());
    let refused = enroll::policy(&mut house.client(), &house.url("/EnrollmentServer/Policy.svc"), &disabled).await;
    assert_eq!(fault(refused).0, Code::Authorization);
    assert!(house.refused("AUT0001").await);
    house.enable(true).await;
    let machine = Machine::windows_11(1);
    enroll::enroll(&mut house.client(), &house.discovery(), &machine, &SignIn::Jwt(good), &key()).await.unwrap();
    let all = house.server.app.store.read(|c| devices::list_devices(c, &Filter::default(), "", 10)).await.unwrap();
    assert_eq!(all[0].entra_device_id.as_deref(), Some("entra-device-1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e14_the_terms_are_answered_with_exactly_the_parameters_that_windows_expects() {
    let tenant = Tenant::start().await;
    let house = house_of(&tenant).await;
    let token = tenant.token(house.server.app.now(), "k1", |c| c["scp"] = serde_json::Value::Null);
    let client = house.server.client();
    let visit = |redirect: &str, version: &str, mode: &str, token: &str| {
        let query = [("redirect_uri", redirect), ("client-request-id", "crid-1"), ("api-version", version), ("mode", mode)];
        let url = Url::parse_with_params(&format!("{}/EnrollmentServer/TermsOfUse", house.server.web), query).unwrap();
        client.get(url).bearer_auth(token).send()
    };
    let home = "ms-appx-web://Microsoft.AAD.BrokerPlugin";
    let location = |answer: &reqwest::Response| {
        assert_eq!(answer.status(), 302);
        answer.headers()["location"].to_str().unwrap().to_owned()
    };
    let elsewhere = visit("https://x", "1.0", "", &token).await.unwrap();
    assert_eq!(elsewhere.status(), 400);
    assert!(elsewhere.text().await.unwrap().contains("ENR0015"));
    let wrong = location(&visit(home, "2.0", "", &token).await.unwrap());
    assert!(wrong.starts_with(&format!("{home}?error=invalid_request&error_description=")) && wrong.ends_with("&client-request-id=crid-1"));
    let wrong = location(&visit(home, "1.0", "", "bad").await.unwrap());
    assert!(wrong.starts_with(&format!("{home}?error=unauthorized_client&")), "{wrong}");
    assert!(!visit(home, "1.0", "azureadjoin", &token).await.unwrap().text().await.unwrap().contains("Decline"));
    let page = visit(home, "1.0", "", &token).await.unwrap().text().await.unwrap();
    assert!(page.contains("Decline"));
    let state = page.split_once("name=\"state\" value=\"").unwrap().1.split_once('"').unwrap().0.to_owned();
    let decide = |decision: &str, state: &str| {
        let body = Url::parse_with_params("http://x/", [("state", state), ("decision", decision)]).unwrap();
        client.post(format!("{}/EnrollmentServer/TermsOfUse", house.server.web)).body(body.query().unwrap().to_owned()).send()
    };
    assert_eq!(location(&decide("decline", &state).await.unwrap()), format!("{home}?IsAccepted=false&client-request-id=crid-1"));
    assert_eq!(decide("accept", "forged.state").await.unwrap().status(), 400);
    let accepted = location(&decide("accept", &state).await.unwrap());
    let blob = accepted.strip_prefix(&format!("{home}?IsAccepted=true&OpaqueBlob=")).unwrap();
    let blob = blob.strip_suffix("&client-request-id=crid-1").unwrap().to_owned();
    let jwt = tenant.token(house.server.app.now(), "k1", |_| ());
    let mut machine = Machine::windows_11(1);
    machine.more.push(("EnrollmentData".into(), "forged".into()));
    let refused = enroll::enroll(&mut house.client(), &house.discovery(), &machine, &SignIn::Jwt(jwt.clone()), &key()).await;
    assert_eq!(fault(refused).1, Some(ErrorType::InvalidEnrollmentData));
    assert!(house.refused("ENR0005").await);
    // The terms that another person accepted are not accepted.
    machine.more = vec![("EnrollmentData".into(), blob.clone())];
    let other = tenant.token(house.server.app.now(), "k1", |c| c["oid"] = "o2".into());
    let refused = enroll::enroll(&mut house.client(), &house.discovery(), &machine, &SignIn::Jwt(other), &key()).await;
    assert_eq!(fault(refused).1, Some(ErrorType::InvalidEnrollmentData));
    let rows: Vec<_> = house.audit().await.into_iter().filter(|(action, _)| action == "terms.refused").map(|(_, after)| after).collect();
    for code in ["ENR0015", "invalid_request", "AUT0006", "ENR0005"] {
        assert!(rows.iter().any(|after| after.contains(code)), "{code}");
    }
    machine.more.pop();
    machine.more.push(("EnrollmentData".into(), blob));
    enroll::enroll(&mut house.client(), &house.discovery(), &machine, &SignIn::Jwt(jwt), &key()).await.unwrap();
    // Too old: the page that was left open, and the answer that was kept. Without an answer there is nothing to check.
    let page = visit(home, "1.0", "", &token).await.unwrap().text().await.unwrap();
    let state = page.split_once("name=\"state\" value=\"").unwrap().1.split_once('"').unwrap().0.to_owned();
    house.server.clock.advance(61 * MINUTE);
    assert_eq!(decide("accept", &state).await.unwrap().status(), 400);
    let jwt = tenant.token(house.server.app.now(), "k1", |_| ());
    let refused = enroll::enroll(&mut house.client(), &house.discovery(), &machine, &SignIn::Jwt(jwt.clone()), &key()).await;
    assert_eq!(fault(refused).1, Some(ErrorType::InvalidEnrollmentData));
    machine.more.clear();
    enroll::enroll(&mut house.client(), &house.discovery(), &machine, &SignIn::Jwt(jwt), &key()).await.unwrap();
    // A tenant that is not configured.
    let stranger = Tenant { config: EntraTenant { tenant_id: "t2".into(), ..tenant.config.clone() }, key: tenant.key.clone() };
    let token = stranger.token(house.server.app.now(), "k1", |c| c["scp"] = serde_json::Value::Null);
    let wrong = location(&visit(home, "1.0", "", &token).await.unwrap());
    assert!(wrong.starts_with(&format!("{home}?error=unauthorized_client&")), "{wrong}");
}
