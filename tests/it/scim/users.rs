//! People, as Entra ID and Okta keep them.

use muster::domain::user::User;
use muster::ids::UserId;
use muster::service::directory::{self, By};
use muster::service::identity::break_glass;
use muster::service::role;
use muster::store::{audit, users};
use reqwest::Method;
use serde_json::{Value, json};

use super::{ENTERPRISE, Provider, USER, by, filter, patch, refusal};

/// What Entra ID's usual mapping sends for somebody new.
fn entra() -> Value {
    json!({
        "schemas": [USER, ENTERPRISE],
        "externalId": "0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef",
        "userName": "Bjensen@Test.Example",
        "active": true,
        "addresses": [{ "primary": false, "type": "work", "formatted": "18/2111", "locality": "Redmond", "country": "USA" }],
        "displayName": "Barbara Jensen",
        "emails": [{ "primary": true, "type": "work", "value": "barbara@test.example" }],
        "meta": { "resourceType": "User" },
        "name": { "formatted": "Barbara J. Jensen", "familyName": "Jensen", "givenName": "Barbara" },
        "nickName": "Babs",
        "phoneNumbers": [{ "type": "fax", "value": "1" }, { "type": "mobile", "value": "+1 555 0100" }],
        "preferredLanguage": "en-US",
        "roles": [],
        "title": "Tour guide",
        ENTERPRISE: { "department": "Tours", "employeeNumber": "701984", "manager": { "value": "26118915-6090-4610-87e4-49d8ca9f808d" } },
    })
}

#[actix_web::test]
async fn entra_id_finds_makes_changes_and_takes_away_a_person() {
    let idp = Provider::new().await;
    // What "Test connection" asks, and what is asked before somebody is made.
    let by_name = filter("userName eq \"bjensen@test.example\"");
    let nobody = idp.get(&format!("/Users?aadOptscim062020&{by_name}")).await;
    assert_eq!(nobody["schemas"], json!(["urn:ietf:params:scim:api:messages:2.0:ListResponse"]));
    assert_eq!((&nobody["totalResults"], &nobody["Resources"], &nobody["itemsPerPage"]), (&json!(0), &json!([]), &json!(0)));

    let answer = idp.send(Method::POST, "/Users", Some(entra())).await;
    assert_eq!(answer.status(), 201);
    let (location, etag) =
        (answer.headers()["location"].to_str().unwrap().to_owned(), answer.headers()["etag"].to_str().unwrap().to_owned());
    let made: Value = answer.json().await.unwrap();
    let id = made["id"].as_str().unwrap();
    assert_eq!(location, format!("{}/scim/v2/Users/{id}", idp.server.web));
    assert_eq!((made["meta"]["location"].as_str(), made["meta"]["version"].as_str()), (Some(location.as_str()), Some(etag.as_str())));
    let kept = json!({
        "schemas": [USER, ENTERPRISE],
        "id": id,
        "externalId": "0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef",
        "userName": "bjensen@test.example",
        "name": { "familyName": "Jensen", "givenName": "Barbara" },
        "displayName": "Barbara Jensen",
        "title": "Tour guide",
        "preferredLanguage": "en-US",
        "active": true,
        "emails": [{ "primary": true, "type": "work", "value": "barbara@test.example" }],
        "phoneNumbers": [{ "type": "mobile", "value": "+1 555 0100" }],
        "addresses": [{ "type": "work", "formatted": "18/2111" }],
        ENTERPRISE: { "department": "Tours", "employeeNumber": "701984" },
        "meta": made["meta"],
    });
    assert_eq!(made, kept);
    let found = idp.get(&format!("/Users?{by_name}")).await;
    assert_eq!((&found["totalResults"], &found["Resources"][0]), (&json!(1), &kept));

    let changed = idp
        .patch_user(
            id,
            json!([
                { "op": "Replace", "path": "emails[type eq \"work\"].value", "value": "babs@test.example" },
                { "op": "Replace", "path": "name.familyName", "value": "Smith" },
                { "op": "Add", "path": "phoneNumbers[type eq \"fax\"].value", "value": "2" },
                { "op": "Add", "path": format!("{ENTERPRISE}:department"), "value": "Sales" },
                { "op": "Remove", "path": "title" },
            ]),
        )
        .await;
    assert_eq!(changed["emails"][0]["value"], "babs@test.example");
    assert_eq!(changed["name"], json!({ "familyName": "Smith", "givenName": "Barbara" }));
    assert_eq!(changed["phoneNumbers"].as_array().unwrap().len(), 1);
    assert_eq!((&changed[ENTERPRISE]["department"], changed.get("title")), (&json!("Sales"), None));
    let renamed =
        idp.patch_user(id, json!([{ "op": "replace", "value": { "name.givenName": "Babs", "displayName": "Babs Smith" } }])).await;
    assert_eq!((&renamed["name"]["givenName"], &renamed["displayName"]), (&json!("Babs"), &json!("Babs Smith")));
    let off = idp.patch_user(id, json!([{ "op": "Replace", "path": "active", "value": "False" }])).await;
    assert_eq!(off["active"], json!(false));
    let user = UserId::parse(id).unwrap();
    let stored: User = idp.server.app.store.read(move |conn| users::load_user(conn, &user)).await.unwrap();
    assert!(!stored.enabled);

    assert_eq!(idp.told(Method::DELETE, &format!("/Users/{id}"), None, 204).await, Value::Null);
    assert_eq!(idp.refused(Method::GET, &format!("/Users/{id}"), None).await, refusal(404, ""));
    assert_eq!(idp.refused(Method::DELETE, &format!("/Users/{id}"), None).await, refusal(404, ""));
    assert_eq!(idp.get("/Users").await["totalResults"], 0);
    let again = idp.post("/Users", entra()).await;
    assert_ne!(again["id"], json!(id), "who is deleted keeps no name from others");
    let actor = format!("scim:{}", idp.application.client_id);
    let rows = idp.server.app.store.read(|conn| audit::list(conn, 0, 100)).await.unwrap();
    let theirs: Vec<String> = rows.iter().filter(|row| row.actor == actor).map(|row| row.action.clone()).collect();
    assert_eq!(theirs, ["user.create", "user.update", "user.update", "user.update", "user.delete", "user.create"]);
}

