//! Delta queries: what changed since the last time, on both databases.

use std::collections::BTreeSet;
use std::time::Duration;

use diesel::RunQueryDsl as _;
use diesel::connection::{Connection as _, SimpleConnection as _};
use muster::clock::DAY;
use muster::domain::compliance::{State, Verdict};
use muster::domain::device::Platform;
use muster::domain::group::Member;
use muster::domain::user::User;
use muster::service::directory::{self, deleted};

use muster::service::{application, backup, jobs};
use muster::store::{Store, compliance, devices, enrollments, meta};
use serde_json::{Value, json};

use super::{Caller, by, register, token};
use crate::both_backends;
use crate::desired;
use crate::support::db;
use crate::support::server::{Options, Server};
use muster::domain::access::Scope;

async fn caller(store: Store) -> Caller {
    let server = Server::with(Options { store: Some(store), ..Options::default() }).await;
    let all: Vec<Scope> = Scope::ALL.iter().copied().filter(|scope| !scope.is_of_a_person()).collect();
    let (application, secret) = register(&server, &all).await;
    let token = token(&server, &application, &secret).await;
    Caller::of(server, token)
}

/// The path of a link, which leads to the configured address.
fn path(caller: &Caller, link: &Value) -> String {
    link.as_str().unwrap().strip_prefix(&caller.server.web).unwrap().to_owned()
}

/// Follows the pages of a round; gives what came, and the way to the next round.
async fn round(caller: &Caller, from: &str) -> (Vec<Value>, String) {
    let (mut all, mut at) = (Vec::new(), from.to_owned());
    loop {
        let page = caller.get(&at).await;
        all.extend(page["value"].as_array().unwrap().iter().cloned());
        if page.get("@odata.deltaLink").is_some() {
            assert!(page.get("@odata.nextLink").is_none());
            return (all, path(caller, &page["@odata.deltaLink"]));
        }
        at = path(caller, &page["@odata.nextLink"]);
    }
}

/// Rounds until all of these are told of: a database whose other transactions are still open tells later.
async fn rounds(caller: &Caller, from: &str, ids: &[&str]) -> (Vec<Value>, String) {
    let (mut all, mut at) = (Vec::new(), from.to_owned());
    for _ in 0..3000 {
        let (told, next) = round(caller, &at).await;
        all.extend(told);
        at = next;
        if ids.iter().all(|id| all.iter().any(|one: &Value| one["id"] == *id)) {
            return (all, at);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not told of {ids:?}: {all:?}");
}

fn last<'a>(all: &'a [Value], id: &str) -> &'a Value {
    all.iter().rev().find(|one| one["id"] == id).unwrap_or_else(|| panic!("{id}: {all:?}"))
}

/// Who came into groups (`true`) and left them.
fn memberships(told: &[Value]) -> Vec<(String, bool)> {
    let members = told.iter().flat_map(|one| one["members@delta"].as_array().cloned().unwrap_or_default());
    members.map(|one| (one["id"].as_str().unwrap().to_owned(), one.get("@removed").is_none())).collect()
}

async fn person(caller: &Caller, name: &str) -> User {
    super::user(&caller.server, &format!("{name}@example.org"), name).await
}

