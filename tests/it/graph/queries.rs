//! Filters, orders, pages and everything that is no query.

use std::collections::BTreeSet;

use muster::domain::device::Platform;
use muster::service::directory;
use muster::store::{devices, enrollments};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Caller, by, names, user};
use crate::desired::{device, enrollment};

async fn people(caller: &Caller) {
    for (upn, name) in [("ana@x.example", "Ana"), ("bob@x.example", "Bob O'Brien"), ("eve@y.example", "éve"), ("zoe@x.example", "ana zoe")]
    {
        user(&caller.server, upn, name).await;
    }
}

#[actix_web::test]
async fn filters_find_what_they_say() {
    let caller = Caller::everything().await;
    people(&caller).await;
    for (filter, expected) in [
        ("displayName eq 'ANA'", vec!["ana@x.example"]),
        ("displayName eq 'Bob O''Brien'", vec!["bob@x.example"]),
        ("displayName ne 'Ana' and accountEnabled eq true", vec!["bob@x.example", "eve@y.example", "zoe@x.example"]),
        ("startswith(displayName,'ANA')", vec!["ana@x.example", "zoe@x.example"]),
        ("endsWith(userPrincipalName,'@X.example')", vec!["ana@x.example", "bob@x.example", "zoe@x.example"]),
        ("contains(displayName,'é')", vec!["eve@y.example"]),
        ("contains(displayName,'%')", vec![]),
        ("contains(displayName,'_')", vec![]),
        ("userPrincipalName in ('ana@x.example','EVE@y.example','nobody')", vec!["ana@x.example", "eve@y.example"]),
        ("not startswith(displayName,'ana')", vec!["bob@x.example", "eve@y.example"]),
        ("mail eq null", vec!["ana@x.example", "bob@x.example", "eve@y.example", "zoe@x.example"]),
        ("not (mail eq 'x')", vec!["ana@x.example", "bob@x.example", "eve@y.example", "zoe@x.example"]),
        ("mail ne 'x'", vec![]),
        (
            "createdDateTime ge 2020-01-01 and createdDateTime lt '2999-01-01T00:00:00Z'",
            vec!["ana@x.example", "bob@x.example", "eve@y.example", "zoe@x.example"],
        ),
        ("displayName eq '' or (displayName eq 'ana' and userPrincipalName eq 'ana@x.example')", vec!["ana@x.example"]),
    ] {
        let page = caller.get(&format!("/v1.0/users?$filter={}&$orderby=userPrincipalName", encode(filter))).await;
        assert_eq!(names(&page, "userPrincipalName"), expected, "{filter}");
        let count = caller.get(&format!("/v1.0/users?$filter={}&$count=true&$top=1", encode(filter))).await["@odata.count"].clone();
        assert_eq!(count, json!(expected.len()), "{filter}");
    }
    let found = caller.get(&format!("/v1.0/users?$search={}", encode("\"displayName:zoe\" OR \"mail:nobody\""))).await;
    assert_eq!(names(&found, "userPrincipalName"), ["zoe@x.example"]);
}

fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[actix_web::test]
async fn what_is_no_query_is_refused_quickly_and_tells_nothing() {
    let caller = Caller::everything().await;
    let many = (0..1_000).map(|n| format!("'{n}'")).collect::<Vec<_>>().join(",");
    for query in [
        "$filter=1 eq 1) or (1 eq 1".to_owned(),
        format!("$filter={}displayName eq 'x'{}", "(".repeat(3000), ")".repeat(3000)),
        format!("$filter=id in ({many})"),
        "$filter=passwordHash eq 'x'".into(),
        "$filter=t.upn eq 'x'".into(),
        "$filter=accountEnabled eq 'x'".into(),
        "$filter=displayName gt null".into(),
        "$filter=createdDateTime ge yesterday".into(),
        "$filter=groupTypes/any(c:c eq 'x')".into(),
        "$orderby=mail".into(),
        "$orderby=displayName;drop table users".into(),
        "$select=passwordHash".into(),
        "$top=abc".into(),
        "$nope=1".into(),
        "$top=1&$top=2".into(),
        "$skiptoken=AAAA".into(),
    ] {
        let url = format!("{}/v1.0/users?{}", caller.server.web, query.replace(' ', "%20"));
        let answer = caller.client.get(url).bearer_auth(&caller.token).send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        assert_eq!(status, 400, "{query:.60}: {text:.200}");
        assert!(!text.to_lowercase().contains("sql") && !text.contains("lower("), "{text}");
    }
}