#[actix_web::test]
async fn okta_replaces_people_whole_and_what_is_the_same_writes_nothing() {
    let idp = Provider::new().await;
    let body = json!({
        "schemas": [USER], "userName": "isaac@okta.example", "name": { "givenName": "Isaac", "familyName": "Brock" },
        "emails": [{ "primary": true, "value": "isaac@okta.example", "type": "work" }], "displayName": "Isaac Brock", "locale": "en-US",
        "externalId": "00ujl29u0le5T6Aj10h7", "groups": [], "password": "1mz050nq", "active": true,
    });
    let made = idp.post("/Users", body.clone()).await;
    let path = format!("/Users/{}", made["id"].as_str().unwrap());
    assert_eq!(made.get("password"), None);
    let same = idp.told(Method::PUT, &path, Some(body.clone()), 200).await;
    assert_eq!(same, made, "the version and the time of the last change, too");
    let mut other = body.clone();
    let fields = other.as_object_mut().unwrap();
    fields.remove("externalId");
    fields.remove("displayName");
    fields.remove("active");
    fields.insert("title".into(), "Singer".into());
    let replaced = idp.told(Method::PUT, &path, Some(other), 200).await;
    assert_eq!((&replaced["title"], replaced.get("externalId")), (&json!("Singer"), None));
    assert_eq!((&replaced["displayName"], &replaced["active"]), (&json!("Isaac Brock"), &json!(true)), "what has to be there stays");
    let off = idp.patch_user(made["id"].as_str().unwrap(), json!([{ "op": "replace", "value": { "active": false } }])).await;
    assert_eq!(off["active"], json!(false));
    let mut silent = body;
    silent.as_object_mut().unwrap().remove("active");
    let still = idp.told(Method::PUT, &path, Some(silent), 200).await;
    assert_eq!(still["active"], json!(false), "nobody is let in again by silence");
}

