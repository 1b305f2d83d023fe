//! Users and groups from tables.

use std::path::Path;

use muster::domain::access::Reach;
use muster::domain::group::Member;
use muster::domain::user::User;
use muster::service::directory::{self, By, import};
use muster::service::identity::break_glass;
use muster::service::{Error, role};
use muster::store::groups;
use serde_json::json;

use crate::support::server::{Options, Server};
use crate::{both_backends, cli};

fn by() -> By {
    By::local("cli:test")
}

fn put(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

async fn user(server: &Server, upn: &str) -> User {
    directory::find_user(&server.app, upn, &Reach::All).await.unwrap().0
}

/// What is wrong, by the line.
fn wrong<T: std::fmt::Debug>(outcome: Result<T, Error>) -> Vec<String> {
    match outcome {
        Err(Error::Invalid(refusal, detail)) => {
            assert_eq!(refusal.code(), "DIR0005");
            detail.lines().map(str::to_owned).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_is_imported_and_imported_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    cli::json(path, &["init"]);
    let users = "\u{feff}userPrincipalName;displayName;department;mail;accountEnabled\r\n\
                 Ann@x.example;\"Ann; the first\";Sales;ann@x.example;true\r\n\r\n\
                 bob@x.example;Bob;;;no\r\n";
    put(path, "users.csv", users);
    let tried = cli::json(path, &["user", "import", "users.csv", "--dry-run"]);
    assert_eq!((&tried["result"], &tried["dry_run"]), (&json!("2 created, 0 changed, 0 unchanged"), &json!(true)));
    assert_eq!(
        tried["rows"],
        json!([
            { "line": 2, "user": "ann@x.example", "result": "created" },
            { "line": 4, "user": "bob@x.example", "result": "created" },
        ])
    );
    assert!(cli::refused(path, &["user", "show", "ann@x.example"]).contains("ann@x.example"), "nothing was changed");
    assert_eq!(cli::json(path, &["user", "import", "users.csv"])["result"], "2 created, 0 changed, 0 unchanged");
    assert_eq!(cli::json(path, &["user", "import", "users.csv"])["result"], "0 created, 0 changed, 2 unchanged");
    let ann = cli::json(path, &["user", "show", "ann@x.example"]);
    assert_eq!((&ann["display_name"], &ann["details"]["department"]), (&json!("Ann; the first"), &json!("Sales")));
    assert_eq!(cli::json(path, &["user", "show", "bob@x.example"])["enabled"], json!(false));

    put(path, "groups.csv", "group,description,member\nSales,Who sells,ann@x.example\nSales,,bob@x.example\nEmpty,,\n");
    let made = cli::json(path, &["group", "import", "groups.csv"]);
    assert_eq!((&made["result"], &made["members_added"]), (&json!("2 created, 0 changed, 0 unchanged"), &json!(2)));
    let again = cli::json(path, &["group", "import", "groups.csv"]);
    assert_eq!((&again["result"], &again["members_added"]), (&json!("0 created, 0 changed, 2 unchanged"), &json!(0)));
    assert_eq!(cli::json(path, &["group", "show", "Sales"])["members"].as_array().unwrap().len(), 2);

    put(path, "wrong.csv", "userPrincipalName,accountEnabled\nno-at-sign,true\nc@x.example,maybe\n,true\nd@x.example,true\n");
    let said = cli::refused(path, &["user", "import", "wrong.csv"]);
    for line in ["DIR0005", "line 2: USR0012", "line 3: ", "line 4: "] {
        assert!(said.contains(line), "{said}");
    }
    assert!(!said.contains("line 5"), "{said}");
    assert!(cli::refused(path, &["user", "show", "d@x.example"]).contains("d@x.example"), "everything or nothing");
    std::fs::write(path.join("latin.csv"), b"userPrincipalName\nj\xf6rg@x.example\n").unwrap();
    assert!(cli::refused(path, &["user", "import", "latin.csv"]).contains("UTF-8"));
}

#[actix_web::test]
async fn forms_of_entra_id_are_read() {
    let server = Server::start().await;
    let form = "version:v1.0,,,,,\n\
        Name [displayName] Required,User name [userPrincipalName] Required,Initial password [passwordProfile] Required,\
        Block sign in (Yes/No) [accountEnabled] Required,First name [givenName],Office [physicalDeliveryOfficeName]\n\
        Example: Chris Green,chris@contoso.com,myPassword1234,No,Chris,1\n\
        Ann,ann@x.example,secret,No,Ann,A1\n\
        Bob,bob@x.example,secret,Yes,,\n";
    let report = import::users(&server.app, form, false, &by()).await.unwrap();
    assert_eq!(
        report.rows.iter().map(|(line, upn, _)| (*line, upn.as_str())).collect::<Vec<_>>(),
        [(4, "ann@x.example"), (5, "bob@x.example")]
    );
    let (ann, bob) = (user(&server, "ann@x.example").await, user(&server, "bob@x.example").await);
    assert_eq!((ann.enabled, ann.details.office_location.as_deref(), bob.enabled), (true, Some("A1"), false));
    let members = "version:v1.0\nGroup,Member object ID or user principal name [memberObjectIdOrUpn] Required\n";
    let report = import::groups(&server.app, &format!("{members}Team,{}\nTeam,BOB@x.example\n", ann.id), false, &by()).await.unwrap();
    assert_eq!(report.joined, 2);
}

#[actix_web::test]
async fn what_a_file_may_not_do_is_told_by_its_line() {
    let server = Server::start().await;
    let app = &server.app;
    let text = "upn\nadmin@x.example\nglass@x.example\n";
    import::users(app, text, false, &by()).await.unwrap();
    let (admin, glass) = (user(&server, "admin@x.example").await, user(&server, "glass@x.example").await);
    role::set_administrator(app, &admin.id, true, &by()).await.unwrap();
    break_glass::add(app, &glass.id, &by()).await.unwrap();
    let off = "upn,accountEnabled\nadmin@x.example,false\nnew@x.example,true\nglass@x.example,false\n";
    let lines = wrong(import::users(app, off, false, &by()).await);
    assert!(lines[0].starts_with("line 2: ACC0009") && lines[1].starts_with("line 4: USR0015") && lines.len() == 2, "{lines:?}");
    assert!(user(&server, "admin@x.example").await.enabled);
    assert!(directory::find_user(app, "new@x.example", &Reach::All).await.is_err());

    directory::create_group_by_rule(app, "Ruled", "", Some("user.displayName -eq \"x\"".into()), &by()).await.unwrap();
    let text = "group,description,member\nRuled,,admin@x.example\nTeam,a,nobody@x.example\nTeam,b,\n,,admin@x.example\n";
    let lines = wrong(import::groups(app, text, false, &by()).await);
    let begin =
        ["line 2: DIR0001", "line 3: \"nobody@x.example\": USR0011", "line 4: the group has another", "line 5: the group is missing"];
    assert!(lines.len() == 4 && lines.iter().zip(begin).all(|(line, begin)| line.starts_with(begin)), "{lines:?}");
    assert!(app.store.read(|conn| groups::find_group_by_name(conn, "Team")).await.unwrap().is_none());

    for (text, line, what) in [
        ("", 1, "empty"),
        ("mail\nx\n", 1, "userPrincipalName is missing"),
        ("upn,nonsense\na@x.example,1\n", 1, "\"nonsense\""),
        ("upn,userPrincipalName\na@x.example,b\n", 1, "twice"),
        ("upn,mail\na@x.example\n", 2, "1 cells"),
        ("upn\na@x.example\nA@X.example\n", 3, "line 2"),
        ("upn,mail\na@x.example,\"b\n", 2, "no end"),
        (&format!("upn\n{}", "a@x.example\n".repeat(20_001)), 1, "20000 rows"),
        (&"x".repeat(9 * 1024 * 1024), 1, "8 MiB"),
    ] {
        let lines = wrong(import::users(app, text, true, &by()).await);
        assert!(lines[0].starts_with(&format!("line {line}: ")) && lines[0].contains(what), "{text:.40}: {lines:?}");
    }
}

both_backends! {
    async fn rules_follow_and_a_trial_changes_nothing(store: Store) {
        let server = Server::with(Options { store: Some(store), ..Options::default() }).await;
        let app = &server.app;
        let sales = directory::create_group_by_rule(app, "Sales", "", Some("user.department -eq \"Sales\"".into()), &by()).await.unwrap();
        let mut text = "upn,department\n".to_owned();
        for number in 0..1200 {
            text.push_str(&format!("u{number}@x.example,{}\n", if number % 2 == 0 { "Sales" } else { "IT" }));
        }
        let members = async || {
            let id = sales.id.clone();
            app.store.read(move |conn| groups::list_members(conn, &id, ("", ""), 5000)).await.unwrap()
        };
        assert_eq!(import::users(app, &text, true, &by()).await.unwrap().count(import::Outcome::Created), 1200);
        assert!(members().await.is_empty() && directory::find_user(app, "u0@x.example", &Reach::All).await.is_err());
        import::users(app, &text, false, &by()).await.unwrap();
        assert_eq!(members().await.len(), 600);
        let moved = import::users(app, "upn,department\nu1@x.example,Sales\nu3@x.example,\n", false, &by()).await.unwrap();
        assert_eq!((moved.count(import::Outcome::Changed), moved.count(import::Outcome::Unchanged)), (1, 1), "an empty cell says nothing");
        let first = user(&server, "u1@x.example").await;
        assert!(members().await.contains(&Member::User(first.id)));
        let team = "group,member\n".to_owned() + &(0..1000).map(|n| format!("Team,u{n}@x.example\n")).collect::<String>();
        assert_eq!(import::groups(app, &team, true, &by()).await.unwrap().joined, 1000);
        assert_eq!(import::groups(app, &team, false, &by()).await.unwrap().joined, 1000);
        assert_eq!(import::groups(app, &team, false, &by()).await.unwrap().joined, 0);
    }
}

both_backends! {
    async fn a_letter_that_no_text_has_is_told_by_its_line(store: Store) {
        let server = Server::with(Options { store: Some(store), ..Options::default() }).await;
        let users = "upn,department\nann@x.example,Sales\nb\0ob@x.example,Sales\ncid@x.example,a\0\n";
        let told = wrong(import::users(&server.app, users, false, &by()).await);
        assert_eq!(told.iter().map(|line| line.split(':').next().unwrap()).collect::<Vec<_>>(), ["line 3", "line 4"], "{told:?}");
        let told = wrong(import::groups(&server.app, "group,member\na\0,\nSales,a\0@x.example\n", false, &by()).await);
        assert_eq!(told.iter().map(|line| line.split(':').next().unwrap()).collect::<Vec<_>>(), ["line 2", "line 3"], "{told:?}");
    }
}