both_backends! {
    async fn whoever_follows_people_is_told_of_each_change(store: Store) {
        let caller = caller(store).await;
        let app = &caller.server.app;
        let mut made = Vec::new();
        for name in ["ann", "ben", "cid", "dan", "eve"] {
            made.push(person(&caller, name).await);
        }
        let (all, link) = round(&caller, "/v1.0/users/delta()?$top=2&$select=displayName,department").await;
        let ids: BTreeSet<&str> = all.iter().map(|one| one["id"].as_str().unwrap()).collect();
        assert_eq!((all.len(), ids.len()), (5, 5), "each once");
        assert!(all.iter().all(|one| one.get("displayName").is_some() && one.get("mail").is_none()), "{all:?}");
        assert!(link.contains("$select=") && !link.contains("skiptoken"), "{link}");

        let changed = User { display_name: "Anne".into(), ..made[0].clone() };
        desired::write_user(app, changed, &by()).await.unwrap();
        directory::delete_user(app, &made[1].id, &by()).await.unwrap();
        let frank = person(&caller, "frank").await;
        let (told, link) = rounds(&caller, &link, &[made[0].id.as_str(), made[1].id.as_str(), frank.id.as_str()]).await;
        assert_eq!(last(&told, made[0].id.as_str())["displayName"], "Anne");
        assert_eq!(last(&told, made[1].id.as_str())["@removed"]["reason"], "changed", "who is deleted can be restored");
        assert_eq!(last(&told, frank.id.as_str())["displayName"], "frank");
        assert!(told.iter().all(|one| one["id"] != made[2].id.as_str()), "who did not change is not told of: {told:?}");

        deleted::restore_user(app, &made[1].id, &by()).await.unwrap();
        directory::delete_user(app, &made[3].id, &by()).await.unwrap();
        deleted::purge_user(app, &made[3].id, &by()).await.unwrap();
        let (told, link) = rounds(&caller, &link, &[made[1].id.as_str(), made[3].id.as_str()]).await;
        assert_eq!(last(&told, made[1].id.as_str())["displayName"], "ben");
        assert_eq!(last(&told, made[3].id.as_str())["@removed"]["reason"], "deleted");
        let (told, link) = round(&caller, &link).await;
        assert_eq!(told, Vec::<Value>::new(), "nothing is told twice");
        let none = link.replace("$top=2", "$top=0");
        desired::write_user(app, User { display_name: "Cid B".into(), ..made[2].clone() }, &by()).await.unwrap();
        let (told, _) = rounds(&caller, &none, &[made[2].id.as_str()]).await;
        assert_eq!(last(&told, made[2].id.as_str())["displayName"], "Cid B", "a page has one at least, and nobody is said to be gone");
    }

    async fn whoever_follows_groups_is_told_who_comes_and_leaves(store: Store) {
        let caller = caller(store).await;
        let app = &caller.server.app;
        let (ann, ben) = (person(&caller, "ann").await, person(&caller, "ben").await);
        let sales = directory::create_group(app, "Sales", "", &by()).await.unwrap();
        let empty = directory::create_group(app, "Empty", "", &by()).await.unwrap();
        directory::add_members(app, &sales.id, vec![Member::User(ann.id.clone())], &by()).await.unwrap();
        let (all, link) = round(&caller, "/v1.0/groups/delta?$top=1").await;
        let members: Vec<&Value> = all.iter().filter(|one| one.get("members@delta").is_some()).collect();
        assert_eq!(members.len(), 1);
        assert_eq!(members[0], &json!({ "id": sales.id, "members@delta": [{ "@odata.type": "#microsoft.graph.user", "id": ann.id }] }));
        assert!(all.iter().any(|one| one["displayName"] == "Empty"));

        directory::add_members(app, &sales.id, vec![Member::User(ben.id.clone())], &by()).await.unwrap();
        directory::remove_members(app, &sales.id, vec![Member::User(ann.id.clone())], &by()).await.unwrap();
        directory::delete_group(app, &empty.id, &by()).await.unwrap();
        let (told, link) = rounds(&caller, &link, &[sales.id.as_str(), empty.id.as_str()]).await;
        let mut came = memberships(&told);
        // What a busy database told later came with a round of its own.
        for _ in 0..3000 {
            if came.len() >= 2 {
                break;
            }
            let (more, _) = round(&caller, &link).await;
            came.extend(memberships(&more));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(came.contains(&(ben.id.to_string(), true)) && came.contains(&(ann.id.to_string(), false)), "{came:?}");
        assert_eq!(last(&told, empty.id.as_str())["@removed"]["reason"], "changed");
        let (plain, _) = round(&caller, "/v1.0/groups/delta?$select=displayName").await;
        assert!(plain.iter().all(|one| one.get("members@delta").is_none()), "members come unless other things are selected");
    }

    async fn a_device_is_told_of_when_its_verdict_flips_and_not_when_it_calls(store: Store) {
        let caller = caller(store).await;
        let app = &caller.server.app;
        let now = app.now();
        let mut rows = Vec::new();
        for number in 0..3 {
            let one = desired::device(&format!("PC-{number}"), Platform::Windows, None);
            rows.push((desired::enrollment(&one, now), one));
        }
        let given = rows.clone();
        app.store
            .write(move |tx| {
                given.iter().try_for_each(|(enrolled, one)| {
                    devices::insert_device(tx, one, now)?;
                    enrollments::insert_enrollment(tx, enrolled)
                })
            })
            .await
            .unwrap();
        let root = "/v1.0/deviceManagement/managedDevices/delta";
        let (all, link) = round(&caller, root).await;
        assert_eq!(all.len(), 3);
        let (_, directory) = round(&caller, "/v1.0/devices/delta").await;
        let (_, filtered) = round(&caller, &format!("{root}?$filter=complianceState eq 'compliant'")).await;

        let verdict = Verdict { state: State::Compliant, compliant: true, grace_expires_at: None, reevaluate_at: None, held: None, policies: Vec::new() };
        let (first, second) = (rows[0].clone(), rows[1].clone());
        app.store
            .write(move |tx| {
                compliance::claim_verdict(tx, &first.1.id, &verdict, None, now)?;
                enrollments::update_last_seen(tx, &[(second.0.id.clone(), now.plus(DAY))]).map(drop)
            })
            .await
            .unwrap();
        let (told, _) = rounds(&caller, &link, &[rows[0].0.id.as_str()]).await;
        assert_eq!(last(&told, rows[0].0.id.as_str())["complianceState"], "compliant");
        assert!(told.iter().all(|one| one["id"] != rows[1].0.id.as_str()), "a call is no change: {told:?}");
        let (told, _) = rounds(&caller, &directory, &[rows[0].1.id.as_str()]).await;
        assert_eq!(last(&told, rows[0].1.id.as_str())["isCompliant"], true);

        // Whose it is shows in it.
        let owner = person(&caller, "owner").await;
        let (_, link) = round(&caller, root).await;
        let (mut owned, third) = (rows[2].1.clone(), rows[2].0.id.clone());
        owned.user_id = Some(owner.id.clone());
        app.store.write(move |tx| devices::update_device(tx, &owned, now)).await.unwrap();
        let (told, link) = rounds(&caller, &link, &[third.as_str()]).await;
        assert_eq!(last(&told, third.as_str())["userPrincipalName"], "owner@example.org");
        desired::write_user(app, User { display_name: "Other".into(), ..owner.clone() }, &by()).await.unwrap();
        let (told, _) = rounds(&caller, &link, &[third.as_str()]).await;
        assert_eq!(last(&told, third.as_str())["userDisplayName"], "Other");

        let (told, filtered) = rounds(&caller, &filtered, &[rows[0].0.id.as_str()]).await;
        assert_eq!(last(&told, rows[0].0.id.as_str())["complianceState"], "compliant");
        let verdict = Verdict { state: State::Noncompliant, compliant: false, grace_expires_at: None, reevaluate_at: None, held: None, policies: Vec::new() };
        let first = rows[0].clone();
        app.store
            .write(move |tx| {
                let before = compliance::find_verdict(tx.conn(), &first.1.id)?;
                compliance::claim_verdict(tx, &first.1.id, &verdict, before.as_ref(), now)
            })
            .await
            .unwrap();
        let (told, _) = rounds(&caller, &filtered, &[rows[0].0.id.as_str()]).await;
        assert_eq!(last(&told, rows[0].0.id.as_str())["@removed"]["reason"], "changed", "it does not fit the filter any more");
    }
}

#[actix_web::test]
async fn a_token_is_good_for_its_own_question_and_for_thirty_days() {
    let server = Server::start().await;
    let scopes = [Scope::UserReadAll, Scope::GroupReadAll, Scope::ManagedDevicesReadAll];
    let (application, _) = register(&server, &scopes).await;
    let secret = application::add_secret(&server.app, &application.id, "long", 90 * DAY, &by()).await.unwrap().show().to_owned();
    let bearer = token(&server, &application, &secret).await;
    let caller = Caller::of(server, bearer);
    let app = &caller.server.app;
    person(&caller, "ann").await;
    let (_, link) = round(&caller, "/v1.0/users/delta").await;
    let token_of_link = link.split("deltatoken=").nth(1).unwrap().to_owned();
    for (path, why) in [
        (format!("/v1.0/users/delta?$deltatoken=A{}", &token_of_link[1..]), "tampered"),
        (format!("/v1.0/users/delta?$deltatoken={token_of_link}&$filter=accountEnabled eq true"), "of another filter"),
        (format!("/v1.0/users/delta?$deltatoken={token_of_link}&$skiptoken={token_of_link}"), "twice"),
        (format!("/v1.0/users?$skiptoken={token_of_link}"), "in a list"),
        ("/v1.0/users/delta?$orderby=displayName".into(), "with an order"),
        ("/v1.0/users/delta?$count=true".into(), "with a count"),
        ("/v1.0/groups/delta?$filter=startswith(displayName,'a')".into(), "members of groups that fit a filter"),
        ("/v1.0/deviceManagement/managedDevices/delta?$filter=lastSyncDateTime ge 2026-01-01".into(), "by what is not followed"),
    ] {
        assert_eq!(caller.refused(reqwest::Method::GET, &path, None).await, (400, "BadRequest".into()), "{why}");
    }
    let latest = caller.get("/v1.0/users/delta?$deltatoken=latest").await;
    assert_eq!(latest["value"], json!([]));
    assert_eq!(round(&caller, &path(&caller, &latest["@odata.deltaLink"])).await.0.len(), 0);

    // Each day is written down, and what is older than a token can be is forgotten.
    for _ in 0..30 {
        jobs::run_due(app).await.unwrap();
        caller.server.clock.advance(DAY);
    }
    let bearer = token(&caller.server, &application, &secret).await;
    let caller = Caller::of(caller.server, bearer);
    let app = &caller.server.app;
    assert_eq!(round(&caller, &link).await.0.len(), 0, "thirty days are not too long");
    let ben = person(&caller, "ben").await;
    for _ in 0..2 {
        jobs::run_due(app).await.unwrap();
        caller.server.clock.advance(DAY);
    }
    let bearer = token(&caller.server, &application, &secret).await;
    let caller = Caller::of(caller.server, bearer);
    assert_eq!(caller.refused(reqwest::Method::GET, &link, None).await, (410, "syncStateNotFound".into()));
    let answer = caller.send(reqwest::Method::GET, &link, None).await;
    assert_eq!(answer.headers()["location"], format!("{}/v1.0/users/delta", caller.server.web));
    let (all, link) = round(&caller, "/v1.0/users/delta").await;
    assert!(all.iter().any(|one| one["id"] == ben.id.as_str()));

    // A copy that is restored tells another story.
    let note = json!({ "by": "cli:test", "from": "copy", "at": "2026-01-01T00:00:00Z" }).to_string();
    caller.server.app.store.write(move |tx| meta::upsert_value(tx, muster::store::backup::RESTORED, &note)).await.unwrap();
    backup::finish_restore(&caller.server.app).await.unwrap();
    assert_eq!(caller.refused(reqwest::Method::GET, &link, None).await, (410, "syncStateNotFound".into()));
}

#[actix_web::test]
async fn a_transaction_that_ends_late_is_not_missed() {
    let Some(url) = db::postgres_url() else { return };
    let store = Store::open(&muster::store::Location::Postgres(url.clone()), 4).unwrap();
    let caller = caller(store).await;
    let (_, link) = round(&caller, "/v1.0/groups/delta?$select=displayName").await;
    let mut other = diesel::PgConnection::establish(&url).unwrap();
    let id = muster::ids::GroupId::new();
    other.batch_execute("BEGIN").unwrap();
    diesel::sql_query(format!("INSERT INTO groups (id, display_name, description, created_at) VALUES ('{id}', 'Late', '', 1)"))
        .execute(&mut other)
        .unwrap();
    let early = directory::create_group(&caller.server.app, "Early", "", &by()).await.unwrap();
    let (told, link) = round(&caller, &link).await;
    assert!(told.iter().all(|one| one["id"] != id.as_str()), "nobody sees what is not committed: {told:?}");
    other.batch_execute("COMMIT").unwrap();
    let seen_early = told.iter().any(|one| one["id"] == early.id.as_str());
    let wanted: Vec<&str> = if seen_early { vec![id.as_str()] } else { vec![id.as_str(), early.id.as_str()] };
    let (told, _) = rounds(&caller, &link, &wanted).await;
    assert_eq!(last(&told, id.as_str())["displayName"], "Late");
}
