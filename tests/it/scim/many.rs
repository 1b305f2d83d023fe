//! Large groups, on both databases: members are written by few statements, and what is shown is bounded.

use std::collections::BTreeSet;

use muster::domain::access::Scope;
use muster::domain::group::{Group, Member};
use muster::domain::user::User;
use muster::ids::{GroupId, UserId};
use muster::service::directory::provision::MOST_MEMBERS;
use muster::store::{groups, provision, users};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Provider, filter, patch, refusal};
use crate::both_backends;
use crate::desired;
use crate::support::server::{Options, Server};

/// So many people, written at once.
async fn people(server: &Server, count: usize) -> Vec<String> {
    let all: Vec<User> = (0..count).map(|number| desired::user(&format!("u{number}@x.example"))).collect();
    let ids = all.iter().map(|user| user.id.to_string()).collect();
    let now = server.app.now();
    server.app.store.write(move |tx| all.iter().try_for_each(|user| users::insert_user(tx, user, now))).await.unwrap();
    ids
}

fn named(ids: &[String]) -> Value {
    ids.iter().map(|id| json!({ "value": id })).collect()
}

both_backends! {
    async fn a_group_of_thousands(store: Store) {
        let server = Server::with(Options { store: Some(store), ..Options::default() }).await;
        let idp = Provider::of(server, &[Scope::SynchronizationDataUserUpload]).await;
        let ids = people(&idp.server, 3000).await;
        let made = idp.post("/Groups", json!({ "displayName": "All", "members": named(&ids[..2000]) })).await;
        let (id, path) = (made["id"].as_str().unwrap().to_owned(), format!("/Groups/{}", made["id"].as_str().unwrap()));
        let now = async || -> BTreeSet<String> {
            let whole = idp.get(&path).await;
            whole["members"].as_array().into_iter().flatten().map(|one| one["value"].as_str().unwrap().to_owned()).collect()
        };
        let set = |ids: &[String]| ids.iter().cloned().collect::<BTreeSet<_>>();
        assert_eq!(now().await, set(&ids[..2000]));
        idp.patch_group(&id, json!([{ "op": "Add", "path": "members", "value": named(&ids[1500..]) }])).await;
        assert_eq!(now().await, set(&ids));
        // Okta names each member in an operation of its own.
        let each: Vec<Value> =
            ids[..900].iter().map(|id| json!({ "op": "remove", "path": format!("members[value eq \"{id}\"]") })).collect();
        idp.patch_group(&id, json!(each)).await;
        assert_eq!(now().await, set(&ids[900..]));
        idp.told(Method::PUT, &path, Some(json!({ "displayName": "All", "members": named(&ids[..1200]) })), 200).await;
        assert_eq!(now().await, set(&ids[..1200]));
        let mut wrong = ids[1200..].to_vec();
        wrong.push("01900000-0000-7000-8000-000000000000".into());
        let body = patch(&json!([{ "op": "Add", "path": "members", "value": named(&wrong) }]));
        assert_eq!(idp.refused(Method::PATCH, &path, Some(body)).await, refusal(400, "invalidValue USR0011"));
        assert_eq!(now().await, set(&ids[..1200]), "all of a change, or nothing");
        let listed = idp.get("/Groups").await;
        assert_eq!(listed["Resources"][0]["members"].as_array().unwrap().len(), 1200);
        // Whatever the database does with texts: nothing breaks out of a filter.
        for text in ["displayName eq \"'; DROP TABLE groups; --\"", "displayName co \"%\"", "externalId eq \"\\\\\""] {
            assert_eq!(idp.get(&format!("/Groups?{}", filter(text))).await["totalResults"], 0, "{text}");
        }
        let some = filter("title pr or userName sw \"u1\"");
        assert_eq!(idp.get(&format!("/Users?count=1&{some}")).await["totalResults"], 1111);
        let dark = filter(&format!("groups.value eq \"{id}\""));
        assert_eq!(idp.get(&format!("/Users?count=0&{dark}")).await["totalResults"], 1200);
    }
}