#[actix_web::test]
async fn versions_are_looked_at() {
    let idp = Provider::new().await;
    let id = idp.user("a@x.example").await;
    let path = format!("/Users/{id}");
    let etag = idp.get(&path).await["meta"]["version"].as_str().unwrap().to_owned();
    let with = async |method, header: &str, value: &str, body: Option<Value>| {
        let request = idp.request(method, &path).header(header, value);
        let request = if let Some(body) = body { request.body(body.to_string()) } else { request };
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(with(Method::GET, "if-none-match", &etag, None).await, 304);
    let title = |text: &str| Some(patch(&json!([{ "op": "add", "path": "title", "value": text }])));
    assert_eq!(with(Method::PATCH, "if-match", "W/\"0\"", title("no")).await, 412);
    assert_eq!(with(Method::PATCH, "if-match", &etag, title("yes")).await, 200);
    assert_eq!(with(Method::PATCH, "if-match", &etag, title("late")).await, 412);
    assert_eq!(with(Method::DELETE, "if-match", &etag, None).await, 412);
    assert_eq!(with(Method::GET, "if-none-match", &etag, None).await, 200);
    let now = idp.get(&path).await;
    assert_eq!(now["title"], "yes");
    assert_eq!(with(Method::PUT, "if-match", "*", Some(json!({ "userName": "a@x.example" }))).await, 200);
    let now = idp.get(&path).await["meta"]["version"].as_str().unwrap().to_owned();
    assert_eq!(with(Method::DELETE, "if-match", now.trim_start_matches("W/"), None).await, 204);
}

#[actix_web::test]
async fn filters_find_by_each_attribute_and_pages_hold_everything_once() {
    let idp = Provider::new().await;
    let first = idp.post("/Users", entra()).await;
    for number in 0..5 {
        idp.user(&format!("u{number}@x.example")).await;
    }
    let all = [
        format!("id eq \"{}\"", first["id"].as_str().unwrap()),
        "externalId eq \"0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef\"".into(),
        "userName eq \"BJENSEN@test.example\" and active eq true".into(),
        "userName sw \"bjen\"".into(),
        "displayName co \"ara jen\"".into(),
        "emails[type eq \"work\"].value eq \"barbara@test.example\"".into(),
        "emails[type eq \"work\" and value ew \"test.example\"]".into(),
        "emails.value eq \"Barbara@test.example\"".into(),
        "emails.primary eq true".into(),
        "phoneNumbers.type eq \"mobile\"".into(),
        "name.familyName eq \"jensen\"".into(),
        "title pr".into(),
        "addresses pr".replace("addresses", "addresses.formatted"),
        format!("{ENTERPRISE}:department eq \"tours\""),
        format!("{USER}:userName eq \"bjensen@test.example\""),
        "meta.resourceType eq \"user\" and (title eq \"x\" or not (title ne \"Tour guide\"))".into(),
        "title eq \"Tour guide\" and meta.created gt \"2020-01-01T00:00:00Z\"".into(),
    ];
    for text in all {
        let found = idp.get(&format!("/Users?{}", filter(&text))).await;
        assert_eq!((&found["totalResults"], &found["Resources"][0]["id"]), (&json!(1), &first["id"]), "{text}");
    }
    for text in [
        "externalId eq \"0A21F0F2-8D2A-4F8E-BF98-7363C4AED4EF\"",
        "userName eq \"%\"",
        "userName eq \"' OR 1=1 --\"",
        "userName sw \"_\"",
        "active eq \"False\"",
        "emails.type eq \"home\"",
        "id eq \"x\"",
    ] {
        assert_eq!(idp.get(&format!("/Users?{}", filter(text))).await["totalResults"], 0, "{text}");
    }
    for text in [
        "userName",
        "userName eq bob",
        "nickName eq \"x\"",
        "members eq \"x\"",
        "userName eq 1",
        "active gt true",
        "userName eq \"\\u0000\"",
    ] {
        assert_eq!(idp.refused(Method::GET, &format!("/Users?{}", filter(text)), None).await, refusal(400, "invalidFilter"), "{text}");
    }

    let mut seen = Vec::new();
    for start in [1, 3, 5] {
        let page = idp.get(&format!("/Users?startIndex={start}&count=2&attributes=userName")).await;
        assert_eq!((&page["totalResults"], &page["startIndex"], &page["itemsPerPage"]), (&json!(6), &json!(start), &json!(2)));
        for one in page["Resources"].as_array().unwrap() {
            assert_eq!(one.as_object().unwrap().keys().collect::<Vec<_>>(), ["schemas", "id", "userName"]);
            seen.push(one["userName"].as_str().unwrap().to_owned());
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 6);
    assert_eq!(idp.get("/Users?count=0").await["Resources"], json!([]));
    assert_eq!(idp.get("/Users?count=-5&startIndex=-1").await["totalResults"], 6);
    assert_eq!(idp.get("/Users?startIndex=900000000").await["Resources"], json!([]));
    let query = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"],
        "filter": "userName sw \"u\"",
        "count": 2,
        "excludedAttributes": ["meta"],
    });
    let found = idp.told(Method::POST, "/Users/.search", Some(query.clone()), 200).await;
    assert_eq!((&found["totalResults"], found["Resources"][0].get("meta")), (&json!(5), None));
    let found = idp.told(Method::POST, "/.search", Some(query), 200).await;
    assert_eq!(found["totalResults"], 5);
}

