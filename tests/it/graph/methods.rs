//! The sign-in log, people's passkeys, and what the organisation says about the ways to sign in.

use std::collections::BTreeSet;

use muster::clock::{MINUTE, Time};
use muster::domain::access::{Reach, Scope};
use muster::domain::group::Member;
use muster::domain::passkey::Policy as PasskeyPolicy;
use muster::domain::sign_in::SignIn;
use muster::domain::tap::{Policy, Rules};
use muster::domain::user::User;
use muster::service::directory;
use muster::service::identity::{passkey, policy};
use muster::store::sign_ins;
use reqwest::Method;
use serde_json::{Value, json};

use super::access::{delegated, give, give_within};
use super::{Caller, by, names, register, token, untagged, user};
use crate::sign_in::{ANA, SECURITY, house, pass, signed_in, use_passkey};
use crate::support::browser::Browser;
use crate::support::passkey::Authenticator;
use crate::support::server::Server;

const DENIED: &str = "Authorization_RequestDenied";
const LOG: &str = "/v1.0/auditLogs/signIns";
const POLICY: &str = "/v1.0/policies/authenticationMethodsPolicy";
const PASSES: &str = "/v1.0/policies/authenticationMethodsPolicy/authenticationMethodConfigurations/TemporaryAccessPass";
const PASSKEYS: &str = "/v1.0/policies/authenticationMethodsPolicy/authenticationMethodConfigurations/fido2";
const MAC: &str = "7fd635b3-2ef9-4542-8d9d-164f2c771efc";

async fn log(server: &Server, rows: Vec<SignIn>) {
    let write = move |tx: &mut muster::store::Tx<'_>| rows.iter().try_for_each(|row| sign_ins::insert_sign_in(tx, row));
    server.app.store.write(write).await.unwrap();
}

/// Some tries of two people, a second apart.
fn tries(ana: &User, bob: &User, from: Time) -> Vec<SignIn> {
    let one = |n: i64| {
        let who = if n % 3 == 0 { bob } else { ana };
        let row =
            SignIn::new(if n % 2 == 0 { "tap" } else { "passkey" }, "Account pages", &format!("192.0.2.{}", n % 4), from.plus(n * 1000));
        let row = SignIn {
            user_agent: "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/120.0 Safari/537.36 Edg/120.0.1".into(),
            app_id: if n < 6 { "0a5d1c52-0002-4000-8000-000000000001".into() } else { String::new() },
            is_interactive: n != 1,
            ..row.of(Some(who))
        };
        if n % 5 == 0 { row.failed(50126, "nobody has this passkey") } else { row }
    };
    (0..12).map(one).collect()
}

