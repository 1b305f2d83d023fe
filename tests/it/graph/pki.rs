//! Authorities, certificates and the push certificate over the API.

use std::slice::from_ref;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster::clock::{DAY, MINUTE};
use muster::domain::access::{Reach, Scope};
use muster::domain::certificate::{Grant, KeyAlgorithm, Purpose};
use muster::domain::device::Platform;
use muster::domain::group::Member;
use muster::service::directory;
use muster::service::pki::keys::SigningKey;
use muster::service::pki::{authority, issue};
use muster::store::certificates::Search;
use muster::store::devices;
use openssl::pkey::PKey;
use openssl::x509::X509Req;
use reqwest::Method;
use serde_json::{Value, json};

use super::access::{delegated, give_within};
use super::{Caller, by, names, register, token, user};
use crate::desired::device;
use crate::support::ca::Ca;

const AUTHORITIES: &str = "/beta/deviceManagement/cloudCertificationAuthority";
const LEAVES: &str = "/beta/deviceManagement/cloudCertificationAuthorityLeafCertificate";
const PUSH: &str = "/v1.0/deviceManagement/applePushNotificationCertificate";
const TOPIC: &str = "com.apple.mgmt.External.01234567-89ab-cdef-0123-456789abcdef";

async fn message(caller: &Caller, method: Method, path: &str, body: Value) -> (u16, String) {
    let answer = caller.send(method, path, Some(body)).await;
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap();
    (status, body["error"]["message"].as_str().unwrap_or_default().to_owned())
}

async fn named(caller: &Caller, name: &str) -> Value {
    let all = caller.get(AUTHORITIES).await;
    all["value"].as_array().unwrap().iter().find(|one| one["displayName"] == name).unwrap().clone()
}

/// A certificate of the issuing authority for a device of somebody.
async fn issued(caller: &Caller, upn: &str) -> (String, String, Value) {
    let app = &caller.server.app;
    let (owner, _) = match directory::find_user(app, upn, &Reach::All).await {
        Ok(found) => found,
        Err(_) => (user(&caller.server, upn, "Owner").await, app.now()),
    };
    let (now, one) = (app.now(), device(&format!("PC of {upn}"), Platform::Windows, Some(&owner.id)));
    let (row, id) = (one.clone(), one.id.clone());
    app.store.write(move |tx| devices::insert_device(tx, &row, now)).await.unwrap();
    let grant = Grant { device_id: Some(id), user_id: Some(owner.id), ..Grant::client(Purpose::Authentication, upn, 30) };
    let spki = SigningKey::generate(KeyAlgorithm::P256).unwrap().spki().unwrap();
    let issuing = authority::issuing(app).await.unwrap();
    let made = issue::issue(app, &issuing.id, &grant, &spki, "cli:test", "local").await.unwrap();
    (made.certificate.id.to_string(), made.certificate.serial, json!(one.id))
}