#[actix_web::test]
async fn what_is_no_user_is_refused_by_its_kind() {
    let idp = Provider::new().await;
    let id = idp.user("a@x.example").await;
    idp.user("b@x.example").await;
    let path = format!("/Users/{id}");
    for (body, kind) in [
        (json!({ "userName": "B@X.example" }), refusal(409, "uniqueness USR0013")),
        (json!({ "displayName": "x" }), refusal(400, "invalidValue")),
        (json!({ "userName": "no at sign" }), refusal(400, "invalidValue USR0012")),
        (json!({ "userName": "c@x.example", "displayName": "x".repeat(200) }), refusal(400, "invalidValue PRF0004")),
        (json!({ "userName": "c@x.example", "active": "perhaps" }), refusal(400, "invalidValue")),
        (json!({ "userName": "c@x.example", "title": "a\u{0}b" }), refusal(400, "invalidValue")),
        (json!({ "userName": ["c@x.example", "d"] }), refusal(400, "invalidValue")),
        (json!([]), refusal(400, "invalidSyntax")),
    ] {
        assert_eq!(idp.refused(Method::POST, "/Users", Some(body.clone())).await, kind, "{body:.80}");
    }
    assert_eq!(idp.refused(Method::PUT, &path, Some(json!({ "userName": "b@x.example" }))).await, refusal(409, "uniqueness USR0013"));
    for (operation, kind) in [
        (json!({ "op": "replace", "path": "userName", "value": "b@x.example" }), refusal(409, "uniqueness USR0013")),
        (json!({ "op": "add", "path": "nonsense", "value": "x" }), refusal(400, "invalidPath")),
        (json!({ "op": "add", "path": "emails[type eq].value", "value": "x" }), refusal(400, "invalidFilter")),
        (json!({ "op": "replace", "path": "emails[value eq \"x\"].value", "value": "x" }), refusal(400, "noTarget")),
        (json!({ "op": "remove" }), refusal(400, "noTarget")),
        (json!({ "op": "replace", "path": "id", "value": "x" }), refusal(400, "mutability")),
        (json!({ "op": "remove", "path": "userName" }), refusal(400, "mutability")),
        (json!({ "op": "rename", "path": "userName" }), refusal(400, "invalidSyntax")),
    ] {
        assert_eq!(idp.refused(Method::PATCH, &path, Some(patch(&json!([operation])))).await, kind, "{operation}");
    }
    // All of a change, or nothing.
    let half = json!([{ "op": "add", "path": "title", "value": "x" }, { "op": "remove", "path": "userName" }]);
    assert_eq!(idp.refused(Method::PATCH, &path, Some(patch(&half))).await.0, 400);
    assert_eq!(idp.get(&path).await.get("title"), None);
    let unknown = "/Users/01900000-0000-7000-8000-000000000000";
    for (method, body) in [
        (Method::GET, None),
        (Method::DELETE, None),
        (Method::PUT, Some(json!({ "userName": "z@x.example" }))),
        (Method::PATCH, Some(patch(&json!([{ "op": "remove", "path": "title" }])))),
    ] {
        assert_eq!(idp.refused(method.clone(), unknown, body.clone()).await, refusal(404, ""), "{method}");
        assert_eq!(idp.refused(method.clone(), "/Users/none", body).await, refusal(404, ""), "{method}");
    }
    let broken = idp.request(Method::POST, "/Users").body("{").send().await.unwrap();
    assert_eq!((broken.status().as_u16(), broken.json::<Value>().await.unwrap()["scimType"].clone()), (400, json!("invalidSyntax")));
    let large = idp.request(Method::POST, "/Users").body(vec![b' '; 5 * 1024 * 1024]).send().await.unwrap();
    assert_eq!(large.status(), 413);
}