#[actix_web::test]
async fn more_members_than_are_shown_are_not_shown_in_part() {
    let idp = Provider::new().await;
    let ids = people(&idp.server, MOST_MEMBERS + 1).await;
    let made = idp.post("/Groups", json!({ "displayName": "All", "members": named(&ids) })).await;
    assert_eq!(made.get("members"), None, "the client knows them");
    let path = format!("/Groups/{}", made["id"].as_str().unwrap());
    assert_eq!(idp.refused(Method::GET, &path, None).await, refusal(400, "tooMany"));
    assert_eq!(idp.refused(Method::GET, "/Groups", None).await, refusal(400, "tooMany"));
    let told: Value = idp.send(Method::GET, "/Groups", None).await.json().await.unwrap();
    assert!(told["detail"].as_str().unwrap().starts_with("'All' "), "{told}");
    let without = idp.get(&format!("{path}?excludedAttributes=members")).await;
    assert_eq!((&without["displayName"], without.get("members")), (&json!("All"), None));
    idp.told(Method::PATCH, &path, Some(patch(&json!([{ "op": "remove", "path": format!("members[value eq \"{}\"]", ids[0]) }]))), 204)
        .await;
    assert_eq!(idp.get(&path).await["members"].as_array().unwrap().len(), MOST_MEMBERS);
    let many: Vec<Value> = vec![json!({ "value": ids[0] }); 50_001];
    let body = patch(&json!([{ "op": "Add", "path": "members", "value": many }]));
    assert_eq!(idp.refused(Method::PATCH, &path, Some(body)).await, refusal(400, "invalidValue"));
}

#[actix_web::test]
async fn a_page_that_would_show_too_much_is_shorter_and_the_client_goes_on() {
    let idp = Provider::new().await;
    let ids = people(&idp.server, 10_000).await;
    for name in ["One", "Two", "Three", "Four"] {
        idp.post("/Groups", json!({ "displayName": name, "members": named(&ids) })).await;
    }
    let (mut start, mut seen, mut sizes) = (1, BTreeSet::new(), Vec::new());
    while seen.len() < 4 {
        let page = idp.get(&format!("/Groups?startIndex={start}")).await;
        assert_eq!((&page["totalResults"], &page["startIndex"]), (&json!(4), &json!(start)));
        let shown = page["Resources"].as_array().unwrap();
        assert!(!shown.is_empty() && page["itemsPerPage"] == shown.len());
        for group in shown {
            assert_eq!(group["members"].as_array().unwrap().len(), ids.len(), "nobody is left out");
            assert!(seen.insert(group["displayName"].as_str().unwrap().to_owned()));
        }
        start += shown.len();
        sizes.push(shown.len());
    }
    assert_eq!(sizes, [2, 2]);
    assert_eq!(idp.get("/Groups?excludedAttributes=members").await["itemsPerPage"], 4);
    // Of a search in everything the groups wait until the last of the people was shown.
    let both = idp.get("/?startIndex=10000&count=10").await;
    let kinds: Vec<&str> = both["Resources"].as_array().unwrap().iter().map(|one| one["meta"]["resourceType"].as_str().unwrap()).collect();
    assert_eq!((kinds, &both["totalResults"]), (vec!["User", "Group", "Group"], &json!(10_004)));
}

#[actix_web::test]
async fn people_of_very_many_groups_are_shown_in_shorter_pages() {
    let idp = Provider::new().await;
    let ids = people(&idp.server, 200).await;
    let app = &idp.server.app;
    let (members, now) = (ids.iter().filter_map(|id| UserId::parse(id)).map(Member::User).collect::<BTreeSet<_>>(), app.now());
    let many = app.store.write(move |tx| {
        for number in 0..200 {
            let group = Group {
                id: GroupId::new(),
                display_name: format!("G{number}"),
                description: String::new(),
                rule: None,
                external_id: None,
                mail_nickname: None,
            };
            groups::insert_group(tx, &group, now)?;
            provision::insert_members(tx, &group.id, &members, now)?;
        }
        Ok(())
    });
    many.await.unwrap();
    for path in ["/Users?count=200&attributes=groups", "/?count=200&attributes=groups"] {
        let page = idp.get(path).await;
        let shown = page["Resources"].as_array().unwrap();
        assert_eq!((shown.len(), &page["itemsPerPage"]), (125, &json!(125)), "{path}: 125 times 200 are 25,000");
        assert!(shown.iter().all(|one| one["groups"].as_array().is_some_and(|groups| groups.len() == 200)), "{path}");
        let rest = idp.get(&format!("{path}&startIndex=126")).await;
        assert_eq!(rest["Resources"].as_array().unwrap().iter().filter(|one| one.get("groups").is_some()).count(), 75, "{path}");
    }
}