#[actix_web::test]
async fn pages_hold_everybody_once_whatever_comes_and_goes() {
    let caller = Caller::everything().await;
    for number in 0..25 {
        user(&caller.server, &format!("u{number:02}@x.example"), &format!("Name {}", number % 4)).await;
    }
    for order in ["displayName", "displayName desc", "userPrincipalName desc", "displayName desc,userPrincipalName", "id desc"] {
        let mut next = format!("/v1.0/users?$top=7&$orderby={}&$select=displayName,userPrincipalName&$count=true", encode(order));
        let mut seen = Vec::new();
        let mut pages = 0;
        loop {
            let page = caller.get(&next).await;
            seen.extend(page["value"].as_array().unwrap().iter().map(|one| {
                let text = |name: &str| one[name].as_str().unwrap().to_owned();
                (text("displayName"), text("userPrincipalName"))
            }));
            pages += 1;
            assert_eq!(
                page["@odata.context"].as_str().unwrap(),
                format!("{}/v1.0/$metadata#users(displayName,userPrincipalName)", caller.server.web)
            );
            let Some(link) = page["@odata.nextLink"].as_str() else { break };
            let rest = link.strip_prefix(&caller.server.web).expect("links lead to the configured address");
            rest.clone_into(&mut next);
            if pages == 1 && order == "displayName" {
                // One that was seen goes, one that was not stays, one comes before the place.
                directory::delete_user(&caller.server.app, &find(&caller, &seen[0].1).await, &by()).await.unwrap();
                user(&caller.server, "new@x.example", "Name 0").await;
            }
        }
        let unique: BTreeSet<_> = seen.iter().map(|(_, upn)| upn.clone()).collect();
        assert_eq!(unique.len(), seen.len(), "{order}: nobody twice");
        assert!(seen.len() >= 25, "{order}: {}", seen.len());
        let mut sorted = seen.clone();
        match order {
            "displayName" => sorted.sort_by(|a, b| a.0.cmp(&b.0)),
            "displayName desc" => sorted.sort_by(|a, b| b.0.cmp(&a.0)),
            "userPrincipalName desc" => sorted.sort_by(|a, b| b.1.cmp(&a.1)),
            "displayName desc,userPrincipalName" => sorted.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1))),
            _ => {}
        }
        assert_eq!(seen, sorted, "{order}");
    }
    let first = caller.get("/v1.0/users?$top=5").await;
    let token = first["@odata.nextLink"].as_str().unwrap().split("$skiptoken=").nth(1).unwrap().to_owned();
    let bad = (400, "BadRequest".to_owned());
    for path in [
        format!("/v1.0/users?$skiptoken={}", &token[1..]),
        format!("/v1.0/users?$orderby=displayName&$skiptoken={token}"),
        format!("/v1.0/users?$filter=accountEnabled%20eq%20true&$skiptoken={token}"),
        format!("/v1.0/groups?$skiptoken={token}"),
    ] {
        assert_eq!(caller.refused(Method::GET, &path, None).await, bad, "{path}");
    }
    assert_eq!(caller.get(&format!("/v1.0/users?$skiptoken={token}")).await["value"].as_array().unwrap().len(), 20);
}

async fn find(caller: &Caller, upn: &str) -> muster::ids::UserId {
    let id = caller.get(&format!("/v1.0/users/{upn}")).await["id"].as_str().unwrap().to_owned();
    muster::ids::UserId::parse(&id).unwrap()
}