#[actix_web::test]
async fn who_leaves_is_signed_out_and_administrators_are_not_taken_over() {
    let idp = Provider::new().await;
    let app = &idp.server.app;
    let by = By { actor: "cli:test".into(), ..by() };
    let admin = idp.user("admin@x.example").await;
    let (admin_id, path) = (UserId::parse(&admin).unwrap(), format!("/Users/{admin}"));
    role::set_administrator(app, &admin_id, true, &by).await.unwrap();
    let off = || Some(patch(&json!([{ "op": "Replace", "path": "active", "value": "False" }])));
    assert_eq!(idp.refused(Method::PATCH, &path, off()).await, refusal(403, "ACC0009"), "the last administrator");
    assert_eq!(idp.refused(Method::DELETE, &path, None).await, refusal(403, "ACC0013"), "what cannot be given back is not taken away");
    // Renaming an administrator to one's own name, or giving them one's own mail, would be a way in.
    for operation in [
        json!({ "op": "replace", "path": "userName", "value": "mallory@x.example" }),
        json!({ "op": "add", "path": "emails[type eq \"work\"].value", "value": "mallory@x.example" }),
    ] {
        assert_eq!(idp.refused(Method::PATCH, &path, Some(patch(&json!([operation])))).await, refusal(403, "ACC0013"));
    }
    assert_eq!(idp.patch_user(&admin, json!([{ "op": "add", "path": "title", "value": "Boss" }])).await["title"], "Boss");

    let second = idp.user("second@x.example").await;
    role::set_administrator(app, &UserId::parse(&second).unwrap(), true, &by).await.unwrap();
    assert_eq!(idp.patch_user(&admin, json!([{ "op": "Replace", "path": "active", "value": "False" }])).await["active"], json!(false));
    let on = Some(patch(&json!([{ "op": "Replace", "path": "active", "value": "True" }])));
    assert_eq!(idp.refused(Method::PATCH, &path, on).await, refusal(403, "ACC0013"), "whoever left does not come back this way");

    let glass = idp.user("glass@x.example").await;
    break_glass::add(app, &UserId::parse(&glass).unwrap(), &by).await.unwrap();
    let path = format!("/Users/{glass}");
    assert_eq!(idp.refused(Method::PATCH, &path, off()).await, refusal(403, "USR0015"));
    assert_eq!(idp.refused(Method::DELETE, &path, None).await, refusal(403, "USR0015"));

    let ann = directory::find_user(app, &idp.user("ann@x.example").await, &muster::domain::access::Reach::All).await.unwrap().0;
    let token = crate::graph::access::delegated(&idp.server, &ann.upn, muster::domain::access::Scope::ALL).await;
    let me = async || idp.client.get(format!("{}/v1.0/me", idp.server.web)).bearer_auth(&token).send().await.unwrap().status().as_u16();
    assert_eq!(me().await, 200);
    idp.patch_user(ann.id.as_str(), json!([{ "op": "replace", "value": { "active": false } }])).await;
    assert_eq!(me().await, 401, "a disabled person's token opens nothing");
}