#[actix_web::test]
async fn the_sign_in_log_is_filtered_and_paged_newest_first() {
    let caller = Caller::with(&[Scope::AuditLogReadAll]).await;
    let (ana, bob) = (user(&caller.server, "ana@x.example", "Ana").await, user(&caller.server, "bob@x.example", "Bob").await);
    let from = Time(1_767_225_600_000);
    let rows = tries(&ana, &bob, from);
    log(&caller.server, rows.clone()).await;

    let (mut found, mut path, mut pages) = (Vec::new(), format!("{LOG}?$top=5&$count=true"), 0);
    loop {
        let page = caller.get(&path).await;
        assert_eq!(page["@odata.count"], 12);
        found.extend(names(&page, "id"));
        pages += 1;
        let Some(next) = page["@odata.nextLink"].as_str() else { break };
        path = next.strip_prefix(&caller.server.web).unwrap().to_owned();
    }
    let newest_first: Vec<String> = rows.iter().rev().map(|row| row.id.to_string()).collect();
    assert_eq!((found, pages), (newest_first.clone(), 3));

    let one = untagged(caller.get(&format!("{LOG}/{}", rows[5].id)).await);
    assert_eq!(
        one,
        json!({
            "@odata.context": format!("{}/v1.0/$metadata#auditLogs/signIns/$entity", caller.server.web),
            "id": rows[5].id, "createdDateTime": "2026-01-01T00:00:05Z", "userId": ana.id, "userPrincipalName": "ana@x.example",
            "userDisplayName": "Ana", "appId": "0a5d1c52-0002-4000-8000-000000000001", "appDisplayName": "Account pages",
            "resourceId": null, "resourceDisplayName": null, "ipAddress": "192.0.2.1", "clientAppUsed": "Browser", "correlationId": null,
            "isInteractive": true, "conditionalAccessStatus": "notApplied", "appliedConditionalAccessPolicies": [],
            "deviceDetail": {
                "browser": "Edge 120.0.1", "operatingSystem": "Windows", "deviceId": null, "displayName": null, "isCompliant": null,
                "isManaged": null, "trustType": null,
            },
            "location": null, "riskDetail": "hidden", "riskEventTypes_v2": [], "riskLevelAggregated": "hidden",
            "riskLevelDuringSignIn": "hidden", "riskState": "none",
            "status": { "errorCode": 50126, "failureReason": "nobody has this passkey", "additionalDetails": null },
        })
    );
    let beta = caller.get(&format!("/beta/auditLogs/signIns('{}')", rows[1].id)).await;
    assert_eq!(beta["signInEventTypes"], json!(["nonInteractiveUser"]));
    assert_eq!(beta["authenticationDetails"][0]["authenticationMethod"], "Passkey");
    assert!(beta["userAgent"].as_str().unwrap().ends_with("Edg/120.0.1"), "{beta}");

    for (filter, wanted) in [
        ("createdDateTime ge 2026-01-01T00:00:10Z".to_owned(), vec![11, 10]),
        ("createdDateTime lt 2026-01-01T00:00:02Z".to_owned(), vec![1, 0]),
        (format!("userId eq '{}'", bob.id), vec![9, 6, 3, 0]),
        ("userPrincipalName eq 'BOB@x.example' and status/errorCode ne 0".to_owned(), vec![0]),
        ("startsWith(userPrincipalName,'bo')".to_owned(), vec![9, 6, 3, 0]),
        ("appId eq '0A5D1C52-0002-4000-8000-000000000001' and ipAddress eq '192.0.2.1'".to_owned(), vec![5, 1]),
        ("status/errorCode eq 50126".to_owned(), vec![10, 5, 0]),
        ("isInteractive eq false".to_owned(), vec![1]),
        ("signInEventTypes/any(t: t eq 'nonInteractiveUser')".to_owned(), vec![1]),
    ] {
        let url = reqwest::Url::parse_with_params("https://x/", [("$filter", filter.as_str())]).unwrap();
        let page = caller.get(&format!("{LOG}?{}", url.query().unwrap())).await;
        let wanted: Vec<String> = wanted.iter().map(|at| rows[*at].id.to_string()).collect();
        assert_eq!(names(&page, "id"), wanted, "{filter}");
    }
    let oldest = caller.get(&format!("{LOG}?$orderby=createdDateTime&$top=2&$select=id,ipAddress")).await;
    assert_eq!(names(&oldest, "id"), newest_first.iter().rev().take(2).cloned().collect::<Vec<_>>());
    assert_eq!(oldest["value"][0].as_object().unwrap().len(), 2, "{oldest}");
    for wrong in ["$filter=riskState%20eq%20'none'", "$orderby=ipAddress", "$select=userAgent", "$filter=status/errorCode%20eq%20'x'"] {
        assert_eq!(caller.refused(Method::GET, &format!("{LOG}?{wrong}"), None).await, (400, "BadRequest".to_owned()), "{wrong}");
    }
    for id in ["x", "01900000-0000-7000-8000-000000000000"] {
        assert_eq!(caller.refused(Method::GET, &format!("{LOG}/{id}"), None).await, (404, "ResourceNotFound".to_owned()));
    }
    assert_eq!(caller.refused(Method::GET, "/v1.0/users", None).await, (403, DENIED.to_owned()));
}