#[actix_web::test]
async fn managed_devices_are_filtered_by_what_is_known_of_them() {
    let caller = Caller::everything().await;
    let ana = user(&caller.server, "ana@x.example", "Ana").await;
    let now = caller.server.app.now();
    let mut rows = Vec::new();
    for number in 0..6 {
        let platform = if number % 2 == 0 { Platform::Windows } else { Platform::MacOs };
        let mut one = device(&format!("PC-{number}"), platform, (number < 2).then_some(&ana.id));
        one.serial_number = Some(format!("5CG{number}"));
        let mut enrolled = enrollment(&one, now.plus(i64::from(number)));
        enrolled.last_seen_at = (number > 2).then(|| now.plus(i64::from(number) * 1000));
        rows.push((one, enrolled));
    }
    let put = rows.clone();
    caller
        .server
        .app
        .store
        .write(move |tx| {
            for (device, enrollment) in &put {
                devices::insert_device(tx, device, now)?;
                enrollments::insert_enrollment(tx, enrollment)?;
            }
            Ok(())
        })
        .await
        .unwrap();
    let base = "/v1.0/deviceManagement/managedDevices";
    for (filter, expected) in [
        ("operatingSystem eq 'windows'", vec!["PC-0", "PC-2", "PC-4"]),
        ("operatingSystem eq 'macOS' and startswith(deviceName,'pc-')", vec!["PC-1", "PC-3", "PC-5"]),
        ("complianceState eq 'Unknown'", vec!["PC-0", "PC-1", "PC-2", "PC-3", "PC-4", "PC-5"]),
        ("complianceState eq microsoft.graph.complianceState'noncompliant'", vec![]),
        ("contains(serialNumber,'5cg4')", vec!["PC-4"]),
        ("userPrincipalName eq 'ana@x.example'", vec!["PC-0", "PC-1"]),
        (&format!("userId eq {}", ana.id), vec!["PC-0", "PC-1"]),
        ("lastSyncDateTime eq null", vec!["PC-0", "PC-1", "PC-2"]),
        ("isof('microsoft.graph.managedDevice') and deviceName eq 'PC-5'", vec!["PC-5"]),
    ] {
        let page = caller.get(&format!("{base}?$filter={}&$orderby=deviceName", encode(filter))).await;
        assert_eq!(names(&page, "deviceName"), expected, "{filter}");
    }
    let page = caller.get(&format!("{base}?$orderby=lastSyncDateTime%20desc&$top=4&$select=deviceName,lastSyncDateTime")).await;
    assert_eq!(names(&page, "deviceName")[..3], ["PC-5", "PC-4", "PC-3"]);
    assert_eq!(page["value"][3]["lastSyncDateTime"], "0001-01-01T00:00:00Z");
    let (one, enrolled) = &rows[0];
    for id in [enrolled.id.as_str(), one.id.as_str()] {
        let shown = caller.get(&format!("{base}('{id}')")).await;
        assert_eq!((&shown["id"], &shown["serialNumber"]), (&json!(enrolled.id), &json!("5CG0")));
        assert_eq!(shown["@odata.context"], format!("{}/v1.0/$metadata#deviceManagement/managedDevices/$entity", caller.server.web));
    }
    assert_eq!(caller.refused(Method::GET, &format!("{base}?$filter=complianceState%20eq%20'great'"), None).await.0, 400);
    let count = caller.send(Method::GET, &format!("{base}/$count?$filter=operatingSystem%20eq%20'Windows'"), None).await;
    assert_eq!(count.headers()["content-type"], "text/plain");
    assert_eq!(count.text().await.unwrap(), "3");
    let own: Value = caller.get("/v1.0/users/ana@x.example/managedDevices").await;
    assert_eq!(names(&own, "deviceName"), ["PC-0", "PC-1"]);
    let v1 = caller.get(&format!("{base}/{}", enrolled.id)).await;
    let beta = caller.get(&format!("/beta/deviceManagement/managedDevices/{}", enrolled.id)).await;
    assert!(v1.get("managementState").is_none() && beta["managementState"] == "managed");
}