#[actix_web::test]
async fn authorities_are_made_changed_and_put_out_of_work() {
    let caller = Caller::everything().await;
    let root = named(&caller, "root").await;
    assert_eq!(
        (&root["cloudCertificationAuthorityType"], &root["certificationAuthorityStatus"], &root["scepServerUrl"]),
        (&json!("rootCertificationAuthority"), &json!("active"), &Value::Null)
    );
    let body = json!({
        "@odata.type": "#microsoft.graph.cloudCertificationAuthority", "displayName": "Wi-Fi CA", "description": "For networks",
        "cloudCertificationAuthorityType": "issuingCertificationAuthority", "certificationAuthorityIssuerId": root["id"],
        "certificateKeySize": "eCP384", "cloudCertificationAuthorityHashingAlgorithm": "sha384", "keyPlatform": "software",
        "commonName": "Networks", "organizationName": "Example", "organizationUnit": "IT", "countryName": "DE", "localityName": "Ulm",
        "stateName": "BW", "validityPeriodInYears": 5, "extendedKeyUsages": [],
    });
    let made = caller.post(AUTHORITIES, body.clone()).await;
    for (name, value) in body.as_object().unwrap().iter().filter(|(name, _)| !name.contains('@')) {
        assert_eq!(made[name], *value, "{name}");
    }
    assert_eq!(made["subjectName"], "C=DE, ST=BW, L=Ulm, O=Example, OU=IT, CN=Networks");
    assert_eq!((&made["issuerCommonName"], &made["rootCertificateCommonName"]), (&root["commonName"], &root["commonName"]));
    assert_eq!(made["scepServerUrl"], format!("{}/scep/wi-fi-ca", caller.server.web));
    assert_eq!((&made["eTag"], &made["@odata.etag"], &made["versionNumber"]), (&json!("W/\"1\""), &json!("W/\"1\""), &json!(1)));
    assert!(made["certificateRevocationListUrl"].as_str().unwrap().ends_with("/crl/wi-fi-ca.crl"));

    let refused = [
        (json!({ "displayName": "Wi-Fi CA" }), 409, "CRT0048"),
        (json!({ "displayName": "日本" }), 400, "CRT0024"),
        (json!({ "displayName": "" }), 400, "displayName"),
        (json!({ "displayName": " x" }), 400, "PRF0004"),
        (json!({ "displayName": "Other", "countryName": "Germany" }), 400, "CRT0015"),
        (json!({ "displayName": "Other", "certificateKeySize": "eCP521" }), 400, "certificateKeySize"),
        (json!({ "displayName": "Other", "cloudCertificationAuthorityHashingAlgorithm": "sha512" }), 400, "sha384"),
        (json!({ "displayName": "Other", "keyPlatform": "hardwareSecurityModule" }), 400, "keyPlatform"),
        (json!({ "displayName": "Other", "extendedKeyUsages": [{ "name": "x", "objectIdentifier": "1.2.3" }] }), 400, "extendedKeyUsages"),
        (json!({ "displayName": "Other", "validityPeriodInYears": 0 }), 400, "validityPeriodInYears"),
        (json!({ "displayName": "Other", "cloudCertificationAuthorityType": "unknown" }), 400, "cloudCertificationAuthorityType"),
        (json!({ "displayName": "Other", "certificationAuthorityIssuerId": null }), 400, "certificationAuthorityIssuerId"),
        (json!({ "displayName": "Other", "certificationAuthorityIssuerId": made["id"] }), 400, "CRT0011"),
    ];
    for (change, status, word) in refused {
        let mut asked = body.clone();
        asked.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let (got, why) = message(&caller, Method::POST, AUTHORITIES, asked).await;
        assert!(got == status && why.contains(word), "{change}: {got} {why}");
    }

    let path = format!("{AUTHORITIES}/{}", made["id"].as_str().unwrap());
    let changed: Value = with_tag(&caller, Method::PATCH, &path, "W/\"1\"", json!({ "displayName": "Nets", "eTag": "W/\"1\"" })).await.1;
    assert_eq!(
        (&changed["displayName"], &changed["description"], &changed["eTag"]),
        (&json!("Nets"), &json!("For networks"), &json!("W/\"2\""))
    );
    let (status, stale) = with_tag(&caller, Method::PATCH, &path, "W/\"1\"", json!({ "displayName": "Late" })).await;
    assert_eq!((status, &stale["error"]["code"]), (412, &json!("PreconditionFailed")));
    assert_eq!(caller.get(&path).await["displayName"], "Nets");
    let (status, why) = message(&caller, Method::PATCH, &path, json!({ "certificateKeySize": "rsa2048" })).await;
    assert!(status == 400 && why.contains("certificateKeySize"), "{why}");

    let status_path = format!("{path}/changeCloudCertificationAuthorityStatus");
    let order = |word: &str, version: i64| json!({ "certificationAuthorityStatus": word, "certificationAuthorityVersion": version });
    let paused = caller.post(&status_path, order("paused", 1)).await;
    assert_eq!((&paused["certificationAuthorityStatus"], &paused["eTag"]), (&json!("paused"), &json!("W/\"3\"")));
    assert_eq!(with_tag(&caller, Method::POST, &status_path, "W/\"2\"", order("active", 1)).await.0, 412);
    for wrong in [order("signingPending", 1), order("active", 2)] {
        assert_eq!(caller.refused(Method::POST, &status_path, Some(wrong)).await, (400, "ModelValidationFailure".into()));
    }
    assert_eq!(caller.post(&status_path, order("active", 0)).await["certificationAuthorityStatus"], "active");
    let (status, why) = message(&caller, Method::DELETE, &path, json!({})).await;
    assert!(status == 400 && why.contains("CRT0054"), "{why}");
    let revoke = format!("{path}/revokeCloudCertificationAuthorityCertificate");
    let revoked = caller.post(&revoke, json!({ "certificationAuthorityVersion": 1 })).await;
    assert_eq!(revoked["certificationAuthorityStatus"], "revoked");
    let (status, why) = message(&caller, Method::POST, &status_path, order("active", 1)).await;
    assert!(status == 400 && why.contains("CRT0011"), "{why}");
    let root_path = format!("{AUTHORITIES}/{}/changeCloudCertificationAuthorityStatus", root["id"].as_str().unwrap());
    let (status, why) = message(&caller, Method::POST, &root_path, order("revoked", 1)).await;
    assert!(status == 400 && why.contains("CRT0051"), "{why}");

    let issuing =
        caller.get(&format!("{AUTHORITIES}?$filter=certificationAuthorityStatus eq 'active'&$select=displayName&$count=true")).await;
    assert_eq!((names(&issuing, "displayName"), &issuing["@odata.count"]), (vec!["root".into(), "issuing".into()], &json!(2)));
    assert_eq!(caller.refused(Method::GET, &format!("{AUTHORITIES}?$filter=sealedKey eq 'x'"), None).await, (400, "BadRequest".into()));
    assert_eq!(caller.refused(Method::GET, &AUTHORITIES.replace("beta", "v1.0"), None).await, (400, "BadRequest".into()));
    let whole = caller.get(AUTHORITIES).await.to_string().to_ascii_lowercase();
    assert!(!whole.contains("private") && !whole.contains("sealed"), "{whole}");
}