#[actix_web::test]
async fn whoever_is_bound_to_groups_sees_the_sign_ins_of_their_people_and_changes_no_policy() {
    let server = Server::start().await;
    let (ana, bob) = (user(&server, "ana@x.example", "Ana").await, user(&server, "bob@x.example", "Bob").await);
    let helper = user(&server, "helper@x.example", "Helper").await;
    let rows = tries(&ana, &bob, server.app.now());
    log(&server, rows.clone()).await;
    let sales = directory::create_group(&server.app, "Sales", "", &by()).await.unwrap().id;
    directory::add_members(&server.app, &sales, vec![Member::User(ana.id.clone())], &by()).await.unwrap();
    give_within(&server, "administrator", &helper.id, Reach::Groups([sales].into())).await;
    let bound = delegated(&server, "helper@x.example", Scope::ALL).await;
    let helper = Caller::of(server, bound);
    let seen: BTreeSet<String> = names(&helper.get(LOG).await, "userPrincipalName").into_iter().collect();
    assert_eq!(seen, ["ana@x.example".to_owned()].into());
    let gone = (404, "ResourceNotFound".to_owned());
    assert_eq!(helper.refused(Method::GET, &format!("{LOG}/{}", rows[0].id), None).await, gone, "that is Bob's");
    assert_eq!(helper.get(PASSES).await["state"], "enabled");
    assert_eq!(helper.refused(Method::PATCH, PASSES, Some(json!({ "state": "disabled" }))).await, (403, DENIED.to_owned()));
}