async fn with_tag(caller: &Caller, method: Method, path: &str, tag: &str, body: Value) -> (u16, Value) {
    let url = format!("{}{path}", caller.server.web);
    let answer = caller.client.request(method, url).bearer_auth(&caller.token).header("If-Match", tag).json(&body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[actix_web::test]
async fn an_outside_root_signs_an_authority() {
    let caller = Caller::everything().await;
    let body = json!({ "displayName": "Branch", "cloudCertificationAuthorityType": "issuingCertificationAuthorityWithExternalRoot" });
    let waiting = caller.post(AUTHORITIES, body.clone()).await;
    assert_eq!((&waiting["certificationAuthorityStatus"], &waiting["thumbprint"]), (&json!("signingPending"), &Value::Null));
    let request = X509Req::from_pem(waiting["certificateSigningRequest"].as_str().unwrap().as_bytes()).unwrap();
    let (status, why) = message(&caller, Method::POST, AUTHORITIES, body).await;
    assert!(status == 409 && why.contains("CRT0052"), "{status} {why}");
    let path = format!("{AUTHORITIES}/{}", waiting["id"].as_str().unwrap());
    let change = json!({ "certificationAuthorityStatus": "paused" });
    let (status, why) = message(&caller, Method::POST, &format!("{path}/changeCloudCertificationAuthorityStatus"), change).await;
    assert!(status == 409 && why.contains("CRT0052"), "{status} {why}");
    assert_eq!(caller.send(Method::PATCH, &path, Some(json!({ "description": "In the branch" }))).await.status(), 200);

    let outside = Ca::authority("Outside");
    let signed = outside.sign_authority(&request.public_key().unwrap(), "Branch");
    let upload = format!("{path}/uploadExternallySignedCertificationAuthorityCertificate");
    let root = String::from_utf8(outside.root.to_pem().unwrap()).unwrap();
    let alone = json!({ "signedCertificate": STANDARD.encode(signed.to_der().unwrap()), "trustChainCertificates": [] });
    let (status, why) = message(&caller, Method::POST, &upload, alone).await;
    assert!(status == 400 && why.contains("CRT0040"), "{why}");
    let whole = json!({
        "signedCertificate": STANDARD.encode(signed.to_der().unwrap()), "certificationAuthorityVersion": 1,
        "trustChainCertificates": [{ "displayName": "Outside", "certificate": root }],
    });
    let working = caller.post(&upload, whole.clone()).await;
    assert_eq!((&working["certificationAuthorityStatus"], &working["certificateSigningRequest"]), (&json!("active"), &Value::Null));
    assert_eq!((&working["displayName"], &working["description"]), (&json!("Branch"), &json!("In the branch")));
    assert_eq!((&working["rootCertificateCommonName"], &working["eTag"]), (&json!("Outside"), &json!("W/\"3\"")));
    let (status, why) = message(&caller, Method::POST, &upload, whole).await;
    assert!(status == 400 && why.contains("CRT0050"), "{why}");

    let other = caller
        .post(
            AUTHORITIES,
            json!({ "displayName": "Not wanted", "cloudCertificationAuthorityType": "issuingCertificationAuthorityWithExternalRoot" }),
        )
        .await;
    let path = format!("{AUTHORITIES}/{}", other["id"].as_str().unwrap());
    assert_eq!(caller.send(Method::DELETE, &path, None).await.status(), 204);
    assert_eq!(caller.refused(Method::GET, &path, None).await.0, 404);
}

#[actix_web::test]
async fn certificates_are_found_and_revoked() {
    let caller = Caller::everything().await;
    let (first, serial, device) = issued(&caller, "ana@x.example").await;
    let (second, second_serial, _) = issued(&caller, "bob@x.example").await;
    let issuing = named(&caller, "issuing").await;
    let path = format!("{AUTHORITIES}/{}", issuing["id"].as_str().unwrap());
    let found = async |filter: &str| names(&caller.get(&format!("{LEAVES}?$filter={filter}")).await, "id");
    let both = vec![first.clone(), second.clone()];
    assert_eq!(found(&format!("serialNumber eq '{}'", serial.to_uppercase())).await, from_ref(&first));
    assert_eq!(found(&format!("deviceId eq {}", device.as_str().unwrap())).await, from_ref(&first));
    assert_eq!(found("userPrincipalName eq 'Bob@x.example'").await, from_ref(&second));
    assert_eq!(found("certificateStatus eq 'active'").await, both);
    assert_eq!(found("certificateStatus ne 'active'").await, [""; 0]);
    assert_eq!(names(&caller.get(&format!("{path}/cloudCertificationAuthorityLeafCertificate")).await, "id"), both);
    let root = named(&caller, "root").await;
    let of_root = format!("{AUTHORITIES}/{}/cloudCertificationAuthorityLeafCertificate", root["id"].as_str().unwrap());
    assert_eq!(names(&caller.get(&of_root).await, "id"), [""; 0], "what is our own is no leaf");

    let one = caller.get(&format!("{LEAVES}/{first}")).await;
    assert_eq!(
        (&one["deviceName"], &one["devicePlatform"], &one["userPrincipalName"], &one["issuerName"]),
        (&json!("PC of ana@x.example"), &json!("Windows"), &json!("ana@x.example"), &json!("issuing"))
    );
    assert_eq!(
        (&one["extendedKeyUsages"], &one["keyUsages"]),
        (&json!(["1.3.6.1.5.5.7.3.2"]), &json!(["digitalSignature", "keyEncipherment"]))
    );
    let picked =
        caller.get(&format!("{LEAVES}?$select=serialNumber&$top=1&$count=true&$filter=certificateStatus in ('active','revoked')")).await;
    assert_eq!((&picked["@odata.count"], picked["value"][0].as_object().unwrap().len()), (&json!(2), 2));
    let next = picked["@odata.nextLink"].as_str().unwrap().strip_prefix(&caller.server.web).unwrap().to_owned();
    // A moment later the states mean something else, and the question is still the same.
    caller.server.clock.advance(MINUTE);
    assert_eq!(names(&caller.get(&next).await, "id"), from_ref(&second));

    let search = format!("{path}/searchCloudCertificationAuthorityLeafCertificateBySerialNumber");
    assert_eq!(caller.post(&search, json!({ "certificateSerialNumber": format!("0x{serial}") })).await["id"], json!(first));
    assert_eq!(caller.refused(Method::POST, &search, Some(json!({ "certificateSerialNumber": "00" }))).await.0, 404);
    assert_eq!(caller.refused(Method::POST, &search, Some(json!({ "certificateSerialNumber": "x" }))).await.0, 400);
    let revoke = format!("{path}/revokeLeafCertificate");
    let revoked = caller.post(&revoke, json!({ "leafCertificateId": first })).await;
    assert!(revoked["certificateStatus"] == "revoked" && revoked["revocationDateTime"].is_string());
    let (status, why) = message(&caller, Method::POST, &revoke, json!({ "leafCertificateId": first })).await;
    assert!(status == 400 && why.contains("CRT0019"), "{why}");
    let by_serial = format!("{path}/revokeLeafCertificateBySerialNumber");
    assert_eq!(caller.post(&by_serial, json!({ "certificateSerialNumber": second_serial })).await["certificateStatus"], "revoked");
    let of_root = format!("{AUTHORITIES}/{}/revokeLeafCertificate", root["id"].as_str().unwrap());
    assert_eq!(caller.refused(Method::POST, &of_root, Some(json!({ "leafCertificateId": second }))).await.0, 404);
    // A certificate of our own is revoked elsewhere.
    let own = caller.server.app.store.read(|c| muster::store::certificates::list_certificates(c, &Search::default(), 100)).await.unwrap();
    let own = own.iter().find(|certificate| certificate.grant.purpose.is_ours()).unwrap();
    assert_eq!(caller.refused(Method::POST, &revoke, Some(json!({ "leafCertificateId": own.id }))).await.0, 404);

    let (third, ..) = issued(&caller, "ana@x.example").await;
    caller.server.clock.advance(31 * DAY);
    let (again, secret) = register(&caller.server, &[Scope::CloudCaReadAll]).await;
    let token = token(&caller.server, &again, &secret).await;
    let caller = Caller { token, ..caller };
    let found = async |filter: &str| names(&caller.get(&format!("{LEAVES}?$filter={filter}")).await, "id");
    assert_eq!((found("certificateStatus eq 'expired'").await, found("certificateStatus eq 'revoked'").await), (vec![third], both));
}

#[actix_web::test]
async fn whoever_is_bound_to_groups_sees_their_certificates_and_changes_no_authority() {
    let everybody = Caller::everything().await;
    let (near, ..) = issued(&everybody, "ana@x.example").await;
    let (far, ..) = issued(&everybody, "bob@x.example").await;
    let server = everybody.server;
    let (ana, _) = directory::find_user(&server.app, "ana@x.example", &Reach::All).await.unwrap();
    let helper = user(&server, "helper@x.example", "Helper").await;
    let sales = directory::create_group(&server.app, "Sales", "", &by()).await.unwrap().id;
    directory::add_members(&server.app, &sales, vec![Member::User(ana.id)], &by()).await.unwrap();
    give_within(&server, "certificate-manager", &helper.id, Reach::Groups([sales].into())).await;
    let token = delegated(&server, "helper@x.example", Scope::ALL).await;
    let helper = Caller::of(server, token);
    assert_eq!(names(&helper.get(LEAVES).await, "id"), from_ref(&near));
    assert_eq!(helper.refused(Method::GET, &format!("{LEAVES}/{far}"), None).await.0, 404);
    let issuing = named(&helper, "issuing").await;
    let path = format!("{AUTHORITIES}/{}", issuing["id"].as_str().unwrap());
    let revoke = format!("{path}/revokeLeafCertificate");
    assert_eq!(helper.refused(Method::POST, &revoke, Some(json!({ "leafCertificateId": far }))).await.0, 404);
    assert_eq!(helper.post(&revoke, json!({ "leafCertificateId": near })).await["certificateStatus"], "revoked");
    for (method, path) in [
        (Method::PATCH, path.clone()),
        (Method::DELETE, path.clone()),
        (Method::POST, AUTHORITIES.to_owned()),
        (Method::POST, format!("{path}/changeCloudCertificationAuthorityStatus")),
        (Method::POST, format!("{path}/uploadExternallySignedCertificationAuthorityCertificate")),
    ] {
        let refused = helper.refused(method, &path, Some(json!({ "displayName": "x", "certificationAuthorityStatus": "paused" }))).await;
        assert_eq!(refused, (403, "Authorization_RequestDenied".to_owned()), "{path}");
    }
}

#[actix_web::test]
async fn a_push_certificate_is_asked_for_brought_and_kept_to_its_topic() {
    let caller = Caller::everything().await;
    let none = caller.get(PUSH).await;
    assert!(none["topicIdentifier"].is_null() && none["id"].is_string(), "{none}");
    let apple = Ca::new("Apple");
    let now = caller.server.app.now().seconds();
    let asked = async || {
        let answer = caller.get(&format!("{PUSH}/downloadApplePushNotificationCertificateSigningRequest()")).await;
        X509Req::from_pem(answer["value"].as_str().unwrap().as_bytes()).unwrap().public_key().unwrap()
    };
    let pem = |key: &PKey<openssl::pkey::Public>, topic: &str, days: i64| {
        String::from_utf8(apple.push_certificate(key, topic, now - 60, now + days * 86_400).to_pem().unwrap()).unwrap()
    };
    let key = asked().await;
    assert!(key.public_eq(&*asked().await), "the key waits");
    let first =
        caller.send(Method::PATCH, PUSH, Some(json!({ "appleIdentifier": "push@x.example", "certificate": pem(&key, TOPIC, 365) })));
    let first: Value = first.await.json().await.unwrap();
    assert_eq!((&first["topicIdentifier"], &first["appleIdentifier"]), (&json!(TOPIC), &json!("push@x.example")));
    assert!(first["certificate"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE") && first["expirationDateTime"].is_string());

    let other = pem(&asked().await, &TOPIC.replace('0', "1"), 366);
    let (status, why) = message(&caller, Method::PATCH, PUSH, json!({ "certificate": other })).await;
    assert!(status == 400 && why.contains("APN0003"), "{why}");
    assert_eq!(caller.get(PUSH).await["certificateSerialNumber"], first["certificateSerialNumber"], "the old one is still used");
    let foreign = PKey::from_rsa(openssl::rsa::Rsa::generate(2048).unwrap()).unwrap();
    let foreign = PKey::public_key_from_der(&foreign.public_key_to_der().unwrap()).unwrap();
    let (status, why) = message(&caller, Method::PATCH, PUSH, json!({ "certificate": pem(&foreign, TOPIC, 366) })).await;
    assert!(status == 400 && why.contains("APN0002"), "{why}");
    for nothing in [json!({}), json!({ "certificate": "!" })] {
        assert_eq!(caller.refused(Method::PATCH, PUSH, Some(nothing)).await, (400, "ModelValidationFailure".into()));
    }
    let renewed = caller.send(Method::PATCH, PUSH, Some(json!({ "certificate": pem(&asked().await, TOPIC, 367) }))).await;
    let renewed: Value = renewed.json().await.unwrap();
    assert_eq!(renewed["appleIdentifier"], "push@x.example", "as it was said before");
    assert_ne!(renewed["certificateSerialNumber"], first["certificateSerialNumber"]);
    assert!(!renewed.to_string().contains("PRIVATE"));
}