/// Registers a passkey for somebody and signs in with it at another browser.
async fn with_passkey(server: &Server, user: &User) -> (Browser, String) {
    let (mut browser, text) = (Browser::new(server), pass(server, &user.id, Policy::default()).await);
    assert_eq!(browser.sign_in(SECURITY, &user.upn, &text).await.status, 303);
    let mut key = Authenticator::new(&server.web);
    assert_eq!(crate::sign_in::register(&mut browser, &mut key).await.status, 303);
    let mut other = Browser::new(server);
    assert_eq!(use_passkey(&mut other, &mut key).await.status, 303);
    let id = passkey::list(&server.app, &user.id).await.unwrap()[0].id.to_string();
    (other, id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passkeys_are_shown_and_taken_away_with_what_began_with_them() {
    let (server, ana) = house().await;
    let (mut browser, key) = {
        let user = User { id: ana.clone(), ..crate::desired::user(ANA) };
        with_passkey(&server, &user).await
    };
    let boss = user(&server, "boss@x.example", "Boss").await;
    give(&server, "administrator", &boss.id).await;
    let (mut of_boss, key_of_boss) = with_passkey(&server, &boss).await;
    user(&server, "helper@x.example", "Helper").await;
    let helper = directory::find_user(&server.app, "helper@x.example", &Reach::All).await.unwrap().0;
    give(&server, "helpdesk", &helper.id).await;
    // A pass beside the passkey.
    pass(&server, &ana, Policy::default()).await;

    let helpdesk = delegated(&server, "helper@x.example", Scope::ALL).await;
    let mut caller = Caller::of(server, helpdesk);
    let path = format!("/v1.0/users/{ANA}/authentication");
    let all = caller.get(&format!("{path}/methods")).await;
    let types: Vec<String> = names(&all, "@odata.type");
    assert_eq!(types, ["#microsoft.graph.temporaryAccessPassAuthenticationMethod", "#microsoft.graph.fido2AuthenticationMethod"], "{all}");
    let one = untagged(caller.get(&format!("{path}/fido2Methods/{key}")).await);
    let now = one["createdDateTime"].clone();
    assert_eq!(
        one,
        json!({
            "@odata.context": format!("{}/v1.0/$metadata#users('{ana}')/authentication/fido2Methods/$entity", caller.server.web),
            "@odata.type": "#microsoft.graph.fido2AuthenticationMethod", "id": key, "displayName": "Laptop", "createdDateTime": now,
            "aaGuid": "00000000-0000-0000-0000-000000000000", "model": "Passkey", "attestationCertificates": [],
            "attestationLevel": "notAttested",
        })
    );
    let listed = caller.get(&format!("/beta/users/{ana}/authentication/fido2Methods")).await;
    assert_eq!((&listed["value"][0]["id"], &listed["value"][0]["passkeyType"]), (&json!(key), &json!("deviceBound")));
    assert!(listed["value"][0]["lastUsedDateTime"].is_string(), "{listed}");

    let not_found = (404, "ResourceNotFound".to_owned());
    for id in [key_of_boss.as_str(), "x"] {
        assert_eq!(caller.refused(Method::GET, &format!("{path}/fido2Methods/{id}"), None).await, not_found, "{id}");
        assert_eq!(caller.refused(Method::DELETE, &format!("{path}/fido2Methods/{id}"), None).await, not_found, "{id}");
    }
    // Whoever may do more than the helper keeps their passkey.
    let theirs = format!("/v1.0/users/{}/authentication/fido2Methods/{key_of_boss}", boss.id);
    let refused = caller.send(Method::DELETE, &theirs, None).await;
    assert_eq!(refused.status(), 403);
    let refused: Value = refused.json().await.unwrap();
    assert!(refused["error"]["message"].as_str().unwrap().starts_with("ACC0013"), "{refused}");
    assert_eq!(of_boss.get(SECURITY).await.status, 200);

    assert_eq!(browser.get(SECURITY).await.status, 200);
    assert_eq!(caller.send(Method::DELETE, &format!("{path}/fido2Methods/{key}"), None).await.status(), 204);
    assert_eq!(browser.get(SECURITY).await.status, 303, "that session began with it");
    assert!(passkey::list(&caller.server.app, &ana).await.unwrap().is_empty());
    assert_eq!(caller.refused(Method::DELETE, &format!("{path}/fido2Methods/{key}"), None).await, not_found);

    let (application, secret) = register(&caller.server, &[Scope::MethodReadAll]).await;
    caller.token = token(&caller.server, &application, &secret).await;
    assert!(caller.get(&format!("{path}/fido2Methods")).await["value"].as_array().unwrap().is_empty());
    assert_eq!(caller.refused(Method::DELETE, &theirs, None).await, (403, DENIED.to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_sees_and_takes_away_their_own_methods_while_the_sign_in_is_fresh() {
    const OWN: &str = "/v1.0/me/authentication";
    let (server, ana) = house().await;
    let (mut browser, key) = {
        let user = User { id: ana.clone(), ..crate::desired::user(ANA) };
        with_passkey(&server, &user).await
    };
    let bob = user(&server, "bob@x.example", "Bob").await;
    let (_, key_of_bob) = with_passkey(&server, &bob).await;
    pass(&server, &ana, Policy::default()).await;
    let reads = delegated(&server, ANA, &[Scope::MethodRead]).await;
    let writes = delegated(&server, ANA, &[Scope::MethodReadWrite]).await;
    let mut caller = Caller::of(server, reads);
    assert_eq!(names(&caller.get(&format!("{OWN}/methods")).await, "@odata.type").len(), 2);
    assert_eq!(names(&caller.get(&format!("{OWN}/fido2Methods")).await, "id"), std::slice::from_ref(&key));
    assert_eq!(caller.get(&format!("{OWN}/fido2Methods/{key}")).await["displayName"], "Laptop");
    let passes = caller.get(&format!("{OWN}/temporaryAccessPassMethods")).await;
    let one = caller.get(&format!("{OWN}/temporaryAccessPassMethods/{}", passes["value"][0]["id"].as_str().unwrap())).await;
    assert!(one["temporaryAccessPass"].is_null() && one["isUsable"] == true, "{one}");
    let not_found = (404, "ResourceNotFound".to_owned());
    assert_eq!(caller.refused(Method::GET, &format!("{OWN}/fido2Methods/{key_of_bob}"), None).await, not_found);
    let path = format!("{OWN}/fido2Methods/{key}");
    assert_eq!(caller.refused(Method::DELETE, &path, None).await, (403, DENIED.to_owned()), "it may only read");
    assert_eq!(caller.refused(Method::GET, &format!("/v1.0/users/{ANA}/authentication/methods"), None).await, (403, DENIED.to_owned()));

    caller.token = writes;
    assert_eq!(caller.refused(Method::DELETE, &format!("{OWN}/fido2Methods/{key_of_bob}"), None).await, not_found);
    caller.server.clock.advance(16 * MINUTE);
    let stale = caller.send(Method::DELETE, &path, None).await;
    assert_eq!(stale.status(), 403);
    assert!(stale.text().await.unwrap().contains("AUT0017"), "they signed in too long ago");
    caller.token = delegated(&caller.server, ANA, &[Scope::MethodReadWrite]).await;
    assert_eq!(browser.get(SECURITY).await.status, 200);
    assert_eq!(caller.send(Method::DELETE, &path, None).await.status(), 204);
    assert_eq!(browser.get(SECURITY).await.status, 303, "that session began with it");
    assert_eq!(passkey::list(&caller.server.app, &bob.id).await.unwrap().len(), 1);
    let (application, secret) = register(&caller.server, &[Scope::MethodReadAll]).await;
    caller.token = token(&caller.server, &application, &secret).await;
    assert_eq!(caller.refused(Method::GET, &format!("{OWN}/methods"), None).await.0, 400, "an application is nobody");
}

/// What a refused change says first: the code of the refusal.
async fn said(caller: &Caller, path: &str, body: Value) -> String {
    let answer = caller.send(Method::PATCH, path, Some(body)).await;
    assert_eq!(answer.status(), 400);
    let body: Value = answer.json().await.unwrap();
    assert!(body["error"]["code"].is_string());
    body["error"]["message"].as_str().unwrap().to_owned()
}

#[actix_web::test]
async fn the_policy_of_methods_is_read_and_changed() {
    let scopes = [Scope::PolicyReadWriteAuthenticationMethod, Scope::MethodReadWriteAll, Scope::RbacReadWriteAll];
    let mut caller = Caller::with(&scopes).await;
    let ana = user(&caller.server, "ana@x.example", "Ana").await;
    let whole = caller.get(POLICY).await;
    assert_eq!((&whole["id"], &whole["lastModifiedDateTime"]), (&json!("authenticationMethodsPolicy"), &Value::Null));
    let everybody = json!([{ "targetType": "group", "id": "all_users", "isRegistrationRequired": false }]);
    let (fido2, passes) = (
        json!({
            "@odata.type": "#microsoft.graph.fido2AuthenticationMethodConfiguration", "id": "Fido2", "state": "enabled",
            "excludeTargets": [], "includeTargets": everybody, "isAttestationEnforced": false, "isSelfServiceRegistrationAllowed": true,
            "keyRestrictions": { "isEnforced": false, "enforcementType": "block", "aaGuids": [] },
        }),
        json!({
            "@odata.type": "#microsoft.graph.temporaryAccessPassAuthenticationMethodConfiguration", "id": "TemporaryAccessPass",
            "state": "enabled", "excludeTargets": [], "includeTargets": everybody, "defaultLength": 12, "defaultLifetimeInMinutes": 60,
            "isUsableOnce": false, "maximumLifetimeInMinutes": 43200, "minimumLifetimeInMinutes": 10,
        }),
    );
    assert_eq!(whole["authenticationMethodConfigurations"], json!([fido2, passes]));
    let listed = caller.get(&format!("{POLICY}/authenticationMethodConfigurations")).await;
    assert_eq!(listed["value"], json!([fido2, passes]));
    let mut one = untagged(caller.get(&format!("{POLICY}/authenticationMethodConfigurations('TEMPORARYaccessPASS')")).await);
    one.as_object_mut().unwrap().remove("@odata.context");
    assert_eq!(one, passes);

    // What is said holds for the next pass.
    let path = format!("/v1.0/users/{}/authentication/temporaryAccessPassMethods", ana.id);
    let made = caller.post(&path, json!({ "lifetimeInMinutes": 480, "isUsableOnce": false })).await;
    assert_eq!((&made["lifetimeInMinutes"], &made["isUsableOnce"]), (&json!(480), &json!(false)));
    let change = json!({
        "@odata.type": "#microsoft.graph.temporaryAccessPassAuthenticationMethodConfiguration", "id": "temporaryaccesspass",
        "maximumLifetimeInMinutes": 120, "isUsableOnce": true, "defaultLength": 16, "includeTargets": everybody, "excludeTargets": [],
    });
    assert_eq!(caller.send(Method::PATCH, PASSES, Some(change)).await.status(), 204);
    let refused = caller.send(Method::POST, &path, Some(json!({ "lifetimeInMinutes": 480 }))).await;
    assert_eq!(refused.status(), 400);
    assert!(refused.text().await.unwrap().contains("AUT0019"));
    let made = caller.post(&path, json!({ "lifetimeInMinutes": 120, "isUsableOnce": false })).await;
    assert_eq!(made["isUsableOnce"], true);
    assert_eq!(made["temporaryAccessPass"].as_str().unwrap().replace('-', "").len(), 16);
    let rules = policy::load_tap(&caller.server.app).await.unwrap();
    let wanted = Rules { maximum_lifetime_in_minutes: 120, is_usable_once: true, default_length: 16, ..Rules::default() };
    assert_eq!(rules, wanted, "what was not named stays");
    assert!(caller.get(POLICY).await["lastModifiedDateTime"].is_string());

    let change =
        json!({ "keyRestrictions": { "isEnforced": true, "aaGuids": [MAC.to_uppercase()] }, "isSelfServiceRegistrationAllowed": false });
    assert_eq!(caller.send(Method::PATCH, PASSKEYS, Some(change)).await.status(), 204);
    let shown = caller.get(PASSKEYS).await;
    assert_eq!(shown["keyRestrictions"], json!({ "isEnforced": true, "enforcementType": "block", "aaGuids": [MAC] }));
    assert_eq!((&shown["isSelfServiceRegistrationAllowed"], &shown["state"]), (&json!(false), &json!("enabled")));
    let ca = String::from_utf8(crate::support::ca::Ca::new("Maker").root.to_pem().unwrap()).unwrap();
    let enforced = json!({ "isAttestationEnforced": true, "keyRestrictions": { "enforcementType": "allow" } });
    assert!(said(&caller, PASSKEYS, enforced.clone()).await.starts_with("AUT0014"), "nobody's word counts");
    let mut whole = enforced;
    whole["@muster.attestationAuthorities"] = json!([ca]);
    assert_eq!(caller.send(Method::PATCH, PASSKEYS, Some(whole)).await.status(), 204);
    let shown = caller.get(PASSKEYS).await;
    assert_eq!((&shown["isAttestationEnforced"], &shown["@muster.attestationAuthorities"]), (&json!(true), &json!([ca])));

    for (path, change, code) in [
        (PASSES, json!({ "minimumLifetimeInMinutes": 200 }), "AUT0020"),
        (PASSES, json!({ "defaultLength": -1 }), "AUT0020"),
        (PASSKEYS, json!({ "keyRestrictions": { "aaGuids": ["x"] } }), "AUT0014"),
        (PASSKEYS, json!({ "@muster.attestationAuthorities": ["x"] }), "AUT0014"),
        (PASSES, json!({ "defaultLength": "8" }), "The value of 'defaultLength'"),
        (PASSES, json!({ "state": "on" }), "The value of 'state'"),
        (PASSES, json!({ "isAttestationEnforced": true }), "The property 'isAttestationEnforced'"),
        (PASSES, json!({ "id": "Fido2" }), "The value of 'id'"),
        (PASSES, json!({ "@odata.type": "#microsoft.graph.fido2AuthenticationMethodConfiguration" }), "The value of '@odata.type'"),
        (PASSES, json!({ "includeTargets": [{ "targetType": "group", "id": "x" }] }), "The value of 'includeTargets'"),
        (PASSES, json!({ "excludeTargets": [{ "targetType": "group", "id": "x" }] }), "The value of 'excludeTargets'"),
        (PASSKEYS, json!({ "passkeyProfiles": [] }), "The property 'passkeyProfiles'"),
        (PASSKEYS, json!({ "keyRestrictions": { "enforcementType": "deny" } }), "The value of 'enforcementType'"),
        (PASSKEYS, json!({ "keyRestrictions": { "keys": [] } }), "The property 'keys'"),
    ] {
        let text = said(&caller, path, change.clone()).await;
        assert!(text.starts_with(code), "{change}: {text}");
    }
    assert_eq!(policy::load_tap(&caller.server.app).await.unwrap(), wanted, "what is refused changes nothing");
    let unknown = format!("{POLICY}/authenticationMethodConfigurations/Sms");
    assert_eq!(caller.refused(Method::GET, &unknown, None).await, (404, "ResourceNotFound".to_owned()));
    assert_eq!(caller.refused(Method::PATCH, &unknown, Some(json!({}))).await, (404, "ResourceNotFound".to_owned()));

    // A pass is not taken while passes are off.
    assert_eq!(caller.send(Method::PATCH, PASSES, Some(json!({ "state": "disabled" }))).await.status(), 204);
    assert_eq!(caller.get(&path).await["value"][0]["methodUsabilityReason"], "DisabledByPolicy");
    assert!(said(&caller, PASSKEYS, json!({ "state": "disabled" })).await.starts_with("AUT0021"));

    let (application, secret) = register(&caller.server, &[Scope::PolicyReadAll]).await;
    caller.token = token(&caller.server, &application, &secret).await;
    assert_eq!(caller.get(PASSES).await["state"], "disabled");
    assert_eq!(caller.refused(Method::PATCH, PASSES, Some(json!({ "state": "enabled" }))).await, (403, DENIED.to_owned()));
    let clerk = user(&caller.server, "clerk@x.example", "Clerk").await;
    give(&caller.server, "helpdesk", &clerk.id).await;
    caller.token = delegated(&caller.server, "clerk@x.example", Scope::ALL).await;
    assert_eq!(caller.get(PASSES).await["state"], "disabled");
    assert_eq!(caller.refused(Method::PATCH, PASSES, Some(json!({ "state": "enabled" }))).await, (403, DENIED.to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_who_close_both_ways_at_once_one_is_refused() {
    let (server, ana) = house().await;
    for _ in 0..5 {
        let (by, app) = (by(), &server.app);
        let (no_passes, no_passkeys) =
            (Rules { enabled: false, ..Rules::default() }, PasskeyPolicy { enabled: false, ..PasskeyPolicy::default() });
        let (one, other) = tokio::join!(policy::update_tap(app, no_passes, &by), policy::update_passkey(app, no_passkeys, &by));
        let refused: Vec<String> = [one.err(), other.err()].into_iter().flatten().map(|error| error.to_string()).collect();
        assert!(refused.len() == 1 && refused[0].starts_with("AUT0021"), "{refused:?}");
        // Whichever was first; the other way is on.
        if policy::load_tap(app).await.unwrap().enabled {
            policy::update_passkey(app, PasskeyPolicy::default(), &by).await.unwrap();
        } else {
            policy::update_tap(app, Rules::default(), &by).await.unwrap();
        }
        server.clock.advance(MINUTE);
    }
    assert_eq!(signed_in(&server, &ana).await.get(SECURITY).await.status, 200);
}

#[actix_web::test]
async fn what_a_person_is_signed_in_to_ends_by_order() {
    let (server, ana) = house().await;
    let (application, secret) = register(&server, &[Scope::UserRevokeSessionsAll]).await;
    let shown = token(&server, &application, &secret).await;
    let mut browser = signed_in(&server, &ana).await;
    let mine = delegated(&server, ANA, &[Scope::UserRead]).await;
    let caller = Caller::of(server, shown);
    let me = async || {
        let request = caller.server.client().get(format!("{}/v1.0/me", caller.server.web)).bearer_auth(&mine);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!((me().await, browser.get(SECURITY).await.status), (200, 200));
    let answer = caller.post(&format!("/v1.0/users/{ANA}/revokeSignInSessions"), Value::Null).await;
    assert_eq!(answer["value"], true);
    assert!(answer["@odata.context"].as_str().unwrap().ends_with("/v1.0/$metadata#Edm.Boolean"), "{answer}");
    assert_eq!((me().await, browser.get(SECURITY).await.status), (401, 303), "the token is as good as the session was");
    // Nobody ends what somebody with more rights is signed in to.
    let helper = user(&caller.server, "helper@x.example", "Helper").await;
    give(&caller.server, "helpdesk", &helper.id).await;
    give(&caller.server, "administrator", &ana).await;
    let weak = delegated(&caller.server, "helper@x.example", &[Scope::UserRevokeSessionsAll]).await;
    let weak = Caller::of(caller.server, weak);
    let (status, _) = weak.refused(Method::POST, &format!("/v1.0/users/{ANA}/revokeSignInSessions"), None).await;
    assert_eq!(status, 403);
}
